//! The door of orders over real connections, with a stand-in for the coordinator behind it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use axum::extract::connect_info::MockConnectInfo;
use picket_shared::learn::label::Label;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::{Pages, QUESTIONS_MAX, listen, routes, serve};
use super::*;
use crate::operators::OperatorError;

struct Site {
    dir: tempfile::TempDir,
    address: SocketAddr,
    asked: mpsc::Receiver<Question>,
    refusals: Refusals,
    token: String,
}

fn name() -> OperatorName {
    OperatorName::new("anna").unwrap()
}

async fn site(from: Option<&str>, anywhere: bool) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let audit = dir.path().to_owned();
    site_with(dir, &audit, from, anywhere).await
}

/// `from`: where everybody seems to come from.
async fn site_with(dir: tempfile::TempDir, audit: &Path, from: Option<&str>, anywhere: bool) -> Site {
    let token = Operators::change(dir.path(), |operators| operators.add(&name(), 7)).unwrap();
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    let refusals = Refusals::default();
    let listener = listen("127.0.0.1:0".parse().unwrap(), refusals.clone()).unwrap();
    let address = axum::serve::Listener::local_addr(&listener).unwrap();
    let dirs = (dir.path().to_owned(), dir.path().join("models"));
    let audit = Arc::new(AuditLog::open_or_later(audit, 7));
    let door = Door::new(dirs, audit, anywhere, questions.clone(), refusals.clone());
    let pages = Pages {
        site: picket_shared::ids::SiteId::new("yard").unwrap(),
        mqtt_websocket_url: None,
        questions,
        refusals: [("http", refusals.clone()), ("enrolment", Refusals::default())],
        door,
    };
    match from {
        None => drop(tokio::spawn(serve(listener, pages))),
        Some(from) => {
            let from = Peer(SocketAddr::new(from.parse().unwrap(), 4711));
            let app = routes(pages).layer(MockConnectInfo(from));
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
    }
    Site { dir, address, asked, refusals, token }
}

impl Site {
    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    /// The status, and what is said.
    async fn send(&self, head: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let text = format!(
            "{head} HTTP/1.1\r\nHost: hub:8080\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        // Whoever is refused early may not be let finish.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
        (status, answer.split_once("\r\n\r\n").map(|(_, said)| said.to_owned()).unwrap_or_default())
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let headers = format!("{}Content-Type: application/json\r\n{headers}", self.bearer());
        self.send(&format!("POST {path}"), &headers, body).await
    }

    /// Whether nobody asked the coordinator anything.
    fn is_idle(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("audit.log")).unwrap_or_default()
    }
}

/// Posts what is to be handed to the coordinator, and answers for it: the order, what was written down by then, and what was said.
async fn ordered_with(
    site: &mut Site,
    path: &str,
    headers: &str,
    body: &str,
    answer: Result<(), &'static str>,
) -> (Order, String, (u16, String)) {
    let mut asked = std::mem::replace(&mut site.asked, mpsc::channel(1).1);
    let audit = site.dir.path().join("audit.log");
    let taken = async {
        let Some(Question::Learn(order, done)) = asked.recv().await else { panic!("no order came") };
        let written = std::fs::read_to_string(audit).unwrap_or_default();
        done.send(answer).unwrap();
        (order, written)
    };
    let ((order, written), said) = tokio::join!(taken, site.post(path, headers, body));
    site.asked = asked;
    (order, written, said)
}

async fn ordered(
    site: &mut Site,
    path: &str,
    body: &str,
    answer: Result<(), &'static str>,
) -> (Order, String, (u16, String)) {
    ordered_with(site, path, "", body, answer).await
}

#[tokio::test]
async fn an_order_is_written_down_under_its_operators_name_and_then_handed_over() {
    let mut site = site(None, false).await;
    let node = || NodeId::new("gate-3").unwrap();
    for (body, expect, about) in [
        (r#"{"order":"freeze"}"#, Order::Freeze, "learn freeze"),
        (r#"{"order":"unfreeze"}"#, Order::Unfreeze, "learn unfreeze"),
        (r#"{"order":"revert"}"#, Order::Revert, "learn revert"),
        (r#"{"order":"out","node":"gate-3"}"#, Order::Out(node()), "learn out gate-3"),
        (r#"{"order":"in","node":"gate-3"}"#, Order::In(node()), "learn in gate-3"),
    ] {
        let (order, written, (status, said)) = ordered(&mut site, "/api/learn", body, Ok(())).await;
        assert_eq!((order, status), (expect, 200), "{said}");
        let line = written.lines().last().unwrap_or_default();
        assert!(line.contains("operator_ordered") && line.contains("\"anna\"") && line.contains(about), "{line}");
    }
    let (.., (status, said)) = ordered(&mut site, "/api/learn", r#"{"order":"freeze"}"#, Err("no one leads")).await;
    assert_eq!((status, said.as_str()), (409, "no one leads.\n"));
    assert!(!site.audit().contains(&site.token));
}

#[tokio::test]
async fn labels_are_said_by_whose_token_it_is() {
    let mut site = site(None, false).await;
    let body = r#"{"person":false,"events":["gate-1-3"]}"#;
    let (order, written, (status, _)) = ordered(&mut site, "/api/labels", body, Ok(())).await;
    let label = Label { event: EventId::new("gate-1-3").unwrap(), person: false, who: "anna".into() };
    assert_eq!((order, status), (Order::Label(vec![label]), 200));
    assert!(written.contains("learn reject gate-1-3"), "{written}");
    for (body, expect) in [
        (r#"{"person":false,"events":["gate-1-3"],"who":"bert"}"#, "unknown field"),
        (r#"{"person":false,"events":["gate-1-3-crowd1"]}"#, "no event of one person"),
        (r#"{"person":false,"events":[]}"#, "1 to 64 events"),
        (r#"{"person":1,"events":["gate-1-3"]}"#, "this is no order"),
    ] {
        let (status, said) = site.post("/api/labels", "", body).await;
        assert!(status == 400 && said.contains(expect), "{status} {said}");
    }
    assert!(site.is_idle(), "nothing of that reached the coordinator");
}

#[tokio::test]
async fn without_an_operators_token_nothing_is_ordered_nor_read_of_a_body() {
    let mut site = site(None, false).await;
    let json = "Content-Type: application/json\r\n";
    let digest = picket_shared::crypto::sha256_hex(site.token.as_bytes());
    let (right, other) = (site.bearer(), format!("Authorization: Bearer {}\r\n", "0".repeat(64)));
    for headers in [
        String::new(),
        other.clone(),
        format!("Authorization: Bearer {digest}\r\n"),
        format!("Authorization: Basic {}\r\n", site.token),
        format!("{right}{other}"),
        format!("Cookie: token={}\r\n", site.token),
        format!("Authorization: Bearer {}\r\n", "x".repeat(HEADER_BYTES_MAX)),
    ] {
        for (method, path) in [("GET", "/api/operator"), ("POST", "/api/learn"), ("POST", "/api/rollout")] {
            let (status, said) = site.send(&format!("{method} {path}"), &format!("{headers}{json}"), "{").await;
            assert!(status == 401 && said.contains("token"), "{headers} {path}: {status} {said}");
        }
    }
    assert_eq!(site.refusals.all().get("operator_token"), Some(&21));
    assert_eq!(site.send("GET /api/operator", &right, "").await, (200, r#"{"operator":"anna"}"#.into()));
    Operators::change(site.dir.path(), |operators| Ok::<_, OperatorError>(operators.remove(&name()))).unwrap();
    assert_eq!(site.send("GET /api/operator", &right, "").await.0, 401, "who is removed is out at once");
    assert!(site.is_idle() && site.audit().is_empty());
    // Whoever shows nothing sees what everybody sees.
    assert_eq!(site.send("GET /config.json", "", "").await.0, 200);
}

#[tokio::test]
async fn orders_come_from_this_page_and_in_this_form_only() {
    let mut site = site(None, false).await;
    let body = r#"{"order":"freeze"}"#;
    for (headers, expect) in [
        ("Origin: http://evil.example\r\n", 403),
        ("Origin: http://hub:8081\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin: http://hub:8080\r\nOrigin: http://evil.example\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\n", 403),
        ("Sec-Fetch-Site: none\r\n", 403),
    ] {
        assert_eq!(site.post("/api/learn", headers, body).await.0, expect, "{headers}");
    }
    let bearer = site.bearer();
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        assert_eq!(site.send("POST /api/learn", &format!("{bearer}{kind}"), body).await.0, 415, "{kind}");
    }
    let large = format!("{{\"order\":\"freeze\",\"x\":\"{}\"}}", "x".repeat(ORDER_BYTES_MAX));
    for (body, expect) in [(large.as_str(), 413), ("", 400), ("{}", 400), (r#"{"order":"label"}"#, 400), ("[[[[", 400)]
    {
        assert_eq!(site.post("/api/learn", "", body).await.0, expect, "{}", body.len());
    }
    assert!(site.is_idle() && site.audit().is_empty());
    let own = "Origin: http://hub:8080\r\nSec-Fetch-Site: same-origin\r\n";
    let (order, ..) = ordered_with(&mut site, "/api/learn", own, body, Ok(())).await;
    assert_eq!(order, Order::Freeze);
}

#[tokio::test]
async fn a_token_that_came_over_a_wire_in_the_clear_orders_nothing_unless_that_was_allowed() {
    for (from, anywhere, expect) in [
        ("192.168.1.9", false, 403),
        ("2001:db8::1", false, 403),
        ("::ffff:192.168.1.9", false, 403),
        ("127.0.0.1", false, 200),
        ("::1", false, 200),
        ("::ffff:127.0.0.1", false, 200),
        ("192.168.1.9", true, 200),
    ] {
        let site = site(Some(from), anywhere).await;
        let (status, said) = site.send("GET /api/operator", &site.bearer(), "").await;
        assert_eq!(status, expect, "{from} {anywhere}: {said}");
    }
}

#[tokio::test]
async fn wrong_tokens_are_slow_and_few_at_once_and_hold_up_nobody_else() {
    let site = Arc::new(site(None, false).await);
    let begun = Instant::now();
    let guesses: Vec<_> = (0..3 * WRONG_AT_ONCE_MAX)
        .map(|n| {
            let site = Arc::clone(&site);
            let guess = format!("Authorization: Bearer {n:064}\r\n");
            tokio::spawn(async move { site.send("GET /api/operator", &guess, "").await.0 })
        })
        .collect();
    assert_eq!(site.send("GET /api/operator", &site.bearer(), "").await.0, 200);
    let mut answers = Vec::new();
    for guess in guesses {
        answers.push(guess.await.unwrap());
    }
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
    assert!(answers.contains(&401) && answers.contains(&429), "{answers:?}");
    assert!(begun.elapsed() >= WRONG_PAUSE, "a wrong one is answered late");
    let counted = site.refusals.all();
    assert_eq!(counted.get("operator_token").unwrap() + counted.get("operator_crowded").unwrap(), answers.len() as u64);
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    // Below a file nothing can be written.
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let mut site = site_with(dir, &file.join("audit"), None, false).await;
    for (path, body) in [
        ("/api/learn", r#"{"order":"freeze"}"#),
        ("/api/labels", r#"{"person":true,"events":["gate-1-3"]}"#),
        ("/api/rollout", r#"{"order":"pin","station":"gate"}"#),
    ] {
        let (status, said) = site.post(path, "", body).await;
        assert!(status == 503 && said.contains("audit log"), "{status} {said}");
    }
    assert!(site.is_idle() && !site.dir.path().join("models").join("pins.json").exists());
}

#[tokio::test]
async fn orders_of_rollouts_go_into_the_registry() {
    let site = site(None, false).await;
    let (pin, pause) = (r#"{"order":"pin","station":"gate"}"#, r#"{"order":"pause","rollout":7}"#);
    assert_eq!(site.post("/api/rollout", "", pin).await.0, 409, "there is no registry");
    let models = site.dir.path().join("models");
    std::fs::create_dir(&models).unwrap();
    let registry = Registry::open(&models).unwrap();
    assert_eq!(site.post("/api/rollout", "", pin).await, (200, r#"{"said":"gate is pinned"}"#.into()));
    assert_eq!(registry.pins().unwrap(), [StationId::new("gate").unwrap()].into());
    assert_eq!(site.post("/api/rollout", "", r#"{"order":"unpin","station":"gate"}"#).await.0, 200);
    assert!(registry.pins().unwrap().is_empty());
    assert_eq!(site.post("/api/rollout", "", pause).await.0, 409, "there is no such rollout");
    assert!(site.audit().contains("rollout pause 7"));
}
