//! One model to many devices over a line that loses a tenth of everything, while devices and the coordinator die: what it costs
//! in bytes and time, against a download for each. The real cores of both sides, in simulated time.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use fastrand::Rng;
use picket_agent::model::fetch::{Fetch, Size};
use picket_coordinator::model::blobs::{Blobs, Key};
use picket_shared::chunks::Chunks;
use picket_shared::crypto::Digest;
use picket_shared::ids::NodeId;

const LENGTH: u64 = 5_000_000;
const CHUNK_BYTES: u32 = 64 * 1024;
const BYTES_PER_S: u64 = 256 * 1024;
const STEP_MS: u64 = 10;
/// What takes longer than this in simulated time does not come to an end.
const GIVE_UP_MS: u64 = 24 * 3_600_000;
/// Chunks are noted on the disk after so many; a crash loses those that were not.
const NOTED: u32 = 8;

/// What is done to them.
#[derive(Clone, Copy)]
struct Trouble {
    loss: f64,
    /// Mean time between two deaths of one device; 0 for none.
    device_dies_ms: u64,
    /// The same of the coordinator.
    coordinator_dies_ms: u64,
}

/// What it cost.
#[derive(Debug, PartialEq)]
struct Cost {
    bytes: u64,
    /// Until all had it, and until half had it.
    all_ms: u64,
    half_ms: u64,
    wants: u64,
    deaths: u64,
}

struct Device {
    name: NodeId,
    /// `None` while it is dead, until then.
    fetch: Result<Fetch, u64>,
    /// What its disk has noted, and what it has not yet.
    noted: Chunks,
    unnoted: Vec<u32>,
    done_ms: Option<u64>,
}

fn size() -> Size {
    Size { length: LENGTH, chunk_bytes: CHUNK_BYTES }
}

fn serve(devices: u32, trouble: Trouble, seed: u64) -> Cost {
    let mut rng = Rng::with_seed(seed);
    let blob: Key = (Digest([7; 32]), CHUNK_BYTES);
    let mut blobs = Blobs::new(BYTES_PER_S);
    let mut all: Vec<Device> = (0..devices)
        .map(|n| Device {
            name: NodeId::new(format!("edge-{n}")).unwrap(),
            fetch: Ok(Fetch::new(0, size(), Chunks::none(size().chunks()), rng.f64())),
            noted: Chunks::none(size().chunks()),
            unnoted: Vec::new(),
            done_ms: None,
        })
        .collect();
    let (mut bytes, mut wants, mut deaths, mut now_ms, mut coordinator_back_ms) = (0, 0, 0, 0, 0);
    let happens = |rng: &mut Rng, mean_ms: u64| mean_ms > 0 && rng.u64(..mean_ms) < STEP_MS;
    while all.iter().any(|device| device.done_ms.is_none()) {
        now_ms += STEP_MS;
        assert!(now_ms < GIVE_UP_MS, "it does not come to an end");
        if happens(&mut rng, trouble.coordinator_dies_ms) {
            // It knows nothing of before when it is back.
            (blobs, coordinator_back_ms, deaths) = (Blobs::new(BYTES_PER_S), now_ms + 5_000, deaths + 1);
        }
        for device in &mut all {
            if device.done_ms.is_some() {
                continue;
            }
            if let Err(back_ms) = device.fetch {
                if now_ms < back_ms {
                    continue;
                }
                device.fetch = Ok(Fetch::new(now_ms, size(), device.noted.clone(), rng.f64()));
            } else if happens(&mut rng, trouble.device_dies_ms) {
                device.unnoted.clear();
                device.fetch = Err(now_ms + rng.u64(1_000..20_000));
                deaths += 1;
                continue;
            }
            let fetch = device.fetch.as_mut().unwrap();
            if let Some(ranges) = fetch.ask(now_ms, rng.f64()) {
                wants += 1;
                if rng.f64() >= trouble.loss && now_ms >= coordinator_back_ms {
                    blobs.want(now_ms, &device.name, blob, LENGTH, &ranges).unwrap();
                }
            }
        }
        while now_ms >= coordinator_back_ms
            && let Some(due) = blobs.next(now_ms)
        {
            bytes += u64::from(due.bytes);
            for device in &mut all {
                let Ok(fetch) = &mut device.fetch else { continue };
                if rng.f64() < trouble.loss || !fetch.came(now_ms, due.index, due.bytes as usize).unwrap() {
                    continue;
                }
                fetch.written(due.index, true);
                device.unnoted.push(due.index);
                if device.unnoted.len() as u32 >= NOTED || fetch.is_whole() {
                    for index in device.unnoted.drain(..) {
                        device.noted.add(index);
                    }
                }
                if fetch.is_whole() {
                    assert_eq!(fetch.bytes(), LENGTH);
                    device.done_ms = Some(now_ms);
                }
            }
        }
    }
    let mut done: Vec<u64> = all.iter().map(|device| device.done_ms.unwrap()).collect();
    done.sort_unstable();
    Cost { bytes, all_ms: now_ms, half_ms: done[done.len() / 2], wants, deaths }
}

