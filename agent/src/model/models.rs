//! The core of a device's models: one thing is under way at a time, and what follows from it waits until the record of it is
//! durable. Which assignment is followed is decided in `assign.rs`, what is said in `say.rs`.

use std::collections::BTreeSet;

use picket_shared::backoff::scatter;
use picket_shared::clock::Now;
use picket_shared::crypto::{Digest, PublicKey};
use picket_shared::model::{Assignment, Chunk, Encoding, LearnedState, Learns, Trusted, Want};
use picket_shared::status::CameraStats;

use super::fetch::{Fetch, Size};
use super::learned::Learned;
use super::record::{Phase, Place, Record, Release, Work};
use super::shelf::Found;
use super::verdict::{Seen, Terms, Verdict};
use super::{Device, News, Order, Refused, Trying, Wanted, files};
use crate::detect::agreement::BOXES_MIN;

/// Loading a model may take this long: TensorRT builds an engine for minutes.
pub(super) const LOADING_MS_MAX: u64 = 20 * 60_000;
/// Looking at stored frames may take this long: two models, some dozens of frames, and the lowest priority.
pub(super) const STORED_MS_MAX: u64 = 5 * 60_000;
/// A candidate that looks at a live frame and says nothing for so long hangs. One frame takes it a second where it is very slow.
pub(super) const HANG_MS: u64 = 30_000;
/// What runs anew has lasted after so long …
pub(super) const PROBATION_MS: u64 = 30_000;
/// … and so many frames.
pub(super) const PROBATION_FRAMES: u64 = 10;
/// How often a file whose bytes are wrong in the end is fetched anew.
const FETCHES_MAX: u8 = 2;
/// How often progress is said.
const SAY_MS: u64 = 2_000;
/// What is under way now, beside what is durable.
#[derive(Debug, Clone)]
pub(super) enum Course {
    /// Nothing.
    Idle,
    /// The record becomes durable, and then this follows.
    Keeping(Next),
    /// A file is looked for.
    Opening,
    /// It is fetched.
    Fetching(Encoding, Box<Fetch>),
    /// It is looked over.
    Checking,
    /// The time has not come.
    Waiting,
    /// The candidate is tried.
    Trying(Trial),
    /// It is loaded, to run.
    Switching,
    /// It runs, and must last.
    Lasting {
        since_ms: u64,
        /// Frames detected and refused when it began.
        before: Option<(u64, u64)>,
    },
}

/// What follows once the record is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    Open,
    Try,
    Switch,
}

#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// When this stage began.
    began_ms: u64,
    /// The last word of it.
    moved_ms: u64,
    pub(super) stage: Stage,
}

/// What a candidate is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is loaded.
    Loading,
    /// It looks at stored frames.
    Stored,
    /// It looks at live ones; whether enough stored ones were there to judge by.
    Live(bool),
}

impl Stage {
    /// How long it may be silent.
    fn still_ms_max(self) -> u64 {
        match self {
            Stage::Loading => LOADING_MS_MAX,
            Stage::Stored => STORED_MS_MAX,
            Stage::Live(_) => HANG_MS,
        }
    }
}

/// All models of one device.
#[derive(Debug, Clone)]
pub struct Models {
    pub(super) record: Record,
    pub(super) trusted: Option<Trusted>,
    /// What was wrong at the start, in a sentence each.
    wrong: Vec<String>,
    /// The number of the last order to keep.
    pub(super) kept: u64,
    pub(super) course: Course,
    /// Which file of the candidate is its turn.
    pub(super) file: usize,
    /// Encodings of it that did not do, and how often it was fetched in vain.
    pub(super) avoided: BTreeSet<Digest>,
    pub(super) fetches: u8,
    /// Bytes of the files before it.
    pub(super) bytes_before: u64,
    pub(super) seen: Option<Seen>,
    /// Between the last frame of the model before and the first one of what runs, where it was changed in this run.
    pub(super) swap_gap_ms: Option<f64>,
    /// An assignment that was refused, which changes nothing of what is under way.
    pub(super) refused: Option<Refused>,
    pub(super) device: Device,
    /// The key that signs the site's orders.
    pub(super) orders: Option<PublicKey>,
    pub(super) salt: u64,
    pub(super) drawn: u64,
    pub(super) online: bool,
    pub(super) said_ms: u64,
    pub(super) changed: bool,
    /// The learned head, which goes its own way.
    pub(super) learned: Learned,
    /// The last assignment, for when other heads fit than did.
    pub(super) heard: Option<Box<Assignment>>,
}

