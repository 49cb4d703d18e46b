//! The picture that a model takes: where it goes in, its size, and how bytes of color become its numbers.
//!
//! Found from the signature, completed by the family's convention, overruled by the configuration. Pure; filling never
//! allocates.

use serde::{Deserialize, Serialize};

use super::signature::{Element, Port, Signature, short};

/// Longest side of a model's picture, in pixels.
pub const SIDE_MAX: u32 = 4096;

/// The order of the color channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colors {
    /// Red first.
    Rgb,
    /// Blue first, as OpenCV has it.
    Bgr,
}

/// How bytes become the model's numbers: `(byte - mean) / std`, channel by channel in the model's order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scaling {
    /// The order of the channels.
    pub colors: Colors,
    /// Taken away from each byte.
    pub mean: [f32; 3],
    /// Divided by.
    pub std: [f32; 3],
    /// What lies around the frame in the letterbox, as a byte.
    pub margin: u8,
}

impl Scaling {
    /// Bytes as they are.
    pub(super) const BYTES: Scaling = Scaling { colors: Colors::Rgb, mean: [0.0; 3], std: [1.0; 3], margin: 0 };
    /// 0 to 1.
    pub(super) const UNIT: Scaling = Scaling { std: [255.0; 3], ..Scaling::BYTES };
    /// -1 to 1.
    pub(super) const SIGNED: Scaling = Scaling { mean: [127.5; 3], std: [127.5; 3], ..Scaling::BYTES };
    /// The mean and spread of ImageNet's pictures.
    pub(super) const IMAGENET: Scaling =
        Scaling { mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], ..Scaling::BYTES };
}

/// What the configuration or a manifest says of a model's input, where the family's convention is not right.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputOverride {
    /// Width and height, for a model that leaves them open.
    pub size: Option<[u32; 2]>,
    /// The order of the channels.
    pub colors: Option<Colors>,
    /// Taken away from each byte.
    pub mean: Option<[f32; 3]>,
    /// Divided by.
    pub std: Option<[f32; 3]>,
}

impl InputOverride {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if let Some(size) = self.size.filter(|size| !size.iter().all(|side| (1..=SIDE_MAX).contains(side))) {
            return Err(format!("input.size is {size:?}; give a width and a height of 1 to {SIDE_MAX}"));
        }
        let finite = |numbers: Option<[f32; 3]>| numbers.unwrap_or_default().iter().all(|number| number.is_finite());
        if !finite(self.mean) || !finite(self.std) || self.std.is_some_and(|std| std.contains(&0.0)) {
            return Err(
                "input.mean and input.std are numbers by which a byte becomes (byte - mean) / std; give three \
                        each, and no std of 0"
                    .into(),
            );
        }
        Ok(())
    }
}

/// The picture's way into a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Input {
    /// The input's name.
    pub name: String,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// One channel after the other, and not pixel by pixel.
    pub planar: bool,
    /// Bytes, or 32-bit floating point numbers.
    pub element: Element,
    /// How bytes become numbers.
    #[serde(flatten)]
    pub scaling: Scaling,
}

impl Input {
    /// The one input that is a picture, or the end of a sentence that says why there is none.
    pub fn find(signature: &Signature, said: &InputOverride) -> Result<Input, String> {
        let pictures: Vec<_> = signature.inputs.iter().filter_map(|port| Some((port, place(port)?))).collect();
        let (port, (planar, width, height)) = match pictures[..] {
            [only] => only,
            [] => return Err(format!("takes no picture of bytes or 32-bit numbers in three colors: {signature}")),
            _ => return Err(format!("takes more than one picture: {signature}")),
        };
        let side = |declared: i64, said: Option<u32>| match (u32::try_from(declared), said) {
            (Ok(declared), Some(said)) if declared != said => {
                Err(format!("takes a picture with a side of {declared} and input.size says {said}; remove input.size"))
            }
            (Ok(declared), _) if (1..=SIDE_MAX).contains(&declared) => Ok(declared),
            (Ok(declared), _) => {
                Err(format!("takes a picture with a side of {declared}, and 1 to {SIDE_MAX} are known"))
            }
            (Err(_), Some(said)) => Ok(said),
            (Err(_), None) => Err(format!(
                "leaves the size of its picture open (input {}); set input = {{ size = [width, height] }} to the one it was trained with",
                short(&port.name)
            )),
        };
        let [said_width, said_height] = said.size.map_or([None; 2], |size| size.map(Some));
        Ok(Input {
            name: port.name.clone(),
            width: side(width, said_width)?,
            height: side(height, said_height)?,
            planar,
            element: port.element,
            scaling: Scaling::BYTES,
        })
    }

