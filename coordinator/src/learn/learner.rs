//! The learner of one lineage: takes in what stations say, makes steps, tells the head, and says what to release. Every change of its
//! state is a [`Record`] first, so that a crash anywhere is no crash: what was in the log is done again in its order. Pure.
//!
//! Nothing that it asks to be said may be said before the records that it asked for with it are durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::ids::NodeId;
use picket_shared::learn::label::{Label, Labels};
use picket_shared::learn::lineage::{Lineage, LineageId};
use picket_shared::learn::message::{HeadDelta, HeadFull, HeadUpdate, LearnAck, RootSamples};
use picket_shared::learn::view::{CurvePoint, Fate, LearnerView, Learning, Mixing};

mod release;
mod view;

pub use self::release::{Path, Release};
use super::change::Change;
pub use super::order::Order;
use super::record::{Record, bytes_of, numbers_of};
use super::root::{Places, RootSet};
use super::said::{Said, by_node};
use super::star::{Flush, Refused, Settings, Star, Taken};
use super::voice::{Voice, Words};

/// Steps are no nearer to each other than this.
pub const FLUSH_MS_MIN: u64 = 250;
/// Of rows with more numbers than these together, steps are farther from each other in proportion: what a step costs grows with them,
/// and must leave the processor to those who speak.
pub const FLUSH_CELLS: usize = 320_000;
/// A single station's news waits for others for so long.
pub const FLUSH_MS_MAX: u64 = 30_000;
/// Releases are no nearer to each other than this.
pub const RELEASE_MS_MIN: u64 = 60_000;
/// No head that is found at the broker has a higher version: it must leave room for those that follow, and be a whole number in JSON.
pub const FOUND_VERSION_MAX: u64 = 1 << 53;
/// Released heads that can be gone back to.
pub const KEPT_MAX: usize = 8;
/// Points of the curve; when there are more, every second one goes.
pub const CURVE_MAX: usize = 128;

/// What a site says about learning.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Which heads.
    pub lineage: Lineage,
    /// The stations' learning rate, for the gate's own steps.
    pub rate: f32,
    /// Every station is trusted: rows are cut and averaged, and nothing is left out.
    pub trusted: bool,
}

/// Everything that can happen.
#[derive(Debug, Clone)]
pub enum Input {
    /// On a node's `learn/update`.
    Update(NodeId, Vec<u8>),
    /// On a node's `learn/samples`.
    Samples(NodeId, Vec<u8>),
    /// What stands at the broker as the head of this lineage.
    Head(Vec<u8>),
    /// A person.
    Order(Order),
    /// How releases go.
    Path(Path),
    /// What cameras that see the same ground tell of each other's events.
    Agreed(Vec<Label>),
    /// The broker can be reached anew: what was said before may be lost.
    SayAgain,
    /// Time has passed.
    Tick,
}

/// Everything that can be asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make this durable, before anything else of this list is done.
    Log(Record),
    /// Acknowledge.
    Ack(NodeId, LearnAck),
    /// Tell a device what persons say of its events.
    Labels(NodeId, Labels),
    /// Say the head whole.
    Full(HeadFull),
    /// Say what is different from the whole one.
    Delta(HeadDelta),
    /// Show this to people.
    View(Learning),
    /// Release this head on the path of models.
    Release(Release),
    /// Something was refused: a constant word and a sentence.
    Refused(&'static str, String),
}

#[derive(Debug, Clone, Default)]
struct Station {
    updates: u64,
    repeated: u64,
    loss: f32,
    /// What the last step did with its row.
    last: Option<LearnerView>,
}

/// The learner.
pub struct Learner {
    terms: Terms,
    id: LineageId,
    star: Star,
    root: RootSet,
    places: Places,
    said: Said,
    frozen: Option<String>,
    out: BTreeSet<NodeId>,
    kept: VecDeque<(u64, Vec<f32>)>,
    released: Option<u64>,
    released_ms: Option<u64>,
    revert_of: Option<u64>,
    stations: BTreeMap<NodeId, Station>,
    curve: Vec<CurvePoint>,
    refused: BTreeMap<&'static str, u64>,
    flushed_ms: Option<u64>,
    waiting_ms: Option<u64>,
    voice: Voice,
    problem: Option<String>,
    path: Path,
}

