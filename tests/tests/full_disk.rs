//! A disk that fills up under a running agent, and one that is full or read-only from the start. The small disk is a tmpfs,
//! which only root may mount: without that right the test says aloud that it was skipped.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use picket_agent::store::AgentStore;
use picket_tests::{Running, binary, run_within, sample_video, text, wait_for};

const WITHIN: Duration = Duration::from_secs(60);

/// A tmpfs that goes when the test ends.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(dir.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(dir));
        }
        println!("SKIPPED: a tmpfs cannot be mounted here (root may)");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        // Writing fails when nothing is left; that is the point.
        let fill = format!("cat /dev/zero > {}/filler", self.path().display());
        let _ = Command::new("sh").args(["-c", &fill]).stderr(std::process::Stdio::null()).status();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }

    fn remount_read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn agent(data_dir: &Path) -> Command {
    let mut command = Command::new(binary("picket-agent"));
    command.args(["run", "--broker", "mqtt://127.0.0.1:9", "--source"]).arg(sample_video());
    command.arg("--data-dir").arg(data_dir);
    command
}

#[test]
fn events_wait_for_a_full_disk_and_none_is_lost() {
    let Some(disk) = SmallDisk::mount() else { return };
    let data_dir = disk.path().join("data");
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let said = |what: &str| std::fs::read_to_string(&log).unwrap().contains(what).then_some(());
    let running = Running::start(agent(&data_dir).stderr(std::fs::File::create(&log).unwrap()));
    wait_for("the agent to watch", WITHIN, || said("watching"));
    std::thread::sleep(Duration::from_secs(2));
    disk.fill();
    wait_for("the disk to be found full", WITHIN, || said("events wait to be stored"));
    std::thread::sleep(Duration::from_secs(2));
    disk.make_room();
    wait_for("the disk to take events again", WITHIN, || said("the disk takes events again"));
    drop(running);

    let log = std::fs::read_to_string(&log).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let store = AgentStore::look(&data_dir.join("store")).unwrap();
    let sequences: Vec<u64> = store.events().map(|event| event.unwrap().seq).collect();
    assert!(sequences.len() > 5, "{log}");
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "nothing is missing and nothing is double");
}

#[test]
fn a_disk_that_is_read_only_from_the_start_is_named_with_its_remedy() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.remount_read_only();
    let output = run_within(&mut agent(&disk.path().join("data")), WITHIN);
    assert_eq!(output.status.code(), Some(74), "{}", text(&output));
    assert!(text(&output).contains("not mounted read-only"), "{}", text(&output));
}

#[test]
fn a_disk_that_is_full_from_the_start_is_named_with_its_remedy() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.fill();
    let output = run_within(&mut agent(&disk.path().join("data")), WITHIN);
    assert_eq!(output.status.code(), Some(74), "{}", text(&output));
    assert!(text(&output).contains("is full; free some space"), "{}", text(&output));
}
