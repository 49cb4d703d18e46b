//! The one place of backpressure: holds, of each camera, the newest frame that nobody has taken yet.
//!
//! Slots come and go with their cameras; a slot's number is never used again.
//! A source that cannot wait replaces an untaken frame, and the loss is counted; a source that can wait does. After this
//! file no frame is dropped. Frames are moved, never copied, and their buffers go round: taker, spare, source. Nothing
//! here knows where frames come from, and no lock is held while pixels are touched.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame::Frame;

/// Spare buffers kept of one camera: one beyond what source, slot and taker can hold at a time.
const SPARE_FRAMES_MAX: usize = 4;

/// What a source does while the last frame has not been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// As the clock goes: the newer frame replaces the older one.
    #[default]
    Realtime,
    /// As fast as frames are taken: the source waits and nothing is dropped. For files; a live camera falls behind.
    Max,
}

/// Why there was no frame to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFrame {
    /// None came in time; more may come.
    TimedOut,
    /// Every source has ended and every frame was taken: none will ever come.
    Ended,
}

/// The slots of all cameras. Clones are the same mailbox.
#[derive(Clone)]
pub struct Mailbox {
    shared: Arc<Shared>,
}

struct Shared {
    slots: Mutex<Slots>,
    /// A frame arrived, or a source ended.
    arrived: Condvar,
    /// A frame was taken, or a source ended.
    freed: Condvar,
}

#[derive(Default)]
struct Slots {
    cameras: BTreeMap<usize, Slot>,
    /// Slots opened so far, and so the number of the next one.
    opened: usize,
    /// Where the next search for a frame begins, so that no camera starves another.
    next: usize,
}

impl Slots {
    /// The next camera that has a frame, in turn.
    fn ready(&self) -> Option<usize> {
        let in_turn = self.cameras.range(self.next..).chain(self.cameras.range(..self.next));
        in_turn.filter(|(_, slot)| !slot.is_empty() && !slot.lent).map(|(&camera, _)| camera).next()
    }

    fn all_ended(&self) -> bool {
        self.cameras.values().all(|slot| slot.ended)
    }
}

#[derive(Default)]
struct Slot {
    newest: Option<Frame>,
    spare: Vec<Frame>,
    /// Its last frame is lent and not given back yet.
    lent: bool,
    dropped: u64,
    ended: bool,
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    fn keep_spare(&mut self, frame: Frame) {
        if self.spare.len() < SPARE_FRAMES_MAX {
            self.spare.push(frame);
        }
    }
}

impl Mailbox {
    /// A mailbox for the cameras `0..cameras`. None has ended yet, even before its source starts.
    pub fn new(cameras: usize) -> Self {
        let slots = Mutex::new(Slots::default());
        let mailbox = Self { shared: Arc::new(Shared { slots, arrived: Condvar::new(), freed: Condvar::new() }) };
        for _ in 0..cameras {
            mailbox.open();
        }
        mailbox
    }

    /// A slot for one camera more; gives its number.
    pub fn open(&self) -> usize {
        let mut slots = self.lock();
        let camera = slots.opened;
        slots.opened += 1;
        slots.cameras.insert(camera, Slot::default());
        camera
    }

    /// Slots opened so far: the number of the next one.
    pub fn opened(&self) -> usize {
        self.lock().opened
    }

    /// Takes a slot away, with what is in it. A source that still puts frames is told that it was ended.
    pub fn close(&self, camera: usize) {
        self.lock().cameras.remove(&camera);
        self.shared.arrived.notify_all();
        self.shared.freed.notify_all();
    }

