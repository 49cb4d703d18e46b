//! Remembers how far the audit logs of others reached, as they said themselves in what they sign: a log that ends earlier later, or
//! in another line, has lost what somebody cut off. Such a log cannot see that itself.
//!
//! The coordinator remembers those of nodes, and each node those of coordinators. What is wrong with one is told until somebody takes
//! it as it is. [`Known`] is pure; [`Heads`] keeps it in a file, which the command line may change beside the program that runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Head;
use crate::ids::NodeId;
use crate::keyfile::{self, KeyfileError};

/// Where they are kept, below the data directory.
const FILE: &str = "audit-heads.json";

/// What is remembered of one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The farthest that it has reached.
    pub head: Head,
    /// What was said that cannot follow from that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Head>,
    /// When that was said, by the speaker's clock in seconds since 1970; 0 where messages come in their order anyway.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub said_s: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What somebody says of his log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How far it reaches.
    pub head: Head,
    /// When he says so, where an earlier word of his may come again; 0 where it cannot.
    pub said_s: u64,
}

/// What follows from it.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that was not known.
    Nothing,
    /// It is to be remembered.
    Keep,
    /// So is this, and it must be told: his log reached there, and does not any more.
    Lost(Head),
}

/// Whose logs reached how far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known(BTreeMap<NodeId, Remembered>);

impl Known {
    /// Hears what somebody says of his log. Of more than `many_max` nothing is remembered.
    pub fn hear(&mut self, who: &NodeId, said: Said, many_max: usize) -> Heard {
        let Said { head, said_s } = said;
        let Some(remembered) = self.0.get_mut(who) else {
            if self.0.len() >= many_max {
                return Heard::Nothing;
            }
            self.0.insert(who.clone(), Remembered { head, lost: None, said_s });
            return Heard::Keep;
        };
        let before = &remembered.head;
        if *before == head || remembered.lost.is_some() && head.number <= before.number {
            return Heard::Nothing;
        }
        if head.number > before.number {
            (remembered.head, remembered.said_s) = (head, said_s);
            return Heard::Keep;
        }
        // An earlier word, said again by somebody who kept it.
        if said_s > 0 && said_s <= remembered.said_s {
            return Heard::Nothing;
        }
        remembered.lost = Some(head);
        Heard::Lost(before.clone())
    }

    /// Whose logs have lost lines: how far each reached, and what was said then.
    pub fn lost(&self) -> impl Iterator<Item = (&NodeId, &Head, &Head)> {
        self.0.iter().filter_map(|(who, of)| Some((who, &of.head, of.lost.as_ref()?)))
    }
}

/// The same, in a file.
pub struct Heads {
    path: PathBuf,
    many_max: usize,
    known: Known,
    read: Option<SystemTime>,
}

impl Heads {
    /// Those below this data directory.
    pub fn open(data_dir: &Path, many_max: usize) -> Result<Heads, KeyfileError> {
        let path = data_dir.join(FILE);
        let known = Known(read(&path)?);
        let read = changed(&path);
        Ok(Heads { path, many_max, known, read })
    }

    /// Hears what somebody says of his log; how far it reached, where it does not any more and that is news.
    pub fn hear(&mut self, who: &NodeId, said: Said) -> Option<Head> {
        if changed(&self.path) != self.read {
            // Somebody took a log as it is, by the command line.
            self.known = read(&self.path).map_or_else(|_| std::mem::take(&mut self.known), Known);
            self.read = changed(&self.path);
        }
        let heard = self.known.hear(who, said, self.many_max);
        if heard != Heard::Nothing {
            if let Err(error) = write(&self.path, &self.known.0) {
                tracing::error!("{error}; how far audit logs reach is not known after a restart");
            }
            self.read = changed(&self.path);
        }
        match heard {
            Heard::Lost(reached) => Some(reached),
            Heard::Nothing | Heard::Keep => None,
        }
    }

    /// See [`Known::lost`].
    pub fn lost(&self) -> impl Iterator<Item = (&NodeId, &Head, &Head)> {
        self.known.lost()
    }
}

/// What is remembered below this data directory.
pub fn of(data_dir: &Path) -> Result<BTreeMap<NodeId, Remembered>, KeyfileError> {
    read(&data_dir.join(FILE))
}

