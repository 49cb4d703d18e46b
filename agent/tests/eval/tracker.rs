//! How good our own tracker is, on people who meet and hide each other: MOTA, IDF1 and identity switches, by the figures
//! that are compared with motmetrics. `--nocapture` prints what stands in the README.

use picket_agent::eval::metrics::tracks::{Accumulator, Tracked};
use picket_agent::eval::truth::mot;
use picket_agent::track::{Config, State, Tracker};

use crate::scenes;

#[test]
fn the_tracker_keeps_people_apart_who_meet() {
    for (people, mota_min, idf1_min, switches_max) in [(4, 0.92, 0.95, 6), (8, 0.90, 0.93, 26), (16, 0.86, 0.89, 80)] {
        let mut accumulator = Accumulator::default();
        const SEQUENCES: u64 = 10;
        const FRAMES: usize = 300;
        for seed in 0..SEQUENCES {
            let walk = scenes::walk(seed, people, FRAMES);
            let truth = mot::parse(&walk.truth).unwrap();
            let mut tracker = Tracker::new(Config::default());
            for (frame, seen) in walk.detections.iter().enumerate() {
                let tracks = tracker.step(frame as u64 * 100, seen);
                let shown = tracks.iter().filter(|track| track.state == State::Confirmed);
                let unique = |id: u64| id + seed * 1_000_000;
                let found: Vec<_> = shown.map(|t| Tracked { id: unique(t.id), area: t.area }).collect();
                let boxes: Vec<_> = truth.of(frame, "").unwrap_or(&[]).to_vec();
                let boxes: Vec<_> = boxes
                    .into_iter()
                    .map(|mut b| {
                        b.id = b.id.map(unique);
                        b
                    })
                    .collect();
                accumulator.frame(&boxes, &found);
            }
        }
        let scores = accumulator.scores();
        let (mota, idf1) = (scores.mota.unwrap(), scores.idf1.unwrap());
        println!(
            "{people} people at a time: MOTA {mota:.3}, IDF1 {idf1:.3}, {} switches of {} people and {} boxes, {} missed, {} invented",
            scores.switches, scores.people, scores.boxes, scores.misses, scores.false_positives
        );
        assert!(mota > mota_min && idf1 > idf1_min && scores.switches <= switches_max, "{scores:?}");
    }
}
