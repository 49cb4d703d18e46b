//! Where the frame path hands over what it saw to whoever learns from it. It waits for nobody: what there is no room for is counted,
//! and not learned from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use super::judge::{Bench, Judge};
use super::miner::Frame;
use super::teacher::Taught;
use super::teaching::Lectern;
use crate::detect::Backbone;
use crate::frame;
use crate::track::Track;

/// What the thread that learns is given.
#[derive(Debug)]
pub enum Job {
    /// A camera's frame was looked at, with this network.
    Looked(usize, Arc<Backbone>, Box<Frame>),
    /// A teacher looked at such a frame too, and this follows from it.
    Taught(usize, Arc<Backbone>, Vec<Taught>),
}

/// The way from the frame path to the thread that learns.
#[derive(Debug, Clone)]
pub struct Taps {
    /// What is judged by.
    pub(super) bench: Bench,
    pub(super) jobs: SyncSender<Job>,
    /// Frames for which there was no room.
    pub(super) passed_over: Arc<AtomicU64>,
    /// Where a teacher asks for frames, where there is one.
    pub(super) lectern: Option<Lectern>,
}

impl Taps {
    /// One camera's tap.
    pub fn camera(&self, slot: usize) -> Tap {
        Tap { camera: slot, number: 0, judge: Judge::new(self.bench.clone()), taps: self.clone() }
    }
}

#[cfg(test)]
impl Taps {
    /// Those of a device whose teacher asks for every frame, and what it is handed.
    pub(crate) fn taught() -> (Taps, impl FnMut() -> Option<frame::Frame>) {
        let (jobs, _) = std::sync::mpsc::sync_channel(1);
        let (lectern, next) = Lectern::always_asked();
        (Taps { bench: Bench::default(), jobs, passed_over: Arc::default(), lectern: Some(lectern) }, next)
    }
}

/// One camera's tap.
pub struct Tap {
    camera: usize,
    /// Frames that were looked at.
    number: u64,
    judge: Judge,
    taps: Taps,
}

impl Tap {
    /// Who judges the next frame.
    pub fn judge(&mut self) -> &mut Judge {
        // A model that shows nothing asks nobody: what is remembered is another's.
        self.judge.backbone = None;
        &mut self.judge
    }

    /// What comes next does not follow from what was.
    pub fn break_off(&mut self) {
        self.number += 1;
    }

    /// Hands over the last frame, with who is followed after it; the picture goes to a teacher who asks for one, and to nobody else.
    pub fn look(&mut self, picture: &frame::Frame, tracks: &[Track]) {
        self.number += 1;
        let Judge { backbone: Some(backbone), seen, features, .. } = &self.judge else { return };
        let (seen, features, tracks) = (seen.clone(), features.clone(), tracks.to_vec());
        let frame = Box::new(Frame { number: self.number, taken_ms: picture.taken_ms, seen, features, tracks });
        if let Some(lectern) = &self.taps.lectern {
            lectern.offer(self.camera, backbone, picture, &frame);
        }
        if self.taps.jobs.try_send(Job::Looked(self.camera, Arc::clone(backbone), frame)).is_err() {
            self.taps.passed_over.fetch_add(1, Ordering::Relaxed);
        }
    }
}
