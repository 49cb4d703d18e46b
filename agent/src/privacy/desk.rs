//! Judges orders for pictures: which are answered, which are refused and by what name, and what is said of one that came before.
//! Pure: it sees no picture, and writes nothing.

use std::collections::{BTreeMap, VecDeque};

use picket_shared::ids::RequestId;
use picket_shared::limits::PICTURE_LIFE_S_MAX;
use picket_shared::picture::{PictureOrder, PictureState, Stage};

use super::{Config, Refusal, Requests};

/// Requests that are answered at once.
pub const WORKING_MAX: usize = 4;
/// Requests that are known at once.
const KNOWN_MAX: usize = 256;
const HOUR_S: u64 = 60 * 60;

/// What to do with an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Answer it; it is known from here on.
    Begin,
    /// Do not; it is known from here on, and its state is to be said.
    Refuse(Refusal),
    /// It is known: say its state, and these parts where it was answered.
    Again(Vec<u32>),
    /// Who asked wants no more of it.
    Forget,
}

/// The requests that are known.
#[derive(Debug)]
pub struct Desk {
    config: Config,
    known: BTreeMap<RequestId, (u64, PictureState)>,
    /// When requests of the last hour were begun.
    begun_s: VecDeque<u64>,
}

impl Desk {
    /// Nothing was asked yet.
    pub fn new(config: Config) -> Desk {
        Desk { config, known: BTreeMap::new(), begun_s: VecDeque::new() }
    }

    /// An earlier run had this request, asked then. What it had of the answer is gone, and it is not answered twice.
    pub fn recall(&mut self, id: RequestId, asked_s: u64) {
        let sentence = "the agent was started again meanwhile; ask anew";
        self.known.insert(id, (asked_s + PICTURE_LIFE_S_MAX, failed(&("interrupted", sentence.into()))));
        self.begun_s.push_back(asked_s);
    }

    /// Takes an order in. `now_s` is the time by which orders end.
    pub fn take(&mut self, now_s: u64, id: &RequestId, order: &PictureOrder) -> Step {
        self.known.retain(|_, (until_s, _)| *until_s > now_s);
        while self.begun_s.front().is_some_and(|begun_s| begun_s + HOUR_S <= now_s) {
            self.begun_s.pop_front();
        }
        if order.done {
            return Step::Forget;
        }
        if self.known.contains_key(id) {
            return Step::Again(order.missing.clone());
        }
        let judged = self.judge(now_s, order);
        let until_s = order.until_s.min(now_s + PICTURE_LIFE_S_MAX);
        match judged {
            Ok(()) => {
                self.begun_s.push_back(now_s);
                self.known
                    .insert(id.clone(), (until_s, PictureState { stage: Stage::Executing, ..Default::default() }));
                Step::Begin
            }
            Err(refusal) => {
                if self.known.len() < KNOWN_MAX {
                    self.known.insert(id.clone(), (until_s, failed(&refusal)));
                }
                Step::Refuse(refusal)
            }
        }
    }

    fn judge(&self, now_s: u64, order: &PictureOrder) -> Result<(), Refusal> {
        let Config { requests, requests_per_hour, .. } = self.config;
        order.check_meaning().map_err(|what| ("no_reason", what))?;
        if order.until_s <= now_s {
            return Err(("expired", format!("it stood until {}, and now is {now_s}", order.until_s)));
        }
        if order.until_s > now_s + PICTURE_LIFE_S_MAX {
            return Err(("too_long", format!("it would stand for longer than {PICTURE_LIFE_S_MAX} s")));
        }
        match requests {
            Requests::Never => {
                let sentence = "this device gives no pictures (privacy.requests = \"never\")";
                return Err(("never", sentence.into()));
            }
            Requests::Blurred if order.clear => {
                let sentence =
                    "this device gives none in which people can be recognised (privacy.requests = \"blurred\")";
                return Err(("clear_not_allowed", sentence.into()));
            }
            _ => {}
        }
        let working = self.known.values().filter(|(_, state)| state.stage == Stage::Executing).count();
        if working >= WORKING_MAX || self.known.len() >= KNOWN_MAX {
            return Err(("busy", format!("{WORKING_MAX} requests are being answered; ask again later")));
        }
        if self.begun_s.len() >= requests_per_hour as usize {
            let sentence = format!("{requests_per_hour} requests were answered in this hour, which is the most");
            return Err(("rate", sentence));
        }
        Ok(())
    }

    /// What is said of a request.
    pub fn state(&self, id: &RequestId) -> Option<&PictureState> {
        self.known.get(id).map(|(_, state)| state)
    }

    /// A request has come to its end.
    pub fn settle(&mut self, id: &RequestId, state: PictureState) {
        if let Some(known) = self.known.get_mut(id) {
            known.1 = state;
        }
    }

