//! What is said about learning, and the core that listens: any bytes are refused in a sentence, or leave a head of finite numbers
//! that the log gives back bit for bit.
//!
//! Messages are compared as the bytes that they become: a loss that is no number may come, and is not equal to itself.

use std::fmt::Debug;

use picket_coordinator::learn::learner::{Effect, Input, Learner, Order, Terms};
use picket_coordinator::learn::log;
use picket_coordinator::learn::record::Record;
use picket_shared::clock::Now;
use picket_shared::codec::{decode, encode};
use picket_shared::ids::NodeId;
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::learn::message::{HeadDelta, HeadFull, HeadUpdate, LearnAck, RootSample, RootSamples};
use picket_shared::learn::packed::{Encoding, Packed};
use picket_shared::limits::ROOT_SAMPLES_MAX;
use picket_shared::wire::Wire;
use serde_bytes::ByteBuf;

use super::Verdict;
use super::cores::{number, step, steps};

const INPUTS: u32 = 7;
/// Of a linear head.
const PARAMETERS: usize = INPUTS as usize + 1;
/// Stations of the tape.
const STATIONS: u8 = 8;

fn terms() -> Terms {
    let shape = HeadShape::logistic(INPUTS);
    Terms { lineage: Lineage { fleet_epoch: 1, backbone: "ab".repeat(32), shape }, rate: 0.5, trusted: false }
}

/// What is accepted is written and read again as the same bytes.
fn kept<T: Wire + Debug>(bytes: &[u8]) -> Result<Option<T>, String> {
    let message = match decode::<T>(bytes) {
        Ok(message) => message,
        Err(error) if error.to_string().len() < 12 || error.word().is_empty() => {
            return Err(format!("a refusal without a sentence: {error}"));
        }
        Err(_) => return Ok(None),
    };
    let again = encode(&message).map_err(|error| format!("accepted, and cannot be written: {error}"))?;
    let same = decode::<T>(&again).ok().and_then(|message| encode(&message).ok());
    if same.as_ref() == Some(&again) { Ok(Some(message)) } else { Err(format!("{message:?} came back as another")) }
}

fn finite(head: &[f32]) -> Result<(), String> {
    if head.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(format!("a head of {head:?}")) }
}

/// One form after the other, and what each side makes of it.
pub(super) fn said(bytes: &[u8]) -> Verdict {
    let update = kept::<HeadUpdate>(bytes)?;
    if let Some(update) = &update {
        // One "no number" comes back for all of them.
        let numbers = [update.change.scale, update.loss_before, update.loss_after].iter().all(|x| !x.is_nan());
        let again: HeadUpdate = decode(&encode(update).unwrap()).unwrap();
        if numbers && again.checksum() != update.checksum() {
            return Err("another checksum after a trip".into());
        }
        for parameters in [PARAMETERS, update.change.parameters.min(4096) as usize] {
            finite(&update.change.to_dense(parameters).unwrap_or_default())?;
        }
    }
    let full = kept::<HeadFull>(bytes)?;
    if let Some(head) = full.as_ref().and_then(|full| full.head().ok()) {
        finite(&head)?;
        if Some(head.len()) != full.as_ref().map(|full| full.lineage.shape.parameters()) {
            return Err("a head that is not of its form".into());
        }
    }
    let delta = kept::<HeadDelta>(bytes)?;
    if let Some(delta) = &delta {
        finite(&delta.head(delta.base, &[0.5; PARAMETERS]).unwrap_or_default())?;
    }
    let samples = kept::<RootSamples>(bytes)?;
    for sample in samples.iter().flat_map(|samples| &samples.samples) {
        finite(&sample.numbers(INPUTS as usize).unwrap_or_default())?;
    }
    let ack = kept::<LearnAck>(bytes)?;
    Ok(update.is_some() || full.is_some() || delta.is_some() || samples.is_some() || ack.is_some())
}

/// A log as it lies on a disk: no record is longer than what there is, and what is a record is written again as the same bytes.
pub(super) fn logged(bytes: &[u8]) -> Verdict {
    let found = log::parse(bytes);
    let whole: usize = found.records.iter().map(|record| record.len() + 8).sum();
    if whole + found.torn_bytes != bytes.len() {
        return Err("records and what is torn are not what there is".into());
    }
    let mut known = false;
    for record in &found.records {
        known |= kept::<Record>(record)?.is_some();
    }
    Ok(known || kept::<Record>(bytes)?.is_some())
}

// ---- The learner ----------------------------------------------------------------------------------------------------

/// A learner with what its disk has.
struct Desk {
    learner: Learner,
    disk: Vec<Record>,
    now: Now,
}

