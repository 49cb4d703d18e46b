//! Makes pictures worse in known ways, to see what a detector is worth in bad light or over a thin line.
//!
//! The size stays, so that boxes keep their places. The same seed, frame number and picture give the same result. The
//! strengths are fixed and are told with the figures: moderate ones, which a person still sees everything in.

use std::f64::consts::E;
use std::io::Cursor;

use clap::ValueEnum;
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{DynamicImage, ExtendedColorType};

use super::random::Random;
use crate::frame::Frame;

/// Noise's standard deviation, of 255 steps.
const NOISE_SIGMA: f64 = 25.0;
/// Blur's standard deviation, in pixels.
const BLUR_SIGMA_PX: f64 = 2.0;
/// Low light: what is left of the light (three stops less), and the sensor's noise over it.
const LIGHT_LEFT: f64 = 0.125;
const LIGHT_NOISE_SIGMA: f64 = 4.0;
const JPEG_QUALITY: u8 = 20;

/// One way to make pictures worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Degradation {
    /// The pictures as they are
    None,
    /// Gaussian noise, sigma 25 of 255, in each channel by itself
    Noise,
    /// Gaussian blur, sigma 2 pixels
    Blur,
    /// An eighth of the light (in linear light), then Gaussian noise of sigma 4
    Lowlight,
    /// JPEG at quality 20
    Jpeg20,
    /// Half the resolution: each 2x2 pixels become their mean
    Half,
}

impl Degradation {
    /// All of them.
    pub const ALL: [Degradation; 6] = [
        Degradation::None,
        Degradation::Noise,
        Degradation::Blur,
        Degradation::Lowlight,
        Degradation::Jpeg20,
        Degradation::Half,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Degradation::None => "none",
            Degradation::Noise => "noise",
            Degradation::Blur => "blur",
            Degradation::Lowlight => "lowlight",
            Degradation::Jpeg20 => "jpeg20",
            Degradation::Half => "half",
        }
    }

    /// What it does, with its strength.
    pub fn meaning(self) -> String {
        match self {
            Degradation::None => "pictures as they are".into(),
            Degradation::Noise => format!("Gaussian noise, sigma {NOISE_SIGMA} of 255, each channel by itself"),
            Degradation::Blur => format!("Gaussian blur, sigma {BLUR_SIGMA_PX} pixels"),
            Degradation::Lowlight => {
                format!("{LIGHT_LEFT} of the linear light, then Gaussian noise of sigma {LIGHT_NOISE_SIGMA}")
            }
            Degradation::Jpeg20 => format!("JPEG, quality {JPEG_QUALITY}"),
            Degradation::Half => "half the resolution, each 2x2 pixels become their mean".into(),
        }
    }

    /// Makes a whole frame worse, in place. `number` is the frame's, so that each has its own noise.
    pub fn apply(self, frame: &mut Frame, seed: u64, number: u64) {
        assert!(frame.is_whole(), "a degraded frame is whole");
        let mut random = Random::new(seed, number);
        match self {
            Degradation::None => {}
            Degradation::Noise => noise(&mut frame.rgb, NOISE_SIGMA, &mut random),
            Degradation::Blur => blur(frame, BLUR_SIGMA_PX),
            Degradation::Lowlight => {
                let tones = darker(LIGHT_LEFT);
                frame.rgb.iter_mut().for_each(|value| *value = tones[usize::from(*value)]);
                noise(&mut frame.rgb, LIGHT_NOISE_SIGMA, &mut random);
            }
            Degradation::Jpeg20 => jpeg(frame, JPEG_QUALITY),
            Degradation::Half => halve(frame),
        }
    }
}

fn noise(rgb: &mut [u8], sigma: f64, random: &mut Random) {
    for pair in rgb.chunks_mut(2) {
        for (value, normal) in pair.iter_mut().zip(random.normals()) {
            // The conversion ends at 0 and 255.
            *value = (f64::from(*value) + sigma * normal).round() as u8;
        }
    }
}

