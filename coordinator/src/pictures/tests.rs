//! A request from the command line's file to the picture's, with a device that answers by its own half of the protocol.

use super::*;
use picket_shared::ids::CameraId;
use picket_shared::picture::What;
use tempfile::TempDir;

const NOW: Now = Now { mono_ms: 0, unix_ms: 1_800_000_000_000 };

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: NOW.unix_ms + mono_ms }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn request() -> Request {
    Request {
        node: node("gate-1"),
        who: "M. Jansen".into(),
        why: "a bag was left".into(),
        what: What::Picture,
        event: None,
        camera: CameraId::new("front").ok(),
        moment_ms: None,
        clear: false,
        asked_s: NOW.unix_ms / 1000,
        until_s: NOW.unix_ms / 1000 + 60,
    }
}

struct Bench {
    dir: TempDir,
    id: RequestId,
    folder: Folder,
    pictures: Pictures,
    out: Vec<(Topic, Vec<u8>)>,
}

fn pictures(dir: &TempDir) -> Pictures {
    let audit = Arc::new(AuditLog::open(dir.path(), 1).unwrap());
    Pictures::new(Config::default(), Folder::below(dir.path()), audit)
}

/// A request that has been said once.
fn bench(request: &Request) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (id, folder) = (RequestId::new("0a1b").unwrap(), Folder::below(dir.path()));
    folder.ask(&id, request).unwrap();
    let mut bench = Bench { pictures: pictures(&dir), dir, id, folder, out: Vec::new() };
    bench.pictures.tick(at(0), true, &mut bench.out);
    bench
}

impl Bench {
    fn orders(&mut self) -> Vec<PictureOrder> {
        self.out.drain(..).map(|(_, payload)| decode(&payload).unwrap()).collect()
    }

    fn hear(&mut self, now: Now, of: &str, state: &PictureState) -> Result<(), &'static str> {
        let topic = Topic::PictureState(node(of), self.id.clone());
        self.pictures.heard(now, &topic, &encode(state).unwrap(), &mut self.out).map_err(|(word, _)| word)
    }

    fn hear_part(&mut self, now: Now, number: u32, sealed: &[u8]) -> Result<(), &'static str> {
        let part = PicturePart { number, sealed: ByteBuf::from(sealed) };
        let topic = Topic::PicturePart(node("gate-1"), self.id.clone());
        self.pictures.heard(now, &topic, &encode(&part).unwrap(), &mut self.out).map_err(|(word, _)| word)
    }

    fn outcome(&self) -> Outcome {
        self.folder.outcome(&self.id).unwrap().unwrap()
    }

    /// What a device answers to this order: its state, and the sealed parts.
    fn answer(&self, order: &PictureOrder, bytes: &[u8]) -> (PictureState, Vec<Vec<u8>>) {
        let receiver: [u8; 32] = order.key.as_slice().try_into().unwrap();
        let key = ParcelKey::generate().unwrap();
        let public = key.public();
        let parcel = key.agree(&receiver, &receiver, self.id.as_str()).unwrap();
        let parts = (0..).zip(bytes.chunks(PICTURE_PART_BYTES_MAX)).map(|(n, part)| parcel.seal(n, part)).collect();
        let state = PictureState {
            stage: Stage::Successful,
            media: Some("image/jpeg".into()),
            bytes: bytes.len() as u32,
            digest: Some(ByteBuf::from(sha256(bytes))),
            taken_ms: 7,
            blurred: true,
            key: Some(ByteBuf::from(public)),
            ..PictureState::default()
        };
        (state, parts)
    }
}

fn acts(dir: &TempDir) -> Vec<String> {
    let mut acts = Vec::new();
    AuditLog::check(dir.path(), None, |line| acts.push(line.act.clone())).unwrap();
    acts
}