    /// With the family's convention, where the configuration does not say otherwise. A model that takes bytes has its
    /// scaling inside.
    pub(super) fn scaled(mut self, convention: Scaling, said: &InputOverride) -> Input {
        self.scaling = if self.element == Element::U8 {
            Scaling { margin: convention.margin, ..Scaling::BYTES }
        } else {
            Scaling {
                mean: said.mean.unwrap_or(convention.mean),
                std: said.std.unwrap_or(convention.std),
                ..convention
            }
        };
        self.scaling.colors =
            said.colors.unwrap_or(if self.element == Element::U8 { Colors::Rgb } else { convention.colors });
        self
    }

    /// The dimensions of the tensor.
    pub fn shape(&self) -> [i64; 4] {
        let (width, height) = (i64::from(self.width), i64::from(self.height));
        if self.planar { [1, 3, height, width] } else { [1, height, width, 3] }
    }

    /// Whether the tensor holds exactly the bytes of a picture, RGB by rows.
    pub fn is_plain(&self) -> bool {
        self.element == Element::U8 && !self.planar && self.scaling.colors == Colors::Rgb
    }

    /// Fills the tensor of a model that takes bytes. Both sides have three values a pixel.
    pub fn fill_bytes(&self, rgb: &[u8], tensor: &mut [u8]) {
        self.fill(rgb, tensor, |_, byte| byte);
    }

    /// Fills the tensor of a model that takes numbers.
    pub fn fill_numbers(&self, rgb: &[u8], tensor: &mut [f32]) {
        let Scaling { mean, std, .. } = self.scaling;
        let factor = std.map(|std| 1.0 / std);
        self.fill(rgb, tensor, |channel, byte| (f32::from(byte) - mean[channel]) * factor[channel]);
    }

    fn fill<T>(&self, rgb: &[u8], tensor: &mut [T], value: impl Fn(usize, u8) -> T) {
        assert_eq!(rgb.len(), tensor.len(), "the tensor was made for the picture");
        let source = |channel: usize| if self.scaling.colors == Colors::Rgb { channel } else { 2 - channel };
        let pixels = rgb.as_chunks::<3>().0;
        if self.planar {
            for (channel, plane) in tensor.chunks_exact_mut((rgb.len() / 3).max(1)).enumerate() {
                let from = source(channel);
                for (to, pixel) in plane.iter_mut().zip(pixels) {
                    *to = value(channel, pixel[from]);
                }
            }
        } else {
            for (to, pixel) in tensor.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                for (channel, to) in to.iter_mut().enumerate() {
                    *to = value(channel, pixel[source(channel)]);
                }
            }
        }
    }
}

