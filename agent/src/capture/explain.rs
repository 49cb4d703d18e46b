//! Turns the last words of a decoder into a reason with its remedy.
//!
//! The table knows ffmpeg's words, of several versions, and a few of the system's. What it does not know is repeated as
//! it was said. Nothing here decides what follows.

/// Longest complaint that is repeated: a sentence must fit on a line of a log and in a status message.
const COMPLAINT_CHARS_MAX: usize = 240;

/// What a complaint holds, and what to do then. The first that fits any line counts, so the specific ones come first.
const REMEDIES: [(&str, &str); 16] = [
    ("Unrecognized option 'fps_mode", "ffmpeg is older than 5.1: install a newer one, or set decoder"),
    ("Parsed_crop", "the crop does not lie within the picture: correct it"),
    ("Error when evaluating the expression", "the crop does not lie within the picture: correct it"),
    ("moov atom not found", "the file is cut off: copy it again"),
    ("Decoder (codec", "this ffmpeg lacks the codec: install one that has it, or convert the video to H.264"),
    ("no decoder found", "this ffmpeg lacks the codec: install one that has it, or convert the video to H.264"),
    ("does not contain any stream", "there is no video in it: name another source"),
    ("Protocol not found", "this ffmpeg lacks the protocol: install one that has it, or set decoder"),
    ("401 Unauthorized", "check user name and password in the URL"),
    ("403 Forbidden", "check what the camera allows this user"),
    ("404 ", "check the path in the URL"),
    ("Connection refused", "check that the camera is on, and address and port in the URL"),
    ("No route to host", "check that the camera is on, and the address in the URL"),
    ("overread", "pictures come cut off: check the camera's network, or ask it for smaller ones"),
    ("timed out", "check that the camera is on, and the address in the URL"),
    ("Invalid data found", "it is no video, or a damaged one: check that it plays with ffplay"),
];

/// A sentence from what happened and what the decoder complained of, oldest line first.
pub(super) fn explain(what: &str, complaints: &[String]) -> String {
    let known = REMEDIES.iter().find_map(|&(words, remedy)| {
        let line = complaints.iter().rev().find(|line| line.contains(words))?;
        Some((line, remedy))
    });
    match (known, complaints.last()) {
        (Some((line, remedy)), _) => format!("{what}, \"{}\"; {remedy}", shown(line)),
        (None, Some(line)) => format!("{what}, \"{}\"", shown(line)),
        (None, None) => what.to_owned(),
    }
}

fn shown(line: &str) -> String {
    line.chars().take(COMPLAINT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_complaint_gets_its_remedy_and_an_unknown_one_is_repeated() {
        for (lines, expect) in [
            (&[][..], "it ended"),
            (&["strange thing"], "it ended, \"strange thing\""),
            // The telling line is not the last one here.
            (
                &["[Parsed_crop_0 @ 0x55] Invalid too big size", "Failed to inject frame into filter network"],
                "it ended, \"[Parsed_crop_0 @ 0x55] Invalid too big size\"; the crop does not lie within the picture: \
                 correct it",
            ),
            // The specific remedy wins over the general one.
            (
                &["moov atom not found", "x.mp4: Invalid data found when processing input"],
                "it ended, \"moov atom not found\"; the file is cut off: copy it again",
            ),
        ] {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(explain("it ended", &lines), expect);
        }
        let long = explain("it ended", &["ü".repeat(5000)]);
        assert!(long.chars().count() < COMPLAINT_CHARS_MAX + 20);
    }
}
