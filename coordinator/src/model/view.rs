//! What people and other systems are shown of models: one document for the dashboard, and for each node what Home Assistant
//! takes for an update. Pure.
//!
//! Home Assistant finds the entity by [`discovery`] and reads [`update`]
//! (<https://www.home-assistant.io/integrations/update.mqtt/>). It is told of no topic to order an installation on: whatever
//! changes a device is a signed order, and there is no second way.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::ids::{ModelName, NodeId, OperatorName, SiteId, StationId};
use picket_shared::learn::view::{ReleaseStation, ReleaseView};
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::model::rollouts::{Course, GroupView, ModelsView, RolloutView, Stage, StationModel};
use picket_shared::model::{ModelPhase, ModelState, RunningModel};
use picket_shared::topics::{HOME_ASSISTANT_OPERATOR, Topic};
use serde_json::json;

use super::goal::{Goal, LearnedGoal};
use super::record::{Record, ReleaseRef};
use super::reports::Reports;
use super::rollout::{Rollout, Tally};
use crate::view::json as bytes_of;

/// Rollouts in the document: the open ones, and what was before.
pub const ROLLOUTS_SHOWN_MAX: usize = 8;
/// Releases of the learned head that are shown.
pub const RELEASES_SHOWN_MAX: usize = 8;
/// Stations of all of them together: with a sentence of each they leave the packet room for the rest of the page on learning.
pub const RELEASE_STATIONS_SHOWN_MAX: usize = 512;
/// What the learned head is called where a model has a name.
const LEARNED: &str = "learned";
/// Largest document: one packet, less its topic and header.
const VIEW_BYTES_MAX: usize = PACKET_BYTES_MAX - 1024;
/// What a model of a node's own configuration is called.
const OWN: &str = "own";
/// Home Assistant shows no more of a summary.
const SUMMARY_CHARS_MAX: usize = 255;

/// All that is known of a site's models.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Every rollout, the oldest first.
    pub rollouts: &'a [Rollout],
    /// What stands on record.
    pub records: &'a [Record],
    /// Stations that are held to what they run.
    pub pins: &'a BTreeSet<StationId>,
    /// What nodes say.
    pub reports: &'a Reports,
}

/// A model in words.
pub fn words(model: &RunningModel) -> String {
    match &model.name {
        Some(name) => format!("{name} {}", model.counter),
        None => OWN.to_owned(),
    }
}

fn release_words(release: Option<&ReleaseRef>) -> String {
    release.map_or(OWN.to_owned(), ToString::to_string)
}

/// Releases of the learned head, as the page on learning has them: the newest first, and of the first ones each station.
pub fn releases(rollouts: &[Rollout]) -> Vec<ReleaseView> {
    let mut room = RELEASE_STATIONS_SHOWN_MAX;
    let release = |(rollout, goal): (&Rollout, &LearnedGoal)| {
        let mut stations = Vec::new();
        for (at, group) in rollout.groups.iter().enumerate() {
            let canary = at == 0 && goal.revert_of.is_none();
            let members = group.nodes.iter().filter_map(|node| Some((node, rollout.members.get(node)?)));
            stations.extend(members.take(room - stations.len()).map(|(node, member)| ReleaseStation {
                node: node.clone(),
                canary,
                outcome: member.stage,
                samples: member.figures.map_or(0, |figures| figures.samples),
                difference: member.figures.and_then(|figures| figures.difference),
                error: member.figures.and_then(|figures| figures.error),
                why: member.detail.clone().or_else(|| member.reason.clone()),
            }));
        }
        room -= stations.len();
        ReleaseView {
            version: goal.learned.version,
            revert_of: goal.revert_of,
            time: rollout.begun_s as f64,
            course: rollout.course,
            why: rollout.why.clone(),
            stations,
        }
    };
    let learned = rollouts.iter().rev().filter_map(|rollout| Some((rollout, rollout.goal.learned()?)));
    learned.take(RELEASES_SHOWN_MAX).map(release).collect()
}

