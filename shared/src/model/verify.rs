//! Whether a device does what an assignment says: one function of what it has seen, what it was told, what it is, and the
//! time. TUF's client workflow (section 5.3 to 5.7) over documents that came together. Pure.
//!
//! What is proven is taken in even where the whole is refused: a root that follows from the known one, the number that the
//! orders key gave, a release that the owner signed. So whatever order assignments come in, a device ends with the same.

use serde::{Deserialize, Serialize};

use super::assignment::{Assignment, TrialTerms};
use super::envelope::{Envelope, EnvelopeError};
use super::learned::{LearnedManifest, Learns};
use super::manifest::{Artifact, HeadManifest, Manifest};
use super::root::{Root, RootError};
use super::trusted::{HeadSeen, LearnedSeen, Trusted};
use crate::crypto::{Digest, KeyId, PublicKey};
use crate::ids::{ModelName, NodeId, StationId};
use crate::limits::MODEL_NAMES_MAX;

/// What a device is.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Its name.
    pub node: &'a NodeId,
    /// The station that it watches.
    pub station: &'a StationId,
    /// The key that signs the site's orders, by which the assignment's seal was checked. None where the device is not
    /// enrolled: then nobody knows who says what, and it takes no assignment.
    pub orders: Option<&'a PublicKey>,
    /// Its processor, as Rust names it.
    pub arch: &'a str,
    /// The execution providers that it can use.
    pub providers: &'a [String],
    /// Its memory.
    pub memory_bytes: u64,
    /// The minor version of its ONNX Runtime: 24 of 1.24.4.
    pub runtime_api: u32,
    /// What it learns over; nothing where it does not learn.
    pub learns: Option<Learns>,
}

/// What a device is to do, once it has all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The number that the release was assigned under.
    pub number: u64,
    /// The release; none where it runs what its configuration says.
    pub release: Option<Manifest>,
    /// A head in the place of the release's own.
    pub head: Option<HeadManifest>,
    /// How the release is tried.
    pub trial: TrialTerms,
    /// Not to be begun before then, seconds since 1970.
    pub not_before_s: u64,
}

/// What came of an assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What is trusted from here on. It must be durable before the plan is acted on.
    pub trusted: Trusted,
    /// What to do, or why not.
    pub verdict: Result<Plan, Refusal>,
    /// The learned head that is to be judged by, or why not; nothing where none was assigned. Neither hangs on the other: a head
    /// that is refused stops no release, nor the other way round.
    pub learned: Option<Result<LearnedManifest, Refusal>>,
}

