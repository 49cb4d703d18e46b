//! What this process made the disk take, and what lies there.

use std::path::Path;

use anyhow::Context;

/// Bytes written by this process so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// That the filesystem sends to a disk; always 0 where there is none behind it.
    disk: u64,
    /// That were given to `write` and its kin, by whatever name.
    calls: u64,
}

impl Written {
    /// As the kernel counts now.
    pub(super) fn now() -> anyhow::Result<Written> {
        let text = std::fs::read_to_string("/proc/self/io").context("the kernel's account of this process")?;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            line.trim().parse().unwrap_or(0)
        };
        Ok(Written { disk: figure("write_bytes:"), calls: figure("wchar:") })
    }

    /// Bytes since then, and whether a disk took them: without one the calls are counted.
    pub(super) fn since(self, earlier: Written) -> (u64, bool) {
        match self.disk - earlier.disk {
            0 => (self.calls - earlier.calls, false),
            bytes => (bytes, true),
        }
    }
}

/// Bytes that the files of a folder take on the disk, holes not counted.
pub(super) fn disk_bytes(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let found = entry.metadata()?;
        bytes += if found.is_dir() { disk_bytes(&entry.path())? } else { found.blocks() * 512 };
    }
    Ok(bytes)
}
