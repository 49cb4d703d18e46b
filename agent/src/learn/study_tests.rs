//! The thread that learns: what the courier hands over comes to it however busy it is, and to the student that it is for.

use super::*;
use crate::frame::Area;
use crate::learn::features::{GEOMETRY, inputs};
use crate::learn::judge::Seen;
use crate::learn::miner::Frame;
use crate::track::{State as TrackState, Track};
use picket_shared::ids::EventId;
use picket_shared::learn::label::{Label, Labels};
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::learn::message::{HeadFull, RootSamples};

const FEATURES: usize = 2;
const WITHIN: Duration = Duration::from_secs(60);

fn backbone(digits: &str) -> Arc<Backbone> {
    Arc::new(Backbone { sha256: digits.repeat(32), features: FEATURES })
}

/// The head that stands at the broker for a network.
fn head(backbone: &Backbone) -> (Topic, Vec<u8>) {
    let shape = HeadShape::logistic(inputs(FEATURES) as u32);
    let lineage = Lineage { fleet_epoch: 1, backbone: backbone.sha256.clone(), shape };
    let topic = Topic::LearnHead(lineage.id());
    (topic, codec::encode(&HeadFull::of(lineage, 3, &shape.beginning(), None, false)).unwrap())
}

fn who() -> (NodeId, Boot) {
    (NodeId::new("n").unwrap(), Boot(7))
}

fn study(dir: &Path, backbone: Arc<Backbone>) -> Study {
    // The least there can be: it rests most of the time.
    let config = Config { enabled: true, cpu_percent: 0.1, ..Config::default() };
    Study::start(&config, &detect::Config::default(), who(), dir, Some(backbone)).unwrap()
}

/// A frame in which somebody is followed, or nobody.
fn look(number: u64, backbone: &Arc<Backbone>, somebody: bool) -> Job {
    let area = Area { x1: 10.0, y1: 10.0, x2: 30.0, y2: 70.0 };
    let (seen, features) = (vec![Seen { area, score: 0.6 }], vec![0.1; 1 + GEOMETRY + FEATURES]);
    let state = TrackState::Confirmed;
    let track = Track { id: 1, area, score: 0.6, state, hits: 5, start_ms: 0, last_seen_ms: 0 };
    let tracks = if somebody { vec![track] } else { vec![] };
    let frame = Frame { number, taken_ms: 200 * number, seen, features, tracks };
    Job::Looked(0, Arc::clone(backbone), Box::new(frame))
}

fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_connection_a_head_and_a_persons_word_come_to_it_while_frames_are_passed_over() {
    let (dir, backbone) = (tempfile::tempdir().unwrap(), backbone("ab"));
    let mut study = study(dir.path(), Arc::clone(&backbone));
    // Somebody was there for one frame, and after that frames come until there is no room for another.
    study.taps.jobs.send(look(1, &backbone, true)).unwrap();
    (2..).take_while(|number| study.taps.jobs.try_send(look(*number, &backbone, false)).is_ok()).for_each(drop);
    study.online(true);
    let (topic, full) = head(&backbone);
    study.hear(topic, full);
    let (node, boot) = who();
    let label = Label { event: EventId::of_track(&node, boot, 1), person: true, who: "anna".into() };
    let labels = Labels { labels: vec![label], ..Labels::default() };
    study.hear(Topic::LearnLabels(node.clone()), serde_json::to_vec(&labels).unwrap());
    let (topic, said) = wait("the confirmed sample to be said", || study.words.try_recv().ok());
    assert_eq!(topic, Topic::LearnSamples(node));
    let said: RootSamples = codec::decode(&said).unwrap();
    assert_eq!((said.samples.len(), said.samples[0].operator.as_str()), (1, "anna"));
}

#[test]
fn whoever_learns_over_another_network_from_now_on_hears_what_stands_for_it() {
    let (dir, first, second) = (tempfile::tempdir().unwrap(), backbone("ab"), backbone("cd"));
    let study = study(dir.path(), Arc::clone(&first));
    let (topic, full) = head(&second);
    study.hear(topic, full);
    wait("the head of another network to be refused", || {
        study.status().refused.contains_key("head_backbone").then_some(())
    });
    assert!(!study.status().learns);
    study.taps.jobs.send(look(1, &second, false)).unwrap();
    wait("its network to be learned over with the site", || study.status().learns.then_some(()));
    assert_eq!(study.status().version, 3);
}
