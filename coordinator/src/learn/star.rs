//! STAR-SGD: one row for each station, one plain step of all rows. Pure.
//!
//! Each station's newest change of the head is its row, whenever it comes: there are no rounds, and a buffer that a fast or hostile
//! station could fill is not there either (the memory of all stations is MIFA's, Gu et al., NeurIPS 2021). At a flush each row is
//! cut to the median length and weighted by its age; rows that point against what confirmed samples say are left out (Zeno++, Xie
//! et al., ICML 2020; FLTrust, Cao et al., NDSS 2021); each of the rest is mixed with its nearest (NNM, Allouah et al., AISTATS
//! 2023), the extremes of each coordinate are left out, and the mean is one step.
//!
//! Every sum runs in the order of the stations' names or of the coordinates, in f64, and is rounded to f32 once; no function is used
//! but the square root. So the same messages give the same bits on every processor, before a crash and after it.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::ids::NodeId;
use picket_shared::learn::message::digest;
use picket_shared::learn::view::{Fate, Mixing};
use picket_shared::limits::NODES_MAX;

use super::change::Change;
use super::sums::{Mixer, dots, norm};

/// Fewer distinct stations than this never make a flush by themselves.
pub const FRESH_MIN: usize = 2;
/// So many always do.
pub const FRESH_MAX: usize = 10;
/// Numbers that all rows may have together: 128 MiB.
pub const CELLS_MAX: usize = 32 * 1024 * 1024;

/// The constants of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The length of the step, in means of the rows.
    pub eta: f64,
    /// Rows whose angle to the confirmed samples' direction has no larger cosine are left out.
    pub theta: f64,
    /// The share of rows that is taken for hostile behind the gate.
    pub beta_gated: f64,
    /// And without one.
    pub beta_free: f64,
    /// Rows that began so many versions ago count no more.
    pub age_max: u64,
    /// How rows are mixed. The gate is used where there is a direction.
    pub mixing: Mixing,
    /// Distinct stations that make a flush; 0 asks for half of the stations, from [`FRESH_MIN`] to [`FRESH_MAX`].
    pub fresh: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        let (beta_gated, beta_free) = (0.1, 0.3);
        Settings { eta: 2.0, theta: -0.1, beta_gated, beta_free, age_max: 1024, mixing: Mixing::Nnm, fresh: 0 }
    }
}

/// A station's newest change of the head.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The change.
    pub values: Vec<f32>,
    /// The version that it began from.
    pub base: u64,
    /// Its length.
    norm: f64,
    /// Its place in the table of products.
    slot: usize,
    /// No flush has seen it.
    changed: bool,
}

/// What became of something that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is the station's row now.
    New,
    /// It is there already.
    Repeated,
    /// Something newer is there.
    Late,
}

/// Why a change is not taken. Nothing changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Of another number of parameters.
    #[error("a change of {0} parameters for a head of {1}")]
    Length(usize, usize),
    /// Infinite, or no number.
    #[error("a change that is not finite")]
    NotFinite,
    /// From a version that is not yet.
    #[error("a change from version {0}, and the head is of version {1}")]
    Future(u64, u64),
    /// One station more than there is memory for.
    #[error("rows for {0} stations are kept, and there is no room for another")]
    Rows(usize),
}

impl Refused {
    /// A constant word, for a counter.
    pub fn word(&self) -> &'static str {
        match self {
            Refused::Length(..) => "learn_length",
            Refused::NotFinite => "learn_not_finite",
            Refused::Future(..) => "learn_future",
            Refused::Rows(_) => "learn_rows",
        }
    }
}

/// What a flush did with one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Its length.
    pub norm: f64,
    /// What it was multiplied by to be no longer than the median.
    pub clip: f64,
    /// Versions since it began.
    pub age: u64,
    /// The cosine to the confirmed samples' direction.
    pub gate: Option<f64>,
    /// What became of it.
    pub fate: Fate,
}

/// What a flush did.
#[derive(Debug, Clone, PartialEq)]
pub struct Flush {
    /// Each row's part.
    pub parts: BTreeMap<NodeId, Part>,
    /// The length of the step.
    pub step: f64,
    /// The step would have left the numbers that a head can have, and was not made.
    pub overflow: bool,
}

/// The head and the rows.
#[derive(Debug, Clone)]
pub struct Star {
    settings: Settings,
    head: Vec<f32>,
    version: u64,
    rows: BTreeMap<NodeId, Row>,
    fresh: BTreeSet<NodeId>,
    seen: BTreeMap<NodeId, (u64, u64)>,
    /// The product of each two rows, by their slots; of changed rows it is computed at the next flush.
    products: Vec<Vec<f64>>,
}

