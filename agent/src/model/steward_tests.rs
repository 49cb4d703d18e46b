//! What is put into a slot is what its manifest says, whichever way its bytes came.

use picket_shared::compress::{self, Segment};
use picket_shared::model::{Artifact, coding};

use super::*;

/// A steward of an empty shelf, and what it answers.
struct Bench {
    steward: Steward,
    answers: Receiver<News>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let ((say, answers), (changes, _)) = (channel(), channel());
        let say = Mutex::new(say);
        let answer = move |news| drop(say.lock().unwrap().send(news));
        let shelf = Shelf::open(dir.path()).unwrap();
        let steward = Steward::start(shelf, detect::Config::default(), Peeks::default(), changes, answer).unwrap();
        Bench { steward, answers, dir }
    }

    fn ask(&mut self, order: Order) -> News {
        self.steward.order(order);
        self.answers.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    /// Fetches these bytes for an artifact, and installs what they are.
    fn install(&mut self, artifact: &Artifact, bytes: &[u8]) -> News {
        let wanted = Wanted {
            slot: Slot::A,
            what: What::Labels,
            artifact: artifact.clone(),
            chunk_bytes: 1024,
            delegation: None,
        };
        let opened = self.ask(Order::Open(Box::new(wanted.clone()), vec![]));
        assert!(matches!(opened, News::Opened(..)), "{opened:?}");
        for (index, chunk) in bytes.chunks(1024).enumerate() {
            assert_eq!(self.ask(Order::Write(index as u32, chunk.to_vec())), News::Written(index as u32, true));
        }
        self.ask(Order::Install(Box::new(wanted)))
    }

    fn installed(&self) -> Option<Vec<u8>> {
        fs::read(self.dir.path().join("models/a.labels")).ok()
    }
}

#[test]
fn bytes_of_another_digest_are_torn_and_the_right_ones_are_installed() {
    let mut bench = Bench::new();
    let labels = b"person\n".repeat(400);
    let artifact = Artifact::plain(&labels);
    let mut changed = labels.clone();
    changed[1_500] ^= 1;
    assert_eq!(bench.install(&artifact, &changed), News::Torn);
    assert_eq!(bench.installed(), None);
    bench.steward.order(Order::Discard);
    assert_eq!(bench.install(&artifact, &labels), News::Here);
    assert_eq!(bench.installed(), Some(labels));
}

#[test]
fn what_travelled_whole_and_becomes_another_file_is_not_installed() {
    let mut bench = Bench::new();
    let labels = b"person\n".repeat(400);
    // Of the right length, too.
    let mut other = labels.clone();
    other[0] = b'P';
    let packed = compress::encode(&[Segment::Literal(&other)]).unwrap();
    let mut artifact = Artifact::plain(&labels);
    artifact.encodings = vec![Encoding {
        coding: coding::DEEP.into(),
        from: None,
        sha256: Digest::of(&packed),
        length: packed.len() as u64,
    }];
    let refused = bench.install(&artifact, &packed);
    assert!(matches!(&refused, News::Unfit(Some(_), "model_digest", _)), "{refused:?}");
    assert_eq!(bench.installed(), None);
}
