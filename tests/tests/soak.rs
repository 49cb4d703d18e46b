//! Twenty agents, the coordinator and mosquitto, killed and frozen every few seconds for a minute: the sums balance exactly,
//! and a naive publisher in the same trouble loses events. `make soak` is the long form.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use picket_tests::{binary, run_within, text};

#[test]
fn nothing_is_lost_or_doubled_where_a_naive_publisher_loses() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let mut soak = Command::new(binary("picket-simulation"));
    soak.args(["soak", "--agents", "20", "--minutes", "1", "--seed", "1", "--dir"]).arg(dir.path());
    let output = run_within(soak.arg("--report").arg(&report), Duration::from_secs(480));
    let said = text(&output);
    println!("{said}");
    assert!(output.status.success(), "{said}");

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let (picket, naive) = (&report["picket"], &report["naive"]);
    let of = |part: &serde_json::Value, what: &str| part[what].as_u64().unwrap();
    // Twenty events a second of twenty agents for a minute, less what killed and frozen ones did not see.
    assert!(of(picket, "stored") > 5_000, "{said}");
    assert_eq!(of(picket, "archived"), of(picket, "stored"), "{said}");
    for wrong in ["doubles", "lost", "changed", "foreign", "gaps", "witnessed_lost"] {
        assert_eq!(of(picket, wrong), 0, "{wrong}: {said}");
    }
    assert!(of(picket, "duplicates_refused") > 0, "the intake had nothing to refuse: {said}");
    let blows = |who: &str| report["blows"][who].as_u64().unwrap_or(0);
    for who in ["agent killed", "broker killed", "coordinator killed", "agent frozen"] {
        assert!(blows(who) > 0, "{who} never: {said}");
    }
    for (kind, sums) in naive.as_object().unwrap() {
        assert!(of(sums, "lost") > 0, "{kind} lost nothing: {said}");
    }
}
