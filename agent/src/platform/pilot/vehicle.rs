//! One vehicle, as it is talked to: uploads a mission, starts it, and calls it back, by the mission and command protocols of
//! MAVLink with their waits and repetitions. Pure: messages and the time come in, messages go out.
//!
//! It believes what the vehicle's own heartbeat says before what an answer says. Somebody who takes the vehicle out of its
//! mission, a pilot or its own failsafe, has it: nothing more is commanded then but what a new order asks for.

use std::collections::{BTreeMap, VecDeque};

use mavlink::MavHeader;
use mavlink::dialects::common::{
    COMMAND_LONG_DATA, HEARTBEAT_DATA, MISSION_ACK_DATA, MISSION_COUNT_DATA, MISSION_ITEM_INT_DATA, MavAutopilot,
    MavMessage, MavMissionResult, MavMissionType, MavModeFlag, MavResult, MavState, MavType,
};
use picket_shared::duty::Epoch;
use picket_shared::ids::StationId;
use picket_shared::platform::Action;

use super::OnLeave;
use super::flight::{AUTOPILOT, Done, Kind, Step};
use super::goal::{Waypoint, waypoints};
use crate::platform::orders::Task;

/// Ours, beside the autopilot of the same vehicle: its onboard computer.
pub(super) const OURS: u8 = 191;
/// How often we say that we are there.
const BEAT_MS: u64 = 1_000;
/// Without a heartbeat for so long, the vehicle is not there.
pub(super) const SILENT_MS: u64 = 5_000;
/// What is not answered within this is said again: MAVLink's own figure.
pub(super) const ANSWER_MS: u64 = 1_500;
/// How often it is said again before it has failed: MAVLink's own figure.
pub(super) const REPEATS_MAX: u8 = 5;
/// What the vehicle says to be at, or has accepted, may take so long to be seen.
const PROGRESS_MS: u64 = 10_000;
/// What failed is tried again after this, as long as it is wanted.
pub(super) const AGAIN_MS: u64 = 10_000;

/// How it is to be flown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// Its system id.
    pub(super) vehicle: u8,
    /// It may be armed.
    pub(super) arm: bool,
    /// What it does when it has to leave.
    pub(super) on_leave: OnLeave,
}

/// A station where it is wanted, and the way there.
struct Errand {
    station: StationId,
    epoch: Epoch,
    way: Vec<Waypoint>,
}

/// A message that is said until it is answered.
struct Wait {
    message: MavMessage,
    due_ms: u64,
    repeats: u8,
}

enum Doing {
    /// Nothing: it is where it should be, as far as it was told.
    Rest,
    /// To be begun as soon as the vehicle is heard and this time has come.
    Due(u64),
    /// The vehicle asks for the items, one after the other.
    Upload { items: Vec<MISSION_ITEM_INT_DATA>, last_sent: bool, wait: Wait },
    /// The first step is under way.
    Steps { steps: VecDeque<Step>, accepted: bool, wait: Wait },
}

/// One vehicle.
pub(super) struct Vehicle {
    settings: Settings,
    began_ms: u64,
    heard_ms: Option<u64>,
    kind: Option<Kind>,
    beat_due_ms: u64,
    /// Where it is wanted, in the order of the orders. It can be at the first only.
    wanted: Vec<Errand>,
    /// Where it was told to be, or is being told.
    aim: Option<(StationId, Epoch)>,
    doing: Doing,
    /// It has been told to move since it was last called back.
    moved: bool,
    /// It was seen on its mission.
    seen_on_mission: bool,
    failure: Option<String>,
    bad_goals: BTreeMap<StationId, String>,
}

impl Vehicle {
    pub(super) fn new(now_ms: u64, settings: Settings) -> Vehicle {
        Vehicle {
            settings,
            began_ms: now_ms,
            heard_ms: None,
            kind: None,
            beat_due_ms: now_ms,
            wanted: Vec::new(),
            aim: None,
            doing: Doing::Rest,
            moved: false,
            seen_on_mission: false,
            failure: None,
            bad_goals: BTreeMap::new(),
        }
    }

    /// Its system id, and ours.
    pub(super) fn system(&self) -> u8 {
        self.settings.vehicle
    }

