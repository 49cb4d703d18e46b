//! What a `seqinfo.ini` says: the description of a sequence of the MOT challenge, <https://motchallenge.net/instructions/>.
//!
//! Pure.

use std::path::{Component, Path};

/// What it says, as far as it is needed here.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Description {
    /// The folder of its pictures, beside the file.
    pub pictures: Option<String>,
    /// Frames a second.
    pub fps: Option<f64>,
    /// Frames.
    pub frames: Option<u64>,
}

/// Reads it; keys that are not needed are passed over. The error is a sentence that begins with the line.
pub fn parse(text: &str) -> Result<Description, String> {
    let mut said = Description::default();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (at, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with(['[', ';', '#']) {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {at}: \"{line:.40}\" is no key=value; check the file"));
        };
        let value = value.trim();
        let wrong = |must: &str| format!("line {at}: {} is \"{value:.40}\", and must be {must}", name.trim());
        match name.trim() {
            // Joined to the folder of the sequence: it may not lead out of it.
            "imDir" if !is_beside(value) => return Err(wrong("a folder beside the file")),
            "imDir" => said.pictures = Some(value.to_owned()),
            "frameRate" => {
                let fps = value.parse().ok().filter(|fps| (0.1..=240.0).contains(fps));
                said.fps = Some(fps.ok_or_else(|| wrong("0.1 to 240"))?);
            }
            "seqLength" => said.frames = Some(value.parse().map_err(|_| wrong("a whole number"))?),
            _ => {}
        }
    }
    Ok(said)
}

fn is_beside(folder: &str) -> bool {
    !folder.is_empty() && Path::new(folder).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_says_where_its_pictures_are_how_fast_and_how_many() {
        let mot = "\u{feff}[Sequence]\nname=MOT17-02\nimDir = img1\r\nframeRate=30\nseqLength=600\nimWidth=1920\n";
        let expect = Description { pictures: Some("img1".into()), fps: Some(30.0), frames: Some(600) };
        assert_eq!(parse(mot), Ok(expect));
        assert_eq!(parse("; nothing\n\n"), Ok(Description::default()));
        for (text, expect) in [
            ("imDir=../../etc", "line 1: imDir is \"../../etc\", and must be a folder beside the file"),
            ("imDir=a/../../etc", "must be a folder beside the file"),
            ("imDir=/etc", "must be a folder beside the file"),
            ("imDir=", "must be a folder beside the file"),
            ("frameRate=fast", "line 1: frameRate is \"fast\""),
            ("frameRate=0", "must be 0.1 to 240"),
            ("frameRate=NaN", "must be 0.1 to 240"),
            ("\nseqLength=-5", "line 2: seqLength is \"-5\", and must be a whole number"),
            ("hello", "line 1: \"hello\" is no key=value"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }
}
