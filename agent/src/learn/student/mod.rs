//! The core of a device's learning: takes in what the frame path saw, what persons and the coordinator say, and the time; gives what
//! is to be kept, said and judged by. Pure: no clock, no disk, no randomness but what follows from its seed.
//!
//! What it asks to be said may be said only after everything that it asked to be kept before is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::ids::{Boot, EventId, NodeId};
use picket_shared::learn::label::{Label, Labels};
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::learn::message::{HeadUpdate, LearnAck, RootSample};
use picket_shared::learn::packed::Feedback;
use picket_shared::learn::sent_max;
use picket_shared::model::{LearnedManifest, LearnedState, Learns, ModelPhase};
use picket_shared::random::SplitMix64;
use picket_shared::topics::Topic;
use serde_bytes::ByteBuf;

use super::examples::{Example, Examples, LOOKS_MAX, Source, Waiting, halves, numbers};
use super::features::inputs;
use super::judge::Head;
use super::lesson::Lesson;
use super::miner::{Frame, Looks, Mined, Miner};
use super::post::Post;
use super::record::{Record, State, bytes_of, numbers_of};
use super::released::Released;
use super::status::Status;
use super::teacher::{Taught, Whose};
use crate::detect::Backbone;

mod heads;
mod releases;

/// So many new examples begin a round.
const FRESH_MAX: usize = 32;
/// Or so many, where the last round is so long ago.
const FRESH_MIN: (usize, u64) = (8, 60_000);
/// Rounds are no nearer to each other than this.
const ROUND_MS_MIN: u64 = 10_000;
/// An update that is not acknowledged holds up the next round for so long; then the station learns for itself alone.
const ROUND_WAIT_MS: u64 = 60_000;
/// Rounds of the station's own part that follow one with new examples.
const REST_ROUNDS: u32 = 10;
/// What is not urgent is kept after so long.
const KEEP_MS: u64 = 5_000;
/// Or when there is so much.
const KEEP_RECORDS: usize = 64;
/// Cameras that are learned from at once; the miners of others that have gone are forgotten.
const CAMERAS_MAX: usize = 16;
/// What a teacher says of a place is held out for so long, or trained on: looks that follow each other are much alike, and a stone that is
/// taken for somebody is there later too, for heads to be compared by.
const SQUARE_MS: u64 = 10 * 60_000;
/// Numbers of a head that a device works with.
const PARAMETERS_MAX: usize = 32 * 1024;

/// What a device says about its learning.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Whose examples.
    pub node: NodeId,
    /// This run.
    pub boot: Boot,
    /// The learning rate.
    pub rate: f32,
    /// Of a hundred events so many are held out.
    pub held_out_percent: u8,
    /// A head is compared on at least so many examples, a fifth of them of each label.
    pub held_out_min: usize,
    /// Features that a person confirmed may leave the device.
    pub confirmed_leave: bool,
    /// What is drawn follows from this.
    pub seed: u64,
}

/// Everything that can happen.
#[derive(Debug, Clone)]
pub enum Input {
    /// A camera's frame was looked at.
    Looked(usize, Frame),
    /// A teacher says this of the candidates of a camera's frame, which this network found.
    Taught(usize, Arc<Backbone>, Vec<Taught>),
    /// Said to this node.
    Heard(Topic, Vec<u8>),
    /// There is a connection, or none.
    Online(bool),
    /// A release of the head was assigned to this device, and fetched.
    Released(Box<LearnedManifest>, Vec<u8>),
    /// Time passed.
    Tick,
}

/// Everything that can be asked for, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make these durable, before anything that follows.
    Keep(Vec<Record>),
    /// Say this.
    Say(Topic, Vec<u8>),
    /// Judge by this head.
    Seat(Head),
    /// Something was refused: a constant word and a sentence.
    Refused(&'static str, String),
    /// Tell a person.
    Tell(String),
}

