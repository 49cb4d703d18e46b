//! Sequences of people and of a tracker that makes mistakes, as MOT files; each follows from its seed alone.

use std::fmt::Write as _;

use picket_agent::eval::random::Random;
use picket_agent::frame::{Area, Detection};

/// A truth and a tracker's result, as text.
pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) truth: String,
    pub(crate) result: String,
}

/// What a tracker does wrong, each in this share of cases.
struct Faults {
    missed: f64,
    invented: f64,
    /// Two who meet go on under each other's number.
    swapped: f64,
    /// A person goes on under a new number.
    renamed: f64,
    jitter_px: f64,
}

/// One who walks straight on.
struct Walker {
    from: usize,
    to: usize,
    start: (f64, f64),
    step: (f64, f64),
    size: (f64, f64),
    track: u64,
}

impl Walker {
    fn at(&self, frame: usize) -> Option<[f64; 4]> {
        let frames = frame.checked_sub(self.from).filter(|_| frame < self.to)? as f64;
        let (x, y) = (self.start.0 + self.step.0 * frames, self.start.1 + self.step.1 * frames);
        Some([x, y, self.size.0, self.size.1])
    }
}

/// All scenes.
pub(crate) fn all() -> Vec<Scene> {
    let none = || Faults { missed: 0.0, invented: 0.0, swapped: 0.0, renamed: 0.0, jitter_px: 0.0 };
    let mut scenes = vec![
        scene("perfect", 1, 4, 40, &none()),
        scene("jittery", 2, 6, 60, &Faults { jitter_px: 6.0, ..none() }),
        scene("misses", 3, 6, 60, &Faults { missed: 0.25, jitter_px: 2.0, ..none() }),
        scene("inventions", 4, 4, 60, &Faults { invented: 0.6, ..none() }),
        scene("swaps", 5, 14, 90, &Faults { swapped: 0.7, jitter_px: 2.0, ..none() }),
        scene("renames", 6, 8, 90, &Faults { renamed: 0.05, missed: 0.05, ..none() }),
    ];
    let hard = |seed| {
        let faults = Faults { missed: 0.15, invented: 0.3, swapped: 0.5, renamed: 0.02, jitter_px: 5.0 };
        scene(&format!("hard-{seed}"), seed, 20, 120, &faults)
    };
    scenes.extend((10..14).map(hard));
    scenes
}

/// What a detector says of people who walk to and fro, as frames of boxes with scores, and the truth.
pub(crate) struct Walk {
    pub(crate) truth: String,
    pub(crate) detections: Vec<Vec<Detection>>,
}

/// People who meet, as a detector sees them: boxes tremble by four parts in a hundred of a side, one in twenty is missed, some
/// score low, whoever is hidden to three fifths is not seen, and there is something in every fifth frame that is nobody.
pub(crate) fn walk(seed: u64, people: usize, frames: usize) -> Walk {
    let mut random = Random::new(seed, 78);
    let walkers = walkers(&mut random, people, frames);
    let (mut truth, mut detections) = (String::new(), Vec::new());
    let area = |[x, y, w, h]: [f64; 4]| Area { x1: x as f32, y1: y as f32, x2: (x + w) as f32, y2: (y + h) as f32 };
    for frame in 0..frames {
        let mut seen = Vec::new();
        let there: Vec<_> = walkers.iter().map(|walker| walker.at(frame)).collect();
        for (at, place) in there.iter().enumerate() {
            let Some([x, y, w, h]) = *place else { continue };
            writeln!(truth, "{},{},{x:.2},{y:.2},{w:.2},{h:.2},1,-1,-1,-1", frame + 1, at + 1).unwrap();
            // Whose feet are lower stands in front.
            let own = area([x, y, w, h]);
            let covers = |other: &[f64; 4]| {
                let other = area(*other);
                let wide = (own.x2.min(other.x2) - own.x1.max(other.x1)).max(0.0);
                let high = (own.y2.min(other.y2) - own.y1.max(other.y1)).max(0.0);
                if other.y2 > own.y2 { wide * high / (own.width() * own.height()) } else { 0.0 }
            };
            let hidden = there.iter().flatten().map(covers).fold(0.0, f32::max);
            if random.unit() < 0.05 || hidden > 0.6 {
                continue;
            }
            let tremble = |random: &mut Random| random.normals().map(|normal| 0.04 * normal);
            let ([dx, dy], [dw, dh]) = (tremble(&mut random), tremble(&mut random));
            let score = (0.55 + 0.35 * random.unit() as f32) * (1.0 - hidden);
            let place = [x + dx * w, y + dy * h, w * (1.0 + dw), h * (1.0 + dh)];
            seen.push(Detection { area: area(place), score });
        }
        if random.unit() < 0.2 {
            let (x, y) = (600.0 * random.unit(), 300.0 * random.unit());
            seen.push(Detection { area: area([x, y, 40.0, 90.0]), score: 0.3 + 0.4 * random.unit() as f32 });
        }
        detections.push(seen);
    }
    Walk { truth, detections }
}

