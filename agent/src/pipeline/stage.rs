//! What one camera's frames go through: mask → gate → detect → track → observe, with the camera's own state.
//!
//! It drops nothing: a frame is either gated or detected, or the detector refused it, and each is counted.

use std::sync::Arc;
use std::time::Duration;

use picket_shared::event::Event;

use super::meter::Meter;
use crate::detect::{Detector, Thresholds};
use crate::frame::{Detection, Frame};
use crate::gate::{Gate, Verdict};
use crate::learn::tap;
use crate::mask::Mask;
use crate::model::frames::is_hard;
use crate::model::peek::Peeks;
use crate::observe::Observer;
use crate::sinks::Tap;
use crate::steady::SteadyClock;
use crate::track::{State, Tracker};

/// What one camera's frames go through, with its own state.
pub struct Stage {
    /// Privacy zones.
    pub mask: Mask,
    /// The motion test.
    pub gate: Gate,
    /// Another model than the workers' own: of a station that is covered, and whose model is another.
    pub detector: Option<Detector>,
    /// What the detector is asked for.
    pub thresholds: Thresholds,
    /// The tracker.
    pub tracker: Tracker,
    /// The size of the last frame that was detected; absent before the first.
    pub size_px: Option<(u32, u32)>,
    /// What is worth telling.
    pub observer: Observer,
    /// What durations are counted by.
    pub clock: SteadyClock,
    /// Where pictures go that somebody wants to see.
    pub tap: Tap,
    /// Where frames can be had together with what was found in them.
    pub peeks: Peeks,
    /// Who judges what was found, and learns from it; of this station's own cameras alone.
    pub learn: Option<tap::Tap>,
    /// What has been counted.
    pub meter: Arc<Meter>,
}

impl Stage {
    /// Ends what is open: there will be no more frames.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) {
        let told = events.len();
        self.observer.finish(self.clock.now_ms(), events);
        events[told..].iter_mut().for_each(|event| self.clock.to_wall(event));
        self.meter.add(|counts| counts.persons_now = 0);
        self.meter.note(self.observer.tally());
    }

    /// Runs the network and nothing else. Gives the processor time of it.
    pub(super) fn pass_bare(&mut self, detector: &mut Detector) -> Duration {
        let Ok(timing) = detector.run_raw() else { return Duration::ZERO };
        self.meter.add(|counts| {
            counts.frames_detected += 1;
            counts.inference += timing.run;
        });
        timing.run_cpu
    }

    /// Takes one frame to its events. Gives the processor time of the network, which is nothing where it did not run.
    pub(super) fn pass(
        &mut self,
        mono_ms: u64,
        detector: &mut Detector,
        frame: &mut Frame,
        detections: &mut Vec<Detection>,
        events: &mut Vec<Event>,
    ) -> Duration {
        let told = events.len();
        self.mask.apply(frame);
        let now_ms = self.clock.tick(frame.taken_ms, mono_ms);
        if self.gate.decide(now_ms, frame, self.tracker.alive()) == Verdict::Skip {
            self.meter.add(|counts| counts.frames_gated += 1);
            self.tap.look(frame, None, &[]);
            return Duration::ZERO;
        }
        let own = self.detector.is_none();
        let detector = self.detector.as_mut().unwrap_or(detector);
        detector.look_with(self.tap.lowered(self.thresholds));
        let (model, precision) = detector.named();
        self.observer.looks_with(model, precision);
        let looked = match self.learn.as_mut() {
            Some(learn) => detector.detect_judged(frame, learn.judge(), detections),
            None => detector.detect(frame, detections),
        };
        let timing = match looked {
            Ok(timing) => timing,
            Err(error) => {
                self.meter.add(|counts| counts.frames_refused += 1);
                let refused = self.meter.read().frames_refused;
                // A camera that gives nothing else must not flood the log.
                if refused.is_power_of_two() {
                    tracing::warn!("a frame was not detected ({refused} so far): {error}");
                }
                return Duration::ZERO;
            }
        };
        self.tap.sift(detections, self.thresholds.score_min);
        let size_px = (frame.width, frame.height);
        if self.size_px.replace(size_px).is_some_and(|before| before != size_px) {
            // Tracks are places in pixels: in a picture of another size they would be found in somebody else.
            self.tracker.clear();
            self.learn.iter_mut().for_each(tap::Tap::break_off);
        }
        let tracks = self.tracker.step(now_ms, detections);
        let persons_now = tracks.iter().filter(|track| track.state != State::Tentative).count() as u32;
        self.learn.iter_mut().for_each(|learn| learn.look(frame, tracks));
        self.observer.step(now_ms, size_px, tracks, events);
        events[told..].iter_mut().for_each(|event| self.clock.to_wall(event));
        self.meter.note(self.observer.tally());
        // A candidate is tried against the workers' own model, and on no other's ground.
        if own {
            self.peeks.trial.show(frame, detections, timing.run_cpu);
            if self.peeks.hard.is_open() && is_hard(detections, tracks, self.thresholds.score_min) {
                self.peeks.hard.show(frame, detections, timing.run_cpu);
            }
        }
        self.tap.look(frame, Some(tracks), &events[told..]);
        let (tracker, clock_jumps) = (self.tracker.counts(), self.clock.jumps());
        self.meter.add(|counts| {
            counts.frames_detected += 1;
            counts.detections += detections.len() as u64;
            counts.outputs.rejected += timing.tally.rejected;
            counts.outputs.cut += timing.tally.cut;
            counts.tracks = tracker.tracks_confirmed;
            counts.tracker = tracker;
            counts.clock_jumps = clock_jumps;
            counts.persons_now = persons_now;
            counts.inference += timing.run;
            counts.rescore += timing.rescore;
        });
        timing.run_cpu
    }
}
