//! The tasks that aggregators are compared on: handwritten digits dealt unevenly to 8 or 32 stations of unequal speed. The bytes
//! are those of the exported benchmark, with the pixels as they were before their means were taken off.

use std::fmt;

use picket_shared::learn::lineage::HeadShape;
use serde::Deserialize;

const CLASSES: u32 = 10;
const PIXELS: usize = 64;
const MEANS: &[u8] = include_bytes!("tasks/digits_means.f32");
const TRAIN: (&[u8], &[u8]) = (include_bytes!("tasks/digits_train.u8"), include_bytes!("tasks/digits_train_labels.u8"));
const TEST: (&[u8], &[u8]) = (include_bytes!("tasks/digits_test.u8"), include_bytes!("tasks/digits_test_labels.u8"));

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum TaskName {
    /// 8 stations.
    T1,
    /// 32 stations.
    T2,
    /// 32 stations, of which the slow ones have two classes almost to themselves.
    T2s,
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Samples and their classes.
#[derive(Debug, Clone)]
pub struct Set {
    /// Features of a sample.
    pub inputs: usize,
    /// Row by row.
    pub features: Vec<f32>,
    /// One for each row.
    pub labels: Vec<u8>,
}

impl Set {
    /// A sample's features.
    pub fn features(&self, at: usize) -> &[f32] {
        &self.features[at * self.inputs..(at + 1) * self.inputs]
    }
}

/// A task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its head.
    pub shape: HeadShape,
    /// Its seed.
    pub seed: u64,
    /// Seconds that a message takes beside its bytes.
    pub latency_s: f64,
    /// How likely a job is lost.
    pub lost: f64,
    /// The accuracy to be reached.
    pub target: f64,
    /// Seconds that a run has.
    pub budget_s: f64,
    /// What is learned from.
    pub train: Set,
    /// What is judged by.
    pub test: Set,
    /// Each station's samples.
    pub dealt: Vec<Vec<usize>>,
    /// The confirmed samples.
    pub root: Vec<usize>,
    /// Each station's seconds for one job.
    pub compute_s: Vec<f64>,
    /// Each station's bytes a second to the coordinator.
    pub uplink: Vec<f64>,
    /// And back.
    pub downlink: Vec<f64>,
}

#[derive(Deserialize)]
struct Manifest {
    seed: u64,
    latency_s: f64,
    drop_prob: f64,
}

impl Task {
    /// The task of this name.
    pub fn of(name: TaskName) -> Task {
        macro_rules! files {
            ($folder:literal) => {
                [
                    &include_bytes!(concat!("tasks/", $folder, "/manifest.json"))[..],
                    &include_bytes!(concat!("tasks/", $folder, "/client_idx.u32"))[..],
                    &include_bytes!(concat!("tasks/", $folder, "/client_off.u32"))[..],
                    &include_bytes!(concat!("tasks/", $folder, "/root_idx.u32"))[..],
                    &include_bytes!(concat!("tasks/", $folder, "/compute_s.f64"))[..],
                    &include_bytes!(concat!("tasks/", $folder, "/uplink_Bps.f64"))[..],
                    &include_bytes!(concat!("tasks/", $folder, "/downlink_Bps.f64"))[..],
                ]
            };
        }
        let [manifest, indices, offsets, root, compute_s, uplink, downlink] = match name {
            TaskName::T1 => files!("t1"),
            TaskName::T2 => files!("t2"),
            TaskName::T2s => files!("t2s"),
        };
        let manifest: Manifest = serde_json::from_slice(manifest).expect("the manifest came with the program");
        let (indices, offsets) = (whole(indices), whole(offsets));
        Task {
            shape: HeadShape::softmax(PIXELS as u32, CLASSES),
            seed: manifest.seed,
            latency_s: manifest.latency_s,
            lost: manifest.drop_prob,
            target: 0.93,
            budget_s: if name == TaskName::T1 { 240.0 } else { 180.0 },
            train: set(TRAIN),
            test: set(TEST),
            dealt: offsets.windows(2).map(|ends| indices[ends[0]..ends[1]].to_vec()).collect(),
            root: whole(root),
            compute_s: floats(compute_s),
            uplink: floats(uplink),
            downlink: floats(downlink),
        }
    }
}

fn set((pixels, labels): (&[u8], &[u8])) -> Set {
    let means: Vec<f32> = MEANS.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let feature = |(at, pixel): (usize, &u8)| (f64::from(*pixel) / 16.0 - f64::from(means[at % PIXELS])) as f32;
    Set { inputs: PIXELS, features: pixels.iter().enumerate().map(feature).collect(), labels: labels.to_vec() }
}

fn whole(bytes: &[u8]) -> Vec<usize> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize).collect()
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|b| f64::from_le_bytes(*b.first_chunk().expect("a chunk of eight"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::crypto::sha256_hex;

    #[test]
    fn the_tasks_are_the_exported_ones_to_the_bit() {
        let bytes = |set: &Set| sha256_hex(&set.features.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        for (name, stations) in [(TaskName::T1, 8), (TaskName::T2, 32), (TaskName::T2s, 32)] {
            let task = Task::of(name);
            assert_eq!(bytes(&task.train), "b462178b2df7219fd7957329cc2c3c12d782dd59d14c650463d1ed8fd1f66677");
            assert_eq!(bytes(&task.test), "9a706f53bcfd94eef28dbd81dca9b8e4bb06cd90229d176825018884697fb054");
            assert_eq!((task.dealt.len(), task.compute_s.len(), task.root.len()), (stations, stations, 100));
            assert_eq!(task.dealt.iter().map(Vec::len).sum::<usize>(), 1437);
        }
    }
}
