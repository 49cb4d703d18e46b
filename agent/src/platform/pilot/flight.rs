//! What a kind of vehicle must be told so that it flies to some waypoints, stays there, and comes back: mission items and
//! commands. Pure.
//!
//! Modes have numbers of each firmware's own; those of a firmware that is not known are left alone, and only the commands
//! that MAVLink itself defines are sent.

use mavlink::dialects::common::{
    COMMAND_LONG_DATA, HEARTBEAT_DATA, MISSION_ITEM_INT_DATA, MavAutopilot, MavCmd, MavFrame, MavModeFlag, MavType,
};

use super::OnLeave;
use super::goal::Waypoint;

/// An autopilot's component id.
pub(super) const AUTOPILOT: u8 = 1;
/// That the number of a mode is the firmware's own.
const CUSTOM_MODE: f32 = 1.0;

/// What a vehicle says of itself in its heartbeat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kind {
    autopilot: MavAutopilot,
    vehicle: MavType,
    /// Its motors may turn.
    pub(super) armed: bool,
    /// Its mode, by the firmware's own number.
    pub(super) mode: u32,
}

/// What ends a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// The vehicle says yes.
    Accepted,
    /// The vehicle says yes, or does not know the command.
    AcceptedOrUnknown,
    /// Its heartbeat says that it is armed.
    Armed,
    /// Its heartbeat says that it is in this mode. A yes alone could be a late one to an earlier change of mode.
    InMode(u32),
}

/// One command.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) command: COMMAND_LONG_DATA,
    pub(super) done: Done,
    /// In a few words.
    pub(super) what: &'static str,
}

/// The numbers of a firmware's modes.
struct Modes {
    /// In which it flies a mission.
    mission: u32,
    /// In which it can be armed and waits for orders, where it is not any mode.
    guided: Option<u32>,
    /// In which it stays where it is, without anybody at a stick.
    hold: u32,
}

impl Kind {
    pub(super) fn of(beat: &HEARTBEAT_DATA) -> Kind {
        let armed = beat.base_mode.contains(MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED);
        Kind { autopilot: beat.autopilot, vehicle: beat.mavtype, armed, mode: beat.custom_mode }
    }

    fn is_ardupilot(self) -> bool {
        self.autopilot == MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA
    }

    fn is_copter(self) -> bool {
        use MavType::*;
        matches!(
            self.vehicle,
            MAV_TYPE_QUADROTOR
                | MAV_TYPE_COAXIAL
                | MAV_TYPE_HELICOPTER
                | MAV_TYPE_HEXAROTOR
                | MAV_TYPE_OCTOROTOR
                | MAV_TYPE_TRICOPTER
                | MAV_TYPE_DODECAROTOR
                | MAV_TYPE_DECAROTOR
                | MAV_TYPE_GENERIC_MULTIROTOR
        )
    }

    fn is_on_wheels_or_water(self) -> bool {
        matches!(self.vehicle, MavType::MAV_TYPE_GROUND_ROVER | MavType::MAV_TYPE_SURFACE_BOAT)
    }

    fn modes(self) -> Option<Modes> {
        match self.autopilot {
            MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA if self.is_copter() => {
                Some(Modes { mission: 3, guided: Some(4), hold: 4 })
            }
            MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA if self.is_on_wheels_or_water() => {
                Some(Modes { mission: 10, guided: Some(15), hold: 4 })
            }
            MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA => Some(Modes { mission: 10, guided: Some(15), hold: 12 }),
            // The main mode AUTO is 4; its own modes MISSION 4 and LOITER 3.
            MavAutopilot::MAV_AUTOPILOT_PX4 => Some(Modes { mission: px4(4, 4), guided: None, hold: px4(4, 3) }),
            _ => None,
        }
    }

    /// Whether it flies a mission; nothing where its modes are not known.
    pub(super) fn is_on_mission(self) -> Option<bool> {
        self.modes().map(|modes| modes.mission == self.mode)
    }