#[test]
fn a_picture_comes_whole_though_parts_are_lost_on_the_way() {
    let mut bench = bench(&request());
    let orders = bench.orders();
    let [order] = &orders[..] else { panic!() };
    assert_eq!((order.who.as_str(), order.done, order.missing.len()), ("M. Jansen", false, 0));
    let executing = PictureState { stage: Stage::Executing, ..PictureState::default() };
    bench.hear(at(100), "gate-1", &executing).unwrap();
    assert_eq!(bench.outcome().stage, Stage::Executing);

    let bytes: Vec<u8> = (0..PICTURE_PART_BYTES_MAX * 2 + 5).map(|n| (n % 251) as u8).collect();
    let (state, parts) = bench.answer(order, &bytes);
    bench.hear(at(200), "gate-1", &state).unwrap();
    bench.hear_part(at(300), 2, &parts[2]).unwrap();
    assert_eq!(bench.hear_part(at(300), 1, &parts[2]), Err("picture_part"), "a part has its place");
    assert_eq!(bench.hear_part(at(300), 3, &parts[2]), Err("picture_part"));
    bench.pictures.tick(at(300 + SAY_AGAIN_MS), true, &mut bench.out);
    assert_eq!(bench.orders()[0].missing, [0, 1]);
    bench.hear_part(at(9_000), 1, &parts[1]).unwrap();
    bench.hear_part(at(9_000), 0, &parts[0]).unwrap();
    assert!(bench.orders()[0].done, "nothing more is wanted");
    let outcome = bench.outcome();
    assert_eq!(
        (outcome.stage, outcome.file.as_deref(), outcome.blurred),
        (Stage::Successful, Some("picture.jpg"), true)
    );
    assert_eq!(bench.folder.get(&bench.id, "picture.jpg").unwrap(), bytes);
    assert_eq!(acts(&bench.dir), ["picture_received"]);
    assert_eq!(bench.hear(at(9_100), "gate-1", &state), Err("not_asked"), "it is over");
}

#[test]
fn who_was_not_asked_and_what_is_not_what_it_says_is_refused() {
    let mut bench = bench(&request());
    let order = bench.orders().remove(0);
    let (state, parts) = bench.answer(&order, &[7; 100]);
    assert_eq!(bench.hear(at(1), "gate-2", &state), Err("not_asked"));
    let other = PictureState { digest: Some(ByteBuf::from([0; 32])), ..state.clone() };
    bench.hear(at(2), "gate-1", &other).unwrap();
    bench.hear_part(at(3), 0, &parts[0]).unwrap();
    assert_eq!(bench.outcome().reason.as_deref(), Some("digest"));

    // A device that gives people as they are, to whom did not ask for that.
    let mut bench = self::bench(&request());
    let order = bench.orders().remove(0);
    let (state, _) = bench.answer(&order, &[7; 100]);
    bench.hear(at(1), "gate-1", &PictureState { blurred: false, ..state }).unwrap();
    assert_eq!(bench.outcome().reason.as_deref(), Some("clear"));
    assert_eq!(acts(&bench.dir), ["picture_refused"]);
}

#[test]
fn a_request_ends_refused_too_late_or_with_the_coordinator_and_is_never_left() {
    let mut bench = bench(&request());
    let failed = PictureState {
        stage: Stage::Failed,
        reason: Some("never".into()),
        detail: Some("a\nb".into()),
        ..PictureState::default()
    };
    bench.hear(at(1), "gate-1", &failed).unwrap();
    assert_eq!((bench.outcome().reason.as_deref(), bench.outcome().detail.as_deref()), (Some("never"), Some("ab")));

    let mut bench = self::bench(&request());
    bench.orders();
    bench.pictures.tick(at(1_000), true, &mut bench.out);
    assert!(bench.orders().is_empty(), "it is said again after a while");
    bench.pictures.tick(at(SAY_AGAIN_MS), false, &mut bench.out);
    assert!(bench.orders().is_empty(), "one that does not lead says nothing");
    bench.pictures.tick(at(60_000), true, &mut bench.out);
    assert!(bench.orders()[0].done);
    assert_eq!(bench.outcome().reason.as_deref(), Some("no_answer"));

    // The key of what was asked before is gone; what nobody has looked at is asked.
    let bench = self::bench(&request());
    let new = RequestId::new("ffff").unwrap();
    bench.folder.ask(&new, &request()).unwrap();
    let (mut again, mut out) = (pictures(&bench.dir), Vec::new());
    again.tick(at(0), true, &mut out);
    assert_eq!(bench.outcome().reason.as_deref(), Some("interrupted"));
    assert!(matches!(&out[..], [(Topic::PictureOrder(_, id), _)] if *id == new), "{out:?}");
}

#[test]
fn what_has_come_is_kept_for_so_long_and_no_longer() {
    let mut bench = bench(&request());
    let order = bench.orders().remove(0);
    let (state, parts) = bench.answer(&order, &[7; 100]);
    bench.hear(at(1), "gate-1", &state).unwrap();
    bench.hear_part(at(2), 0, &parts[0]).unwrap();
    bench.pictures.tick(at(FORGET_MS), true, &mut bench.out);
    assert_eq!(bench.folder.list().unwrap().len(), 1);
    bench.pictures.config.age_days_max = 0.0;
    bench.pictures.tick(at(3 * FORGET_MS), true, &mut bench.out);
    assert!(bench.folder.list().unwrap().is_empty());
    assert_eq!(acts(&bench.dir), ["picture_received", "picture_forgotten"]);
}
