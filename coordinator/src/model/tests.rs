//! From the owner's keys to what a device is told: a release is made, signed, published, assigned, renewed and taken back, and
//! each message is judged as a device would judge it.

mod heads;
mod rollouts;

use std::path::{Path, PathBuf};

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::compress::{self, Segment};
use picket_shared::crypto::{Digest, SecretKey};
use picket_shared::ids::{ModelName, NodeId, StationId};
use picket_shared::limits::MODEL_ASSIGNMENT_LIFE_S;
use picket_shared::model::{Assignment, Envelope, Facts, Manifest, Outcome, Plan, Root, TrialTerms, Trusted, verify};
use picket_shared::topics::Topic;

use super::desk::{Desk, LOOK_MS};
use super::offline::{self, Owned, RootTerms, Rotation};
use super::pack::{self, Contents};
use super::record::{ReleaseRef, Wish};
use super::registry::Registry;

const NOW_S: u64 = 1_800_000_000;

/// An owner's machine with two keys and a root, and a site.
struct Bench {
    dir: tempfile::TempDir,
    registry: Registry,
    orders: SecretKey,
    trusted: Trusted,
}

fn node() -> NodeId {
    NodeId::new("gate-3").unwrap()
}

fn person(counter: u64) -> ReleaseRef {
    ReleaseRef { name: ModelName::new("person").unwrap(), counter }
}

fn wish(release: Option<ReleaseRef>) -> Wish {
    let station = StationId::new("gate").unwrap();
    Wish { station, release, head: None, trial: TrialTerms::default(), not_before_s: 0 }
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["one.pem", "two.pem", "three.pem"] {
            offline::keygen(&at(name)).unwrap();
        }
        std::fs::write(at("model.onnx"), b"the first model").unwrap();
        std::fs::write(at("head.f32"), [0; 12]).unwrap();
        let terms = RootTerms { keys: vec![at("one.pem"), at("two.pem")], members: vec![], threshold: None, days: 365 };
        let root = offline::new_root(&terms, NOW_S).unwrap();
        let registry = Registry::open(&at("models")).unwrap();
        assert_eq!(registry.publish_root(&root).unwrap(), 1);
        Owned::Root(root.clone()).write(&at("root.json")).unwrap();
        let trusted = Trusted::begin(Root::anchor(&root).unwrap());
        Bench { registry, orders: SecretKey::generate().unwrap(), trusted, dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn contents(&self, counter: u64) -> Contents {
        Contents {
            model: self.at("model.onnx"),
            name: person(1).name,
            counter,
            out: self.at("unused"),
            head: Some(self.at("head.f32")),
            calibration: None,
            labels: None,
            encodings: vec![],
            head_encodings: vec![],
            family: None,
            input: Some("384x288".into()),
            precision: "fp32".into(),
            agreement: 0.85,
            ap50: None,
            count_off: None,
            arch: vec![],
            provider: vec![],
            memory_mib: 0,
            runtime_api: 20,
            delegate_head: Some(10.0),
            chunk_kib: 32,
            days: 300,
        }
    }

    fn packed(&self, counter: u64, by: &[&str]) -> Envelope {
        let mut release = Owned::Release(pack::pack(&self.contents(counter), NOW_S).unwrap());
        if !by.is_empty() {
            release.sign(&by.iter().map(|name| self.at(name)).collect::<Vec<_>>()).unwrap();
        }
        match release {
            Owned::Release(envelope) => envelope,
            Owned::Root(_) => unreachable!("a release was packed"),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.at("nothing"), self.at("model.onnx"), self.at("head.f32")]
    }

    fn publish(&self, counter: u64) -> Manifest {
        let envelope = self.packed(counter, &["one.pem", "two.pem"]);
        self.registry.publish(&envelope, &self.files(), NOW_S).unwrap()
    }

    /// What a device makes of an assignment; it remembers.
    fn device(&mut self, assignment: &Assignment, now_s: u64) -> Result<Plan, &'static str> {
        let (orders, station) = (self.orders.public(), StationId::new("gate").unwrap());
        let facts = Facts {
            node: &node(),
            station: &station,
            orders: Some(&orders),
            arch: "x86_64",
            providers: &["cpu".to_owned()],
            memory_bytes: 1 << 30,
            runtime_api: 24,
            learns: None,
        };
        let Outcome { trusted, verdict, .. } = verify(&self.trusted, assignment, &facts, now_s);
        self.trusted = trusted;
        verdict.map_err(|refusal| refusal.word())
    }

    fn said(&self, desk: &mut Desk, mono_ms: u64, now_s: u64, leader: u32) -> Vec<Assignment> {
        let key = || Ok(SecretKey::from_pem(&self.orders.to_pem()).unwrap());
        let said = desk.look(Now { mono_ms, unix_ms: now_s * 1000 }, leader, key);
        let read = |(topic, payload): (Topic, Vec<u8>)| {
            assert_eq!(topic, Topic::ModelAssignment(node()));
            codec::decode(&payload).unwrap()
        };
        said.into_iter().map(read).collect()
    }
}