/// Why a model, or what is said of it, is refused. Each has a constant word, for counters, for health and for people.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The device is not enrolled, or a document bears no signature.
    #[error("{0} is not signed")]
    Unsigned(&'static str),
    /// It is for another node or station.
    #[error("the assignment is for {0} at the station {1}")]
    Station(NodeId, StationId),
    /// The device was given no root.
    #[error("this device knows no model root; enrol it again, or name the owner's root file by root in [model]")]
    RootMissing,
    /// The chain begins after the root that follows the known one.
    #[error(
        "the roots begin with version {from}, and this device knows version {known}; give it a newer root file by root in \
         [model]"
    )]
    RootGap {
        /// The first of the chain.
        from: u64,
        /// What the device knows.
        known: u64,
    },
    /// A root does not follow from the one before.
    #[error("{0}")]
    Root(#[from] RootError),
    /// The newest root holds no more.
    #[error(
        "the model root, version {0}, has expired; its owner must make a new one: `picket-coordinator model root rotate`"
    )]
    RootExpired(u64),
    /// An assignment of before.
    #[error("the assignment is number {number}, and there has been {seen}")]
    Replayed {
        /// Its number.
        number: u64,
        /// The highest.
        seen: u64,
    },
    /// Its time is over.
    #[error("{what} was good until {until_s}, and now is {now_s}")]
    Expired {
        /// The document.
        what: &'static str,
        /// Until when.
        until_s: u64,
        /// The time.
        now_s: u64,
    },
    /// The news has stopped.
    #[error("no assignment has come since the last one expired; check the coordinator and the broker")]
    Frozen,
    /// A signature is false, or there twice.
    #[error("{what} is refused: {error}")]
    Signature {
        /// The document.
        what: &'static str,
        /// What is wrong.
        error: EnvelopeError,
    },
    /// Too few have signed.
    #[error("{what} is refused: {error}")]
    Threshold {
        /// The document.
        what: &'static str,
        /// What is wrong.
        error: EnvelopeError,
    },
    /// Signed, and not what it should be: of a newer program, or one with a defect.
    #[error("{what} is refused: {error}; it may need a newer program")]
    Malformed {
        /// The document.
        what: &'static str,
        /// What is wrong.
        error: EnvelopeError,
    },
    /// A release of before.
    #[error("{what} {name} is release {counter}, and there has been {seen}")]
    Rollback {
        /// Model or head.
        what: &'static str,
        /// Its name.
        name: ModelName,
        /// Its counter.
        counter: u64,
        /// The highest.
        seen: u64,
    },
    /// Documents that do not belong together.
    #[error("the head belongs to {0}, which is not assigned with it")]
    Mixed(String),
    /// A head that the release does not allow.
    #[error("the head is not one that the release of {0} lets the site replace")]
    Delegation(ModelName),
    /// The device has not what it needs.
    #[error("the release needs {0}")]
    Hardware(String),
    /// The device's runtime is too old.
    #[error("the release needs ONNX Runtime 1.{needs}, and this device has 1.{has}")]
    Runtime {
        /// What it needs.
        needs: u32,
        /// What there is.
        has: u32,
    },
    /// More models than a device keeps counters of.
    #[error(
        "{MODEL_NAMES_MAX} models have been assigned to this device; give releases the name of the model that they follow"
    )]
    Names,
    /// A learned head, and a device that learns nothing.
    #[error("a learned head, and nothing is learned on this device; set enabled in [learn]")]
    LearnsNothing,
    /// A learned head over another network.
    #[error("a learned head over the network {of}, and this device runs {}…", runs.short())]
    Network {
        /// Which network.
        of: String,
        /// What runs.
        runs: Digest,
    },
    /// A learned head of another form.
    #[error(
        "a learned head for {of} features of a candidate, and this device has {inputs}; or not one that says yes or no"
    )]
    Shape {
        /// How many it takes.
        of: u32,
        /// How many there are.
        inputs: u32,
    },
    /// A learned head that nobody learned.
    #[error("a learned head of the norm {0:.1}, or with a number that is none; no head that was learned is so long")]
    Numbers(f64),
    /// A file of another length.
    #[error("the {what} has {bytes} bytes, of {expected}")]
    Length {
        /// Which file.
        what: &'static str,
        /// How many it has, or has so far.
        bytes: u64,
        /// How many it shall have.
        expected: u64,
    },
    /// A file of other bytes.
    #[error("the {what} has another SHA-256 than {expected}")]
    Digest {
        /// Which file.
        what: &'static str,
        /// What it shall have.
        expected: Digest,
    },
}

impl Refusal {
    /// A constant word.
    pub fn word(&self) -> &'static str {
        match self {
            Refusal::Unsigned(_) => "model_unsigned",
            Refusal::Station(..) => "model_station",
            Refusal::RootMissing => "model_root_missing",
            Refusal::RootGap { .. } => "model_root_gap",
            Refusal::Root(RootError::Version(..)) => "model_root_version",
            Refusal::Root(RootError::Before { .. } | RootError::Own { .. }) => "model_root_signature",
            Refusal::RootExpired(_) => "model_root_expired",
            Refusal::Replayed { .. } => "model_replayed",
            Refusal::Expired { .. } => "model_expired",
            Refusal::Frozen => "model_frozen",
            Refusal::Signature { .. } => "model_signature",
            Refusal::Threshold { .. } => "model_threshold",
            Refusal::Malformed { .. } => "model_malformed",
            Refusal::Rollback { .. } => "model_rollback",
            Refusal::Mixed(_) => "model_mixed",
            Refusal::Delegation(_) => "model_delegation",
            Refusal::Hardware(_) => "model_hardware",
            Refusal::Runtime { .. } => "model_runtime",
            Refusal::Names => "model_names",
            Refusal::LearnsNothing => "model_learned_off",
            Refusal::Network { .. } => "model_learned_network",
            Refusal::Shape { .. } => "model_learned_shape",
            Refusal::Numbers(_) => "model_learned_numbers",
            Refusal::Length { .. } => "model_length",
            Refusal::Digest { .. } => "model_digest",
        }
    }

    fn of(what: &'static str, error: EnvelopeError) -> Refusal {
        match error {
            EnvelopeError::Unsigned => Refusal::Unsigned(what),
            EnvelopeError::Signature(_) | EnvelopeError::Twice(_) => Refusal::Signature { what, error },
            EnvelopeError::Threshold { .. } => Refusal::Threshold { what, error },
            EnvelopeError::Malformed(_) => Refusal::Malformed { what, error },
        }
    }
}

const RELEASE: &str = "the release";
const HEAD: &str = "the head";
const LEARNED: &str = "the learned head";

