//! The gate: a cheap motion test that decides whether a frame deserves a detection.
//!
//! The frame's brightness on a coarse grid is compared with a slowly adapting background (a running average; see
//! Piccardi, "Background subtraction techniques: a review", 2004). The gate never starves the detector: it opens at least
//! every `idle_interval_ms`, and while tracks live. It says nothing of what moved.

use picket_shared::config::within;
use serde::{Deserialize, Serialize};

use crate::frame::Frame;

/// Cells of the grid. At 768 × 576 a cell is 12 × 12 pixels: a person of 20 × 50 pixels fills about seven.
const COLUMNS: usize = 64;
const ROWS: usize = 48;
const CELLS: usize = COLUMNS * ROWS;
/// Pixels looked at in each direction of a cell: their mean has a quarter of the noise of one.
const SAMPLES: usize = 4;

/// When the gate opens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Off lets every frame through: nothing is missed and nothing is saved.
    pub enabled: bool,
    /// Levels of 255 by which a cell must differ from the background to count as changed. Too high misses people in
    /// colours like the background's; too low opens on the sensor's noise.
    pub threshold: f32,
    /// Changed cells, of 3072, that make motion. Too high misses people far away; too low opens on leaves and insects.
    pub cells_min: u32,
    /// The share of changed cells from which it is the light or the camera that changed, and the background is taken
    /// anew. Too high keeps the gate open for `background_ms` after a lamp is switched; too low forgets the background
    /// whenever somebody passes close by.
    pub scene_change_fraction: f32,
    /// How fast the background follows, as a time constant. Too high keeps the gate open long after something was
    /// parked; too low takes people who stand still for background.
    pub background_ms: u64,
    /// How long the gate stays open after motion. Too high wastes detections; too low misses people who pause.
    pub hold_ms: u64,
    /// The longest time without a detection. Too high finds late what motion did not show; too low wastes detections.
    pub idle_interval_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            threshold: 10.0,
            cells_min: 4,
            scene_change_fraction: 0.7,
            background_ms: 10_000,
            hold_ms: 1_000,
            idle_interval_ms: 1_000,
        }
    }
}

impl Config {
    /// Refuses values that cannot be meant, naming the key and its range.
    pub fn check(&self) -> Result<(), String> {
        within("gate.threshold", self.threshold, 1.0..=200.0)?;
        within("gate.cells_min", self.cells_min, 1..=CELLS as u32)?;
        within("gate.scene_change_fraction", self.scene_change_fraction, 0.05..=1.0)?;
        within("gate.background_ms", self.background_ms, 100..=3_600_000)?;
        within("gate.hold_ms", self.hold_ms, 0..=600_000)?;
        within("gate.idle_interval_ms", self.idle_interval_ms, 1..=60_000)
    }
}

/// Why a frame deserves a detection; the first that holds, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The gate is switched off.
    Disabled,
    /// So much changed at once that the light or the camera must have changed.
    SceneChange,
    /// Enough cells differ from the background.
    Motion,
    /// Tracks live.
    Tracks,
    /// There was motion a moment ago.
    Hold,
    /// There was no detection for a while.
    Idle,
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Give it to the detector.
    Detect {
        /// Why.
        reason: Reason,
    },
    /// Let it go.
    Skip,
}

/// The gate of one source.
#[derive(Debug, Clone)]
pub struct Gate {
    config: Config,
    /// Mean brightness of each cell now, 0 to 255.
    cells: Vec<f32>,
    /// The same of what is usual. Meaningless before the first whole frame.
    background: Vec<f32>,
    /// When the background was last adapted.
    adapted_ms: Option<u64>,
    motion_ms: Option<u64>,
    detect_ms: Option<u64>,
}

impl Gate {
    /// A gate that has seen nothing yet: its first frame is let through.
    pub fn new(config: Config) -> Self {
        let grid = vec![0.0; CELLS];
        Self { config, cells: grid.clone(), background: grid, adapted_ms: None, motion_ms: None, detect_ms: None }
    }

