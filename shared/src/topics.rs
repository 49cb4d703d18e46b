//! Topic ↔ text, in both directions. PROTOCOL.md describes each one, and a test holds the page to this file.
//!
//! No other file builds or takes apart a topic string.

use crate::crypto::Digest;
use crate::ids::{NodeId, OperatorName, RequestId, SiteId};
use crate::learn::lineage::LineageId;

/// The first two levels: the product and the protocol's major version.
pub const ROOT: &str = "picket/v1";
/// What Home Assistant looks below for updates that it may show; its own prefix, which is not ours to choose.
pub const HOME_ASSISTANT_ROOT: &str = "homeassistant/update";
/// And for buttons.
pub const HOME_ASSISTANT_BUTTONS: &str = "homeassistant/button";
/// What the broker knows an operator by begins so; the rest is his name.
pub const OPERATOR_PREFIX: &str = "operator-";
/// The operator that Home Assistant is.
pub const HOME_ASSISTANT_OPERATOR: &str = "homeassistant";

/// What a point in a name is written as where Home Assistant takes none; no name has a capital letter.
const POINT: &str = "P";
/// How the name of a button ends.
const SOMEBODY: &str = "-somebody";
const NOBODY: &str = "-nobody";

/// Everything that is said over MQTT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Retained JSON [`crate::status::Health`] of a node; also its will.
    Health(NodeId),
    /// Retained JSON [`crate::status::Twin`]: what the node is.
    Twin(NodeId),
    /// JSON [`crate::status::Stats`], every heartbeat.
    Stats(NodeId),
    /// CBOR [`crate::duty::Heartbeat`].
    Heartbeat(NodeId),
    /// Retained CBOR [`crate::duty::Duty`]: what a station's own node says of it.
    Duty(NodeId),
    /// CBOR [`crate::duty::Leases`], from the coordinator to one node.
    Leases(NodeId),
    /// Retained CBOR [`crate::duty::Standby`], from the coordinator to one node.
    Standby(NodeId),
    /// JSON [`crate::platform::PlatformOrder`], from a node to whatever moves it.
    Platform(NodeId),
    /// CBOR [`crate::wire::EventBatch`].
    Events(NodeId),
    /// Retained CBOR [`crate::wire::Ack`], from the coordinator to one node.
    Ack(NodeId),
    /// CBOR [`crate::picture::PictureOrder`], from the coordinator to one node: one request for one picture.
    PictureOrder(NodeId, RequestId),
    /// CBOR [`crate::picture::PictureState`]: what became of it.
    PictureState(NodeId, RequestId),
    /// CBOR [`crate::picture::PicturePart`]: the picture, for who asked alone.
    PicturePart(NodeId, RequestId),
    /// CBOR [`crate::learn::message::HeadUpdate`].
    LearnUpdate(NodeId),
    /// CBOR [`crate::learn::message::RootSamples`].
    LearnSamples(NodeId),
    /// Retained CBOR [`crate::learn::message::LearnAck`], from the coordinator to one node.
    LearnAck(NodeId),
    /// Retained JSON [`crate::learn::label::Labels`], from the coordinator to one node: what persons say of its events.
    LearnLabels(NodeId),
    /// JSON [`crate::learn::operator::OperatorLabels`], from an operator's program to the coordinator.
    OperatorLabels(OperatorName),
    /// Retained CBOR [`crate::learn::message::HeadFull`].
    LearnHead(LineageId),
    /// Retained CBOR [`crate::learn::message::HeadDelta`].
    LearnDelta(LineageId),
    /// Retained CBOR [`crate::model::Assignment`], from the coordinator to one node: the model that it should run.
    ModelAssignment(NodeId),
    /// CBOR [`crate::model::Want`]: the pieces of a file that a node still lacks.
    ModelWant(NodeId),
    /// Retained JSON [`crate::model::ModelState`]: what a node runs, fetches and tries.
    ModelState(NodeId),
    /// CBOR [`crate::model::Chunk`]: a piece of the file of this digest, from the coordinator to whoever lacks it.
    Blob(Digest),
    /// Retained JSON [`crate::status::Health`] of the coordinator; also its will.
    CoordinatorHealth,
    /// Retained JSON [`crate::trust::roster::Roster`]: who may speak at this site.
    Roster,
    /// Retained JSON [`crate::view::Site`]: who watches what.
    ViewSite,
    /// Retained JSON [`crate::view::Recent`]: the newest events.
    ViewRecent,
    /// JSON [`crate::view::SeenEvent`]: each event, once it is in the archive.
    ViewEvent,
    /// JSON [`crate::view::Change`]: each change of who lives and who watches what.
    ViewChange,
    /// Retained JSON [`crate::learn::view::Learning`].
    ViewLearning,
    /// Retained JSON [`crate::model::rollouts::ModelsView`]: rollouts, and what each node runs.
    ViewModels,
    /// Retained JSON, in the words of Home Assistant: what a node runs, and what it is to run.
    ViewUpdate(NodeId),
    /// Retained JSON, in the words of Home Assistant: that there is a [`Topic::ViewUpdate`] of this node.
    HomeAssistantUpdate(NodeId),
    /// Retained JSON, in the words of Home Assistant: a button that says of this node's last event that somebody was there, or nobody.
    HomeAssistantButton(NodeId, bool),
}