/// Forgets what is remembered of somebody's log: what he says next is taken as it is. False where nothing was.
pub fn accept(data_dir: &Path, who: &NodeId) -> Result<bool, KeyfileError> {
    let path = data_dir.join(FILE);
    let mut known = read(&path)?;
    let was = known.remove(who).is_some();
    write(&path, &known)?;
    Ok(was)
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

fn read(path: &Path) -> Result<BTreeMap<NodeId, Remembered>, KeyfileError> {
    match keyfile::read_secret(path) {
        Err(KeyfileError::Missing(_)) => Ok(BTreeMap::new()),
        text => serde_json::from_str(&text?)
            .map_err(|error| KeyfileError::Content(path.to_owned(), format!("is damaged ({error}); remove it"))),
    }
}

fn write(path: &Path, known: &BTreeMap<NodeId, Remembered>) -> Result<(), KeyfileError> {
    keyfile::write_secret(path, &serde_json::to_vec_pretty(known).expect("names, numbers and texts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: u64, digit: char, said_s: u64) -> Said {
        Said { head: Head { number, digest: digit.to_string().repeat(64) }, said_s }
    }

    fn gate() -> NodeId {
        NodeId::new("gate-1").unwrap()
    }

    #[test]
    fn a_log_that_goes_back_is_told_until_somebody_takes_it_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut heads = Heads::open(dir.path(), 8).unwrap();
        for (number, digit) in [(3, 'a'), (3, 'a'), (7, 'b')] {
            assert_eq!(heads.hear(&gate(), said(number, digit, 0)), None);
            assert_eq!(heads.lost().count(), 0);
        }
        let kept = std::fs::read(dir.path().join(FILE)).unwrap();
        // Cut off; or another line in the place of the last. It is news once, and stands after a restart.
        for (number, digit) in [(6, 'c'), (7, 'd')] {
            keyfile::write_secret(&dir.path().join(FILE), &kept).unwrap();
            let mut heads = Heads::open(dir.path(), 8).unwrap();
            let now = said(number, digit, 0);
            assert_eq!(heads.hear(&gate(), now.clone()), Some(said(7, 'b', 0).head));
            assert_eq!(heads.hear(&gate(), now.clone()), None);
            let again = Heads::open(dir.path(), 8).unwrap();
            assert_eq!(again.lost().collect::<Vec<_>>(), [(&gate(), &said(7, 'b', 0).head, &now.head)]);
        }
        let mut heads = Heads::open(dir.path(), 8).unwrap();
        assert_eq!(heads.hear(&gate(), said(9, 'e', 0)), None);
        assert_eq!(heads.lost().count(), 1, "that it grows again heals nothing");
        assert!(accept(dir.path(), &gate()).unwrap());
        assert!(!accept(dir.path(), &gate()).unwrap());
        // By a program that runs on.
        assert_eq!(heads.hear(&gate(), said(2, 'f', 0)), None);
        assert_eq!(heads.lost().count(), 0);
        assert_eq!(of(dir.path()).unwrap()[&gate()].head.number, 2);
    }

    #[test]
    fn an_earlier_word_that_comes_again_is_no_loss_and_a_later_one_that_says_less_is() {
        let mut known = Known::default();
        for (number, at_s) in [(3, 100), (7, 200)] {
            assert_eq!(known.hear(&gate(), said(number, 'a', at_s), 8), Heard::Keep);
        }
        assert_eq!(known.hear(&gate(), said(3, 'a', 100), 8), Heard::Nothing, "it was said before");
        assert_eq!(known.hear(&gate(), said(6, 'a', 200), 8), Heard::Nothing, "in the same second");
        assert_eq!(known.lost().count(), 0);
        assert_eq!(known.hear(&gate(), said(6, 'a', 201), 8), Heard::Lost(said(7, 'a', 0).head));
        assert_eq!(known.lost().count(), 1);
    }

    #[test]
    fn no_more_are_remembered_than_there_may_be() {
        let mut known = Known::default();
        for n in 0..9 {
            let who = NodeId::new(format!("c{n}")).unwrap();
            let expect = if n < 8 { Heard::Keep } else { Heard::Nothing };
            assert_eq!(known.hear(&who, said(1, 'a', 1), 8), expect);
        }
        assert_eq!(
            known.hear(&NodeId::new("c0").unwrap(), said(2, 'a', 2), 8),
            Heard::Keep,
            "those that are known go on"
        );
    }
}