/// One device's learning over one network.
pub struct Student {
    terms: Terms,
    backbone: Arc<Backbone>,
    lineage: Lineage,
    /// A head was heard, and nothing is frozen.
    wanted: bool,
    /// The whole head that deltas are against.
    whole: Option<(u64, Vec<f32>)>,
    version: u64,
    shared: Vec<f32>,
    own: Vec<f32>,
    used_version: u64,
    used: Vec<f32>,
    released: Released,
    /// A release that was refused before anything was compared: its version, a constant word and a sentence.
    refused: Option<(u64, &'static str, String)>,
    /// Held-out examples that came in this run.
    held_out_taken: u64,
    /// When so many have come, a release that is not decided is compared again.
    compare_at: u64,
    feedback: Feedback,
    post: Post,
    examples: Examples,
    miners: BTreeMap<usize, Miner>,
    lesson: Lesson,
    /// New examples since the last round.
    fresh: usize,
    rested: u32,
    rounds: u64,
    round_ms: Option<u64>,
    online: bool,
    unkept: Vec<Record>,
    changed: bool,
    /// What changed is to be durable at once: somebody is told of it.
    urgent: bool,
    kept_ms: u64,
    status: Status,
}

impl Student {
    /// What an earlier run left; the first one's records are none. `now` gives the first epoch.
    pub fn recover(terms: Terms, backbone: Arc<Backbone>, records: Vec<Record>, now: Now) -> Student {
        let shape = HeadShape::logistic(inputs(backbone.features) as u32);
        // A fleet's epochs begin at 1; before its first head is heard a device learns for itself.
        let lineage = Lineage { fleet_epoch: 0, backbone: backbone.sha256.clone(), shape };
        let head = shape.beginning();
        let epoch = (now.unix_ms / 1000).max(1);
        let mut student = Student {
            examples: Examples::new(terms.held_out_percent),
            terms,
            backbone,
            wanted: false,
            whole: None,
            version: 0,
            own: vec![0.0; head.len()],
            used_version: 0,
            used: head.clone(),
            released: Released::default(),
            refused: None,
            held_out_taken: 0,
            compare_at: 0,
            feedback: Feedback::new(head.len()),
            shared: head,
            lineage,
            post: Post::new(epoch),
            miners: BTreeMap::new(),
            lesson: Lesson::new(shape),
            fresh: 0,
            rested: REST_ROUNDS,
            rounds: 0,
            round_ms: None,
            online: false,
            unkept: Vec::new(),
            changed: true,
            urgent: false,
            kept_ms: now.mono_ms,
            status: Status::default(),
        };
        // The last state first: it says which confirmed samples are still to be sent.
        if let Some(Record::State(state)) = records.iter().rev().find(|record| matches!(record, Record::State(_))) {
            student.restore(state);
        }
        for record in records {
            match record {
                Record::Example(example) => {
                    student.examples.restore(example);
                }
                Record::Waiting(waiting) => student.examples.wait(waiting),
                Record::Confirmed(number, sample) => student.post.recall(number, sample),
                Record::State(_) => {}
            }
        }
        student
    }

    fn restore(&mut self, state: &State) {
        let parameters = state.lineage.shape.parameters();
        let fits =
            state.lineage.backbone.eq_ignore_ascii_case(&self.backbone.sha256) && self.can_use(&state.lineage.shape);
        let head = |bytes: &ByteBuf| numbers_of(bytes, parameters).filter(|_| fits);
        let (Some(shared), Some(own), Some(used)) = (head(&state.shared), head(&state.own), head(&state.used)) else {
            return;
        };
        let Some(feedback) = head(&state.kept).and_then(Feedback::restore) else { return };
        self.lesson = Lesson::new(state.lineage.shape);
        self.lineage = state.lineage.clone();
        (self.version, self.used_version) = (state.version, state.used_version);
        (self.shared, self.own, self.used, self.feedback) = (shared, own, used, feedback);
        self.released = Released::restore(state.released.clone(), parameters);
        let pending = state.pending.as_ref().and_then(|bytes| codec::decode::<HeadUpdate>(bytes).ok());
        let (epoch, seq, samples_epoch) = (state.epoch, state.seq, state.samples_epoch);
        self.post = Post { seq, pending, samples_epoch, samples_acked: state.samples_acked, ..Post::new(epoch) };
    }

    fn can_use(&self, shape: &HeadShape) -> bool {
        shape.check().is_ok() && Head::fits(&self.backbone, shape) && shape.parameters() <= PARAMETERS_MAX
    }

    /// Goes on: first of all, judges by what was judged by.
    pub fn begin(&mut self, effects: &mut Vec<Effect>) {
        self.seat(effects);
    }

    /// The records that make this state.
    pub fn snapshot(&self) -> Vec<Record> {
        let (examples, waiting) = self.examples.all();
        let examples = examples.cloned().map(Record::Example).chain(waiting.cloned().map(Record::Waiting));
        let confirmed = self.post.confirmed().map(|(number, sample)| Record::Confirmed(number, sample.clone()));
        [Record::State(Box::new(self.state()))].into_iter().chain(confirmed).chain(examples).collect()
    }

