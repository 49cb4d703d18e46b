//! Operators, with the real program: at the page by HTTP and by a real browser, and at the broker. What they say reaches the device
//! under their name, and what they do stands in the audit log.

// All of this file is tests, its helpers too.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use common::*;
use picket_shared::ids::OperatorName;
use picket_shared::learn::label::Labels;
use picket_shared::learn::view::Learning;
use picket_shared::topics::Topic;

struct Site {
    dir: tempfile::TempDir,
    coordinator: Coordinator,
    agent: Agent,
}

impl Site {
    async fn start() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("coordinator.toml");
        std::fs::write(&config, format!("[learn]\nenabled = true\nbackbone = \"{}\"\n", "ab".repeat(32))).unwrap();
        let data = dir.path().join("data");
        let coordinator = Coordinator::start_with(&data, Ports::free(), &["--config", config.to_str().unwrap()]);
        let filters = [Topic::LearnLabels(node("gate-3")), Topic::ViewLearning, Topic::ViewEvent];
        let filters = filters.map(|topic| topic.render(&site())).to_vec();
        let mut agent = Agent::connect("gate-3", coordinator.ports, filters).await;
        agent.say(Topic::Health(node("gate-3")), health("up")).unwrap();
        agent.send(1, 3).unwrap();
        agent.until("the events to be archived", |agent| agent.watermark == 3).await;
        Site { dir, coordinator, agent }
    }

    fn command(&self, args: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket-coordinator"));
        let port = self.coordinator.ports.http.to_string();
        command.args(args).arg("--data-dir").arg(&self.coordinator.data_dir).args(["--http-port", &port]);
        let output = run_to_end(command);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// The link of a new operator.
    fn add(&self, name: &str) -> String {
        let (added, link, said) = self.command(&["operator", "add", name]);
        assert!(added, "{said}");
        let token = link.trim().split_once("#operator=").unwrap().1;
        assert!(!said.contains(token), "it is shown once");
        link.trim().to_owned()
    }

    fn post(&self, path: &str, token: &str, body: &str) -> String {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(self.coordinator.ports.http, &head).unwrap()
    }

    /// What the device was told last.
    fn labels(&self) -> Vec<(String, bool, String)> {
        let heard = self.agent.json(&Topic::LearnLabels(node("gate-3")));
        let Some(last) = heard.last() else { return vec![] };
        let Labels { labels, .. } = serde_json::from_value(last.clone()).unwrap();
        labels.into_iter().map(|label| (label.event.to_string(), label.person, label.who)).collect()
    }

    async fn until_told(&mut self, event: u64, person: bool, who: &str) {
        let expect = (format!("gate-3-{}-{event}", BOOT.0), person, who.to_owned());
        let until = std::time::Instant::now() + PATIENCE;
        while !self.labels().contains(&expect) {
            assert!(std::time::Instant::now() < until, "waited in vain for {expect:?}: {:?}", self.labels());
            self.agent.next().await;
        }
    }

    async fn until_frozen(&mut self, frozen: bool) {
        self.agent
            .until("learning to stop or go on", |agent| {
                let view = agent.json(&Topic::ViewLearning).pop();
                view.is_some_and(|view| serde_json::from_value::<Learning>(view).unwrap().frozen == frozen)
            })
            .await;
    }

    fn audit(&self) -> Vec<serde_json::Value> {
        let (shown, lines, said) = self.command(&["audit", "show"]);
        assert!(shown, "{said}");
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn refused(&self, word: &str) -> u64 {
        self.coordinator.metric(&format!("messages_rejected_total{{reason=\"{word}\"}}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_an_operators_link_orders_at_the_page_under_his_name_and_nobody_else_does() {
    let mut site = Site::start().await;
    let link = site.add("anna");
    let address = format!("http://127.0.0.1:{}/", site.coordinator.ports.http);
    let token = link.strip_prefix(&format!("{address}#operator=")).expect("it leads to this page").to_owned();
    let (again, _, said) = site.command(&["operator", "add", "anna"]);
    assert!(!again && said.contains("there is an operator anna already"), "{said}");
    let (_, list, _) = site.command(&["operator", "list"]);
    assert!(list.contains("\"anna\"") && !list.contains(&token), "{list}");

    let event = format!("gate-3-{}-2", BOOT.0);
    let answer = site.post("/api/labels", &token, &format!("{{\"person\":false,\"events\":[\"{event}\"]}}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    site.until_told(2, false, "anna").await;
    assert!(site.post("/api/learn", &token, "{\"order\":\"freeze\"}").starts_with("HTTP/1.1 200"));
    site.until_frozen(true).await;
    assert!(site.post("/api/learn", &token, "{\"order\":\"unfreeze\"}").starts_with("HTTP/1.1 200"));
    site.until_frozen(false).await;

    assert!(site.command(&["operator", "remove", "anna"]).0);
    for shown in [token.as_str(), "", "x"] {
        let answer = site.post("/api/learn", shown, "{\"order\":\"freeze\"}");
        assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains(&token), "{answer}");
    }
    let refused = site.coordinator.metric("requests_refused_total{port=\"http\",reason=\"operator_token\"}");
    assert_eq!(refused, 3);
    let audit = site.audit();
    let of = |act: &str| audit.iter().filter(|line| line["act"] == act).collect::<Vec<_>>();
    assert_eq!((of("operator_added").len(), of("operator_removed").len()), (1, 1));
    let ordered: Vec<_> =
        of("operator_ordered").iter().map(|line| (line["who"].clone(), line["about"].clone())).collect();
    let expect = [format!("learn reject {event}"), "learn freeze".into(), "learn unfreeze".into()];
    assert_eq!(ordered, expect.map(|about| ("anna".into(), about.into())));
    assert!(!serde_json::to_string(&audit).unwrap().contains(&token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operators_program_says_at_the_broker_is_said_under_the_topics_name_and_in_time() {
    let mut site = Site::start().await;
    let topic = Topic::OperatorLabels(OperatorName::new("bert").unwrap());
    let now_s = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let say = |site: &Site, text: String| site.agent.say(topic.clone(), text.into_bytes()).unwrap();
    say(&site, format!("{{\"labels\":[{{\"event\":\"gate-3-{}-1\",\"person\":true}}]}}", BOOT.0));
    site.until_told(1, true, "bert").await;
    // A button knows no event's name: the last one of the node is meant.
    say(&site, format!("{{\"last\":{{\"node\":\"gate-3\",\"person\":false,\"time\":{}}}}}", now_s()));
    site.until_told(3, false, "bert").await;
    for (text, word) in [
        (
            format!("{{\"labels\":[{{\"event\":\"gate-3-{}-2\",\"person\":true,\"who\":\"anna\"}}]}}", BOOT.0),
            "operator_who",
        ),
        (
            format!("{{\"last\":{{\"node\":\"gate-3\",\"person\":true,\"time\":{}}}}}", now_s() - 3_600.0),
            "operator_late",
        ),
        (format!("{{\"last\":{{\"node\":\"gate-4\",\"person\":true,\"time\":{}}}}}", now_s()), "operator_last"),
        ("{\"labels\":[]}".to_owned(), "operator_labels"),
        ("{".to_owned(), "malformed"),
    ] {
        let before = site.refused(word);
        say(&site, text);
        wait_for(word, || site.refused(word) > before);
    }
    let expect =
        [(format!("gate-3-{}-1", BOOT.0), true, "bert".into()), (format!("gate-3-{}-3", BOOT.0), false, "bert".into())];
    assert_eq!(site.labels(), expect, "nothing of that reached the device");
    assert!(site.audit().iter().any(|line| line["act"] == "operator_ordered" && line["who"] == "bert"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_acts_in_a_browser_and_somebody_without_the_link_cannot() {
    let mut site = Site::start().await;
    let link = site.add("anna");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser/operator.mjs");
    let screenshot: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("operator.png");
    let mut browser = Command::new("node");
    browser.arg(script).args(["--link", &link, "--name", "anna", "--timeout-s", "60", "--screenshot"]).arg(&screenshot);
    let running = tokio::task::spawn_blocking(move || run_to_end(browser));
    let output = tokio::time::timeout(Duration::from_secs(180), running).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let seen: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(seen["frozen"], serde_json::json!(["false", "true", "false"]), "{seen}");
    assert_eq!(seen["buttons_without"], 0);
    let event: u64 = seen["event"].as_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
    site.until_told(event, false, "anna").await;
    assert!(screenshot.is_file() && site.dir.path().exists());
}
