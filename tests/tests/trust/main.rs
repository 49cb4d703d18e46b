//! Who belongs to a site and who does not, with the real programs, a real mosquitto and the shipped access rules: devices are
//! admitted, connect, renew and are taken back; whoever is not what he says is refused, and told why.
//!
//! | attack | test |
//! |---|---|
//! | device A says or hears as B, every topic and both ways | `nobody_says_or_hears_what_is_not_his`, `who_takes_anothers_client_id_throws_out_nobody` |
//! | revoked, expired, self-signed, wrong CA | `who_is_not_of_this_site_is_refused_by_name` |
//! | a token again | `a_token_admits_one_device_under_its_own_name_and_for_its_time` |
//! | replay of each order, reordering, another topic, an ack for somebody else, an epoch that is over | `an_order_that_comes_again_late_elsewhere_or_from_an_epoch_that_is_over_is_refused_by_name`, `what_a_broker_forges_repeats_or_changes_is_refused_by_name_on_both_sides` |
//! | a forged will | `a_will_that_is_said_too_early_or_again_is_undone_by_the_next_heartbeat_or_refused` |
//! | an order from a retired key | `what_a_broker_forges_repeats_or_changes_is_refused_by_name_on_both_sides` |
//! | a broker that drops acks, or events with a receipt | `a_broker_that_keeps_acks_back_or_lies_about_delivery_costs_no_event` |
//! | a flood beside healthy traffic, and in the log | `a_flood_of_garbage_beside_a_healthy_agent_costs_it_nothing`, `what_is_refused_again_and_again_is_a_line_of_log_where_its_count_doubles` |
//! | CBOR: depth, length, doubles, trailing bytes; oversize | `bombs_of_a_member_and_of_whoever_has_the_orders_key_are_refused_by_name` |
//! | slow clients at each port, also after the handshake | `slow_clients_hold_no_port`, `who_dawdles_after_the_handshake_is_shown_out_of_the_door_too`, `slow_clients_hold_no_port_of_the_embedded_broker` |
//! | names that become paths | `a_name_that_leads_out_of_its_folder_is_no_name`, `a_path_that_leads_out_of_its_folder_shows_nothing_and_a_topic_writes_nothing` |
//! | the coordinator's own log, cut off | `the_coordinators_own_log_is_remembered_by_devices_and_what_was_cut_off_it_is_told_until_it_is_accepted` |
//! | secrets in logs, processes, cores, errors, messages | `nothing_that_is_secret_is_anywhere_but_where_it_is_kept`, `a_process_that_has_keys_leaves_no_core_and_nobody_looks_into_its_memory` |
//! | image bytes in a capture of the demo | `a_capture_of_the_demo_shows_no_picture_but_the_one_that_was_asked_for` |
//! | memory under hostile input | `no_message_takes_more_than_four_times_its_bound`, in `tests/fuzz/greed.rs` |
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod between;
mod capture;
mod flood;
mod forged;
mod heads;
mod knock;
mod models;
mod needles;
mod paths;
mod pictures;
mod relay;
mod rig;
mod rules;
mod secrets;
mod slow;
mod tapped;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use picket_coordinator::authority::devices::{Device, Given};
use picket_coordinator::authority::issue::{Ca, Purpose, make_ca};
use picket_coordinator::door::CONNECTIONS_OF_ONE_MAX;
use picket_shared::calendar::unix_s;
use picket_shared::crypto::SecretKey;
use picket_shared::exit::Exit;
use picket_shared::keyfile;
use picket_shared::mqtt::{self, LinkEvent};
use picket_shared::trust::DAY_S;
use picket_shared::trust::certificate::Certificate;
use picket_shared::trust::door::{ENROL_PATH, RENEW_PATH, REQUEST_BYTES_MAX};
use picket_shared::trust::identity::Identity;
use picket_shared::trust::tls::TlsFiles;
use picket_simulation::soak::killer::Deed;
use picket_tests::{binary, sample_video, text, wait_for};

use rig::{Rig, WITHIN, node, secret_of, site};