    /// Judges one frame. `now_ms` is the frame's time, in milliseconds of any origin; where it runs backwards the frame
    /// is let through. `tracks_alive` says that the tracker still follows somebody.
    pub fn decide(&mut self, now_ms: u64, frame: &Frame, tracks_alive: bool) -> Verdict {
        let reason = self.reason(now_ms, frame, tracks_alive);
        if reason.is_some() {
            self.detect_ms = Some(now_ms);
        }
        reason.map_or(Verdict::Skip, |reason| Verdict::Detect { reason })
    }

    /// What it knows of the last frame, and of what is usual.
    #[cfg(test)]
    pub(crate) fn statistics(&self) -> [&[f32]; 2] {
        [&self.cells, &self.background]
    }

    fn reason(&mut self, now_ms: u64, frame: &Frame, tracks_alive: bool) -> Option<Reason> {
        if !self.config.enabled {
            return Some(Reason::Disabled);
        }
        let motion = self.motion(now_ms, frame);
        if motion.is_some() {
            self.motion_ms = Some(now_ms);
            return motion;
        }
        // A time in the future is one that the clock has taken back: it counts as long ago.
        let ago_ms = |then_ms: Option<u64>| then_ms.and_then(|then| now_ms.checked_sub(then));
        if tracks_alive {
            Some(Reason::Tracks)
        } else if ago_ms(self.motion_ms).is_some_and(|ago| ago < self.config.hold_ms) {
            Some(Reason::Hold)
        } else if ago_ms(self.detect_ms).is_none_or(|ago| ago >= self.config.idle_interval_ms) {
            Some(Reason::Idle)
        } else {
            None
        }
    }

    /// Compares the frame with the background, and lets the background follow it.
    fn motion(&mut self, now_ms: u64, frame: &Frame) -> Option<Reason> {
        // A torn or empty frame shows nothing, and must not become the background.
        if !frame.is_whole() || frame.rgb.is_empty() {
            return None;
        }
        sample(frame, &mut self.cells);
        let Some(adapted_ms) = self.adapted_ms.replace(now_ms) else {
            self.background.copy_from_slice(&self.cells);
            return None;
        };
        let differs = |(cell, usual): (&f32, &f32)| (cell - usual).abs() > self.config.threshold;
        let changed = self.cells.iter().zip(&self.background).filter(|&pair| differs(pair)).count();
        if changed as f32 >= self.config.scene_change_fraction * CELLS as f32 {
            self.background.copy_from_slice(&self.cells);
            return Some(Reason::SceneChange);
        }
        let elapsed_ms = now_ms.saturating_sub(adapted_ms);
        let share = 1.0 - (-(elapsed_ms as f32) / self.config.background_ms as f32).exp();
        for (usual, cell) in self.background.iter_mut().zip(&self.cells) {
            *usual += (cell - *usual) * share;
        }
        (changed >= self.config.cells_min as usize).then_some(Reason::Motion)
    }
}

