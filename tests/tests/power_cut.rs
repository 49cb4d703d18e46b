//! The power goes at any moment: what a store called durable is there afterwards, byte for byte.
//!
//! A real store writes to an ext4 filesystem in an image file. At random moments its process is stopped and the image is
//! copied as a power cut would leave the disk: with what the kernel has written to it and nothing of what is only in
//! memory. Each copy is mounted, which replays the journal, and opened by the real store. ext4 commits its journal each 5
//! seconds by itself, and a round lasts less: what survives is what was synced. The same is done to sled with `flush()`
//! alone, which must lose events, or this test could not see a loss.
//!
//! Only root may mount, and containers often have no loop devices: then the test says aloud that it was skipped.
//! `PICKET_POWER_CUTS` is how many images the agent's store faces.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fastrand::Rng;
use picket_tests::power_cut::places;
use picket_tests::{run_within, skipped, text, wait_for};
use rustix::process::{Pid, Signal, kill_process};

const WITHIN: Duration = Duration::from_secs(30);
const IMAGE_BYTES: u64 = 32 * 1024 * 1024;
/// Images of one filesystem, from its first write on. Then a new one, so that young stores are met often.
const CUTS_PER_ROUND: u64 = 10;
/// The longest wait for the next cut.
const CALM_MS_MAX: u64 = 80;

// ---- The disk -------------------------------------------------------------------------------------------------------

