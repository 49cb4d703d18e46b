//! Answers orders for pictures: writes down who asks, has the picture fetched, seals it for who asked, and says it in parts.
//! A thread of its own, because it waits for the disk and for cameras. What is allowed is the desk's to say.
//!
//! Nothing is done before it is written down, and a picture that cannot be written down does not leave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::calendar::unix_s;
use picket_shared::codec::encode;
use picket_shared::crypto::{PARCEL_KEY_BYTES, ParcelKey, hex, sha256};
use picket_shared::ids::{NodeId, RequestId};
use picket_shared::limits::{PICTURE_BYTES_MAX, PICTURE_PART_BYTES_MAX};
use picket_shared::picture::{PictureOrder, PicturePart, PictureState, Stage, What};
use picket_shared::topics::Topic;
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;

use super::desk::{Desk, Step, failed};
use super::{Config, Given, Refusal};
use crate::sinks::Sinks;

/// What may wait for the clerk: more orders than this at once are said again by who asks.
const JOBS_MAX: usize = 64;
/// What may wait for the courier.
const WORDS_MAX: usize = 4;
/// Answers that are kept for who asks for a part again.
const ANSWERS_MAX: usize = 4;

/// What the clerk is given.
#[derive(Debug, Clone)]
pub enum Job {
    /// An order that the coordinator signed, and the time by which it ends.
    Order(RequestId, Box<PictureOrder>, u64),
    /// An order was refused before anybody looked into it: a word and a sentence.
    Refused(&'static str, String),
    /// A picture was fetched, or not.
    Fetched(RequestId, Result<Given, Refusal>),
}

/// The way to the clerk.
pub struct Clerk {
    jobs: SyncSender<Job>,
    /// What is to be said, in this order.
    pub words: mpsc::Receiver<(Topic, Vec<u8>)>,
}

impl Clerk {
    /// Starts the thread. What an earlier run left unfinished is told as that.
    pub fn start(
        config: Config,
        node: NodeId,
        data_dir: &Path,
        audit: Arc<AuditLog>,
        sinks: Arc<Sinks>,
    ) -> std::io::Result<Clerk> {
        let ((jobs, given), (say, words)) = (sync_channel(JOBS_MAX), mpsc::channel(WORDS_MAX));
        let mut desk = Desk::new(config);
        recall(&mut desk, data_dir, &audit);
        let mut work = Work {
            node,
            desk,
            audit,
            sinks,
            say,
            answers: BTreeMap::new(),
            asked: BTreeMap::new(),
            jobs: jobs.clone(),
        };
        std::thread::Builder::new().name("clerk".into()).spawn(move || work.run(&given))?;
        Ok(Clerk { jobs, words })
    }

    /// Gives it something to do. Never waits: what there is no room for is said again by who asks.
    pub fn give(&self, job: Job) {
        let _ = self.jobs.try_send(job);
    }
}

/// Learns from the audit log what was asked before. Requests that never came to an end are ended now.
fn recall(desk: &mut Desk, data_dir: &Path, audit: &AuditLog) {
    let (asked, ended) = (Act::PictureAsked.word(), [Act::PictureSent.word(), Act::PictureRefused.word()]);
    let mut known: BTreeMap<String, (u64, bool)> = BTreeMap::new();
    // A damaged log tells as much as there is; that it is damaged is told elsewhere.
    let _ = AuditLog::check(data_dir, None, |line| {
        let Some(about) = &line.about else { return };
        if line.act == asked {
            known.insert(about.clone(), (line.time, false));
        } else if ended.contains(&line.act)
            && let Some(known) = known.get_mut(about)
        {
            known.1 = true;
        }
    });
    for (id, (asked_s, ended)) in known {
        let Ok(id) = RequestId::new(id) else { continue };
        if !ended {
            let note = Note::about(&id).with("interrupted: the agent was started again");
            let _ = audit.record(unix_s(), Act::PictureRefused, &note);
        }
        desk.recall(id, asked_s);
    }
}

struct Work {
    node: NodeId,
    desk: Desk,
    audit: Arc<AuditLog>,
    sinks: Arc<Sinks>,
    say: mpsc::Sender<(Topic, Vec<u8>)>,
    /// The sealed parts of what was answered.
    answers: BTreeMap<RequestId, Vec<Vec<u8>>>,
    /// The orders that are being answered.
    asked: BTreeMap<RequestId, PictureOrder>,
    jobs: SyncSender<Job>,
}

impl Work {
    /// Works until nobody listens any more.
    fn run(&mut self, given: &Receiver<Job>) {
        while let Ok(job) = given.recv() {
            match job {
                Job::Order(id, order, now_s) => self.order(now_s, &id, *order),
                Job::Refused(word, detail) => {
                    let note = Note::about(word).with(detail);
                    let _ = self.audit.record_damped(unix_s(), Act::OrderRefused, &note);
                }
                Job::Fetched(id, fetched) => self.fetched(&id, fetched),
            }
            if self.say.is_closed() {
                return;
            }
        }
    }

