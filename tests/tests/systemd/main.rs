//! The units are read by systemd's own tools: they are understood whole, they stay hardened, and their users exist. Then, in
//! the files beside this one: what the agent says to the watchdog, and what the packages leave behind.
//!
//! Units are started only where there is a Debian to boot (`booted`). That the sandbox holds a camera and a GPU can only be seen
//! on a machine that has them.

#![allow(clippy::unwrap_used, reason = "a test's helpers are the test")]

mod booted;
mod package;
mod watchdog;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use picket_shared::exit::Exit;
use tempfile::TempDir;

const UNITS: [&str; 2] = ["picket-agent", "picket-coordinator"];
/// Keys that an older systemd passes over with a line in its log: the wait between two starts is then the first one for ever.
const NEWER_KEYS: [&str; 2] = ["RestartSteps", "RestartMaxDelaySec"];
/// Most that `systemd-analyze security` may find, times ten: 1.5, where plain units of the field are at 9.
const EXPOSURE_MAX: u32 = 15;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

fn unit(name: &str) -> String {
    fs::read_to_string(folder().join(format!("{name}.service"))).unwrap()
}

/// A unit in a directory of its own, whose programs exist.
struct Installed {
    _folder: TempDir,
    path: PathBuf,
}

fn install(name: &str, text: &str) -> Installed {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join(name);
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join(format!("{name}.service"));
    assert!(text.contains("ExecStart=/usr/bin/"));
    fs::write(&path, text.replace("/usr/bin/", &format!("{}/", folder.path().display()))).unwrap();
    Installed { _folder: folder, path }
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze")
        .args(["--no-pager", "--man=no"])
        .args(arguments)
        .arg(unit)
        .output()
        .expect("systemd-analyze runs; simulation/prepare/prepare.sh test installs it")
}

/// What `systemd-analyze verify` says: nothing at all of a unit that it understands whole, but for [`NEWER_KEYS`]. Its exit code
/// alone is not enough, since a misspelt key is a warning.
fn verify(unit: &Installed) -> String {
    let output = analyze(&["verify"], &unit.path);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let is_newer =
        |line: &str| line.contains("Unknown key") && NEWER_KEYS.iter().any(|key| line.contains(&format!("'{key}'")));
    let said: String = said.lines().filter(|line| !is_newer(line)).map(|line| format!("{line}\n")).collect();
    if said.is_empty() && !output.status.success() { output.status.to_string() } else { said }
}

/// Whether the unit stays within the exposure, and the tool's words.
fn hardened(unit: &Installed) -> (bool, String) {
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let output = analyze(&["security", "--offline=true", &threshold], &unit.path);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("Overall exposure level"), "{said}");
    (output.status.success(), said)
}

#[test]
fn systemd_understands_the_units_and_finds_them_hardened() {
    for name in UNITS {
        let unit = install(name, &unit(name));
        assert_eq!(verify(&unit), "", "{name}");
        let (within, said) = hardened(&unit);
        assert!(within, "{name}\n{said}");
    }
}

#[test]
fn the_agent_stays_hardened_on_the_boards() {
    for (board, device) in [("jetson.conf", "nvmap"), ("raspberry-pi.conf", "dma_heap")] {
        let unit = install("picket-agent", &unit("picket-agent"));
        let drop_ins = unit.path.with_extension("service.d");
        fs::create_dir(&drop_ins).unwrap();
        fs::copy(folder().join(board), drop_ins.join(board)).unwrap();
        assert_eq!(verify(&unit), "");
        let (within, said) = hardened(&unit);
        assert!(within && said.contains(device), "{said}");
    }
}

#[test]
fn systemd_understands_the_power_modes() {
    let kinds = fs::read_dir(folder().join("../firmware-configs")).unwrap();
    let units = kinds.map(|kind| kind.unwrap().path().join("power.service")).filter(|path| path.is_file());
    let texts: Vec<String> = units.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(texts.len() >= 3, "{texts:?}");
    for text in texts {
        assert!(text.contains("Before=picket-agent.service\n"), "{text}");
        let text =
            text.replace("/usr/sbin/nvpmodel", "/usr/bin/true").replace("/usr/bin/jetson_clocks", "/usr/bin/true");
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("picket-power.service");
        fs::write(&path, text).unwrap();
        assert_eq!(verify(&Installed { _folder: folder, path }), "");
    }
}

#[test]
fn the_renewal_is_called_once_a_day_and_is_hardened() {
    let name = "picket-agent-renew";
    let text = unit(name);
    let unit = install("picket-agent", &text);
    let (own, timer) = (unit.path.with_file_name(format!("{name}.service")), format!("{name}.timer"));
    fs::rename(&unit.path, &own).unwrap();
    fs::copy(folder().join(&timer), own.with_file_name(&timer)).unwrap();
    let unit = Installed { path: own, ..unit };
    assert_eq!(verify(&unit), "");
    assert_eq!(verify(&Installed { path: unit.path.with_extension("timer"), ..unit }), "");
    assert!(text.contains("User=picket-agent\n") && text.contains("/usr/bin/picket-agent renew "));
    let unit = install("picket-agent", &text);
    let (within, said) = hardened(&unit);
    assert!(within, "{said}");
}

#[test]
fn a_damaged_unit_is_noticed() {
    let good = unit("picket-agent");
    for (line, instead) in [("ProtectHome=yes", "ProtectHomes=yes"), ("Type=notify", "Type=notice")] {
        assert!(good.contains(line));
        let said = verify(&install("picket-agent", &good.replace(line, instead)));
        assert!(!said.is_empty(), "{instead} went unnoticed");
    }
    let soft: String =
        good.lines().filter(|line| !line.contains("SystemCallFilter")).map(|l| format!("{l}\n")).collect();
    assert!(!hardened(&install("picket-agent", &soft)).0);
}

#[test]
fn only_what_starting_again_cannot_heal_keeps_a_unit_down() {
    for name in UNITS {
        let unit = unit(name);
        let has = |line: &str| assert!(unit.lines().any(|l| l == line), "{name} lacks {line}");
        // 2 is clap's, for a wrong command line.
        has(&format!("RestartPreventExitStatus=2 {}", Exit::Config as u8));
        has("Restart=always");
        has("StartLimitIntervalSec=0");
        // And what starts again and again for nothing does so once a minute, where systemd knows how.
        has("RestartSteps=5");
        has("RestartMaxDelaySec=60");
        // The runtime reads files that a model names against the working directory.
        has(&format!("WorkingDirectory=%t/{name}"));
        has(&format!("RuntimeDirectory={name}"));
        has("Type=notify");
        has("WatchdogSec=30");
    }
}

#[test]
fn the_users_of_the_units_are_made() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    // Both on one machine, as they may be.
    let output = Command::new("systemd-sysusers")
        .arg(format!("--root={}", root.path().display()))
        .args(UNITS.map(|name| folder().join(format!("sysusers.d/{name}.conf"))))
        .output()
        .expect("systemd-sysusers runs; simulation/prepare/prepare.sh test installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let groups = fs::read_to_string(root.path().join("etc/group")).unwrap();
    for name in UNITS {
        let unit = unit(name);
        let user = unit.lines().find_map(|line| line.strip_prefix("User=")).unwrap();
        assert!(users.lines().any(|line| line.starts_with(&format!("{user}:"))), "{users}");
        assert!(groups.lines().any(|line| line.starts_with("picket:") && line.contains(user)), "{groups}");
    }
}
