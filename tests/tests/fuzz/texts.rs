//! Texts and files: names, addresses, configurations, status messages, pictures, models.

use std::cell::RefCell;
use std::io::Read;
use std::path::PathBuf;

use picket_agent::capture::ppm::{FRAME_BYTES_MAX, Pictures};
use picket_agent::config::{Config as AgentConfig, Overrides};
use picket_agent::cover::settings;
use picket_agent::detect::onnx;
use picket_agent::duty::Assignment;
use picket_agent::eval::truth::{csv, mot, towncentre, voc};
use picket_agent::frame::Frame;
use picket_agent::pictures::sequence;
use picket_agent::polygon::Polygon;
use picket_coordinator::authority::issue::key_of_request;
use picket_coordinator::config::{Config as CoordinatorConfig, Flags};
use picket_shared::duty::{Duty, How, StandbyDuty};
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{NodeId, SiteId, StationId};
use picket_shared::mqtt::BrokerUrl;
use picket_shared::status::{Health, Stats, Twin};
use picket_shared::topics::Topic;
use picket_shared::trust::certificate::Certificate;
use picket_shared::trust::door::{EnrolRequest, REQUEST_BYTES_MAX, RenewRequest};
use picket_shared::trust::token::Token;
use serde_json::Value;

use super::Verdict;

/// Two frames, because a picture is read in pieces of another size too.
pub(super) const PPM_HEAP_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX + 256 * 1024;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn sentence(error: &str) -> Verdict {
    let fine = error.len() > 8 && error.contains(' ') && !error.contains('\n');
    if fine { Ok(false) } else { Err(format!("a refusal that is not one sentence: {error:?}")) }
}

/// What a neighbour says of its station, and what a plan says of cameras there: nothing of it opens what is not allowed.
pub(super) fn neighbour(bytes: &[u8]) -> Verdict {
    let text = text(bytes);
    let (station, home) = (StationId::new("gate").unwrap(), NodeId::new("n1").unwrap());
    let duty = Duty { station: station.clone(), settings: text.clone(), model: "0123456789ab".into(), need_fps: 5 };
    let (ranks, goal) = (vec![], None);
    let planned = text.starts_with("[[camera]]").then_some(text);
    let standby = StandbyDuty { station, home, ranks, how: How::Camera, cameras: planned, goal };
    match settings::understand(&Assignment { standby, duty }, &AgentConfig::default()) {
        Ok(station) => {
            let network = |url: &str| {
                ["rtsp://", "http://", "https://"].iter().any(|scheme| url.to_lowercase().starts_with(scheme))
            };
            let shown: Vec<String> = station.cameras.iter().map(|camera| camera.camera.source.to_string()).collect();
            if shown.iter().all(|url| network(url)) {
                Ok(true)
            } else {
                Err(format!("{shown:?} may be opened for others"))
            }
        }
        Err(error) => sentence(&error),
    }
}

pub(super) fn topic(bytes: &[u8]) -> Verdict {
    let site = SiteId::new("yard").unwrap();
    let text = text(bytes);
    match Topic::parse(&site, &text) {
        Ok(topic) if topic.render(&site) == text => Ok(true),
        Ok(topic) => Err(format!("{text:?} was read as {topic:?}, which is another topic")),
        Err(error) => sentence(&error.to_string()),
    }
}

pub(super) fn broker_url(bytes: &[u8]) -> Verdict {
    match BrokerUrl::try_from(text(bytes)) {
        Ok(url) if BrokerUrl::try_from(url.to_string()).as_ref() == Ok(&url) => Ok(true),
        Ok(url) => Err(format!("{url:?} is not read back")),
        Err(error) if error.contains("write it as mqtt://host:1883") => Ok(false),
        Err(error) => Err(format!("a refusal without a remedy: {error}")),
    }
}

/// What is said at the door of enrolment, and what people carry there: requests with their certificate requests, certificates,
/// tokens.
pub(super) fn door(bytes: &[u8]) -> Verdict {
    let text = text(bytes);
    let cut = &bytes[..bytes.len().min(REQUEST_BYTES_MAX)];
    let request = serde_json::from_slice::<EnrolRequest>(cut).map(|request| request.csr);
    let request = request.or_else(|_| serde_json::from_slice::<RenewRequest>(cut).map(|request| request.csr));
    let mut accepted = match request.map(|csr| key_of_request(&csr)) {
        Ok(Ok(_)) => true,
        Ok(Err(refused)) => sentence(refused)?,
        Err(_) => false,
    };
    accepted |= Certificate::from_pem(&text).is_ok() | Certificate::from_der(bytes).is_ok();
    match Token::parse(&text) {
        Ok(token) if Token::parse(&token.text()).is_ok_and(|again| again.secret == token.secret) => accepted = true,
        Ok(_) => return Err("a token that is another one when it is written".into()),
        Err(error) => accepted |= sentence(&error.to_string())?,
    }
    Ok(accepted)
}

/// A file of this thread, in memory where there is such a place.
fn with_file<T>(bytes: &[u8], call: impl FnOnce(PathBuf) -> T) -> T {
    thread_local!(static DIR: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) });
    DIR.with_borrow_mut(|dir| {
        let make = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = dir.get_or_insert_with(make).path().join("config.toml");
        std::fs::write(&path, bytes).unwrap();
        call(path)
    })
}

