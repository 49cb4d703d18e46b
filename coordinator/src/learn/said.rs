//! What persons said of events, and what neighbours agree on: for each node the newest of it, which it hears whole whenever it comes.
//! Pure.

use std::collections::BTreeMap;

use picket_shared::ids::NodeId;
use picket_shared::learn::label::{Label, Labels};
use picket_shared::limits::{AGREED_MAX, LABELS_MAX, NODES_MAX};

/// It.
#[derive(Debug, Clone, Default)]
pub struct Said(BTreeMap<NodeId, Labels>);

impl Said {
    /// Takes in what was said of one node's events. The later word about an event counts, and the oldest words go.
    pub fn take(&mut self, node: &NodeId, labels: &[Label]) {
        merge(&mut self.entry(node).labels, labels, LABELS_MAX);
    }

    /// The same of what neighbours agree on.
    pub fn agree(&mut self, node: &NodeId, labels: &[Label]) {
        merge(&mut self.entry(node).agreed, labels, AGREED_MAX);
    }

    fn entry(&mut self, node: &NodeId) -> &mut Labels {
        if self.0.len() >= NODES_MAX && !self.0.contains_key(node) {
            self.0.pop_first();
        }
        self.0.entry(node.clone()).or_default()
    }

    /// What one node is to hear.
    pub fn of(&self, node: &NodeId) -> Labels {
        self.0.get(node).cloned().unwrap_or_default()
    }

    /// All of it.
    pub fn all(&self) -> impl Iterator<Item = (&NodeId, &Labels)> {
        self.0.iter()
    }
}

fn merge(known: &mut Vec<Label>, labels: &[Label], labels_max: usize) {
    for label in labels {
        known.retain(|other| other.event != label.event);
        known.push(label.clone());
    }
    known.drain(..known.len().saturating_sub(labels_max));
}

/// What was said, by the node of each event; and the events that are no device's track.
pub fn by_node(labels: &[Label]) -> (BTreeMap<NodeId, Vec<Label>>, Vec<&Label>) {
    let (mut of_nodes, mut others) = (BTreeMap::<_, Vec<Label>>::new(), Vec::new());
    for label in labels {
        match label.event.node() {
            Some(node) => of_nodes.entry(node).or_default().push(label.clone()),
            None => others.push(label),
        }
    }
    (of_nodes, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::ids::{Boot, EventId};

    fn label(track: u64, person: bool) -> Label {
        let node = NodeId::new("gate-3").unwrap();
        Label { event: EventId::of_track(&node, Boot(7), track), person, who: "anna".into() }
    }

    #[test]
    fn each_node_hears_the_newest_words_about_its_own_events() {
        let node = NodeId::new("gate-3").unwrap();
        let crowd = Label { event: EventId::of_crowd(&node, Boot(7), 1, 2), ..label(1, true) };
        let all = [label(1, true), crowd.clone(), label(2, true), label(1, false)];
        let (of_nodes, others) = by_node(&all);
        assert_eq!(others, [&crowd]);
        let mut said = Said::default();
        said.take(&node, &of_nodes[&node]);
        assert_eq!(said.of(&node).labels, [label(2, true), label(1, false)]);
        let many: Vec<Label> = (10..10 + LABELS_MAX as u64).map(|track| label(track, true)).collect();
        said.take(&node, &many);
        assert_eq!(said.of(&node).labels, many);
        assert_eq!(said.all().count(), 1);
        // What neighbours agree on stands beside it, and crowds out nothing.
        said.agree(&node, &[label(1, true), label(10, false)]);
        said.agree(&node, &many[..AGREED_MAX]);
        assert_eq!(said.of(&node), Labels { labels: many.clone(), agreed: many[..AGREED_MAX].to_vec() });
    }
}