/// Who says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaker {
    /// This node.
    Node(NodeId),
    /// Whichever coordinator leads.
    Coordinator,
    /// A program of this operator's, which has no key that others know: the broker says who it is.
    Operator(OperatorName),
}

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A version byte and a CBOR item.
    Cbor,
    /// A JSON object.
    Json,
}

/// Why a text is not one of our topics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a topic of this site")]
pub struct TopicError(pub String);

impl Topic {
    /// The topic as text.
    ///
    /// ```
    /// use picket_shared::{ids::{NodeId, SiteId}, topics::Topic};
    /// let site = SiteId::new("yard")?;
    /// let topic = Topic::Events(NodeId::new("gate-3")?);
    /// assert_eq!(topic.render(&site), "picket/v1/yard/gate-3/events");
    /// # Ok::<(), picket_shared::ids::NameError>(())
    /// ```
    pub fn render(&self, site: &SiteId) -> String {
        match self {
            Topic::Health(node) => format!("{ROOT}/{site}/{node}/status/health"),
            Topic::Twin(node) => format!("{ROOT}/{site}/{node}/twin"),
            Topic::Stats(node) => format!("{ROOT}/{site}/{node}/m/stats"),
            Topic::Heartbeat(node) => format!("{ROOT}/{site}/{node}/heartbeat"),
            Topic::Duty(node) => format!("{ROOT}/{site}/{node}/duty"),
            Topic::Leases(node) => format!("{ROOT}/{site}/{node}/leases"),
            Topic::Standby(node) => format!("{ROOT}/{site}/{node}/standby"),
            Topic::Platform(node) => format!("{ROOT}/{site}/{node}/platform"),
            Topic::Events(node) => format!("{ROOT}/{site}/{node}/events"),
            Topic::Ack(node) => format!("{ROOT}/{site}/{node}/ack"),
            Topic::PictureOrder(node, id) => format!("{ROOT}/{site}/{node}/cmd/picture/{id}"),
            Topic::PictureState(node, id) => format!("{ROOT}/{site}/{node}/cmd/picture/{id}/state"),
            Topic::PicturePart(node, id) => format!("{ROOT}/{site}/{node}/cmd/picture/{id}/part"),
            Topic::LearnUpdate(node) => format!("{ROOT}/{site}/{node}/learn/update"),
            Topic::LearnSamples(node) => format!("{ROOT}/{site}/{node}/learn/samples"),
            Topic::LearnAck(node) => format!("{ROOT}/{site}/{node}/learn/ack"),
            Topic::LearnLabels(node) => format!("{ROOT}/{site}/{node}/learn/labels"),
            Topic::OperatorLabels(name) => format!("{ROOT}/{site}/coordinator/labels/{OPERATOR_PREFIX}{name}"),
            Topic::LearnHead(lineage) => format!("{ROOT}/{site}/coordinator/learn/head/{lineage}"),
            Topic::LearnDelta(lineage) => format!("{ROOT}/{site}/coordinator/learn/delta/{lineage}"),
            Topic::ModelAssignment(node) => format!("{ROOT}/{site}/{node}/model/assignment"),
            Topic::ModelWant(node) => format!("{ROOT}/{site}/{node}/model/want"),
            Topic::ModelState(node) => format!("{ROOT}/{site}/{node}/model/state"),
            Topic::Blob(digest) => format!("{ROOT}/{site}/coordinator/blob/{digest}"),
            Topic::CoordinatorHealth => format!("{ROOT}/{site}/coordinator/status/health"),
            Topic::Roster => format!("{ROOT}/{site}/coordinator/roster"),
            Topic::ViewSite => format!("{ROOT}/{site}/view/site"),
            Topic::ViewRecent => format!("{ROOT}/{site}/view/recent"),
            Topic::ViewEvent => format!("{ROOT}/{site}/view/event"),
            Topic::ViewChange => format!("{ROOT}/{site}/view/change"),
            Topic::ViewLearning => format!("{ROOT}/{site}/view/learning"),
            Topic::ViewModels => format!("{ROOT}/{site}/view/models"),
            Topic::ViewUpdate(node) => format!("{ROOT}/{site}/view/update/{node}"),
            Topic::HomeAssistantUpdate(node) => {
                let names = [site.as_str(), node.as_str()].map(|name| name.replace('.', POINT));
                format!("{HOME_ASSISTANT_ROOT}/picket-{}/{}/config", names[0], names[1])
            }
            Topic::HomeAssistantButton(node, person) => {
                let names = [site.as_str(), node.as_str()].map(|name| name.replace('.', POINT));
                let who = if *person { SOMEBODY } else { NOBODY };
                format!("{HOME_ASSISTANT_BUTTONS}/picket-{}/{}{who}/config", names[0], names[1])
            }
        }
    }

