//! Names that would lead somewhere else, at every place where a name becomes a file or a page: none of them is a name, nothing is
//! written beside, and nothing is shown.

use std::fs;
use std::path::Path;

use picket_shared::crypto::Digest;
use picket_shared::ids::{CameraId, EventId, ModelName, NodeId, RequestId, SiteId, StationId};
use picket_shared::learn::lineage::LineageId;
use picket_tests::{sample_video, text, wait_for};

use super::forged::{Tap, refused_by_agent, refused_by_coordinator};
use super::rig::{Rig, WITHIN, page};

const NAMES: [&str; 13] =
    ["..", ".", "../edge", "/etc/passwd", "a/b", "a\\..\\b", "a\0b", ".hidden", "%2e%2e", "A", "", "a b", "a\n"];

/// Every file and folder below, by its path.
fn below(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    let mut all: Vec<_> = entries
        .flat_map(|path| if path.is_dir() { [vec![path.clone()], below(&path)].concat() } else { vec![path] })
        .collect();
    all.sort();
    all
}

#[test]
fn a_name_that_leads_out_of_its_folder_is_no_name() {
    let rig = Rig::start();
    let names = || -> Vec<_> {
        let beside = below(rig.dir.path()).into_iter();
        // What a running coordinator writes under names of its own.
        beside.filter(|path| !path.components().any(|part| part.as_os_str() == "archive")).collect()
    };
    let before = names();
    let out = rig.at("out");
    let out = out.to_str().unwrap();
    for name in NAMES.iter().filter(|name| !name.contains('\0')) {
        // As a name on the command line, of whatever has one.
        for args in [
            &["enrol", name][..],
            &["revoke", name],
            &["authority", "client", name, "--out", out],
            &["audit", "accept", name],
            &["picture", "get", name, "--out", out],
            &["picture", "ask", name, "--camera", "main", "--who", "a", "--why", "b"],
            &["picture", "ask", "edge", "--camera", name, "--who", "a", "--why", "b"],
            &["picture", "ask", "edge", "--event", name, "--who", "a", "--why", "b"],
            &["model", "assign", name, "person", "1"],
            &["model", "assign", "edge", name, "1"],
            &["model", "assign", "edge", "person", "1", "--station", name],
            &["model", "head", name, "1", "/dev/null"],
            &["model", "revoke", name, "1"],
        ] {
            let refused = rig.command(args);
            assert_eq!(refused.status.code(), Some(2), "{args:?}: {}", text(&refused));
        }
    }
    for name in NAMES {
        assert!(NodeId::new(name).is_err(), "{name:?}");
        assert!(CameraId::new(name).is_err(), "{name:?}");
        assert!(StationId::new(name).is_err(), "{name:?}");
        assert!(SiteId::new(name).is_err(), "{name:?}");
        assert!(ModelName::new(name).is_err(), "{name:?}");
        assert!(RequestId::new(name).is_err(), "{name:?}");
        assert!(EventId::new(name).is_err(), "{name:?}");
        assert!(name.parse::<LineageId>().is_err(), "{name:?}");
        assert!(name.parse::<Digest>().is_err(), "{name:?}");
    }
    assert_eq!(names(), before, "nothing was written");
}

#[test]
fn a_path_that_leads_out_of_its_folder_shows_nothing_and_a_topic_writes_nothing() {
    let rig = Rig::start();
    rig.device("edge");
    let mut tap = Tap::on(&rig);
    let _agent = rig.start_agent("edge", &["--source", sample_video().to_str().unwrap()]);
    wait_for("the agent to be heard, and a picture to be kept", WITHIN, || {
        tap.stats("edge").and(fs::read_dir(rig.at("edge/media/main")).ok()?.next()).map(drop)
    });

    // The page has no token, and the live view is asked by who has one.
    let live = super::slow::live_port(&rig);
    let token = fs::read_to_string(rig.at("edge/live.token")).unwrap();
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    assert!(page(live, "/", &bearer).starts_with("HTTP/1.1 200"));
    let targets = ["coordinator.toml", "edge/identity/key.pem", "edge/audit.log", "etc/passwd"];
    for target in targets {
        let climbs = ["../../../../..", "..%2f..%2f..%2f..", "%2e%2e/%2e%2e/%2e%2e", "..\\..\\..", "....//....//", ""];
        for climb in climbs {
            for before in ["", "/assets", "/events", "/events/x", "/cameras/main", "/cameras"] {
                for after in ["", "/snapshot.jpg", "%00.jpg"] {
                    let path = format!("{before}/{climb}/{target}{after}");
                    for (port, headers) in [(rig.http_port, ""), (live, &*bearer)] {
                        let shown = page(port, &path, headers);
                        let refused = ["HTTP/1.1 404", "HTTP/1.1 400"].iter().any(|word| shown.starts_with(word));
                        assert!(
                            refused && !shown.contains("PRIVATE KEY") && !shown.contains("root:"),
                            "{path}: {shown}"
                        );
                    }
                }
            }
        }
    }

    // By the broker: topics whose levels are no names, to both sides.
    let before = below(&rig.at("edge")).len();
    let (agent, coordinator) = (refused_by_agent(&mut tap, "topic"), refused_by_coordinator(&rig, "topic"));
    for level in ["..", ".hidden", "%2e%2e", "A", "a b"] {
        tap.peer.say(&format!("picket/v1/yard/edge/cmd/picture/{level}"), "x");
        tap.peer.say(&format!("picket/v1/yard/{level}/status/health"), "x");
        tap.peer.say(&format!("picket/v1/yard/edge/cmd/picture/{level}/state"), "x");
    }
    wait_for("the agent to refuse them", WITHIN, || (refused_by_agent(&mut tap, "topic") >= agent + 5).then_some(()));
    wait_for("the coordinator to refuse them", WITHIN, || {
        (refused_by_coordinator(&rig, "topic") >= coordinator + 10).then_some(())
    });
    assert!(below(&rig.at("edge")).len() >= before, "it lives");
    for dir in ["edge", "coordinator"] {
        let odd = below(&rig.at(dir)).into_iter().find(|path| path.to_string_lossy().contains("hidden"));
        assert_eq!(odd, None);
    }
}