impl Learner {
    /// One that knows nothing yet.
    pub fn new(terms: Terms) -> Learner {
        let mixing = if terms.trusted { Mixing::Clip } else { Mixing::Nnm };
        let shape = terms.lineage.shape;
        Learner {
            id: terms.lineage.id(),
            star: Star::new(Settings { mixing, ..Settings::default() }, shape.beginning(), 0),
            root: RootSet::new(shape),
            terms,
            places: Places::new(),
            said: Said::default(),
            frozen: None,
            out: BTreeSet::new(),
            kept: VecDeque::new(),
            released: None,
            released_ms: None,
            revert_of: None,
            stations: BTreeMap::new(),
            curve: Vec::new(),
            refused: BTreeMap::new(),
            flushed_ms: None,
            waiting_ms: None,
            voice: Voice::default(),
            problem: None,
            path: Path::default(),
        }
    }

    /// The one that these records made, as it was when the last of them was durable.
    pub fn recover(terms: Terms, records: &[Record]) -> Learner {
        let mut learner = Learner::new(terms);
        records.iter().for_each(|record| drop(learner.apply(record)));
        learner
    }

    /// The head.
    pub fn head(&self) -> &[f32] {
        self.star.head()
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.star.version()
    }

    /// Which heads.
    pub fn lineage(&self) -> LineageId {
        self.id
    }

    /// What is wrong, for a person.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The records that make this state.
    pub fn snapshot(&self) -> Vec<Record> {
        let (version, head) = (self.star.version(), bytes_of(self.star.head()));
        let first = Record::Head { version, head, frozen: self.frozen.clone(), released: self.released };
        let stations = self.star.seen().iter().map(|(node, &(epoch, seq))| {
            let known = self.stations.get(node).cloned().unwrap_or_default();
            Record::Station {
                node: node.clone(),
                epoch,
                seq,
                row: self.star.rows().get(node).map(|row| (row.base, bytes_of(&row.values))),
                fresh: self.star.fresh().contains(node),
                updates: known.updates,
                out: self.out.contains(node),
                loss: known.loss,
            }
        });
        let unheard = self.out.iter().filter(|node| !self.star.seen().contains_key(*node));
        let out = unheard.map(|node| Record::Out { node: node.clone(), out: true });
        let kept = self.kept.iter().map(|(version, head)| Record::Kept { version: *version, head: bytes_of(head) });
        // One by one and under no number: their places follow.
        let samples = self.root.all().map(|(node, sample)| Record::Samples {
            node: node.clone(),
            samples: RootSamples { lineage: self.id, epoch: 0, first: 1, samples: vec![sample] },
        });
        let places =
            self.places.iter().map(|(node, &(epoch, number))| Record::Place { node: node.clone(), epoch, number });
        // What neighbours agree on is found anew, or was heard.
        let labelled = self.said.all().filter(|(_, said)| !said.labels.is_empty());
        let labels = labelled.map(|(node, said)| Record::Labels { node: node.clone(), labels: said.labels.clone() });
        let heads = std::iter::once(first).chain(stations).chain(out).chain(kept);
        heads.chain(samples).chain(places).chain(labels).collect()
    }

