//! A picture leaves a device because somebody asked for it by name and reason, and for nothing else: with the real programs, a real
//! video, and a broker that everybody can listen to.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use picket_shared::exit::Exit;
use picket_shared::mqtt::LinkEvent;
use picket_shared::status::Stats;
use picket_shared::topics::Topic;
use picket_shared::trust::seal;
use picket_tests::{binary, run_within, sample_video, text, wait_for};

use super::rig::{OBSERVER, Peer, Rig, WITHIN, node, site};

const WHO: &str = "M. Jansen";
const WHY: &str = "a bag was left at the gate";

impl Rig {
    /// The configuration of the device, with this in it: a video that begins again, because a busy machine takes its time.
    fn configure(&self, more: &str) -> String {
        let (path, video) = (self.at("edge.toml"), sample_video());
        let camera = format!("[[camera]]\nname = \"main\"\nsource = \"{}\"\nrepeat = true\n", video.display());
        fs::write(&path, format!("{more}{camera}")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn ask(&self, of: &[&str]) -> Output {
        let fixed = ["picture", "ask"].into_iter().chain(of.iter().copied());
        let all: Vec<&str> = fixed.chain(["--who", WHO, "--why", WHY, "--wait", "--minutes", "2"]).collect();
        self.command(&all)
    }

    /// A picture that is given, with its request's id.
    fn picture(&self, of: &[&str]) -> (String, Vec<u8>) {
        let asked = self.ask(of);
        assert!(asked.status.success(), "{}\n{}", text(&asked), self.log("edge"));
        let id = String::from_utf8(asked.stdout).unwrap().trim().to_owned();
        let out = self.at(&format!("{id}.out"));
        let got = self.command(&["picture", "get", &id, "--out", out.to_str().unwrap()]);
        assert!(got.status.success(), "{}", text(&got));
        (id, fs::read(out).unwrap())
    }

    fn audit(&self, node: &str, args: &[&str]) -> Output {
        let mut command = Command::new(binary("picket-agent"));
        run_within(command.arg("audit").args(args).arg("--data-dir").arg(self.at(node)), WITHIN)
    }

    fn lines(&self, node: &str) -> Vec<serde_json::Value> {
        let shown = self.audit(node, &["show"]);
        assert!(shown.status.success(), "{}", text(&shown));
        let shown = String::from_utf8(shown.stdout).unwrap();
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn kept(rig: &Rig, end: &str) -> Option<PathBuf> {
    let files = fs::read_dir(rig.at("edge/media/main")).ok()?.flatten();
    files.map(|file| file.path()).find(|path| path.to_string_lossy().ends_with(end))
}

/// What passes over the broker until so many orders were refused by this word.
fn until_refused(peer: &mut Peer, word: &str, count: u64, passed: &mut Vec<(Topic, Vec<u8>)>) {
    wait_for(word, WITHIN, || {
        let mut refused = false;
        while let Some(event) = peer.pending() {
            let LinkEvent::Message { topic, payload } = event else { continue };
            let Ok(topic) = Topic::parse(&site(), &topic) else { continue };
            if topic == Topic::Stats(node("edge")) {
                let stats: Stats = serde_json::from_slice(&payload).unwrap();
                refused |= stats.rejected.get(word).copied().unwrap_or(0) >= count;
            }
            passed.push((topic, payload));
        }
        refused.then_some(())
    });
}

#[test]
fn a_picture_leaves_only_for_a_name_and_a_reason_and_both_sides_have_it_in_writing() {
    let rig = Rig::start();
    rig.device("edge");
    let mut listener = rig.connect("listener", Some(rig.client(OBSERVER)), &["picket/v1/yard/#"]);
    listener.until_up();
    let mut agent = rig.start_agent("edge", &["--config", &rig.configure("")]);
    let clip = wait_for("an event's clip", WITHIN, || kept(&rig, ".blurred.mp4"));
    assert!(kept(&rig, ".jpg").unwrap().to_string_lossy().ends_with(".blurred.jpg"), "none is kept as it was");

    // Of the camera, of an event, and its clip.
    let (id, now) = rig.picture(&["edge", "--camera", "main"]);
    let event = clip.file_name().unwrap().to_str().unwrap().strip_suffix(".blurred.mp4").unwrap();
    let (_, of_event) = rig.picture(&["edge", "--event", event]);
    let (_, of_clip) = rig.picture(&["edge", "--event", event, "--clip"]);
    assert!(now.starts_with(&[0xff, 0xd8]) && of_event.starts_with(&[0xff, 0xd8]));
    assert_eq!(of_event, fs::read(clip.with_file_name(format!("{event}.blurred.jpg"))).unwrap());
    assert_eq!(of_clip, fs::read(&clip).unwrap());
    let mode = fs::metadata(rig.at("coordinator/pictures").join(&id).join("picture.jpg")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);

    // What is not allowed, or says nothing, is refused by name.
    for (of, word) in [
        (&["edge", "--camera", "main", "--clear"][..], "clear_not_allowed"),
        (&["edge", "--camera", "other"], "no_camera"),
        (&["edge", "--event", "edge-1-1"], "no_picture"),
    ] {
        let refused = rig.ask(of);
        assert_eq!(refused.status.code(), Some(Exit::Denied as i32), "{}", text(&refused));
        assert!(text(&refused).contains(&format!("no picture ({word})")), "{}", text(&refused));
    }
    for lacking in [["--who", " ", "--why", WHY], ["--who", WHO, "--why", ""]] {
        let args: Vec<&str> = ["picture", "ask", "edge", "--camera", "main"].into_iter().chain(lacking).collect();
        let refused = rig.command(&args);
        assert_eq!(refused.status.code(), Some(Exit::Config as i32), "{}", text(&refused));
    }

    // The broker could say it again, or say it unsigned. And it never saw a picture.
    let mut passed = Vec::new();
    until_refused(&mut listener, "unsigned", 0, &mut passed);
    let orders: Vec<_> = passed.iter().filter(|(topic, _)| matches!(topic, Topic::PictureOrder(..))).cloned().collect();
    let (topic, order) = orders.first().unwrap();
    let say = |payload: Vec<u8>| listener.link.publish(&topic.render(&site()), payload, false, false).unwrap();
    say(order.clone());
    say(seal::strip(order).unwrap().into_owned());
    until_refused(&mut listener, "replayed", 1, &mut passed);
    until_refused(&mut listener, "unsigned", 1, &mut passed);
    let parts: Vec<_> = passed.iter().filter(|(topic, _)| matches!(topic, Topic::PicturePart(..))).collect();
    assert!(!parts.is_empty());
    for (_, payload) in &passed {
        let shows = |bytes: &[u8]| payload.windows(bytes.len()).any(|window| window == bytes);
        assert!(!shows(&now[now.len() - 64..]) && !shows(&of_event[of_event.len() - 64..]) && !shows(&now[..20]));
    }

    // Both sides have it in writing, and who changes that is found.
    let lines = rig.lines("edge");
    let about = |act: &str| lines.iter().filter(|line| line["act"] == act).cloned().collect::<Vec<_>>();
    let asked = about("picture_asked");
    assert!(
        asked.iter().any(|line| line["about"] == *id && line["who"] == WHO && line["detail"].to_string().contains(WHY))
    );
    let digest = picket_shared::crypto::sha256_hex(&now);
    assert!(about("picture_sent").iter().any(|line| line["detail"].to_string().contains(&digest)));
    assert!(about("order_refused").len() >= 2 && about("picture_refused").len() >= 3, "{lines:?}");
    let ours = text(&rig.command(&["audit", "show"]));
    for act in ["picture_asked", "picture_received", "picture_fetched", "device_invited", "device_admitted"] {
        assert!(ours.contains(&format!("\"{act}\"")), "{act}: {ours}");
    }
    assert!(ours.contains(&digest) && rig.command(&["audit", "verify"]).status.success());
    assert!(rig.audit("edge", &["verify"]).status.success());

    // The coordinator remembers how far the device's log reached, as the device signed it.
    let last = lines.last().unwrap()["number"].as_u64().unwrap();
    let head = wait_for("the head", WITHIN, || {
        let heads = text(&rig.command(&["audit", "heads"]));
        let line: serde_json::Value = serde_json::from_str(heads.lines().next()?).ok()?;
        let head = line["head"].as_str()?.to_owned();
        (head.split(':').next()?.parse::<u64>().ok()? >= last).then_some(head)
    });
    assert!(Command::new("kill").arg(agent.pid().to_string()).status().unwrap().success());
    wait_for("the agent to stop", WITHIN, || agent.ended().unwrap());
    assert!(rig.audit("edge", &["verify", "--head", &head]).status.success());
    let path = rig.at("edge/audit.log");
    let whole = fs::read_to_string(&path).unwrap();
    let cut: Vec<&str> = whole.lines().take(last as usize - 2).collect();
    fs::write(&path, cut.join("\n") + "\n").unwrap();
    assert!(rig.audit("edge", &["verify"]).status.success(), "alone it cannot be seen");
    let found = rig.audit("edge", &["verify", "--head", &head]);
    assert!(
        found.status.code() == Some(Exit::Data as i32) && text(&found).contains("cut off the end"),
        "{}",
        text(&found)
    );
    fs::write(&path, whole.replacen(WHO, "nobody", 1)).unwrap();
    let found = rig.audit("edge", &["verify"]);
    assert!(
        found.status.code() == Some(Exit::Data as i32) && text(&found).contains("was changed after"),
        "{}",
        text(&found)
    );
    fs::write(&path, &whole).unwrap();

    // A device that gives none gives none, whoever signs.
    while listener.pending().is_some() {}
    let _never = rig.start_agent("edge", &["--config", &rig.configure("[privacy]\nrequests = \"never\"\n")]);
    // An order of the run before is an old one for this run too, of which it has heard nothing newer yet.
    until_refused(&mut listener, "replayed", 0, &mut passed);
    let (topic, order) = orders.first().unwrap();
    listener.link.publish(&topic.render(&site()), order.clone(), false, false).unwrap();
    until_refused(&mut listener, "replayed", 1, &mut passed);
    let refused = rig.ask(&["edge", "--camera", "main"]);
    assert!(text(&refused).contains("no picture (never)"), "{}", text(&refused));
}
