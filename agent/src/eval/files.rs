//! Reads truth from disk, and writes what an evaluation leaves behind.
//!
//! Files are bounded before they are read, and written whole or not at all. What they mean is decided elsewhere.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use picket_shared::exit::{Exit, Failure};

use crate::pictures;

use super::truth::{Format, TRUTH_BYTES_MAX, Truth, TruthError, csv, mot, towncentre, voc};

/// How sentences call a truth.
pub const TRUTH: &str = "the truth";

/// A truth, with what its files say around it.
pub struct Loaded {
    /// The truth.
    pub truth: Truth,
    /// Its format.
    pub format: Format,
    /// Frames a second, where the format fixes it or the sequence says it.
    pub fps: Option<f64>,
}

/// Reads a truth; the format is taken from the path where it is not given.
pub fn read_truth(path: &Path, format: Option<Format>) -> Result<Loaded, Failure> {
    let format = match format {
        Some(format) => format,
        None => guess(path).map_err(|what| refuse(path, what))?,
    };
    let wrong = |path: &Path, e: TruthError| refuse(path, format!("has a fault in {e}"));
    let (truth, fps) = match format {
        Format::Mot => {
            let inner = path.join("gt/gt.txt");
            let path = if inner.is_file() { inner } else { path.to_owned() };
            let mut truth = mot::parse(&read_text(TRUTH, &path)?).map_err(|e| wrong(&path, e))?;
            let described = path.parent().and_then(Path::parent).map_or(Ok(None), pictures::describe)?;
            let info = described.unwrap_or_default();
            truth.extend_to(info.frames.unwrap_or(0));
            (truth, info.fps)
        }
        Format::Towncentre => {
            let truth = towncentre::parse(&read_text(TRUTH, path)?).map_err(|e| wrong(path, e))?;
            (truth, Some(towncentre::FPS))
        }
        Format::Csv => (csv::parse(&read_text(TRUTH, path)?).map_err(|e| wrong(path, e))?, None),
        Format::Voc => (read_voc(path)?, None),
    };
    if truth.boxes().next().is_none() {
        let others = truth.others;
        let what = match others {
            0 => "marks nobody; is it the right file?".to_owned(),
            others => format!("marks {others} things and no person among them; is it the right file?"),
        };
        return Err(refuse(path, what));
    }
    Ok(Loaded { truth, format, fps })
}

fn guess(path: &Path) -> Result<Format, String> {
    if path.is_dir() {
        return Ok(if path.join("gt/gt.txt").is_file() { Format::Mot } else { Format::Voc });
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "txt" => Ok(Format::Mot),
        "top" => Ok(Format::Towncentre),
        "csv" => Ok(Format::Csv),
        _ => Err("is of no format that its name tells; add --format mot, towncentre, voc or csv".into()),
    }
}

fn read_voc(folder: &Path) -> Result<Truth, Failure> {
    let entries = std::fs::read_dir(folder)
        .map_err(|e| refuse(folder, format!("cannot be read ({e}); give the folder of the XML files")))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|name| name == "xml")).collect();
    files.sort();
    if files.is_empty() {
        return Err(refuse(folder, "has no XML file; give the folder of Pascal VOC's annotations".into()));
    }
    let mut truth = voc::empty();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        voc::add(&mut truth, &name, &read_text(TRUTH, &file)?)
            .map_err(|e| refuse(folder, format!("has a fault in {e}")))?;
    }
    Ok(truth)
}

/// A sentence about a truth, with the exit code for damaged data.
pub fn refuse(path: &Path, what: String) -> Failure {
    Failure::new(Exit::Data, format!("{TRUTH} {} {what}", path.display()))
}

/// Reads a text of at most [`TRUTH_BYTES_MAX`].
pub fn read_text(called: &str, path: &Path) -> Result<String, Failure> {
    let failure = |what: String| Failure::new(Exit::Data, format!("{called} {} {what}", path.display()));
    let unreadable = |e: std::io::Error| failure(format!("cannot be read ({e}); check the path"));
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(failure("is not a file; name the file, or add --format".into()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(TRUTH_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > TRUTH_BYTES_MAX {
        return Err(failure(format!("has more than {TRUTH_BYTES_MAX} bytes; is it the right file?")));
    }
    String::from_utf8(bytes).map_err(|_| failure("is no text; is it the right file?".into()))
}

/// Makes a folder for results.
pub fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|e| unwritable(path, &e))
}

/// Writes a file whole, or leaves what was there.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".part{}", std::process::id()));
    let part = path.with_file_name(name);
    let written = File::create(&part).and_then(|mut file| {
        // The same rights as before: a configuration may hold a broker's password.
        if let Ok(before) = std::fs::metadata(path) {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    });
    written.map_err(|e| {
        let _ = std::fs::remove_file(&part);
        unwritable(path, &e)
    })
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    Failure::new(Exit::Disk, format!("{path} cannot be written ({error}); choose another place or free some space"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_told_by_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let sequence = dir.path().join("sequence");
        std::fs::create_dir_all(sequence.join("gt")).unwrap();
        std::fs::write(sequence.join("gt/gt.txt"), "2,1,0,0,5,5,1,-1,-1,-1\n").unwrap();
        std::fs::write(sequence.join("seqinfo.ini"), "frameRate=14\nseqLength=5\n").unwrap();
        for (path, expect) in [
            (Path::new("/a/gt.TXT"), Ok(Format::Mot)),
            (Path::new("a.top"), Ok(Format::Towncentre)),
            (Path::new("a.csv"), Ok(Format::Csv)),
            (dir.path(), Ok(Format::Voc)),
            (&sequence, Ok(Format::Mot)),
        ] {
            assert_eq!(guess(path), expect, "{}", path.display());
        }
        assert!(guess(Path::new("gt.json")).unwrap_err().contains("--format"));
        let loaded = read_truth(&sequence, None).unwrap();
        assert_eq!(
            (loaded.fps, loaded.truth.of(4, "").map(<[_]>::len), loaded.truth.of(5, "")),
            (Some(14.0), Some(0), None)
        );
    }

    #[test]
    fn what_is_no_truth_is_told_in_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let large = dir.path().join("large.csv");
        File::create(&large).unwrap().set_len(TRUTH_BYTES_MAX + 1).unwrap();
        let empty = dir.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        for (path, expect) in [
            (dir.path().join("none.csv"), "none.csv cannot be read"),
            (empty, "has no XML file"),
            (large, "large.csv has more than"),
            (file("nobody.csv", b"file,x1,y1,x2,y2,ignore\n"), "nobody.csv marks nobody"),
            (file("cars.txt", b"1,1,0,0,5,5,1,3,1\n"), "marks 1 things and no person"),
            (file("binary.txt", b"\xff\xfe\0"), "is no text"),
            (file("bad.txt", b"1,1,0,0,5,5,1,-1,-1,-1\n1,2,0,0,-5,5,1,-1,-1,-1\n"), "bad.txt has a fault in line 2:"),
        ] {
            let failure = read_truth(&path, None).err().expect("it was taken");
            assert_eq!(failure.exit, Exit::Data);
            assert!(failure.sentence.contains(expect), "{failure}");
        }
    }

    #[test]
    fn a_file_is_written_whole_or_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let failure = write(&dir.path().join("no/b.txt"), "x").unwrap_err();
        assert_eq!(failure.exit, Exit::Disk);
    }
}