    /// Takes an order.
    pub(super) fn order(&mut self, now_ms: u64, task: &Task, out: &mut Vec<MavMessage>) {
        self.bad_goals.remove(&task.station);
        let at = self.wanted.iter().position(|errand| errand.station == task.station);
        match (task.action, waypoints(task.goal())) {
            (Action::Leave, _) => drop(at.map(|at| self.wanted.remove(at))),
            (Action::Go, Ok(way)) => {
                let errand = Errand { station: task.station.clone(), epoch: task.epoch, way };
                match at {
                    Some(at) => self.wanted[at] = errand,
                    None => self.wanted.push(errand),
                }
            }
            (Action::Go, Err(what)) => {
                drop(at.map(|at| self.wanted.remove(at)));
                self.bad_goals.insert(task.station.clone(), what);
            }
        }
        let aim = self.wanted.first().map(|errand| (errand.station.clone(), errand.epoch));
        if aim != self.aim {
            if matches!(self.doing, Doing::Upload { .. }) {
                out.push(self.cancel_upload());
            }
            (self.aim, self.failure) = (aim, None);
            self.begin(now_ms, out);
            self.seen_on_mission = false;
        }
    }

    /// Takes a message that came over the link.
    pub(super) fn heard(&mut self, now_ms: u64, from: MavHeader, message: &MavMessage, out: &mut Vec<MavMessage>) {
        if (from.system_id, from.component_id) != (u32::from(self.settings.vehicle), AUTOPILOT) {
            return;
        }
        match message {
            MavMessage::HEARTBEAT(beat) => self.beat(now_ms, beat, out),
            MavMessage::MISSION_REQUEST_INT(request) => {
                let to = (request.target_system, request.target_component);
                self.requested(now_ms, to, request.mission_type, request.seq, out);
            }
            // Its successor is as old as most vehicles, and the answer to both is the same.
            #[allow(deprecated)]
            MavMessage::MISSION_REQUEST(request) => {
                let to = (request.target_system, request.target_component);
                self.requested(now_ms, to, request.mission_type, request.seq, out);
            }
            MavMessage::MISSION_ACK(ack) => {
                let ours = self.is_ours((ack.target_system, ack.target_component));
                if ours && ack.mission_type == MavMissionType::MAV_MISSION_TYPE_MISSION {
                    self.uploaded(now_ms, ack.mavtype, out);
                }
            }
            MavMessage::COMMAND_ACK(ack) => {
                // An older vehicle does not say to whom it answers.
                let to = (ack.target_system, ack.target_component);
                let current = matches!(&self.doing, Doing::Steps { steps, .. }
                    if steps.front().is_some_and(|step| step.command.command == ack.command));
                if current && (to == (0, 0) || self.is_ours(to)) {
                    self.answered(now_ms, ack.result, out);
                }
            }
            _ => {}
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now_ms: u64, out: &mut Vec<MavMessage>) {
        if now_ms >= self.beat_due_ms {
            self.beat_due_ms = now_ms + BEAT_MS;
            out.push(our_beat());
        }
        match &mut self.doing {
            Doing::Rest => {}
            Doing::Due(due_ms) => {
                if now_ms >= *due_ms && self.is_heard(now_ms) {
                    self.begin(now_ms, out);
                }
            }
            Doing::Upload { wait, .. } | Doing::Steps { wait, .. } if now_ms < wait.due_ms => {}
            Doing::Upload { wait, .. } | Doing::Steps { wait, accepted: false, .. } if wait.repeats < REPEATS_MAX => {
                wait.repeats += 1;
                wait.due_ms = now_ms + ANSWER_MS;
                if let MavMessage::COMMAND_LONG(command) = &mut wait.message {
                    command.confirmation = wait.repeats;
                }
                out.push(wait.message.clone());
            }
            Doing::Upload { .. } => {
                out.push(self.cancel_upload());
                self.fail(
                    now_ms,
                    "does not take its mission: it no longer asks for it, nor says that it has it".into(),
                );
            }
            Doing::Steps { steps, accepted, .. } => {
                let what = steps.front().map_or("", |step| step.what);
                let how = if *accepted { "accepts and does not follow" } else { "does not answer" };
                self.fail(now_ms, format!("{how} the command to {what}"));
            }
        }
    }

    /// When [`Vehicle::tick`] is due at the latest.
    pub(super) fn next_wakeup_ms(&self) -> u64 {
        let due_ms = match &self.doing {
            Doing::Upload { wait, .. } | Doing::Steps { wait, .. } => wait.due_ms,
            Doing::Due(due_ms) if self.heard_ms.is_some_and(|heard_ms| *due_ms < heard_ms + SILENT_MS) => *due_ms,
            Doing::Due(_) | Doing::Rest => u64::MAX,
        };
        due_ms.min(self.beat_due_ms)
    }

    /// Whether it has been told all that was ordered.
    pub(super) fn is_told(&self) -> bool {
        matches!(self.doing, Doing::Rest)
    }

    /// What is wrong, in a sentence each, without the vehicle's name in front.
    pub(super) fn problems(&self, now_ms: u64) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.is_heard(now_ms) && now_ms >= self.began_ms + SILENT_MS {
            problems.push("is not heard; check its power, the address, and that it sends heartbeats there".to_owned());
        }
        problems.extend(self.failure.clone());
        if let [at, also, ..] = &self.wanted[..] {
            problems
                .push(format!("is wanted at {} and {} at once, and stays with the first", at.station, also.station));
        }
        problems.extend(self.bad_goals.iter().map(|(station, what)| format!("does not go to {station}: {what}")));
        if self.was_taken() {
            problems
                .push("was taken out of its mission, by its pilot or its own failsafe, and is left alone".to_owned());
        }
        problems
    }