    fn state(&self) -> State {
        State {
            lineage: self.lineage.clone(),
            version: self.version,
            shared: bytes_of(&self.shared),
            own: bytes_of(&self.own),
            used_version: self.used_version,
            used: bytes_of(&self.used),
            kept: bytes_of(self.feedback.kept()),
            epoch: self.post.epoch,
            seq: self.post.seq,
            pending: self.post.encoded().map(ByteBuf::from),
            samples_epoch: self.post.samples_epoch,
            samples_acked: self.post.samples_acked,
            released: (self.released != Released::default()).then(|| self.released.clone()),
        }
    }

    /// What people see.
    pub fn status(&self) -> Status {
        Status {
            lineage: (self.lineage.fleet_epoch > 0).then(|| self.lineage.id()),
            version: self.version,
            used_version: self.used_version,
            learns: self.wanted,
            examples: self.examples.counts(),
            epoch: self.post.epoch,
            seq: self.post.seq,
            waits_for_ack: self.post.pending.is_some(),
            ..self.status.clone()
        }
    }

    /// How it is with released heads; nothing before the network's name can be read.
    pub fn learned(&self) -> Option<(LearnedState, Learns)> {
        let backbone = self.backbone.sha256.to_ascii_lowercase().parse().ok()?;
        let mut state = self.released.state(backbone, self.can_compare());
        if let Some((version, word, sentence)) = self.refused.as_ref().filter(|(version, ..)| *version >= state.version)
        {
            let (reason, detail) = (Some((*word).to_owned()), Some(sentence.clone()));
            let nothing = LearnedState { samples: 0, difference: None, error: None, ..state };
            state = LearnedState { version: *version, phase: ModelPhase::Refused, reason, detail, ..nothing };
        }
        Some((state, Learns { backbone, inputs: inputs(self.backbone.features) as u32 }))
    }

    /// The network that is learned over.
    pub fn backbone(&self) -> &Arc<Backbone> {
        &self.backbone
    }