#[track_caller]
fn ended(output: &std::process::Output, exit: Exit, expect: &str) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(exit as i32), "{said}");
    assert!(said.contains(expect) && said.trim().lines().count() == 1, "{said}");
}

/// Files of a key and a certificate that were made by whoever has `ca`.
fn forged(dir: &Path, ca_of: &TlsFiles, certificate: &str, key: &SecretKey) -> TlsFiles {
    let at = |name: &str| dir.join(name);
    keyfile::write_open(&at("forged.crt"), certificate.as_bytes()).unwrap();
    keyfile::write_secret(&at("forged.key"), key.to_pem().as_bytes()).unwrap();
    TlsFiles { ca: ca_of.ca.clone(), certificate: Some(at("forged.crt")), key: Some(at("forged.key")) }
}

#[test]
fn a_device_enrols_sees_and_its_events_reach_the_archive() {
    let rig = Rig::start();
    let token = rig.token("edge");
    let enrolled = rig.enrol("edge", &token);
    assert!(enrolled.status.success(), "{}", text(&enrolled));
    ended(&rig.enrol("edge", &token), Exit::Denied, "this device is enrolled already");
    let video = sample_video();
    let source = video.to_str().unwrap();
    let mut agent = rig.start_agent("edge", &["--source", source, "--frames", "100", "--drain-timeout-s", "60"]);
    // It succeeds only if the archive has every event.
    let status = wait_for("the agent to have delivered", WITHIN, || agent.ended().unwrap());
    assert!(status.success(), "{}", rig.log("edge"));
    assert!(rig.metric("events_archived_total") > 5, "{}", rig.log("coordinator"));
    assert!(rig.log("edge").contains(&format!("connected to {}", rig.url())));

    // Nothing that is secret is anywhere but in its file.
    let list = text(&rig.command(&["authority", "list"]));
    assert!(list.contains("\"edge\"") && list.contains("\"active\"") && list.contains("token_used"), "{list}");
    let identity = Identity::below(&rig.at("edge"));
    let body = |pem: String| pem.lines().nth(1).unwrap().to_owned();
    let mut secrets = vec![secret_of(&token), body(fs::read_to_string(identity.tls().key.unwrap()).unwrap())];
    for name in ["ca.key.pem", "orders-1.key.pem"] {
        secrets.push(body(fs::read_to_string(rig.at("coordinator/authority").join(name)).unwrap()));
    }
    let logs = ["edge", "coordinator", "mosquitto"].map(|name| rig.log(name)).concat() + &list + &text(&enrolled);
    assert!(logs.len() > 200);
    for secret in &secrets {
        assert!(!logs.contains(secret), "{secret} in {logs}");
    }
    let kept = fs::read_dir(rig.at("coordinator/authority/tickets")).unwrap().map(|file| file.unwrap().path());
    let kept: String = kept.map(|path| format!("{} {}", path.display(), fs::read_to_string(&path).unwrap())).collect();
    assert!(!kept.is_empty() && !kept.contains(&secrets[0]), "only a digest of the token is kept");

    // The same name elsewhere, a plain broker of another machine, and a key that others can read end before anything is said.
    let check = |args: &[&str]| {
        let mut doctor = Command::new(binary("picket-agent"));
        doctor.args(["doctor", "--site", "yard", "--source", "synthetic:", "--data-dir"]).arg(rig.at("edge"));
        doctor.args(args).output().unwrap()
    };
    ended(&check(&["--node", "else"]), Exit::Config, "this device is enrolled as edge of the site yard");
    ended(&check(&["--node", "edge", "--broker", "mqtt://10.1.2.3"]), Exit::Config, "set plain = true");
    let said = text(&check(&["--node", "edge"]));
    assert!(said.contains("edge, its certificate expires in 89 days") || said.contains("expires in 90 days"), "{said}");
    assert!(said.contains("takes this device's certificate"), "{said}");
    let key = identity.tls().key.unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let said = text(&check(&["--node", "edge"]));
    assert!(said.contains("can be read or changed by others than its owner (mode 640)"), "{said}");
}