/// The document.
pub fn document(time: f64, known: Known<'_>) -> ModelsView {
    let of_models = known.rollouts.iter().rev().filter(|rollout| rollout.goal.release().is_some());
    let rollouts = of_models.take(ROLLOUTS_SHOWN_MAX).map(rollout).collect();
    ModelsView { time, rollouts, stations: stations(known) }
}

/// The document as it travels. Where many nodes with much to say would not fit one packet, sentences and figures are left out.
pub fn payload(mut view: ModelsView) -> Vec<u8> {
    let whole = bytes_of(&view);
    if whole.len() <= VIEW_BYTES_MAX {
        return whole;
    }
    view.stations.iter_mut().for_each(|station| (station.detail, station.trial) = (None, None));
    let trimmed = bytes_of(&view);
    if trimmed.len() <= VIEW_BYTES_MAX {
        return trimmed;
    }
    view.rollouts.truncate(1);
    view.stations.iter_mut().for_each(|station| (station.reason, station.fetched) = (None, None));
    bytes_of(&view)
}

/// One rollout as people see it.
pub fn rollout(rollout: &Rollout) -> RolloutView {
    let group = |(at, group): (usize, &super::rollout::Group)| {
        let Tally { committed, failed, pending, aside } = rollout.tally(at);
        let [committed, failed, pending, aside] = [committed, failed, pending, aside].map(|count| count as u64);
        GroupView { name: group.name.clone(), members: group.nodes.len() as u64, committed, failed, pending, aside }
    };
    let (model, counter, head) = match &rollout.goal {
        Goal::Release(goal) => (goal.release.name.clone(), goal.release.counter, goal.head),
        Goal::Learned(goal) => (ModelName::new(LEARNED).expect("a constant name"), goal.learned.version, None),
    };
    RolloutView {
        number: rollout.number,
        model,
        counter,
        head,
        begun: rollout.begun_s,
        course: rollout.course,
        why: rollout.why.clone(),
        group: rollout.group as u64,
        groups: rollout.groups.iter().enumerate().map(group).collect(),
    }
}

/// Each node that has said anything of its models, is assigned one, or is in a rollout, by name.
pub fn stations(known: Known<'_>) -> Vec<StationModel> {
    let records: BTreeMap<&NodeId, &Record> = known.records.iter().map(|record| (&record.node, record)).collect();
    let of_models = || known.rollouts.iter().filter(|rollout| rollout.goal.release().is_some());
    let members = of_models().flat_map(|rollout| rollout.members.keys());
    let nodes: BTreeSet<&NodeId> = records.keys().copied().chain(known.reports.keys()).chain(members).collect();
    let own = |node: &NodeId| StationId::new(node.as_str()).expect("a node's name is a station's name");
    let station = |node: &NodeId| {
        let (record, report) = (records.get(node), known.reports.get(node));
        let newest = of_models().rev().find_map(|rollout| Some((rollout, rollout.members.get(node)?)));
        let by_itself = report.and_then(|report| report.station.clone());
        let of_record = || record.map(|record| record.wish.station.clone());
        let of_rollout = || newest.map(|(_, member)| member.station.clone());
        let station = by_itself.or_else(of_record).or_else(of_rollout).unwrap_or_else(|| own(node));
        let state = report.and_then(|report| report.state.as_ref());
        let fetches = |state: &&ModelState| {
            matches!(state.phase, ModelPhase::Fetching | ModelPhase::Checking) && state.bytes_wanted > 0
        };
        StationModel {
            node: node.clone(),
            pinned: known.pins.contains(&station),
            station,
            runs: state.and_then(|state| state.active.as_ref()).map(words),
            assigned: record.map(|record| release_words(record.wish.release.as_ref())),
            phase: state.map(|state| state.phase),
            rollout: newest.map(|(rollout, _)| rollout.number),
            stage: newest.map(|(_, member)| member.stage),
            fetched: state.filter(fetches).map(|state| state.bytes as f64 / state.bytes_wanted as f64),
            reason: state.and_then(|state| state.reason.clone()),
            detail: state.and_then(|state| state.detail.clone()),
            trial: state.and_then(|state| state.trial.clone()),
        }
    };
    nodes.into_iter().map(station).collect()
}

