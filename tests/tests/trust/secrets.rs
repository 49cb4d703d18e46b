//! A whole run of a site, with everything on that there is and with logs at their most talkative; and then nothing that is secret
//! is anywhere but where it is kept: not in a log, an answer, a message, a list of processes, nor in a file that others may read.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use picket_shared::exit::Exit;
use picket_shared::topics::Topic;
use picket_simulation::soak::site::free_port;
use picket_tests::{Running, binary, run_within, sample_video, text, wait_for};

use super::forged::Tap;
use super::needles::{Processes, Secrets, base64, is_reachable, open_files};
use super::rig::{Rig, WITHIN, node, page, secret_of, start_saying};

/// Passwords of this run alone: whoever else tests on this machine has others.
struct Words {
    /// Of the camera that lets us in. It has a character that a URL must write otherwise.
    password: String,
    /// What some cameras want in the address.
    ticket: String,
    /// Of the camera that does not let us in.
    refused: String,
    /// Of somebody else's cameras.
    covered: String,
    /// What people put where a password does not belong.
    misplaced: String,
}

impl Words {
    fn draw() -> Words {
        let word = |before: &str| before.chars().chain((0..12).map(|_| fastrand::alphanumeric())).collect();
        Words {
            password: word("hush@"),
            ticket: word("ticket"),
            refused: word("refused"),
            covered: word("covered"),
            misplaced: word("misplaced"),
        }
    }

    /// The password as a URL has it.
    fn in_url(&self) -> String {
        self.password.replace('@', "%40")
    }
}

/// A camera that speaks HTTP and wants a login: it plays the sample video, slowly.
fn http_camera(words: &Words) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // As a client says it that has read the URL.
    let basic = format!("Authorization: Basic {}\r\n", base64(format!("watcher:{}", words.password).as_bytes()));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let basic = basic.clone();
            std::thread::spawn(move || {
                let knows = head_of(&mut stream).contains(&basic);
                let answer: &[u8] = if knows {
                    b"HTTP/1.1 200 OK\r\nContent-Type: video/avi\r\nConnection: close\r\n\r\n"
                } else {
                    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"gate\"\r\nContent-Length: 0\r\n\
                      Connection: close\r\n\r\n"
                };
                let mut plays = stream.write_all(answer).is_ok() && knows;
                for part in fs::read(sample_video()).unwrap().chunks(16 * 1024) {
                    plays = plays && stream.write_all(part).is_ok();
                    if !plays {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(25));
                }
            });
        }
    });
    port
}