    /// Handles one input and appends what is to be done.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Update(node, payload) => self.update(&node, &payload, effects),
            Input::Samples(node, payload) => self.samples(&node, &payload, effects),
            Input::Head(payload) => self.found(&payload, effects),
            Input::Order(order) => self.order(order, effects),
            Input::Agreed(labels) => {
                for (node, labels) in by_node(&labels).0 {
                    self.said.agree(&node, &labels);
                    effects.push(Effect::Labels(node.clone(), self.said.of(&node)));
                }
            }
            Input::SayAgain => {
                self.voice.forget();
                let labels = self.said.all().map(|(node, labels)| Effect::Labels(node.clone(), labels.clone()));
                effects.extend(labels);
                // What was released may never have come to where it belongs; there the same again changes nothing.
                effects.extend(self.last_release().map(Effect::Release));
            }
            Input::Path(path) => {
                if path.is_open != self.path.is_open {
                    self.voice.forget();
                }
                self.path = path;
            }
            Input::Tick => {}
        }
        self.whatever_is_due(now, effects);
    }

    /// A state change, asked to be logged and then made.
    fn change(&mut self, record: Record, effects: &mut Vec<Effect>) -> Option<Flush> {
        let flush = self.apply(&record);
        effects.push(Effect::Log(record));
        flush
    }

    /// Makes a change. The same changes in the same order make the same state.
    fn apply(&mut self, record: &Record) -> Option<Flush> {
        match record {
            Record::Head { version, head, frozen, released } => {
                let head = numbers_of(head);
                if head.len() == self.star.head().len() {
                    self.star.replace(head, *version);
                }
                (self.frozen, self.released) = (frozen.clone(), *released);
            }
            Record::Station { node, epoch, seq, row, fresh, updates, out, loss } => {
                let row = row.as_ref().map(|(base, values)| (*base, numbers_of(values)));
                self.star.restore(node, (*epoch, *seq), row, *fresh);
                let station = Station { updates: *updates, loss: *loss, ..Station::default() };
                self.stations.insert(node.clone(), station);
                self.set_out(node, *out);
            }
            Record::Kept { version, head } => self.keep(*version, numbers_of(head)),
            Record::Place { node, epoch, number } => {
                self.places.insert(node.clone(), (*epoch, *number));
            }
            Record::Update { node, update } => {
                if let Ok(change) = Change::read(&update.change, self.star.head().len()) {
                    self.take_in(node, update, change);
                }
            }
            Record::Samples { node, samples } => {
                for sample in &samples.samples {
                    if let Err(word) = self.root.take(node, sample) {
                        *self.refused.entry(word).or_default() += 1;
                    }
                }
                let last = samples.first + samples.samples.len() as u64 - 1;
                self.places.insert(node.clone(), (samples.epoch, last));
            }
            Record::Flush { sha256 } => {
                let gated = !self.terms.trusted;
                let direction = || self.root.direction(self.star.head(), &self.released_head(), self.terms.rate);
                let direction = gated.then(direction).flatten();
                let flush = self.star.flush(direction.as_deref(), &self.out);
                self.revert_of = None;
                // Empty where the step is only now being made, and its digest is still to be written.
                if !sha256.is_empty() && self.star.digest()[..] != sha256[..] {
                    let version = self.star.version();
                    self.problem =
                        Some(format!("the log of learning gives another head of version {version} than it did"));
                }
                return Some(flush);
            }
            Record::Freeze(why) => self.frozen.clone_from(why),
            Record::Out { node, out } => self.set_out(node, *out),
            Record::Replace { version, head } => {
                let head = numbers_of(head);
                if head.len() == self.star.head().len() {
                    self.star.replace(head, *version);
                }
            }
            Record::Revert { version } => {
                self.kept.pop_back();
                if let Some((of, head)) = self.kept.pop_back() {
                    self.star.replace(head, *version);
                    self.revert_of = Some(of);
                }
            }
            Record::Labels { node, labels } => self.said.take(node, labels),
            Record::Release => {
                let (version, head) = (self.star.version(), self.star.head().to_vec());
                self.released = Some(version);
                self.keep(version, head);
            }
        }
        None
    }

    fn set_out(&mut self, node: &NodeId, out: bool) {
        if out {
            self.out.insert(node.clone());
        } else {
            self.out.remove(node);
        }
    }

    fn keep(&mut self, version: u64, head: Vec<f32>) {
        self.kept.push_back((version, head));
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    fn refuse(&mut self, word: &'static str, detail: String, effects: &mut Vec<Effect>) {
        *self.refused.entry(word).or_default() += 1;
        effects.push(Effect::Refused(word, detail));
    }

    fn update(&mut self, node: &NodeId, payload: &[u8], effects: &mut Vec<Effect>) {
        let update: HeadUpdate = match codec::decode(payload) {
            Ok(update) => update,
            Err(error) => return self.refuse(error.word(), format!("{error}, from {node}"), effects),
        };
        let ack = |epoch, seq| LearnAck { epoch, seq, ..self.ack(node, update.lineage) };
        match self.judge(node, &update) {
            Ok((Taken::New, change)) => {
                effects.push(Effect::Ack(node.clone(), ack(update.epoch, update.seq)));
                // As its record does, which would read it again.
                self.take_in(node, &update, change);
                effects.push(Effect::Log(Record::Update { node: node.clone(), update }));
            }
            Ok(_) => {
                effects.push(Effect::Ack(node.clone(), self.ack(node, self.id)));
                self.stations.entry(node.clone()).or_default().repeated += 1;
            }
            Err((word, detail)) => {
                // From a head that is not yet it may be taken later.
                if word != "learn_future" {
                    effects.push(Effect::Ack(node.clone(), ack(update.epoch, update.seq)));
                }
                self.refuse(word, format!("{detail}, from {node}"), effects);
            }
        }
    }

    fn take_in(&mut self, node: &NodeId, update: &HeadUpdate, change: Change) {
        if let Ok(Taken::New) = self.star.take_read(node, update.epoch, update.seq, update.base, change) {
            let station = self.stations.entry(node.clone()).or_default();
            station.updates += 1;
            station.loss = update.loss_before;
        }
    }

    /// Whether an update is to be taken, and what it is; if not, why.
    fn judge(&self, node: &NodeId, update: &HeadUpdate) -> Result<(Taken, Change), (&'static str, String)> {
        if update.lineage != self.id {
            return Err(("learn_lineage", format!("an update of {}, and {} is learned here", update.lineage, self.id)));
        }
        if update.crc != update.checksum() {
            return Err(("learn_crc", "an update that was changed on its way".into()));
        }
        let named = |refused: Refused| (refused.word(), refused.to_string());
        let change = Change::read(&update.change, self.star.head().len());
        let change = change.map_err(|error| (error.word(), error.to_string()))?;
        if !update.loss_before.is_finite() || !update.loss_after.is_finite() {
            return Err(("learn_not_finite", "a loss that is not finite".into()));
        }
        let taken = self.star.place_of(node, update.epoch, update.seq, update.base).map_err(named)?;
        Ok((taken, change))
    }

    fn samples(&mut self, node: &NodeId, payload: &[u8], effects: &mut Vec<Effect>) {
        let samples: RootSamples = match codec::decode(payload) {
            Ok(samples) => samples,
            Err(error) => return self.refuse(error.word(), format!("{error}, from {node}"), effects),
        };
        if samples.lineage != self.id {
            let detail = format!("samples of {}, and {} is learned here, from {node}", samples.lineage, self.id);
            return self.refuse("learn_lineage", detail, effects);
        }
        let (epoch, number) = self.places.get(node).copied().unwrap_or_default();
        // A new epoch begins its count anew; of the same one only what follows is taken, so that nothing counts twice.
        let next = match samples.epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(number + 1),
            std::cmp::Ordering::Greater => Some(1),
        };
        if next == Some(samples.first) {
            let before = self.refused.clone();
            self.change(Record::Samples { node: node.clone(), samples }, effects);
            for (word, count) in &self.refused {
                if before.get(word) != Some(count) {
                    effects.push(Effect::Refused(word, format!("a confirmed sample of {node}")));
                }
            }
        }
        effects.push(Effect::Ack(node.clone(), self.ack(node, self.id)));
    }

    fn ack(&self, node: &NodeId, lineage: LineageId) -> LearnAck {
        let (epoch, seq) = self.star.seen().get(node).copied().unwrap_or_default();
        let (samples_epoch, samples) = self.places.get(node).copied().unwrap_or_default();
        LearnAck { lineage, epoch, seq, samples_epoch, samples }
    }

    /// What stands at the broker is newer than what is here: another coordinator led, or the disk was lost.
    fn found(&mut self, payload: &[u8], effects: &mut Vec<Effect>) {
        let full: HeadFull = match codec::decode(payload) {
            Ok(full) => full,
            Err(error) => return self.refuse(error.word(), format!("{error}, in the head at the broker"), effects),
        };
        if full.lineage.id() != self.id || full.version <= self.version() {
            return;
        }
        if full.version > FOUND_VERSION_MAX {
            let detail = format!("the head at the broker has version {}, above {FOUND_VERSION_MAX}", full.version);
            return self.refuse("learn_version", detail, effects);
        }
        match full.head() {
            Ok(head) => {
                self.change(Record::Replace { version: full.version, head: bytes_of(&head) }, effects);
                if full.frozen && self.frozen.is_none() {
                    self.change(Record::Freeze(Some("the head at the broker is frozen".into())), effects);
                }
                self.voice.forget();
            }
            Err(error) => self.refuse("learn_head", format!("{error}, in the head at the broker"), effects),
        }
    }

    fn order(&mut self, order: Order, effects: &mut Vec<Effect>) {
        match order {
            Order::Freeze => drop(self.change(Record::Freeze(Some("a person said so".into())), effects)),
            Order::Unfreeze => drop(self.change(Record::Freeze(None), effects)),
            Order::Out(node) => drop(self.change(Record::Out { node, out: true }, effects)),
            Order::In(node) => drop(self.change(Record::Out { node, out: false }, effects)),
            Order::Label(labels) => return self.label(&labels, effects),
            Order::Revert => {
                // The last one is what stations have; the one before is what is gone back to.
                let Some((of, _)) = self.kept.len().checked_sub(2).and_then(|at| self.kept.get(at)) else {
                    return self.refuse("learn_revert", "there is no release before the last one".into(), effects);
                };
                let why = format!("a person went back to version {of}");
                self.change(Record::Revert { version: self.version() + 1 }, effects);
                self.change(Record::Freeze(Some(why)), effects);
                self.change(Record::Release, effects);
                effects.push(Effect::Release(self.release()));
            }
        }
        self.voice.forget();
    }

    fn label(&mut self, labels: &[Label], effects: &mut Vec<Effect>) {
        let (of_nodes, others) = by_node(labels);
        for (node, labels) in of_nodes {
            self.change(Record::Labels { node: node.clone(), labels }, effects);
            effects.push(Effect::Labels(node.clone(), self.said.of(&node)));
        }
        for Label { event, .. } in others {
            let sentence = format!("{event} is no event of one person, and nothing can be learned from it");
            self.refuse("learn_event", sentence, effects);
        }
    }

    fn whatever_is_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let fresh = !self.star.fresh().is_empty();
        self.waiting_ms = if fresh { self.waiting_ms.or(Some(now.mono_ms)) } else { None };
        let rested = self.flushed_ms.is_none_or(|at| now.mono_ms >= at + self.rest_ms());
        let waited = self.waiting_ms.is_some_and(|since| now.mono_ms >= since + FLUSH_MS_MAX);
        if self.frozen.is_none() && rested && (self.star.is_ready(self.star.seen().len()) || waited) {
            self.flush(now, effects);
        }
        let words = Words {
            lineage: &self.terms.lineage,
            version: self.star.version(),
            head: self.star.head(),
            revert_of: self.revert_of,
            frozen: self.frozen.is_some(),
            releases: self.path.is_open,
        };
        effects.extend(self.voice.say(now, words));
        let old_enough = self.released_ms.is_none_or(|at| now.mono_ms >= at + RELEASE_MS_MIN);
        if self.frozen.is_none() && old_enough && self.released != Some(self.version()) && self.version() > 0 {
            self.released_ms = Some(now.mono_ms);
            if self.root.is_no_worse(self.head(), &self.released_head()) == Some(true) {
                self.change(Record::Release, effects);
                effects.push(Effect::Release(self.release()));
            }
        }
    }

    fn flush(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(flush) = self.apply(&Record::Flush { sha256: Default::default() }) else { return };
        effects.push(Effect::Log(Record::Flush { sha256: self.star.digest().to_vec().into() }));
        (self.flushed_ms, self.waiting_ms) = (Some(now.mono_ms), None);
        if flush.overflow {
            self.refuse("learn_step", "a step that would have left the numbers of a head".into(), effects);
        }
        let used = flush.parts.values().filter(|part| part.fate == Fate::Used).count();
        let losses = flush.parts.keys().filter_map(|node| self.stations.get(node)).map(|station| station.loss);
        let loss = losses.clone().sum::<f32>() / losses.count().max(1) as f32;
        let canary = self.root.accuracy(self.head(), &self.released_head());
        let (time, version, step) = (now.unix_ms as f64 / 1000.0, self.version(), flush.step as f32);
        self.curve.push(CurvePoint { time, version, rows: used as u32, step, loss, canary });
        if self.curve.len() > CURVE_MAX {
            let mut place = 0;
            self.curve.retain(|_| {
                place += 1;
                place % 2 == 0
            });
        }
        for (node, part) in flush.parts {
            let station = self.stations.entry(node.clone()).or_default();
            station.last = Some(LearnerView {
                node,
                updates: station.updates,
                repeated: station.repeated,
                age: part.age,
                norm: part.norm as f32,
                clip: part.clip as f32,
                gate: part.gate.map(|cosine| cosine as f32),
                fate: part.fate,
                loss: station.loss,
            });
        }
    }

    /// How long the next step waits at least after the last one.
    fn rest_ms(&self) -> u64 {
        let cells = self.star.rows().len() * self.star.head().len();
        (FLUSH_MS_MIN * cells as u64 / FLUSH_CELLS as u64).clamp(FLUSH_MS_MIN, FLUSH_MS_MAX)
    }

    /// When [`Input::Tick`] is wanted, on the monotonic clock.
    pub fn next_wakeup(&self) -> Option<u64> {
        let rested = self.flushed_ms.map(|at| at + self.rest_ms());
        let ready = self.star.is_ready(self.star.seen().len());
        let flush = if ready { rested } else { self.waiting_ms.map(|since| since + FLUSH_MS_MAX) };
        let unsaid = self.voice.next_wakeup(self.version());
        flush.filter(|_| self.frozen.is_none()).into_iter().chain(unsaid).min()
    }
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
