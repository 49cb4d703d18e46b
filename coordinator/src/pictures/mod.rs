//! Asks devices for pictures: says each request's order until it is answered, takes the answer in, and keeps it for as long as
//! was said. Whoever asks does so by the command line; nobody can by the page.
//!
//! The key that an answer is sealed for is in this process's memory alone. Where the coordinator is started again, what was
//! asked before cannot be read any more, and fails by that name.

pub mod command;
pub mod folder;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::clock::Now;
use picket_shared::codec::{decode, encode};
use picket_shared::config::within;
use picket_shared::crypto::{PARCEL_KEY_BYTES, Parcel, ParcelKey, hex, sha256};
use picket_shared::ids::{NodeId, RequestId};
use picket_shared::keyfile::KeyfileError;
use picket_shared::limits::{PICTURE_BYTES_MAX, PICTURE_PART_BYTES_MAX};
use picket_shared::picture::{PictureOrder, PicturePart, PictureState, Stage};
use picket_shared::topics::Topic;
use serde::Deserialize;
use serde_bytes::ByteBuf;

use crate::swarm::Refusal;
use folder::{Folder, Outcome, Request};

/// How often the folder is looked at for new requests.
pub const LOOK_MS: u64 = 1_000;
/// How often an order is said again that is not answered, or of whose answer nothing came for so long.
const SAY_AGAIN_MS: u64 = 4_000;
/// Requests that wait for an answer at once.
const OPEN_MAX: usize = 16;
/// How often what is too old is looked for.
const FORGET_MS: u64 = 60_000;
const MIB: u64 = 1024 * 1024;
const DAY_S: f64 = 86_400.0;

/// How long pictures are kept that have come.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How old a request may become with what came of it, in days.
    pub age_days_max: f64,
    /// All of them together; the oldest goes first.
    pub bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { age_days_max: 7.0, bytes_max: 256 * MIB }
    }
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        within("pictures.age_days_max", self.age_days_max, 0.0001..=3650.0)?;
        within("pictures.bytes_max", self.bytes_max, PICTURE_BYTES_MAX as u64 + MIB..=1 << 40)
    }
}

/// The requests of a running coordinator.
pub struct Pictures {
    config: Config,
    folder: Folder,
    audit: Arc<AuditLog>,
    open: BTreeMap<RequestId, Open>,
    /// Requests that this run has seen to their end.
    closed: std::collections::BTreeSet<RequestId>,
    first_look: bool,
    looked_ms: Option<u64>,
    forgot_ms: Option<u64>,
    complained: String,
}

/// One request that waits for its answer.
struct Open {
    request: Request,
    key: Option<ParcelKey>,
    public: [u8; PARCEL_KEY_BYTES],
    /// What the device says of it.
    state: PictureState,
    parcel: Option<Parcel>,
    parts: Vec<Option<Vec<u8>>>,
    /// When it was last said, or answered.
    moved_ms: Option<u64>,
}

impl Pictures {
    /// Those below the coordinator's data directory.
    pub fn new(config: Config, folder: Folder, audit: Arc<AuditLog>) -> Pictures {
        Pictures {
            config,
            folder,
            audit,
            open: BTreeMap::new(),
            closed: Default::default(),
            first_look: true,
            looked_ms: None,
            forgot_ms: None,
            complained: String::new(),
        }
    }