/// A camera that speaks RTSP and takes no login.
fn rtsp_camera() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                loop {
                    let head = head_of(&mut stream);
                    let Some(number) = head.lines().find_map(|line| line.strip_prefix("CSeq: ")) else { return };
                    let refusal = format!(
                        "RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\nWWW-Authenticate: Basic realm=\"yard\"\r\n\r\n"
                    );
                    if stream.write_all(refusal.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn head_of(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// All that was said to whoever ran a command, looked at a page or listened, by where that was.
#[derive(Default)]
struct Said(Vec<(String, Vec<u8>)>);

impl Said {
    fn by(&mut self, place: impl Into<String>, output: Output) -> Output {
        self.0.push((place.into(), text(&output).into_bytes()));
        output
    }

    #[track_caller]
    fn fine(&mut self, place: &str, output: Output) -> String {
        let output = self.by(place, output);
        assert!(output.status.success(), "{place}: {}", text(&output));
        text(&output)
    }
}

fn write_secret(path: &Path, text: &str) {
    picket_shared::keyfile::write_secret(path, text.as_bytes()).unwrap();
}

/// A device with three cameras, neighbours and a live view.
fn config(rig: &Rig, words: &Words, gossip_key: &Path, live: u16) -> PathBuf {
    let (http, rtsp) = (http_camera(words), rtsp_camera());
    let (password, Words { ticket, refused, covered, .. }) = (words.in_url(), words);
    let path = rig.at("edge.toml");
    let text = format!(
        "site = \"yard\"\nnode = \"edge\"\ndata_dir = \"{}\"\n\
         [live]\nlisten = \"127.0.0.1:{live}\"\n\
         [gossip]\nkey_file = \"{}\"\nlisten = \"127.0.0.1:{}\"\npeers = [\"127.0.0.1:9\"]\n\
         [cover]\nlogins = {{ \"10.9.8.7\" = \"guest:{covered}\" }}\n\
         [model]\nframes_interval_s = 1.0\n\
         [[camera]]\nname = \"main\"\nsource = \"file:{}\"\nrepeat = true\n\
         [[camera]]\nname = \"gate\"\nsource = \"http://watcher:{password}@127.0.0.1:{http}/live.avi?channel=1&token={ticket}\"\n\
         [[camera]]\nname = \"yard\"\nsource = \"rtsp://watcher:{refused}@127.0.0.1:{rtsp}/live\"\n",
        rig.at("edge").display(),
        gossip_key.display(),
        free_port().unwrap(),
        sample_video().display(),
    );
    write_secret(&path, &text);
    path
}

/// What people get wrong, with a password in it: the sentence that they get must not repeat it.
fn mistakes(rig: &Rig, word: &str, said: &mut Said) {
    let camera = "[[camera]]\nname = \"a\"\nsource = \"synthetic:\"\n";
    let wrong = [
        format!("[mqtt]\nbroker = \"mqtt://me:{word}@10.0.0.1\"\n{camera}"),
        format!("[mqtt]\nbroker = \"tcp://me:{word}@10.0.0.1\"\n{camera}"),
        format!("[mqtt]\npassword = \"{word}\"\n{camera}"),
        format!("[cover]\nlogins = \"me:{word}\"\n{camera}"),
        format!("[cover]\nlogins = {{ camera = \"{word}\" }}\n{camera}"),
        format!("{camera}restream = \"rtsp://me:{word}@10.0.0.1/x\"\n"),
        format!("{camera}restream = {{ url = \"http://me:{word}@10.0.0.1/x\" }}\n"),
        format!("{camera}decoder = \"ffmpeg -i rtsp://me:{word}@10.0.0.1/x\"\n"),
        format!("{camera}pace = \"rtsp://me:{word}@10.0.0.1/x\"\n"),
        format!("[[camera]]\nname = \"a\"\nsource = \"rtsp:me:{word}@10.0.0.1/x\"\n"),
        format!("[[camera]]\nname = \"a\"\nsource = \"me:{word}@10.0.0.1/x\"\n"),
        format!("[[camera]]\nname = \"a\"\nsource = \"ftp://me:{word}@10.0.0.1/x\"\n"),
        format!(
            "[[camera]]\nname = \"a\"\nsource = \"http://10.0.0.1/x?user=me&password={word}\"\ncrop = [0, 0, 0, 0]\n"
        ),
        format!("[[camera]]\nname = \"a\"\nsource = [\"rtsp://me:{word}@10.0.0.1/x\"]\n"),
        format!("[[camera]]\nname = \"a\"\nsource = \"rtsp://me:{word}@10.0.0.1/x\nsite = \"yard\"\n"),
    ];
    let path = rig.at("wrong.toml");
    for text in wrong {
        write_secret(&path, &text);
        let mut agent = Command::new(binary("picket-agent"));
        let output =
            run_within(agent.arg("run").arg("--config").arg(&path).arg("--data-dir").arg(rig.at("wrong")), WITHIN);
        assert_eq!(output.status.code(), Some(Exit::Config as i32), "{text}");
        said.by(format!("the refusal of {}", text.replace(word, "***")), output);
    }
    for text in [
        format!("[mqtt]\nbroker = \"mqtts://me:{word}@10.0.0.1\"\n"),
        format!("[mqtt]\nwebsocket_url = \"ws://me:{word}@10.0.0.1/\"\n"),
        format!("[enrolment]\nbrokers = [\"mqtt://me:{word}@10.0.0.1\"]\n"),
        format!("[enrolment]\ndoor = \"me:{word}@10.0.0.1\"\n"),
        format!("[lead]\nstore = \"postgres://me:{word}@10.0.0.1/x\"\n"),
        format!("mqtt = \"mqtt://me:{word}@10.0.0.1\"\n"),
    ] {
        write_secret(&path, &text);
        let mut coordinator = Command::new(binary("picket-coordinator"));
        let run = coordinator.args(["run", "--config"]).arg(&path).arg("--data-dir").arg(rig.at("wrong-too"));
        let output = run_within(run, WITHIN);
        assert_eq!(output.status.code(), Some(Exit::Config as i32), "{text}");
        said.by(format!("the coordinator's refusal of {}", text.replace(word, "***")), output);
    }
    fs::remove_file(path).unwrap();
}

/// The owner's model, from his keys to the device.
fn push_a_model(rig: &Rig, secrets: &mut Secrets, said: &mut Said) {
    let at = |name: &str| rig.at(name).to_str().unwrap().to_owned();
    let (key, root, model, release) = (at("owner.pem"), at("root.json"), at("model.onnx"), at("release.json"));
    let owner = |args: &[&str]| run_within(Command::new(binary("picket-coordinator")).arg("model").args(args), WITHIN);
    said.fine("model keygen", owner(&["keygen", &key]));
    secrets.key("the owner's model key", Path::new(&key));
    said.fine("model root new", owner(&["root", "new", "--key", &key, "--out", &root]));
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/models");
    let (built_in, head) =
        (models.join("centernet_u8_384x288_top100_w16.onnx"), models.join("centernet_person.head.f32"));
    let head = head.to_str().unwrap();
    // The field doc_string of an ONNX file, again: another file that does the same.
    fs::write(&model, [fs::read(built_in).unwrap(), vec![0x32, 3, b'n', b'e', b'w']].concat()).unwrap();
    let pack = ["pack", &model, "--name", "person", "--counter", "1", "--family", "centernet", "--precision", "fp16"];
    said.fine("model pack", owner(&[&pack[..], &["--head", head, "--out", &release]].concat()));
    said.fine("model sign", owner(&["sign", &release, "--key", &key]));
    said.fine("model publish", rig.command(&["model", "publish", &root]));
    said.fine("model publish", rig.command(&["model", "publish", &release, "--file", &model, "--file", head]));
}

#[test]
fn nothing_that_is_secret_is_anywhere_but_where_it_is_kept() {
    let processes = Processes::watch();
    let (words, mut secrets, mut said) = (Words::draw(), Secrets::default(), Said::default());
    for (name, text) in [
        ("the camera's password", &words.password),
        ("the camera's password as the URL has it", &words.in_url()),
        ("the camera's ticket", &words.ticket),
        ("the refused password", &words.refused),
        ("the password of a neighbour's camera", &words.covered),
        ("a misplaced password", &words.misplaced),
    ] {
        secrets.text(name, text);
    }
    let rig = Rig::saying("debug", "");
    let mut tap = Tap::on(&rig);
    push_a_model(&rig, &mut secrets, &mut said);

    // Admission: the token passes through one hand, and the door.
    let token = rig.token("edge");
    secrets.bytes("the token", &picket_shared::crypto::from_hex::<16>(&secret_of(&token)).unwrap());
    let cut = &token[..token.len() - 1];
    assert_eq!(said.by("a token that is cut", rig.enrol("edge", cut)).status.code(), Some(Exit::Data as i32));
    said.fine("enrol", rig.enrol("edge", &token));
    said.by("a token that was used", rig.enrol("edge", &token));
    said.by("a token that was used by another", rig.enrol("another", &token));

    // The run itself.
    let gossip_key = rig.at("gossip.key");
    let neighbours = picket_shared::crypto::secret_hex::<32>().unwrap();
    write_secret(&gossip_key, &neighbours);
    secrets.text("the neighbours' key", &neighbours);
    let live = free_port().unwrap();
    let config = config(&rig, &words, &gossip_key, live);
    let run = ["run".into(), "--config".into(), config.clone().into_os_string()];
    let mut agent = start_saying("debug", rig.dir.path(), "edge", binary("picket-agent"), run);
    let cameras = |tap: &mut Tap| tap.stats("edge").map(|stats| stats.cameras).unwrap_or_default();
    wait_for("the camera that wants a password to be seen, and the other to be refused", WITHIN, || {
        let cameras = cameras(&mut tap);
        let of = |name: &str| cameras.iter().find(|camera| camera.camera.as_str() == name);
        let refused = of("yard")?.last_error.as_ref()?.contains("check user name and password");
        (of("gate")?.frames > 50 && refused).then_some(())
    });
    let gate = processes.all();
    assert!(String::from_utf8_lossy(&gate).contains("concat\0-safe"), "the decoder was seen among the processes");

    // Everything that is asked of a site while it runs.
    let token = fs::read_to_string(rig.at("edge/live.token")).unwrap();
    secrets.text("the live view's token", token.trim());
    for (place, port, path) in [
        ("the page", rig.http_port, "/".to_owned()),
        ("its configuration", rig.http_port, "/config.json".to_owned()),
        ("the live view without a token", live, "/".to_owned()),
        ("the live view by another token", live, format!("/?token={}", "x".repeat(64))),
    ] {
        said.0.push((place.to_owned(), page(port, &path, "").into_bytes()));
    }
    // Who shows it gets it back as a cookie, and nowhere else.
    let shown = page(live, &format!("/?token={}", token.trim()), "");
    assert!(shown.starts_with("HTTP/1.1 303") && shown.contains("HttpOnly"), "{shown}");
    let looked = page(live, "/", &format!("Authorization: Bearer {}\r\n", token.trim()));
    assert!(looked.starts_with("HTTP/1.1 200"), "{looked}");
    said.0.push(("the live view".to_owned(), looked.into_bytes()));
    // Whoever opens the link once acts; nothing of it is kept but a digest.
    let link = rig.command(&["operator", "add", "anna"]);
    assert!(link.status.success(), "{}", text(&link));
    said.0.push(("what `operator add` says beside the link".to_owned(), link.stderr));
    let link = String::from_utf8(link.stdout).unwrap();
    let (_, operator) = link.trim().split_once("#operator=").unwrap();
    secrets.bytes("the operator's token", &picket_shared::crypto::from_hex::<32>(operator).unwrap());
    let me = page(rig.http_port, "/api/operator", &format!("Authorization: Bearer {operator}\r\n"));
    assert!(me.starts_with("HTTP/1.1 200"), "{me}");
    let wrong = page(rig.http_port, "/api/operator", &format!("Authorization: Bearer {operator}0\r\n"));
    assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    said.0.extend([
        ("who an operator is".to_owned(), me.into_bytes()),
        ("a refused token".to_owned(), wrong.into_bytes()),
    ]);
    said.fine("operator list", rig.command(&["operator", "list"]));
    let ask = ["picture", "ask", "edge", "--camera", "main", "--who", "M. Jansen", "--why", "a test", "--wait"];
    let id = said.fine("picture ask", rig.command(&ask));
    let out = rig.at("picture.jpg");
    said.fine("picture get", rig.command(&["picture", "get", id.trim(), "--out", out.to_str().unwrap()]));
    said.by("a refused picture", rig.command(&[&ask[..3], &["--camera", "yard"], &ask[5..]].concat()));
    said.fine("model assign", rig.command(&["model", "assign", "edge", "person", "1", "--station", "edge"]));
    said.fine("renew", rig.renew("edge", true));
    // It is forgotten where another takes its place.
    secrets.key("the first orders key", &rig.at("coordinator/authority/orders-1.key.pem"));
    said.fine("rotate", rig.command(&["authority", "rotate"]));
    let doctor = || {
        let mut doctor = Command::new(binary("picket-agent"));
        run_within(doctor.arg("doctor").arg("--config").arg(&config), WITHIN)
    };
    said.by("doctor", doctor());
    wait_for("the model to be there and tried", WITHIN, || {
        tap.listen();
        let states = tap.heard.get(&Topic::ModelState(node("edge")))?;
        let tried = |state: &Vec<u8>| String::from_utf8_lossy(state).contains("\"phase\":\"trial\"");
        states.iter().any(tried).then_some(())
    });
    assert!(Command::new("kill").args(["-HUP", &agent.pid().to_string()]).status().unwrap().success());
    mistakes(&rig, &words.misplaced, &mut said);
    said.fine("the devices", rig.command(&["authority", "list"]));
    said.by("revoke", rig.command(&["revoke", "edge"]));
    for (place, args) in [
        ("audit show", &["audit", "show"][..]),
        ("audit heads", &["audit", "heads"]),
        ("picture list", &["picture", "list"]),
        ("model status", &["model", "status"]),
    ] {
        said.by(place, rig.command(args));
    }
    for args in [&["audit", "show"][..], &["model", "status"]] {
        let mut agent = Command::new(binary("picket-agent"));
        let output = run_within(agent.args(args).arg("--data-dir").arg(rig.at("edge")), WITHIN);
        said.by(format!("the agent's {}", args.join(" ")), output);
    }
    said.0.push(("metrics".to_owned(), rig.metrics().into_bytes()));
    said.0.push(("health".to_owned(), page(rig.http_port, "/healthz", "").into_bytes()));
    agent.ask_to_stop().unwrap();
    wait_for("the agent to stop", WITHIN, || agent.ended().unwrap());
    tap.listen();

    // The keys, which lie where they lie.
    for (name, path) in [
        ("the device's key", "edge/identity/key.pem"),
        ("the CA's key", "coordinator/authority/ca.key.pem"),
        ("the second orders key", "coordinator/authority/orders-2.key.pem"),
        ("the broker's key", "broker/broker.key"),
    ] {
        secrets.key(name, &rig.at(path));
    }
    let mut places = said.0;
    for name in ["edge", "coordinator", "mosquitto"] {
        let log = rig.log(name);
        assert!(log.len() > 100, "{name} said something");
        places.push((format!("the log of {name}"), log.into_bytes()));
    }
    assert!(rig.log("edge").contains("DEBUG") && rig.log("coordinator").contains("DEBUG"), "they say all they can");
    let heard = tap.heard.iter().flat_map(|(topic, said)| said.iter().map(move |bytes| (format!("{topic:?}"), bytes)));
    let heard: Vec<_> = heard.map(|(topic, bytes)| (format!("a message on {topic}"), bytes.clone())).collect();
    assert!(heard.len() > 50, "the broker carried something");
    places.extend(heard);
    places.push(("the list of processes, or their environment".to_owned(), processes.all()));
    let open = open_files(rig.dir.path());
    assert!(open.keys().any(|path| path.ends_with("/edge/identity/certificate.pem")), "{:?}", open.keys());
    places.extend(open.into_iter().map(|(path, bytes)| (format!("{path}, which others may read"), bytes)));
    for audit in ["edge/audit.log", "coordinator/audit.log"] {
        places.push((audit.to_owned(), fs::read(rig.at(audit)).unwrap()));
    }
    let leaks: Vec<String> = places
        .iter()
        .flat_map(|(place, bytes)| secrets.found_in(bytes).into_iter().map(move |name| format!("{name} is in {place}")))
        .collect();
    assert!(leaks.is_empty(), "\n{}", leaks.join("\n"));

    // What people can be seen in is not secret in that sense, and all the same nobody else's.
    let pictures = |below: &str| {
        let folders = fs::read_dir(rig.at(below)).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.flat_map(|path| match path.is_dir() {
            true => fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()).collect(),
            false => vec![path],
        })
    };
    let kept: Vec<PathBuf> =
        ["edge/media", "edge/model/frames", "coordinator/pictures"].into_iter().flat_map(pictures).collect();
    let jpegs = kept.iter().filter(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(&[0xff, 0xd8])));
    assert!(jpegs.count() > 2, "{kept:?}");
    let open: Vec<_> = kept.iter().filter(|path| is_reachable(rig.dir.path(), path)).collect();
    assert!(open.is_empty(), "others may look at {open:?}");
    let device = rig.at("edge");
    assert_eq!(fs::metadata(&device).unwrap().permissions().mode() & 0o077, 0, "{}", device.display());
}

/// Whether a process of this command leaves a core when it crashes: it runs where cores are written without bound.
fn leaves_a_core(script: &str, ready: impl Fn(u32) -> bool) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("ulimit -c unlimited && exec {script}")]).current_dir(dir.path());
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("it to run", WITHIN, || ready(child.id()).then_some(()));
    // Rust's runtime looks first at a SIGSEGV, and at no SIGABRT.
    assert!(Command::new("kill").args(["-ABRT", &child.id().to_string()]).status().unwrap().success());
    let status = wait_for("its end", WITHIN, || child.try_wait().unwrap());
    assert_eq!(status.signal(), Some(6), "{status}");
    status.core_dumped() || fs::read_dir(dir.path()).unwrap().next().is_some()
}

