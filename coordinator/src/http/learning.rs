//! What is learned, as metrics: what the coordinator made of each station's part, and what each node says of its own learning. It
//! only writes down what it is given.

use picket_shared::ids::NodeId;
use picket_shared::learn::view::{Fate, LearnerView, Learning, Mixing};
use picket_shared::status::LearnStats;

use super::metric;

/// Appends them: the coordinator's where it learns, and those of the nodes that do.
pub(super) fn metrics(text: &mut String, learning: Option<&Learning>, learners: &[(NodeId, LearnStats)]) {
    if let Some(learning) = learning {
        of_site(text, learning);
        of_stations(text, &learning.stations);
    }
    if !learners.is_empty() {
        of_nodes(text, learners);
    }
}

fn of_site(text: &mut String, learning: &Learning) {
    let gated = learning.mixing == Mixing::NnmGate;
    for (name, help, value) in [
        ("learn_version", "The version of the head that all learn.", learning.version),
        ("learn_released_version", "The version of the last release; 0 before one.", learning.released.unwrap_or(0)),
        ("learn_frozen", "1 where nothing is learned.", u64::from(learning.frozen)),
        ("learn_gate", "1 where confirmed samples judge.", u64::from(gated)),
        ("learn_stations", "Stations that contributed.", learning.stations.len() as u64),
    ] {
        metric(text, name, "gauge", help, &[(String::new(), value)]);
    }
    let samples = learning.root_samples.iter().enumerate();
    let samples: Vec<_> = samples.map(|(class, count)| (format!("{{class=\"{class}\"}}"), *count)).collect();
    metric(text, "learn_root_samples", "gauge", "Samples that persons confirmed.", &samples);
    // Of heads that could not be judged there is no sample, which is not the same as 0.
    let canary = learning.curve.last().and_then(|point| point.canary).map(|share| (String::new(), share));
    let help = "The share of confirmed samples that the head takes for what they are.";
    metric(text, "learn_canary_ratio", "gauge", help, canary.as_slice());
    let refused: Vec<_> =
        learning.refused.iter().map(|(reason, count)| (format!("{{reason=\"{reason}\"}}"), *count)).collect();
    metric(text, "learn_refused_total", "counter", "Refused of what is learned from, in this run.", &refused);
}

fn of_stations(text: &mut String, stations: &[LearnerView]) {
    let of = |value: fn(&LearnerView) -> String| {
        stations.iter().map(|station| (label(&station.node), value(station))).collect::<Vec<_>>()
    };
    for (name, kind, help, samples) in [
        ("learn_updates_total", "counter", "Updates taken.", of(|row| row.updates.to_string())),
        ("learn_updates_repeated_total", "counter", "Updates that came again.", of(|row| row.repeated.to_string())),
        (
            "learn_row_age_versions",
            "gauge",
            "Versions since the head that a row began from.",
            of(|row| row.age.to_string()),
        ),
        ("learn_row_norm", "gauge", "A row's length.", of(|row| row.norm.to_string())),
        ("learn_row_clip_ratio", "gauge", "What a row was shortened to.", of(|row| row.clip.to_string())),
        ("learn_loss", "gauge", "The loss that a station said before its steps.", of(|row| row.loss.to_string())),
    ] {
        metric(text, name, kind, help, &samples);
    }
    let gates = stations.iter().filter_map(|station| Some((label(&station.node), station.gate?)));
    let help = "The cosine of a row to what confirmed samples say.";
    metric(text, "learn_row_gate_cosine", "gauge", help, &gates.collect::<Vec<_>>());
    let fates = stations.iter().flat_map(|station| {
        let fate =
            |(fate, word)| (format!("{{node=\"{}\",fate=\"{word}\"}}", station.node), u64::from(station.fate == fate));
        FATES.map(fate)
    });
    metric(text, "learn_row_fate", "gauge", "1 at what became of a row at the last step.", &fates.collect::<Vec<_>>());
}

const FATES: [(Fate, &str); 5] = [
    (Fate::Waiting, "waiting"),
    (Fate::Used, "used"),
    (Fate::Gated, "gated"),
    (Fate::Old, "old"),
    (Fate::Frozen, "frozen"),
];