/// An image file that is mounted while this lives.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// Makes an empty filesystem in a new image and mounts it.
    fn make(dir: &Path) -> Result<Disk, String> {
        let image = dir.join("image");
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        // Nothing is left to be initialised in the background: what is written later is the store's.
        let lazy = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", lazy]).arg(&image))?;
        Disk::mount(image, dir.join("disk"))
    }

    fn mount(image: PathBuf, at: PathBuf) -> Result<Disk, String> {
        fs::create_dir_all(&at).unwrap();
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).args([&image, &at]))?;
        Ok(Disk { image, at })
    }

    fn store(&self) -> PathBuf {
        self.at.join("data")
    }

    /// What the disk holds at one moment. It is read until two readings agree: the kernel may be writing meanwhile, and a
    /// mixture of moments is not what a power cut leaves.
    fn cut(&self) -> Vec<u8> {
        let mut before = fs::read(&self.image).unwrap();
        wait_for("the disk to stand still", WITHIN, || {
            let now = fs::read(&self.image).unwrap();
            (now == before).then_some(()).or_else(|| {
                before = now;
                None
            })
        });
        before
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Its loop device goes with it. Whoever still holds a file there does not hold up the test.
        let unmounted = Command::new("umount").arg(&self.at).stderr(Stdio::null()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", text(&output).trim())) }
}

// ---- The writer -----------------------------------------------------------------------------------------------------

/// A process that writes, and the file outside the disk where it notes what it was told to be durable.
struct Writer {
    child: Child,
    notes: PathBuf,
}

impl Writer {
    fn start(kind: &str, disk: &Disk, notes: PathBuf, seed: u64) -> Writer {
        let mut command = program("write", kind, &disk.store(), seed);
        let child = command.stdin(Stdio::null()).stdout(File::create(&notes).unwrap()).spawn().unwrap();
        let mut writer = Writer { child, notes };
        wait_for("the first event to be durable", WITHIN, || {
            assert_eq!(writer.child.try_wait().unwrap(), None, "the {kind} writer ended");
            (!writer.noted().is_empty()).then_some(())
        });
        writer
    }

    fn noted(&self) -> Vec<(u64, u64)> {
        places(&fs::read(&self.notes).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A stopped process can be killed too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(what: &str, kind: &str, store: &Path, seed: u64) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_power-cut-writer"));
    command.args([what, kind]).arg(store).arg(seed.to_string());
    command
}

// ---- The cuts -------------------------------------------------------------------------------------------------------

/// What the cuts of one kind of store came to.
#[derive(Debug, Default)]
struct Toll {
    images: u64,
    /// Images with a loss, one that cannot be opened any more among them.
    images_with_loss: u64,
    events_acknowledged: u64,
    events_lost: u64,
    first_loss: String,
}

/// Cuts the power `cuts` times under a store of this kind; `None` where this machine cannot mount.
fn cut_power(kind: &str, cuts: u64) -> Option<Toll> {
    let mut toll = Toll::default();
    let mut seed = 0;
    while toll.images < cuts {
        let dir = tempfile::Builder::new().prefix("picket-power-cut-").tempdir().unwrap();
        let disk = match Disk::make(dir.path()) {
            Ok(disk) => disk,
            Err(why) if toll.images == 0 => {
                skipped(&format!(
                    "no power cuts under the {kind} store, because a filesystem cannot be mounted: {why}"
                ));
                return None;
            }
            Err(why) => panic!("{why}"),
        };
        let mut rng = Rng::with_seed(seed);
        let mut acknowledged = Vec::new();
        // In the middle of a round the process is killed and started again on its own files.
        for part in 0..2 {
            let writer = Writer::start(kind, &disk, dir.path().join(format!("notes-{part}")), seed);
            for _ in 0..(cuts - toll.images).min(CUTS_PER_ROUND / 2) {
                std::thread::sleep(Duration::from_millis(rng.u64(0..CALM_MS_MAX)));
                writer.signal(Signal::STOP);
                let mut told = acknowledged.clone();
                told.extend(writer.noted());
                let image = disk.cut();
                writer.signal(Signal::CONT);
                look(kind, dir.path(), image, &told, &mut toll);
            }
            acknowledged.extend(writer.noted());
        }
        seed += 1;
    }
    println!(
        "power cuts under the {kind} store: {} images, {} with a loss; {} events acknowledged, {} lost{}",
        toll.images, toll.images_with_loss, toll.events_acknowledged, toll.events_lost, toll.first_loss
    );
    Some(toll)
}

/// Opens the disk that a cut left, and counts what was acknowledged and is not there.
fn look(kind: &str, dir: &Path, image: Vec<u8>, told: &[(u64, u64)], toll: &mut Toll) {
    let path = dir.join("found");
    fs::write(&path, image).unwrap();
    let found = Disk::mount(path, dir.join("found-disk")).expect("ext4 mounts after a power cut");
    let output = run_within(&mut program("read", kind, &found.store(), 0), WITHIN);
    let there: BTreeSet<_> =
        if output.status.success() { places(&output.stdout) } else { vec![] }.into_iter().collect();
    let lost: Vec<_> = told.iter().filter(|place| !there.contains(place)).collect();
    toll.images += 1;
    toll.images_with_loss += u64::from(!lost.is_empty());
    toll.events_acknowledged += told.len() as u64;
    toll.events_lost += lost.len() as u64;
    if let (Some((boot, seq)), true) = (lost.first(), toll.first_loss.is_empty()) {
        let said = String::from_utf8_lossy(&output.stderr);
        toll.first_loss = format!("; the first: {seq} of boot {boot}, of {} then {said}", told.len());
    }
}

fn cuts() -> u64 {
    std::env::var("PICKET_POWER_CUTS").map_or(50, |cuts| cuts.parse().expect("PICKET_POWER_CUTS is a number"))
}

#[test]
fn the_agent_loses_nothing_that_its_store_called_durable() {
    let Some(toll) = cut_power("agent", cuts()) else { return };
    assert!(toll.events_acknowledged > toll.images, "{toll:?}");
    assert_eq!((toll.images_with_loss, toll.events_lost), (0, 0), "{toll:?}");
}

#[test]
fn the_archive_loses_nothing_that_it_acknowledged() {
    let Some(toll) = cut_power("archive", cuts() / 5) else { return };
    assert!(toll.events_acknowledged > toll.images, "{toll:?}");
    assert_eq!((toll.images_with_loss, toll.events_lost), (0, 0), "{toll:?}");
}

#[test]
fn sled_with_flush_alone_loses_what_it_called_durable() {
    let Some(toll) = cut_power("sled", 10) else { return };
    assert!(toll.events_lost > 0, "without a loss here the tests above prove nothing: {toll:?}");
}
