//! Plays a file or a stream through a decoder child, and judges how it ended.
//!
//! Each end of a decoder becomes a sentence with its remedy and without secrets. What follows an end is not decided here.

use std::io;
use std::path::Path;

use picket_shared::calendar::unix_ms;

use super::Config;
use super::explain::explain;
use super::outlet::{End, Outlet};
use super::ppm::{Pictures, PpmError};
use super::process::{Cut, Decoder, Ended, Invocation};
use super::source::Source;

/// One decoder, from its start to its end. `begun_anew`: what repeats is played from its beginning.
pub(super) fn run(outlet: &mut Outlet, source: &Source, begun_anew: bool) -> Result<(), End> {
    if let Source::File(path) = source {
        check_file(path).map_err(End::Broken)?;
    }
    let start_s = if begun_anew { 0.0 } else { outlet.config.start_s };
    let invocation = Invocation::of(&Config { start_s, ..outlet.config.clone() }, source);
    let stop = outlet.stop.try_clone().map_err(|error| End::Broken(format!("out of resources ({error})")))?;
    let decoder = match Decoder::start(&invocation, &stop, outlet.due()) {
        Ok(decoder) => decoder,
        Err(error) => return Err(cannot_start(outlet, &invocation, &error)),
    };
    let mut pictures = Pictures::new(decoder);
    let read = deliver(outlet, &mut pictures);
    let decoder = pictures.into_input();
    match (decoder.cut(), read) {
        (Some(Cut::Stopped), _) => Err(End::Stopped),
        (Some(Cut::Stalled), _) => {
            let complaints = decoder.finish(false).map(|ended| ended.complaints).unwrap_or_default();
            Err(End::Stalled(tell(outlet, &outlet.stalled(), &complaints)))
        }
        (None, Err(Halt::End(end))) => Err(end),
        (None, read) => match decoder.finish(true) {
            Ok(ended) => judge(outlet, read.err(), ended),
            Err(error) => Err(End::Broken(format!("the decoder cannot be waited for ({error})"))),
        },
    }
}

/// What it means that ffmpeg, which says nothing of a sound video, complains of one.
const VIDEO_ERRORS: &str = "the video has errors";

/// Why no more pictures are read.
enum Halt {
    End(End),
    Bad(PpmError),
}

/// Moves pictures to the mailbox until the stream ends, enough have come, or the agent stops.
fn deliver(outlet: &mut Outlet, pictures: &mut Pictures<Decoder<'_>>) -> Result<(), Halt> {
    let program = outlet.config.decoder.as_ref().and_then(|words| words.first()).map_or("ffmpeg", String::as_str);
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let ours = outlet.config.decoder.is_none();
    let mut size = (0, 0);
    loop {
        let mut frame = outlet.buffer();
        if !pictures.read_into(&mut frame).map_err(Halt::Bad)? {
            return Ok(());
        }
        // What ffmpeg complains of while pictures come is a damaged one, of which it shows what it could read. Before the
        // first it has joined the stream in its middle.
        if ours
            && let Some(line) = pictures.input_mut().complaint()
            && size != (0, 0)
        {
            outlet.damaged(&tell(outlet, VIDEO_ERRORS, &[line]));
        }
        if size != (frame.width, frame.height) {
            size = (frame.width, frame.height);
            outlet.chosen(format!("{}x{} from {program}", size.0, size.1));
        }
        frame.taken_ms = unix_ms();
        outlet.deliver(frame).map_err(Halt::End)?;
        // Only now: the time that a taker needs is not the decoder's.
        pictures.input_mut().expect_by(outlet.due());
    }
}

/// What the end of a decoder's output means, given its last words.
fn judge(outlet: &Outlet, halt: Option<Halt>, ended: Ended) -> Result<(), End> {
    let ours = outlet.config.decoder.is_none();
    let broken = |what: String, complaints: &[String]| Err(End::Broken(tell(outlet, &what, complaints)));
    match halt {
        Some(Halt::End(end)) => Err(end),
        Some(Halt::Bad(error @ (PpmError::CutHeader | PpmError::CutPixels { .. } | PpmError::Io(_)))) => {
            broken(format!("{error}; the decoder ended with {}", ended.status), &ended.complaints)
        }
        Some(Halt::Bad(error @ PpmError::Size { .. })) => {
            broken(format!("the decoder wrote {error}; let the camera or the decoder make it smaller"), &[])
        }
        Some(Halt::Bad(error)) => broken(
            format!("the decoder wrote {error}; it must write PPM pictures and nothing else to its standard output"),
            &[],
        ),
        None if !ended.status.success() => {
            broken(format!("the decoder ended with {}", ended.status), &ended.complaints)
        }
        // At its log level ffmpeg says nothing of a sound video; what other decoders say may mean nothing.
        None if ours && !ended.complaints.is_empty() => broken(VIDEO_ERRORS.to_owned(), &ended.complaints),
        None => Ok(()),
    }
}

/// The error of a command line that could not be started. A program that is not there will not come by waiting.
fn cannot_start(outlet: &Outlet, invocation: &Invocation, error: &io::Error) -> End {
    let program = invocation.words.first().map_or("", String::as_str);
    let remedy = match (&outlet.config.decoder, error.kind()) {
        (None, _) => "install it (on Debian: apt install ffmpeg), or set decoder to another one's command line",
        (Some(_), _) => "install it, or correct the first word of decoder",
    };
    let reason = outlet.config.source.redact(&format!("the decoder {program} cannot be started ({error}); {remedy}"));
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => End::NoDecoder(reason),
        _ => End::Broken(reason),
    }
}

/// Secrets go first: in a complaint that was cut they could not be recognised. ffmpeg calls a stream by where it read its
/// name, and a person wants the name.
fn tell(outlet: &Outlet, what: &str, complaints: &[String]) -> String {
    let source = &outlet.config.source;
    let named = complaints.iter().map(|line| line.replace("pipe:0:", &format!("{source}:")));
    let complaints: Vec<String> = named.map(|line| source.redact(&line)).collect();
    explain(&source.redact(what), &complaints)
}

/// Finds out what is wrong with a file before a decoder says it in its own words.
fn check_file(path: &Path) -> Result<(), String> {
    let reason = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "it does not exist; check the path".to_owned(),
        Err(error) => format!("it cannot be read ({error}); check its permissions"),
        Ok(meta) if meta.is_dir() => "it is a directory; name a video file in it".to_owned(),
        Ok(meta) if meta.is_file() && meta.len() == 0 => "it is empty; check that it was copied to its end".to_owned(),
        Ok(_) => return Ok(()),
    };
    Err(reason)
}
