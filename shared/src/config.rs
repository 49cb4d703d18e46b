//! Reads a TOML configuration file into a type, and says plainly what is wrong with it.
//!
//! An unknown key is refused with the nearest known one. What a value means is checked by the type's owner.

use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{Exit, Failure};
use crate::limits::CONFIG_BYTES_MAX;
use crate::redact;

/// Reads and parses a file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let failure = |what: String| Failure::new(Exit::Config, format!("configuration {}: {what}", path.display()));
    let file = File::open(path).map_err(|e| failure(format!("cannot be opened ({e}); check the path")))?;
    let mut text = String::new();
    let read = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.map_err(|e| failure(format!("cannot be read ({e}); it must be a TOML text")))?;
    if bytes as u64 > CONFIG_BYTES_MAX {
        return Err(failure(format!("is larger than {CONFIG_BYTES_MAX} bytes; is it the right file?")));
    }
    parse(&text).map_err(failure)
}

/// Parses a text; the error is a sentence without the file's name.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("line {line}: {}", plainly(error.message()))
    })
}

/// The text that [`parse`] reads.
pub fn text(of: &impl Serialize) -> Result<String, String> {
    toml::to_string(of).map_err(|error| error.to_string())
}

/// Refuses a value outside its range, naming the key and the range; not-a-number is outside every range.
pub fn within<T: PartialOrd + std::fmt::Display>(key: &str, value: T, range: RangeInclusive<T>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{key} is {value}; give it {} to {}", range.start(), range.end()))
}

/// Serde lists every known key when one is unknown; a person wants the nearest.
fn plainly(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next().filter(|_| message.starts_with("unknown field")) else {
        return redact::text(&without_strings(message).replace('\n', " "));
    };
    let nearest = quoted.max_by(|a, b| {
        let similar = |known: &str| strsim::jaro_winkler(unknown, known);
        similar(a).total_cmp(&similar(b))
    });
    match nearest {
        Some(known) => format!("unknown key \"{unknown}\"; did you mean \"{known}\"?"),
        None => format!("unknown key \"{unknown}\"; this table has no keys"),
    }
}

/// The same without the texts that serde repeats where another type belongs (`string "…"`): a password may be among them, and
/// what the line says stands in the file.
fn without_strings(message: &str) -> String {
    const BEGINS: &str = "string \"";
    let mut parts = message.split(BEGINS);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // The text is quoted as Rust does: a quotation mark in it has a backslash before it.
        let mut escaped = false;
        let ends = part.find(|c: char| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        without += "a string";
        without += ends.map_or("", |at| &part[at + 1..]);
    }
    without
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        broker: String,
        frames_max: Option<u32>,
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_remedy() {
        for (text, expect) in [
            ("broker = \"a\"\nframe_max = 3", "line 2: unknown key \"frame_max\"; did you mean \"frames_max\"?"),
            ("broker = \"a\"\nframes_max = -1", "line 2: invalid value: integer `-1`, expected u32"),
            ("broker = 3", "line 1: invalid type: integer `3`, expected a string"),
            ("frames_max = 3", "line 1: missing field `broker`"),
            ("broker = \"a\"\nframes_max = \"say \\\"hush\\\" to it\"", "line 2: invalid type: a string, expected u32"),
        ] {
            assert_eq!(parse::<Sample>(text).unwrap_err(), expect);
        }
        assert!(parse::<Sample>("broker = ").unwrap_err().starts_with("line 1: "));
    }

    #[test]
    fn a_value_outside_its_range_is_named_with_the_range() {
        assert_eq!(within("a_ms", 5, 1..=5), Ok(()));
        assert_eq!(within("a_ms", 6, 1..=5).unwrap_err(), "a_ms is 6; give it 1 to 5");
        assert_eq!(within("score", f32::NAN, 0.0..=1.0).unwrap_err(), "score is NaN; give it 0 to 1");
    }

    #[test]
    fn a_file_that_is_not_there_or_too_large_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = load::<Sample>(&dir.path().join("none.toml")).unwrap_err();
        assert_eq!(missing.exit, Exit::Config);
        assert!(missing.sentence.contains("none.toml"), "{missing}");
        let big = dir.path().join("big.toml");
        std::fs::write(&big, vec![b'#'; CONFIG_BYTES_MAX as usize + 1]).unwrap();
        assert!(load::<Sample>(&big).unwrap_err().sentence.contains("larger than"));
    }
}