/// Everybody crosses the middle, so that they meet.
fn walkers(random: &mut Random, people: usize, frames: usize) -> Vec<Walker> {
    let walker = |at: usize| {
        let from = random.below(frames / 3);
        let to = frames - random.below(frames / 4);
        let left_to_right = random.unit() < 0.5;
        let speed = 2.0 + 5.0 * random.unit();
        let (x, vx) = if left_to_right { (0.0, speed) } else { (640.0, -speed) };
        let y = 120.0 + 120.0 * random.unit();
        let size = (30.0 + 15.0 * random.unit(), 80.0 + 40.0 * random.unit());
        Walker { from, to, start: (x, y), step: (vx, 2.0 * random.unit() - 1.0), size, track: at as u64 + 1 }
    };
    (0..people).map(walker).collect()
}

fn scene(name: &str, seed: u64, people: usize, frames: usize, faults: &Faults) -> Scene {
    let mut random = Random::new(seed, 77);
    let mut walkers = walkers(&mut random, people, frames);
    let (mut truth, mut result) = (String::new(), String::new());
    let mut next = people as u64 + 1;
    for frame in 0..frames {
        swap_those_who_meet(&mut walkers, frame, faults, &mut random);
        for (at, walker) in walkers.iter_mut().enumerate() {
            let Some([x, y, w, h]) = walker.at(frame) else { continue };
            writeln!(truth, "{},{},{x:.2},{y:.2},{w:.2},{h:.2},1,-1,-1,-1", frame + 1, at + 1).unwrap();
            if random.unit() < faults.renamed {
                (walker.track, next) = (next, next + 1);
            }
            if random.unit() < faults.missed {
                continue;
            }
            let [dx, dy] = random.normals().map(|normal| normal * faults.jitter_px);
            let (track, x, y) = (walker.track, x + dx, y + dy);
            writeln!(result, "{},{track},{x:.2},{y:.2},{w:.2},{h:.2},1,-1,-1,-1", frame + 1).unwrap();
        }
        if random.unit() < faults.invented {
            let (x, y) = (600.0 * random.unit(), 300.0 * random.unit());
            writeln!(result, "{},{next},{x:.2},{y:.2},40.00,90.00,1,-1,-1,-1", frame + 1).unwrap();
            next += u64::from(random.unit() < 0.5);
        }
    }
    Scene { name: name.to_owned(), truth, result }
}

fn swap_those_who_meet(walkers: &mut [Walker], frame: usize, faults: &Faults, random: &mut Random) {
    for one in 0..walkers.len() {
        for other in one + 1..walkers.len() {
            let (Some(a), Some(b)) = (walkers[one].at(frame), walkers[other].at(frame)) else { continue };
            let met = (a[0] - b[0]).abs() < 4.0 && (a[1] - b[1]).abs() < 40.0;
            if met && random.unit() < faults.swapped {
                let track = walkers[one].track;
                walkers[one].track = walkers[other].track;
                walkers[other].track = track;
            }
        }
    }
}