    /// Handles one input and appends what is to be done.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Looked(camera, frame) => self.looked(camera, frame),
            Input::Taught(camera, backbone, taught) if backbone == self.backbone => self.taught(now, camera, taught),
            // What another network saw says nothing to this one's head.
            Input::Taught(..) => {}
            Input::Heard(topic, payload) => {
                if let Err((word, sentence)) = self.heard(&topic, &payload, effects) {
                    *self.status.refused.entry(word).or_default() += 1;
                    effects.push(Effect::Refused(word, sentence));
                }
            }
            Input::Online(online) => {
                self.online = online;
                if online {
                    self.post.connected();
                }
            }
            Input::Released(manifest, bytes) => {
                if let Err((word, sentence)) = self.release(&manifest, &bytes, effects) {
                    *self.status.refused.entry(word).or_default() += 1;
                    self.refused = Some((manifest.counter, word, sentence.clone()));
                    effects.push(Effect::Refused(word, sentence));
                }
            }
            Input::Tick => {}
        }
        self.doubt(effects);
        self.learn(now, effects);
        self.try_release(effects);
        let (update, samples) = match self.online && self.lineage.fleet_epoch > 0 {
            true => self.post.due(now.mono_ms, self.lineage.id()),
            false => (None, None),
        };
        let speaks = update.is_some() || samples.is_some();
        let late = now.mono_ms >= self.kept_ms + KEEP_MS || self.unkept.len() >= KEEP_RECORDS;
        if speaks || late || std::mem::take(&mut self.urgent) {
            self.keep(now, effects);
        }
        let node = &self.terms.node;
        if let Some(update) = update {
            self.status.said += 1;
            let update = codec::encode(&update).expect("an update of ours keeps its own bounds");
            effects.push(Effect::Say(Topic::LearnUpdate(node.clone()), update));
        }
        if let Some(samples) = samples {
            let samples = codec::encode(&samples).expect("samples of ours keep their own bounds");
            effects.push(Effect::Say(Topic::LearnSamples(node.clone()), samples));
        }
    }

    /// When [`Input::Tick`] is wanted, on the monotonic clock.
    pub fn next_wakeup_ms(&self, now: Now) -> u64 {
        let says = self.post.next_wakeup_ms().filter(|_| self.online && self.lineage.fleet_epoch > 0);
        says.unwrap_or(u64::MAX).min(now.mono_ms + KEEP_MS / 5)
    }

    /// The end: makes durable what is not.
    pub fn finish(&mut self, effects: &mut Vec<Effect>) {
        let now = Now { mono_ms: self.kept_ms, unix_ms: 0 };
        self.keep(now, effects);
    }

    /// Makes durable what is not.
    fn keep(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.kept_ms = now.mono_ms;
        if std::mem::take(&mut self.changed) {
            self.unkept.push(Record::State(Box::new(self.state())));
        }
        if !self.unkept.is_empty() {
            effects.push(Effect::Keep(std::mem::take(&mut self.unkept)));
        }
    }

    // ---- What is seen, and what persons say --------------------------------------------------------------------------------

    fn event(&self, track: u64) -> EventId {
        EventId::of_track(&self.terms.node, self.terms.boot, track)
    }

    fn looked(&mut self, camera: usize, frame: Frame) {
        if self.miners.len() >= CAMERAS_MAX && !self.miners.contains_key(&camera) {
            self.miners.pop_first();
        }
        let (mut mined, mut ended) = (Vec::new(), Vec::new());
        self.miners.entry(camera).or_default().look(frame, &mut mined, &mut ended);
        for Mined { track, person, features } in mined {
            self.take(Example::new(self.event(track), person, Source::Tracker, "", &features));
        }
        for (track, looks) in ended {
            let looks = looks.features().iter().map(|look| halves(look)).collect();
            let waiting = Waiting { event: self.event(track), looks };
            self.unkept.push(Record::Waiting(waiting.clone()));
            self.examples.wait(waiting);
        }
    }

    fn taught(&mut self, now: Now, camera: usize, taught: Vec<Taught>) {
        for Taught { whose, person, features } in taught {
            let event = match whose {
                Whose::Track(track) => self.event(track),
                Whose::Square(x, y) => EventId::of_square(&self.terms.node, camera, (x, y), now.unix_ms / SQUARE_MS),
            };
            self.take(Example::new(event, person, Source::Teacher, "", &features));
        }
    }

    fn take(&mut self, example: Example) {
        if let Some(trained_on) = self.examples.take(example.clone()) {
            self.fresh += usize::from(trained_on);
            self.held_out_taken += u64::from(!trained_on);
            self.unkept.push(Record::Example(example));
        }
    }

    /// The looks at an event, the surest first.
    fn looks_at(&self, event: &EventId) -> Option<Vec<Vec<f32>>> {
        let live = |miner: &Miner| {
            let track = miner.tracks().find(|track| self.event(*track) == *event)?;
            miner.looks(track).cloned().map(Looks::features)
        };
        let waiting = || {
            let Waiting { looks, .. } = self.examples.waiting(event)?;
            Some(looks.iter().map(|look| floats(look)).collect())
        };
        self.miners.values().find_map(live).or_else(waiting)
    }

    fn labelled(&mut self, Label { event, person, who }: Label) -> Result<(), (&'static str, String)> {
        if self.examples.said(&event) == Some((person, who.as_str())) {
            return Ok(());
        }
        let looks = self.looks_at(&event).filter(|looks| !looks.is_empty()).ok_or_else(|| {
            let sentence = format!("{who} says something of the event {event}, which this device does not remember");
            ("label_event", sentence)
        })?;
        for look in looks.iter().take(LOOKS_MAX) {
            self.take(Example::new(event.clone(), person, Source::Operator, &who, look));
        }
        if self.terms.confirmed_leave
            && let Some(surest) = looks.first()
        {
            let sample = RootSample { features: bytes_of(surest), label: u8::from(person), operator: who };
            if let Some(number) = self.post.confirm(sample.clone()) {
                self.unkept.push(Record::Confirmed(number, sample));
            }
        }
        self.status.labels += 1;
        Ok(())
    }

    /// What a neighbour saw of an event; it is no person's word, and nothing of it leaves the device. One that is not remembered is no
    /// fault: whoever says it knows no more of this device than its events.
    fn agreed(&mut self, Label { event, person, who }: Label) {
        if let Some(surest) = self.looks_at(&event).as_ref().and_then(|looks| looks.first()) {
            self.take(Example::new(event, person, Source::Neighbours, &who, surest));
        }
    }

    // ---- What the coordinator says -----------------------------------------------------------------------------------------

    fn heard(
        &mut self,
        topic: &Topic,
        payload: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), (&'static str, String)> {
        let unreadable = |error: codec::CodecError| (error.word(), format!("{topic:?}: {error}"));
        match topic {
            // Somebody has cleared what was retained.
            _ if payload.is_empty() => Ok(()),
            Topic::LearnLabels(_) => {
                let Labels { labels, agreed } = Labels::read(payload)?;
                agreed.into_iter().for_each(|label| self.agreed(label));
                let mut first = Ok(());
                for label in labels {
                    first = first.and(self.labelled(label));
                }
                first
            }
            Topic::LearnAck(_) => {
                let ack: LearnAck = codec::decode(payload).map_err(unreadable)?;
                if ack.lineage == self.lineage.id() {
                    let epoch = self.post.samples_epoch;
                    let answered = self.post.ack(&ack);
                    if self.post.samples_epoch != epoch {
                        // They have other numbers now.
                        let confirmed = self.post.confirmed();
                        let confirmed = confirmed.map(|(number, sample)| Record::Confirmed(number, sample.clone()));
                        self.unkept.extend(confirmed);
                    }
                    self.changed |= answered.changed;
                    self.status.acked += u64::from(answered.update);
                }
                Ok(())
            }
            Topic::LearnHead(_) => self.whole(codec::decode(payload).map_err(unreadable)?, effects),
            Topic::LearnDelta(_) => self.newer(&codec::decode(payload).map_err(unreadable)?, effects),
            _ => Err(("topic", format!("{topic:?} is no matter of learning"))),
        }
    }

    // ---- Training -----------------------------------------------------------------------------------

    fn learn(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let since_ms = self.round_ms.map_or(u64::MAX, |at| now.mono_ms.saturating_sub(at));
        let frozen = self.lineage.fleet_epoch > 0 && !self.wanted;
        if frozen || since_ms < ROUND_MS_MIN || !Lesson::is_possible(&self.examples) {
            return;
        }
        let enough = self.fresh >= FRESH_MAX || (self.fresh >= FRESH_MIN.0 && since_ms >= FRESH_MIN.1);
        if !enough {
            if self.rested < REST_ROUNDS {
                self.rested += 1;
                self.round(now, 0, false, effects);
            }
            return;
        }
        let with_others = self.wanted && self.post.pending.is_none();
        // The last one is still on its way: these examples wait for their turn, but not for ever.
        if self.wanted && !with_others && since_ms < ROUND_WAIT_MS {
            return;
        }
        let fresh = std::mem::take(&mut self.fresh);
        self.rested = 0;
        self.round(now, fresh, with_others, effects);
    }

    fn round(&mut self, now: Now, fresh: usize, with_others: bool, effects: &mut Vec<Effect>) {
        self.round_ms = Some(now.mono_ms);
        self.rounds += 1;
        let rate = self.terms.rate;
        let mut random = SplitMix64::stream(self.terms.seed, self.terms.boot.0, self.rounds);
        if with_others {
            let learned = self.lesson.shared(&self.examples, &self.shared, fresh, rate, &mut random);
            match self.feedback.pack(&learned.delta, sent_max(self.shared.len())) {
                Ok(change) => {
                    let (base, samples) = (self.version, fresh as u32);
                    let (lineage, epoch, seq, crc) = (self.lineage.id(), 0, 0, 0);
                    let (loss_before, loss_after) = (learned.loss_before, learned.loss_after);
                    let update =
                        HeadUpdate { lineage, epoch, seq, base, samples, change, loss_before, loss_after, crc };
                    self.post.put(update);
                }
                Err(error) => effects.push(Effect::Refused("learn_step", error.to_string())),
            }
            (self.status.loss_before, self.status.loss_after) = (learned.loss_before, learned.loss_after);
        }
        let base = self.base();
        let Student { lesson, examples, own, .. } = self;
        lesson.own(examples, &base, own, fresh, rate, &mut random);
        if own.iter().any(|x| !x.is_finite()) {
            own.fill(0.0);
            effects
                .push(Effect::Refused("learn_step", "steps that left the numbers of a head; lower learn.rate".into()));
        }
        self.changed = true;
        self.consider(effects);
    }
}

fn floats(halves: &[u8]) -> Vec<f32> {
    let mut out = Vec::with_capacity(halves.len() / 2);
    numbers(halves, &mut out);
    out
}

#[cfg(test)]
mod tests;