    fn is_heard(&self, now_ms: u64) -> bool {
        self.heard_ms.is_some_and(|heard_ms| now_ms < heard_ms + SILENT_MS)
    }

    fn is_ours(&self, (system, component): (u8, u8)) -> bool {
        system == self.settings.vehicle && (component == OURS || component == 0)
    }

    /// It was told all, was on its mission, and is no more.
    fn was_taken(&self) -> bool {
        self.seen_on_mission && self.kind.and_then(Kind::is_on_mission) == Some(false)
    }

    fn begin(&mut self, now_ms: u64, out: &mut Vec<MavMessage>) {
        let kind = match self.kind {
            Some(kind) if self.is_heard(now_ms) => kind,
            _ => return self.doing = Doing::Due(now_ms),
        };
        let Settings { vehicle, arm, on_leave } = self.settings;
        let Some(errand) = self.wanted.first() else {
            if !self.moved || self.was_taken() {
                (self.moved, self.doing) = (false, Doing::Rest);
                return;
            }
            return self.take_steps(now_ms, [kind.leave(vehicle, on_leave)].into(), out);
        };
        if !kind.armed && !arm {
            return self.fail(now_ms, "is not armed, and may not be: arm it, or set platform.arm = true".into());
        }
        let items = kind.items(vehicle, &errand.way);
        let count = MavMessage::MISSION_COUNT(MISSION_COUNT_DATA {
            count: items.len() as u16,
            target_system: vehicle,
            target_component: AUTOPILOT,
            ..MISSION_COUNT_DATA::DEFAULT
        });
        out.push(count.clone());
        self.doing = Doing::Upload { items, last_sent: false, wait: Wait::new(now_ms, count) };
    }

    fn beat(&mut self, now_ms: u64, beat: &HEARTBEAT_DATA, out: &mut Vec<MavMessage>) {
        let kind = Kind::of(beat);
        (self.heard_ms, self.kind) = (Some(now_ms), Some(kind));
        match &self.doing {
            Doing::Rest => self.seen_on_mission |= self.aim.is_some() && kind.is_on_mission() == Some(true),
            Doing::Due(due_ms) if now_ms >= *due_ms => self.begin(now_ms, out),
            Doing::Steps { steps, accepted: true, .. } => {
                let seen = match steps.front().map(|step| step.done) {
                    Some(Done::InMode(mode)) => kind.mode == mode,
                    Some(Done::Armed) => kind.armed,
                    _ => false,
                };
                if seen {
                    self.next_step(now_ms, out);
                }
            }
            _ => {}
        }
    }

    fn requested(&mut self, now_ms: u64, to: (u8, u8), kind: MavMissionType, seq: u16, out: &mut Vec<MavMessage>) {
        if !self.is_ours(to) || kind != MavMissionType::MAV_MISSION_TYPE_MISSION {
            return;
        }
        let Doing::Upload { items, last_sent, wait } = &mut self.doing else { return };
        // What lies beyond the end is not ours to give: the vehicle asks again, or gives up.
        let Some(item) = items.get(usize::from(seq)) else { return };
        *last_sent |= usize::from(seq) + 1 == items.len();
        let message = MavMessage::MISSION_ITEM_INT(item.clone());
        out.push(message.clone());
        *wait = Wait::new(now_ms, message);
    }

