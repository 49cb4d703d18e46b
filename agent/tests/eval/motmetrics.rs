//! Our figures of tracks against PyPI's motmetrics, on the same files: its outputs lie beside this file, and where a
//! Python with it is at hand it is asked again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use picket_agent::eval::metrics::tracks::{Accumulator, TrackScores, Tracked};
use picket_agent::eval::truth::mot;
use picket_shared::crypto::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::common::{cache, skipped};
use crate::scenes::{self, Scene};

/// What motmetrics says of one scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Expected {
    /// Of both files, so that another scene is not compared with it.
    #[serde(default)]
    sha256: String,
    mota: f64,
    /// Mean distance: 1 minus the mean overlap.
    motp: f64,
    idf1: f64,
    idp: f64,
    idr: f64,
    num_switches: u64,
    num_false_positives: u64,
    num_misses: u64,
    num_fragmentations: u64,
    num_objects: u64,
    num_unique_objects: u64,
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/eval").join(name)
}

fn digest(scene: &Scene) -> String {
    sha256_hex(format!("{}\n{}", scene.truth, scene.result).as_bytes())
}

fn ours(scene: &Scene) -> TrackScores {
    let (truth, result) = (mot::parse(&scene.truth).unwrap(), mot::parse(&scene.result).unwrap());
    let mut accumulator = Accumulator::default();
    for frame in 0..1000 {
        let found = result.of(frame, "").unwrap_or(&[]);
        let found: Vec<Tracked> = found.iter().map(|b| Tracked { id: b.id.unwrap(), area: b.area }).collect();
        accumulator.frame(truth.of(frame, "").unwrap_or(&[]), &found);
    }
    accumulator.scores()
}

fn assert_same(name: &str, ours: &TrackScores, theirs: &Expected) {
    let counts = [
        (ours.switches, theirs.num_switches, "switches"),
        (ours.false_positives, theirs.num_false_positives, "false positives"),
        (ours.misses, theirs.num_misses, "misses"),
        (ours.fragmentations, theirs.num_fragmentations, "fragmentations"),
        (ours.boxes, theirs.num_objects, "boxes"),
        (ours.people, theirs.num_unique_objects, "people"),
    ];
    for (ours, theirs, what) in counts {
        assert_eq!(ours, theirs, "{name}: {what}");
    }
    let shares = [
        (ours.mota, theirs.mota, "MOTA"),
        (ours.motp, 1.0 - theirs.motp, "MOTP"),
        (ours.idf1, theirs.idf1, "IDF1"),
        (ours.id_precision, theirs.idp, "IDP"),
        (ours.id_recall, theirs.idr, "IDR"),
    ];
    for (ours, theirs, what) in shares {
        // Overlaps are computed in 32 bits here and in 64 there.
        assert!((ours.unwrap() - theirs).abs() < 1e-5, "{name}: {what} is {ours:?} and {theirs}");
    }
}

#[test]
fn tracks_are_judged_as_motmetrics_did() {
    let text = std::fs::read_to_string(here("motmetrics.json")).unwrap();
    let golden: BTreeMap<String, Expected> = serde_json::from_str(&text).unwrap();
    let scenes = scenes::all();
    assert_eq!(golden.len(), scenes.len());
    for scene in &scenes {
        let theirs = &golden[&scene.name];
        assert_eq!(theirs.sha256, digest(scene), "{} is another scene now; see motmetrics.txt", scene.name);
        assert_same(&scene.name, &ours(scene), theirs);
    }
    // Scenes in which nothing goes wrong would prove nothing.
    let total = |of: fn(&Expected) -> u64| golden.values().map(of).sum::<u64>();
    assert!(total(|e| e.num_switches) > 100 && total(|e| e.num_fragmentations) > 100);
}

/// A Python that has motmetrics: one of one's own, or the one that `make test` prepares, which is called by its pins.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("PICKET_MOTMETRICS_PYTHON").map(PathBuf::from);
    let pins = sha256_hex(include_bytes!("motmetrics.txt"));
    given.or_else(|| Some(cache().join(format!("motmetrics-{}/bin/python", &pins[..12])))).filter(|path| path.is_file())
}

#[test]
fn tracks_are_judged_as_motmetrics_does_now() {
    let Some(python) = python() else {
        return skipped(
            "motmetrics is not on this machine, so its recorded outputs alone were compared; see motmetrics.txt",
        );
    };
    let dir = tempfile::tempdir().unwrap();
    let scenes = scenes::all();
    for scene in &scenes {
        std::fs::write(dir.path().join(format!("{}.truth.txt", scene.name)), &scene.truth).unwrap();
        std::fs::write(dir.path().join(format!("{}.result.txt", scene.name)), &scene.result).unwrap();
    }
    let output = Command::new(python).arg(here("ask_motmetrics.py")).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut theirs: BTreeMap<String, Expected> = serde_json::from_slice(&output.stdout).unwrap();
    for scene in &scenes {
        theirs.get_mut(&scene.name).unwrap().sha256 = digest(scene);
    }
    if std::env::var_os("PICKET_RECORD_MOTMETRICS").is_some() {
        let text = serde_json::to_string_pretty(&theirs).unwrap() + "\n";
        std::fs::write(here("motmetrics.json"), text).unwrap();
    }
    scenes.iter().for_each(|scene| assert_same(&scene.name, &ours(scene), &theirs[&scene.name]));
}