fn sentence<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> String {
    let text = match result {
        Ok(value) => panic!("{value:?}"),
        Err(error) => error.to_string(),
    };
    assert!(!text.contains('\n') && text.len() > 12, "{text}");
    text
}

#[test]
fn a_release_goes_from_the_owners_keys_to_a_devices_plan() {
    let mut bench = Bench::new();
    let manifest = bench.publish(3);
    assert_eq!((manifest.counter, manifest.input, manifest.artifacts().count()), (3, Some([384, 288]), 2));
    assert_eq!(bench.publish(3), manifest, "the same again is the same release");
    let record = bench.registry.assign(node(), wish(Some(person(3))), NOW_S).unwrap();
    assert_eq!(bench.registry.assign(node(), wish(Some(person(3))), NOW_S + 9).unwrap(), record, "and the same order");
    let assignment = bench.registry.assignment(&record, &bench.orders).unwrap();
    assert_eq!(bench.registry.assignment(&record, &bench.orders).unwrap(), assignment);
    assert_eq!(bench.device(&assignment, NOW_S).unwrap().release, Some(manifest.clone()));
    let blob = bench.registry.blob(&manifest.file.sha256).unwrap();
    assert_eq!(std::fs::read(blob).unwrap(), b"the first model");
    // Cleared, by an order that is signed too.
    let record = bench.registry.assign(node(), wish(None), NOW_S).unwrap();
    let cleared = bench.registry.assignment(&record, &bench.orders).unwrap();
    assert_eq!(bench.device(&cleared, NOW_S).unwrap().release, None);
    assert_eq!(bench.device(&assignment, NOW_S), Err("model_replayed"));
}

#[test]
fn what_the_owner_did_not_sign_is_not_published() {
    let bench = Bench::new();
    let refused = |envelope: &Envelope, files: &[PathBuf]| sentence(bench.registry.publish(envelope, files, NOW_S));
    let files = bench.files();
    assert!(refused(&bench.packed(1, &[]), &files).contains("not signed"));
    assert!(refused(&bench.packed(1, &["one.pem"]), &files).contains("1 of the 2 keys"));
    assert!(refused(&bench.packed(1, &["one.pem", "three.pem"]), &files).contains("1 of the 2 keys"));
    let both = bench.packed(1, &["one.pem", "two.pem"]);
    assert!(refused(&both, &files[..1]).contains("none of the files is the model"));
    assert!(refused(&both, &files[..2]).contains("none of the files is the head"));
    assert_eq!(bench.registry.releases().unwrap(), [], "a release is there with all its files, or not");
    bench.publish(1);
    std::fs::write(bench.at("model.onnx"), b"another model").unwrap();
    assert!(refused(&bench.packed(1, &["one.pem", "two.pem"]), &files).contains("another release person 1 already"));
    let late = bench.registry.publish(&both, &files, NOW_S + 301 * 86_400);
    assert!(sentence(late).contains("has expired"));
    assert!(sentence(bench.registry.assign(node(), wish(Some(person(7))), NOW_S)).contains("no release person 7"));
    let late = bench.registry.assign(node(), wish(Some(person(1))), NOW_S + 301 * 86_400);
    assert!(sentence(late).contains("has expired"));
}