    /// Offers a frame. At [`Pace::Max`] this waits until the last one was taken. False when the camera was ended, before
    /// or while it waits: the frame was not delivered.
    pub fn put(&self, camera: usize, frame: Frame, pace: Pace) -> bool {
        let mut slots = self.lock();
        if pace == Pace::Max {
            let full =
                |slots: &mut Slots| slots.cameras.get(&camera).is_some_and(|slot| !slot.is_empty() && !slot.ended);
            slots = self.shared.freed.wait_while(slots, full).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(slot) = slots.cameras.get_mut(&camera).filter(|slot| !slot.ended) else { return false };
        if let Some(older) = slot.newest.replace(frame) {
            slot.dropped += 1;
            slot.keep_spare(older);
        }
        self.shared.arrived.notify_one();
        true
    }

    /// The next frame and its camera's index, cameras in turn. Waits up to `timeout` for one. For one taker alone.
    pub fn take(&self, timeout: Duration) -> Result<(usize, Frame), NoFrame> {
        self.next(timeout, false)
    }

    /// The same for several takers: the camera's next frame can be had when this one was given back by
    /// [`Mailbox::recycle`], so that a camera's frames stay in order.
    pub fn lend(&self, timeout: Duration) -> Result<(usize, Frame), NoFrame> {
        self.next(timeout, true)
    }

    fn next(&self, timeout: Duration, lent: bool) -> Result<(usize, Frame), NoFrame> {
        let idle = |slots: &mut Slots| !slots.all_ended() && slots.ready().is_none();
        let waited = self.shared.arrived.wait_timeout_while(self.lock(), timeout, idle);
        let (mut slots, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ready = slots.ready();
        let frame = ready.and_then(|camera| {
            let slot = slots.cameras.get_mut(&camera)?;
            slot.lent = lent;
            Some((camera, slot.newest.take()?))
        });
        match frame {
            Some((camera, frame)) => {
                slots.next = camera + 1;
                self.shared.freed.notify_all();
                Ok((camera, frame))
            }
            None if slots.all_ended() => Err(NoFrame::Ended),
            None => Err(NoFrame::TimedOut),
        }
    }

    /// Gives a taken frame's buffer back, so that the source need not allocate another.
    pub fn recycle(&self, camera: usize, frame: Frame) {
        if let Some(slot) = self.lock().cameras.get_mut(&camera) {
            slot.keep_spare(frame);
            slot.lent = false;
        }
        self.shared.arrived.notify_one();
    }

    /// Takes back a buffer in which no frame came to be.
    pub fn unused(&self, camera: usize, frame: Frame) {
        if let Some(slot) = self.lock().cameras.get_mut(&camera) {
            slot.keep_spare(frame);
        }
    }

    /// A buffer for the next frame: a recycled one with its old content, or an empty one.
    pub fn buffer(&self, camera: usize) -> Frame {
        let spare = self.lock().cameras.get_mut(&camera).and_then(|slot| slot.spare.pop());
        spare.unwrap_or(Frame { taken_ms: 0, width: 0, height: 0, rgb: Vec::new() })
    }

    /// This camera delivers no more: a `put` that waits gives up. An untaken frame can still be taken.
    pub fn end(&self, camera: usize) {
        if let Some(slot) = self.lock().cameras.get_mut(&camera) {
            slot.ended = true;
        }
        self.shared.arrived.notify_all();
        self.shared.freed.notify_all();
    }

    /// Frames of this camera that a newer one replaced.
    pub fn dropped(&self, camera: usize) -> u64 {
        self.lock().cameras.get(&camera).map_or(0, |slot| slot.dropped)
    }

    /// Nothing that is done under the lock can leave the slots half changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::thread;

    const NONE: Duration = Duration::ZERO;
    /// Long enough never to pass in a test that works.
    const LONG: Duration = Duration::from_secs(20);

    fn frame(number: u64) -> Frame {
        Frame { taken_ms: number, width: 1, height: 1, rgb: vec![0; 3] }
    }

    fn taken(mailbox: &Mailbox) -> Result<(usize, u64), NoFrame> {
        mailbox.take(NONE).map(|(camera, frame)| (camera, frame.taken_ms))
    }

    #[test]
    fn a_newer_frame_replaces_an_untaken_one_and_the_loss_is_counted_per_camera() {
        let mailbox = Mailbox::new(2);
        for number in 1..=3 {
            assert!(mailbox.put(1, frame(number), Pace::Realtime));
        }
        assert_eq!(taken(&mailbox), Ok((1, 3)));
        assert_eq!((mailbox.dropped(0), mailbox.dropped(1)), (0, 2));
        assert_eq!(taken(&mailbox), Err(NoFrame::TimedOut));
    }

    #[test]
    fn cameras_are_served_in_turn_however_fast_one_is() {
        let mailbox = Mailbox::new(3);
        let mut order = Vec::new();
        (0..3).for_each(|camera| assert!(mailbox.put(camera, frame(0), Pace::Realtime)));
        for _ in 0..6 {
            let (camera, _) = taken(&mailbox).unwrap();
            order.push(camera);
            // Camera 0 is always first to fill its slot again.
            mailbox.put(0, frame(1), Pace::Realtime);
            mailbox.put(camera, frame(1), Pace::Realtime);
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn while_a_frame_is_lent_its_camera_waits_and_the_others_do_not() {
        let mailbox = Mailbox::new(2);
        assert!(mailbox.put(0, frame(1), Pace::Realtime));
        let (_, first) = mailbox.lend(NONE).unwrap();
        assert!(mailbox.put(0, frame(2), Pace::Realtime));
        assert_eq!(mailbox.lend(NONE).map(|_| ()), Err(NoFrame::TimedOut));
        assert!(mailbox.put(1, frame(3), Pace::Realtime));
        assert_eq!(mailbox.lend(NONE).map(|(camera, _)| camera), Ok(1));
        let other = mailbox.clone();
        let waiting = thread::spawn(move || other.lend(LONG).map(|(camera, frame)| (camera, frame.taken_ms)));
        mailbox.recycle(0, first);
        assert_eq!(waiting.join().unwrap(), Ok((0, 2)), "whoever waits is woken");
    }

    #[test]
    fn at_full_pace_nothing_is_dropped_and_buffers_go_round() {
        let mailbox = Mailbox::new(1);
        let source = mailbox.clone();
        let putting = thread::spawn(move || {
            for number in 0..1000 {
                let mut frame = source.buffer(0);
                frame.taken_ms = number;
                frame.rgb.resize(64, 0);
                assert!(source.put(0, frame, Pace::Max));
            }
            source.end(0);
        });
        let (mut numbers, mut buffers) = (Vec::new(), HashSet::new());
        let end = loop {
            match mailbox.take(LONG) {
                Ok((camera, frame)) => {
                    numbers.push(frame.taken_ms);
                    buffers.insert(frame.rgb.as_ptr() as usize);
                    mailbox.recycle(camera, frame);
                }
                Err(end) => break end,
            }
        };
        putting.join().unwrap();
        assert_eq!(end, NoFrame::Ended);
        assert!(numbers.into_iter().eq(0..1000));
        assert_eq!(mailbox.dropped(0), 0);
        assert!(buffers.len() <= 3, "{} buffers for source, slot and taker", buffers.len());
    }

    #[test]
    fn the_end_of_a_camera_frees_a_waiting_source_and_keeps_its_last_frame() {
        let mailbox = Mailbox::new(2);
        mailbox.end(1);
        assert_eq!(taken(&mailbox), Err(NoFrame::TimedOut), "one of two may still deliver");
        assert!(mailbox.put(0, frame(1), Pace::Max));
        let source = mailbox.clone();
        let waiting = thread::spawn(move || source.put(0, frame(2), Pace::Max));
        mailbox.end(0);
        assert!(!waiting.join().unwrap());
        assert!(!mailbox.put(0, frame(3), Pace::Realtime));
        assert_eq!(taken(&mailbox), Ok((0, 1)));
        assert_eq!(mailbox.take(LONG).map(|_| ()), Err(NoFrame::Ended), "told at once, not after the time-out");
    }

    #[test]
    fn slots_come_and_go_while_others_are_served() {
        let mailbox = Mailbox::new(1);
        let added = mailbox.open();
        assert_eq!(added, 1);
        assert!(mailbox.put(0, frame(1), Pace::Realtime) && mailbox.put(added, frame(2), Pace::Max));
        let source = mailbox.clone();
        let waiting = thread::spawn(move || source.put(1, frame(3), Pace::Max));
        mailbox.close(added);
        assert!(!waiting.join().unwrap(), "the source is told");
        assert_eq!(taken(&mailbox), Ok((0, 1)), "and what it left is gone");
        assert_eq!(taken(&mailbox), Err(NoFrame::TimedOut));
        assert!(!mailbox.put(added, frame(4), Pace::Realtime));
        mailbox.recycle(added, frame(4));
        mailbox.end(added);
        assert_eq!((mailbox.dropped(added), mailbox.buffer(added).rgb.len()), (0, 0));
        assert_eq!(mailbox.open(), 2, "a number is never used again");
        assert!(mailbox.put(2, frame(5), Pace::Realtime));
        mailbox.close(0);
        assert_eq!(taken(&mailbox), Ok((2, 5)));
        mailbox.end(2);
        assert_eq!(taken(&mailbox), Err(NoFrame::Ended), "one that was closed is not waited for");
    }

    #[test]
    fn spare_buffers_are_bounded() {
        let mailbox = Mailbox::new(1);
        (0..100).for_each(|number| mailbox.recycle(0, frame(number)));
        assert_eq!(mailbox.lock().cameras[&0].spare.len(), SPARE_FRAMES_MAX);
    }
}
