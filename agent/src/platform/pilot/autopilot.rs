//! A small autopilot for tests: a copter with a firmware like ArduPilot's, which loses messages, answers late, says no, and asks
//! again. Pure, so that it flies in a drawn time as well as behind a socket.
#![allow(deprecated, reason = "an old vehicle asks with a message of old")]

use std::collections::BTreeSet;

use mavlink::dialects::common::*;

use super::vehicle::OURS;

pub(super) const GUIDED: u32 = 4;
pub(super) const AUTO: u32 = 3;
pub(super) const RTL: u32 = 6;
pub(super) const STABILIZE: u32 = 0;

/// What is wrong with an autopilot or the way to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// Of a hundred messages, each way.
    pub(super) lost: u64,
    pub(super) late_ms: u64,
    /// It asks with the message of old.
    pub(super) asks_of_old: bool,
    /// It asks for each item twice, and once for one that is not there.
    pub(super) asks_again: bool,
    pub(super) mission: Option<MavMissionResult>,
    pub(super) command: Option<(MavCmd, MavResult)>,
    /// It says yes to changes of mode and does nothing.
    pub(super) stuck: bool,
    /// It says first that it works on it.
    pub(super) works_on_it: bool,
    pub(super) silent: bool,
}

/// A copter with a firmware like ArduPilot's.
#[derive(Default)]
pub(super) struct Autopilot {
    pub(super) faults: Faults,
    pub(super) armed: bool,
    pub(super) mode: u32,
    pub(super) mission: Vec<MISSION_ITEM_INT_DATA>,
    pub(super) upload: Option<(u16, Vec<MISSION_ITEM_INT_DATA>)>,
    pub(super) asked_ms: u64,
    pub(super) beat_ms: u64,
    pub(super) started: u32,
    pub(super) commands: Vec<MavCmd>,
    pub(super) cancelled: u32,
    pub(super) companions: BTreeSet<(u8, u8)>,
    pub(super) rng: u64,
}

impl Autopilot {
    pub(super) fn with(faults: Faults) -> Autopilot {
        Autopilot { faults, armed: true, ..Autopilot::default() }
    }

    pub(super) fn is_lost(&mut self) -> bool {
        self.rng = self.rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.rng >> 33) % 100 < self.faults.lost
    }

    pub(super) fn mission(&self) -> Vec<(u32, i32, i32, f32)> {
        self.mission.iter().map(|item| (item.command as u32, item.x, item.y, item.z)).collect()
    }

    /// What it says by itself.
    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<MavMessage> {
        let mut out = Vec::new();
        if now_ms >= self.beat_ms {
            self.beat_ms = now_ms + 500;
            let armed = if self.armed { MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED } else { MavModeFlag::empty() };
            out.push(MavMessage::HEARTBEAT(HEARTBEAT_DATA {
                custom_mode: self.mode,
                mavtype: MavType::MAV_TYPE_QUADROTOR,
                autopilot: MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA,
                base_mode: armed,
                system_status: MavState::MAV_STATE_ACTIVE,
                mavlink_version: 3,
            }));
        }
        if self.upload.is_some() && now_ms >= self.asked_ms + 250 {
            out.extend(self.ask(now_ms));
        }
        out
    }

    fn ask(&mut self, now_ms: u64) -> Vec<MavMessage> {
        self.asked_ms = now_ms;
        let Some((_, items)) = &self.upload else { return vec![] };
        let (target_system, target_component) = (1, OURS);
        let ask = |seq| {
            if self.faults.asks_of_old {
                let ask =
                    MISSION_REQUEST_DATA { seq, target_system, target_component, ..MISSION_REQUEST_DATA::DEFAULT };
                return MavMessage::MISSION_REQUEST(ask);
            }
            let ask =
                MISSION_REQUEST_INT_DATA { seq, target_system, target_component, ..MISSION_REQUEST_INT_DATA::DEFAULT };
            MavMessage::MISSION_REQUEST_INT(ask)
        };
        let next = items.len() as u16;
        if self.faults.asks_again { vec![ask(next), ask(next), ask(900)] } else { vec![ask(next)] }
    }

    fn acknowledge(&self, mavtype: MavMissionResult) -> Vec<MavMessage> {
        let (target_system, target_component) = (1, OURS);
        vec![MavMessage::MISSION_ACK(MISSION_ACK_DATA {
            target_system,
            target_component,
            mavtype,
            ..MISSION_ACK_DATA::DEFAULT
        })]
    }

    pub(super) fn hear(&mut self, now_ms: u64, message: &MavMessage) -> Vec<MavMessage> {
        match message {
            MavMessage::HEARTBEAT(beat) => {
                self.companions.insert((beat.mavtype as u8, beat.autopilot as u8));
                vec![]
            }
            MavMessage::MISSION_COUNT(count) => {
                if let Some(result) = self.faults.mission {
                    return self.acknowledge(result);
                }
                self.upload = Some((count.count, Vec::new()));
                self.ask(now_ms)
            }
            MavMessage::MISSION_ITEM_INT(item) => {
                let Some((count, items)) = &mut self.upload else { return vec![] };
                if usize::from(item.seq) != items.len() {
                    return self.acknowledge(MavMissionResult::MAV_MISSION_INVALID_SEQUENCE);
                }
                items.push(item.clone());
                if items.len() < usize::from(*count) {
                    return self.ask(now_ms);
                }
                self.mission = self.upload.take().unwrap().1;
                self.acknowledge(MavMissionResult::MAV_MISSION_ACCEPTED)
            }
            MavMessage::MISSION_ACK(ack) => {
                assert_eq!(ack.mavtype, MavMissionResult::MAV_MISSION_OPERATION_CANCELLED);
                (self.cancelled, self.upload) = (self.cancelled + 1, None);
                vec![]
            }
            MavMessage::COMMAND_LONG(command) => self.obey(command),
            other => panic!("{other:?}"),
        }
    }

    fn obey(&mut self, order: &COMMAND_LONG_DATA) -> Vec<MavMessage> {
        assert_eq!((order.target_system, order.target_component), (1, 1));
        self.commands.push(order.command);
        let answer = |result| {
            let (command, target_system, target_component) = (order.command, 1, OURS);
            let ack =
                COMMAND_ACK_DATA { command, result, target_system, target_component, ..COMMAND_ACK_DATA::DEFAULT };
            MavMessage::COMMAND_ACK(ack)
        };
        if let Some((command, result)) = self.faults.command
            && command == order.command
        {
            return vec![answer(result)];
        }
        match order.command {
            MavCmd::MAV_CMD_DO_SET_MODE if self.faults.stuck => {}
            MavCmd::MAV_CMD_DO_SET_MODE => self.mode = order.param2 as u32,
            MavCmd::MAV_CMD_COMPONENT_ARM_DISARM => {
                assert_eq!(self.mode, GUIDED, "it arms in GUIDED only");
                self.armed = order.param1 == 1.0;
            }
            MavCmd::MAV_CMD_DO_SET_MISSION_CURRENT => return vec![answer(MavResult::MAV_RESULT_UNSUPPORTED)],
            MavCmd::MAV_CMD_MISSION_START => {
                assert!(self.armed && self.mode == AUTO && !self.mission.is_empty(), "started as it may be");
                self.started += 1;
            }
            MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH => self.mode = RTL,
            other => panic!("{other:?}"),
        }
        let done = answer(MavResult::MAV_RESULT_ACCEPTED);
        if self.faults.works_on_it { vec![answer(MavResult::MAV_RESULT_IN_PROGRESS), done] } else { vec![done] }
    }
}