/// What each step becomes when only a part of the light is left (sRGB's curve, IEC 61966-2-1).
fn darker(left: f64) -> [u8; 256] {
    let linear = |v: f64| if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) };
    let coded = |v: f64| if v <= 0.003_130_8 { v * 12.92 } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
    std::array::from_fn(|step| (coded(linear(step as f64 / 255.0) * left) * 255.0).round() as u8)
}

/// By rows, then by columns; beyond its edges the picture repeats them.
fn blur(frame: &mut Frame, sigma_px: f64) {
    let reach = (3.0 * sigma_px).ceil() as i64;
    let weight = |at: i64| E.powf(-((at * at) as f64) / (2.0 * sigma_px * sigma_px));
    let sum: f64 = (-reach..=reach).map(weight).sum();
    let kernel: Vec<f32> = (-reach..=reach).map(|at| (weight(at) / sum) as f32).collect();
    let (width, height) = (frame.width as usize, frame.height as usize);
    let clamped = |at: usize, step: usize, last: usize| (at + step).saturating_sub(reach as usize).min(last);
    let mut rows = vec![0.0f32; frame.rgb.len()];
    for (to, from) in rows.chunks_exact_mut(width * 3).zip(frame.rgb.chunks_exact(width * 3)) {
        for x in 0..width {
            for (step, weight) in kernel.iter().enumerate() {
                let at = clamped(x, step, width - 1) * 3;
                (0..3).for_each(|channel| to[x * 3 + channel] += weight * f32::from(from[at + channel]));
            }
        }
    }
    let mut sums = vec![0.0f32; width * 3];
    for (y, to) in frame.rgb.chunks_exact_mut(width * 3).enumerate() {
        sums.fill(0.5);
        for (step, weight) in kernel.iter().enumerate() {
            let at = clamped(y, step, height - 1) * width * 3;
            sums.iter_mut().zip(&rows[at..at + width * 3]).for_each(|(sum, value)| *sum += weight * value);
        }
        to.iter_mut().zip(&sums).for_each(|(to, sum)| *to = *sum as u8);
    }
}

fn jpeg(frame: &mut Frame, quality: u8) {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&frame.rgb, frame.width, frame.height, ExtendedColorType::Rgb8)
        .expect("a whole frame no larger than 65,535 pixels a side is encoded into memory");
    let decoder = JpegDecoder::new(Cursor::new(bytes)).expect("what was just encoded has a header");
    frame.rgb = DynamicImage::from_decoder(decoder).expect("what was just encoded decodes").into_rgb8().into_raw();
}

