//! The candidate's side of a trial: a process that loads one model, looks at stored frames beside the active model, and then at
//! each frame that it is given. It ends when its input does.
//!
//! It decides nothing, and nothing else of the agent runs in it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use picket_shared::exit::{Exit, Failure};
use serde::{Deserialize, Serialize};

use crate::detect::agreement::{Agreement, RANKED_SCORE_MIN};
use crate::detect::precision::{self, GATE_FRAMES_MAX};
use crate::detect::preprocess::FRAME_SIDE_MAX;
use crate::detect::{self, Detector};
use crate::frame::{Detection, Frame};

/// Most bytes of the task.
const TASK_BYTES_MAX: u64 = 64 * 1024;

/// What is to be tried, as the first line of the standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// The candidate.
    pub candidate: detect::Config,
    /// The first digits of its SHA-256, so that what is loaded is what was ordered.
    pub digest: String,
    /// What it would replace.
    pub active: detect::Config,
    /// Frames to look at first, where there is such a folder.
    pub frames: PathBuf,
}

/// What it says, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The model is loaded, and ran once.
    Loaded,
    /// What it did on stored frames; nothing, where there are none that can be looked at.
    Stored {
        /// How far it agrees with the active model.
        agreement: Option<Agreement>,
    },
    /// What it found in the frame that it was given.
    Found {
        /// Left, top, right, bottom, score: the surest first.
        boxes: Vec<[f32; 5]>,
        /// Processor time of the network, in microseconds.
        cpu_us: u64,
    },
    /// It cannot be loaded or used, in a sentence.
    Unfit {
        /// Why.
        what: String,
    },
}

/// Does what the standard input says, until it ends.
pub fn run() -> Result<(), Failure> {
    let (mut input, mut output) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    let gone =
        |error: io::Error| Failure::new(Exit::Software, format!("nobody listens to the trial any more ({error})"));
    let mut line = String::new();
    (&mut input).take(TASK_BYTES_MAX).read_line(&mut line).map_err(gone)?;
    let task: Task = serde_json::from_str(&line)
        .map_err(|error| Failure::new(Exit::Software, format!("this is run by the agent itself ({error})")))?;
    let config =
        detect::Config { workers: 1, score_min: task.active.score_min.min(RANKED_SCORE_MIN), ..task.candidate };
    let mut detector = match Detector::load(&config) {
        Ok(detector) if detector.named().0 == task.digest => detector,
        Ok(_) => {
            return say(&mut output, &Said::Unfit { what: "its file is another than was assigned".into() })
                .map_err(gone);
        }
        Err(failure) => return say(&mut output, &Said::Unfit { what: failure.sentence }).map_err(gone),
    };
    say(&mut output, &Said::Loaded).map_err(gone)?;
    // No folder, or none that can be read: live frames decide alone.
    let compared = precision::between(&task.active, &config, &task.frames, GATE_FRAMES_MAX).ok();
    say(&mut output, &Said::Stored { agreement: compared.map(|compared| compared.agreement) }).map_err(gone)?;
    let (mut frame, mut found) = (Frame::default(), Vec::<Detection>::new());
    while read_frame(&mut input, &mut frame).map_err(gone)? {
        let said = match detector.detect(&frame, &mut found) {
            Ok(timing) => Said::Found {
                boxes: found
                    .iter()
                    .map(|Detection { area, score }| [area.x1, area.y1, area.x2, area.y2, *score])
                    .collect(),
                cpu_us: timing.run_cpu.as_micros() as u64,
            },
            Err(error) => Said::Unfit { what: error.to_string() },
        };
        say(&mut output, &said).map_err(gone)?;
    }
    Ok(())
}

fn say(output: &mut impl Write, said: &Said) -> io::Result<()> {
    serde_json::to_writer(&mut *output, said)?;
    output.write_all(b"\n")?;
    output.flush()
}

/// Hands a frame over: its width and height, 32 bits each, little-endian, and its bytes.
pub(super) fn write_frame(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    to.write_all(&frame.width.to_le_bytes())?;
    to.write_all(&frame.height.to_le_bytes())?;
    to.write_all(&frame.rgb)?;
    to.flush()
}

/// Takes the next frame; false, where there are no more.
fn read_frame(from: &mut impl Read, frame: &mut Frame) -> io::Result<bool> {
    let mut size = [0; 8];
    match from.read_exact(&mut size) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    }
    let side = |at: usize| u32::from_le_bytes([size[at], size[at + 1], size[at + 2], size[at + 3]]);
    (frame.width, frame.height) = (side(0), side(4));
    if frame.width > FRAME_SIDE_MAX || frame.height > FRAME_SIDE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    frame.rgb.resize(frame.width as usize * frame.height as usize * 3, 0);
    from.read_exact(&mut frame.rgb)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_of_a_pipe_as_they_went_in() {
        let frames = [(2, 3), (1, 1), (4, 2)].map(|(width, height)| Frame {
            taken_ms: 0,
            width,
            height,
            rgb: (0..width * height * 3).map(|n| n as u8).collect(),
        });
        let mut pipe = Vec::new();
        frames.iter().for_each(|frame| write_frame(&mut pipe, frame).unwrap());
        let (mut rest, mut frame) = (&pipe[..], Frame::default());
        for sent in &frames {
            assert!(read_frame(&mut rest, &mut frame).unwrap());
            assert_eq!(&frame, sent);
        }
        assert!(!read_frame(&mut rest, &mut frame).unwrap());
        assert!(read_frame(&mut &[255; 9][..], &mut frame).is_err(), "no frame is as large as that");
        assert!(read_frame(&mut &pipe[..20], &mut frame).is_err(), "it was cut");
    }
}