#[test]
fn nobody_says_or_hears_what_is_not_his() {
    let mut rig = Rig::start();
    let a = rig.device("a");
    // Two of one identity would throw each other out.
    assert!(rig.coordinator.hit(Deed::Kill, Instant::now() + Duration::from_secs(3600)).unwrap());
    rules::hold(&rig, &a);
}

#[test]
fn who_takes_anothers_client_id_throws_out_nobody() {
    let rig = Rig::start();
    let (a, b) = (rig.device("a"), rig.device("b"));
    let mut first = rig.connect("a", Some(a.tls()), &["picket/v1/yard/a/ack"]);
    first.until_up();
    let mut thief = rig.connect("a", Some(b.tls()), &[]);
    thief.until_up();
    let mut coordinator = rig.connect("x", Some(rig.client(rig::OBSERVER)), &[]);
    coordinator.until_up();
    // The first is still there: it hears, and nothing ended before.
    coordinator.say("picket/v1/yard/a/ack", "for a");
    assert!(matches!(first.next(), LinkEvent::Message { payload, .. } if payload == b"for a"));
}

/// What SECURITY.md says was tried is tried: each test that it names is one.
#[test]
fn the_page_of_attacks_names_tests_that_are_there() {
    let page = include_str!("../../../.github/SECURITY.md");
    let table = page.split_once("## Attacks that are tried").unwrap().1.split_once("\n## ").unwrap().0;
    let sources = [
        include_str!("main.rs"),
        include_str!("flood.rs"),
        include_str!("forged.rs"),
        include_str!("heads.rs"),
        include_str!("slow.rs"),
        include_str!("tapped.rs"),
        include_str!("paths.rs"),
        include_str!("relay.rs"),
        include_str!("secrets.rs"),
        include_str!("../fuzz/greed.rs"),
        include_str!("../learning/released.rs"),
        include_str!("../../../coordinator/src/http/orders_tests.rs"),
        include_str!("../../../coordinator/tests/operators.rs"),
        include_str!("../../../coordinator/src/model/tests/heads.rs"),
        include_str!("../../../agent/src/learn/student/tests/releases.rs"),
        include_str!("../../../agent/src/model/learned_tests.rs"),
        include_str!("../../../shared/src/model/tests/learned.rs"),
    ]
    .concat();
    let last = |row: &str| row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default().to_owned();
    let rows: Vec<String> = table.lines().filter(|line| line.starts_with("| ")).skip(1).map(last).collect();
    assert!(rows.len() > 8, "{rows:?}");
    // So is what this file's own head says.
    let head =
        include_str!("main.rs").lines().take_while(|line| line.starts_with("//!")).filter(|line| line.contains(" | `"));
    let of_head: Vec<String> = head.map(last).collect();
    assert!(of_head.len() > 12, "{of_head:?}");
    for named in rows
        .iter()
        .chain(&of_head)
        .flat_map(|row| row.split('`'))
        .filter(|word| word.contains('_') && !word.contains('/'))
    {
        // The attribute stands in the line before, and nothing takes the test out of the suite.
        let (before, _) = sources.split_once(&format!("fn {named}(")).unwrap_or_default();
        let attribute = before.trim_end_matches("async ").lines().next_back().unwrap_or_default();
        assert!(attribute == "#[test]" || attribute.starts_with("#[tokio::test"), "{named}");
    }
}

