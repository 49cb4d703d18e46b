//! A drawn scene: figures that walk through a street, with the truth about where they are.
//!
//! For tests and for a first look without a camera. The same seed gives the same pictures on every machine. The figures
//! are drawn, and it depends on the model whether it takes them for people.

use std::time::{Duration, Instant};

use picket_shared::calendar::unix_ms;

use super::outlet::{End, Outlet};
use super::{Pace, ppm};
use crate::frame::{Area, Frame};

/// Most figures in a scene.
const PEOPLE_MAX: u32 = 64;
/// Frames a second, at most and at least.
const FPS: std::ops::RangeInclusive<f64> = 0.1..=240.0;

/// A scene, as its URL describes it: `synthetic:?people=3&seed=1&fps=10&size=640x480`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scene {
    /// How many figures walk.
    pub people: u32,
    /// What chooses their clothes, places and ways.
    pub seed: u64,
    /// Frames a second, of the scene's own time.
    pub fps: f64,
    /// Width and height.
    pub size: (u32, u32),
}

impl Default for Scene {
    fn default() -> Self {
        Scene { people: 3, seed: 1, fps: 10.0, size: (640, 480) }
    }
}

/// One figure in one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Its number, from 1; the same in all frames.
    pub id: u32,
    /// Where it is, in pixels; it may reach beyond the picture.
    pub area: Area,
    /// Half the length of a step, and where in the step it is: -1 to 1.
    stride: f32,
    shirt: [u8; 3],
    trousers: [u8; 3],
    skin: [u8; 3],
}

impl Scene {
    /// Refuses what cannot be drawn, in a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        let (width, height) = self.size;
        if self.people > PEOPLE_MAX {
            return Err(format!("people is {} and must be 0 to {PEOPLE_MAX}", self.people));
        }
        if !FPS.contains(&self.fps) {
            return Err(format!("fps is {} and must be {} to {}", self.fps, FPS.start(), FPS.end()));
        }
        if width < 32 || height < 32 || ppm::frame_bytes(width, height).is_none() {
            return Err(format!("size is {width}x{height} and must be 32x32 to a frame's largest size"));
        }
        Ok(())
    }

    /// The figures of a frame, those behind first. Frames are numbered from 0.
    pub fn truth(&self, number: u64) -> Vec<Figure> {
        let mut figures: Vec<Figure> = (1..=self.people).map(|id| self.figure(id, number)).collect();
        figures.sort_by(|a, b| a.area.y2.total_cmp(&b.area.y2));
        figures
    }

    fn figure(&self, id: u32, number: u64) -> Figure {
        let mut rng = fastrand::Rng::with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(id)));
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        // Who stands lower in the picture is nearer, and larger.
        let depth = 0.35 + 0.65 * rng.f32();
        let tall = height * 0.55 * depth;
        let foot_y = height * (0.45 + 0.5 * depth);
        let seconds = number as f32 / self.fps as f32;
        let speed = tall * (0.5 + 0.4 * rng.f32()) * if rng.bool() { 1.0 } else { -1.0 };
        // They walk out on one side and, a body's width later, in on the other.
        let (half, lane) = (tall * 0.17, width + tall);
        let x = (rng.f32() * lane + speed * seconds).rem_euclid(lane) - tall / 2.0;
        let mut colour = |low: u8, high: u8| [rng.u8(low..high), rng.u8(low..high), rng.u8(low..high)];
        let (shirt, trousers) = (colour(30, 220), colour(20, 90));
        let tone = rng.u8(110..230);
        let skin = [tone, (f32::from(tone) * 0.8) as u8, (f32::from(tone) * 0.65) as u8];
        let stride = (seconds * 6.0 + id as f32).sin();
        let area = Area { x1: x - half, y1: foot_y - tall, x2: x + half, y2: foot_y };
        Figure { id, area, stride, shirt, trousers, skin }
    }

    /// Draws a frame into a buffer, which is used again; its time is left alone.
    pub fn draw(&self, number: u64, frame: &mut Frame) {
        let (width, height) = self.size;
        (frame.width, frame.height) = self.size;
        frame.rgb.resize(width as usize * height as usize * 3, 0);
        let horizon = height as usize * 2 / 5;
        for (y, row) in frame.rgb.chunks_exact_mut(width as usize * 3).enumerate() {
            let shade = (y * 60 / height as usize) as u8;
            let ground = if y < horizon { [150 + shade, 160 + shade, 170 + shade] } else { [100 + shade; 3] };
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                // A coarse pattern that stays, and a sensor's noise that does not: no two frames are equal.
                let pattern = ((x / 16 + y / 16) % 3) as u8 * 3;
                let noise = (x as u64 * 31 + y as u64 * 17 + number * 7) % 4;
                pixel.iter_mut().zip(ground).for_each(|(to, from)| *to = from + pattern + noise as u8);
            }
        }
        self.truth(number).iter().for_each(|figure| figure.draw(frame));
    }
}

