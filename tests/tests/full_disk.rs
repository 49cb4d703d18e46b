//! A disk that fills up or turns read-only under a running agent, and one that is so from the start. The small disk is a
//! tmpfs, the one that errs an ext4 in an image; only root may mount: without that right a test says aloud that it was
//! skipped.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use picket_agent::node::NewEvent;
use picket_agent::store::{AgentStore, Config, Found};
use picket_shared::event::Class;
use picket_shared::ids::Boot;
use picket_shared::store::StoreError;
use picket_tests::{Running, binary, run_within, sample_video, skipped, text, wait_for};

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
        skipped("a tmpfs cannot be mounted here (root may)");
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
        self.remount("remount,ro");
    }

    fn remount(&self, how: &str) {
        // A file that is being written keeps the disk busy for a moment.
        wait_for(how, WITHIN, || {
            let remounted = Command::new("mount").args(["-o", how]).arg(self.path()).output().unwrap();
            remounted.status.success().then_some(())
        });
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// An ext4 that turns read-only at the first error, as Debian mounts them, with everything on it still open.
struct ErringDisk(tempfile::TempDir);

impl ErringDisk {
    fn mount() -> Option<ErringDisk> {
        let disk = ErringDisk(tempfile::tempdir().unwrap());
        let lines = "truncate -s 64M image && mkfs.ext4 -q -F image && mkdir disk && mount -o loop,errors=remount-ro image disk";
        if disk.shell(lines) && disk.trigger().exists() {
            return Some(disk);
        }
        skipped("an ext4 image cannot be mounted here, or cannot be made to err (root may, with loop devices)");
        None
    }

    fn data_dir(&self) -> PathBuf {
        self.0.path().join("disk/data")
    }

    fn shell(&self, line: &str) -> bool {
        Command::new("sh").args(["-c", line]).current_dir(self.0.path()).status().is_ok_and(|status| status.success())
    }

    fn trigger(&self) -> PathBuf {
        let disk = Command::new("findmnt").args(["-no", "SOURCE"]).arg(self.0.path().join("disk")).output().unwrap();
        let device = String::from_utf8_lossy(&disk.stdout).trim().trim_start_matches("/dev/").to_owned();
        Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error")
    }

    /// The kernel finds an error in it.
    fn err(&self) {
        std::fs::write(self.trigger(), "1").unwrap();
    }

    /// What a person, or the next boot of the device, does about it.
    fn repair(&self) {
        wait_for("the disk to be let go", WITHIN, || self.shell("umount disk").then_some(()));
        // 1 means that it mended something.
        assert!(self.shell("e2fsck -fy image > /dev/null 2>&1; test $? -le 1"));
        assert!(self.shell("mount -o loop,errors=remount-ro image disk"));
    }
}

impl Drop for ErringDisk {
    fn drop(&mut self) {
        self.shell("umount -l disk 2> /dev/null");
    }
}

fn open(data_dir: &Path) -> Result<(AgentStore, Found), StoreError> {
    AgentStore::open(&data_dir.join("store"), &Config::default(), 1, 0)
}

fn event(boot: Boot, seq: u64) -> NewEvent {
    NewEvent { boot, seq, class: Class::Confirmed, bytes: vec![seq as u8; 400] }
}

fn agent(data_dir: &Path) -> Command {
    let mut command = Command::new(binary("picket-agent"));
    command.args(["run", "--broker", "mqtt://127.0.0.1:9", "--source"]).arg(sample_video());
    command.arg("--data-dir").arg(data_dir);
    command
}

/// Every sequence that is stored there, by boot.
fn sequences(data_dir: &Path) -> BTreeMap<Boot, Vec<u64>> {
    let store = AgentStore::look(&data_dir.join("store")).unwrap();
    let mut boots: BTreeMap<Boot, Vec<u64>> = BTreeMap::new();
    for event in store.events() {
        let event = event.unwrap();
        boots.entry(event.boot).or_default().push(event.seq);
    }
    boots
}

fn assert_gap_free(boots: &BTreeMap<Boot, Vec<u64>>) {
    for seqs in boots.values() {
        assert_eq!(*seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "nothing is missing and nothing is double");
    }
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
    let boots = sequences(&data_dir);
    assert!(boots.values().next().unwrap().len() > 5, "{log}");
    assert_gap_free(&boots);
}

#[test]
fn a_store_on_a_disk_that_turns_read_only_says_so_and_loses_nothing_that_it_had_stored() {
    let Some(disk) = ErringDisk::mount() else { return };
    let (mut memory, found) = open(&disk.data_dir()).unwrap();
    let some = |seqs: std::ops::RangeInclusive<u64>| seqs.map(|seq| event(found.boot, seq)).collect::<Vec<_>>();
    memory.append(1, &some(1..=20)).unwrap();
    disk.err();
    let refused = memory.append(1, &some(21..=21));
    assert!(matches!(refused, Err(StoreError::Denied(..))), "{refused:?}");
    let refused = memory.reopen();
    assert!(matches!(refused, Err(StoreError::Denied(..))), "{refused:?}");
    drop(memory);
    disk.repair();
    let (mut memory, again) = open(&disk.data_dir()).unwrap();
    assert!(again.problems.is_empty(), "{:?}", again.problems);
    memory.append(1, &[event(again.boot, 1)]).unwrap();
    drop(memory);
    let boots = sequences(&disk.data_dir());
    assert_eq!(boots.values().map(Vec::len).collect::<Vec<_>>(), [20, 1]);
    assert_gap_free(&boots);
}

#[test]
fn an_agent_outlives_a_disk_that_turns_read_only_and_goes_on_when_it_is_mended() {
    let Some(disk) = ErringDisk::mount() else { return };
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let said = |what: &str| std::fs::read_to_string(&log).unwrap().contains(what).then_some(());
    let mut running = Running::start(agent(&disk.data_dir()).stderr(std::fs::File::create(&log).unwrap()));
    wait_for("the agent to watch", WITHIN, || said("watching"));
    std::thread::sleep(Duration::from_secs(3));
    disk.err();
    wait_for("the disk to be found read-only", WITHIN, || said("not mounted read-only"));
    std::thread::sleep(Duration::from_secs(2));
    assert!(running.0.try_wait().unwrap().is_none(), "it goes on watching: {}", std::fs::read_to_string(&log).unwrap());
    drop(running);
    let before = std::fs::read_to_string(&log).unwrap();
    assert!(before.contains("events wait to be stored") && !before.contains("panicked"), "{before}");

    disk.repair();
    let stored = sequences(&disk.data_dir());
    assert!(!stored.is_empty(), "nothing was stored before the error: {before}");
    assert_gap_free(&stored);
    let running = Running::start(agent(&disk.data_dir()).stderr(std::fs::File::create(&log).unwrap()));
    wait_for("the agent to watch again", WITHIN, || said("watching"));
    std::thread::sleep(Duration::from_secs(2));
    drop(running);
    let after = std::fs::read_to_string(&log).unwrap();
    assert!(!after.contains("damaged") && !after.contains("panicked"), "{after}");
    let boots = sequences(&disk.data_dir());
    assert!(boots.len() == 2 && boots.first_key_value() == stored.first_key_value(), "{after}");
    assert_gap_free(&boots);
}

#[test]
fn a_store_that_is_there_opens_on_a_full_disk_again_and_again_and_stores_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let data_dir = disk.path().join("data");
    let owed = {
        let (mut memory, found) = open(&data_dir).unwrap();
        for first in (1..=1000).step_by(10) {
            let some: Vec<NewEvent> = (first..first + 10).map(|seq| event(found.boot, seq)).collect();
            memory.append(1, &some).unwrap();
        }
        found.boot
    };
    disk.fill();
    for round in 1..=5 {
        let (mut memory, found) = open(&data_dir).unwrap();
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        assert_eq!(found.lanes[0].1.acked, (round - 1) * 10);
        assert_eq!(memory.read(owed, round * 10, 10).unwrap().len(), 10);
        memory.acked(owed, round * 10).unwrap();
        let refused = memory.append(1, &[event(found.boot, 1)]);
        assert!(matches!(refused, Err(StoreError::Full(_))), "round {round}: {refused:?}");
        memory.reopen().unwrap();
        if round == 5 {
            disk.make_room();
            memory.append(1, &[event(found.boot, 1)]).unwrap();
            assert!(data_dir.join("store.ballast").exists(), "there is a ballast for the next time");
        }
    }
    let (_, found) = open(&data_dir).unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    assert_gap_free(&sequences(&data_dir));
}

#[test]
fn an_agent_with_a_store_starts_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let data_dir = disk.path().join("data");
    drop(open(&data_dir).unwrap());
    disk.fill();
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let said = |what: &str| std::fs::read_to_string(&log).unwrap().contains(what).then_some(());
    let running = Running::start(agent(&data_dir).stderr(std::fs::File::create(&log).unwrap()));
    wait_for("the disk to be found full", WITHIN, || said("events wait to be stored"));
    disk.make_room();
    wait_for("the disk to take events again", WITHIN, || said("the disk takes events again"));
    drop(running);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert_gap_free(&sequences(&data_dir));
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
