//! The chain itself: what a line says, and whether the lines follow each other. Pure.

use serde::{Deserialize, Serialize};

use super::{Act, DETAIL_CHARS_MAX, Head, LINE_BYTES_MAX, Note, WHO_CHARS_MAX};
use crate::crypto::{from_hex, hex, sha256};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Counts the lines from 1, over all files.
    pub number: u64,
    /// Seconds since 1970, by this machine's calendar.
    pub time: u64,
    /// The word of an [`Act`].
    pub act: String,
    /// The name that somebody gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The SHA-256 of the line before, without its line feed, in hexadecimal; zeros in the first.
    pub before: String,
}

/// What is wrong with a chain, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no line of ours.
    #[error("after line {0} stands what is no line of an audit log: it was changed, or the disk is damaged")]
    Unreadable(u64),
    /// The line's digest is another than the next one says.
    #[error("line {0} was changed after it was written")]
    Changed(u64),
    /// Lines are not there.
    #[error("lines {0} to {1} were removed")]
    Removed(u64, u64),
    /// A line stands where it does not belong.
    #[error("line {number} stands after line {after}: lines were put in another order, or in twice")]
    Moved {
        /// The line.
        number: u64,
        /// The line before it.
        after: u64,
    },
    /// The log was set aside once.
    #[error("line {0} says that the log before it was damaged: {1}")]
    BeginsAnew(u64, String),
    /// The end is missing.
    #[error("lines {0} to {1} were cut off the end: somebody remembers that they were there")]
    CutOff(u64, u64),
    /// The end is another one than somebody remembers.
    #[error("line {0} is another one than somebody remembers: the log was written anew")]
    Rewritten(u64),
}

/// How far a chain has been followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The last line; none before the first.
    last: Option<(u64, [u8; 32])>,
    /// The first line that was seen.
    first: Option<u64>,
    /// The first line that should be there, as the newest file says.
    kept_from: Option<u64>,
}

impl Chain {
    /// One whose last line this is, as the end of a file shows it. What was before it is not judged.
    pub fn at(bytes: &[u8]) -> Result<Chain, Fault> {
        let line = read(bytes).ok_or(Fault::Unreadable(0))?;
        Ok(Chain { last: Some((line.number, sha256(bytes))), first: Some(line.number), kept_from: None })
    }

    /// Takes the next line in, without its line feed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Line, Fault> {
        let after = self.number();
        let line = read(bytes).ok_or(Fault::Unreadable(after))?;
        if line.act == Act::LogDamaged.word() {
            self.last = Some((line.number, sha256(bytes)));
            return Err(Fault::BeginsAnew(line.number, line.detail.unwrap_or_default()));
        }
        match self.last {
            // The first that is kept says nothing of those before it; whether they may be gone is found at the end.
            None if line.number > 1 => {}
            None if line.before != hex(&[0; 32]) => return Err(Fault::Changed(1)),
            None => {}
            Some(_) if line.number <= after => return Err(Fault::Moved { number: line.number, after }),
            Some(_) if line.number > after + 1 => return Err(Fault::Removed(after + 1, line.number - 1)),
            Some((_, digest)) if line.before != hex(&digest) => return Err(Fault::Changed(after)),
            Some(_) => {}
        }
        if line.act == Act::LogContinued.word() {
            self.kept_from = line.about.as_deref().and_then(|kept| kept.parse().ok());
        }
        self.first.get_or_insert(line.number);
        self.last = Some((line.number, sha256(bytes)));
        Ok(line)
    }

    /// Whether all that should be kept was there, once the last line was taken.
    pub fn ends(&self) -> Result<(), Fault> {
        match self.first {
            Some(first) if first > self.kept_from.unwrap_or(1) => {
                Err(Fault::Removed(self.kept_from.unwrap_or(1), first - 1))
            }
            _ => Ok(()),
        }
    }

    /// The last line's number; 0 before the first.
    pub fn number(&self) -> u64 {
        self.last.map_or(0, |(number, _)| number)
    }

    /// How far it reaches.
    pub fn head(&self) -> Option<Head> {
        self.last.map(|(number, digest)| Head::new(number, digest))
    }

    /// The next line, as it is written, without its line feed.
    pub fn next(&self, time: u64, act: Act, note: &Note) -> Vec<u8> {
        let bounded = |text: &Option<String>, chars_max: usize| {
            let plain = |c: char| if c.is_control() { ' ' } else { c };
            text.as_ref().map(|text| text.chars().take(chars_max).map(plain).collect::<String>())
        };
        let digest = self.last.map_or([0; 32], |(_, digest)| digest);
        let line = Line {
            number: self.number() + 1,
            time,
            act: act.word(),
            who: bounded(&note.who, WHO_CHARS_MAX),
            about: bounded(&note.about, DETAIL_CHARS_MAX),
            detail: bounded(&note.detail, DETAIL_CHARS_MAX),
            before: hex(&digest),
        };
        serde_json::to_vec(&line).expect("numbers and texts")
    }
}