impl Star {
    /// Begins with this head.
    pub fn new(settings: Settings, head: Vec<f32>, version: u64) -> Star {
        let (rows, fresh, seen) = Default::default();
        Star { settings, head, version, rows, fresh, seen, products: Vec::new() }
    }

    /// The head.
    pub fn head(&self) -> &[f32] {
        &self.head
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Each station's row, by name.
    pub fn rows(&self) -> &BTreeMap<NodeId, Row> {
        &self.rows
    }

    /// The newest (epoch, seq) of each station.
    pub fn seen(&self) -> &BTreeMap<NodeId, (u64, u64)> {
        &self.seen
    }

    /// Stations whose row no flush has seen.
    pub fn fresh(&self) -> &BTreeSet<NodeId> {
        &self.fresh
    }

    /// The SHA-256 of the head.
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.head)
    }

    fn rows_max(&self) -> usize {
        NODES_MAX.min(CELLS_MAX / self.head.len().max(1))
    }

    /// Whether something like this would be taken, without its values.
    pub fn place_of(&self, station: &NodeId, epoch: u64, seq: u64, base: u64) -> Result<Taken, Refused> {
        if base > self.version {
            return Err(Refused::Future(base, self.version));
        }
        match self.seen.get(station) {
            Some(newest) if *newest == (epoch, seq) => Ok(Taken::Repeated),
            Some(newest) if *newest > (epoch, seq) => Ok(Taken::Late),
            Some(_) => Ok(Taken::New),
            None if self.seen.len() >= self.rows_max() => Err(Refused::Rows(self.seen.len())),
            None => Ok(Taken::New),
        }
    }

    /// Takes a station's change in: the highest (epoch, seq) stays.
    pub fn take(
        &mut self,
        station: &NodeId,
        epoch: u64,
        seq: u64,
        base: u64,
        values: Vec<f32>,
    ) -> Result<Taken, Refused> {
        let change = Change::of(values).ok_or(Refused::NotFinite)?;
        self.take_read(station, epoch, seq, base, change)
    }

    /// The same of one that was read already.
    pub fn take_read(
        &mut self,
        station: &NodeId,
        epoch: u64,
        seq: u64,
        base: u64,
        change: Change,
    ) -> Result<Taken, Refused> {
        if change.values.len() != self.head.len() {
            return Err(Refused::Length(change.values.len(), self.head.len()));
        }
        let taken = self.place_of(station, epoch, seq, base)?;
        if taken == Taken::New {
            self.seen.insert(station.clone(), (epoch, seq));
            self.put(station, base, change, true);
        }
        Ok(taken)
    }

    /// Puts back what an earlier run had taken and kept.
    pub fn restore(&mut self, station: &NodeId, seen: (u64, u64), row: Option<(u64, Vec<f32>)>, fresh: bool) {
        self.seen.insert(station.clone(), seen);
        let row = row.filter(|(_, values)| values.len() == self.head.len());
        if let Some((base, change)) = row.and_then(|(base, values)| Some((base, Change::of(values)?))) {
            self.put(station, base, change, fresh);
        }
    }

    fn put(&mut self, station: &NodeId, base: u64, Change { values, norm }: Change, fresh: bool) {
        let next = self.products.len();
        let slot = self.rows.get(station).map_or(next, |row| row.slot);
        if slot == next {
            self.products.iter_mut().for_each(|products| products.push(0.0));
            self.products.push(vec![0.0; next + 1]);
        }
        self.rows.insert(station.clone(), Row { values, base, norm, slot, changed: true });
        if fresh {
            self.fresh.insert(station.clone());
        }
    }

    /// Whether enough stations said something new, of so many that learn.
    pub fn is_ready(&self, stations: usize) -> bool {
        let half = stations.div_ceil(2).clamp(FRESH_MIN, FRESH_MAX);
        let wanted = if self.settings.fresh > 0 { self.settings.fresh } else { half };
        self.fresh.len() >= wanted
    }

    /// Another head takes this one's place, as a higher version: the rows pointed from elsewhere, and go.
    pub fn replace(&mut self, head: Vec<f32>, version: u64) {
        (self.head, self.version) = (head, version);
        self.rows.clear();
        self.fresh.clear();
        self.products.clear();
    }

    /// One step of all rows but those of `out`. `direction` is where the confirmed samples lead from this head; nothing where they
    /// are not fit to say.
    pub fn flush(&mut self, direction: Option<&[f32]>, out: &BTreeSet<NodeId>) -> Flush {
        self.fresh.clear();
        let settings = self.settings;
        let (mut parts, mut live) = (BTreeMap::new(), Vec::new());
        for (station, row) in &self.rows {
            let age = self.version.saturating_sub(row.base);
            let old = age > settings.age_max;
            let frozen = out.contains(station);
            let fate = if frozen {
                Fate::Frozen
            } else if old {
                Fate::Old
            } else {
                Fate::Used
            };
            parts.insert(station.clone(), Part { norm: row.norm, clip: 1.0, age, gate: None, fate });
            if fate == Fate::Used {
                live.push((station, row));
            }
        }
        if live.is_empty() {
            return Flush { parts, step: 0.0, overflow: false };
        }
        let mut lengths: Vec<f64> = live.iter().map(|(_, row)| row.norm).collect();
        lengths.sort_by(f64::total_cmp);
        let median = lengths[lengths.len() / 2];
        let plain = settings.mixing == Mixing::Plain;
        let length = direction.map(norm);
        let mut used: Vec<(&Row, f64)> = Vec::with_capacity(live.len());
        for (station, row) in &live {
            let part = parts.get_mut(*station).expect("each live row has a part");
            let weight = 1.0 / (1.0 + part.age as f64).sqrt().sqrt();
            part.clip = if row.norm > 0.0 { (median / row.norm).min(1.0) } else { 1.0 };
            if let (Some(direction), Some(length), false) = (direction, length, plain) {
                let both = row.norm * length;
                let product = dots(&row.values, [direction])[0];
                let cosine = if both > 0.0 { product / both } else { 0.0 };
                part.gate = Some(cosine);
                if cosine <= settings.theta {
                    part.fate = Fate::Gated;
                    continue;
                }
            }
            used.push((row, if plain { 1.0 } else { part.clip * weight }));
        }
        let beta = if direction.is_some() && !plain { settings.beta_gated } else { settings.beta_free };
        let mean_only = matches!(settings.mixing, Mixing::Plain | Mixing::Clip) || used.len() < 4;
        let rows: Vec<(&[f32], f64)> = used.iter().map(|(row, factor)| (&*row.values, *factor)).collect();
        let mixer = if mean_only {
            Mixer::mean(rows)
        } else {
            let f = (beta * used.len() as f64).ceil() as usize;
            multiply(&mut self.products, &used);
            let product = |i: usize, j: usize| self.products[used[i].0.slot][used[j].0.slot] * used[i].1 * used[j].1;
            Mixer::nearest(rows, f, product)
        };
        let step = mixer.step(self.head.len());
        let next = self.head.iter().zip(&step).map(|(w, step)| (f64::from(*w) + settings.eta * step) as f32);
        let next: Vec<f32> = next.collect();
        let overflow = next.iter().any(|w| !w.is_finite());
        let mixed = used.iter().map(|(row, _)| row.slot).collect::<BTreeSet<_>>();
        if !overflow {
            self.head = next;
        }
        if !mean_only {
            // The products of these stand now; those of what was left out are computed when it counts again.
            self.rows.values_mut().for_each(|row| row.changed = !mixed.contains(&row.slot));
        }
        self.version += 1;
        let length = step.iter().fold(0.0, |sum, x| sum + (settings.eta * x) * (settings.eta * x)).sqrt();
        Flush { parts, step: if overflow { 0.0 } else { length }, overflow }
    }
}

/// Computes the products of the changed rows with all that count now.
fn multiply(products: &mut [Vec<f64>], used: &[(&Row, f64)]) {
    for (row, _) in used.iter().filter(|(row, _)| row.changed) {
        let mut put = |other: &Row, product: f64| {
            products[row.slot][other.slot] = product;
            products[other.slot][row.slot] = product;
        };
        let mut blocks = used.chunks_exact(8);
        for block in &mut blocks {
            let others: [&[f32]; 8] = std::array::from_fn(|n| &*block[n].0.values);
            dots(&row.values, others).iter().zip(block).for_each(|(product, (other, _))| put(other, *product));
        }
        for (other, _) in blocks.remainder() {
            put(other, dots(&row.values, [&other.values])[0]);
        }
    }
}

#[cfg(test)]
#[path = "star_tests.rs"]
mod tests;