    /// The mission that goes to these waypoints and stays at the last.
    pub(super) fn items(self, vehicle: u8, way: &[Waypoint]) -> Vec<MISSION_ITEM_INT_DATA> {
        let item = |frame, command, at: &Waypoint, z| MISSION_ITEM_INT_DATA {
            // Where a yaw is asked for: PX4 keeps its own for not-a-number, the others for 0.
            param4: if self.autopilot == MavAutopilot::MAV_AUTOPILOT_PX4 { f32::NAN } else { 0.0 },
            x: at.lat_e7,
            y: at.lon_e7,
            z,
            command,
            target_system: vehicle,
            target_component: AUTOPILOT,
            frame,
            autocontinue: 1,
            ..MISSION_ITEM_INT_DATA::DEFAULT
        };
        let above = MavFrame::MAV_FRAME_GLOBAL_RELATIVE_ALT;
        let (first, last) = (&way[0], way.len() - 1);
        let mut items = Vec::with_capacity(way.len() + 2);
        if self.is_ardupilot() {
            // The first item is its home, which it knows better.
            items.push(item(MavFrame::MAV_FRAME_GLOBAL, MavCmd::MAV_CMD_NAV_WAYPOINT, first, 0.0));
        }
        if self.is_copter() || (!self.armed && !self.is_on_wheels_or_water()) {
            items.push(item(above, MavCmd::MAV_CMD_NAV_TAKEOFF, first, first.alt_m));
        }
        for (n, at) in way.iter().enumerate() {
            let command = if n == last { MavCmd::MAV_CMD_NAV_LOITER_UNLIM } else { MavCmd::MAV_CMD_NAV_WAYPOINT };
            items.push(item(above, command, at, at.alt_m));
        }
        let numbered = (0..).zip(items);
        numbered.map(|(seq, item)| MISSION_ITEM_INT_DATA { seq, current: u8::from(seq == 0), ..item }).collect()
    }

    /// What begins the mission that it has, from its first waypoint.
    pub(super) fn set_out(self, vehicle: u8, may_arm: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let modes = self.modes();
        if may_arm && !self.armed {
            if let Some(guided) = modes.as_ref().and_then(|modes| modes.guided) {
                steps.push(self.enter(vehicle, guided, "wait for orders (GUIDED)"));
            }
            let mut arm = command(vehicle, MavCmd::MAV_CMD_COMPONENT_ARM_DISARM);
            arm.param1 = 1.0;
            steps.push(Step { command: arm, done: Done::Armed, what: "arm" });
        }
        let mut first = command(vehicle, MavCmd::MAV_CMD_DO_SET_MISSION_CURRENT);
        first.param1 = if self.is_ardupilot() { 1.0 } else { 0.0 };
        steps.push(Step { command: first, done: Done::AcceptedOrUnknown, what: "begin with the first waypoint" });
        if let Some(modes) = modes {
            steps.push(self.enter(vehicle, modes.mission, "fly its mission (AUTO)"));
        }
        let start = command(vehicle, MavCmd::MAV_CMD_MISSION_START);
        steps.push(Step { command: start, done: Done::Accepted, what: "start its mission" });
        steps
    }

    /// What makes it leave.
    pub(super) fn leave(self, vehicle: u8, how: OnLeave) -> Step {
        match (how, self.modes()) {
            (OnLeave::Rtl, _) => {
                let command = command(vehicle, MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH);
                Step { command, done: Done::Accepted, what: "return to where it took off" }
            }
            (OnLeave::Hold, Some(modes)) => self.enter(vehicle, modes.hold, "hold"),
            (OnLeave::Hold, None) => {
                // Its first parameter is 0: pause.
                let command = command(vehicle, MavCmd::MAV_CMD_DO_PAUSE_CONTINUE);
                Step { command, done: Done::Accepted, what: "hold" }
            }
        }
    }

    fn enter(self, vehicle: u8, mode: u32, what: &'static str) -> Step {
        let mut command = command(vehicle, MavCmd::MAV_CMD_DO_SET_MODE);
        command.param1 = CUSTOM_MODE;
        (command.param2, command.param3) = match self.autopilot {
            MavAutopilot::MAV_AUTOPILOT_PX4 => ((mode >> 16 & 0xff) as f32, (mode >> 24) as f32),
            _ => (mode as f32, 0.0),
        };
        Step { command, done: Done::InMode(mode), what }
    }
}