fn read(bytes: &[u8]) -> Option<Line> {
    let line: Line = (bytes.len() <= LINE_BYTES_MAX).then(|| serde_json::from_slice(bytes).ok())??;
    (line.number > 0 && from_hex::<32>(&line.before).is_some()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// So many lines.
    fn lines(count: u64) -> Vec<Vec<u8>> {
        let mut chain = Chain::default();
        (0..count)
            .map(|n| {
                let line = chain.next(1_000 + n, Act::PictureAsked, &Note::about(n).by("A. Person"));
                chain.take(&line).unwrap();
                line
            })
            .collect()
    }

    fn verdict(lines: &[Vec<u8>]) -> Result<Option<Head>, Fault> {
        let mut chain = Chain::default();
        for line in lines {
            chain.take(line)?;
        }
        chain.ends().map(|()| chain.head())
    }

    #[test]
    fn each_thing_that_somebody_may_do_to_it_is_found_and_says_where() {
        let good = lines(5);
        assert_eq!(verdict(&good).unwrap().unwrap().number, 5);
        let with = |change: fn(&mut Vec<Vec<u8>>)| {
            let mut lines = good.clone();
            change(&mut lines);
            verdict(&lines)
        };
        let text = |line: &Vec<u8>| String::from_utf8(line.clone()).unwrap();
        let other = text(&good[2]).replace("A. Person", "B. Person");
        let mut changed = good.clone();
        changed[2] = other.into_bytes();
        assert_eq!(verdict(&changed), Err(Fault::Changed(3)));
        assert_eq!(with(|lines| drop(lines.remove(2))), Err(Fault::Removed(3, 3)));
        assert_eq!(with(|lines| drop(lines.drain(..2))), Err(Fault::Removed(1, 2)));
        assert_eq!(with(|lines| lines.swap(1, 2)), Err(Fault::Removed(2, 2)));
        assert_eq!(with(|lines| lines.insert(3, lines[1].clone())), Err(Fault::Moved { number: 2, after: 3 }));
        assert_eq!(with(|lines| lines[3] = b"{}".to_vec()), Err(Fault::Unreadable(3)));
        // What is cut off the end only somebody who remembers can tell.
        assert_eq!(with(|lines| lines.truncate(3)).unwrap().unwrap().number, 3);
    }

    #[test]
    fn lines_of_before_are_gone_only_where_the_newest_file_says_so() {
        let mut chain = Chain::default();
        let mut all = Vec::new();
        for (act, kept) in [(Act::Started, 0), (Act::Started, 0), (Act::LogContinued, 1), (Act::LogContinued, 3)] {
            let line = chain.next(1, act, &Note::about(kept));
            chain.take(&line).unwrap();
            all.push(line);
        }
        assert!(verdict(&all).is_ok() && verdict(&all[2..]).is_ok());
        assert_eq!(verdict(&all[3..]), Err(Fault::Removed(3, 3)));
        assert_eq!(verdict(&all[1..3]), Err(Fault::Removed(1, 1)));
    }

    #[test]
    fn a_line_has_its_bounds_whatever_it_is_given() {
        let note = Note::about("\u{10348}".repeat(9_000)).by("\n\u{10348}".repeat(9_000)).with("\"\\".repeat(9_000));
        let line = Chain::default().next(u64::MAX, Act::OrdersKeyRotated, &note);
        assert!(line.len() <= LINE_BYTES_MAX && !line.contains(&b'\n'), "{}", line.len());
        assert!(Chain::default().take(&line).is_ok());
    }

    proptest! {
        #[test]
        fn no_byte_of_it_can_be_another_one_unnoticed(line in 0usize..4, at in 0usize..600, flip in 1u8..=255) {
            let mut all = lines(5);
            let at = at % all[line].len();
            all[line][at] ^= flip;
            prop_assert!(verdict(&all).is_err());
        }
    }
}