fn configuration<T>(read: Result<T, Failure>) -> Verdict {
    match read {
        Ok(_) => Ok(true),
        Err(failure) if failure.exit != Exit::Config => Err(format!("the wrong exit code: {failure:?}")),
        Err(failure) if !failure.sentence.starts_with("configuration ") => Err(format!("no place is named: {failure}")),
        Err(_) => Ok(false),
    }
}

pub(super) fn agent_config(bytes: &[u8]) -> Verdict {
    with_file(bytes, |path| configuration(AgentConfig::read(Some(&path), &Overrides::default())))
}

pub(super) fn coordinator_config(bytes: &[u8]) -> Verdict {
    with_file(bytes, |path| configuration(CoordinatorConfig::read(&Flags { config: Some(path), ..Flags::default() })))
}

/// Health, twin and statistics, whichever it may be: what was read can be said again and means the same.
pub(super) fn status(bytes: &[u8]) -> Verdict {
    fn trip<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) -> Verdict {
        let Ok(message) = serde_json::from_slice::<T>(bytes) else { return Ok(false) };
        let said = serde_json::to_vec(&message).map_err(|error| format!("read, and cannot be said: {error}"))?;
        // A number that is none becomes null; the coordinator refuses it before it is said again.
        let value = |bytes| serde_json::from_slice::<Value>(bytes).map_err(|error| error.to_string());
        match serde_json::from_slice::<T>(&said) {
            Ok(again) if value(&serde_json::to_vec(&again).unwrap())? == value(&said)? => Ok(true),
            Ok(_) => Err("another message came back".to_owned()),
            Err(_) if text(&said).contains("null") => Ok(false),
            Err(error) => Err(format!("said, and cannot be read: {error}")),
        }
    }
    Ok(trip::<Health>(bytes)? | trip::<Twin>(bytes)? | trip::<Stats>(bytes)?)
}

/// What people have marked, in each format that it may be kept in.
pub(super) fn truth(bytes: &[u8]) -> Verdict {
    let text = text(bytes);
    let mut accepted = false;
    for read in [mot::parse, towncentre::parse, csv::parse] {
        match read(&text) {
            Ok(truth)
                if truth
                    .boxes()
                    .any(|marked| !(marked.area.x1 < marked.area.x2 && marked.area.y1 < marked.area.y2)) =>
            {
                return Err("a box without an inside was read".to_owned());
            }
            Ok(_) => accepted = true,
            Err(error) => accepted |= sentence(&error.to_string())?,
        }
    }
    accepted |= sequence::parse(&text).map_or_else(|error| sentence(&error), |_| Ok(true))?;
    let read = voc::add(&mut voc::empty(), "one.xml", &text);
    accepted |= read.map_or_else(|error| sentence(&error.to_string()), |()| Ok(true))?;
    Ok(accepted)
}

pub(super) fn polygon(bytes: &[u8]) -> Verdict {
    let Ok(points) = serde_json::from_slice::<Vec<[f64; 2]>>(bytes) else { return Ok(false) };
    let polygon = match Polygon::new(points) {
        Ok(polygon) => polygon,
        Err(error) => return sentence(&error),
    };
    if polygon.edges().count() != polygon.points().len() || polygon.contains([9.0, 9.0]) {
        return Err(format!("{polygon:?} is no closed polygon in its bounds"));
    }
    Ok(true)
}

/// Gives the bytes in pieces of a fixed size, as a pipe might.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.1.min(buffer.len()).min(self.0.len());
        buffer[..bytes].copy_from_slice(&self.0[..bytes]);
        self.0 = &self.0[bytes..];
        Ok(bytes)
    }
}

pub(super) fn ppm(bytes: &[u8]) -> Verdict {
    let read = |piece: usize| {
        let mut pictures = Pictures::new(Pieces(bytes, piece));
        let mut frame = Frame { taken_ms: 0, width: 0, height: 0, rgb: Vec::new() };
        let mut seen = Vec::new();
        loop {
            match pictures.read_into(&mut frame) {
                Ok(true) => {
                    let pixels = frame.width as usize * frame.height as usize;
                    if frame.rgb.len() != 3 * pixels || pixels == 0 {
                        return Err(format!("{}x{} with {} bytes", frame.width, frame.height, frame.rgb.len()));
                    }
                    seen.push((frame.width, frame.height, frame.rgb.first().copied()));
                }
                Ok(false) => return Ok((seen, String::new())),
                // What a refusal shows of the bytes depends on how far they were read.
                Err(error) => return Ok((seen, error.to_string().split('"').next().unwrap_or_default().to_owned())),
            }
        }
    };
    let (whole, in_pieces) = (read(usize::MAX)?, read(7)?);
    if whole != in_pieces {
        return Err(format!("read as {whole:?} at once and as {in_pieces:?} in pieces"));
    }
    Ok(whole.1.is_empty() && !whole.0.is_empty())
}

/// A second graph field with one tensor, "w", whose weights are in another file.
const EXTERNAL: [u8; 9] = [7 << 3 | 2, 7, 5 << 3 | 2, 5, 8 << 3 | 2, 1, b'w', 14 << 3, 1];

pub(super) fn onnx(bytes: &[u8]) -> Verdict {
    match onnx::scan(bytes) {
        Ok(_) => {}
        Err(error) => return sentence(&error.to_string()),
    }
    // Whatever passes, an external tensor behind it must not.
    match onnx::scan(&[bytes, &EXTERNAL].concat()) {
        Err(onnx::OnnxError::External(_)) => Ok(true),
        other => Err(format!("with an external tensor it is {other:?}")),
    }
}