fn of_nodes(text: &mut String, learners: &[(NodeId, LearnStats)]) {
    let of = |value: fn(&LearnStats) -> u64| {
        learners.iter().map(|(node, stats)| (label(node), value(stats))).collect::<Vec<_>>()
    };
    for (name, kind, help, samples) in [
        ("node_learn_version", "gauge", "The version of the head that a node learns from.", of(|stats| stats.version)),
        ("node_learn_used_version", "gauge", "The version that it judges by.", of(|stats| stats.used_version)),
        ("node_learn_held_out", "gauge", "Examples that it compares heads by.", of(|stats| stats.held_out.into())),
        ("node_learn_acked_total", "counter", "Updates that the coordinator has, of a run.", of(|stats| stats.acked)),
        ("node_learn_heads_taken_total", "counter", "Heads taken to judge by, in a run.", of(|stats| stats.taken)),
        ("node_learn_heads_kept_total", "counter", "Times that the one before stayed.", of(|stats| stats.kept)),
    ] {
        metric(text, name, kind, help, &samples);
    }
    let examples = learners.iter().flat_map(|(node, stats)| {
        let of = |(source, count)| (format!("{{node=\"{node}\",source=\"{source}\"}}"), count);
        let by = [
            ("operator", stats.confirmed),
            ("tracker", stats.tracked),
            ("neighbours", stats.agreed),
            ("teacher", stats.taught),
        ];
        by.map(of)
    });
    metric(text, "node_learn_examples", "gauge", "Examples by who says what they are.", &examples.collect::<Vec<_>>());
}

/// Names are of letters, digits and `-_.`, so that none needs escaping.
fn label(node: &NodeId) -> String {
    format!("{{node=\"{node}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_station_and_each_node_learns_is_told_by_its_name() {
        let station = serde_json::json!({
            "node": "gate-3", "updates": 7, "repeated": 2, "age": 4, "norm": 0.5, "clip": 0.25, "gate": -0.5, "fate": "gated",
            "loss": 0.75,
        });
        let learning = serde_json::json!({
            "time": 1.0, "lineage": "ab".repeat(8), "version": 9, "released": 5, "frozen": false, "why": "", "mixing": "nnm_gate",
            "root_lacks": "", "root_samples": [120, 110], "stations": [station], "refused": {"learn_future": 3},
            "curve": [{"time": 1.0, "version": 9, "rows": 1, "step": 0.1, "loss": 0.5, "canary": 0.875}],
        });
        let learning: Learning = serde_json::from_value(learning).unwrap();
        let node = NodeId::new("gate-3").unwrap();
        let stats = LearnStats {
            version: 9,
            used_version: 8,
            confirmed: 24,
            tracked: 40,
            agreed: 5,
            taught: 3,
            held_out: 12,
            acked: 6,
            taken: 2,
            kept: 1,
        };
        let mut text = String::new();
        metrics(&mut text, Some(&learning), &[(node, stats)]);
        for line in [
            "picket_learn_version 9",
            "picket_learn_released_version 5",
            "picket_learn_frozen 0",
            "picket_learn_gate 1",
            "picket_learn_stations 1",
            "picket_learn_root_samples{class=\"1\"} 110",
            "picket_learn_canary_ratio 0.875",
            "picket_learn_refused_total{reason=\"learn_future\"} 3",
            "# TYPE picket_learn_updates_total counter",
            "picket_learn_updates_total{node=\"gate-3\"} 7",
            "picket_learn_updates_repeated_total{node=\"gate-3\"} 2",
            "picket_learn_row_age_versions{node=\"gate-3\"} 4",
            "picket_learn_row_norm{node=\"gate-3\"} 0.5",
            "picket_learn_row_clip_ratio{node=\"gate-3\"} 0.25",
            "picket_learn_row_gate_cosine{node=\"gate-3\"} -0.5",
            "picket_learn_loss{node=\"gate-3\"} 0.75",
            "picket_learn_row_fate{node=\"gate-3\",fate=\"gated\"} 1",
            "picket_learn_row_fate{node=\"gate-3\",fate=\"used\"} 0",
            "picket_node_learn_version{node=\"gate-3\"} 9",
            "picket_node_learn_used_version{node=\"gate-3\"} 8",
            "picket_node_learn_examples{node=\"gate-3\",source=\"operator\"} 24",
            "picket_node_learn_examples{node=\"gate-3\",source=\"tracker\"} 40",
            "picket_node_learn_examples{node=\"gate-3\",source=\"neighbours\"} 5",
            "picket_node_learn_examples{node=\"gate-3\",source=\"teacher\"} 3",
            "picket_node_learn_held_out{node=\"gate-3\"} 12",
            "picket_node_learn_acked_total{node=\"gate-3\"} 6",
            "picket_node_learn_heads_taken_total{node=\"gate-3\"} 2",
            "picket_node_learn_heads_kept_total{node=\"gate-3\"} 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        // A metric is declared once.
        let mut declared: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        declared.sort_unstable();
        assert!(declared.windows(2).all(|pair| pair[0] != pair[1]), "{text}");
        // Where nothing is learned nothing is said.
        let mut nothing = String::new();
        metrics(&mut nothing, None, &[]);
        assert_eq!(nothing, "");
    }
}
