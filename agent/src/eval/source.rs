//! Where an evaluation's frames come from: a folder of pictures, a MOT sequence's folder, or a video.
//!
//! Frames are numbered from 0 and read one after the other. A picture that cannot be used is told and left out; the
//! others are still read. Nothing here looks at pixels.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::CameraId;

use crate::capture::{self, Mailbox, NoFrame, Pace};
use crate::frame::Frame;
use crate::pictures::{self, Sequence};

/// How often a waiting reader looks whether the video has ended.
const IDLE: Duration = Duration::from_millis(500);

/// A source that is there.
pub struct Source {
    kind: Kind,
    /// Frames a second, where the source says it.
    pub fps: Option<f64>,
    /// Frames, where the source says it.
    pub length: Option<u64>,
}

enum Kind {
    Pictures { folder: PathBuf, names: Vec<String> },
    Video(capture::Config),
}

/// What a reader is given of one frame.
pub struct Read<'a> {
    /// From 0.
    pub index: usize,
    /// The picture's file; empty in a video.
    pub name: &'a str,
    /// The frame; of a picture that cannot be used, why.
    pub frame: Result<Frame, String>,
}

impl Source {
    /// Opens a folder (also as `images:FOLDER`), or else takes the text for a video's address.
    pub fn open(text: &str) -> Result<Source, Failure> {
        let folder = Path::new(text.strip_prefix("images:").unwrap_or(text));
        if folder.is_dir() {
            return Source::folder(folder);
        }
        // A live stream at full pace would fall behind.
        let live = text.contains("://") && !text.starts_with("file:");
        let config =
            capture::Config { pace: if live { Pace::Realtime } else { Pace::Max }, ..capture::Config::new(text) };
        config.check().map_err(|what| Failure::new(Exit::Source, what))?;
        Ok(Source { kind: Kind::Video(config), fps: None, length: None })
    }

    fn folder(folder: &Path) -> Result<Source, Failure> {
        let Sequence { files, fps, frames } = Sequence::open(folder)?;
        let folder = files[0].parent().unwrap_or(folder).to_owned();
        // A name that is no text cannot stand in a truth either.
        let name = |path: &PathBuf| path.file_name()?.to_str().map(str::to_owned);
        let names = files.iter().filter_map(name).collect();
        Ok(Source { kind: Kind::Pictures { folder, names }, fps, length: frames })
    }

    /// The names of its pictures, in order; none of a video.
    pub fn names(&self) -> Option<&[String]> {
        match &self.kind {
            Kind::Pictures { names, .. } => Some(names),
            Kind::Video(_) => None,
        }
    }

    /// Whether frames carry the time they were taken at, as those of a live stream do.
    pub fn is_live(&self) -> bool {
        matches!(&self.kind, Kind::Video(config) if config.pace == Pace::Realtime)
    }

    /// Reads the frames that are wanted, in order, until there is none left, `frames_max` were passed, or whoever takes
    /// them has enough. `spare` gives buffers back that are used again. The result is how many frames were passed.
    pub fn read(
        &self,
        frames_max: Option<usize>,
        wanted: &dyn Fn(usize, &str) -> bool,
        spare: &mut dyn FnMut() -> Option<Frame>,
        take: &mut dyn FnMut(Read) -> ControlFlow<()>,
    ) -> Result<usize, Failure> {
        match &self.kind {
            Kind::Pictures { folder, names } => {
                let frames_max = frames_max.unwrap_or(usize::MAX);
                for (index, name) in names.iter().enumerate().take(frames_max).filter(|(at, name)| wanted(*at, name)) {
                    let path = folder.join(name);
                    let frame = pictures::read(&path).map_err(|what| format!("the picture {} {what}", path.display()));
                    if take(Read { index, name, frame }).is_break() {
                        break;
                    }
                }
                Ok(names.len().min(frames_max))
            }
            Kind::Video(config) => read_video(config, frames_max, wanted, spare, take),
        }
    }
}

fn read_video(
    config: &capture::Config,
    frames_max: Option<usize>,
    wanted: &dyn Fn(usize, &str) -> bool,
    spare: &mut dyn FnMut() -> Option<Frame>,
    take: &mut dyn FnMut(Read) -> ControlFlow<()>,
) -> Result<usize, Failure> {
    let mailbox = Mailbox::new(1);
    let name = CameraId::new("eval").expect("a constant name");
    let camera = capture::start(0, name, config.clone(), frames_max.map(|frames| frames as u64), mailbox.clone());
    let mut passed = 0;
    loop {
        match mailbox.take(IDLE) {
            Ok((_, frame)) => {
                let index = passed;
                passed += 1;
                if !wanted(index, "") {
                    mailbox.recycle(0, frame);
                } else if take(Read { index, name: "", frame: Ok(frame) }).is_break() {
                    return Ok(passed);
                }
                while let Some(frame) = spare() {
                    mailbox.recycle(0, frame);
                }
            }
            Err(NoFrame::TimedOut) => {}
            Err(NoFrame::Ended) => return camera.failure().map_or(Ok(passed), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_source_is_told_in_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().to_str().unwrap();
        let refused = |text: &str| Source::open(text).err().expect("it was taken").sentence;
        assert!(refused(text).contains("holds no .jpg, .jpeg or .png"));
        assert!(refused("gopher://x").contains("is not known"));
        std::fs::write(dir.path().join("seqinfo.ini"), "frameRate=fast\n").unwrap();
        assert!(refused(text).contains("seqinfo.ini line 1: frameRate is \"fast\""));
    }

    #[test]
    fn a_sequence_is_read_from_its_own_folder_and_says_its_rate() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("frames")).unwrap();
        std::fs::write(dir.path().join("frames/1.jpg"), b"no picture").unwrap();
        std::fs::write(dir.path().join("seqinfo.ini"), "imDir=frames\nframeRate=30\nseqLength=7\n").unwrap();
        let source = Source::open(&format!("images:{}", dir.path().display())).unwrap();
        assert_eq!(
            (source.fps, source.length, source.names().unwrap()),
            (Some(30.0), Some(7), &["1.jpg".to_owned()][..])
        );
        let mut said = Vec::new();
        let passed = source.read(None, &|_, _| true, &mut || None, &mut |read| {
            said.push(read.frame.unwrap_err());
            ControlFlow::Continue(())
        });
        assert_eq!(passed.unwrap(), 1);
        assert!(said[0].contains("frames/1.jpg is neither a JPEG nor a PNG"), "{said:?}");
    }
}