impl Models {
    /// Goes on where the record is, after [`Record::start`] and whatever failed to load since.
    pub fn new(found: Found, device: Device, salt: u32) -> Models {
        let (course, file, avoided) = (Course::Idle, 0, BTreeSet::new());
        let Found { record, trusted, problems } = found;
        Models {
            record,
            trusted,
            wrong: problems,
            kept: 0,
            course,
            file,
            avoided,
            fetches: 0,
            bytes_before: 0,
            seen: None,
            swap_gap_ms: None,
            refused: None,
            device,
            orders: None,
            salt: u64::from(salt),
            drawn: 0,
            online: false,
            said_ms: 0,
            changed: true,
            learned: Learned::default(),
            heard: None,
        }
    }

    /// Takes up what an earlier run left.
    pub fn begin(&mut self, now: Now, out: &mut Vec<Order>) {
        match self.record.work.as_ref().map(|work| work.phase) {
            None => {}
            Some(Phase::Fetch) => self.open(out),
            Some(Phase::Trial) => self.wait_or_try(now, out),
            Some(Phase::Probation) => self.course = Course::Lasting { since_ms: now.mono_ms, before: None },
        }
        self.move_on(now, out);
    }

    /// What is durable, or soon will be.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Orders are signed by this key from here on; by none, where the device is not enrolled.
    pub fn orders_by(&mut self, key: Option<PublicKey>) {
        self.orders = key;
    }

    /// A chunk of the blob of this digest has come.
    pub fn chunk(&mut self, now: Now, digest: &Digest, chunk: Chunk, out: &mut Vec<Order>) -> Result<(), Refused> {
        let unit = self.unit();
        if let Some(taken) = self.learned.chunk(now.mono_ms, digest, &chunk, unit, out) {
            self.changed = true;
            return taken;
        }
        // One that is not of this digest was on its way when it was not wanted any more.
        if let Course::Fetching(encoding, fetch) = &mut self.course
            && encoding.sha256 == *digest
            && fetch.came(now.mono_ms, chunk.index, chunk.bytes.len())?
        {
            out.push(Order::Write(chunk.index, chunk.bytes.into_vec()));
        }
        Ok(())
    }