    /// The topic that a text names, at this site.
    ///
    /// ```
    /// use picket_shared::{ids::{NodeId, SiteId}, topics::Topic};
    /// let site = SiteId::new("yard")?;
    /// assert_eq!(Topic::parse(&site, "picket/v1/yard/gate-3/ack").ok(), Some(Topic::Ack(NodeId::new("gate-3")?)));
    /// assert!(Topic::parse(&site, "picket/v1/mill/gate-3/ack").is_err());
    /// # Ok::<(), picket_shared::ids::NameError>(())
    /// ```
    pub fn parse(site: &SiteId, text: &str) -> Result<Topic, TopicError> {
        let refused = || TopicError(text.chars().take(200).collect());
        if let Some(below) = text.strip_prefix(HOME_ASSISTANT_ROOT) {
            return Topic::of_home_assistant(site, below).map(Topic::HomeAssistantUpdate).ok_or_else(refused);
        }
        if let Some(below) = text.strip_prefix(HOME_ASSISTANT_BUTTONS) {
            return Topic::of_button(site, below).ok_or_else(refused);
        }
        let below = text
            .strip_prefix(ROOT)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(site.as_str()))
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(refused)?;
        let (who, what) = below.split_once('/').ok_or_else(refused)?;
        match (who, what) {
            ("coordinator", "status/health") => return Ok(Topic::CoordinatorHealth),
            ("coordinator", "roster") => return Ok(Topic::Roster),
            ("view", "site") => return Ok(Topic::ViewSite),
            ("view", "recent") => return Ok(Topic::ViewRecent),
            ("view", "event") => return Ok(Topic::ViewEvent),
            ("view", "change") => return Ok(Topic::ViewChange),
            ("view", "learning") => return Ok(Topic::ViewLearning),
            ("view", "models") => return Ok(Topic::ViewModels),
            ("view", what) => {
                let node = what.strip_prefix("update/").and_then(|node| NodeId::new(node).ok());
                return node.map(Topic::ViewUpdate).ok_or_else(refused);
            }
            _ => {}
        }
        if who == "coordinator" {
            let topic = match what.rsplit_once('/') {
                Some(("blob", digest)) => digest.parse().ok().map(Topic::Blob),
                Some(("labels", who)) => {
                    let name = who.strip_prefix(OPERATOR_PREFIX).and_then(|name| OperatorName::new(name).ok());
                    name.map(Topic::OperatorLabels)
                }
                Some(("learn/head", lineage)) => lineage.parse().ok().map(Topic::LearnHead),
                Some(("learn/delta", lineage)) => lineage.parse().ok().map(Topic::LearnDelta),
                _ => None,
            };
            return topic.ok_or_else(refused);
        }
        let node = NodeId::new(who).map_err(|_| refused())?;
        match what {
            "status/health" => Ok(Topic::Health(node)),
            "twin" => Ok(Topic::Twin(node)),
            "m/stats" => Ok(Topic::Stats(node)),
            "heartbeat" => Ok(Topic::Heartbeat(node)),
            "duty" => Ok(Topic::Duty(node)),
            "leases" => Ok(Topic::Leases(node)),
            "standby" => Ok(Topic::Standby(node)),
            "platform" => Ok(Topic::Platform(node)),
            "events" => Ok(Topic::Events(node)),
            "ack" => Ok(Topic::Ack(node)),
            "learn/update" => Ok(Topic::LearnUpdate(node)),
            "learn/samples" => Ok(Topic::LearnSamples(node)),
            "learn/ack" => Ok(Topic::LearnAck(node)),
            "learn/labels" => Ok(Topic::LearnLabels(node)),
            "model/assignment" => Ok(Topic::ModelAssignment(node)),
            "model/want" => Ok(Topic::ModelWant(node)),
            "model/state" => Ok(Topic::ModelState(node)),
            _ => Topic::of_picture(node, what).ok_or_else(refused),
        }
    }

    fn of_picture(node: NodeId, what: &str) -> Option<Topic> {
        let mut levels = what.strip_prefix("cmd/picture/")?.split('/');
        let id = RequestId::new(levels.next()?).ok()?;
        match (levels.next(), levels.next()) {
            (None, _) => Some(Topic::PictureOrder(node, id)),
            (Some("state"), None) => Some(Topic::PictureState(node, id)),
            (Some("part"), None) => Some(Topic::PicturePart(node, id)),
            _ => None,
        }
    }

    fn of_button(site: &SiteId, below: &str) -> Option<Topic> {
        let (before, config) = below.rsplit_once('/')?;
        let ends = [(SOMEBODY, true), (NOBODY, false)];
        let (of, person) = ends.iter().find_map(|(end, person)| Some((before.strip_suffix(end)?, *person)))?;
        Topic::of_home_assistant(site, &format!("{of}/{config}")).map(|node| Topic::HomeAssistantButton(node, person))
    }

    fn of_home_assistant(site: &SiteId, below: &str) -> Option<NodeId> {
        let mut levels = below.strip_prefix("/picket-")?.split('/');
        let (of, node, config) = (levels.next()?, levels.next()?, levels.next()?);
        // A point is written as something else, and stands for nothing itself.
        let plain = |level: &str| (!level.contains('.')).then(|| level.replace(POINT, "."));
        let node = NodeId::new(plain(node)?).ok()?;
        (plain(of)? == site.as_str() && config == "config" && levels.next().is_none()).then_some(node)
    }

    /// Whether the broker keeps the last message for those who come later.
    pub fn retained(&self) -> bool {
        match self {
            Topic::Health(_) | Topic::Twin(_) | Topic::Duty(_) | Topic::Standby(_) | Topic::Ack(_) => true,
            Topic::ModelAssignment(_) | Topic::ModelState(_) => true,
            Topic::CoordinatorHealth | Topic::Roster | Topic::ViewSite | Topic::ViewRecent => true,
            Topic::Stats(_) | Topic::Heartbeat(_) | Topic::Leases(_) | Topic::Events(_) | Topic::ViewEvent => false,
            Topic::LearnAck(_) | Topic::LearnHead(_) | Topic::LearnDelta(_) | Topic::ViewLearning => true,
            Topic::ViewModels | Topic::ViewUpdate(_) | Topic::HomeAssistantUpdate(_) => true,
            Topic::HomeAssistantButton(..) => true,
            // Said again by a broker that kept it, it would be an order again.
            Topic::OperatorLabels(_) => false,
            Topic::LearnLabels(_) => true,
            Topic::LearnUpdate(_) | Topic::LearnSamples(_) => false,
            Topic::Platform(_) | Topic::ModelWant(_) | Topic::Blob(_) | Topic::ViewChange => false,
            // Who asks says it again until he is answered, so no broker need keep who asked for what, nor any picture.
            Topic::PictureOrder(..) | Topic::PictureState(..) | Topic::PicturePart(..) => false,
        }
    }

    /// Who says what is said here.
    pub fn speaker(&self) -> Speaker {
        match self {
            Topic::Health(node) | Topic::Twin(node) | Topic::Stats(node) | Topic::Heartbeat(node) => {
                Speaker::Node(node.clone())
            }
            Topic::Duty(node) | Topic::Platform(node) | Topic::Events(node) => Speaker::Node(node.clone()),
            Topic::PictureState(node, _) | Topic::PicturePart(node, _) => Speaker::Node(node.clone()),
            Topic::PictureOrder(..) => Speaker::Coordinator,
            Topic::LearnUpdate(node) | Topic::LearnSamples(node) => Speaker::Node(node.clone()),
            Topic::LearnAck(_) | Topic::LearnHead(_) | Topic::LearnDelta(_) | Topic::ViewLearning => {
                Speaker::Coordinator
            }
            Topic::LearnLabels(_) | Topic::HomeAssistantButton(..) => Speaker::Coordinator,
            Topic::OperatorLabels(name) => Speaker::Operator(name.clone()),
            Topic::ModelWant(node) | Topic::ModelState(node) => Speaker::Node(node.clone()),
            Topic::Leases(_) | Topic::Standby(_) | Topic::Ack(_) | Topic::CoordinatorHealth => Speaker::Coordinator,
            Topic::ModelAssignment(_) | Topic::Blob(_) => Speaker::Coordinator,
            Topic::ViewModels | Topic::ViewUpdate(_) | Topic::HomeAssistantUpdate(_) => Speaker::Coordinator,
            Topic::Roster | Topic::ViewSite | Topic::ViewRecent | Topic::ViewEvent | Topic::ViewChange => {
                Speaker::Coordinator
            }
        }
    }

    /// How a message is written that is signed by its speaker; nothing where none is: a view is for people to look at,
    /// a roster proves itself, and what an operator's program says rests on the broker's access rules.
    pub fn sealed(&self) -> Option<Form> {
        match self {
            Topic::Heartbeat(_) | Topic::Duty(_) | Topic::Events(_) => Some(Form::Cbor),
            Topic::Leases(_) | Topic::Standby(_) | Topic::Ack(_) => Some(Form::Cbor),
            Topic::PictureOrder(..) | Topic::PictureState(..) | Topic::PicturePart(..) => Some(Form::Cbor),
            Topic::LearnUpdate(_) | Topic::LearnSamples(_) | Topic::LearnAck(_) => Some(Form::Cbor),
            Topic::LearnHead(_) | Topic::LearnDelta(_) => Some(Form::Cbor),
            Topic::ModelAssignment(_) | Topic::ModelWant(_) | Topic::Blob(_) => Some(Form::Cbor),
            Topic::Health(_) | Topic::Twin(_) | Topic::Stats(_) | Topic::Platform(_) => Some(Form::Json),
            Topic::ModelState(_) | Topic::CoordinatorHealth | Topic::LearnLabels(_) => Some(Form::Json),
            Topic::Roster | Topic::ViewSite | Topic::ViewRecent | Topic::ViewEvent | Topic::ViewChange => None,
            Topic::ViewLearning | Topic::ViewModels | Topic::ViewUpdate(_) | Topic::HomeAssistantUpdate(_) => None,
            Topic::HomeAssistantButton(..) | Topic::OperatorLabels(_) => None,
        }
    }

    /// Whether what is said here changes what a device does until something else is said, and so must not stand for ever.
    /// Leases end by themselves.
    pub fn is_order(&self) -> bool {
        matches!(self, Topic::Standby(_) | Topic::ModelAssignment(_) | Topic::PictureOrder(..))
    }

    /// The topic by which messages are numbered: what is said of one picture after another is one count, or whoever asks for
    /// many would be remembered many times.
    pub fn counted_as(&self) -> Topic {
        let any = || RequestId::new("any").expect("a constant name");
        match self {
            Topic::PictureOrder(node, _) => Topic::PictureOrder(node.clone(), any()),
            Topic::PictureState(node, _) => Topic::PictureState(node.clone(), any()),
            Topic::PicturePart(node, _) => Topic::PicturePart(node.clone(), any()),
            topic => topic.clone(),
        }
    }

    /// What a node listens to of the orders for pictures.
    pub fn picture_filter(site: &SiteId, node: &NodeId) -> String {
        format!("{ROOT}/{site}/{node}/cmd/picture/+")
    }

    /// What a node that learns listens to: what is said to it of its learning, and the heads that all learn.
    pub fn learner_filters(site: &SiteId, node: &NodeId) -> Vec<String> {
        let mine = [Topic::LearnAck(node.clone()), Topic::LearnLabels(node.clone())].map(|topic| topic.render(site));
        let heads = ["head", "delta"].map(|what| format!("{ROOT}/{site}/coordinator/learn/{what}/+"));
        mine.into_iter().chain(heads).collect()
    }

    /// Whether each message here comes after the one before it. Of coordinators several may say how they do, each by its own
    /// count.
    pub fn is_numbered(&self) -> bool {
        *self != Topic::CoordinatorHealth
    }

    /// What a coordinator listens to: all that nodes and operators say, and what stands at the broker of the head that was learned before.
    pub fn coordinator_filters(site: &SiteId) -> Vec<String> {
        let of_nodes = ["status/health", "twin", "m/stats", "heartbeat", "duty", "events"];
        let of_models = ["model/want", "model/state", "learn/update", "learn/samples"];
        let pictures = ["cmd/picture/+/state", "cmd/picture/+/part"];
        of_nodes
            .iter()
            .chain(&of_models)
            .chain(&pictures)
            .map(|what| format!("{ROOT}/{site}/+/{what}"))
            .chain(["learn/head", "labels"].map(|what| format!("{ROOT}/{site}/coordinator/{what}/+")))
            .collect()
    }

    /// One topic of each kind, for pages and tests that must name them all.
    pub fn one_of_each(node: &NodeId) -> Vec<Topic> {
        let request = || RequestId::new("0a1b2c").expect("a constant name");
        vec![
            Topic::Health(node.clone()),
            Topic::Twin(node.clone()),
            Topic::Stats(node.clone()),
            Topic::Heartbeat(node.clone()),
            Topic::Duty(node.clone()),
            Topic::Leases(node.clone()),
            Topic::Standby(node.clone()),
            Topic::Platform(node.clone()),
            Topic::Events(node.clone()),
            Topic::Ack(node.clone()),
            Topic::PictureOrder(node.clone(), request()),
            Topic::PictureState(node.clone(), request()),
            Topic::PicturePart(node.clone(), request()),
            Topic::LearnUpdate(node.clone()),
            Topic::LearnSamples(node.clone()),
            Topic::LearnAck(node.clone()),
            Topic::LearnLabels(node.clone()),
            Topic::OperatorLabels(OperatorName::new("anna").expect("a constant name")),
            Topic::LearnHead(LineageId([0xAB; 8])),
            Topic::LearnDelta(LineageId([0xAB; 8])),
            Topic::ModelAssignment(node.clone()),
            Topic::ModelWant(node.clone()),
            Topic::ModelState(node.clone()),
            Topic::Blob(Digest([0xab; 32])),
            Topic::CoordinatorHealth,
            Topic::Roster,
            Topic::ViewSite,
            Topic::ViewRecent,
            Topic::ViewEvent,
            Topic::ViewChange,
            Topic::ViewLearning,
            Topic::ViewModels,
            Topic::ViewUpdate(node.clone()),
            Topic::HomeAssistantUpdate(node.clone()),
            Topic::HomeAssistantButton(node.clone(), true),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_survives_the_trip_to_text_and_back() {
        let site = SiteId::new("yard").unwrap();
        for (site, name) in [(site, "gate-3"), (SiteId::new("yard.west").unwrap(), "gate.3")] {
            for topic in Topic::one_of_each(&NodeId::new(name).unwrap()) {
                assert_eq!(Topic::parse(&site, &topic.render(&site)), Ok(topic));
            }
        }
    }

    /// Everything that goes over all topics rests on that list: the access rules' test, the page of the protocol.
    #[test]
    fn one_of_each_leaves_none_out() {
        let source = include_str!("topics.rs");
        let kinds = source.split_once("pub enum Topic {").unwrap().1.split_once("\n}").unwrap().0;
        let kinds =
            kinds.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_uppercase())).count();
        let listed: std::collections::BTreeSet<_> =
            Topic::one_of_each(&NodeId::new("a").unwrap()).into_iter().collect();
        assert!(kinds > 10);
        assert_eq!(listed.len(), kinds);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let site = SiteId::new("yard").unwrap();
        for text in [
            "",
            "picket",
            "picket/v1/yard",
            "picket/v1/yard/",
            "picket/v1/yardx/n/ack",
            "picket/v2/yard/n/ack",
            "picket/v1/yard/n/other",
            "picket/v1/yard/N/ack",
            "picket/v1/yard/n/ack/",
            "picket/v1/yard/view/ack",
            "picket/v1/yard/n/learn/head/abababababababab",
            "picket/v1/yard/coordinator/learn/head/ABABABABABABABAB",
            "picket/v1/yard/coordinator/blob/ab",
            "picket/v1/yard/coordinator/ack",
            "picket/v1/yard/n/model",
            "picket/v1/yard/view/update/",
            "picket/v1/yard/view/update/view",
            "homeassistant/update",
            "homeassistant/update/picket-mill/n/config",
            "homeassistant/update/picket-yard/n/config/",
            "homeassistant/update/picket-yard/n.1/config",
            "homeassistant/update/picket-yard/n/state",
            "homeassistant/button/picket-yard/n/config",
            "homeassistant/button/picket-yard/-somebody/config",
            "homeassistant/button/picket-mill/n-nobody/config",
            "picket/v1/yard/coordinator/labels/anna",
            "picket/v1/yard/coordinator/labels/operator-",
            "picket/v1/yard/coordinator/labels/operator-anna/more",
        ] {
            assert!(Topic::parse(&site, text).is_err(), "{text:?}");
        }
    }
}