/// The commands of README, as they stand there.
#[test]
fn a_ca_of_ones_own_serves_the_connections_as_readme_says() {
    let rig = Rig::start();
    let readme = include_str!("../../../README.md");
    let from = readme.find("openssl req -x509").unwrap();
    let commands = &readme[from..from + readme[from..].find("```").unwrap()];
    let dir = rig.at("own");
    fs::create_dir(&dir).unwrap();
    let mut shell = Command::new("bash");
    let made = shell.args(["-e", "-o", "pipefail", "-c", commands]).current_dir(&dir).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let conf = fs::read_to_string(rig.at("mosquitto.conf")).unwrap();
    let port = picket_simulation::soak::site::free_port().unwrap();
    let conf = conf.replace(&format!("{}/", rig.at("broker").display()), &format!("{}/", dir.display()));
    let conf = conf.replace(&format!("listener {} ", rig.mqtt_port), &format!("listener {port} "));
    let conf = [rig.page_port, rig.web_port].iter().fold(conf, |conf, theirs| {
        let free = picket_simulation::soak::site::free_port().unwrap();
        conf.replace(&format!("listener {theirs} "), &format!("listener {free} "))
    });
    let conf: String =
        conf.lines().filter(|line| !line.starts_with("crlfile")).map(|line| format!("{line}\n")).collect();
    fs::write(rig.at("own.conf"), conf).unwrap();
    let _broker = rig::start(rig.dir.path(), "own", "mosquitto".into(), ["-c".into(), rig.at("own.conf").into()]);
    let config = format!(
        "site = \"yard\"\nnode = \"gate-1\"\ndata_dir = \"{0}/data\"\n[mqtt]\nbroker = \"mqtts://127.0.0.1:{port}\"\n\
         tls = {{ ca = \"{0}/ca.crt\", certificate = \"{0}/gate-1.crt\", key = \"{0}/gate-1.key\" }}\n\
         [[camera]]\nname = \"none\"\nsource = \"synthetic:\"\n",
        dir.display()
    );
    fs::write(dir.join("agent.toml"), config).unwrap();
    let run = ["run".into(), "--config".into(), dir.join("agent.toml").into_os_string()];
    let agent = rig::start(rig.dir.path(), "gate-1", binary("picket-agent"), run);
    wait_for("the agent at the broker", WITHIN, || rig.log("gate-1").contains("connected to mqtts://").then_some(()));
    // Two of one identity would throw each other out.
    drop(agent);
    // By the name in that certificate, it may say what is its own and nothing else.
    let files = rig::files(&dir, "ca.crt", "gate-1");
    let broker = || format!("mqtts://127.0.0.1:{port}").try_into().unwrap();
    let mut hears = rig.connect_to(broker(), "x", Some(files), &["picket/v1/yard/+/heartbeat"]);
    hears.until_up();
    hears.say("picket/v1/yard/b/heartbeat", "by gate-1");
    hears.say("picket/v1/yard/gate-1/heartbeat", "by gate-1");
    assert!(hears.heard_until("by gate-1", "picket/v1/yard/gate-1/heartbeat").is_empty());
}

#[test]
fn a_device_that_was_away_while_keys_changed_follows_them_when_it_is_back() {
    let rig = Rig::start();
    let identity = rig.device("edge");
    let source = sample_video();
    let args = ["--source", source.to_str().unwrap(), "--frames", "60", "--drain-timeout-s", "60"];
    let delivers = |rig: &Rig| {
        let mut agent = rig.start_agent("edge", &args);
        let status = wait_for("the agent to have delivered", WITHIN, || agent.ended().unwrap());
        assert!(status.success(), "{}", rig.log("edge"));
    };
    delivers(&rig);
    let before = rig.metric("events_archived_total");
    let first = identity.membership().unwrap().orders.number;
    for _ in 0..2 {
        assert!(rig.command(&["authority", "rotate"]).status.success());
    }
    assert_eq!(identity.membership().unwrap().orders.number, first, "it is away");
    // It has delivered only where it believes the acks, which are signed by a key that it never heard of.
    delivers(&rig);
    assert!(rig.metric("events_archived_total") > before);
    assert_eq!(identity.membership().unwrap().orders.number, first + 2, "it has followed both steps");
    assert!(rig.log("edge").contains("orders are signed by key 3"), "{}", rig.log("edge"));
}