impl Desk {
    fn give(&mut self, input: Input) -> Result<(), String> {
        self.now.mono_ms += 100;
        let before = self.learner.version();
        let mut effects = Vec::new();
        self.learner.step(self.now, input, &mut effects);
        self.learner.next_wakeup();
        for effect in &effects {
            match effect {
                // As it is read again.
                Effect::Log(record) => {
                    let bytes = encode(record).map_err(|error| format!("a record that cannot be written: {error}"))?;
                    self.disk.push(decode(&bytes).map_err(|error| format!("a record that cannot be read: {error}"))?);
                }
                Effect::Refused(word, detail) if word.is_empty() || detail.len() < 12 => {
                    return Err(format!("a refusal without a sentence: {word} {detail}"));
                }
                said => {
                    if let Some((_, bytes)) = picket_coordinator::learn::voice::message(said)
                        && !matches!(said, Effect::View(_))
                    {
                        self::said(&bytes)?;
                    }
                }
            }
        }
        if self.learner.version() < before {
            return Err(format!("version {} after {before}", self.learner.version()));
        }
        if let Some(problem) = self.learner.problem() {
            return Err(problem.to_owned());
        }
        finite(self.learner.head())
    }

    /// What the disk has, makes the same learner.
    fn restart(&mut self, anew: bool) -> Result<(), String> {
        let bytes =
            |learner: &Learner| learner.snapshot().iter().map(|record| encode(record).unwrap()).collect::<Vec<_>>();
        let before = bytes(&self.learner);
        if anew {
            self.disk = self.learner.snapshot();
        }
        self.learner = Learner::recover(terms(), &self.disk);
        if bytes(&self.learner) != before {
            return Err(format!("the log gives another learner (from a snapshot: {anew})"));
        }
        self.learner.problem().map_or(Ok(()), |problem| Err(problem.to_owned()))
    }
}

fn node(who: u8) -> NodeId {
    NodeId::new(format!("n{}", who % STATIONS)).unwrap()
}

/// An update from a few bytes: its numbers are at the edges, and its change is whatever the bytes say.
fn update(who: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    let float = |at: usize| {
        f32::from_bits(bytes.get(at..at + 4).map_or(0x3C00_0000, |b| u32::from_be_bytes(b.try_into().unwrap())))
    };
    let rest = bytes.get(12..).unwrap_or(&[0x12, 0x34, 5, 250, 9]);
    let (places, values) = rest.split_at(rest.len() / 2);
    let change = if who & 64 == 0 {
        let change: Vec<f32> =
            (0..PARAMETERS).map(|at| f32::from(rest.get(at).copied().unwrap_or(3) as i8) * float(8)).collect();
        Packed::of(&change, 1 + rest.len() % PARAMETERS).ok()?
    } else {
        Packed {
            parameters: PARAMETERS as u32,
            encoding: Encoding::SparseInt8,
            scale: float(8),
            rice: bytes.get(3).copied().unwrap_or(0) % 8,
            places: ByteBuf::from(places),
            values: ByteBuf::from(values),
        }
    };
    let update = HeadUpdate {
        lineage: terms().lineage.id(),
        epoch: number(bytes, 0),
        seq: number(bytes, 1),
        base: number(bytes, 2),
        samples: 9,
        change,
        loss_before: float(4),
        loss_after: 0.5,
        crc: 0,
    };
    encode(&update.closed()).ok()
}

/// Confirmed samples from a few bytes.
fn samples(who: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    let sample = |byte: &u8| {
        let features = (0..INPUTS).flat_map(|_| (f32::from(*byte) / 128.0 - 0.5).to_le_bytes());
        RootSample {
            features: features.collect::<Vec<u8>>().into(),
            label: byte & 1,
            operator: format!("o{}", byte % 5),
        }
    };
    let samples = bytes.get(2..).unwrap_or(&[1, 200]).iter().take(ROOT_SAMPLES_MAX).map(sample).collect();
    let (epoch, first) = (number(bytes, 0), number(bytes, 1));
    let _ = who;
    encode(&RootSamples { lineage: terms().lineage.id(), epoch, first, samples }).ok()
}

/// The head at the broker, from a few bytes.
fn head(bytes: &[u8]) -> Option<Vec<u8>> {
    let head: Vec<f32> =
        (0..PARAMETERS).map(|at| f32::from(bytes.get(at + 2).copied().unwrap_or(7) as i8) * 1e3).collect();
    let full =
        HeadFull::of(terms().lineage, number(bytes, 0), &head, None, bytes.get(1).is_some_and(|byte| *byte == 9));
    encode(&full).ok()
}

