//! Files that must be whole or not there, and those that only their owner may read. What is in them is never told to anybody
//! here: errors name the file and no more.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest file that is read here: a chain of certificates, a list of keys.
pub const KEYFILE_BYTES_MAX: u64 = 256 * 1024;
const SECRET: u32 = 0o600;
const OPEN: u32 = 0o644;
const FOLDER: u32 = 0o700;

/// Why a file was not read or written, in a sentence with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyfileError {
    /// It is not there.
    #[error("{0} is not there")]
    Missing(PathBuf),
    /// Others than its owner could have read it, so it may be known.
    #[error(
        "{0} can be read or changed by others than its owner (mode {1:o}); if that may have happened, make a new one, \
         else give it mode 600"
    )]
    Open(PathBuf, u32),
    /// It is not what it should be.
    #[error("{0} {1}")]
    Content(PathBuf, String),
    /// The disk refuses.
    #[error(
        "{0} cannot be read or written ({1}); check its owner, and that the disk is neither full nor broken and not mounted read-only"
    )]
    Disk(PathBuf, String),
}

fn disk(path: &Path) -> impl Fn(io::Error) -> KeyfileError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::NotFound => KeyfileError::Missing(path.clone()),
        _ => KeyfileError::Disk(path.clone(), error.to_string()),
    }
}

/// From here on what this process and its children write is for their user alone, unless a file is written for everybody in so
/// many words: events say who was where, and pictures show it.
pub fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Makes a folder that only its owner may look into, with those above it; one that is there stays as it is.
pub fn make_dir(dir: &Path) -> Result<(), KeyfileError> {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above).map_err(disk(above))?;
    }
    match fs::DirBuilder::new().mode(FOLDER).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made.map_err(disk(dir)),
    }
}

/// Writes a file that only its owner may read: whole and durable, or not at all.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), KeyfileError> {
    replace(path, bytes, SECRET).map_err(disk(path))
}

/// Writes a file that everybody may read: whole and durable, or not at all.
pub fn write_open(path: &Path, bytes: &[u8]) -> Result<(), KeyfileError> {
    replace(path, bytes, OPEN).map_err(disk(path))
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A name of its own, so that two who write at once do not write into each other's.
    let part = path.with_added_extension(format!("{}.part", std::process::id()));
    let _ = fs::remove_file(&part);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
    // Whatever the umask says.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync_parent(path)
}

/// Removes a file durably; one that is not there is fine.
pub fn remove(path: &Path) -> Result<(), KeyfileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(path)(error)),
        _ => sync_parent(path).map_err(disk(path)),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a secret, and refuses it where others could have read it too.
pub fn read_secret(path: &Path) -> Result<String, KeyfileError> {
    let file = File::open(path).map_err(disk(path))?;
    let mode = file.metadata().map_err(disk(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyfileError::Open(path.to_owned(), mode));
    }
    read(file, path)
}

/// Reads a file that everybody may read.
pub fn read_open(path: &Path) -> Result<String, KeyfileError> {
    read(File::open(path).map_err(disk(path))?, path)
}

fn read(file: File, path: &Path) -> Result<String, KeyfileError> {
    let content = |what: String| KeyfileError::Content(path.to_owned(), what);
    let mut text = String::new();
    let read = file.take(KEYFILE_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => content("is not a text; is it the right file?".into()),
        _ => disk(path)(error),
    })?;
    if bytes as u64 > KEYFILE_BYTES_MAX {
        return Err(content(format!("is larger than {KEYFILE_BYTES_MAX} bytes; is it the right file?")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_for_its_owner_and_refused_where_others_could_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        make_dir(&folder).unwrap();
        make_dir(&folder).unwrap();
        let path = folder.join("key");
        write_secret(&path, b"first").unwrap();
        write_secret(&path, b"second").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        assert_eq!(read_secret(&path).unwrap(), "second");
        for open in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            let refused = read_secret(&path).unwrap_err();
            assert_eq!(refused, KeyfileError::Open(path.clone(), open));
            assert!(!refused.to_string().contains("second"), "{refused}");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing half-written is left");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read_secret(&path), Err(KeyfileError::Missing(path)));
    }

    #[test]
    fn what_is_no_text_or_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca");
        write_open(&path, &[255]).unwrap();
        assert!(read_open(&path).unwrap_err().to_string().contains("is not a text"));
        write_open(&path, &vec![b'a'; KEYFILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read_open(&path).unwrap_err().to_string().contains("is larger than"));
    }
}