impl Figure {
    fn draw(&self, frame: &mut Frame) {
        let Area { x1, y1, .. } = self.area;
        let (wide, tall) = (self.area.width(), self.area.height());
        let at = |x: f32, y: f32| (x1 + wide * x, y1 + tall * y);
        let dark = self.shirt.map(|channel| channel / 4 * 3);
        let shoe = [25, 25, 28];
        let sway = 0.22 * self.stride;
        // Legs, then arms, body, and the head on top.
        for side in [-1.0, 1.0] {
            let foot = at(0.5 + side * sway, 0.94);
            limb(frame, at(0.5 + side * 0.08, 0.5), foot, wide * 0.13, self.trousers);
            limb(frame, foot, (foot.0 + wide * 0.08, foot.1 + tall * 0.01), wide * 0.1, shoe);
            limb(frame, at(0.5 + side * 0.3, 0.22), at(0.5 + side * (0.34 - sway.abs()), 0.5), wide * 0.09, dark);
        }
        limb(frame, at(0.5, 0.24), at(0.5, 0.47), wide * 0.28, self.shirt);
        limb(frame, at(0.5, 0.1), at(0.5, 0.15), wide * 0.12, self.skin);
        limb(frame, at(0.5, 0.07), at(0.5, 0.08), wide * 0.19, self.skin);
        limb(frame, at(0.5, 0.066), at(0.5, 0.068), wide * 0.19, [40, 30, 25]);
        limb(frame, at(0.5, 0.1), at(0.5, 0.11), wide * 0.17, self.skin);
    }
}

/// Fills every pixel that is within `radius` of the line from `a` to `b`.
fn limb(frame: &mut Frame, a: (f32, f32), b: (f32, f32), radius: f32, colour: [u8; 3]) {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let inside =
        |low: f32, high: f32, most: usize| (low.floor().max(0.0) as usize)..(high.ceil().max(0.0) as usize).min(most);
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length2 = (dx * dx + dy * dy).max(1e-6);
    for y in inside(a.1.min(b.1) - radius, a.1.max(b.1) + radius + 1.0, height) {
        for x in inside(a.0.min(b.0) - radius, a.0.max(b.0) + radius + 1.0, width) {
            let (px, py) = (x as f32 - a.0, y as f32 - a.1);
            let along = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
            let (ox, oy) = (px - along * dx, py - along * dy);
            if ox * ox + oy * oy <= radius * radius {
                let at = (y * width + x) * 3;
                // Round things are lighter on one side.
                let light = (ox / radius.max(1.0) * 20.0) as i16;
                let shaded = colour.map(|channel| (i16::from(channel) - light).clamp(0, 255) as u8);
                frame.rgb[at..at + 3].copy_from_slice(&shaded);
            }
        }
    }
}

