//! A capture of all that a site like the demo's says: no picture is in it, in no form; and where somebody asks for one by name and
//! reason, the same look finds that it passes.

use std::fs;
use std::process::{Command, Stdio};

use picket_simulation::demo::process::Plan;
use picket_simulation::demo::stage::{AREAS, Mode, Ports, Stage};
use picket_simulation::soak::victim::Victim;
use picket_tests::{Running, binary, run_within, sample_video, text, wait_for};

use super::capture::{Capture, Eye, frames};
use super::needles::base64;
use super::rig::{WITHIN, page, start};

/// Events in the archive before the capture is looked at, of three agents.
const EVENTS: u64 = 40;

/// A process of the demo, under this test's care.
fn run(stage: &Stage, plan: Plan) -> Victim {
    start(&stage.dir, &plan.name, binary(plan.program), plan.args)
}

/// The coordinator's arguments with the ports behind those that are captured.
fn behind(plan: Plan, ports: Ports) -> Plan {
    let of = [("--mqtt-port", ports.mqtt), ("--websocket-port", ports.websocket), ("--http-port", ports.http)];
    let mut args = plan.args;
    for (flag, port) in of {
        let at = args.iter().position(|arg| arg == flag).unwrap() + 1;
        args[at] = port.to_string().into();
    }
    Plan { args, ..plan }
}

#[test]
fn a_capture_of_the_demo_shows_no_picture_but_the_one_that_was_asked_for() {
    let eye = Eye::new();
    // It would see one, in any form.
    let some = &frames()[3_000_000..3_004_000];
    let jpeg = [&[0xff, 0xd8, 0xff, 0xe0, 0, 16][..], b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0", &[0xff, 0xdb]].concat();
    assert_eq!(eye.sees(&[b"{\"a\":1}", some].concat()), Some("pixels of a frame"));
    assert_eq!(eye.sees(&[b"{\"a\":1}", &jpeg[..]].concat()), Some("a JPEG picture"));
    assert_eq!(eye.sees(format!("{{\"a\":\"{}\"}}", base64(&jpeg)).as_bytes()), Some("a picture in base64"));
    assert_eq!(eye.sees(&fs::read(sample_video()).unwrap()), Some("a picture or a video in its file"));

    // The demo, as it runs for a person, with a capture before each port; and somebody who listens to everything.
    let (dir, real) = (tempfile::tempdir().unwrap(), Ports::free().unwrap());
    let [mqtt, http, websocket] = [real.mqtt, real.http, real.websocket].map(Capture::before);
    let ports = Ports { mqtt: mqtt.port, http: http.port, websocket: websocket.port };
    let stage = Stage::set(dir.path(), &sample_video(), ports, Mode::Live).unwrap();
    let _coordinator = run(&stage, behind(stage.coordinator(), real));
    let said = |path: &str| page(http.port, path, "");
    wait_for("the dashboard", WITHIN, || said("/healthz").starts_with("HTTP/1.1 200").then_some(()));
    let mut listener = Command::new("mosquitto_sub");
    let port = mqtt.port.to_string();
    let _listener = Running::start(listener.args(["-p", &port, "-t", "#", "-q", "1"]).stdout(Stdio::null()));
    let _agents: Vec<Victim> = stage.agents().into_iter().map(|plan| run(&stage, plan)).collect();
    let archived = || {
        let metrics = said("/metrics");
        let count = metrics.lines().find_map(|line| line.strip_prefix("picket_events_archived_total "));
        count.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
    };
    let kept = |area: &picket_simulation::demo::stage::Area| {
        let folder = fs::read_dir(stage.agent_dir(area.node).join("media/video"));
        folder
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "jpg"))
    };
    wait_for("events of all agents, and pictures of them on their disks", 2 * WITHIN, || {
        (archived() >= EVENTS && AREAS.iter().all(|area| kept(area).is_some())).then_some(())
    });
    for path in ["/", "/config.json", "/healthz"] {
        assert!(said(path).starts_with("HTTP/1.1 200"), "{path}");
    }
    let streams: Vec<Vec<u8>> = [&mqtt, &http, &websocket].iter().flat_map(|capture| capture.streams()).collect();
    let bytes: usize = streams.iter().map(Vec::len).sum();
    println!("{bytes} bytes of {} ways were captured while {} events were archived", streams.len(), archived());
    let shows = |word: &[u8]| streams.iter().any(|stream| stream.windows(word.len()).any(|window| window == word));
    assert!(bytes > 100_000 && shows(b"/events") && shows(b"\"persons_now\""), "{bytes} bytes");
    for stream in &streams {
        assert_eq!(
            eye.sees(stream),
            None,
            "in {} bytes that begin {:?}",
            stream.len(),
            &stream[..stream.len().min(40)]
        );
    }
    // What lies on a device's disk would have been seen.
    assert_eq!(eye.sees(&fs::read(kept(&AREAS[0]).unwrap()).unwrap()), Some("a JPEG picture"));

    // Asked for by name and reason, one passes: sealed, so that nothing shows but that it does.
    let before: Vec<usize> = mqtt.streams().iter().map(Vec::len).collect();
    let mut ask = Command::new(binary("picket-coordinator"));
    let who = ["--who", "M. Jansen", "--why", "a bag was left at the gate", "--wait", "--site", "demo", "--data-dir"];
    let asked = ask.args(["picture", "ask", AREAS[0].node, "--camera", "video"]).args(who).arg(stage.coordinator_dir());
    let asked = run_within(asked, WITHIN);
    assert!(asked.status.success(), "{}", text(&asked));
    let after = mqtt.streams();
    let since = after.iter().zip(before.into_iter().chain(std::iter::repeat(0))).map(|(stream, from)| &stream[from..]);
    let seen: Vec<&str> = since.filter_map(|stream| eye.sees(stream)).collect();
    assert!(!seen.is_empty() && seen.iter().all(|what| *what == "what is compressed or sealed"), "{seen:?}");
}
