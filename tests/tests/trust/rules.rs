//! The broker's access rules: what each may say and hear, written down a second time for every topic there is, and asked of a
//! real mosquitto. A new topic does not compile here until somebody has said who may have it.

use std::collections::BTreeSet;

use picket_shared::ids::OperatorName;
use picket_shared::mqtt::LinkEvent;
use picket_shared::topics::{HOME_ASSISTANT_BUTTONS, HOME_ASSISTANT_OPERATOR, HOME_ASSISTANT_ROOT, ROOT, Topic};
use picket_shared::trust::identity::Identity;
use picket_shared::trust::tls::TlsFiles;

use super::rig::{OBSERVER, Peer, Rig, node, site};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    A,
    Coordinator,
    Dashboard,
    Page,
    /// A program of anna's.
    Operator,
    HomeAssistant,
}

impl Who {
    fn may_say(self, topic: &Topic) -> bool {
        let mine = |of: &picket_shared::ids::NodeId| self == Who::A && of.as_str() == "a";
        match topic {
            Topic::Health(of) | Topic::Twin(of) | Topic::Stats(of) | Topic::Heartbeat(of) => mine(of),
            Topic::Duty(of) | Topic::Platform(of) | Topic::Events(of) => mine(of),
            Topic::PictureState(of, _) | Topic::PicturePart(of, _) => mine(of),
            Topic::PictureOrder(..) => self == Who::Coordinator,
            Topic::ModelWant(of) | Topic::ModelState(of) => mine(of),
            Topic::Leases(_) | Topic::Standby(_) | Topic::Ack(_) => self == Who::Coordinator,
            Topic::ModelAssignment(_) | Topic::Blob(_) => self == Who::Coordinator,
            Topic::CoordinatorHealth | Topic::Roster => self == Who::Coordinator,
            Topic::LearnUpdate(of) | Topic::LearnSamples(of) => mine(of),
            Topic::LearnAck(_) | Topic::LearnHead(_) | Topic::LearnDelta(_) => self == Who::Coordinator,
            Topic::ViewLearning | Topic::ViewModels | Topic::ViewUpdate(_) => self == Who::Coordinator,
            Topic::HomeAssistantUpdate(_) | Topic::HomeAssistantButton(..) => self == Who::Coordinator,
            Topic::OperatorLabels(name) => match name.as_str() {
                "anna" => self == Who::Operator,
                _ => self == Who::HomeAssistant,
            },
            Topic::LearnLabels(_) => self == Who::Coordinator,
            Topic::ViewSite | Topic::ViewRecent | Topic::ViewEvent | Topic::ViewChange => self == Who::Coordinator,
        }
    }

    fn may_hear(self, topic: &Topic) -> bool {
        let mine = |of: &picket_shared::ids::NodeId| self == Who::A && of.as_str() == "a";
        // Nothing of a node that bears the dashboard's name, so that it cannot be one.
        if self == Who::Dashboard && text(topic).starts_with("picket/v1/yard/dashboard/") {
            return false;
        }
        match topic {
            // What neighbours stand in for each other by.
            Topic::Health(_) | Topic::Heartbeat(_) | Topic::Duty(_) => self != Who::Page,
            Topic::Twin(_) | Topic::Stats(_) | Topic::ModelState(_) => {
                matches!(self, Who::Coordinator | Who::Dashboard)
            }
            Topic::OperatorLabels(_) => self == Who::Coordinator,
            // Who asked for a picture sees it, and no page does: it can neither ask nor see.
            Topic::Events(_) | Topic::ModelWant(_) => self == Who::Coordinator,
            Topic::PictureState(..) | Topic::PicturePart(..) => self == Who::Coordinator,
            Topic::PictureOrder(of, _) => mine(of),
            Topic::Leases(of) | Topic::Standby(of) | Topic::Ack(of) | Topic::ModelAssignment(of) => mine(of),
            // For what moves the node, which has its own way in.
            Topic::Platform(_) => false,
            Topic::CoordinatorHealth => true,
            // Keys to check by: no secret, and a rule by pattern is for everybody with a certificate.
            Topic::Roster => self != Who::Page,
            Topic::LearnUpdate(_) | Topic::LearnSamples(_) => self == Who::Coordinator,
            Topic::LearnAck(of) | Topic::LearnLabels(of) => mine(of),
            // One transmission serves every device that wants the file, and the head that all learn is numbers that every device
            // of the site works with: no secrets among them.
            Topic::Blob(_) | Topic::LearnHead(_) | Topic::LearnDelta(_) => self != Who::Page,
            // For Home Assistant, which has a certificate, and for no page.
            Topic::ViewUpdate(_) | Topic::HomeAssistantUpdate(_) | Topic::HomeAssistantButton(..) => {
                matches!(self, Who::Dashboard | Who::HomeAssistant)
            }
            Topic::ViewLearning
            | Topic::ViewModels
            | Topic::ViewSite
            | Topic::ViewRecent
            | Topic::ViewEvent
            | Topic::ViewChange => {
                matches!(self, Who::Dashboard | Who::Page)
            }
        }
    }
}