    fn uploaded(&mut self, now_ms: u64, result: MavMissionResult, out: &mut Vec<MavMessage>) {
        let Doing::Upload { last_sent, .. } = &self.doing else { return };
        match result {
            // One that comes before the last item was asked for answers an earlier upload.
            MavMissionResult::MAV_MISSION_ACCEPTED if !last_sent => {}
            MavMissionResult::MAV_MISSION_ACCEPTED => {
                let (Settings { vehicle, arm, .. }, kind) = (self.settings, self.kind);
                let kind = kind.expect("an upload begins only with a vehicle that was heard");
                self.take_steps(now_ms, kind.set_out(vehicle, arm).into(), out);
            }
            // An item came twice or late; the vehicle goes on asking.
            MavMissionResult::MAV_MISSION_INVALID_SEQUENCE => {}
            refused => self.fail(now_ms, format!("refuses its mission ({refused:?}); check the goal of the site plan")),
        }
    }

    fn answered(&mut self, now_ms: u64, result: MavResult, out: &mut Vec<MavMessage>) {
        let Doing::Steps { steps, accepted, wait } = &mut self.doing else { return };
        let Some(step) = steps.front() else { return };
        match (result, step.done) {
            (MavResult::MAV_RESULT_IN_PROGRESS, _) => wait.due_ms = now_ms + PROGRESS_MS,
            (MavResult::MAV_RESULT_ACCEPTED, Done::InMode(_) | Done::Armed) => {
                if !std::mem::replace(accepted, true) {
                    wait.due_ms = now_ms + PROGRESS_MS;
                }
            }
            (MavResult::MAV_RESULT_ACCEPTED, _) => self.next_step(now_ms, out),
            (MavResult::MAV_RESULT_UNSUPPORTED, Done::AcceptedOrUnknown) => self.next_step(now_ms, out),
            (refused, _) => {
                let what = step.what;
                self.fail(now_ms, format!("refuses to {what} ({refused:?}); its own messages say why"));
            }
        }
    }

    fn take_steps(&mut self, now_ms: u64, steps: VecDeque<Step>, out: &mut Vec<MavMessage>) {
        let Some(step) = steps.front() else { return self.arrive() };
        // From the first command on, it may move.
        self.moved = true;
        let message = MavMessage::COMMAND_LONG(COMMAND_LONG_DATA { confirmation: 0, ..step.command.clone() });
        out.push(message.clone());
        self.doing = Doing::Steps { steps, accepted: false, wait: Wait::new(now_ms, message) };
    }

    fn next_step(&mut self, now_ms: u64, out: &mut Vec<MavMessage>) {
        if let Doing::Steps { steps, .. } = &mut self.doing {
            let mut steps = std::mem::take(steps);
            steps.pop_front();
            self.take_steps(now_ms, steps, out);
        }
    }

    fn arrive(&mut self) {
        (self.doing, self.failure) = (Doing::Rest, None);
        self.moved = self.aim.is_some();
    }

    fn fail(&mut self, now_ms: u64, what: String) {
        self.failure = Some(what);
        self.doing = Doing::Due(now_ms + AGAIN_MS);
    }

    fn cancel_upload(&self) -> MavMessage {
        MavMessage::MISSION_ACK(MISSION_ACK_DATA {
            target_system: self.settings.vehicle,
            target_component: AUTOPILOT,
            mavtype: MavMissionResult::MAV_MISSION_OPERATION_CANCELLED,
            ..MISSION_ACK_DATA::DEFAULT
        })
    }
}

impl Wait {
    fn new(now_ms: u64, message: MavMessage) -> Wait {
        Wait { message, due_ms: now_ms + ANSWER_MS, repeats: 0 }
    }
}

fn our_beat() -> MavMessage {
    MavMessage::HEARTBEAT(HEARTBEAT_DATA {
        custom_mode: 0,
        mavtype: MavType::MAV_TYPE_ONBOARD_CONTROLLER,
        autopilot: MavAutopilot::MAV_AUTOPILOT_INVALID,
        base_mode: MavModeFlag::empty(),
        system_status: MavState::MAV_STATE_ACTIVE,
        mavlink_version: 3,
    })
}