/// Judges an assignment whose seal was checked by the key in `facts`. `now_s` is the device's calendar.
pub fn verify(trusted: &Trusted, assignment: &Assignment, facts: &Facts<'_>, now_s: u64) -> Outcome {
    let mut trusted = trusted.clone();
    let verdict = judge(&mut trusted, assignment, facts, now_s);
    let learned = assignment.learned.as_ref().map(|envelope| learned(&mut trusted, assignment, envelope, facts, now_s));
    Outcome { trusted, verdict, learned }
}

fn judge(trusted: &mut Trusted, assignment: &Assignment, facts: &Facts<'_>, now_s: u64) -> Result<Plan, Refusal> {
    let orders = for_this_device(assignment, facts)?;
    let Assignment { number, issued_s, expires_s, .. } = assignment;
    let heard = trusted.hear(orders.id(), *number, *issued_s, *expires_s);
    follow(&mut trusted.root, assignment)?;
    // What the owner signed counts, even where the assignment is an old one.
    let release = assignment.release.as_ref().map(|envelope| release(trusted, envelope)).transpose()?;
    let head = match (&assignment.head, &release) {
        (None, _) => None,
        (Some(_), None) => return Err(Refusal::Mixed("a release".into())),
        (Some(envelope), Some((manifest, _))) => Some(head(trusted, envelope, manifest, orders)?),
    };

    // A clock that was set back brings nothing back.
    let now_s = trusted.orders.map_or(now_s, |seen| seen.issued_s.max(now_s));
    if trusted.root.is_expired(now_s) {
        return Err(Refusal::RootExpired(trusted.root.version));
    }
    heard.map_err(|seen| Refusal::Replayed { number: *number, seen })?;
    let in_time = |what, until_s| in_time(what, until_s, now_s);
    in_time("the assignment", *expires_s)?;
    let release = release.map(|(manifest, seen)| {
        in_time(RELEASE, manifest.expires_s)?;
        newer(RELEASE, &manifest.name, manifest.counter, seen)?;
        fits(&manifest, facts)?;
        Ok::<_, Refusal>(manifest)
    });
    let release = release.transpose()?;
    let head = head.map(|(head, seen)| {
        in_time(HEAD, head.expires_s)?;
        newer(HEAD, &head.name, head.counter, seen)?;
        Ok::<_, Refusal>(head)
    });
    let head = head.transpose()?;
    let (trial, not_before_s) = (assignment.trial, assignment.not_before_s);
    let number = assignment.release_number.unwrap_or(*number);
    Ok(Plan { number, release, head, trial, not_before_s })
}

/// The learned head, after [`judge`] has taken in what the assignment says of itself. It asks for the site's word alone, and so
/// for no root.
fn learned(
    trusted: &mut Trusted,
    assignment: &Assignment,
    envelope: &Envelope,
    facts: &Facts<'_>,
    now_s: u64,
) -> Result<LearnedManifest, Refusal> {
    let orders = for_this_device(assignment, facts)?;
    let learned: LearnedManifest = envelope.open(&[*orders], 1).map_err(|error| Refusal::of(LEARNED, error))?;
    let (key, number) = (orders.id(), assignment.number);
    let lineage = &learned.lineage;
    let backbone = lineage.backbone.to_ascii_lowercase().parse().expect("it was checked when it was read");
    let (fleet_epoch, counter, issued_s) = (lineage.fleet_epoch, learned.counter, assignment.issued_s);
    let before = trusted.hear_learned(LearnedSeen { backbone, key, fleet_epoch, counter, issued_s });
    if let Some(seen) = trusted.orders.filter(|seen| seen.key == key && seen.number > number) {
        return Err(Refusal::Replayed { number, seen: seen.number });
    }
    let now_s = trusted.orders.map_or(now_s, |seen| seen.issued_s.max(now_s));
    in_time("the assignment", assignment.expires_s, now_s)?;
    in_time(LEARNED, learned.expires_s, now_s)?;
    if let Some((_, seen)) = before.filter(|before| *before > (fleet_epoch, counter)) {
        let name = ModelName::new(lineage.id().to_string()).expect("a lineage's digits are a name");
        return Err(Refusal::Rollback { what: LEARNED, name, counter, seen });
    }
    learned.fits(facts.learns)?;
    Ok(learned)
}

/// The key that an assignment to this device is signed by.
fn for_this_device<'a>(assignment: &Assignment, facts: &Facts<'a>) -> Result<&'a PublicKey, Refusal> {
    let Assignment { node, station, .. } = assignment;
    let orders = facts.orders.ok_or(Refusal::Unsigned("the assignment"))?;
    match node == facts.node && station == facts.station {
        true => Ok(orders),
        false => Err(Refusal::Station(node.clone(), station.clone())),
    }
}

