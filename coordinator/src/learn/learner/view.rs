//! What people see of a learner. It changes nothing. Pure.

use picket_shared::clock::Now;
use picket_shared::ids::NodeId;
use picket_shared::learn::view::{Fate, LearnerView, Learning, Mixing};

use super::{Learner, Station};

impl Learner {
    /// What people see now.
    pub fn view(&self, now: Now) -> Learning {
        let lacks = self.root.lacks();
        let mixing = match (self.terms.trusted, &lacks) {
            (true, _) => Mixing::Clip,
            (false, Some(_)) => Mixing::Nnm,
            (false, None) => Mixing::NnmGate,
        };
        let nobody = |node: &NodeId| LearnerView {
            node: node.clone(),
            updates: 0,
            repeated: 0,
            age: 0,
            norm: 0.0,
            clip: 1.0,
            gate: None,
            fate: Fate::Waiting,
            loss: 0.0,
        };
        let line = |(node, station): (&NodeId, &Station)| {
            let last = station.last.clone().unwrap_or_else(|| nobody(node));
            // What a person ordered is seen at once, and not when the next step is made.
            let fate = match (self.out.contains(node), last.fate) {
                (true, _) => Fate::Frozen,
                (false, Fate::Frozen) => Fate::Waiting,
                (false, fate) => fate,
            };
            LearnerView { updates: station.updates, repeated: station.repeated, loss: station.loss, fate, ..last }
        };
        Learning {
            time: now.unix_ms as f64 / 1000.0,
            lineage: self.id,
            version: self.version(),
            released: self.released,
            frozen: self.frozen.is_some(),
            why: self.frozen.clone().or_else(|| self.problem.clone()).unwrap_or_default(),
            mixing,
            root_lacks: lacks.unwrap_or_default(),
            root_samples: self.root.counts().to_vec(),
            curve: self.curve.clone(),
            stations: self.stations.iter().map(line).collect(),
            refused: self.refused.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect(),
            releases: self.path.releases.clone(),
        }
    }
}
