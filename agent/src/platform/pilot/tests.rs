//! The pilot against a small autopilot that loses messages, answers late, says no, and asks again: over real UDP, and in a time
//! that only passes when it is told to.

use std::net::UdpSocket as StdSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use mavlink::dialects::common::*;
use picket_shared::duty::{Epoch, How, StandbyDuty};
use picket_shared::ids::{NodeId, StationId};
use picket_shared::platform::Action;

use super::autopilot::{AUTO, Autopilot, Faults, GUIDED, RTL, STABILIZE};
use super::vehicle::{AGAIN_MS, ANSWER_MS, REPEATS_MAX};
use super::*;

const GOAL: &str = "52.0116,4.3571,30;52.0117,4.3572,40";
/// What becomes of it: home, take-off, a waypoint, and the last, where it stays.
const MISSION: [(u32, i32, i32, f32); 4] = [
    (16, 520_116_000, 43_571_000, 0.0),
    (22, 520_116_000, 43_571_000, 30.0),
    (16, 520_116_000, 43_571_000, 30.0),
    (17, 520_117_000, 43_572_000, 40.0),
];

fn task(action: Action, name: &str, count: u32, goal: &str) -> Task {
    let station = StationId::new(name).unwrap();
    let (home, ranks, cameras, goal) = (NodeId::new("edge").unwrap(), vec![], None, Some(goal.to_owned()));
    let duty = StandbyDuty { station: station.clone(), home, ranks, how: How::Flight, cameras, goal };
    Task { action, station, epoch: Epoch::new(1, count), duty: Some(duty) }
}

fn go(name: &str) -> Task {
    task(Action::Go, name, 1, GOAL)
}

fn leave(name: &str) -> Task {
    task(Action::Leave, name, 1, GOAL)
}

fn settings(arm: bool, on_leave: OnLeave) -> Settings {
    Settings { vehicle: 1, arm, on_leave }
}

// ---- Without a clock ------------------------------------------------------------------------------------------------

/// A vehicle's pilot and its autopilot, and what is on its way between them.
struct Air {
    vehicle: Vehicle,
    autopilot: Autopilot,
    now_ms: u64,
    /// When it arrives, and whether at the autopilot.
    flying: Vec<(u64, bool, MavMessage)>,
    sent: Vec<MavMessage>,
}

impl Air {
    fn new(settings: Settings, faults: Faults) -> Air {
        let (vehicle, autopilot) = (Vehicle::new(0, settings), Autopilot::with(faults));
        Air { vehicle, autopilot, now_ms: 0, flying: vec![], sent: vec![] }
    }

    fn order(&mut self, task: &Task) {
        let mut out = Vec::new();
        self.vehicle.order(self.now_ms, task, &mut out);
        self.launch(out, true);
    }

    fn launch(&mut self, messages: Vec<MavMessage>, to_autopilot: bool) {
        for message in messages {
            if to_autopilot {
                self.sent.push(message.clone());
            }
            if !self.autopilot.faults.silent && !self.autopilot.is_lost() {
                self.flying.push((self.now_ms + self.autopilot.faults.late_ms, to_autopilot, message));
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.now_ms += 10;
            let (landed, flying) =
                std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= self.now_ms);
            self.flying = flying;
            for (_, to_autopilot, message) in landed {
                let mut out = Vec::new();
                if to_autopilot {
                    out = self.autopilot.hear(self.now_ms, &message);
                } else {
                    let from = MavHeader { system_id: 1, component_id: 1, sequence: 0 };
                    self.vehicle.heard(self.now_ms, from, &message, &mut out);
                }
                self.launch(out, !to_autopilot);
            }
            let said = self.autopilot.tick(self.now_ms);
            self.launch(said, false);
            let mut out = Vec::new();
            if self.now_ms >= self.vehicle.next_wakeup_ms() {
                self.vehicle.tick(self.now_ms, &mut out);
            }
            self.launch(out, true);
        }
    }

    fn problems(&self) -> String {
        self.vehicle.problems(self.now_ms).join("; ")
    }

    fn counts(&self, of: fn(&MavMessage) -> bool) -> usize {
        self.sent.iter().filter(|message| of(message)).count()
    }
}

