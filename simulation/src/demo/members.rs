//! Makes the demo's agents members of its site: the coordinator's authority and each device's identity, as `picket-coordinator
//! enrol` and `picket-agent enrol` make them, but without the door between, since all of it lies on one machine.

use std::path::Path;

use picket_agent::enrol::request_of;
use picket_coordinator::authority::Authority;
use picket_shared::brokers::BrokerUrl;
use picket_shared::calendar::unix_s;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{NodeId, SiteId};
use picket_shared::trust::identity::Identity;
use picket_shared::trust::token::Door;

/// A ticket is used at once.
const MINUTES: u64 = 5;

/// Admits one agent to the site whose coordinator keeps everything in `coordinator_dir`.
pub(super) fn admit(
    coordinator_dir: &Path,
    agent_dir: &Path,
    site: &SiteId,
    node: &NodeId,
    broker: &BrokerUrl,
) -> Result<(), Failure> {
    let identity = Identity::below(agent_dir);
    if identity.is_enrolled() {
        return Ok(());
    }
    let now = unix_s();
    let authority = Authority::open(&coordinator_dir.join("authority"), site, now)?;
    let secret = authority.invite(node, MINUTES, now)?;
    let disk = |error: &dyn std::fmt::Display| Failure::new(Exit::Disk, error.to_string());
    let key = identity.key_or_new().map_err(|error| disk(&error))?;
    let told = authority.enrol(&secret, &request_of(&key)?, vec![broker.clone()], now)?;
    let (fingerprint, door) = (authority.ca_certificate()?.fingerprint, Door { host: "127.0.0.1".into(), port: 1 });
    identity.admit(&door, &fingerprint, &told).map_err(|error| disk(&error))?;
    Ok(())
}