#[test]
fn who_is_not_of_this_site_is_refused_by_name() {
    let mut rig = Rig::start();
    let device = rig.device("edge").tls();
    let ours = rig.at("coordinator/authority");
    let read = |name: &str| fs::read_to_string(ours.join(name)).unwrap();
    let (ca_key, key) = (SecretKey::from_pem(&read("ca.key.pem")).unwrap(), SecretKey::generate().unwrap());

    let theirs = SecretKey::generate().unwrap();
    let their_ca = make_ca(&theirs, &site(), unix_s()).unwrap();
    let by = |ca: &str, ca_key: &SecretKey, at_s: u64| {
        Ca::new(ca, ca_key).unwrap().issue("edge", key.public(), &Purpose::Client, at_s, 90).unwrap()
    };
    let dir = rig.at("coordinator");
    let wrong_ca = forged(&dir, &device, &by(&their_ca, &theirs, unix_s()), &key);
    let said = rig.refusal(Some(wrong_ca));
    assert!(said.contains("its certificate is of another CA; enrol it at this site"), "{said}");
    let self_signed = forged(&dir, &device, &their_ca, &theirs);
    let said = rig.refusal(Some(self_signed));
    assert!(said.contains("refuses this device"), "{said}");
    let expired = forged(&dir, &device, &by(&read("ca.pem"), &ca_key, unix_s() - 91 * DAY_S), &key);
    let said = rig.refusal(Some(expired.clone()));
    assert!(said.contains("expired 24 hours ago; enrol this device again"), "{said}");
    let none = TlsFiles { certificate: None, key: None, ..device.clone() };
    let said = rig.refusal(Some(none));
    assert!(said.contains("lets in only who shows a certificate"), "{said}");
    assert!(rig.refusal(None).contains("there are none; enrol this device"));

    // The other way round: a broker that shows another CA's certificate is not spoken to.
    keyfile::write_open(&dir.join("their.pem"), their_ca.as_bytes()).unwrap();
    let said = rig.refusal(Some(TlsFiles { ca: dir.join("their.pem"), ..device.clone() }));
    assert!(said.contains("the known CA did not sign"), "{said}");

    // Revoked: it connects until the broker has the new list, and then never again.
    let mut present = rig.connect("edge", Some(device.clone()), &[]);
    present.until_up();
    let out = rig.at("broker");
    let revoked = rig.command(&["revoke", "edge", "--out", out.to_str().unwrap()]);
    assert!(text(&revoked).contains("1 certificates of edge are revoked"), "{}", text(&revoked));
    // On SIGHUP it reads the list, and asks nobody again who is connected; a new start does.
    assert!(Command::new("kill").args(["-HUP", &rig.broker.pid().to_string()]).status().unwrap().success());
    wait_for("the new list to be read", WITHIN, || {
        rig.runtime
            .block_on(mqtt::shake_hands(&rig.url(), Some(&device)))
            .err()
            .filter(|said| said.contains("is revoked"))
    });
    assert!(present.pending().is_none() && present.link.is_up(), "site.conf says that it stays");
    rig.restart_broker();
    let said = wait_for("the refusal", WITHIN, || match present.next() {
        LinkEvent::Down(said) if said.contains("refuses this device") => Some(said),
        _ => None,
    });
    assert!(said.contains("its certificate is revoked"), "{said}");
    ended(&rig.renew("edge", true), Exit::Denied, "the certificate of edge is revoked");
    ended_by(&rig.command(&["revoke", "nobody"]), Exit::Denied, "no device nobody was ever admitted");
    assert!(text(&rig.command(&["authority", "list"])).contains("\"revoked\""));
    // Everybody else goes on.
    rig.connect("other", Some(rig.device("other").tls()), &[]).until_up();
}

#[track_caller]
fn ended_by(output: &std::process::Output, exit: Exit, expect: &str) {
    assert_eq!(output.status.code(), Some(exit as i32), "{}", text(output));
    assert!(text(output).contains(expect), "{}", text(output));
}