#[test]
fn whatever_the_way_does_to_messages_the_mission_arrives_whole_and_is_started_and_ended() {
    let of_old = Faults { asks_of_old: true, ..Faults::default() };
    let again = Faults { asks_again: true, late_ms: 40, ..Faults::default() };
    let far = Faults { late_ms: 900, works_on_it: true, ..Faults::default() };
    for seed in 0..40 {
        let lossy = Faults { lost: 20, late_ms: seed * 7, ..Faults::default() };
        for faults in [Faults::default(), of_old.clone(), again.clone(), far.clone(), lossy] {
            let what = format!("{seed} {faults:?}");
            let mut air = Air::new(settings(false, OnLeave::Rtl), faults);
            air.autopilot.rng = seed;
            air.wait(1_000);
            air.order(&go("gate"));
            // A repetition can fail as a whole where much is lost; then it is begun again.
            air.wait(60_000);
            assert_eq!(air.autopilot.mission(), MISSION, "{what}");
            assert_eq!((air.autopilot.mode, air.problems().as_str()), (AUTO, ""), "{what}");
            assert!(air.autopilot.started >= 1 && air.autopilot.armed, "{what}");
            assert!(!air.autopilot.commands.contains(&MavCmd::MAV_CMD_COMPONENT_ARM_DISARM), "{what}");
            air.order(&leave("gate"));
            air.wait(30_000);
            assert_eq!((air.autopilot.mode, air.problems().as_str()), (RTL, ""), "{what}");
            assert_eq!(air.autopilot.companions, [(18, 8)].into(), "an onboard controller, and no autopilot");
        }
    }
}

#[test]
fn it_is_armed_where_that_is_allowed_and_left_alone_where_not() {
    let mut air = Air::new(settings(true, OnLeave::Hold), Faults::default());
    air.autopilot.armed = false;
    air.wait(1_000);
    air.order(&go("gate"));
    air.wait(10_000);
    assert!(air.autopilot.armed && air.autopilot.started == 1, "{}", air.problems());
    air.order(&leave("gate"));
    air.wait(5_000);
    assert_eq!((air.autopilot.mode, air.problems().as_str()), (GUIDED, ""), "it holds");

    let mut air = Air::new(settings(false, OnLeave::Rtl), Faults::default());
    air.autopilot.armed = false;
    air.wait(1_000);
    air.order(&go("gate"));
    air.wait(5_000);
    assert!(air.problems().contains("is not armed, and may not be"), "{}", air.problems());
    assert!(air.autopilot.commands.is_empty() && air.autopilot.mission.is_empty());
    air.autopilot.armed = true;
    air.wait(AGAIN_MS + 10_000);
    assert_eq!((air.autopilot.started, air.problems().as_str()), (1, ""), "somebody armed it");
}

#[test]
fn what_the_vehicle_refuses_is_said_and_tried_again_until_it_does_not() {
    let no = |command| Faults { command: Some((command, MavResult::MAV_RESULT_DENIED)), ..Faults::default() };
    for (faults, expect) in [
        (
            Faults { mission: Some(MavMissionResult::MAV_MISSION_NO_SPACE), ..Faults::default() },
            "refuses its mission (MAV_MISSION_NO_SPACE)",
        ),
        (no(MavCmd::MAV_CMD_DO_SET_MODE), "refuses to fly its mission (AUTO) (MAV_RESULT_DENIED)"),
        (no(MavCmd::MAV_CMD_MISSION_START), "refuses to start its mission (MAV_RESULT_DENIED)"),
        (Faults { stuck: true, ..Faults::default() }, "accepts and does not follow the command to fly its mission"),
    ] {
        let mut air = Air::new(settings(false, OnLeave::Rtl), faults);
        air.wait(1_000);
        air.order(&go("gate"));
        air.wait(25_000);
        assert!(air.problems().contains(expect), "{} and not {expect}", air.problems());
        air.autopilot.faults = Faults::default();
        air.wait(AGAIN_MS + 30_000);
        assert_eq!((air.autopilot.started, air.problems().as_str()), (1, ""), "{expect}");
    }
}

#[test]
fn an_unanswered_message_is_said_six_times_and_then_it_has_failed() {
    let mut air = Air::new(settings(false, OnLeave::Rtl), Faults::default());
    air.wait(1_000);
    // It lives, and takes nothing.
    air.autopilot.faults.lost = 0;
    let deaf = |message: &MavMessage| matches!(message, MavMessage::MISSION_COUNT(_));
    let mut out = Vec::new();
    air.vehicle.order(air.now_ms, &go("gate"), &mut out);
    air.sent.extend(out);
    let began_ms = air.now_ms;
    while air.problems().is_empty() {
        air.now_ms += 10;
        let mut out = Vec::new();
        let from = MavHeader { system_id: 1, component_id: 1, sequence: 0 };
        for beat in air.autopilot.tick(air.now_ms) {
            air.vehicle.heard(air.now_ms, from, &beat, &mut out);
        }
        air.vehicle.tick(air.now_ms, &mut out);
        air.sent.extend(out);
    }
    assert_eq!(air.counts(deaf), 1 + usize::from(REPEATS_MAX));
    assert_eq!(air.now_ms - began_ms, u64::from(REPEATS_MAX + 1) * ANSWER_MS);
    assert!(air.problems().contains("does not take its mission"), "{}", air.problems());
}