/// Whether a port is a picture, and then: planar, width, height.
fn place(port: &Port) -> Option<(bool, i64, i64)> {
    if !matches!(port.element, Element::U8 | Element::F32) {
        return None;
    }
    match port.shape[..] {
        // An open batch is one picture at a time.
        [1 | -1, 3, height, width] => Some((true, width, height)),
        [1 | -1, height, width, 3] => Some((false, width, height)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(element: Element, shape: &[i64]) -> Signature {
        let port = Port { name: "in".into(), element, shape: shape.to_vec() };
        Signature { inputs: vec![port], ..Signature::default() }
    }

    fn sized(size: [u32; 2]) -> InputOverride {
        InputOverride { size: Some(size), ..InputOverride::default() }
    }

    #[test]
    fn the_picture_is_found_in_either_order_with_its_size_or_the_one_that_was_said() {
        let none = InputOverride::default();
        for (shape, said, expect) in [
            (&[1, 3, 64, 96], none.clone(), Ok((true, 96, 64))),
            (&[-1, 3, 64, 96], none.clone(), Ok((true, 96, 64))),
            (&[1, 64, 96, 3], none.clone(), Ok((false, 96, 64))),
            (&[1, -1, -1, 3], sized([96, 64]), Ok((false, 96, 64))),
            (&[1, 3, 64, 96], sized([96, 64]), Ok((true, 96, 64))),
            (&[1, 3, 64, 96], sized([96, 32]), Err("input.size says 32")),
            (&[1, 3, -1, -1], none.clone(), Err("leaves the size of its picture open")),
            (&[2, 3, 64, 96], none.clone(), Err("takes no picture")),
            (&[1, 4, 64, 96], none.clone(), Err("takes no picture")),
            (&[1, 3, 0, 96], none.clone(), Err("with a side of 0")),
            (&[1, 3, 64, 5000], none, Err("with a side of 5000")),
        ] {
            for element in [Element::F32, Element::U8] {
                match (Input::find(&signature(element, shape), &said), &expect) {
                    (Ok(input), Ok(expect)) => assert_eq!((input.planar, input.width, input.height), *expect),
                    (Err(refusal), Err(expect)) => {
                        assert!(refusal.contains(expect), "{refusal}");
                    }
                    (found, expect) => panic!("{shape:?}: {found:?}, expected {expect:?}"),
                }
            }
        }
        assert!(Input::find(&signature(Element::F16, &[1, 3, 64, 96]), &InputOverride::default()).is_err());
        let mut two = signature(Element::F32, &[1, 3, 64, 96]);
        two.inputs.push(two.inputs[0].clone());
        assert!(Input::find(&two, &InputOverride::default()).unwrap_err().contains("more than one picture"));
    }

    #[test]
    fn bytes_become_numbers_in_the_models_order() {
        let rgb = [10, 20, 30, 40, 50, 60];
        let bgr = Scaling { colors: Colors::Bgr, mean: [1.0, 2.0, 3.0], std: [1.0, 2.0, 4.0], margin: 0 };
        let input = |shape: &[i64], element, scaling| {
            let none = InputOverride::default();
            Input::find(&signature(element, shape), &none).unwrap().scaled(scaling, &none)
        };
        for (shape, scaling, expect) in [
            (&[1, 3, 1, 2], Scaling::BYTES, [10.0, 40.0, 20.0, 50.0, 30.0, 60.0]),
            (&[1, 1, 2, 3], Scaling::BYTES, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]),
            (&[1, 3, 1, 2], bgr, [29.0, 59.0, 9.0, 24.0, 1.75, 9.25]),
            (&[1, 1, 2, 3], bgr, [29.0, 9.0, 1.75, 59.0, 24.0, 9.25]),
        ] {
            let mut tensor = [0.0; 6];
            input(shape, Element::F32, scaling).fill_numbers(&rgb, &mut tensor);
            assert_eq!(tensor, expect);
        }
        let mut bytes = [0; 6];
        let planar = input(&[1, 3, 1, 2], Element::U8, bgr);
        planar.fill_bytes(&rgb, &mut bytes);
        assert_eq!(bytes, [10, 40, 20, 50, 30, 60], "a model that takes bytes scales them itself");
        assert!(!planar.is_plain() && input(&[1, 1, 2, 3], Element::U8, bgr).is_plain());
        let said = InputOverride { colors: Some(Colors::Bgr), ..InputOverride::default() };
        let swapped = Input::find(&signature(Element::U8, &[1, 1, 2, 3]), &said).unwrap().scaled(Scaling::BYTES, &said);
        swapped.fill_bytes(&rgb, &mut bytes);
        assert_eq!((bytes, swapped.is_plain()), ([30, 20, 10, 60, 50, 40], false));
    }

    #[test]
    fn what_is_said_of_the_input_is_checked() {
        for (said, fine) in [
            (InputOverride::default(), true),
            (sized([640, 480]), true),
            (sized([0, 480]), false),
            (sized([640, 4097]), false),
            (InputOverride { mean: Some([f32::NAN, 0.0, 0.0]), ..InputOverride::default() }, false),
            (InputOverride { std: Some([1.0, 0.0, 1.0]), ..InputOverride::default() }, false),
        ] {
            assert_eq!(said.check().is_ok(), fine, "{said:?}");
        }
    }
}