fn told(what: &str, cost: &Cost) {
    let Cost { bytes, all_ms, half_ms, wants, deaths } = cost;
    println!(
        "{what}: {:.1} MB sent, half in {:.0} s, all in {:.0} s, {wants} requests, {deaths} deaths",
        *bytes as f64 / 1e6,
        *half_ms as f64 / 1e3,
        *all_ms as f64 / 1e3
    );
}

const KIND: Trouble = Trouble { loss: 0.0, device_dies_ms: 0, coordinator_dies_ms: 0 };
const HARSH: Trouble = Trouble { loss: 0.1, device_dies_ms: 60_000, coordinator_dies_ms: 45_000 };

#[test]
fn fifty_devices_are_served_for_little_more_than_one() {
    let one = serve(1, KIND, 1);
    told("one device, nothing lost", &one);
    assert_eq!(one.bytes, LENGTH, "each byte once");
    assert!(one.wants <= 2, "it asks once more at most before the first piece comes");
    let fifty = serve(50, KIND, 1);
    told("50 devices, nothing lost", &fifty);
    assert_eq!(fifty.bytes, LENGTH, "all of them by one transmission");
}

#[test]
fn a_tenth_lost_and_deaths_of_both_sides_cost_a_few_transmissions_and_no_device() {
    let mut worst: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..5 {
        let lossy = serve(50, Trouble { loss: 0.1, ..KIND }, seed);
        let harsh = serve(50, HARSH, seed);
        if seed == 0 {
            told("50 devices, a tenth lost", &lossy);
            told("50 devices, a tenth lost, devices and the coordinator die", &harsh);
        }
        assert!(harsh.deaths > 20, "{harsh:?}");
        for (what, cost, most) in [("lossy", &lossy, 5), ("harsh", &harsh, 15)] {
            assert!(cost.bytes <= most * LENGTH, "{what}: {cost:?}");
            let bytes = worst.entry(what).or_default();
            *bytes = (*bytes).max(cost.bytes);
        }
    }
    // The same devices, each served by itself at the same pace: one after the other.
    let apart: Vec<Cost> = (0..50).map(|seed| serve(1, Trouble { loss: 0.1, ..KIND }, seed)).collect();
    let (bytes, ms) = apart.iter().fold((0, 0), |(bytes, ms), cost| (bytes + cost.bytes, ms + cost.all_ms));
    println!(
        "50 downloads one by one, a tenth lost: {:.0} MB sent, all in {:.0} s",
        bytes as f64 / 1e6,
        ms as f64 / 1e3
    );
    println!("the most of 5 seeds: {worst:?}");
    assert!(worst["harsh"] * 4 < bytes, "it is hardly better than a download for each");
}
