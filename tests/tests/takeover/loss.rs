//! What a network that loses packets does to who watches what: false takeovers, and a real one. A measurement, minutes long:
//!
//!     cargo test --release -p picket-tests --test takeover -- --ignored --exact loss::what_loss_does --nocapture
//!
//! It runs the whole site in a network of its own, whose loopback drops packets (`unshare`, `ip`, `nft`, as root).
//! PICKET_LOSS_MINUTES says how long each part is (3).

use std::process::Command;
use std::time::{Duration, Instant};

use picket_shared::view::ChangeKind;

use super::rig::Rig;
use super::took;

const PERCENT: &str = "PICKET_LOSS_PERCENT";
const MINUTES: &str = "PICKET_LOSS_MINUTES";

#[test]
#[ignore = "a measurement of minutes, as root"]
fn what_loss_does() {
    let program = std::env::current_exe().unwrap();
    for percent in [0, 5, 20] {
        let script = format!(
            "ip link set lo up && nft add table inet loss && nft add chain inet loss in '{{ type filter hook input \
             priority 0; }}' && nft add rule inet loss in meta l4proto tcp numgen random mod 100 '<' {percent} drop && \
             exec {} --ignored --exact loss::inside --nocapture",
            program.display()
        );
        let mut command = Command::new("unshare");
        let status = command.args(["--net", "sh", "-c", &script]).env(PERCENT, percent.to_string()).status().unwrap();
        assert!(status.success(), "as root, with iproute2 and nftables installed: {script}");
    }
}

#[test]
#[ignore = "the other test runs it in a network of its own"]
fn inside() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (Some(percent), minutes) = (number(PERCENT), number(MINUTES).unwrap_or(3)) else { return };
    let mut rig = Rig::start(1);
    let calm = Instant::now();
    std::thread::sleep(Duration::from_secs(60 * minutes));
    let count = |kind| rig.changes(kind, calm).len();
    println!(
        "{percent} % loss, {minutes} min, 3 nodes: suspect {}, down {}, takeovers of nodes that live {}, uncovered {}",
        count(ChangeKind::Suspect),
        count(ChangeKind::Down),
        count(ChangeKind::Takeover),
        count(ChangeKind::Uncovered)
    );
    let killed = rig.kill("a");
    let (_, watched) = rig.until_covered("gate", "a", killed);
    took(&format!("{percent} % loss: crash, until the neighbour's first pictures"), killed, watched);
    rig.revive("a");
    rig.until_seen("gate", picket_shared::view::Guard::Home, Some("a"));
    let frozen = rig.freeze("a");
    let (_, watched) = rig.until_covered("gate", "a", frozen);
    took(&format!("{percent} % loss: silence, until the neighbour's first pictures"), frozen, watched);
}
