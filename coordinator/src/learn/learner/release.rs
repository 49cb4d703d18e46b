//! The heads that a learner releases: the one of now, and the last one. It decides nothing: whether one is fit is asked in the learner.
//! Pure.

use std::borrow::Cow;

use picket_shared::learn::lineage::Lineage;
use picket_shared::learn::view::ReleaseView;

use super::Learner;

/// How what was released comes to stations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Path {
    /// There is a path of models: stations judge by what is released, and by nothing else.
    pub is_open: bool,
    /// What became of the newest releases.
    pub releases: Vec<ReleaseView>,
}

/// A head that is fit to be released: the canary half of the confirmed samples finds it no worse than the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Of which heads.
    pub lineage: Lineage,
    /// Its version.
    pub version: u64,
    /// Its numbers.
    pub head: Vec<f32>,
    /// The release that it takes back, where it does.
    pub revert_of: Option<u64>,
}

impl Learner {
    /// The head that was released last; before the first one, what learning begins with.
    pub(super) fn released_head(&self) -> Cow<'_, [f32]> {
        match self.kept.back() {
            Some((_, head)) => Cow::Borrowed(head),
            None => Cow::Owned(self.terms.lineage.shape.beginning()),
        }
    }

    pub(super) fn release(&self) -> Release {
        let (lineage, head) = (self.terms.lineage.clone(), self.head().to_vec());
        Release { lineage, version: self.version(), head, revert_of: self.revert_of }
    }

    /// The last release, said again.
    pub(super) fn last_release(&self) -> Option<Release> {
        let (version, head) = self.kept.back().filter(|(version, _)| self.released == Some(*version))?;
        let revert_of = self.revert_of.filter(|_| *version == self.version());
        Some(Release { lineage: self.terms.lineage.clone(), version: *version, head: head.clone(), revert_of })
    }
}
