//! The root set: samples that persons confirmed. One half says where learning should lead (the gate), the other half judges what came
//! of it (the canary). It is the key to robustness, and so the thing to poison: nobody may fill it alone, it says nothing before
//! it knows every class from several stations, and the words that fit worst to what was released are left out. Pure.

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
/// Of each class one of so many samples is left out, those that fit worst (trimmed loss: Shen and Sanghavi, ICML 2019).
const LEFT_OUT_ONE_OF: usize = 4;

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

impl Kept {
    fn sample(&self) -> Sample<'_> {
        Sample { features: &self.features, label: self.label, weight: 1.0 }
    }
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

    /// Where the gate's half leads from a head, by the stations' own local steps; nothing where it is not fit. Here and below,
    /// `released` is the head that says which words count.
    pub fn direction(&self, head: &[f32], released: &[f32], rate: f32) -> Option<Vec<f32>> {
        if self.lacks().is_some() {
            return None;
        }
        let mut trainer = Trainer::new(self.shape);
        let samples = self.credible(false, released, &mut trainer);
        let mut delta = vec![0.0; head.len()];
        for _ in 0..LOCAL_STEPS {
            trainer.step(head, &mut delta, &samples, rate);
        }
        Some(delta)
    }

    /// The share of the canary's half that a head takes for what it is; nothing where that half is not fit.
    pub fn accuracy(&self, head: &[f32], released: &[f32]) -> Option<f32> {
        if self.lacks_of(true).is_some() {
            return None;
        }
        let mut trainer = Trainer::new(self.shape);
        let samples = self.credible(true, released, &mut trainer);
        let right = samples.iter().filter(|sample| trainer.class_of(head, sample.features) == sample.label).count();
        Some(right as f32 / samples.len() as f32)
    }

    /// Whether a head is no worse than the released one on the canary's half: the mean of the differences of their losses and one
    /// standard error are not above zero. Nothing where that half is not fit.
    pub fn is_no_worse(&self, head: &[f32], released: &[f32]) -> Option<bool> {
        if self.lacks_of(true).is_some() {
            return None;
        }
        let mut trainer = Trainer::new(self.shape);
        let samples = self.credible(true, released, &mut trainer);
        let differences: Vec<f64> =
            samples.iter().map(|sample| trainer.loss_of(head, sample) - trainer.loss_of(released, sample)).collect();
        let count = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / count;
        let variance = differences.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (count - 1.0).max(1.0);
        Some(mean + (variance / count).sqrt() <= 0.0)
    }

    /// A half without the quarter of each class that fits worst to the released head, in the order in which it came. That head passed the
    /// canary, which the one that is being learned did not yet; and a class that is always rare keeps three quarters of what it has.
    fn credible(&self, canary: bool, released: &[f32], trainer: &mut Trainer) -> Vec<Sample<'_>> {
        let half: Vec<Sample> = self.kept.iter().filter(|kept| kept.canary == canary).map(Kept::sample).collect();
        let misfit = |sample| Some(trainer.loss_of(released, sample)).filter(|loss| loss.is_finite());
        let misfits: Vec<f64> = half.iter().map(misfit).map(|loss| loss.unwrap_or(f64::INFINITY)).collect();
        let mut counts = vec![0; self.counts.len()];
        half.iter().for_each(|sample| counts[usize::from(sample.label)] += 1);
        let mut room: Vec<usize> = counts.iter().map(|count| count - count / LEFT_OUT_ONE_OF).collect();
        let mut order: Vec<usize> = (0..half.len()).collect();
        // Of equals the earlier one stays.
        order.sort_by(|a, b| misfits[*a].total_cmp(&misfits[*b]).then(a.cmp(b)));
        order.retain(|at| {
            let room = &mut room[usize::from(half[*at].label)];
            let stays = *room > 0;
            *room -= usize::from(stays);
            stays
        });
        order.sort_unstable();
        order.into_iter().map(|at| half[at]).collect()
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
    use picket_shared::random::SplitMix64;

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
        assert_eq!(misses.direction(&[0.0; 9], &[0.0; 9], 1.0), None);

        let root = filled(100, 3);
        assert_eq!(root.lacks(), None);
        let direction = root.direction(&[0.0; 3], &[0.0; 3], 1.0).unwrap();
        assert!(direction[1] > 0.5, "{direction:?}");
        assert_eq!(root.accuracy(&direction, &[0.0; 3]), Some(1.0));
        assert_eq!(root.is_no_worse(&direction, &[0.0; 3]), Some(true));
        assert_eq!(root.is_no_worse(&[0.0, -1.0, 0.0], &[0.0; 3]), Some(false));
    }

    /// Of each of twelve stations one operator's words: so many of each class are said of what the network is sure of and right. The
    /// first so many operators say the opposite of all that they are asked.
    fn said(liars: usize, each: usize) -> RootSet {
        let (mut root, mut random) = (RootSet::new(HeadShape::logistic(2)), SplitMix64::new(4));
        for n in 0..12 {
            for k in 0..2 * each {
                let person = k % 2 == 1;
                let side = if person { 1.0 } else { -1.0 };
                let [own, seen] = random.normals().map(|x| 0.1 * x as f32);
                let features = [0.5 * side + own, side + seen];
                let label = u8::from(person != (n < liars));
                let features = features.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into();
                let sample = RootSample { features, label, operator: format!("o{n}") };
                root.take(&node(n), &sample).unwrap();
            }
        }
        root
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        product(a, b) / (product(a, a) * product(b, b)).sqrt()
    }

    #[test]
    fn a_quarter_that_lies_turns_neither_where_it_leads_nor_what_judges() {
        let (network, honest) = ([0.0; 3], said(0, 10));
        let led = honest.direction(&network, &network, 0.3).unwrap();
        let (better, worse) = ([0.0, 1.0, 0.0], [0.0, -1.0, 0.0]);
        for liars in [2, 3] {
            let root = said(liars, 10);
            let direction = root.direction(&network, &network, 0.3).unwrap();
            assert!(cosine(&direction, &led) > 0.9, "{liars}: {direction:?} {led:?}");
            assert_eq!(root.accuracy(&better, &network), Some(1.0), "{liars}");
            assert_eq!(root.is_no_worse(&better, &network), Some(true), "{liars}");
            assert_eq!(root.is_no_worse(&worse, &network), Some(false), "{liars}");
            // A head that has turned does not choose by whom it is judged.
            let turned = [0.0, -8.0, 0.0];
            assert_eq!(root.accuracy(&turned, &network), Some(0.0), "{liars}");
        }
    }

    #[test]
    fn where_nobody_lies_it_leads_nearly_where_all_samples_do() {
        let (root, head) = (said(0, 10), [0.0; 3]);
        let (mut trainer, mut delta) = (Trainer::new(root.shape), vec![0.0; 3]);
        let all: Vec<Sample> = root.kept.iter().filter(|kept| !kept.canary).map(Kept::sample).collect();
        for _ in 0..LOCAL_STEPS {
            trainer.step(&head, &mut delta, &all, 0.3);
        }
        let trimmed = root.direction(&head, &head, 0.3).unwrap();
        assert!(cosine(&trimmed, &delta) > 0.98, "{trimmed:?} {delta:?}");
    }

    #[test]
    fn what_is_left_out_is_a_quarter_of_each_class_the_last_of_equals_first() {
        let mut root = filled(100, 3);
        let mut trainer = Trainer::new(root.shape);
        // All fit equally badly but one, whose numbers are no loss at all.
        root.kept[0].features = vec![f32::MAX; 2];
        let half: Vec<&[f32]> = root.kept.iter().filter(|kept| !kept.canary).map(|kept| &*kept.features).collect();
        assert_eq!(half.len(), 100);
        let kept = root.credible(false, &[0.0; 3], &mut trainer);
        let of_class = |label| kept.iter().filter(|sample| sample.label == label).count();
        assert_eq!([of_class(0), of_class(1)], [38, 38]);
        assert!(kept.iter().all(|sample| sample.features[0] == 0.0));
        let places: Vec<*const f32> = kept.iter().map(|sample| sample.features.as_ptr()).collect();
        let first: Vec<*const f32> = half.iter().skip(1).map(|features| features.as_ptr()).take(75).collect();
        assert!(first.iter().all(|place| places.contains(place)), "the earlier of equals stay");
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
        assert_eq!(again.direction(&[0.0; 3], &[0.0; 3], 1.0), root.direction(&[0.0; 3], &[0.0; 3], 1.0));
    }
}
