//! Pictures on the command line: ask for one, look what became of it, take it. It works beside a running coordinator.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Subcommand;
use picket_shared::audit::command::failure;
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::calendar::unix_s;
use picket_shared::crypto::secret_hex;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{CameraId, EventId, NodeId, RequestId};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::limits::{PICTURE_LIFE_S_MAX, PICTURE_WHO_CHARS_MAX, PICTURE_WHY_CHARS_MAX};
use picket_shared::picture::{Stage, What, check_reason};

use super::folder::{Folder, Outcome, Request};
use crate::authority::Authority;
use crate::config::{Config, Flags};

/// Random bytes of a request's id.
const ID_BYTES: usize = 12;
/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(200);

/// What can be done about pictures.
#[derive(Subcommand)]
pub enum PictureCommand {
    /// Ask a device for a picture; prints the request's id. Who asks and why is written down here and there
    Ask(Ask),
    /// Write a picture that has come to a file
    Get {
        /// The request's id
        id: RequestId,
        /// The file; by default the id, in this folder
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Every request and what became of it: one JSON object a line
    List {
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
}

/// A request.
#[derive(clap::Args)]
pub struct Ask {
    /// Which device
    node: NodeId,
    /// Of this event, as the archive and the dashboard name it
    #[arg(long, conflicts_with = "camera", required_unless_present = "camera")]
    event: Option<EventId>,
    /// Of this camera, as it is now
    #[arg(long)]
    camera: Option<CameraId>,
    /// In place of now: the picture that was kept nearest to this moment, in seconds since 1970
    #[arg(long, requires = "camera", value_name = "SECONDS")]
    at: Option<u64>,
    /// The event's clip in place of its picture
    #[arg(long, requires = "event")]
    clip: bool,
    /// With people as they are. Only where the device's own configuration allows that
    #[arg(long)]
    clear: bool,
    /// Who asks: your name
    #[arg(long)]
    who: String,
    /// Why
    #[arg(long)]
    why: String,
    /// For how long it stands
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Wait until it is answered
    #[arg(long)]
    wait: bool,
    /// Which coordinator
    #[command(flatten)]
    flags: Flags,
}

/// Does what was asked.
pub fn run(command: &PictureCommand) -> Result<(), Failure> {
    match command {
        PictureCommand::Ask(ask) => self::ask(ask),
        PictureCommand::Get { id, out, flags } => get(id, out.clone(), flags),
        PictureCommand::List { flags } => list(flags),
    }
}

fn disk(error: KeyfileError) -> Failure {
    Failure::new(Exit::Disk, error.to_string())
}

fn ask(ask: &Ask) -> Result<(), Failure> {
    let config = Config::read(&ask.flags)?;
    let wrong = |what: String| Failure::new(Exit::Config, what);
    check_reason("who asks (--who)", &ask.who, PICTURE_WHO_CHARS_MAX).map_err(wrong)?;
    check_reason("why (--why)", &ask.why, PICTURE_WHY_CHARS_MAX).map_err(wrong)?;
    if !(1..=PICTURE_LIFE_S_MAX / 60).contains(&ask.minutes) {
        return Err(wrong(format!("--minutes is {}; give it 1 to {}", ask.minutes, PICTURE_LIFE_S_MAX / 60)));
    }
    if !Authority::exists(&config.authority_dir()) {
        let sentence = "this site has no authority, and devices give pictures by signed orders only; `picket-coordinator enrol` \
                        makes one";
        return Err(Failure::new(Exit::Denied, sentence));
    }
    let random = secret_hex::<ID_BYTES>().map_err(|error| Failure::new(Exit::System, error.to_string()))?;
    let id = RequestId::new(random).expect("hexadecimal digits are a name");
    let now_s = unix_s();
    let request = Request {
        node: ask.node.clone(),
        who: ask.who.trim().to_owned(),
        why: ask.why.trim().to_owned(),
        what: if ask.clip { What::Clip } else { What::Picture },
        event: ask.event.clone(),
        camera: ask.camera.clone(),
        moment_ms: ask.at.map(|at_s| at_s.saturating_mul(1000)),
        clear: ask.clear,
        asked_s: now_s,
        until_s: now_s + ask.minutes * 60,
    };
    let of = match (&request.event, &request.camera) {
        (Some(event), _) => format!("event {event}"),
        (_, Some(camera)) => format!("camera {camera}"),
        _ => String::new(),
    };
    let clear = if ask.clear { ", clear" } else { "" };
    let note = Note::about(&id).by(&request.who).with(format!("{} {of}{clear}; why: {}", request.node, request.why));
    let log = AuditLog::open(&config.data_dir, now_s).map_err(failure)?;
    log.record(now_s, Act::PictureAsked, &note).map_err(failure)?;
    let folder = Folder::below(&config.data_dir);
    folder.ask(&id, &request).map_err(disk)?;
    said(writeln!(std::io::stdout(), "{id}"))?;
    if ask.wait { wait(&folder, &id, Duration::from_secs(ask.minutes * 60)) } else { Ok(()) }
}

fn wait(folder: &Folder, id: &RequestId, at_most: Duration) -> Result<(), Failure> {
    let until = Instant::now() + at_most + LOOK;
    while Instant::now() < until {
        let outcome = folder.outcome(id).map_err(disk)?.unwrap_or_default();
        match outcome.stage {
            Stage::Successful => return Ok(()),
            Stage::Failed => return Err(failed(&outcome)),
            _ => std::thread::sleep(LOOK),
        }
    }
    Err(Failure::new(Exit::Unfinished, "no answer came in time; is the coordinator running?"))
}

fn failed(outcome: &Outcome) -> Failure {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Failure::new(Exit::Denied, format!("no picture ({}): {}", text(&outcome.reason), text(&outcome.detail)))
}

fn get(id: &RequestId, out: Option<PathBuf>, flags: &Flags) -> Result<(), Failure> {
    let config = Config::read(flags)?;
    let folder = Folder::below(&config.data_dir);
    let request = folder.request(id).map_err(|error| match error {
        KeyfileError::Missing(_) => Failure::new(Exit::Denied, format!("there is no request {id}, or no more")),
        error => disk(error),
    })?;
    let outcome = folder.outcome(id).map_err(disk)?.unwrap_or_default();
    let Some(name) = outcome.file.as_ref().filter(|_| outcome.stage == Stage::Successful) else {
        return Err(match outcome.stage {
            Stage::Failed => failed(&outcome),
            _ => Failure::new(Exit::Unfinished, "it is not answered yet; is the coordinator running?"),
        });
    };
    let bytes = folder.get(id, name).map_err(disk)?;
    let log = AuditLog::open(&config.data_dir, unix_s()).map_err(failure)?;
    log.record(unix_s(), Act::PictureFetched, &Note::about(id).by(&request.who)).map_err(failure)?;
    let end = name.rsplit('.').next().unwrap_or("jpg");
    let out = out.unwrap_or_else(|| format!("{id}.{end}").into());
    keyfile::write_secret(&out, &bytes).map_err(disk)?;
    said(writeln!(std::io::stdout(), "{}", out.display()))
}

fn list(flags: &Flags) -> Result<(), Failure> {
    let folder = Folder::below(&Config::read(flags)?.data_dir);
    let mut out = std::io::stdout().lock();
    for id in folder.list().map_err(disk)? {
        let Ok(request) = folder.request(&id) else { continue };
        let outcome = folder.outcome(&id).map_err(disk)?.unwrap_or_default();
        said(writeln!(out, "{}", serde_json::json!({ "id": id, "request": request, "outcome": outcome })))?;
    }
    Ok(())
}

/// The reader may have seen enough (`| head`).
fn said(written: std::io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Disk, format!("the output cannot be written ({error})")))
        }
        _ => Ok(()),
    }
}