/// The mean brightness of each cell, from a few pixels spread over it. The frame is whole and not empty.
fn sample(frame: &Frame, cells: &mut [f32]) {
    let (width, height) = (frame.width as usize, frame.height as usize);
    // Green weighs double: a luma without multiplications (ITU-R BT.601 has 0.30, 0.59, 0.11).
    const SCALE: f32 = 1.0 / (4 * SAMPLES * SAMPLES) as f32;
    let at = |n: usize, of: usize, size: usize| (2 * n + 1) * size / (2 * of * SAMPLES);
    let columns: [usize; COLUMNS * SAMPLES] = std::array::from_fn(|n| at(n, COLUMNS, width) * 3);
    for (row, cells) in cells.chunks_exact_mut(COLUMNS).enumerate() {
        let mut sums = [0u32; COLUMNS];
        for line in 0..SAMPLES {
            let y = at(row * SAMPLES + line, ROWS, height);
            let pixels = &frame.rgb[y * width * 3..(y + 1) * width * 3];
            for (sum, columns) in sums.iter_mut().zip(columns.chunks_exact(SAMPLES)) {
                for &x in columns {
                    *sum += u32::from(pixels[x]) + 2 * u32::from(pixels[x + 1]) + u32::from(pixels[x + 2]);
                }
            }
        }
        for (cell, sum) in cells.iter_mut().zip(sums) {
            *cell = sum as f32 * SCALE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: u32 = 128;
    const HEIGHT: u32 = 96;
    const FRAME_MS: u64 = 100;

    /// A grey picture with a square of another grey in it.
    fn frame(grey: u8, square: Option<(u32, u8)>) -> Frame {
        let mut rgb = vec![grey; (WIDTH * HEIGHT * 3) as usize];
        if let Some((x, shade)) = square {
            for y in 40..60 {
                let from = ((y * WIDTH + x) * 3) as usize;
                rgb[from..from + 60].fill(shade);
            }
        }
        Frame { taken_ms: 0, width: WIDTH, height: HEIGHT, rgb }
    }

    fn detect(reason: Reason) -> Verdict {
        Verdict::Detect { reason }
    }

    /// A gate that has settled on an even grey; the next frame's time.
    fn settled(config: Config) -> (Gate, u64) {
        let mut gate = Gate::new(config);
        assert_eq!(gate.decide(1_000_000, &frame(100, None), false), detect(Reason::Idle), "the first frame");
        (gate, 1_000_000 + FRAME_MS)
    }

    #[test]
    fn each_reason_opens_the_gate_and_nothing_else_does() {
        let still = frame(100, None);
        let step = |frame: Frame, alive: bool| {
            let (mut gate, now_ms) = settled(Config::default());
            gate.decide(now_ms, &frame, alive)
        };
        assert_eq!(step(still.clone(), false), Verdict::Skip);
        assert_eq!(step(still.clone(), true), detect(Reason::Tracks));
        assert_eq!(step(frame(105, None), false), Verdict::Skip, "noise below the threshold");
        assert_eq!(step(frame(100, Some((30, 120))), false), detect(Reason::Motion));
        assert_eq!(step(frame(200, None), false), detect(Reason::SceneChange));
        let disabled = Config { enabled: false, ..Config::default() };
        assert_eq!(Gate::new(disabled).decide(0, &still, false), detect(Reason::Disabled));
    }

    #[test]
    fn a_spot_smaller_than_cells_min_is_not_motion() {
        let mut spot = frame(100, None);
        let from = ((40 * WIDTH + 30) * 3) as usize;
        spot.rgb[from..from + 6].fill(255);
        let (mut gate, now_ms) = settled(Config::default());
        assert_eq!(gate.decide(now_ms, &spot, false), Verdict::Skip);
        let (mut gate, now_ms) = settled(Config { cells_min: 1, ..Config::default() });
        assert_eq!(gate.decide(now_ms, &spot, false), detect(Reason::Motion));
    }

    #[test]
    fn motion_holds_the_gate_open_and_then_it_closes_to_the_idle_rhythm() {
        let config = Config { hold_ms: 300, idle_interval_ms: 500, ..Config::default() };
        let (mut gate, start_ms) = settled(config);
        let moved = gate.decide(start_ms, &frame(100, Some((30, 120))), false);
        assert_eq!(moved, detect(Reason::Motion));
        let reasons: Vec<_> =
            (1..=12).map(|n| gate.decide(start_ms + n * FRAME_MS, &frame(100, None), false)).collect();
        let (hold, idle, skip) = (detect(Reason::Hold), detect(Reason::Idle), Verdict::Skip);
        assert_eq!(reasons, [hold, hold, skip, skip, skip, skip, idle, skip, skip, skip, skip, idle]);
    }

    #[test]
    fn a_lamp_or_a_parked_thing_becomes_background() {
        let idle_only = |verdict| matches!(verdict, Verdict::Skip | Verdict::Detect { reason: Reason::Idle });
        for (name, changed) in [("a lamp", frame(200, None)), ("a thing", frame(100, Some((30, 200))))] {
            let (mut gate, start_ms) = settled(Config::default());
            let verdicts: Vec<_> = (0..600).map(|n| gate.decide(start_ms + n * FRAME_MS, &changed, false)).collect();
            assert!(!idle_only(verdicts[0]), "{name} is noticed");
            assert!(verdicts[400..].iter().copied().all(idle_only), "{name} is taken for background");
        }
    }

    #[test]
    fn a_clock_that_runs_backwards_starves_nothing_and_holds_nothing_open() {
        let (mut gate, now_ms) = settled(Config::default());
        gate.decide(now_ms, &frame(100, Some((30, 120))), false);
        let still = frame(100, None);
        let back: Vec<_> = (0..30).map(|n| gate.decide(5_000 + n * FRAME_MS, &still, false)).collect();
        assert_eq!(back[0], detect(Reason::Idle), "set back by much");
        assert_eq!(back.iter().filter(|&&v| v == detect(Reason::Idle)).count(), 3, "then the idle rhythm goes on");
        assert!(!back.contains(&detect(Reason::Hold)));
    }

    #[test]
    fn a_torn_frame_and_a_new_resolution_are_survived() {
        let (mut gate, now_ms) = settled(Config::default());
        let mut torn = frame(200, None);
        torn.rgb.pop();
        let empty = Frame { taken_ms: 0, width: 0, height: 0, rgb: vec![] };
        let small = Frame { taken_ms: 0, width: 1, height: 1, rgb: vec![100; 3] };
        for (n, (frame, expect)) in [
            (&torn, Verdict::Skip),
            (&empty, Verdict::Skip),
            (&small, Verdict::Skip),
            (&frame(100, None), Verdict::Skip),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(gate.decide(now_ms + n as u64, frame, false), expect, "frame {n}");
        }
    }

    #[test]
    fn the_configuration_is_complete_and_its_nonsense_refused() {
        let parse = |text: &str| picket_shared::config::parse::<Config>(text);
        assert!(parse("").unwrap().check().is_ok());
        for (text, key) in [
            ("threshold = nan", "gate.threshold is NaN; give it 1 to 200"),
            ("threshold = -3.0", "gate.threshold"),
            ("cells_min = 0", "gate.cells_min"),
            ("cells_min = 4000", "gate.cells_min"),
            ("scene_change_fraction = 1.5", "gate.scene_change_fraction"),
            ("background_ms = 0", "gate.background_ms"),
            ("hold_ms = 999999999", "gate.hold_ms"),
            ("idle_interval_ms = 0", "gate.idle_interval_ms"),
            ("idle_interval_ms = 3600000", "gate.idle_interval_ms"),
        ] {
            let error = parse(text).unwrap().check().unwrap_err();
            assert!(error.starts_with(key) && error.contains("; give it "), "{text}: {error}");
        }
        assert!(parse("idle_interval = 3").unwrap_err().contains("did you mean \"idle_interval_ms\""));
    }

    proptest! {
        /// Whatever is seen and whatever the clock does, the time since the last detection stays under the interval.
        #[test]
        fn never_starves(
            steps in proptest::collection::vec((0u64..20_000, 0u8..4, 0u32..200, any::<u8>(), any::<bool>()), 1..60),
        ) {
            let config = Config::default();
            let idle_interval_ms = config.idle_interval_ms;
            let mut gate = Gate::new(config);
            let mut detect_ms: Option<u64> = None;
            for (now_ms, kind, size, grey, alive) in steps {
                let bytes = (size * size * 3) as usize - usize::from(kind == 0 && size > 0);
                let frame = Frame { taken_ms: 0, width: size, height: size, rgb: vec![grey; bytes] };
                let verdict = gate.decide(now_ms, &frame, alive);
                if verdict == Verdict::Skip {
                    let last_ms = detect_ms.expect("the first frame is let through");
                    prop_assert!(last_ms <= now_ms && now_ms - last_ms < idle_interval_ms && !alive);
                } else {
                    detect_ms = Some(now_ms);
                }
            }
        }
    }
}