pub(super) fn learner(tape: &[u8]) -> Verdict {
    let now = Now { mono_ms: 0, unix_ms: 1_800_000_000_000 };
    let mut desk = Desk { learner: Learner::new(terms()), disk: Vec::new(), now };
    let steps = steps(tape);
    for &(op, who, bytes) in &steps {
        let made = |bytes: Option<Vec<u8>>| bytes.unwrap_or_default();
        match op % 12 {
            0 => desk.give(Input::Update(node(who), bytes.to_vec()))?,
            1..=3 => desk.give(Input::Update(node(who), made(update(who, bytes))))?,
            4 => desk.give(Input::Samples(node(who), bytes.to_vec()))?,
            5 => desk.give(Input::Samples(node(who), made(samples(who, bytes))))?,
            6 => desk.give(Input::Head(if who & 1 == 0 { made(head(bytes)) } else { bytes.to_vec() }))?,
            7 => desk.give(Input::Order(match who % 5 {
                0 => Order::Freeze,
                1 => Order::Unfreeze,
                2 => Order::Revert,
                3 => Order::Out(node(who / 5)),
                _ => Order::In(node(who / 5)),
            }))?,
            8 => desk.give(Input::SayAgain)?,
            9 => {
                desk.now.mono_ms += number(bytes, 0).min(1 << 40);
                desk.give(Input::Tick)?;
            }
            10 => desk.restart(false)?,
            _ => desk.restart(true)?,
        }
    }
    desk.restart(false)?;
    Ok(steps.len() > 1 && desk.learner.version() > 0)
}

// ---- Seeds ----------------------------------------------------------------------------------------------------------

pub(super) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (lineage, change) = (terms().lineage, Packed::of(&[0.5, -0.25, 0.0, 0.0, 0.125, 0.0, 0.0, 1.0], 4).unwrap());
    let full = HeadFull::of(lineage.clone(), 3, &[0.5; PARAMETERS], Some(1), false);
    let delta = HeadDelta::of(lineage.id(), 3, &full.head().unwrap(), 5, change).unwrap();
    let ack = LearnAck { lineage: lineage.id(), epoch: 1, seq: 9, samples_epoch: 1, samples: 4 };
    let update = |who: u8, bytes: &[u8]| update(who, bytes).unwrap();
    let records = [Record::Update { node: node(1), update: decode(&update(1, &[1, 1, 0])).unwrap() }, Record::Release];
    let framed = records.iter().flat_map(|record| {
        let record = encode(record).unwrap();
        let (length, crc) = (record.len() as u32, picket_shared::learn::checksum(&record));
        [&length.to_le_bytes()[..], &crc.to_le_bytes(), &record].concat()
    });
    // Two rounds of four stations, samples, a head from elsewhere, a person, a crash, and more of the same.
    let tape = [
        (0..4).flat_map(|who| step(1, who, &[1, 1, 0])).collect::<Vec<u8>>(),
        step(5, 1, &[1, 1, 10, 200, 31, 90, 77, 128]),
        (0..4).flat_map(|who| step(1, who, &[1, 2, 1, 0, 0, 0, 0, 0, 0x3d, 0, 0, 0, 40, 200, 17, 3, 99])).collect(),
        step(10, 0, b""),
        step(6, 0, &[17, 0, 5, 6, 7]),
        step(7, 0, b""),
        step(7, 1, b""),
        step(7, 8, b""),
        step(2, 70, &[1, 3, 1, 0, 0x3f, 0, 0, 0, 0x3d, 0, 0, 0, 0, 2, 0x30, 5, 9, 200]),
        step(11, 0, b""),
        step(9, 0, &[13]),
        step(8, 0, b""),
    ];
    // A head of the last version that there is, and two stations that would move it.
    let end = [step(6, 0, &[19, 0, 5]), step(1, 0, &[1, 1, 19]), step(1, 1, &[1, 1, 19])];
    vec![
        ("learn", "update", update(1, &[1, 1, 0])),
        ("learn", "update no loss", update(1, &[1, 2, 0, 0, 0x7f, 0xc0, 0, 0])),
        ("learn", "full", encode(&full).unwrap()),
        ("learn", "delta", encode(&delta).unwrap()),
        ("learn", "samples", samples(1, &[1, 1, 10, 200, 31]).unwrap()),
        ("learn", "ack", encode(&ack).unwrap()),
        ("learn-log", "two", framed.collect()),
        ("learn-log", "record", encode(&Record::Freeze(Some("a person said so".into()))).unwrap()),
        ("learner", "life", tape.concat()),
        ("learner", "last version", end.concat()),
    ]
}
