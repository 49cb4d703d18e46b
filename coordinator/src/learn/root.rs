//! The root set: samples that persons confirmed. One half says where learning should lead (the gate), the other half judges what came
//! of it (the canary). It is the key to robustness, and so the thing to poison: nobody may fill it alone, and it says nothing before
//! it knows every class from several stations. Pure.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::ids::NodeId;
use picket_shared::learn::LOCAL_STEPS;
use picket_shared::learn::lineage::{HeadKind, HeadShape};
use picket_shared::learn::message::RootSample;
use picket_shared::learn::train::{Sample, Trainer};

/// Samples that are kept, of all classes together.
pub const ROOT_KEPT_MAX: usize = 1024;
/// Numbers that they may have together: 16 MiB.
pub const ROOT_CELLS_MAX: usize = 4 * 1024 * 1024;
/// Of each class the gate needs so many.
pub const GATE_SAMPLES_MIN: usize = 10;
/// And where the answer is yes or no.
pub const GATE_SAMPLES_MIN_BINARY: usize = 50;
/// From so many stations.
pub const ROOT_STATIONS_MIN: usize = 3;
/// Of one class one operator, and one station, may say one of so many.
const SHARE: usize = 2;

/// Why a sample is not kept: a constant word.
pub type Flaw = &'static str;

#[derive(Debug, Clone)]
struct Kept {
    node: NodeId,
    operator: String,
    label: u8,
    features: Vec<f32>,
    /// Of the canary's half.
    canary: bool,
}

/// The samples.
#[derive(Debug, Clone)]
pub struct RootSet {
    shape: HeadShape,
    kept: Vec<Kept>,
    counts: Vec<u32>,
}

impl RootSet {
    /// None yet.
    pub fn new(shape: HeadShape) -> RootSet {
        RootSet { shape, kept: Vec::new(), counts: vec![0; shape.classes as usize] }
    }

    /// Takes a sample in.
    pub fn take(&mut self, node: &NodeId, sample: &RootSample) -> Result<(), Flaw> {
        let label = usize::from(sample.label);
        if label >= self.counts.len() {
            return Err("root_label");
        }
        let inputs = self.shape.inputs as usize;
        let features = sample.numbers(inputs).ok_or("root_features")?;
        let room = ROOT_KEPT_MAX.min(ROOT_CELLS_MAX / inputs);
        let of_class = (room / self.counts.len()).max(SHARE);
        let said_by = |who: &dyn Fn(&Kept) -> bool| {
            self.kept.iter().filter(|kept| kept.label == sample.label && who(kept)).count() >= of_class / SHARE
        };
        if said_by(&|kept| kept.operator == sample.operator) || said_by(&|kept| kept.node == *node) {
            return Err("root_flood");
        }
        if self.counts[label] as usize >= of_class {
            return Err("root_full");
        }
        // Turn by turn within a class, so that both halves know each.
        let canary = self.counts[label] % 2 == 1;
        self.counts[label] += 1;
        let (node, operator) = (node.clone(), sample.operator.clone());
        self.kept.push(Kept { node, operator, label: sample.label, features, canary });
        Ok(())
    }

    /// Samples by class.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// What the gate lacks, in a sentence; nothing where it is fit.
    pub fn lacks(&self) -> Option<String> {
        self.lacks_of(false)
    }

    fn lacks_of(&self, canary: bool) -> Option<String> {
        let needed = if self.shape.kind == HeadKind::Softmax { GATE_SAMPLES_MIN } else { GATE_SAMPLES_MIN_BINARY };
        let half = || self.kept.iter().filter(|kept| kept.canary == canary);
        for class in 0..self.counts.len() {
            let count = half().filter(|kept| usize::from(kept.label) == class).count();
            if count < needed {
                let whole = 2 * needed;
                return Some(format!(
                    "{} confirmed samples of class {class}; {whole} are needed of each",
                    self.counts[class]
                ));
            }
        }
        let stations = half().map(|kept| &kept.node).collect::<BTreeSet<_>>().len();
        let few = stations < ROOT_STATIONS_MIN;
        few.then(|| format!("confirmed samples of {stations} stations; those of {ROOT_STATIONS_MIN} are needed"))
    }

    /// Where the gate's half leads from a head, by the stations' own local steps; nothing where it is not fit.
    pub fn direction(&self, head: &[f32], rate: f32) -> Option<Vec<f32>> {
        if self.lacks().is_some() {
            return None;
        }
        let (samples, mut trainer) = (self.half(false), Trainer::new(self.shape));
        let mut delta = vec![0.0; head.len()];
        for _ in 0..LOCAL_STEPS {
            trainer.step(head, &mut delta, &samples, rate);
        }
        Some(delta)
    }

    /// The share of the canary's half that a head takes for what it is; nothing where that half is not fit.
    pub fn accuracy(&self, head: &[f32]) -> Option<f32> {
        if self.lacks_of(true).is_some() {
            return None;
        }
        let (samples, mut trainer) = (self.half(true), Trainer::new(self.shape));
        let right = samples.iter().filter(|sample| trainer.class_of(head, sample.features) == sample.label).count();
        Some(right as f32 / samples.len() as f32)
    }

