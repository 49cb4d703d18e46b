//! Where a courier goes, what it listens to there, and what is said of it when it is lost. It opens no connection.

use picket_shared::calendar::{unix_ms, unix_s};
use picket_shared::ids::{NodeId, SiteId};
use picket_shared::mqtt::{BrokerUrl, Will};
use picket_shared::topics::Topic;
use picket_shared::trust::tls::TlsFiles;

use crate::credentials::Credentials;
use crate::node::{self, Identity};

/// Where a courier goes.
#[derive(Debug, Clone)]
pub struct Route {
    /// The site.
    pub site: SiteId,
    /// The site's broker.
    pub broker: BrokerUrl,
    /// Other brokers of the site, in the order in which they are used where that one cannot be reached.
    pub fallback: Vec<BrokerUrl>,
    /// What connections by TLS are made with.
    pub tls: Option<TlsFiles>,
}

/// What is said to this node.
pub(super) fn filters(site: &SiteId, me: &NodeId, credentials: &Credentials) -> Vec<String> {
    let mine =
        [Topic::Ack, Topic::Health, Topic::Leases, Topic::Standby, Topic::ModelAssignment].map(|of| of(me.clone()));
    let roster = credentials.signer.as_ref().map(|_| &Topic::Roster);
    let mine = mine.iter().chain([&Topic::CoordinatorHealth]).chain(roster).map(|topic| topic.render(site));
    mine.chain(credentials.takes_orders().then(|| Topic::picture_filter(site, me))).collect()
}

/// What the broker says of a node that is lost.
pub(super) fn will(site: &SiteId, identity: &Identity, credentials: &Credentials) -> Will {
    let (topic, identity, signer) =
        (Topic::Health(identity.node.clone()), identity.clone(), credentials.signer.clone());
    let text = topic.render(site);
    Will::new(move || {
        let will = node::will(&identity, unix_ms());
        let will = signer.iter().fold(will, |will, signer| signer.will(&topic, will, unix_s()));
        (text.clone(), will)
    })
}