    fn order(&mut self, now_s: u64, id: &RequestId, order: PictureOrder) {
        self.answers.retain(|id, _| self.desk.is_wanted(now_s, id));
        match self.desk.take(now_s, id, &order) {
            Step::Forget => drop(self.answers.remove(id)),
            Step::Again(missing) => {
                self.say_state(id);
                self.say_parts(id, Some(&missing));
            }
            Step::Refuse((word, sentence)) => {
                // Whoever signs can ask without end; that must not push out what matters.
                let note = Note::about(id).by(&order.who).with(format!("{word}: {sentence}; {}", meaning(&order)));
                let _ = self.audit.record_damped(unix_s(), Act::PictureRefused, &note);
                self.say_state(id);
            }
            Step::Begin => {
                let note = Note::about(id).by(&order.who).with(meaning(&order));
                if let Err(error) = self.audit.record(unix_s(), Act::PictureAsked, &note) {
                    return self.end(id, failed(&("not_written_down", error.to_string())));
                }
                self.say_state(id);
                self.fetch(id, &order);
                self.asked.insert(id.clone(), order);
            }
        }
    }

    /// Cameras and clips take their time; other requests do not wait for that.
    fn fetch(&self, id: &RequestId, order: &PictureOrder) {
        let (sinks, jobs, id, order) = (Arc::clone(&self.sinks), self.jobs.clone(), id.clone(), order.clone());
        let work = move || {
            let fetched = match (&order.event, &order.camera, order.moment_ms) {
                (Some(event), ..) => sinks.kept_picture(event, order.what == What::Clip, order.clear),
                (_, Some(camera), Some(moment_ms)) => sinks.picture_near(camera, moment_ms, order.clear),
                (_, Some(camera), None) => sinks.picture_now(camera, order.clear),
                _ => Err(("no_picture", "it names nothing".into())),
            };
            let _ = jobs.send(Job::Fetched(id, fetched));
        };
        // Without a thread it stays unanswered, and ends with its time.
        let _ = std::thread::Builder::new().name("picture".into()).spawn(work);
    }

    fn fetched(&mut self, id: &RequestId, fetched: Result<Given, Refusal>) {
        let Some(order) = self.asked.remove(id) else { return };
        let now_s = unix_s();
        let answered = fetched.and_then(|given| {
            if given.bytes.len() > PICTURE_BYTES_MAX {
                return Err(("too_large", format!("it has more than {PICTURE_BYTES_MAX} bytes; ask for the picture")));
            }
            // The last look before it goes: nothing clear leaves where blurred was asked.
            if !given.blurred && !order.clear {
                return Err((
                    "kept_clear",
                    "it is kept clear here, and people cannot be hidden in it afterwards".into(),
                ));
            }
            self.seal(id, &order, &given).ok_or_else(|| ("key", "its key is none".to_owned()))
        });
        let written = match &answered {
            Ok((state, _)) => {
                let digest = state.digest.as_ref().map(|digest| hex(digest)).unwrap_or_default();
                let how = if state.blurred { "blurred" } else { "clear" };
                let note =
                    Note::about(id).by(&order.who).with(format!("{how}, {} bytes, SHA-256 {digest}", state.bytes));
                self.audit.record(now_s, Act::PictureSent, &note)
            }
            Err((word, sentence)) => {
                let note = Note::about(id).by(&order.who).with(format!("{word}: {sentence}"));
                self.audit.record(now_s, Act::PictureRefused, &note)
            }
        };
        match (answered, written) {
            (_, Err(error)) => self.end(id, failed(&("not_written_down", error.to_string()))),
            (Err(refusal), Ok(_)) => self.end(id, failed(&refusal)),
            (Ok((state, parts)), Ok(_)) => {
                while self.answers.len() >= ANSWERS_MAX {
                    self.answers.pop_first();
                }
                self.answers.insert(id.clone(), parts);
                self.end(id, state);
                self.say_parts(id, None);
            }
        }
    }

    /// Seals an answer for who asked, in parts; nothing where his key is none.
    fn seal(&self, id: &RequestId, order: &PictureOrder, given: &Given) -> Option<(PictureState, Vec<Vec<u8>>)> {
        let receiver: [u8; PARCEL_KEY_BYTES] = order.key.as_slice().try_into().ok()?;
        let key = ParcelKey::generate().ok()?;
        let public = key.public();
        let parcel = key.agree(&receiver, &receiver, id.as_str())?;
        let parts = (0..).zip(given.bytes.chunks(PICTURE_PART_BYTES_MAX));
        let parts = parts.map(|(number, part)| parcel.seal(number, part)).collect();
        let state = PictureState {
            stage: Stage::Successful,
            reason: None,
            detail: None,
            media: Some(given.media.to_owned()),
            bytes: given.bytes.len() as u32,
            digest: Some(ByteBuf::from(sha256(&given.bytes))),
            taken_ms: given.taken_ms,
            blurred: given.blurred,
            key: Some(ByteBuf::from(public)),
        };
        Some((state, parts))
    }