    /// The shell reports.
    pub fn news(&mut self, now: Now, news: News, out: &mut Vec<Order>) {
        self.changed |= !matches!(news, News::Written(..) | News::Kept(_));
        match news {
            News::Kept(number) => self.is_kept(now, number, out),
            News::Opened(encoding, chunks) if matches!(self.course, Course::Opening) => {
                let chunk_bytes = self.wanted().map_or(1, |wanted| wanted.chunk_bytes);
                let size = Size { length: encoding.length, chunk_bytes };
                out.push(Order::Listen(Some(encoding.sha256)));
                let fetch = Fetch::new(now.mono_ms, size, chunks, self.unit());
                self.course = Course::Fetching(encoding, Box::new(fetch));
                self.install_if_whole(out);
            }
            News::Written(index, taken) => {
                if let Course::Fetching(_, fetch) = &mut self.course {
                    fetch.written(index, taken);
                    self.install_if_whole(out);
                }
            }
            News::Here if matches!(self.course, Course::Opening | Course::Checking) => self.next_file(out),
            News::Torn if matches!(self.course, Course::Checking) => {
                self.fetches += 1;
                if self.fetches >= FETCHES_MAX {
                    let what = format!("its bytes have another digest than the manifest says, {FETCHES_MAX} times");
                    self.give_up("model_digest", what, true, out);
                } else {
                    out.push(Order::Discard);
                    self.open(out);
                }
            }
            News::Unfit(encoding, word, what) if matches!(self.course, Course::Opening | Course::Checking) => {
                match encoding {
                    Some(encoding) if self.avoided.insert(encoding) => {
                        out.push(Order::Discard);
                        self.open(out);
                    }
                    _ => self.give_up(word, what, true, out),
                }
            }
            News::Here | News::Torn | News::Opened(..) | News::Unfit(..) => {}
            News::Trial(trying) => self.trying(now, trying, out),
            News::Switched(_) if matches!(self.course, Course::Switching) => {
                // What is gone back to has lasted.
                self.course = match self.record.work {
                    Some(_) => Course::Lasting { since_ms: now.mono_ms, before: None },
                    None => Course::Idle,
                };
            }
            News::NotSwitched(why) if matches!(self.course, Course::Switching) => {
                if self.record.work.is_some() {
                    self.record.go_back("model_load", format!("it could not be loaded: {why}"));
                } else {
                    self.wrong.push(format!("the model of before could not be loaded ({why}); restart the agent"));
                }
                self.keep(Next::Nothing, out);
            }
            News::Gap(gap) => self.swap_gap_ms = Some(gap.as_secs_f64() * 1000.0),
            News::Switched(_) | News::NotSwitched(_) => {}
        }
        self.move_on(now, out);
    }

    /// Everything up to this number is durable: what waited for it follows.
    fn is_kept(&mut self, now: Now, number: u64, out: &mut Vec<Order>) {
        if let (Course::Keeping(next), true) = (&self.course, number == self.kept) {
            let next = *next;
            self.course = Course::Idle;
            self.follow(now, next, out);
        }
    }

    /// There is a connection, or there is none any more.
    pub fn online(&mut self, now: Now, online: bool, out: &mut Vec<Order>) {
        self.online = online;
        self.changed = true;
        let unit = self.unit();
        if let Course::Fetching(encoding, fetch) = &mut self.course {
            out.push(Order::Listen(Some(encoding.sha256)));
            fetch.connected(now.mono_ms, unit);
        }
        self.learned.connected(now.mono_ms, unit, out);
    }

    /// Whoever judges by learned heads says how it is; nothing where nobody does.
    pub fn learned(&mut self, now: Now, judge: Option<(LearnedState, Learns)>, out: &mut Vec<Order>) {
        let (before, unit) = (self.learned.state(), self.unit());
        if self.learned.says(now.mono_ms, judge, unit, out)
            && let Some(assignment) = self.heard.take()
        {
            // Of what was assigned before, another head may fit now; the release was judged already.
            let learned = self.verified(now, &assignment, out).and_then(|outcome| outcome.learned);
            self.learned.assign(now.mono_ms, learned, unit, out);
            self.heard = Some(assignment);
        }
        self.changed |= before != self.learned.state();
        self.move_on(now, out);
    }

    /// What the cameras count: whether what runs anew looks at frames.
    pub fn cameras(&mut self, now: Now, cameras: &[CameraStats], out: &mut Vec<Order>) {
        let Course::Lasting { since_ms, before } = &mut self.course else { return };
        let detected: u64 = cameras.iter().map(|camera| camera.frames_detected).sum();
        let refused: u64 = cameras.iter().filter_map(|camera| camera.bad_input.get("frame")).sum();
        let (detected_before, refused_before) = *before.get_or_insert((detected, refused));
        let (detected, refused) = (detected.saturating_sub(detected_before), refused.saturating_sub(refused_before));
        if refused >= PROBATION_FRAMES && refused > detected {
            let what = format!("it failed on {refused} frames of {}", refused + detected);
            self.record.go_back("model_failing", what);
            // What ran before is loaded again, and must not last: it has.
            self.keep(Next::Switch, out);
        } else if now.mono_ms >= *since_ms + PROBATION_MS && detected >= PROBATION_FRAMES {
            self.record.commit();
            self.keep(Next::Nothing, out);
        }
        self.changed |= !matches!(self.course, Course::Lasting { .. });
    }