fn in_time(what: &'static str, until_s: u64, now_s: u64) -> Result<(), Refusal> {
    if now_s < until_s { Ok(()) } else { Err(Refusal::Expired { what, until_s, now_s }) }
}

/// Follows the chain as far as it is proven.
fn follow(root: &mut Root, assignment: &Assignment) -> Result<(), Refusal> {
    let Assignment { root_from, roots, .. } = assignment;
    let next = root.version.saturating_add(1);
    if !roots.is_empty() && *root_from > next {
        return Err(Refusal::RootGap { from: *root_from, known: root.version });
    }
    // Those that are known already are not read again.
    let known = usize::try_from(next - root_from.min(&next)).unwrap_or(usize::MAX);
    for envelope in roots.iter().skip(known) {
        *root = root.follow(envelope)?;
    }
    Ok(())
}

/// The manifest, once enough model keys signed it, and the highest release before it.
fn release(trusted: &mut Trusted, envelope: &Envelope) -> Result<(Manifest, Option<u64>), Refusal> {
    let Root { keys, threshold, .. } = &trusted.root;
    let manifest: Manifest = envelope.open(keys, *threshold).map_err(|error| Refusal::of(RELEASE, error))?;
    let seen = trusted.counters.get(&manifest.name).copied();
    if seen.is_none() && trusted.counters.len() >= MODEL_NAMES_MAX {
        return Err(Refusal::Names);
    }
    trusted.counters.insert(manifest.name.clone(), manifest.counter.max(seen.unwrap_or(0)));
    Ok((manifest, seen))
}

/// The head's manifest, once the orders key signed it, and the release allows it; and the highest head before it.
fn head(
    trusted: &mut Trusted,
    envelope: &Envelope,
    manifest: &Manifest,
    orders: &PublicKey,
) -> Result<(HeadManifest, Option<u64>), Refusal> {
    let head: HeadManifest = envelope.open(&[*orders], 1).map_err(|error| Refusal::of(HEAD, error))?;
    if head.base != manifest.file.sha256 || head.name != manifest.name {
        return Err(Refusal::Mixed(format!("{} {}", head.name, head.base.short())));
    }
    let delegation =
        manifest.delegation.filter(|delegation| delegation.numbers.checked_mul(4) == Some(head.file.length));
    delegation.ok_or_else(|| Refusal::Delegation(head.name.clone()))?;
    let key: KeyId = orders.id();
    let seen = trusted.heads.get(&head.name).filter(|seen| seen.key == key).map(|seen| seen.counter);
    let highest = HeadSeen { key, counter: head.counter.max(seen.unwrap_or(0)) };
    // There are no more of them than of models.
    trusted.heads.insert(head.name.clone(), highest);
    Ok((head, seen))
}

fn newer(what: &'static str, name: &ModelName, counter: u64, seen: Option<u64>) -> Result<(), Refusal> {
    match seen {
        Some(seen) if counter < seen => Err(Refusal::Rollback { what, name: name.clone(), counter, seen }),
        _ => Ok(()),
    }
}

/// Whether the device has what the release needs.
fn fits(manifest: &Manifest, facts: &Facts<'_>) -> Result<(), Refusal> {
    let needs = &manifest.needs;
    if !needs.arch.is_empty() && !needs.arch.iter().any(|arch| arch == facts.arch) {
        return Err(Refusal::Hardware(format!(
            "a processor of {}, and this is {}",
            needs.arch.join(" or "),
            facts.arch
        )));
    }
    if !needs.providers.is_empty() && !needs.providers.iter().any(|provider| facts.providers.contains(provider)) {
        return Err(Refusal::Hardware(format!("{}, which this device has not", needs.providers.join(" or "))));
    }
    if needs.memory_bytes > facts.memory_bytes {
        let mib = |bytes: u64| bytes >> 20;
        let (asked, has) = (mib(needs.memory_bytes), mib(facts.memory_bytes));
        return Err(Refusal::Hardware(format!("{asked} MiB of memory, and this device has {has}")));
    }
    if needs.runtime_api > facts.runtime_api {
        return Err(Refusal::Runtime { needs: needs.runtime_api, has: facts.runtime_api });
    }
    Ok(())
}

impl Artifact {
    /// Whether these bytes are the file. Its length is looked at first: a file may be named by its digest alone, and never be
    /// read without an end.
    pub fn admits(&self, what: &'static str, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() as u64 != self.length {
            return Err(Refusal::Length { what, bytes: bytes.len() as u64, expected: self.length });
        }
        match Digest::of(bytes) == self.sha256 {
            true => Ok(()),
            false => Err(Refusal::Digest { what, expected: self.sha256 }),
        }
    }
}