#[test]
fn a_revoked_release_leaves_every_node_and_does_not_come_back() {
    let mut bench = Bench::new();
    let manifest = bench.publish(3);
    let record = bench.registry.assign(node(), wish(Some(person(3))), NOW_S).unwrap();
    assert_eq!(bench.registry.revoke(&person(3), NOW_S).unwrap(), 1);
    let after = bench.registry.records().unwrap().remove(0);
    assert!(after.number > record.number && after.wish.release.is_none());
    let assignment = bench.registry.assignment(&after, &bench.orders).unwrap();
    assert_eq!(bench.device(&assignment, NOW_S).unwrap().release, None);
    assert_eq!(bench.registry.blob(&manifest.file.sha256), None, "nobody names its files any more");
    assert!(sentence(bench.registry.assign(node(), wish(Some(person(3))), NOW_S)).contains("was revoked"));
    let again = bench.packed(3, &["one.pem", "two.pem"]);
    assert!(sentence(bench.registry.publish(&again, &bench.files(), NOW_S)).contains("was revoked"));
    assert!(sentence(bench.registry.revoke(&person(9), NOW_S)).contains("no release person 9"));
    // The same file under the next counter is another release.
    bench.publish(4);
    assert!(bench.registry.assign(node(), wish(Some(person(4))), NOW_S).is_ok());
}

#[test]
fn files_that_another_release_names_stay() {
    let bench = Bench::new();
    let manifest = bench.publish(1);
    bench.publish(2);
    bench.registry.revoke(&person(1), NOW_S).unwrap();
    assert!(bench.registry.blob(&manifest.file.sha256).is_some());
}

#[test]
fn a_root_is_rotated_and_nodes_follow() {
    let mut bench = Bench::new();
    bench.publish(3);
    bench.registry.assign(node(), wish(Some(person(3))), NOW_S).unwrap();
    let one = offline::key(&bench.at("one.pem")).unwrap().public();
    let three = offline::key(&bench.at("three.pem")).unwrap().public();
    let rotation = Rotation {
        root: bench.at("root.json"),
        keys: vec![bench.at("one.pem"), bench.at("two.pem")],
        add: vec![three.into()],
        remove: vec![one.id().to_string()],
        threshold: None,
        days: 365,
    };
    let next = offline::rotate_root(&rotation, NOW_S).unwrap();
    assert!(sentence(bench.registry.publish_root(&next)).contains("own keys"), "the new member has not signed");
    let mut next = Owned::Root(next);
    next.sign(&[bench.at("three.pem")]).unwrap();
    let Owned::Root(next) = next else { unreachable!("a root stays one") };
    assert_eq!(bench.registry.publish_root(&next).unwrap(), 2);
    assert_eq!(bench.registry.publish_root(&next).unwrap(), 2, "the same again");
    // What the retired key signed counts no more, here as on the device, until the owner signs it again.
    let mut desk = Desk::new(&bench.at("models"));
    assert_eq!(bench.said(&mut desk, 0, NOW_S, 1), []);
    assert!(desk.problems()[0].contains("gate-3 is not told which model it runs"), "{:?}", desk.problems());
    assert!(sentence(bench.registry.assign(node(), wish(Some(person(3))), NOW_S)).contains("1 of the 2 keys"));
    let again = bench.packed(3, &["one.pem", "two.pem", "three.pem"]);
    bench.registry.publish(&again, &bench.files(), NOW_S).unwrap();
    let said = bench.said(&mut desk, LOOK_MS, NOW_S, 1);
    assert_eq!((said.len(), said[0].roots.len(), desk.problems().len()), (1, 2, 0));
    assert!(bench.device(&said[0], NOW_S).is_ok());
    assert_eq!(bench.trusted.root.version, 2);
}

