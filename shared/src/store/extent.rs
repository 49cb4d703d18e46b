//! How far each sequence of a store reached, kept outside its database: a damaged database may lose its end and say nothing.
//!
//! The file lies beside the store's directory and holds two slots of [`SLOT_BYTES`]. A slot is, numbers with the highest
//! byte first:
//!
//! | bytes | meaning |
//! |---|---|
//! | 8 | `PKTEXT1` and a zero |
//! | 4 | CRC-32 of all that follows |
//! | 4 | how many lanes |
//! | 8 | generation: the higher of two valid slots is the newer |
//! | 16 | the kernel's boot, from `/proc/sys/kernel/random/boot_id`; zeros where there is none |
//! | 8 | the highest number ever given to a lane |
//! | 24 each | lane, acknowledged up to, stored up to |
//!
//! A slot is written with one `pwrite` after each commit, and not synced: the kernel writes it back. Each
//! [`UNSYNCED_MAX`] events it is synced, and the next writes go to the other slot, so that a synced slot is never the one
//! at risk. The file may thus lag behind the store by that many events after a power cut, and by nothing otherwise:
//! [`Extent::slack`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{StoreError, beside, of_io, parent, sync_dir};

/// Events that may be noted and not yet synced.
pub const UNSYNCED_MAX: u64 = 64;
/// Lanes that one extent holds: the newest. An agent that restarts each ten minutes without a network fills this in a month.
pub const EXTENT_LANES_MAX: usize = 4096;

const MAGIC: [u8; 8] = *b"PKTEXT1\0";
const HEAD_BYTES: usize = 48;
const LANE_BYTES: usize = 24;
const SLOT_BYTES: usize = HEAD_BYTES + LANE_BYTES * EXTENT_LANES_MAX;
/// Written at once when the file is made, so that a disk that fills up later cannot refuse the usual few lanes.
const PAGE_BYTES: usize = 4096;

/// How far one lane reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Acknowledged up to here.
    pub acked: u64,
    /// Stored up to here.
    pub stored: u64,
}

/// The file, and what was in it when it was opened.
pub struct Extent {
    path: PathBuf,
    file: Option<File>,
    lanes: BTreeMap<u64, Reach>,
    highest: u64,
    slack: u64,
    problem: Option<String>,
    lost: bool,
    generation: u64,
    slot: u64,
    unsynced: u64,
}

struct Slot {
    generation: u64,
    kernel_boot: [u8; 16],
    highest: u64,
    lanes: BTreeMap<u64, Reach>,
}