fn halve(frame: &mut Frame) {
    let (width, height) = (frame.width as usize, frame.height as usize);
    for top in (0..height).step_by(2) {
        for left in (0..width).step_by(2) {
            // At an odd edge there are fewer than four.
            let pixels = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(x, y)| (left + x, top + y));
            let pixels = pixels.iter().filter(|(x, y)| *x < width && *y < height);
            for channel in 0..3 {
                let places = pixels.clone().map(|(x, y)| (y * width + x) * 3 + channel);
                let (sum, count) =
                    places.clone().fold((0, 0), |(sum, count), at| (sum + u32::from(frame.rgb[at]), count + 1));
                let mean = ((sum + count / 2) / count) as u8;
                places.for_each(|at| frame.rgb[at] = mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(width: u32, height: u32, of: impl Fn(usize) -> u8) -> Frame {
        let bytes = width as usize * height as usize * 3;
        Frame { taken_ms: 5, width, height, rgb: (0..bytes).map(of).collect() }
    }

    fn degraded(how: Degradation, frame: &Frame, seed: u64, number: u64) -> Frame {
        let mut frame = frame.clone();
        how.apply(&mut frame, seed, number);
        frame
    }

    /// Mean and standard deviation of the bytes.
    fn spread(frame: &Frame) -> (f64, f64) {
        let count = frame.rgb.len() as f64;
        let mean = frame.rgb.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        (mean, (frame.rgb.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count).sqrt())
    }

    #[test]
    fn every_way_keeps_the_size_and_repeats_itself() {
        for (width, height) in [(1, 1), (2, 1), (7, 5), (64, 48)] {
            let frame = filled(width, height, |at| (at * 37 % 251) as u8);
            for how in Degradation::ALL {
                let first = degraded(how, &frame, 3, 8);
                assert!(first.is_whole() && (first.width, first.height, first.taken_ms) == (width, height, 5));
                assert_eq!(first, degraded(how, &frame, 3, 8), "{how:?}");
                // A single pixel has no neighbours to be mixed with.
                assert!(width < 7 || (first == frame) == (how == Degradation::None), "{how:?}");
            }
        }
    }

    #[test]
    fn noise_is_as_strong_as_it_says_and_its_own_in_each_frame() {
        let grey = filled(200, 100, |_| 128);
        let noisy = degraded(Degradation::Noise, &grey, 1, 1);
        let (mean, sigma) = spread(&noisy);
        assert!((mean - 128.0).abs() < 0.5 && (sigma - NOISE_SIGMA).abs() < 0.5, "{mean} {sigma}");
        assert_ne!(noisy, degraded(Degradation::Noise, &grey, 1, 2));
        assert_ne!(noisy, degraded(Degradation::Noise, &grey, 2, 1));
    }

    #[test]
    fn blur_spreads_an_edge_as_a_gauss_curve_does_and_keeps_the_light() {
        let white_right = filled(40, 9, |at| if at / 3 % 40 >= 20 { 255 } else { 0 });
        let blurred = degraded(Degradation::Blur, &white_right, 0, 0);
        let at = |x: usize| f64::from(blurred.rgb[(4 * 40 + x) * 3]) / 255.0;
        // The normal distribution at half a pixel, and at two and a half, over sigma 2.
        for (x, expect) in [(19, 0.401), (20, 0.599), (17, 0.106), (22, 0.894), (0, 0.0), (39, 1.0)] {
            assert!((at(x) - expect).abs() < 0.01, "{x}: {}", at(x));
        }
        assert!((spread(&blurred).0 - spread(&white_right).0).abs() < 0.6);
        assert_eq!(degraded(Degradation::Blur, &filled(8, 8, |_| 77), 0, 0), filled(8, 8, |_| 77));
    }

    #[test]
    fn low_light_is_an_eighth_in_linear_light() {
        let tones = darker(LIGHT_LEFT);
        // 0.125 of white is coded as 99; three stops under 118 (0.181 of white) is 41.
        assert_eq!([tones[0], tones[118], tones[255]], [0, 41, 99]);
        let (mean, sigma) = spread(&degraded(Degradation::Lowlight, &filled(200, 100, |_| 255), 1, 1));
        assert!((mean - 99.0).abs() < 0.3 && (sigma - LIGHT_NOISE_SIGMA).abs() < 0.2, "{mean} {sigma}");
    }

    #[test]
    fn half_the_resolution_is_the_mean_of_four_also_at_an_odd_edge() {
        let mut frame = filled(3, 3, |_| 0);
        for (at, value) in [10, 20, 30, 40, 50, 60, 70, 80, 90].into_iter().enumerate() {
            frame.rgb[at * 3 + 1] = value;
        }
        let halved = degraded(Degradation::Half, &frame, 0, 0);
        let green: Vec<u8> = halved.rgb.iter().skip(1).step_by(3).copied().collect();
        assert_eq!(green, [30, 30, 45, 30, 30, 45, 75, 75, 90]);
    }

    #[test]
    fn a_hard_edge_suffers_in_a_jpeg() {
        let edges = filled(64, 64, |at| if at / 3 % 5 == 0 { 255 } else { 0 });
        let squeezed = degraded(Degradation::Jpeg20, &edges, 0, 0);
        let off = edges.rgb.iter().zip(&squeezed.rgb).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
        assert!((2.0..60.0).contains(&(off / edges.rgb.len() as f64)), "{off}");
    }
}
