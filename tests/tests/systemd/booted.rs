//! The packages in a Debian whose systemd runs: the units start in their sandbox, the runtime works there, systemd kills and
//! starts again what stands still, an upgrade starts again what ran, and a purge leaves nothing that runs.
//!
//! Needs root, systemd-nspawn, and in `PICKET_DEBIAN_ROOT` a Debian with systemd and procps, such as
//! `debootstrap --include=systemd,procps bookworm DIR` makes. It is booted under a layer that is thrown away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use picket_tests::{run_within, skipped, text};
use tempfile::TempDir;

use crate::package::{missing, packages};

/// A boot, and the watchdog's half minute.
const PATIENCE: Duration = Duration::from_secs(240);

/// What the machine does once it is up: one line `key=value` for each thing that is to be known.
const ACTS: &str = r#"
exec >/mnt/log 2>&1
say() { echo "$1=$(echo $2)" >>/mnt/said; }
state() { systemctl is-active picket-agent picket-coordinator picket-agent-renew.timer; }
until_ready() { for _ in $(seq 60); do systemctl -q is-active picket-agent && break; sleep 1; done; }
# This Debian may have been made where nothing was to start.
rm -f /usr/sbin/policy-rc.d
mkdir -p /usr/lib/picket && cp /mnt/libonnxruntime.so.* /usr/lib/picket/
dpkg -i /mnt/*_0.9.0_*.deb
say installed "$(state)"
printf 'data_dir = "/var/lib/picket-agent"\n[[camera]]\nname = "drawn"\nsource = "synthetic:?people=0"\n' >/etc/picket/agent.toml
printf 'data_dir = "/var/lib/picket-coordinator"\n[mqtt]\nembedded = true\n' >/etc/picket/coordinator.toml
systemctl enable --now picket-coordinator picket-agent
say started "$(state)"
pid=$(systemctl show -P MainPID picket-agent)
say cwd "$(readlink /proc/$pid/cwd) $(ls -A /run/picket-agent)"
kill -STOP $pid
for _ in $(seq 60); do [ "$(systemctl show -P NRestarts picket-agent)" = 0 ] || break; sleep 1; done
until_ready
say watchdog "$(journalctl -u picket-agent | grep -c 'Watchdog timeout') $(state) $(systemctl show -P NRestarts picket-coordinator)"
before=$(systemctl show -P MainPID picket-agent)
dpkg -i /mnt/*_0.9.1_*.deb
until_ready
say upgraded "$(state) $([ "$before" = "$(systemctl show -P MainPID picket-agent)" ] && echo same || echo new)"
dpkg -P picket-agent picket-coordinator
say purged "$(state) $(ls /etc/systemd/system/multi-user.target.wants | grep -c picket) $(systemctl --failed --no-legend)"
kill -s RTMIN+4 1
"#;

const UNIT: &str = "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sh /mnt/acts\n";

/// The runtime that `make test` prepares.
fn runtime() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?;
    let files = fs::read_dir(cache.join("picket/onnxruntime")).ok()?;
    let is_library =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnx"));
    files.flatten().map(|file| file.path()).find(is_library)
}

#[test]
fn a_booted_debian_runs_the_units_and_starts_them_again() {
    let Some(root) = std::env::var_os("PICKET_DEBIAN_ROOT") else {
        return skipped("no unit is started: PICKET_DEBIAN_ROOT names no Debian to boot");
    };
    if !rustix::process::geteuid().is_root() {
        return skipped("no unit is started: only root may boot a container");
    }
    if let Some(missing) = missing(&["systemd-nspawn", "dpkg-deb", "readelf", "strip"]) {
        return skipped(&format!("no unit is started: this machine lacks {missing}"));
    }
    let (dir, runtime) = (TempDir::new().unwrap(), runtime().expect("make test prepares the runtime"));
    packages(dir.path(), "0.9.0");
    packages(dir.path(), "0.9.1");
    fs::copy(&runtime, dir.path().join(runtime.file_name().unwrap())).unwrap();
    fs::write(dir.path().join("acts"), ACTS).unwrap();
    fs::write(dir.path().join("acts.service"), UNIT).unwrap();

    let mut boot = Command::new("systemd-nspawn");
    boot.args(["--register=no", "--keep-unit", "--quiet", "--volatile=overlay", "--private-network"])
        .arg("--directory");
    boot.arg(root).arg(format!("--bind={}:/mnt", dir.path().display()));
    boot.arg(format!("--bind-ro={}/acts.service:/run/systemd/system/acts.service", dir.path().display()));
    boot.args(["--boot", "systemd.wants=acts.service"]);
    let output = run_within(&mut boot, PATIENCE);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let (said, log) = (read("said"), read("log"));
    for expect in [
        "installed=inactive inactive inactive",
        "started=active active active",
        "cwd=/run/picket-agent",
        "watchdog=1 active active active 0",
        "upgraded=active active active new",
        "purged=inactive inactive inactive 0",
    ] {
        assert!(said.lines().any(|line| line == expect), "{expect}\n{said}\n{log}\n{}", text(&output));
    }
}