#[test]
fn a_process_that_has_keys_leaves_no_core_and_nobody_looks_into_its_memory() {
    let limit = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default().to_owned();
        line.split_whitespace().skip(4).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let runs =
        |name: &'static str| move |pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(name));
    // An agent that waits for a token has begun, and will have a key.
    let dir = tempfile::tempdir().unwrap();
    let enrol = format!("{} enrol --data-dir {}", binary("picket-agent").display(), dir.path().display());
    let audited = || dir.path().join("audit.log").exists();
    if leaves_a_core("sleep 600", runs("sleep")) {
        assert!(!leaves_a_core(&enrol, |pid| runs("picket-agent")(pid) && audited()), "the agent left a core");
    } else {
        picket_tests::skipped("this machine writes no cores, so that none is found of the agent says nothing");
    }

    // The coordinator and the agent of a real run, and what the agent starts, which has passwords of cameras.
    let mut rig = Rig::start();
    rig.device("edge");
    let agent = rig.start_agent("edge", &["--source", sample_video().to_str().unwrap()]);
    let of_agent = wait_for("the decoder", WITHIN, || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid())).unwrap_or_default();
        let all = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().flatten();
        let all = all.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect::<String>();
        (children + &all).split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| runs("ffmpeg")(*pid))
    });
    for (name, pid) in [("coordinator", rig.coordinator.pid()), ("agent", agent.pid()), ("decoder", of_agent)] {
        assert_eq!(limit(pid), ["0", "0"], "{name}: the room for its core, and what it may raise that to");
    }
    if fs::read_to_string("/proc/sys/kernel/core_pattern").is_ok_and(|pattern| !pattern.starts_with('|')) {
        assert!(Command::new("kill").args(["-ABRT", &rig.coordinator.pid().to_string()]).status().unwrap().success());
        let status = wait_for("the coordinator's end", WITHIN, || rig.coordinator.ended().unwrap());
        assert!(!status.core_dumped(), "{status}");
    }
    look_from_aside(dir.path());
}