#[test]
fn a_token_admits_one_device_under_its_own_name_and_for_its_time() {
    let rig = Rig::start();
    let token = rig.token("edge");
    let enrolled = rig.enrol("one", &token);
    assert!(enrolled.status.success() && text(&enrolled).contains("this device is edge of the site yard"));
    let certificate = Identity::below(&rig.at("one")).certificate().unwrap();
    assert_eq!(certificate.name, "edge", "the request had another name");

    ended(&rig.enrol("two", &token), Exit::Denied, "the token was used already, by another device");
    // The same device again, as if the answer had been lost.
    fs::remove_file(rig.at("one/identity/certificate.pem")).unwrap();
    assert!(rig.enrol("one", &token).status.success());

    let secret = secret_of(&token);
    let unknown = token.replace(&secret, &"0".repeat(secret.len()));
    ended(&rig.enrol("two", &unknown), Exit::Denied, "the token is not known here");
    ended(&rig.enrol("two", &token[..token.len() - 1]), Exit::Data, "this is not a whole token");
    let fresh = rig.token("two");
    let parts: Vec<&str> = fresh.split('/').collect();
    let elsewhere = fresh.replace(parts[3], &"ab".repeat(32));
    ended(&rig.enrol("two", &elsewhere), Exit::Denied, "the known CA did not sign");
    let nobody = fresh.replace(&rig.door_port.to_string(), "1");
    ended(&rig.enrol("two", &nobody), Exit::Unreachable, "cannot be reached");

    // Expired: the ticket's file says until when.
    let tickets = rig.at("coordinator/authority/tickets");
    for file in fs::read_dir(&tickets).unwrap() {
        let path = file.unwrap().path();
        let mut ticket: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        ticket["expires_s"] = unix_s().into();
        keyfile::write_secret(&path, ticket.to_string().as_bytes()).unwrap();
    }
    ended(&rig.enrol("two", &fresh), Exit::Denied, "the token has expired");
    assert!(!rig.log("coordinator").contains(&secret));
    ended(&rig.command(&["enrol", "coordinator-2"]), Exit::Denied, "choose another");
    ended(&rig.command(&["enrol", "edge", "--minutes", "0"]), Exit::Config, "give it 1 to");
}

#[test]
fn a_token_is_not_in_the_list_of_processes() {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    let secret = "5ec2e7".repeat(5) + "00";
    let token = format!("picket://127.0.0.1:{port}/{}/{secret}\n", "ab".repeat(32));
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Command::new(binary("picket-agent"));
    agent.arg("enrol").arg("--data-dir").arg(dir.path()).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut agent = picket_tests::Running(agent.spawn().unwrap());
    agent.0.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    // It has read the token by now, and waits for the door.
    let _stream = door.accept().unwrap();
    // Who is not root does not even see its environment.
    let shown = |what| fs::read(format!("/proc/{}/{what}", agent.0.id())).unwrap_or_default();
    let shown = ["cmdline", "environ"].map(shown).concat();
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("enrol") && !shown.contains(&secret), "{shown}");
}