    /// The agent stops because it was asked to: that is no attempt that failed.
    pub fn stop(&mut self, out: &mut Vec<Order>) {
        let counted = matches!(self.course, Course::Trying(_) | Course::Switching | Course::Lasting { .. });
        if let Some(work) = self.record.work.as_mut().filter(|work| counted && work.attempts > 0) {
            work.attempts -= 1;
            self.keep_only(out);
        }
        out.push(Order::StopTrial);
    }

    /// Does what time asks for.
    pub fn move_on(&mut self, now: Now, out: &mut Vec<Order>) {
        let (now_ms, unit) = (now.mono_ms, self.unit());
        self.learned.move_on(now_ms, self.online, unit, out);
        match &mut self.course {
            Course::Fetching(encoding, fetch) => {
                if let Some(ranges) = fetch.ask(now_ms, unit).filter(|_| self.online) {
                    let chunk_bytes = fetch.size().chunk_bytes;
                    out.push(Order::Want(Want { sha256: encoding.sha256, chunk_bytes, ranges }));
                }
            }
            Course::Waiting => self.wait_or_try(now, out),
            Course::Trying(trial) => {
                let most_ms = trial.stage.still_ms_max();
                let still_ms = now_ms.saturating_sub(trial.moved_ms);
                if still_ms >= most_ms {
                    self.again(now, "model_trial_hang", format!("it said nothing for {} s", still_ms / 1000), out);
                }
            }
            _ => {}
        }
        let progress = matches!(self.course, Course::Fetching(..) | Course::Trying(_));
        if self.online && (self.changed || progress && now_ms >= self.said_ms + SAY_MS) {
            (self.changed, self.said_ms) = (false, now_ms);
            out.push(Order::Say(Box::new(self.state(now))));
        }
    }

    /// When [`Models::move_on`] is due at the latest.
    pub fn next_wakeup_ms(&self, now: Now) -> Option<u64> {
        let progress = |at_ms: Option<u64>| at_ms.into_iter().chain(self.online.then_some(self.said_ms + SAY_MS)).min();
        let of_models = match &self.course {
            Course::Fetching(_, fetch) => progress(fetch.next_wakeup_ms()),
            Course::Trying(trial) => progress(Some(trial.moved_ms + trial.stage.still_ms_max())),
            Course::Waiting => {
                let left_s =
                    self.record.work.as_ref().map_or(0, |work| work.not_before_s).saturating_sub(now.unix_ms / 1000);
                Some(now.mono_ms + left_s.clamp(1, 60) * 1000)
            }
            _ => None,
        };
        of_models.into_iter().chain(self.learned.next_wakeup_ms()).min()
    }

    /// What a person should know, in a sentence each.
    pub fn problems(&self, now: Now) -> Vec<String> {
        let mut problems = self.wrong.clone();
        if let Some((word, what)) = &self.refused {
            problems.push(format!("the assigned model is refused ({word}): {what}"));
        }
        problems.extend(self.learned.problem());
        let last = self.record.last.as_ref().filter(|_| self.record.work.is_none());
        if let Some((word, what)) = last.and_then(|last| last.why.as_ref()) {
            problems.push(format!("the assigned model does not run ({word}): {what}"));
        }
        if let Some(slow_ms) = self.slow_for_ms(now) {
            problems.push(format!("nothing new of the assigned model has come for {} s (model_slow)", slow_ms / 1000));
        }
        if self.trusted.as_ref().is_some_and(|trusted| trusted.is_frozen(now.unix_ms / 1000)) {
            problems.push(
                "no word of which model to run has come for days (model_frozen); it goes on with what it has".into(),
            );
        }
        problems
    }

    pub(super) fn slow_for_ms(&self, now: Now) -> Option<u64> {
        match &self.course {
            Course::Fetching(_, fetch) => fetch.slow_for_ms(now.mono_ms),
            _ => None,
        }
    }

