//! Who stands in for a station, the first choice first: rendezvous hashing, weighted by spare capacity.
//!
//! Everybody who knows the same candidates finds the same order, and a candidate that comes or goes moves no other. Pure.
//! Method: D. G. Thaler and C. V. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998), with the weights of
//! C. Schindelhauer and G. Schomaker, "Weighted Distributed Hash Tables" (2005): the score is −weight / ln(hash).

use picket_shared::backoff::scatter;
use picket_shared::ids::{NodeId, StationId};

/// The candidates in their order for this station. Each comes with the frames a second that it has to spare: twice as many
/// win twice as many stations. They are taken in powers of two: small differences mean nothing.
pub(super) fn rank<'a>(
    station: &StationId,
    candidates: impl IntoIterator<Item = (&'a NodeId, u16)>,
) -> Vec<&'a NodeId> {
    let mut scored: Vec<(f64, &NodeId)> =
        candidates.into_iter().map(|(node, spare_fps)| (score(station, node, spare_fps), node)).collect();
    scored.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
    scored.into_iter().map(|(_, node)| node).collect()
}

fn score(station: &StationId, node: &NodeId, spare_fps: u16) -> f64 {
    let bytes = station.as_str().bytes().chain([0]).chain(node.as_str().bytes());
    // 53 bits, above 0 and below 1.
    let unit = ((scatter(bytes.map(u64::from)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let weight = f64::from(spare_fps.max(1).ilog2() + 1);
    -weight / unit.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: usize) -> NodeId {
        NodeId::new(format!("n{n}")).unwrap()
    }

    fn station(n: usize) -> StationId {
        StationId::new(format!("s{n}")).unwrap()
    }

    #[test]
    fn who_goes_moves_only_what_was_its_own() {
        let nodes: Vec<NodeId> = (0..20).map(node).collect();
        for n in 0..200 {
            let all = rank(&station(n), nodes.iter().map(|node| (node, 30)));
            let without = rank(&station(n), nodes.iter().skip(1).map(|node| (node, 30)));
            let expect: Vec<_> = all.into_iter().filter(|other| **other != nodes[0]).collect();
            assert_eq!(without, expect);
        }
    }

    #[test]
    fn stations_are_shared_by_weight() {
        let nodes: Vec<NodeId> = (0..10).map(node).collect();
        let spare = |n: usize| if n == 0 { 63 } else { 4 };
        let mut firsts = [0; 10];
        for n in 0..4_000 {
            let first = rank(&station(n), nodes.iter().enumerate().map(|(n, node)| (node, spare(n))))[0];
            firsts[nodes.iter().position(|node| node == first).unwrap()] += 1;
        }
        // Six shares of thirty-three, and three.
        assert!((600..860).contains(&firsts[0]), "{firsts:?}");
        assert!(firsts[1..].iter().all(|count| (270..460).contains(count)), "{firsts:?}");
    }

    #[test]
    fn a_little_more_or_less_to_spare_changes_nothing() {
        let nodes: Vec<NodeId> = (0..10).map(node).collect();
        for n in 0..100 {
            let before = rank(&station(n), nodes.iter().map(|node| (node, 20)));
            let after = rank(&station(n), nodes.iter().map(|node| (node, 29)));
            assert_eq!(before, after);
        }
    }
}
