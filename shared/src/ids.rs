//! Names of things: site, node, station, camera, zone, line, operator, and the number of a boot.
//!
//! A name is checked once, where it enters, and is then a topic level, a file name and a key without further care.
//! Nothing here is ever generated at random.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{EVENT_ID_CHARS_MAX, NAME_CHARS_MAX};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name is empty; give it 1 to {NAME_CHARS_MAX} characters")]
    Empty,
    /// More characters than a topic level should have.
    #[error("the name \"{0}\" has more than {1} characters; shorten it")]
    TooLong(String, usize),
    /// A character that a topic, a file name or a shell would trip over.
    #[error("the name \"{0}\" has a character other than a-z 0-9 - _ . or does not begin with a letter or digit")]
    Character(String),
    /// A word that the topic tree uses for itself.
    #[error("the name \"{0}\" is reserved; choose another")]
    Reserved(String),
}

fn check(text: &str, chars_max: usize) -> Result<(), NameError> {
    // What is refused is told to people: without what would break their line.
    let shown = || text.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > chars_max {
        return Err(NameError::TooLong(shown(), chars_max));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let begins_well = text.starts_with(plain);
    if !begins_well || !text.chars().all(|c| plain(c) || matches!(c, '-' | '_' | '.')) {
        return Err(NameError::Character(shown()));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $chars_max:expr, $reserved:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the text and takes it as a name.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                check(&text, $chars_max)?;
                let reserved: &[&str] = &$reserved;
                if reserved.contains(&text.as_str()) {
                    return Err(NameError::Reserved(text));
                }
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A site: one group of nodes that know each other, under one coordinator.
    SiteId, NAME_CHARS_MAX, []
);
name!(
    /// A node: one machine that runs an agent. `coordinator` and `view` are topic levels of their own.
    NodeId, NAME_CHARS_MAX, ["coordinator", "view"]
);
name!(
    /// A station: a place to watch; what a model is customised for.
    StationId, NAME_CHARS_MAX, []
);
name!(
    /// A camera: one source of frames of one agent.
    CameraId, NAME_CHARS_MAX, []
);
name!(
    /// A zone: a named polygon in a camera's picture.
    ZoneId, NAME_CHARS_MAX, []
);
name!(
    /// A line: a named stroke across a camera's picture that people are counted over.
    LineId, NAME_CHARS_MAX, []
);
name!(
    /// A model: what its releases have in common. Devices keep the highest release counter of each.
    ModelName, NAME_CHARS_MAX, []
);
name!(
    /// An event: the same from its `new` to its `end`, and unique over the site.
    EventId, EVENT_ID_CHARS_MAX, []
);

name!(
    /// An operator: a person, or a program of his, who may say what was seen and order what the page offers.
    OperatorName, NAME_CHARS_MAX, []
);
name!(
    /// A request: drawn at random by who asks, so that nobody can know it beforehand.
    RequestId, NAME_CHARS_MAX, []
);

const BOOT_SALT_BITS: u32 = 20;

impl EventId {
    /// The id of the event that a track of this node began. Unique because a node's boot never repeats, nor a track
    /// number within it.
    pub fn of_track(node: &NodeId, boot: Boot, track: u64) -> Self {
        Self(format!("{node}-{boot}-{track}"))
    }

    /// The id of the event that a crowd began: the `nth` of its camera, with the newest track in it. The track's number
    /// keeps apart two cameras of one node, and the count two crowds with the same newcomer.
    pub fn of_crowd(node: &NodeId, boot: Boot, track: u64, nth: u64) -> Self {
        Self(format!("{node}-{boot}-{track}-crowd{nth}"))
    }

    /// The id of what nobody follows in a square of a camera's picture, counted from the left and from the top, in the `nth` span of
    /// time. No event has it: what is learned of such a place stands under it.
    pub fn of_square(node: &NodeId, camera: usize, (x, y): (u32, u32), nth: u64) -> Self {
        Self(format!("{node}-square{camera}.{x}.{y}.{nth}"))
    }

    /// The node whose track began it; nothing where it is no track's.
    pub fn node(&self) -> Option<NodeId> {
        let mut parts = self.0.rsplitn(3, '-');
        let (track, boot, node) = (parts.next()?, parts.next()?, parts.next()?);
        let (_, _): (u64, u64) = (track.parse().ok()?, boot.parse().ok()?);
        NodeId::new(node).ok()
    }
}

/// One gap-free sequence of events of an agent: a new one begins with each start, and when an agent comes back from a long
/// absence, so that what happens now need not wait behind what happened then. Sequences begin at 1 in each boot.
///
/// The upper 44 bits are seconds since 1970, the lower 20 are salt. It grows even when the clock does not, and does not
/// repeat when an old image of a disk is put back or two devices are started from copies of one. It stays below 2^53, the
/// largest integer that every JSON reader keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boot(pub u64);

impl Boot {
    /// The boot that follows `last`, begun at `now_s` seconds since 1970. `salt` is any number that a copy of this disk in
    /// another device would not draw too; its lower 20 bits count.
    pub fn after(last: Option<Boot>, now_s: u64, salt: u32) -> Self {
        let salt = u64::from(salt) & ((1 << BOOT_SALT_BITS) - 1);
        let (now, last) = (now_s << BOOT_SALT_BITS, last.map_or(0, |Boot(last)| last.saturating_add(1)));
        Boot(now.max(last).saturating_add(salt))
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_once_where_they_enter() {
        let long = "a".repeat(NAME_CHARS_MAX + 1);
        for (text, fine) in [
            ("gate-3", true),
            ("0a_b.c", true),
            ("", false),
            (long.as_str(), false),
            ("Gate", false),
            ("-gate", false),
            ("a/b", false),
            ("a+b", false),
            ("a#b", false),
            ("züge", false),
            ("coordinator", false),
        ] {
            assert_eq!(NodeId::new(text).is_ok(), fine, "{text:?}");
        }
        assert!(StationId::new("coordinator").is_ok(), "only a node's name is a topic level");
    }

    #[test]
    fn a_name_from_the_wire_is_checked_too() {
        assert!(serde_json::from_str::<NodeId>("\"gate-3\"").is_ok());
        assert!(serde_json::from_str::<NodeId>("\"a/b\"").is_err());
    }

    #[test]
    fn a_boot_grows_whatever_the_clock_does() {
        let hundred = Boot(100 << 20);
        assert_eq!(Boot::after(None, 100, 0), hundred);
        assert_eq!(Boot::after(Some(hundred), 500, 0), Boot(500 << 20));
        assert_eq!(Boot::after(Some(hundred), 3, 0), Boot(hundred.0 + 1));
        assert_eq!(Boot::after(Some(Boot(u64::MAX)), 3, 9), Boot(u64::MAX));
    }

    #[test]
    fn copies_of_one_disk_begin_different_boots() {
        // The same last boot, and the same second or a clock that was never set: only the salt differs.
        for now_s in [3, 500] {
            let of = |salt| Boot::after(Some(Boot(100 << 20)), now_s, salt);
            assert_ne!(of(1), of(2));
        }
        let far = Boot::after(None, 4_000_000_000, u32::MAX);
        assert!(far.0 < 1 << 53, "JavaScript keeps it");
    }
}