    /// The files of the candidate.
    fn files(&self) -> Vec<Wanted> {
        let Some(Work { release: Some(Release { manifest, head }), place: Place::Slot(slot), .. }) = &self.record.work
        else {
            return Vec::new();
        };
        files(*slot, manifest, head.as_ref())
    }

    pub(super) fn wanted(&self) -> Option<Wanted> {
        self.files().into_iter().nth(self.file)
    }

    fn open(&mut self, out: &mut Vec<Order>) {
        if let Some(wanted) = self.wanted() {
            self.course = Course::Opening;
            out.push(Order::Open(Box::new(wanted), self.avoided.iter().copied().collect()));
        }
    }

    fn install_if_whole(&mut self, out: &mut Vec<Order>) {
        let (sha256, chunk_bytes) = match &self.course {
            Course::Fetching(encoding, fetch) if fetch.is_whole() => (encoding.sha256, fetch.size().chunk_bytes),
            _ => return,
        };
        out.extend([Order::Listen(None), Order::Want(Want { sha256, chunk_bytes, ranges: vec![] })]);
        if let Some(wanted) = self.wanted() {
            self.course = Course::Checking;
            out.push(Order::Install(Box::new(wanted)));
        }
    }

    /// One file is there; the next one, or the trial.
    fn next_file(&mut self, out: &mut Vec<Order>) {
        self.bytes_before += self.wanted().map_or(0, |wanted| wanted.artifact.length);
        (self.file, self.fetches) = (self.file + 1, 0);
        self.avoided.clear();
        if self.wanted().is_some() {
            return self.open(out);
        }
        let work = self.record.work.as_mut().expect("files are those of a candidate");
        work.phase = Phase::Trial;
        if let (Place::Slot(slot), Some(release)) = (work.place, work.release.clone()) {
            self.record.slots.insert(slot, release);
        }
        // That it is whole is durable before it is tried.
        self.keep(Next::Try, out);
    }

    /// Tries the candidate, where the time has come. The attempt is durable before it.
    fn wait_or_try(&mut self, now: Now, out: &mut Vec<Order>) {
        let Some(work) = &mut self.record.work else { return };
        if now.unix_ms / 1000 < work.not_before_s {
            self.course = Course::Waiting;
            return;
        }
        if work.release.is_none() {
            // What the configuration names needs no trial: it is what is gone back to.
            self.record.switch();
            return self.keep(Next::Switch, out);
        }
        if work.attempts >= work.trial.attempts {
            let attempts = work.attempts;
            let what = format!("it was loaded {attempts} times and its trial never came to an end");
            return self.give_up("model_crash", what, false, out);
        }
        work.attempts += 1;
        self.keep(Next::Try, out);
    }

    /// The trial failed in a way that chance can have a part in: once more, where that may be.
    fn again(&mut self, now: Now, word: &'static str, what: String, out: &mut Vec<Order>) {
        out.push(Order::StopTrial);
        let more = self.record.work.as_ref().is_some_and(|work| work.attempts < work.trial.attempts);
        if more {
            self.course = Course::Idle;
            self.wait_or_try(now, out);
        } else {
            let attempts = self.record.work.as_ref().map_or(0, |work| work.attempts);
            self.give_up(word, format!("{what}, in the last of {attempts} attempts"), false, out);
        }
    }