    /// Whether an answer may be wanted yet.
    pub fn is_wanted(&self, now_s: u64, id: &RequestId) -> bool {
        self.known.get(id).is_some_and(|(until_s, _)| *until_s > now_s)
    }
}

/// The state of a request that fails.
pub fn failed((reason, detail): &Refusal) -> PictureState {
    let (reason, detail) = (Some((*reason).to_owned()), Some(detail.chars().take(300).collect()));
    PictureState { stage: Stage::Failed, reason, detail, ..PictureState::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::ids::CameraId;
    use serde_bytes::ByteBuf;

    const NOW_S: u64 = 1_800_000_000;

    fn order() -> PictureOrder {
        PictureOrder {
            who: "M. Jansen".into(),
            why: "a bag was left".into(),
            what: Default::default(),
            event: None,
            camera: CameraId::new("front").ok(),
            moment_ms: None,
            clear: false,
            until_s: NOW_S + 600,
            key: ByteBuf::from([7; 32]),
            missing: vec![],
            done: false,
        }
    }

    fn id(n: u64) -> RequestId {
        RequestId::new(n.to_string()).unwrap()
    }

    fn desk(requests: Requests) -> Desk {
        Desk::new(Config { requests, requests_per_hour: 3, ..Config::default() })
    }

    fn refused(step: &Step) -> &'static str {
        match step {
            Step::Refuse((word, _)) => word,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_this_device_does_not_allow_is_refused_by_name_and_known_by_its_id() {
        let clear = PictureOrder { clear: true, ..order() };
        for (requests, order, expect) in [
            (Requests::Never, order(), "never"),
            (Requests::Never, clear.clone(), "never"),
            (Requests::Blurred, clear.clone(), "clear_not_allowed"),
            (Requests::Clear, PictureOrder { why: " ".into(), ..order() }, "no_reason"),
            (Requests::Clear, PictureOrder { who: String::new(), ..order() }, "no_reason"),
            (Requests::Clear, PictureOrder { until_s: NOW_S, ..order() }, "expired"),
            (Requests::Clear, PictureOrder { until_s: NOW_S + PICTURE_LIFE_S_MAX + 1, ..order() }, "too_long"),
        ] {
            let mut desk = desk(requests);
            assert_eq!(refused(&desk.take(NOW_S, &id(1), &order)), expect);
            if expect != "expired" {
                assert_eq!(desk.take(NOW_S, &id(1), &order), Step::Again(vec![]));
                assert_eq!(desk.state(&id(1)).unwrap().reason.as_deref(), Some(expect));
            }
        }
        assert_eq!(desk(Requests::Clear).take(NOW_S, &id(1), &clear), Step::Begin);
        assert_eq!(desk(Requests::Blurred).take(NOW_S, &id(1), &order()), Step::Begin);
    }

    #[test]
    fn a_request_is_answered_once_however_often_it_is_said() {
        let mut desk = desk(Requests::Blurred);
        assert_eq!(desk.take(NOW_S, &id(1), &order()), Step::Begin);
        let again = PictureOrder { missing: vec![2, 3], ..order() };
        assert_eq!(desk.take(NOW_S, &id(1), &again), Step::Again(vec![2, 3]));
        assert_eq!(desk.take(NOW_S, &id(1), &PictureOrder { done: true, ..order() }), Step::Forget);
        assert_eq!(desk.take(NOW_S, &id(1), &order()), Step::Again(vec![]));
        // An earlier run's is not answered again either.
        desk.recall(id(2), NOW_S - 10);
        assert_eq!(desk.take(NOW_S, &id(2), &order()), Step::Again(vec![]));
        assert_eq!(desk.state(&id(2)).unwrap().reason.as_deref(), Some("interrupted"));
    }

    #[test]
    fn an_hour_has_so_many_and_the_hour_before_a_restart_counts() {
        let mut desk = desk(Requests::Blurred);
        desk.recall(id(9), NOW_S - HOUR_S + 1);
        for n in 0..2 {
            assert_eq!(desk.take(NOW_S, &id(n), &order()), Step::Begin);
        }
        assert_eq!(refused(&desk.take(NOW_S, &id(2), &order())), "rate");
        assert_eq!(desk.take(NOW_S + 1, &id(3), &order()), Step::Begin, "an hour ago is long ago");
    }

    #[test]
    fn so_many_are_answered_at_once() {
        let mut desk = Desk::new(Config { requests_per_hour: 100, ..Config::default() });
        for n in 0..WORKING_MAX as u64 {
            assert_eq!(desk.take(NOW_S, &id(n), &order()), Step::Begin);
        }
        assert_eq!(refused(&desk.take(NOW_S, &id(99), &order())), "busy");
        desk.settle(&id(0), failed(&("no_picture", String::new())));
        assert_eq!(desk.take(NOW_S, &id(100), &order()), Step::Begin);
        assert!(desk.is_wanted(NOW_S, &id(100)) && !desk.is_wanted(NOW_S + 600, &id(100)));
    }
}
