//! What is said at the door of enrolment: two requests, one answer, and their bounds. Pure.
//!
//! The door is HTTP/1.1 over TLS. Who enrols knows the door by the CA's fingerprint in the token; who renews shows the
//! certificate that it has. A refusal is a status and one sentence of text.

use serde::{Deserialize, Serialize};

use super::orders::OrdersChain;
use crate::brokers::BrokerUrl;
use crate::ids::{NodeId, SiteId};

/// The name in the door's certificate. It is not looked up anywhere: who holds a certificate of the site's CA with it is the
/// door, wherever that stands.
pub const DOOR_NAME: &str = "door.picket.internal";
/// Where a device enrols.
pub const ENROL_PATH: &str = "/v1/enrol";
/// Where a device renews its certificate.
pub const RENEW_PATH: &str = "/v1/renew";
/// Largest request: a CSR of an Ed25519 key has about 300 bytes.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Largest answer: two certificates and a chain of keys.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A device asks to be admitted.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The token's secret, in hexadecimal.
    pub secret: String,
    /// A PKCS#10 request in PEM. It proves that the device has the key; the name in it counts for nothing.
    pub csr: String,
}

/// A device asks for its next certificate, with the present one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// A PKCS#10 request in PEM, of the same key.
    pub csr: String,
}

/// What a device is told when it is admitted, and when it renews.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admission {
    /// The site.
    pub site: SiteId,
    /// The device's name: its node's, and the one in its certificate.
    pub node: NodeId,
    /// Its certificate, in PEM.
    pub certificate: String,
    /// The CA's certificate, in PEM.
    pub ca: String,
    /// The brokers, the first that can be reached is used.
    pub brokers: Vec<BrokerUrl>,
    /// The keys that sign orders, from the first to the present one.
    pub orders: OrdersChain,
    /// The newest model root of the site, as its file has it; none where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_root: Option<String>,
}