#[test]
fn a_vehicle_that_is_not_heard_is_a_problem_and_is_told_as_soon_as_it_is() {
    let mut air = Air::new(settings(false, OnLeave::Rtl), Faults { silent: true, ..Faults::default() });
    air.order(&go("gate"));
    air.wait(4_000);
    assert_eq!(air.problems(), "", "it has time to be heard");
    air.wait(2_000);
    assert!(air.problems().contains("is not heard"), "{}", air.problems());
    air.autopilot.faults = Faults::default();
    air.wait(5_000);
    assert_eq!((air.autopilot.started, air.problems().as_str()), (1, ""));
    // The link is lost while it is out, and the order to leave waits for it.
    air.autopilot.faults.silent = true;
    air.wait(SILENT_MS);
    air.order(&leave("gate"));
    air.wait(60_000);
    assert!(air.problems().contains("is not heard"), "{}", air.problems());
    assert_eq!(air.autopilot.mode, AUTO);
    air.autopilot.faults.silent = false;
    air.wait(AGAIN_MS + 5_000);
    assert_eq!((air.autopilot.mode, air.problems().as_str()), (RTL, ""));
}

#[test]
fn what_its_pilot_takes_over_is_not_called_back() {
    let mut air = Air::new(settings(false, OnLeave::Rtl), Faults::default());
    air.wait(1_000);
    air.order(&go("gate"));
    air.wait(5_000);
    air.autopilot.mode = STABILIZE;
    air.wait(2_000);
    assert!(air.problems().contains("taken out of its mission"), "{}", air.problems());
    air.order(&leave("gate"));
    air.wait(30_000);
    assert_eq!((air.autopilot.mode, air.problems().as_str()), (STABILIZE, ""));
}

#[test]
fn leaving_in_the_middle_of_an_upload_cancels_it_and_moves_nothing() {
    let mut air = Air::new(settings(true, OnLeave::Rtl), Faults { late_ms: 300, ..Faults::default() });
    air.wait(1_000);
    air.order(&go("gate"));
    air.wait(800);
    air.order(&leave("gate"));
    air.wait(20_000);
    assert_eq!((air.autopilot.cancelled, air.autopilot.commands.len()), (1, 0), "it never moved");
    assert_eq!(air.problems(), "");
}

#[test]
fn it_is_at_one_place_and_goes_to_the_next_when_that_is_left() {
    let mut air = Air::new(settings(false, OnLeave::Rtl), Faults::default());
    air.wait(1_000);
    air.order(&go("gate"));
    air.wait(5_000);
    air.order(&task(Action::Go, "yard", 1, "1,2,3"));
    air.wait(5_000);
    assert!(air.problems().contains("wanted at gate and yard at once"), "{}", air.problems());
    assert_eq!(air.autopilot.mission(), MISSION);
    air.order(&leave("gate"));
    air.wait(5_000);
    assert_eq!((air.autopilot.mission().last().unwrap().1, air.problems().as_str()), (10_000_000, ""));
    assert!(!air.autopilot.commands.contains(&MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH));
    air.order(&task(Action::Go, "mill", 1, "over there"));
    air.wait(1_000);
    assert!(air.problems().contains("does not go to mill: the waypoint \"over there\""), "{}", air.problems());
    air.order(&leave("mill"));
    assert_eq!(air.problems(), "");
}

#[test]
fn messages_of_others_and_for_others_mean_nothing() {
    let mut air = Air::new(settings(false, OnLeave::Rtl), Faults::default());
    air.wait(1_000);
    air.order(&go("gate"));
    let mut out = Vec::new();
    let ask = |target_system, target_component| {
        MavMessage::MISSION_REQUEST_INT(MISSION_REQUEST_INT_DATA {
            seq: 0,
            target_system,
            target_component,
            ..MISSION_REQUEST_INT_DATA::DEFAULT
        })
    };
    let from = |system_id, component_id| MavHeader { system_id, component_id, sequence: 0 };
    // A ground station uploads a mission of its own; another vehicle asks; a camera of this vehicle asks.
    for (from, message) in [(from(1, 1), ask(255, 190)), (from(2, 1), ask(1, OURS)), (from(1, 100), ask(1, OURS))] {
        air.vehicle.heard(air.now_ms, from, &message, &mut out);
        assert_eq!(out, [], "{from:?}");
    }
    // That it has a mission is no answer to one that it has not asked for.
    let has = MISSION_ACK_DATA { target_system: 1, target_component: OURS, ..MISSION_ACK_DATA::DEFAULT };
    air.vehicle.heard(air.now_ms, from(1, 1), &MavMessage::MISSION_ACK(has), &mut out);
    assert_eq!(out, []);
    air.vehicle.heard(air.now_ms, from(1, 1), &ask(1, OURS), &mut out);
    assert_eq!(out.len(), 1);
}

// ---- Over a socket --------------------------------------------------------------------------------------------------