/// What Home Assistant is told once of a node: that there is something that may be updated, and where to read of it.
pub fn discovery(site: &SiteId, node: &NodeId, station: &StationId) -> Vec<u8> {
    let id = format!("picket_{site}_{node}");
    let config = json!({
        "name": "Detection model",
        "unique_id": format!("{id}_model"),
        "state_topic": Topic::ViewUpdate(node.clone()).render(site),
        "entity_category": "diagnostic",
        "availability": [{
            "topic": Topic::CoordinatorHealth.render(site),
            "value_template": "{{ 'online' if value_json.status == 'up' else 'offline' }}",
        }],
        "device": {
            "identifiers": [id],
            "name": node.as_str(),
            "manufacturer": "Picket",
            "model": "camera node",
            "suggested_area": station.as_str(),
        },
        "origin": { "name": "picket-coordinator", "sw_version": env!("CARGO_PKG_VERSION") },
    });
    bytes_of(&config)
}

/// What Home Assistant is told once of a button: whoever presses it says of the node's last event that somebody was there, or nobody.
/// It says when, because what a broker kept would be of another event.
pub fn button(site: &SiteId, node: &NodeId, person: bool) -> Vec<u8> {
    let id = format!("picket_{site}_{node}");
    let name = OperatorName::new(HOME_ASSISTANT_OPERATOR).expect("a constant name");
    let word = if person { "Somebody was there" } else { "Nobody was there" };
    let config = json!({
        "name": word,
        "unique_id": format!("{id}_{}", if person { "somebody" } else { "nobody" }),
        "icon": if person { "mdi:account-check" } else { "mdi:account-off" },
        "command_topic": Topic::OperatorLabels(name).render(site),
        "command_template": format!(
            "{{\"last\":{{\"node\":\"{node}\",\"person\":{person},\"time\":{{{{ now().timestamp() }}}}}}}}"
        ),
        "retain": false,
        "availability": [{
            "topic": Topic::CoordinatorHealth.render(site),
            "value_template": "{{ 'online' if value_json.status == 'up' else 'offline' }}",
        }],
        "device": { "identifiers": [id], "name": node.as_str(), "manufacturer": "Picket", "model": "camera node" },
        "origin": { "name": "picket-coordinator", "sw_version": env!("CARGO_PKG_VERSION") },
    });
    bytes_of(&config)
}

/// What Home Assistant reads of a node: what it runs, what it is to run, and how far it is with that; nothing of one that has not
/// said what it runs.
pub fn update(view: &ModelsView, station: &StationModel) -> Option<Vec<u8>> {
    let installed = station.runs.clone()?;
    // What an open rollout will tell it is newer than what it was told.
    let waits = |rollout: &&RolloutView| {
        Some(rollout.number) == station.rollout
            && station.stage == Some(Stage::Waiting)
            && matches!(rollout.course, Course::Running | Course::Paused)
    };
    let coming = view.rollouts.iter().find(waits).map(|rollout| format!("{} {}", rollout.model, rollout.counter));
    let in_progress = station.phase.is_some_and(|phase| {
        !matches!(phase, ModelPhase::Idle | ModelPhase::Refused | ModelPhase::RolledBack | ModelPhase::Waiting)
    });
    let update = json!({
        "installed_version": installed,
        "latest_version": coming.or(station.assigned.clone()).unwrap_or(installed.clone()),
        "title": "Picket detection model",
        "in_progress": in_progress,
        "update_percentage": station.fetched.map(|share| (share * 100.0).clamp(0.0, 100.0).floor()),
        "release_summary": station.detail.iter().flat_map(|detail| detail.chars()).take(SUMMARY_CHARS_MAX).collect::<String>(),
    });
    Some(bytes_of(&update))
}