#[test]
fn the_door_has_its_limits() {
    let rig = Rig::start();
    let post =
        |path: &str, body: &[u8]| rig.runtime.block_on(knock::post(rig.door_port, rig.stranger(), path, body)).unwrap();
    for (path, body, status) in [
        ("/", &b"{}"[..], "404"),
        (ENROL_PATH, b"{}", "400"),
        (ENROL_PATH, b"", "400"),
        (ENROL_PATH, &[b'['; REQUEST_BYTES_MAX], "400"),
        (ENROL_PATH, &[b'x'; REQUEST_BYTES_MAX + 1], "413"),
        (ENROL_PATH, br#"{"secret": "00", "csr": ""}"#, "403"),
        (ENROL_PATH, br#"{"secret": "00000000000000000000000000000000", "csr": ""}"#, "403"),
        (RENEW_PATH, br#"{"csr": ""}"#, "401"),
    ] {
        let answer = post(path, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {} bytes: {answer}", body.len());
    }
    let raw = |request: &[u8]| rig.runtime.block_on(knock::raw(rig.door_port, rig.stranger(), request));
    let answer = raw(b"GET /v1/enrol HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let long = format!("POST /v1/enrol HTTP/1.1\r\nHost: d\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many = format!("POST /v1/enrol HTTP/1.1\r\nHost: d\r\n{}\r\n", "X: x\r\n".repeat(100));
    for request in [long, many] {
        let answer = raw(request.as_bytes()).unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    // Slow ones take their places and no more, and lose them: after them there is room again.
    let token = rig.token("edge");
    let connect = |_| std::net::TcpStream::connect(("127.0.0.1", rig.door_port)).unwrap();
    let mut slow: Vec<_> = (0..CONNECTIONS_OF_ONE_MAX).map(connect).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(&[22, 3, 1]).unwrap());
    ended(&rig.enrol("edge", &token), Exit::Unreachable, "");
    wait_for("the slow ones to be shown out", WITHIN, || rig.enrol("edge", &token).status.success().then_some(()));
    assert!(rig.log("coordinator").contains("crowded"), "{}", rig.log("coordinator"));
    let mut gone = [0; 1];
    slow[0].set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(matches!(std::io::Read::read(&mut slow[0], &mut gone), Ok(0)), "it was shown out");
}

#[test]
fn a_certificate_is_renewed_while_the_agent_runs() {
    let mut rig = Rig::start();
    let identity = rig.device("edge");
    let first = identity.certificate().unwrap();
    let said = text(&rig.renew("edge", false));
    assert!(said.contains("not yet: the certificate expires in"), "{said}");
    assert!(rig.renew("edge", true).status.success());
    assert_ne!(identity.certificate().unwrap().serial, first.serial);

    // One that has half a minute left, as the authority would have made it ninety days ago.
    let read = |name: &str| fs::read_to_string(rig.at("coordinator/authority").join(name)).unwrap();
    let ca = Ca::new(&read("ca.pem"), &SecretKey::from_pem(&read("ca.key.pem")).unwrap()).unwrap();
    let key = identity.key().unwrap().public();
    let left_s = 30;
    let old = ca.issue("edge", key, &Purpose::Client, unix_s() - 90 * DAY_S + left_s, 90).unwrap();
    identity.put_certificate(&old, &read("ca.pem")).unwrap();
    let old = Certificate::from_pem(&old).unwrap();
    let given = Given { serial: old.serial.clone(), key, not_after_s: old.not_after_s, revoked_s: None };
    let device = Device { node: node("edge"), certificates: vec![given] };
    fs::write(rig.at("coordinator/authority/devices/edge.json"), serde_json::to_string(&device).unwrap()).unwrap();

    let mut agent = rig.start_agent("edge", &["--source", "synthetic:"]);
    let connected = |rig: &Rig| rig.log("edge").matches("connected to").count();
    wait_for("the agent at the broker", WITHIN, || (connected(&rig) > 0).then_some(()));
    // A timer calls it, and now there is something to do.
    let renewed = rig.renew("edge", false);
    assert!(renewed.status.success() && text(&renewed).contains("has a new certificate"), "{}", text(&renewed));
    wait_for("the old certificate to expire", WITHIN, || (unix_s() > old.not_after_s).then_some(()));
    rig.restart_broker();
    wait_for("the agent to be back by its new certificate", WITHIN, || (connected(&rig) > 1).then_some(()));
    assert!(agent.ended().unwrap().is_none());

    // The old one opens nothing any more, not even the door.
    let key = identity.tls().key.unwrap();
    fs::create_dir(rig.at("old")).unwrap();
    fs::create_dir(rig.at("old/identity")).unwrap();
    for name in ["ca.pem", "membership.json"] {
        fs::copy(identity.dir().join(name), rig.at("old/identity").join(name)).unwrap();
    }
    keyfile::write_secret(&rig.at("old/identity/key.pem"), fs::read(&key).unwrap().as_slice()).unwrap();
    let expired =
        ca.issue("edge", identity.key().unwrap().public(), &Purpose::Client, unix_s() - 91 * DAY_S, 90).unwrap();
    keyfile::write_open(&rig.at("old/identity/certificate.pem"), expired.as_bytes()).unwrap();
    ended(&rig.renew("old", true), Exit::Denied, "expired 24 hours ago");
    // Whoever renews hears of a new orders key too.
    let orders = rig.command(&["authority", "rotate"]);
    assert!(orders.status.success() && text(&orders).contains("orders key 2"), "{}", text(&orders));
    assert!(rig.renew("edge", true).status.success());
    assert_eq!(identity.membership().unwrap().orders.number, 2, "it has followed");
}