/// Plays the scene for ever, at the clock's pace or as fast as frames are taken. Times are the scene's own, from now on.
pub(super) fn run(outlet: &mut Outlet, scene: &Scene) -> Result<(), End> {
    outlet.chosen(format!("{}x{} drawn, {}/s", scene.size.0, scene.size.1, scene.fps));
    let mut clock = Clock::start(scene.fps);
    for number in 0.. {
        let mut frame = outlet.buffer();
        scene.draw(number, &mut frame);
        if let Some(part) = outlet.config.crop {
            super::pixels::crop(&mut frame, part).map_err(|error| End::Broken(error.to_string()))?;
        }
        frame.taken_ms = clock.wait(outlet, number)?;
        outlet.deliver(frame)?;
    }
    Ok(())
}

/// When each picture of an even rate is due.
pub(super) struct Clock {
    began: Instant,
    began_ms: u64,
    fps: f64,
}

impl Clock {
    pub(super) fn start(fps: f64) -> Clock {
        Clock { began: Instant::now(), began_ms: unix_ms(), fps }
    }

    /// Waits until picture `number` is due, unless nobody minds the clock, and gives its time since 1970.
    pub(super) fn wait(&mut self, outlet: &Outlet, number: u64) -> Result<u64, End> {
        let since = Duration::from_secs_f64(number as f64 / self.fps);
        if outlet.config.pace == Pace::Realtime {
            let wait = (self.began + since).saturating_duration_since(Instant::now());
            if outlet.stopped_within(wait) {
                return Err(End::Stopped);
            }
        }
        Ok(self.began_ms + since.as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(scene: &Scene, number: u64) -> Frame {
        let mut frame = Frame { taken_ms: 0, width: 0, height: 0, rgb: Vec::new() };
        scene.draw(number, &mut frame);
        assert!(frame.is_whole());
        frame
    }

    #[test]
    fn the_same_seed_gives_the_same_pictures_and_another_gives_others() {
        let scene = Scene::default();
        assert_eq!(drawn(&scene, 7), drawn(&scene, 7));
        assert_ne!(drawn(&scene, 7), drawn(&scene, 8));
        assert_ne!(drawn(&scene, 7), drawn(&Scene { seed: 2, ..scene }, 7));
    }

    #[test]
    fn the_figures_are_where_the_truth_says() {
        let scene = Scene::default();
        let empty = Scene { people: 0, ..scene };
        for number in [0, 13, 400] {
            let (with, without) = (drawn(&scene, number), drawn(&empty, number));
            let truth = scene.truth(number);
            assert_eq!(truth.len(), 3);
            let (mut inside, mut outside) = (0, 0);
            for (at, (a, b)) in with.rgb.chunks(3).zip(without.rgb.chunks(3)).enumerate() {
                let (x, y) = ((at % 640) as f32, (at / 640) as f32);
                let within = |area: &Area| {
                    (area.x1 - 2.0..area.x2 + 2.0).contains(&x) && (area.y1 - 2.0..area.y2 + 2.0).contains(&y)
                };
                if a != b {
                    let there = truth.iter().any(|figure| within(&figure.area));
                    (inside, outside) = (inside + usize::from(there), outside + usize::from(!there));
                }
            }
            assert!(inside > 1000 && outside == 0, "frame {number}: {inside} pixels inside, {outside} outside");
        }
    }

    #[test]
    fn figures_walk_steadily_and_keep_their_numbers() {
        let scene = Scene { people: 5, ..Scene::default() };
        for number in 0..50 {
            let (now, next) = (scene.truth(number), scene.truth(number + 1));
            for figure in &now {
                let later = next.iter().find(|later| later.id == figure.id).unwrap();
                let step = (later.area.x1 - figure.area.x1).abs();
                assert!(!(40.0..=600.0).contains(&step), "a step of {step} pixels in frame {number}");
                assert_eq!(later.area.y2, figure.area.y2);
            }
        }
    }
}
