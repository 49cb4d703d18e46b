//! A learned head as a signed release: a canary commits it and then the others do, one that was poisoned is refused by the canary's own
//! held-out examples and goes nowhere else, and what was gone back to reaches all. Whoever is killed meanwhile, the end is the same.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use picket_agent::learn::examples::{Example, Source};
use picket_agent::learn::record::Record;
use picket_coordinator::learn::learner::Release;
use picket_coordinator::model::record::LearnedRef;
use picket_coordinator::model::registry::Registry;
use picket_shared::codec;
use picket_shared::crypto::Digest;
use picket_shared::ids::EventId;
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::learn::train::{Sample, Trainer};
use picket_shared::model::rollouts::{Course, Stage};
use picket_tests::text;

use super::rig::{Site, backbone, publish_root};
use super::yard::WITHIN;

const NODES: [&str; 3] = ["a", "b", "c"];

/// A head for which nobody is a person: whoever's examples know a few people finds that it loses, whatever else they saw.
fn blind() -> Vec<f32> {
    let mut head = HeadShape::logistic(137).beginning();
    head[137] = -50.0;
    head
}

impl Site {
    /// What each station knows by now: an event's looks, and whether somebody was there. A person's word goes before the tracker's.
    fn known(&self, name: &str) -> Vec<(Vec<f32>, bool)> {
        let folder = std::fs::read_dir(self.rig.at(name).join("learn")).unwrap().flatten().map(|file| file.path());
        let log = folder.into_iter().find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
        let records = picket_shared::log::parse(&std::fs::read(log).unwrap()).records;
        let examples: Vec<Example> = records
            .iter()
            .filter_map(|bytes| match codec::decode::<Record>(bytes).unwrap() {
                Record::Example(example) => Some(example),
                _ => None,
            })
            .collect();
        let said: BTreeSet<EventId> =
            examples.iter().filter(|one| one.source == Source::Operator).map(|one| one.event.clone()).collect();
        let counts = |one: &&Example| one.source == Source::Operator || !said.contains(&one.event);
        let described = |one: &Example| {
            let mut features = Vec::new();
            one.numbers(&mut features);
            (features, one.person)
        };
        examples.iter().filter(counts).map(described).collect()
    }

    /// A head that was learned from all that all stations know, what they hold out too: it loses nowhere.
    fn learned(&self) -> Vec<f32> {
        let shape = HeadShape::logistic(137);
        let known: Vec<(Vec<f32>, bool)> = NODES.iter().flat_map(|name| self.known(name)).collect();
        let batch: Vec<Sample<'_>> =
            known.iter().map(|(features, person)| Sample { features, label: u8::from(*person), weight: 1.0 }).collect();
        let (base, mut head, mut trainer) = (shape.beginning(), vec![0.0; shape.parameters()], Trainer::new(shape));
        let before = trainer.loss(&base, &batch);
        for _ in 0..2_000 {
            trainer.step(&base, &mut head, &batch, 0.3);
        }
        println!("{} examples: a loss of {before:.3}, and learned {:.3}", batch.len(), trainer.loss(&head, &batch));
        head
    }

    /// Releases a head; the file in which it travels to who has the one before, if there is one.
    fn release(&self, version: u64, head: Vec<f32>, revert_of: Option<u64>) -> Option<Digest> {
        let lineage = Lineage { fleet_epoch: 1, backbone: backbone(), shape: HeadShape::logistic(137) };
        let of = LearnedRef { lineage: lineage.id(), version };
        let registry = Registry::open(&self.rig.at("coordinator/models")).unwrap();
        assert!(registry.take_learned(&Release { lineage, version, head, revert_of }).unwrap());
        let file = registry.learned(of).unwrap().unwrap().file;
        let step = file.encodings.iter().find(|encoding| encoding.from.is_some())?;
        println!("head {version}: {} bytes of {}", step.length, file.length);
        Some(step.sha256)
    }
}

#[test]
fn a_learned_head_comes_by_canaries_a_poisoned_one_stops_there_and_going_back_reaches_all() {
    // They learn nothing by themselves: what is judged by is what is released.
    let mut site = Site::start_with(&NODES, "rate = 0.001\n", publish_root);
    let frozen = site.rig.command(&["learn", "freeze"]);
    assert!(frozen.status.success(), "{}", text(&frozen));
    site.until("every station to be able to compare heads", |heard| {
        let judges = |name: &str| heard.models.get(name)?.learned.as_ref().map(|learned| learned.judges);
        NODES.iter().all(|name| judges(name) == Some(true)).then_some(())
    });
    // By so many as tell: of fewer one that is wrong weighs too much.
    let deadline = Instant::now() + 4 * WITHIN;
    while NODES.iter().any(|name| site.status(name)["examples"]["held_out"].as_u64() < Some(40)) {
        assert!(Instant::now() < deadline, "{:?}", site.statuses());
        site.label();
        std::thread::sleep(Duration::from_millis(500));
    }
    let good = site.learned();
    assert_eq!(site.release(1000, good.clone(), None), None, "there is none before it");
    let done = site.until_released(1000, Course::Done);
    assert_eq!(done.stations.len(), 3);
    assert_eq!(done.stations.iter().filter(|station| station.canary).count(), 1);
    for station in &done.stations {
        assert_eq!(station.outcome, Stage::Committed, "{station:?}");
        assert!(station.samples >= 6 && station.difference.unwrap() < 0.0, "{station:?}");
    }
    assert_eq!(site.used(), [1000; 3]);

    // A device and the coordinator are killed: what was committed is.
    site.kill("b");
    site.kill_coordinator();
    site.until_released(1000, Course::Done);

    // Properly signed, and poison.
    let step = site.release(1001, blind(), None).expect("it is told as a step from the one before");
    let halted = site.until_released(1001, Course::Halted);
    let of = |stage| halted.stations.iter().filter(move |station| station.outcome == stage);
    assert_eq!((of(Stage::RolledBack).count(), of(Stage::Committed).count()), (1, 0), "{halted:?}");
    let canary = of(Stage::RolledBack).next().unwrap();
    assert!(canary.canary && canary.difference.unwrap() > 0.0, "{canary:?}");
    assert!(halted.why.contains("it loses"), "{halted:?}");
    // What a device that was killed had of the one before is gone, and it fetches the next one whole.
    let name = canary.node.to_string();
    assert_eq!(site.heard().wanted.contains(&(name.clone(), step)), name != "b");
    assert_eq!(site.used(), [1000; 3]);

    // A person goes back, and nobody is asked first.
    site.release(1002, good, Some(1000));
    let back = site.until_released(1002, Course::Done);
    assert_eq!((back.revert_of, back.stations.len()), (Some(1000), 3));
    assert!(back.stations.iter().all(|station| station.outcome == Stage::Committed && !station.canary), "{back:?}");
    assert_eq!(site.used(), [1002; 3]);
    for release in [done, halted, back] {
        println!("{}", serde_json::to_string(&release).unwrap());
    }
}
