//! What nodes last said of their models. The coordinator that runs hears them; a copy beside the registry lets the command line
//! show them. The copy is no record: a broker says what is retained again, and a node says it anew on each connection.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use picket_shared::ids::{NodeId, StationId};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::learn::lineage::Lineage;
use picket_shared::limits::NODES_MAX;
use picket_shared::model::ModelState;
use picket_shared::status;
use serde::{Deserialize, Serialize};

use super::learned::Learner;
use crate::swarm::Refusal;

/// The copy's name.
const FILE: &str = "reports.json";
/// Its size: a kilobyte of each of [`NODES_MAX`] nodes, and room.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Characters that are kept of each text of a report.
const TEXT_CHARS_MAX: usize = 200;

/// What is known of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The station that it watches, as it says itself.
    pub station: Option<StationId>,
    /// It is not down.
    pub reachable: bool,
    /// What it last said of its models; nothing where it has said nothing.
    pub state: Option<ModelState>,
}

/// What is known of all of them.
pub type Reports = BTreeMap<NodeId, Report>;

/// Takes in what a node says; true where that is news to anybody.
pub fn hear(reports: &mut Reports, node: &NodeId, payload: &[u8]) -> Result<bool, Refusal> {
    let state = trimmed(status::read(payload)?);
    let report = of(reports, node).ok_or_else(|| {
        ("too_many_nodes", format!("{node} is one node more than {NODES_MAX} that say what they run"))
    })?;
    let same = |before: &ModelState| ModelState { time: before.time, ..state.clone() } == *before;
    let news = !report.state.as_ref().is_some_and(same);
    report.state = Some(state);
    Ok(news)
}

/// Who learns heads of this lineage.
pub fn learners(reports: &Reports, lineage: &Lineage) -> Vec<Learner> {
    let learner = |(node, report): (&NodeId, &Report)| {
        let learned = report.state.as_ref()?.learned.as_ref()?;
        let ours = lineage.backbone.eq_ignore_ascii_case(&learned.backbone.to_string());
        let own = || StationId::new(node.as_str()).expect("a node's name is a station's name");
        let (node, judges) = (node.clone(), learned.judges);
        ours.then(|| Learner { station: report.station.clone().unwrap_or_else(own), node, judges })
    };
    reports.iter().filter_map(learner).collect()
}

/// Takes in where a node is, and whether it is there; true where that is news.
pub fn see(reports: &mut Reports, node: &NodeId, station: Option<&StationId>, reachable: bool) -> bool {
    let Some(report) = of(reports, node) else { return false };
    let before = (report.station.clone(), report.reachable);
    report.station = station.cloned().or(report.station.take());
    report.reachable = reachable;
    before != (report.station.clone(), reachable)
}

fn of<'a>(reports: &'a mut Reports, node: &NodeId) -> Option<&'a mut Report> {
    if !reports.contains_key(node) && reports.len() >= NODES_MAX {
        return None;
    }
    Some(reports.entry(node.clone()).or_default())
}

/// Without what is of no use here, and of no greater length than anybody reads.
fn trimmed(mut state: ModelState) -> ModelState {
    state.slots.clear();
    state.counters.clear();
    let learned = state.learned.as_mut().map(|learned| [&mut learned.reason, &mut learned.detail]);
    for text in [&mut state.reason, &mut state.detail].into_iter().chain(learned.into_iter().flatten()).flatten() {
        *text = text.chars().take(TEXT_CHARS_MAX).collect();
    }
    state
}

/// Writes the copy.
pub fn save(dir: &Path, reports: &Reports) -> Result<(), KeyfileError> {
    keyfile::write_open(&dir.join(FILE), &serde_json::to_vec(reports).expect("names, numbers and texts"))
}

/// Reads the copy; nothing where there is none. The error is a sentence.
pub fn saved(dir: &Path) -> Result<Reports, String> {
    let path = dir.join(FILE);
    let mut text = Vec::new();
    match File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Reports::new()),
        Err(error) => Err(format!("{} cannot be read ({error})", path.display())),
        Ok(_) => serde_json::from_slice(&text)
            .map_err(|error| format!("{} is damaged ({error}); a running coordinator writes it anew", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        NodeId::new("gate-1").unwrap()
    }

    fn said(time: u64, detail: &str) -> Vec<u8> {
        let text = format!(
            "{{\"time\":{time},\"phase\":\"idle\",\"active\":null,\"candidate\":null,\"bytes\":0,\"bytes_wanted\":0,\"slots\":[],\
             \"trial\":null,\"reason\":null,\"detail\":\"{detail}\",\"root\":1,\"assignment\":3,\"counters\":{{\"person\":3}}}}"
        );
        text.into_bytes()
    }

    #[test]
    fn only_what_changed_is_news_and_long_texts_are_cut() {
        let mut reports = Reports::new();
        assert_eq!(hear(&mut reports, &node(), &said(1, "a")), Ok(true));
        assert_eq!(hear(&mut reports, &node(), &said(2, "a")), Ok(false), "only its time is another");
        assert_eq!(reports[&node()].state.as_ref().unwrap().time, 2);
        assert_eq!(hear(&mut reports, &node(), &said(3, &"b".repeat(5_000))), Ok(true));
        let state = reports[&node()].state.clone().unwrap();
        assert_eq!((state.detail.unwrap().len(), state.counters.len()), (TEXT_CHARS_MAX, 0));
        assert_eq!(hear(&mut reports, &node(), b"{}").unwrap_err().0, "malformed");
        let gate = StationId::new("gate").unwrap();
        assert!(see(&mut reports, &node(), Some(&gate), true) && !see(&mut reports, &node(), None, true));
        assert!(see(&mut reports, &node(), None, false));
        assert_eq!(reports[&node()].station.as_ref(), Some(&gate));
    }

    #[test]
    fn nobody_more_than_a_site_has_is_remembered() {
        let mut reports = Reports::new();
        for n in 0..NODES_MAX {
            see(&mut reports, &NodeId::new(format!("n{n}")).unwrap(), None, true);
        }
        assert_eq!(hear(&mut reports, &node(), &said(1, "a")).unwrap_err().0, "too_many_nodes");
        assert!(!see(&mut reports, &node(), None, true) && reports.len() == NODES_MAX);
    }

    #[test]
    fn the_copy_is_read_back_and_a_damaged_one_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(saved(dir.path()), Ok(Reports::new()));
        let mut reports = Reports::new();
        hear(&mut reports, &node(), &said(1, "a")).unwrap();
        save(dir.path(), &reports).unwrap();
        assert_eq!(saved(dir.path()), Ok(reports));
        std::fs::write(dir.path().join(FILE), b"{").unwrap();
        assert!(saved(dir.path()).unwrap_err().contains("a running coordinator writes it anew"));
    }
}