fn px4(main: u32, sub: u32) -> u32 {
    main << 16 | sub << 24
}

fn command(vehicle: u8, command: MavCmd) -> COMMAND_LONG_DATA {
    let (target_system, target_component) = (vehicle, AUTOPILOT);
    COMMAND_LONG_DATA { command, target_system, target_component, ..COMMAND_LONG_DATA::DEFAULT }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(autopilot: MavAutopilot, vehicle: MavType, armed: bool) -> Kind {
        Kind { autopilot, vehicle, armed, mode: 0 }
    }

    const WAY: [Waypoint; 2] =
        [Waypoint { lat_e7: 1, lon_e7: 2, alt_m: 30.0 }, Waypoint { lat_e7: 3, lon_e7: 4, alt_m: 40.0 }];

    #[test]
    fn a_mission_begins_as_its_firmware_expects_and_stays_at_its_end() {
        use MavAutopilot::*;
        use MavType::*;
        for (kind, expect) in [
            (kind(MAV_AUTOPILOT_ARDUPILOTMEGA, MAV_TYPE_QUADROTOR, true), &[16, 22, 16, 17][..]),
            (kind(MAV_AUTOPILOT_PX4, MAV_TYPE_HEXAROTOR, true), &[22, 16, 17]),
            (kind(MAV_AUTOPILOT_ARDUPILOTMEGA, MAV_TYPE_GROUND_ROVER, false), &[16, 16, 17]),
            (kind(MAV_AUTOPILOT_PX4, MAV_TYPE_FIXED_WING, true), &[16, 17]),
            (kind(MAV_AUTOPILOT_PX4, MAV_TYPE_FIXED_WING, false), &[22, 16, 17]),
        ] {
            let items = kind.items(7, &WAY);
            assert_eq!(items.iter().map(|item| item.command as u32).collect::<Vec<_>>(), expect, "{kind:?}");
            assert!(items.iter().enumerate().all(|(n, item)| usize::from(item.seq) == n && item.target_system == 7));
            let last = items.last().unwrap();
            assert_eq!((last.x, last.y, last.z, last.frame as u32), (3, 4, 40.0, 3));
        }
    }

    #[test]
    fn modes_are_those_of_the_firmware_and_nothing_arms_unless_it_may() {
        use MavAutopilot::*;
        use MavType::*;
        let said = |steps: Vec<Step>| -> Vec<(u32, u32, u32)> {
            let number =
                |step: Step| (step.command.command as u32, step.command.param2 as u32, step.command.param3 as u32);
            steps.into_iter().map(number).collect()
        };
        let copter = kind(MAV_AUTOPILOT_ARDUPILOTMEGA, MAV_TYPE_QUADROTOR, false);
        assert_eq!(said(copter.set_out(1, true)), [(176, 4, 0), (400, 0, 0), (224, 0, 0), (176, 3, 0), (300, 0, 0)]);
        assert_eq!(said(copter.set_out(1, false)), [(224, 0, 0), (176, 3, 0), (300, 0, 0)]);
        let flying = Kind { armed: true, ..copter };
        assert_eq!(said(flying.set_out(1, true)), [(224, 0, 0), (176, 3, 0), (300, 0, 0)]);
        let px4 = kind(MAV_AUTOPILOT_PX4, MAV_TYPE_QUADROTOR, false);
        assert_eq!(said(px4.set_out(1, true)), [(400, 0, 0), (224, 0, 0), (176, 4, 4), (300, 0, 0)]);
        let other = kind(MAV_AUTOPILOT_GENERIC, MAV_TYPE_QUADROTOR, true);
        assert_eq!(said(other.set_out(1, true)), [(224, 0, 0), (300, 0, 0)]);
        for (kind, how, expect) in [
            (copter, OnLeave::Rtl, (20, 0, 0)),
            (copter, OnLeave::Hold, (176, 4, 0)),
            (px4, OnLeave::Hold, (176, 4, 3)),
            (other, OnLeave::Hold, (193, 0, 0)),
        ] {
            assert_eq!(said(vec![kind.leave(1, how)]), [expect]);
        }
    }
}