    /// Looks for new requests, says those that are to be said, and forgets what is too old. Says nothing without `speaks`:
    /// this coordinator does not lead, or has no broker.
    pub fn tick(&mut self, now: Now, speaks: bool, out: &mut Vec<(Topic, Vec<u8>)>) {
        let due = |last: Option<u64>, every_ms| last.is_none_or(|last| now.mono_ms >= last + every_ms);
        if !due(self.looked_ms, LOOK_MS) {
            return;
        }
        self.looked_ms = Some(now.mono_ms);
        let looked = self.look(now.unix_ms / 1000);
        let forgot = if due(self.forgot_ms, FORGET_MS) {
            self.forgot_ms = Some(now.mono_ms);
            self.forget()
        } else {
            Ok(())
        };
        let complaint = looked.and(forgot).err().map(|error| error.to_string()).unwrap_or_default();
        if complaint != self.complained {
            if !complaint.is_empty() {
                tracing::error!("{complaint}; requests for pictures wait");
            }
            self.complained = complaint;
        }
        let late: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| now.unix_ms / 1000 >= open.request.until_s)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            let sentence = "no answer came in time; see whether the device is there, and its clock";
            self.fail(now, &id, "no_answer", sentence, out);
        }
        for (id, open) in self.open.iter_mut().filter(|_| speaks) {
            if due(open.moved_ms, SAY_AGAIN_MS) {
                open.moved_ms = Some(now.mono_ms);
                out.push(open.order(id, false));
            }
        }
    }

    fn look(&mut self, now_s: u64) -> Result<(), KeyfileError> {
        for id in self.folder.list()? {
            if self.open.contains_key(&id) || self.closed.contains(&id) {
                continue;
            }
            let outcome = self.folder.outcome(&id)?;
            let stage = outcome.map(|outcome| outcome.stage);
            match (stage, self.folder.request(&id)) {
                (Some(Stage::Successful | Stage::Failed), _) => {
                    self.closed.insert(id);
                }
                (Some(Stage::Executing | Stage::Init), _) if self.first_look => {
                    let sentence = "the coordinator was started again, and the key of the answer is gone; ask anew";
                    self.settle(now_s, &id, "interrupted", sentence);
                }
                // It is being written.
                (_, Err(KeyfileError::Missing(_))) => {}
                (_, Err(error)) => return Err(error),
                (_, Ok(_)) if self.open.len() >= OPEN_MAX => {}
                (_, Ok(request)) => {
                    let Ok(key) = ParcelKey::generate() else { continue };
                    self.folder.settle(&id, &Outcome::default())?;
                    let public = key.public();
                    let (state, parcel, parts, moved_ms) = Default::default();
                    self.open.insert(id, Open { request, key: Some(key), public, state, parcel, parts, moved_ms });
                }
            }
        }
        self.first_look = false;
        Ok(())
    }

    /// Takes in what a device says of a request.
    pub fn heard(
        &mut self,
        now: Now,
        topic: &Topic,
        payload: &[u8],
        out: &mut Vec<(Topic, Vec<u8>)>,
    ) -> Result<(), Refusal> {
        let read = |error: picket_shared::codec::CodecError| (error.word(), format!("of a picture: {error}"));
        let (Topic::PictureState(node, id) | Topic::PicturePart(node, id)) = topic else { return Ok(()) };
        let Some(open) = self.open.get_mut(id).filter(|open| open.request.node == *node) else {
            return Err(("not_asked", format!("{node} speaks of a picture that nobody asked it for")));
        };
        open.moved_ms = Some(now.mono_ms);
        match topic {
            Topic::PictureState(..) => {
                let state = decode::<PictureState>(payload).map_err(read)?;
                self.state(now, id, state, out)?;
            }
            _ => open.part(&decode::<PicturePart>(payload).map_err(read)?)?,
        }
        if self.open.get(id).is_some_and(Open::is_whole) {
            self.received(now, id, out);
        }
        Ok(())
    }

    fn state(
        &mut self,
        now: Now,
        id: &RequestId,
        state: PictureState,
        out: &mut Vec<(Topic, Vec<u8>)>,
    ) -> Result<(), Refusal> {
        let open = self.open.get_mut(id).expect("the caller has looked");
        if state.stage < open.state.stage {
            return Err(("picture_state", "a request goes on and not back".into()));
        }
        match state.stage {
            Stage::Failed => {
                let plain = |text: &Option<String>| text.clone().unwrap_or_default();
                let word: String =
                    plain(&state.reason).chars().filter(|c| c.is_ascii_lowercase() || *c == '_').collect();
                self.fail(now, id, &word, &plain(&state.detail), out);
            }
            Stage::Successful if open.state.stage < Stage::Successful => {
                let theirs: Option<[u8; PARCEL_KEY_BYTES]> =
                    state.key.as_ref().and_then(|key| key.as_slice().try_into().ok());
                let key = theirs.zip(open.key.take());
                let parcel = key.and_then(|(theirs, ours)| ours.agree(&theirs, &open.public, id.as_str()));
                if parcel.is_none() {
                    self.fail(now, id, "key", "the device's key is none", out);
                    return Ok(());
                }
                if !state.blurred && !open.request.clear {
                    self.fail(now, id, "clear", "the device says that it is clear, which was not asked", out);
                    return Ok(());
                }
                open.parcel = parcel;
                open.parts = vec![None; (state.bytes as usize).div_ceil(PICTURE_PART_BYTES_MAX)];
                open.state = state;
            }
            Stage::Executing if open.state.stage == Stage::Init => {
                open.state = state;
                let outcome = Outcome { stage: Stage::Executing, ..Outcome::default() };
                let _ = self.folder.settle(id, &outcome);
            }
            _ => {}
        }
        Ok(())
    }

    /// All parts of an answer are there.
    fn received(&mut self, now: Now, id: &RequestId, out: &mut Vec<(Topic, Vec<u8>)>) {
        let open = self.open.get(id).expect("the caller has looked");
        let bytes: Vec<u8> = open.parts.iter().flatten().flatten().copied().collect();
        let digest = sha256(&bytes);
        if bytes.len() != open.state.bytes as usize || open.state.digest.as_ref().is_none_or(|told| **told != digest) {
            return self.fail(now, id, "digest", "the picture is not the one that the device told of", out);
        }
        let clip = open.state.media.as_deref() == Some("video/mp4");
        let name = if clip { "clip.mp4" } else { "picture.jpg" };
        let outcome = Outcome {
            stage: Stage::Successful,
            file: Some(name.into()),
            bytes: open.state.bytes,
            digest: Some(hex(&digest)),
            taken_ms: open.state.taken_ms,
            blurred: open.state.blurred,
            ..Outcome::default()
        };
        let how = if outcome.blurred { "blurred" } else { "clear" };
        let note = Note::about(id).by(&open.request.who);
        let note =
            note.with(format!("from {}, {how}, {} bytes, SHA-256 {}", open.request.node, bytes.len(), hex(&digest)));
        let written =
            self.audit.record(now.unix_ms / 1000, Act::PictureReceived, &note).map_err(|error| error.to_string());
        let kept = || self.folder.put(id, name, &bytes).and_then(|()| self.folder.settle(id, &outcome));
        match written.and_then(|_| kept().map_err(|error| error.to_string())) {
            Ok(()) => self.close(id, out),
            Err(sentence) => self.fail(now, id, "not_kept", &sentence, out),
        }
    }

    fn fail(&mut self, now: Now, id: &RequestId, word: &str, sentence: &str, out: &mut Vec<(Topic, Vec<u8>)>) {
        self.settle(now.unix_ms / 1000, id, word, sentence);
        self.close(id, out);
    }

    fn settle(&mut self, now_s: u64, id: &RequestId, word: &str, sentence: &str) {
        let detail: String = sentence.chars().filter(|c| !c.is_control()).take(300).collect();
        let note = Note::about(id).with(format!("{word}: {detail}"));
        let _ = self.audit.record(now_s, Act::PictureRefused, &note);
        let (reason, detail) = (Some(word.to_owned()), Some(detail));
        let outcome = Outcome { stage: Stage::Failed, reason, detail, ..Outcome::default() };
        if let Err(error) = self.folder.settle(id, &outcome) {
            tracing::error!("{error}; the request {id} failed ({word})");
        }
        self.closed.insert(id.clone());
    }

    fn close(&mut self, id: &RequestId, out: &mut Vec<(Topic, Vec<u8>)>) {
        if let Some(open) = self.open.remove(id) {
            out.push(open.order(id, true));
        }
        self.closed.insert(id.clone());
    }

    /// Deletes what is too old or too much, the oldest first.
    fn forget(&mut self) -> Result<(), KeyfileError> {
        let (mut kept, mut bytes) = (Vec::new(), 0);
        for id in self.folder.list()?.into_iter().filter(|id| !self.open.contains_key(id)) {
            let (size, at) = self.folder.size(&id);
            bytes += size;
            kept.push((at, id, size));
        }
        kept.sort_unstable();
        let (age_max, mut count) = (Duration::from_secs_f64(self.config.age_days_max * DAY_S), kept.len());
        for (at, id, size) in kept {
            let old = SystemTime::now().duration_since(at).is_ok_and(|age| age > age_max);
            if !old && bytes <= self.config.bytes_max && count <= folder::REQUESTS_MAX {
                break;
            }
            let now_s = picket_shared::calendar::unix_s();
            if self.audit.record(now_s, Act::PictureForgotten, &Note::about(&id)).is_err() {
                // To keep a picture for too long is worse than to forget it unwritten; the health tells of the log.
                tracing::error!("the picture of {id} is deleted, and that cannot be written down");
            }
            self.folder.forget(&id)?;
            self.closed.remove(&id);
            (bytes, count) = (bytes - size, count - 1);
        }
        Ok(())
    }
}

impl Open {
    fn order(&self, id: &RequestId, done: bool) -> (Topic, Vec<u8>) {
        let Request { node, who, why, what, event, camera, moment_ms, clear, until_s, .. } = self.request.clone();
        let missing = (0..).zip(&self.parts).filter(|(_, part)| part.is_none()).map(|(number, _)| number).collect();
        let key = ByteBuf::from(self.public);
        let order = PictureOrder { who, why, what, event, camera, moment_ms, clear, until_s, key, missing, done };
        let order = encode(&order).expect("the command line has checked it, and parts have their bound");
        (Topic::PictureOrder(NodeId::clone(&node), id.clone()), order)
    }

    fn part(&mut self, part: &PicturePart) -> Result<(), Refusal> {
        let Some(parcel) = &self.parcel else { return Ok(()) };
        let Some(place) = self.parts.get_mut(part.number as usize) else {
            return Err(("picture_part", format!("there is no part {}", part.number)));
        };
        let opened = parcel.open(part.number, &part.sealed);
        *place = Some(opened.ok_or_else(|| ("picture_part", format!("part {} does not open", part.number)))?);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.state.stage == Stage::Successful && self.parts.iter().all(Option::is_some)
    }
}

#[cfg(test)]
mod tests;