/// Whether the memory of an agent of a user without rights belongs to that user, or to root alone. Only root can start one.
fn look_from_aside(dir: &Path) {
    if !rustix::process::geteuid().is_root() {
        return picket_tests::skipped("only root can start an agent as another user");
    }
    const NOBODY: &str = "65534";
    // The binary may lie where nobody may go.
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let program = dir.join("picket-agent");
    fs::copy(binary("picket-agent"), &program).unwrap();
    open(dir, 0o711);
    open(&program, 0o755);
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    open(&data, 0o777);
    let owner = |program: &Path, args: &[&str], ready: &dyn Fn() -> bool| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program).args(args);
        let running =
            Running(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let of = |what: &str| format!("/proc/{}/{what}", running.0.id());
        wait_for("it to run", WITHIN, || {
            (fs::read_link(of("exe")).is_ok_and(|exe| exe.ends_with(program.file_name().unwrap())) && ready())
                .then_some(())
        });
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(of("mem")).unwrap())
    };
    let began = Instant::now();
    let plain = owner(Path::new("/usr/bin/sleep"), &["600"], &|| began.elapsed() > Duration::from_millis(200));
    assert_eq!(plain.to_string(), NOBODY, "what any other process of that user shows");
    let args = ["enrol", "--data-dir", data.to_str().unwrap()];
    assert_eq!(owner(&program, &args, &|| data.join("audit.log").exists()), 0, "the agent's memory is root's");
}