impl Extent {
    /// Reads the extent of the store in `dir`. It never fails: what cannot be read is in [`Extent::problem`].
    pub fn open(dir: &Path) -> Extent {
        let path = beside(dir, "extent");
        let mut extent = Extent {
            path,
            file: None,
            lanes: BTreeMap::new(),
            highest: 0,
            slack: UNSYNCED_MAX,
            problem: None,
            lost: true,
            generation: 0,
            slot: 0,
            unsynced: 0,
        };
        let bytes = match std::fs::read(&extent.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                extent.problem = Some(format!("{} cannot be read ({error})", extent.path.display()));
                return extent;
            }
        };
        let slots = [0, 1].map(|at| Slot::decode(bytes.get(at * SLOT_BYTES..).unwrap_or_default()));
        let damaged = slots.iter().any(Option::is_none);
        let newest = slots.into_iter().enumerate().filter_map(|(at, slot)| Some((at, slot?)));
        match newest.max_by_key(|(_, slot)| slot.generation) {
            Some((at, slot)) => {
                // The other slot may have been newer, and the kernel may not have written the last ones before it went.
                let sure = !damaged && kernel_boot().is_some_and(|boot| boot == slot.kernel_boot);
                extent.slack = if sure { 0 } else { UNSYNCED_MAX };
                extent.problem = damaged.then(|| format!("{} is damaged in part", extent.path.display()));
                (extent.generation, extent.slot) = (slot.generation, 1 - at as u64);
                (extent.highest, extent.lanes) = (slot.highest, slot.lanes);
                extent.lost = false;
            }
            None => extent.problem = Some(format!("{} is damaged", extent.path.display())),
        }
        extent
    }

    /// How far each lane reached when the file was opened.
    pub fn lanes(&self) -> &BTreeMap<u64, Reach> {
        &self.lanes
    }

    /// The highest number that a lane, or whatever else the owner numbers, was ever given.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// How much further than noted a lane may have reached.
    pub fn slack(&self) -> u64 {
        self.slack
    }

    /// Why the file could not be relied on when it was opened.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether nothing of it could be read when it was opened: of what a store that is already there has lost, nobody
    /// knows how much.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Notes how far lanes reach now; `events` of them are new since the last note. Only the newest
    /// [`EXTENT_LANES_MAX`] lanes find room.
    pub fn note(
        &mut self,
        highest: u64,
        lanes: impl DoubleEndedIterator<Item = (u64, Reach)>,
        events: u64,
    ) -> Result<(), StoreError> {
        let mut kept: Vec<(u64, Reach)> = lanes.rev().take(EXTENT_LANES_MAX).collect();
        kept.reverse();
        let dir = self.path.clone();
        self.write(highest, &kept, events).map_err(|error| of_io(&dir, &error))
    }

    /// Makes the last note survive a power cut.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.sync_data().map_err(|error| of_io(&self.path, &error))?;
        self.unsynced = 0;
        self.slot = 1 - self.slot;
        Ok(())
    }

    fn write(&mut self, highest: u64, lanes: &[(u64, Reach)], events: u64) -> io::Result<()> {
        self.generation += 1;
        let mut slot = encode(self.generation, highest, lanes);
        if self.file.is_none() && self.generation > 1 {
            self.file = Some(File::options().write(true).open(&self.path)?);
        }
        if self.file.is_none() {
            slot.resize(slot.len().max(PAGE_BYTES), 0);
            let file = File::options().create(true).truncate(false).write(true).open(&self.path)?;
            // Both: from now on a slot that cannot be read is damage.
            file.write_all_at(&slot, 0)?;
            file.write_all_at(&slot, SLOT_BYTES as u64)?;
            file.sync_all()?;
            sync_dir(parent(&self.path))?;
            self.file = Some(file);
            return Ok(());
        }
        let file = self.file.as_ref().expect("it was just made");
        file.write_all_at(&slot, self.slot * SLOT_BYTES as u64)?;
        self.unsynced += events;
        if self.unsynced >= UNSYNCED_MAX {
            file.sync_data()?;
            self.unsynced = 0;
            self.slot = 1 - self.slot;
            // The two are never further apart than what may be unsynced, however large a commit was.
            file.write_all_at(&slot, self.slot * SLOT_BYTES as u64)?;
        }
        Ok(())
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        // The most that a failure costs is the slack.
        let _ = self.sync();
    }
}

fn encode(generation: u64, highest: u64, lanes: &[(u64, Reach)]) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEAD_BYTES + LANE_BYTES * lanes.len());
    body.extend((lanes.len() as u32).to_be_bytes());
    body.extend(generation.to_be_bytes());
    body.extend(kernel_boot().unwrap_or_default());
    body.extend(highest.to_be_bytes());
    for (lane, reach) in lanes {
        for number in [*lane, reach.acked, reach.stored] {
            body.extend(number.to_be_bytes());
        }
    }
    [&MAGIC[..], &crc32fast::hash(&body).to_be_bytes(), &body].concat()
}

impl Slot {
    fn decode(bytes: &[u8]) -> Option<Slot> {
        let body = bytes.get(12..)?;
        let number = |at: usize| Some(u64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let count = u32::from_be_bytes(body.get(..4)?.try_into().ok()?) as usize;
        let end = HEAD_BYTES - 12 + LANE_BYTES * count.min(EXTENT_LANES_MAX);
        let sum = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        if bytes[..8] != MAGIC || count > EXTENT_LANES_MAX || crc32fast::hash(body.get(..end)?) != sum {
            return None;
        }
        let lane = |at: usize| Some((number(at)?, Reach { acked: number(at + 8)?, stored: number(at + 16)? }));
        let lanes = (0..count).map(|index| lane(HEAD_BYTES - 12 + LANE_BYTES * index)).collect::<Option<_>>()?;
        Some(Slot { generation: number(4)?, kernel_boot: body[12..28].try_into().ok()?, highest: number(28)?, lanes })
    }
}

/// Which boot of the kernel this is.
fn kernel_boot() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}
