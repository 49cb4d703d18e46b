//! Which part of a file was asked for: HTTP's `Range` (RFC 9110, section 14). Players seek by it, and Safari plays nothing
//! without it.
//!
//! Pure.

use std::ops::RangeInclusive;

/// What is to be sent of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it. A range that is none, that is in another unit, or one of several is passed over, as may be.
    Whole,
    /// From one byte to another, both included.
    Part(RangeInclusive<u64>),
    /// The file ends before it.
    Nothing,
}

/// Reads the header's value for a file of so many bytes.
pub(super) fn wanted(range: &str, bytes: u64) -> Wanted {
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Wanted::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What is beyond all numbers is beyond all files.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..=last,
        (Some(first), None) if last.is_empty() => first..=u64::MAX,
        (None, Some(0)) if first.is_empty() => return Wanted::Nothing,
        (None, Some(count)) if first.is_empty() => bytes.saturating_sub(count)..=u64::MAX,
        _ => return Wanted::Whole,
    };
    if *part.start() >= bytes {
        return Wanted::Nothing;
    }
    Wanted::Part(*part.start()..=(*part.end()).min(bytes - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_part_is_read_as_the_standard_has_it() {
        for (range, expect) in [
            ("bytes=0-499", Wanted::Part(0..=499)),
            ("bytes=500-", Wanted::Part(500..=999)),
            ("bytes=-200", Wanted::Part(800..=999)),
            ("bytes=-2000", Wanted::Part(0..=999)),
            ("bytes=999-999", Wanted::Part(999..=999)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..=999)),
            (" bytes=0-0 ", Wanted::Part(0..=0)),
            ("bytes=1000-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(wanted(range, 1000), expect, "{range}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(wanted("bytes=-5", 0), Wanted::Nothing);
    }

    proptest! {
        #[test]
        fn a_part_lies_in_the_file_whatever_was_asked(range in "(bytes=)?[0-9]{0,21}-?[0-9]{0,21}", bytes in 0u64..2000) {
            if let Wanted::Part(part) = wanted(&range, bytes) {
                prop_assert!(part.start() <= part.end() && *part.end() < bytes);
            }
        }
    }
}