    fn end(&mut self, id: &RequestId, state: PictureState) {
        self.desk.settle(id, state);
        self.say_state(id);
    }

    fn say_state(&self, id: &RequestId) {
        if let Some(state) = self.desk.state(id) {
            let state = encode(state).expect("a state of ours keeps its own bounds");
            let _ = self.say.blocking_send((Topic::PictureState(self.node.clone(), id.clone()), state));
        }
    }

    /// All parts, or those of these numbers.
    fn say_parts(&self, id: &RequestId, numbers: Option<&[u32]>) {
        for (number, sealed) in (0..).zip(self.answers.get(id).into_iter().flatten()) {
            if numbers.is_none_or(|numbers| numbers.contains(&number)) {
                let part = PicturePart { number, sealed: ByteBuf::from(sealed.clone()) };
                let part = encode(&part).expect("a part of ours keeps its own bounds");
                let _ = self.say.blocking_send((Topic::PicturePart(self.node.clone(), id.clone()), part));
            }
        }
    }
}

/// What is asked and why, for the audit log.
fn meaning(order: &PictureOrder) -> String {
    let what = if order.what == What::Clip { "clip" } else { "picture" };
    let clear = if order.clear { ", clear" } else { "" };
    let of = match (&order.event, &order.camera, order.moment_ms) {
        (Some(event), ..) => format!("event {event}"),
        (_, Some(camera), Some(moment_ms)) => format!("camera {camera} at {}", moment_ms / 1000),
        (_, Some(camera), None) => format!("camera {camera} now"),
        _ => "nothing".into(),
    };
    format!("{what} of {of}{clear}; why: {}", order.why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::live;
    use picket_shared::codec::decode;
    use picket_shared::ids::{Boot, CameraId};

    const NOW_S: u64 = 1_800_000_000;

    /// A clerk, what it says, and an order that it has begun to answer.
    fn asked(dir: &Path, clear: bool) -> (Work, mpsc::Receiver<(Topic, Vec<u8>)>, RequestId) {
        let (jobs, _) = sync_channel(JOBS_MAX);
        let (say, words) = mpsc::channel(64);
        let config = crate::config::Config {
            data_dir: dir.to_owned(),
            live: live::Config { enabled: false, ..live::Config::default() },
            ..crate::config::Config::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sinks = Arc::new(runtime.block_on(Sinks::open(&config, Boot(1), None)));
        let policy = Config { requests: crate::privacy::Requests::Clear, ..Config::default() };
        let order = PictureOrder {
            who: "M. Jansen".into(),
            why: "a bag was left".into(),
            what: What::default(),
            event: None,
            camera: CameraId::new("front").ok(),
            moment_ms: None,
            clear,
            until_s: NOW_S + 600,
            key: ByteBuf::from(ParcelKey::generate().unwrap().public()),
            missing: vec![],
            done: false,
        };
        let mut work = Work {
            node: NodeId::new("edge").unwrap(),
            desk: Desk::new(policy),
            audit: Arc::new(AuditLog::open(dir, NOW_S).unwrap()),
            sinks,
            say,
            answers: BTreeMap::new(),
            asked: BTreeMap::new(),
            jobs,
        };
        let id = RequestId::new("7").unwrap();
        assert_eq!(work.desk.take(NOW_S, &id, &order), Step::Begin);
        work.asked.insert(id.clone(), order);
        (work, words, id)
    }

    /// Whoever looks for the picture may err: what is clear goes to nobody who did not ask for it so.
    #[test]
    fn nothing_clear_leaves_where_blurred_was_asked_whatever_is_handed_to_the_clerk() {
        for (clear, blurred, leaves) in [(false, false, false), (false, true, true), (true, false, true)] {
            let dir = tempfile::tempdir().unwrap();
            let (mut work, mut words, id) = asked(dir.path(), clear);
            let bytes = vec![7; 1000];
            work.fetched(&id, Ok(Given { bytes, media: "image/jpeg", taken_ms: 1, blurred }));
            let (mut parts, mut reason) = (0, None);
            while let Ok((topic, said)) = words.try_recv() {
                match topic {
                    Topic::PicturePart(..) => parts += 1,
                    _ => reason = decode::<PictureState>(&said).unwrap().reason,
                }
            }
            let expect = (!leaves).then(|| "kept_clear".to_owned());
            assert_eq!((parts > 0, reason), (leaves, expect), "asked clear: {clear}, blurred: {blurred}");
            assert_eq!(work.answers.contains_key(&id), leaves);
        }
    }
}