    fn trying(&mut self, now: Now, trying: Trying, out: &mut Vec<Order>) {
        let Course::Trying(trial) = &mut self.course else { return };
        trial.moved_ms = now.mono_ms;
        match trying {
            Trying::Loading | Trying::Idle => {}
            Trying::Loaded => (trial.stage, trial.began_ms) = (Stage::Stored, now.mono_ms),
            Trying::Stored(agreement) => {
                let judged = agreement.is_some_and(|agreement| agreement.boxes_a >= BOXES_MIN);
                (trial.stage, trial.began_ms) = (Stage::Live(judged), now.mono_ms);
                let terms = self.terms();
                if let Some(what) = terms.zip(agreement).and_then(|(terms, seen)| terms.refuses_stored(&seen)) {
                    return self.fail("model_trial_stored", what, out);
                }
            }
            Trying::Seen(seen) => self.seen = Some(seen),
            Trying::Unfit(word, what) => return self.fail(word, what, out),
            Trying::Crashed(what) => return self.again(now, "model_trial_crash", what, out),
        }
        let Course::Trying(Trial { stage: Stage::Live(judged), began_ms, .. }) = self.course else { return };
        let Some(terms) = self.terms() else { return };
        if terms.trial.shadow_frames == 0 && !judged {
            let what = "there are too few stored frames to judge by, and it is to look at no others".to_owned();
            return self.fail("model_trial_unseen", what, out);
        }
        let seen = self.seen.unwrap_or_else(Seen::nothing);
        match terms.verdict(&seen, now.mono_ms.saturating_sub(began_ms) / 1000) {
            Verdict::Wait => {}
            Verdict::Fail(word, what) => self.fail(word, what, out),
            Verdict::Pass => {
                out.push(Order::StopTrial);
                self.record.switch();
                self.keep(Next::Switch, out);
            }
        }
    }

    /// The trial's end.
    fn fail(&mut self, word: &'static str, what: String, out: &mut Vec<Order>) {
        out.push(Order::StopTrial);
        self.give_up(word, what, false, out);
    }

    fn terms(&self) -> Option<Terms> {
        let work = self.record.work.as_ref()?;
        let floors = work.release.as_ref()?.manifest.floors;
        Some(Terms { floors, trial: work.trial, memory_bytes: self.device.memory_bytes / 2 })
    }

    fn give_up(&mut self, word: &'static str, what: String, refused: bool, out: &mut Vec<Order>) {
        if matches!(self.course, Course::Fetching(..) | Course::Opening | Course::Checking) {
            out.extend([Order::Listen(None), Order::Discard]);
        }
        self.record.end(word, what, refused);
        self.keep(Next::Nothing, out);
    }

    /// Makes the record durable, and then goes on so.
    pub(super) fn keep(&mut self, next: Next, out: &mut Vec<Order>) {
        if next == Next::Open {
            (self.file, self.fetches, self.bytes_before) = (0, 0, 0);
            self.avoided.clear();
            self.seen = None;
        }
        self.keep_only(out);
        self.course = Course::Keeping(next);
        self.changed = true;
    }

    /// Makes it durable, and what is under way goes on.
    pub(super) fn keep_only(&mut self, out: &mut Vec<Order>) {
        self.kept += 1;
        out.push(Order::Keep(self.kept, Box::new(self.record.clone()), self.trusted.clone().map(Box::new)));
    }

    fn follow(&mut self, now: Now, next: Next, out: &mut Vec<Order>) {
        match next {
            Next::Nothing => {}
            Next::Open => self.open(out),
            Next::Try => {
                let Some(work) = &self.record.work else { return };
                // Whole, or the attempt counted: only the second is followed by the trial itself.
                if work.attempts == 0 || work.release.is_none() {
                    return self.wait_or_try(now, out);
                }
                let (Place::Slot(slot), Some(release)) = (work.place, work.release.clone()) else { return };
                let active = self.record.active;
                let running = self.record.release(active).cloned().map(Box::new);
                out.push(Order::Try(slot, Box::new(release), active, running));
                self.seen = None;
                let (began_ms, moved_ms) = (now.mono_ms, now.mono_ms);
                self.course = Course::Trying(Trial { began_ms, moved_ms, stage: Stage::Loading });
            }
            Next::Switch => {
                let active = self.record.active;
                out.push(Order::Load(active, self.record.release(active).cloned().map(Box::new)));
                self.course = Course::Switching;
                self.swap_gap_ms = None;
            }
        }
    }

    /// A number from 0 to below 1 that looks like chance.
    pub(super) fn unit(&mut self) -> f64 {
        self.drawn += 1;
        scatter([self.salt, self.drawn]) as f64 / (u64::MAX as f64 * 1.000_001)
    }
}