/// Every topic of both nodes, and of the two names that are none.
fn topics() -> Vec<Topic> {
    let of = |name: &str| Topic::one_of_each(&node(name));
    let all: BTreeSet<Topic> = ["a", "b", "dashboard"].iter().flat_map(|name| of(name)).collect();
    let others = [HOME_ASSISTANT_OPERATOR].map(|name| Topic::OperatorLabels(OperatorName::new(name).unwrap()));
    all.into_iter().chain(others).collect()
}

fn text(topic: &Topic) -> String {
    topic.render(&site())
}

fn connect(rig: &Rig, who: Who, tls: &Option<TlsFiles>, filters: &[&str]) -> Peer {
    match who {
        Who::Page => {
            let page = format!("mqtt://127.0.0.1:{}", rig.page_port).try_into().unwrap();
            rig.connect_to(page, "page", None, filters)
        }
        _ => rig.connect("anything", tls.clone(), filters),
    }
}

/// Each says everything, and what is let through is what it may say; each listens to everything, and so on.
pub fn hold(rig: &Rig, a: &Identity) {
    let all = topics();
    let roots = [ROOT, HOME_ASSISTANT_ROOT, HOME_ASSISTANT_BUTTONS].map(|root| format!("{root}/#"));
    let everything = roots.each_ref().map(String::as_str);
    let mut observer = rig.connect("observer", Some(rig.client(OBSERVER)), &[&everything[..], &["done"]].concat());
    observer.until_up();
    let who = [
        (Who::A, Some(a.tls())),
        (Who::Coordinator, Some(rig.authority().coordinator(picket_shared::calendar::unix_s()).unwrap().tls())),
        (Who::Dashboard, Some(rig.client("dashboard"))),
        (Who::Page, None),
        (Who::Operator, Some(rig.client("operator-anna"))),
        (Who::HomeAssistant, Some(rig.client("operator-homeassistant"))),
    ];
    for (who, tls) in who {
        let mut peer = connect(rig, who, &tls, &everything);
        peer.until_up();

        // What it says, between two words of the observer: the connection's order is the broker's.
        let said = format!("said by {who:?}");
        all.iter().for_each(|topic| peer.say(&text(topic), &said));
        // The last one is allowed to each that is allowed anything, or is said by the observer once the peer has answered.
        let allowed = all.iter().filter(|topic| who.may_say(topic)).map(text).collect::<BTreeSet<_>>();
        let heard = until_quiet(&mut observer, &peer, &said, allowed.len());
        assert_eq!(heard, allowed, "{who:?} may say");

        // What it hears. The first words may come before its subscription; then one whole round.
        let last = text(&Topic::CoordinatorHealth);
        let first = "are you there?";
        loop {
            observer.say(&last, first);
            std::thread::sleep(std::time::Duration::from_millis(20));
            if matches!(peer.pending(), Some(LinkEvent::Message { .. })) {
                break;
            }
        }
        let word = format!("heard by {who:?}");
        all.iter()
            .filter(|topic| **topic != Topic::CoordinatorHealth)
            .for_each(|topic| observer.say(&text(topic), &word));
        observer.say(&last, &word);
        let hearable = all.iter().filter(|topic| **topic != Topic::CoordinatorHealth && who.may_hear(topic));
        assert_eq!(peer.heard_until(&word, &last), hearable.map(text).collect(), "{who:?} may hear");
        peer.link.close();
    }
}

/// All that the observer hears of what the peer said. The broker answers a connection in order, so what the peer said is
/// settled when so many messages are here and a word of the observer's own has come back after them.
fn until_quiet(observer: &mut Peer, peer: &Peer, said: &str, expected: usize) -> BTreeSet<String> {
    let mut heard = BTreeSet::new();
    let mut rounds = 0;
    // One word more than needed shows what is too much.
    while heard.len() < expected || rounds < 3 {
        assert!(peer.link.is_up());
        std::thread::sleep(std::time::Duration::from_millis(100));
        observer.say("done", said);
        heard.extend(observer.heard_until(said, "done"));
        rounds += 1;
        assert!(rounds < 200, "only {heard:?}");
    }
    heard
}