#[test]
fn a_head_of_the_sites_own_is_signed_when_it_is_assigned() {
    let mut bench = Bench::new();
    bench.publish(3);
    let head: Vec<u8> = [1f32, 2.0, 2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let large: Vec<u8> = [9f32, 9.0, 9.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    for wrong in [&head[..8], &large, &[0xff; 12]] {
        assert!(sentence(bench.registry.publish_head(&person(3), wrong, NOW_S + 60)).contains("lets the site replace"));
    }
    let counter = bench.registry.publish_head(&person(3), &head, NOW_S + 60).unwrap().counter;
    let with_head = |counter| Wish { head: Some(counter), ..wish(Some(person(3))) };
    assert!(sentence(bench.registry.assign(node(), with_head(9), NOW_S)).contains("no head 9"));
    let record = bench.registry.assign(node(), with_head(counter), NOW_S).unwrap();
    let assignment = bench.registry.assignment(&record, &bench.orders).unwrap();
    assert_eq!(bench.device(&assignment, NOW_S).unwrap().head.unwrap().file.sha256, Digest::of(&head));
    // By another orders key it is the same head, and signed by that.
    bench.orders = SecretKey::generate().unwrap();
    let assignment = bench.registry.assignment(&record, &bench.orders).unwrap();
    assert!(bench.device(&assignment, NOW_S).is_ok());
    std::fs::write(bench.at("model.onnx"), b"the second model").unwrap();
    bench.publish(4);
    let other = Wish { release: Some(person(4)), ..with_head(counter) };
    assert!(sentence(bench.registry.assign(node(), other, NOW_S)).contains("belongs to another release"));
}

#[test]
fn the_desk_says_what_is_new_once_and_everything_on_a_new_connection() {
    let mut bench = Bench::new();
    let mut desk = Desk::new(&bench.at("models"));
    assert_eq!(bench.said(&mut desk, 0, NOW_S, 1), []);
    bench.publish(3);
    bench.registry.assign(node(), wish(Some(person(3))), NOW_S).unwrap();
    assert_eq!(bench.said(&mut desk, LOOK_MS - 1, NOW_S, 1), [], "it does not look all the time");
    let first = bench.said(&mut desk, LOOK_MS, NOW_S, 1);
    assert_eq!(first.len(), 1);
    assert!(bench.device(&first[0], NOW_S).is_ok());
    assert_eq!(bench.said(&mut desk, 9 * LOOK_MS, NOW_S, 1), [], "and says nothing twice");
    desk.say_again();
    assert_eq!(bench.said(&mut desk, 9 * LOOK_MS, NOW_S, 1), first);
    assert_eq!(bench.said(&mut desk, 10 * LOOK_MS, NOW_S, 2), first, "under another lead");
    // Long before it gets old it has its time anew, and the device takes it.
    let third = NOW_S + MODEL_ASSIGNMENT_LIFE_S / 3;
    let renewed = bench.said(&mut desk, 10_000 * LOOK_MS, third, 2);
    assert_eq!((renewed.len(), renewed[0].issued_s), (1, third));
    assert!(renewed[0].number > first[0].number && renewed[0].release == first[0].release);
    assert!(bench.device(&renewed[0], third).is_ok() && !bench.trusted.is_frozen(third + MODEL_ASSIGNMENT_LIFE_S - 1));
    // A site without a key for orders says nothing, and says why.
    desk.say_again();
    let without = desk.look(Now { mono_ms: 1 << 40, unix_ms: third * 1000 }, 2, || Err("there is no authority".into()));
    assert!(without.is_empty() && desk.problems()[0].contains("there is no authority"));
}

#[test]
fn numbers_grow_over_restarts_and_losses() {
    let bench = Bench::new();
    let number = |bench: &Bench, station: &str| {
        let station = StationId::new(station).unwrap();
        bench.registry.assign(node(), Wish { station, ..wish(None) }, NOW_S).unwrap().number
    };
    let (first, second) = (number(&bench, "a"), number(&bench, "b"));
    assert!(first >= NOW_S && second > first);
    std::fs::write(bench.at("models/number"), b"damaged").unwrap();
    let third = number(&bench, "c");
    assert!(third > second);
    std::fs::remove_file(bench.at("models/number")).unwrap();
    assert!(number(&bench, "d") > third);
}

#[test]
fn what_a_crash_or_a_hand_left_in_the_folder_harms_nobody() {
    let mut bench = Bench::new();
    let manifest = bench.publish(3);
    bench.registry.assign(node(), wish(Some(person(3))), NOW_S).unwrap();
    for stray in ["blobs/part", "assignments/.x.json.17.part", "assignments/x y", "releases/person/4.json.17.part"] {
        std::fs::write(bench.at("models").join(stray), b"half").unwrap();
    }
    assert_eq!(bench.registry.records().unwrap().len(), 1);
    assert_eq!(bench.registry.releases().unwrap(), [person(3)]);
    std::fs::write(bench.at("model.onnx"), b"the second model").unwrap();
    bench.publish(4);
    // A file that was changed in its place is no file of that digest for a device; a document is none at all.
    let path = bench.at("models/releases/person/3.json");
    let damaged = std::fs::read_to_string(&path).unwrap().replacen('A', "B", 1);
    std::fs::write(&path, damaged).unwrap();
    let record = bench.registry.records().unwrap().remove(0);
    assert!(sentence(bench.registry.assignment(&record, &bench.orders)).len() > 20);
    let mut desk = Desk::new(&bench.at("models"));
    assert_eq!(bench.said(&mut desk, 0, NOW_S, 1), []);
    assert_eq!(desk.problems().len(), 1);
    assert!(bench.registry.blob(&manifest.file.sha256).is_some());
    std::fs::write(bench.at("models/assignments/gate-3.json"), b"{").unwrap();
    assert!(sentence(bench.registry.records()).contains("is damaged"));
    // Whoever has a desk still has it: it complains, and goes on.
    bench.orders = SecretKey::generate().unwrap();
    assert_eq!(bench.said(&mut desk, 60_000 * LOOK_MS, NOW_S, 1), []);
    assert!(desk.problems()[0].contains("is damaged"));
}

#[test]
fn a_key_is_never_written_over_and_nobody_signs_what_he_cannot_read() {
    let bench = Bench::new();
    assert!(sentence(offline::keygen(&bench.at("one.pem"))).contains("there already"));
    std::fs::write(bench.at("x.json"), b"{}").unwrap();
    assert!(sentence(Owned::read(&bench.at("x.json")).map(|_| ())).contains("no DSSE"));
    let of = |days, threshold| RootTerms { keys: vec![bench.at("one.pem")], members: vec![], threshold, days };
    assert!(sentence(offline::new_root(&of(0, None), NOW_S)).contains("--days"));
    assert!(sentence(offline::new_root(&of(1, Some(2)), NOW_S)).contains("threshold of 2 for 1"));
    open_to_others(&bench.at("one.pem"));
    assert!(sentence(offline::new_root(&of(1, None), NOW_S)).contains("can be read or changed by others"));
}

fn open_to_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn contents_that_make_no_release_are_refused_with_the_remedy() {
    let bench = Bench::new();
    let refused = |change: &dyn Fn(&mut Contents)| {
        let mut contents = bench.contents(1);
        change(&mut contents);
        sentence(pack::pack(&contents, NOW_S))
    };
    assert!(refused(&|c| c.model = bench.at("none")).contains("cannot be read"));
    assert!(refused(&|c| c.model = bench.at("")).contains("is not a file"));
    assert!(refused(&|c| c.counter = 0).contains("release 0"));
    assert!(refused(&|c| c.input = Some("384".into())).contains("--input"));
    assert!(refused(&|c| c.precision = "fp8".into()).contains("fp32, fp16 or int8"));
    assert!(refused(&|c| c.encodings = vec!["zstd".into()]).contains("CODING=FILE"));
    assert!(refused(&|c| c.head = None).contains("--delegate-head"));
    assert!(refused(&|c| c.agreement = 2.0).contains("shares"));
    assert!(refused(&|c| c.days = 0).contains("--days"));
    assert!(refused(&|c| c.chunk_kib = 1 << 20).contains("pieces"));
    // Other ways to get it.
    let mut contents = bench.contents(2);
    std::fs::write(bench.at("old.onnx"), b"what a device has").unwrap();
    let segments = [Segment::Literal(b"the first "), Segment::Literal(b"model")];
    std::fs::write(bench.at("deep"), compress::encode(&segments).unwrap()).unwrap();
    let segments = [Segment::Literal(b"the first model"), Segment::Copy { from: 0, length: 0 }];
    std::fs::write(bench.at("delta"), compress::encode(&segments).unwrap()).unwrap();
    let of_another = compress::encode(&[Segment::Literal(b"another model!!")]).unwrap();
    std::fs::write(bench.at("another"), of_another).unwrap();
    let offered = |text: String| refused(&move |c: &mut Contents| c.encodings = vec![text.clone()]);
    let another = format!("deep={}", bench.at("another").display());
    assert!(offered(another).contains("becomes another file"));
    assert!(offered(format!("zstd={}", bench.at("deep").display())).contains("no Zstandard frame"));
    assert!(offered(format!("of-tomorrow={}", bench.at("deep").display())).contains("does not know"));
    let delta = format!("delta={}:{}", bench.at("delta").display(), bench.at("old.onnx").display());
    contents.encodings = vec![format!("deep={}", bench.at("deep").display()), delta];
    let manifest: Manifest = pack::pack(&contents, NOW_S).unwrap().read().unwrap();
    assert_eq!(manifest.file.encodings.len(), 3);
    assert_eq!(manifest.file.encodings[2].from, Some(Digest::of(b"what a device has")));
}
