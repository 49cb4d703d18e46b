//! Who listens to what, and which messages are said until they are heard: as the shells of both sides have it.

use std::collections::BTreeSet;

use picket_shared::ids::NodeId;
use picket_shared::topics::Topic;

/// What every coordinator listens to.
pub(super) fn of_nodes(topic: &Topic) -> bool {
    match topic {
        Topic::Health(_) | Topic::Twin(_) | Topic::Stats(_) | Topic::Heartbeat(_) | Topic::Duty(_) => true,
        Topic::Events(_) | Topic::ModelWant(_) | Topic::ModelState(_) | Topic::CoordinatorHealth => true,
        // Nobody asks for pictures here.
        Topic::PictureOrder(..) | Topic::PictureState(..) | Topic::PicturePart(..) => false,
        Topic::Leases(_) | Topic::Standby(_) | Topic::Ack(_) | Topic::Platform(_) => false,
        // Nobody learns in these worlds.
        Topic::LearnUpdate(_) | Topic::LearnSamples(_) | Topic::LearnAck(_) | Topic::LearnLabels(_) => false,
        Topic::LearnHead(_) | Topic::LearnDelta(_) | Topic::ViewLearning | Topic::OperatorLabels(_) => false,
        // Derived, and for people.
        Topic::ViewModels | Topic::ViewUpdate(_) | Topic::HomeAssistantUpdate(_) => false,
        Topic::HomeAssistantButton(..) => false,
        Topic::ModelAssignment(_) | Topic::Blob(_) => false,
        Topic::Roster | Topic::ViewSite | Topic::ViewRecent | Topic::ViewEvent | Topic::ViewChange => false,
    }
}

/// Retained messages, but for acks, are said again until the other end has them.
pub(super) fn at_least_once(topic: &Topic) -> bool {
    topic.retained() && !matches!(topic, Topic::Ack(_))
}

/// What an agent always listens to.
pub fn of_agent(node: &NodeId) -> BTreeSet<Topic> {
    let mine = [Topic::Ack, Topic::Health, Topic::Leases, Topic::Standby].map(|of| of(node.clone()));
    mine.into_iter().chain([Topic::CoordinatorHealth]).collect()
}

/// What an agent listens to of another node.
pub fn of_another(node: &NodeId) -> [Topic; 3] {
    [Topic::Health, Topic::Heartbeat, Topic::Duty].map(|of| of(node.clone()))
}
