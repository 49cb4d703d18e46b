//! A cable that is cut, with real processes: each lives in a network of its own, behind a cable to one switch, and is unplugged
//! there. Packets then vanish both ways and nobody is told. The first to lose its cable is a node; the second is the leading
//! coordinator, which still sees the file that says that it leads.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use picket_shared::view::{ChangeKind, Guard};

use super::rig::{Rig, Wires, station};
use super::took;

/// Where everybody reaches the broker.
pub const HOST: &str = "10.77.0.1";
/// Each who has a cable.
const ENDS: [&str; 5] = ["a", "b", "c", "coordinator-0", "coordinator-1"];
const INSIDE: &str = "PICKET_CABLES";

/// The words before a command that runs it behind this cable.
pub fn behind(end: &str) -> [&str; 4] {
    ["ip", "netns", "exec", end]
}

#[test]
fn who_loses_its_cable_is_covered_or_succeeded_and_does_no_harm_when_it_has_it_back() {
    let lay = |(number, end): (usize, &&str)| {
        format!(
            "ip netns add {end} && ip link add cable-{number} type veth peer name eth0 netns {end} && ip link set \
             cable-{number} master switch up && ip -n {end} link set lo up && ip -n {end} addr add 10.77.0.{}/24 dev eth0 \
             && ip -n {end} link set eth0 up && ",
            number + 2
        )
    };
    // The names of networks are files: here they are nobody else's.
    let lay_all: String = ENDS.iter().enumerate().map(lay).collect();
    let script = format!(
        "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && ip link add switch type bridge && \
         ip addr add {HOST}/24 dev switch && ip link set switch up && {lay_all}true"
    );
    let elsewhere = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", &format!("{script} {then}")]).env(INSIDE, "1").status()
    };
    if !elsewhere("2>/dev/null").is_ok_and(|status| status.success()) {
        println!("SKIPPED: cut cables need root, iproute2 and a kernel with bridges and network namespaces");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let test = format!("&& exec {} --ignored --exact cable::inside --nocapture", program.display());
    assert!(elsewhere(&test).unwrap().success());
}

/// Takes a cable out of the switch, or puts it in.
fn plug(end: &str, plugged: bool) -> Instant {
    let number = ENDS.iter().position(|name| *name == end).unwrap();
    let to: &[&str] = if plugged { &["master", "switch"] } else { &["nomaster"] };
    let status = Command::new("ip").args(["link", "set", &format!("cable-{number}")]).args(to).status().unwrap();
    assert!(status.success());
    Instant::now()
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
#[ignore = "the other test runs it in a network of its own"]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let rig = Rig::wired(2, Wires::Cables);
    let (cut, cut_ms) = (plug("a", false), unix_ms());
    let (by, watched) = rig.until_covered("gate", "a", cut);
    took("a node's cable is cut, until the neighbour's first pictures", cut, watched);
    let covered = rig.until_seen("gate", Guard::Covered, Some(&by));
    assert!(covered.why.contains("no heartbeat"), "nobody else knows of a cable: {}", covered.why);

    // It keeps the row that says that it leads, hears nobody, and gives it back.
    let leader = |rig: &Rig| rig.heard().site.as_ref().unwrap().leader;
    let (first, leading) = (leader(&rig), rig.leading());
    let alone = plug(&format!("coordinator-{leading}"), false);
    rig.until("the standby to lead", |heard| (heard.site.as_ref()?.leader > first).then_some(()));
    took("the leader's cable is cut and it still sees its row, until the standby leads", alone, Instant::now());
    assert_ne!(rig.leading(), leading);
    let confirmed = rig.until("the cover to be confirmed", |heard| {
        let (_, beat) = heard.beats.get(&by)?;
        let gate = beat.holdings.iter().find(|held| held.station == station("gate"))?;
        (!gate.provisional && gate.epoch.leader() > first).then_some(gate.epoch)
    });

    let (plugged, plugged_ms) = (plug("a", true), unix_ms());
    let second = leader(&rig);
    plug(&format!("coordinator-{leading}"), true);
    let home = rig.until_seen("gate", Guard::Home, Some("a"));
    assert!(home.epoch > confirmed.0);
    rig.until_home(&by, plugged);
    took("cables back, until all is at home", plugged, Instant::now());
    let meanwhile = cut_ms + 1_000..plugged_ms;
    rig.until("what a saw while it had no cable", |heard| {
        heard.own_ms.get("a")?.iter().any(|frame_ms| meanwhile.contains(frame_ms)).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(leader(&rig), second, "who has the lead keeps it");
    for kind in [ChangeKind::Uncovered, ChangeKind::Takeover] {
        let changes = rig.changes(kind, alone);
        assert!(changes.iter().all(|change| change.station == Some(station("gate"))), "{changes:?}");
    }
}