/// An autopilot in a thread, at a port of this machine.
struct Flying {
    port: u16,
    autopilot: Arc<Mutex<Autopilot>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flying {
    fn start(faults: Faults) -> Flying {
        let socket = StdSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let autopilot = Arc::new(Mutex::new(Autopilot::with(faults)));
        let over = Arc::new(AtomicBool::new(false));
        let (shared, ended) = (Arc::clone(&autopilot), Arc::clone(&over));
        let thread = std::thread::spawn(move || fly_at(&socket, &shared, &ended));
        Flying { port, autopilot, over, thread: Some(thread) }
    }

    fn until(&self, what: &str, pilot: &Pilot, done: impl Fn(&Autopilot) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !done(&self.autopilot.lock().unwrap()) {
            assert!(Instant::now() < deadline, "waited for {what}: {:?}", pilot.problems());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn fly_at(socket: &StdSocket, autopilot: &Mutex<Autopilot>, over: &AtomicBool) {
    let (began, mut bytes, mut peer) = (Instant::now(), [0; 2048], None);
    while !over.load(Relaxed) {
        let heard = socket.recv_from(&mut bytes);
        let now_ms = began.elapsed().as_millis() as u64;
        let mut autopilot = autopilot.lock().unwrap();
        let mut out = autopilot.tick(now_ms);
        if let Ok((length, from)) = heard {
            peer = Some(from);
            let mut reader = MavlinkReader::new(&bytes[..length]);
            while let Ok((header, message)) = reader.read_any_message::<MavMessage>() {
                assert_eq!((header.system_id, header.component_id), (1, OURS));
                if !autopilot.is_lost() {
                    out.extend(autopilot.hear(now_ms, &message));
                }
            }
        }
        for message in out {
            if let Some(peer) = peer
                && !autopilot.is_lost()
            {
                let mut frame = Vec::new();
                let header = MavHeader { system_id: 1, component_id: 1, sequence: 0 };
                mavlink::write_v2_msg(&mut frame, header, &message).unwrap();
                socket.send_to(&frame, peer).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_udp_and_a_lossy_link_it_flies_there_and_returns() {
    let flying = Flying::start(Faults { lost: 20, asks_again: true, ..Faults::default() });
    let link = LinkUrl::try_from(format!("udpout:localhost:{}", flying.port)).unwrap();
    let pilot = Pilot::start(link, 1, false, OnLeave::Rtl);
    pilot.order(&go("gate"));
    flying.until("the mission to be started", &pilot, |autopilot| autopilot.started > 0);
    assert_eq!(flying.autopilot.lock().unwrap().mission(), MISSION);
    pilot.order(&leave("gate"));
    flying.until("the vehicle to return", &pilot, |autopilot| autopilot.mode == RTL);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !pilot.is_told() {
        assert!(Instant::now() < deadline, "{:?}", pilot.problems());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(pilot.problems(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_be_spoken_to_answers_whoever_spoke_first() {
    let own = StdSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pilot = Pilot::start(LinkUrl::try_from(format!("udpin:{own}")).unwrap(), 1, false, OnLeave::Rtl);
    let [first, second] = [(); 2].map(|()| StdSocket::bind("127.0.0.1:0").unwrap());
    let (mut frame, mut bytes) = (Vec::new(), [0; 512]);
    let beat = Autopilot::default().tick(0).remove(0);
    mavlink::write_v2_msg(&mut frame, MavHeader { system_id: 1, component_id: 1, sequence: 0 }, &beat).unwrap();
    for socket in [&first, &second] {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    }
    first.send_to(&frame, own).unwrap();
    while first.recv_from(&mut bytes).is_err() {
        first.send_to(&frame, own).unwrap();
    }
    second.send_to(&frame, own).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(1_500))).unwrap();
    assert!(second.recv_from(&mut bytes).is_err(), "it speaks with another");
    assert!(first.recv_from(&mut bytes).is_ok());
    drop(pilot);
}

#[test]
fn a_link_is_read_or_refused_with_the_right_form() {
    for (text, expect) in [
        ("udpout:127.0.0.1:14550", Some("udpout:127.0.0.1:14550")),
        ("udpout:drone.lan:14550", Some("udpout:drone.lan:14550")),
        ("udpin:0.0.0.0:14550", Some("udpin:0.0.0.0:14550")),
        ("udpin:drone:14550", None),
        ("udpout:h", None),
        ("udpout::14550", None),
        ("udpout:h:0", None),
        ("serial:/dev/ttyUSB0:57600", None),
    ] {
        let read = LinkUrl::try_from(text.to_owned());
        assert_eq!(read.as_ref().map(ToString::to_string).ok().as_deref(), expect, "{text}");
        assert!(read.is_ok() || read.unwrap_err().contains("udpout:host:14550"));
    }
}