    /// Whether a head is no worse than another on the canary's half: the mean of the differences of their losses and one standard
    /// error are not above zero. Nothing where that half is not fit.
    pub fn is_no_worse(&self, head: &[f32], than: &[f32]) -> Option<bool> {
        if self.lacks_of(true).is_some() {
            return None;
        }
        let (samples, mut trainer) = (self.half(true), Trainer::new(self.shape));
        let differences: Vec<f64> =
            samples.iter().map(|sample| trainer.loss_of(head, sample) - trainer.loss_of(than, sample)).collect();
        let count = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / count;
        let variance = differences.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (count - 1.0).max(1.0);
        Some(mean + (variance / count).sqrt() <= 0.0)
    }

    fn half(&self, canary: bool) -> Vec<Sample<'_>> {
        let half = self.kept.iter().filter(|kept| kept.canary == canary);
        half.map(|kept| Sample { features: &kept.features, label: kept.label, weight: 1.0 }).collect()
    }

    /// All samples with whose they are, in the order in which they came: taken in again, they make the same set.
    pub fn all(&self) -> impl Iterator<Item = (&NodeId, RootSample)> {
        self.kept.iter().map(|kept| {
            let features = kept.features.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into();
            (&kept.node, RootSample { features, label: kept.label, operator: kept.operator.clone() })
        })
    }
}

/// Each device's place in the count of its samples: (epoch, number).
pub type Places = BTreeMap<NodeId, (u64, u64)>;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(label: u8, x: f32, operator: &str) -> RootSample {
        // The first is what the network says itself, which has no opinion here.
        let features = [0.0, x].iter().flat_map(|x: &f32| x.to_le_bytes()).collect::<Vec<u8>>().into();
        RootSample { features, label, operator: operator.into() }
    }

    fn node(n: usize) -> NodeId {
        NodeId::new(format!("n{n}")).unwrap()
    }

    /// Of both classes, so many, from so many stations.
    fn filled(each: usize, stations: usize) -> RootSet {
        let mut root = RootSet::new(HeadShape::logistic(2));
        for n in 0..each {
            for label in 0..2 {
                let x = if label == 1 { 1.0 } else { -1.0 };
                root.take(&node(n / 2 % stations), &sample(label, x, &format!("o{}", n % 3))).unwrap();
            }
        }
        root
    }

    #[test]
    fn a_root_set_says_nothing_before_it_knows_every_class_from_several_stations() {
        assert!(filled(99, 3).lacks().is_some() || filled(98, 3).lacks().is_some());
        assert!(filled(100, 2).lacks().unwrap().contains("stations"));
        let mut misses = RootSet::new(HeadShape::softmax(2, 3));
        for n in 0..60 {
            misses.take(&node(n % 4), &sample((n % 2) as u8, 0.5, &format!("o{}", n % 5))).unwrap();
        }
        assert!(misses.lacks().unwrap().contains("class 2"));
        assert_eq!(misses.direction(&[0.0; 9], 1.0), None);

        let root = filled(100, 3);
        assert_eq!(root.lacks(), None);
        let direction = root.direction(&[0.0; 3], 1.0).unwrap();
        assert!(direction[1] > 0.5, "{direction:?}");
        assert_eq!(root.accuracy(&direction), Some(1.0));
        assert_eq!(root.is_no_worse(&direction, &[0.0; 3]), Some(true));
        assert_eq!(root.is_no_worse(&[0.0, -1.0, 0.0], &[0.0; 3]), Some(false));
    }

    #[test]
    fn neither_one_operator_nor_one_station_fills_a_class() {
        let mut root = RootSet::new(HeadShape::logistic(2));
        let kept = (0..2_000).filter(|n| root.take(&node(n % 9), &sample(1, 0.0, "anna")).is_ok()).count();
        assert_eq!(kept, 256);
        assert_eq!(root.take(&node(1), &sample(1, 0.0, "anna")), Err("root_flood"));
        let kept = (0..2_000).filter(|n| root.take(&node(77), &sample(1, 0.0, &format!("o{n}"))).is_ok()).count();
        assert_eq!(kept, 256);
        assert_eq!(root.take(&node(5), &sample(1, 0.0, "berta")), Err("root_full"));
        assert_eq!(root.take(&node(5), &sample(2, 0.0, "berta")), Err("root_label"));
        assert_eq!(root.take(&node(5), &sample(0, f32::NAN, "berta")), Err("root_features"));
        let short = RootSample { features: vec![0; 4].into(), ..sample(0, 0.0, "berta") };
        assert_eq!(root.take(&node(5), &short), Err("root_features"));
    }

    #[test]
    fn what_is_taken_in_again_is_the_same_set() {
        let root = filled(100, 3);
        let mut again = RootSet::new(HeadShape::logistic(2));
        root.all().for_each(|(node, sample)| again.take(node, &sample).unwrap());
        assert_eq!(again.direction(&[0.0; 3], 1.0), root.direction(&[0.0; 3], 1.0));
    }
}
