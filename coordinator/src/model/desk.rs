//! Says to each node what the registry has for it: on every connection, when the command line has changed something, and long
//! before what was said gets old. It signs heads and seals nothing; who leads, and what the broker takes, is not its matter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::crypto::SecretKey;
use picket_shared::ids::NodeId;
use picket_shared::topics::Topic;

use super::record::Record;
use super::registry::Registry;

/// How often the registry is looked at, in milliseconds.
pub const LOOK_MS: u64 = 2_000;
/// How often assignments are looked through for those that get old, where nothing else has changed.
const RENEW_MS: u64 = 60_000;
/// Assignments said in one turn: the core has other things to do.
const TURN_MAX: usize = 64;

/// What was said of the registry, and what was not yet.
pub struct Desk {
    dir: PathBuf,
    /// When there is something to look for again, on the monotonic clock.
    look_ms: u64,
    /// When assignments are looked through, whether or not something has changed.
    renew_ms: u64,
    /// The registry's state when it was read last; none where it was not understood.
    state: Option<String>,
    /// Under whose lead what follows was said.
    leader: u32,
    /// The number of the assignment that was said to each node, since nothing was certain any more.
    said: BTreeMap<NodeId, u64>,
    problems: Vec<String>,
}

impl Desk {
    /// One for the registry in this folder, which may be made later.
    pub fn new(dir: &Path) -> Desk {
        Desk {
            dir: dir.to_owned(),
            look_ms: 0,
            renew_ms: 0,
            state: None,
            leader: 0,
            said: BTreeMap::new(),
            problems: vec![],
        }
    }

    /// Nothing that was said before is certain to stand at the broker, or under the present key.
    pub fn say_again(&mut self) {
        self.said.clear();
        (self.look_ms, self.state) = (0, None);
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// What is to be published now, by who leads under this epoch. `orders` is the key that signs orders, asked for only where
    /// there is something to say.
    pub fn look(
        &mut self,
        now: Now,
        leader: u32,
        orders: impl FnOnce() -> Result<SecretKey, String>,
    ) -> Vec<(Topic, Vec<u8>)> {
        if std::mem::replace(&mut self.leader, leader) != leader {
            self.say_again();
        }
        if now.mono_ms < self.look_ms {
            return vec![];
        }
        self.look_ms = now.mono_ms + LOOK_MS;
        let (mut said, mut problems) = (vec![], vec![]);
        match self.turn(now, orders, &mut said, &mut problems) {
            Ok(false) => {}
            Ok(true) => self.complain(problems),
            Err(error) => {
                self.state = None;
                self.complain(vec![format!("nodes are not told which model they run: {error}")]);
            }
        }
        said
    }

    /// True where the registry was looked through.
    fn turn(
        &mut self,
        now: Now,
        orders: impl FnOnce() -> Result<SecretKey, String>,
        said: &mut Vec<(Topic, Vec<u8>)>,
        problems: &mut Vec<String>,
    ) -> Result<bool, String> {
        if !Registry::exists(&self.dir) {
            return Ok(false);
        }
        let registry = Registry::open(&self.dir).map_err(|error| error.to_string())?;
        // Asked for before anything is read: what changes meanwhile is seen the next time.
        let state = registry.state();
        if self.state.is_some() && state == self.state && now.mono_ms < self.renew_ms {
            return Ok(false);
        }
        let records = registry.records().map_err(|error| error.to_string())?;
        (self.state, self.renew_ms) = (state, now.mono_ms + RENEW_MS);
        if records.is_empty() {
            return Ok(true);
        }
        let root = registry.root().map_err(|error| error.to_string())?.version;
        let (orders, now_s) = (orders()?, now.unix_ms / 1000);
        for record in records {
            if self.said.get(&record.node) == Some(&record.number) && !record.is_stale(root, now_s) {
                continue;
            }
            if said.len() == TURN_MAX {
                (self.look_ms, self.state) = (now.mono_ms, None);
                break;
            }
            let node = record.node.clone();
            match message(&registry, record, &orders, now_s) {
                Ok((number, payload)) => {
                    self.said.insert(node.clone(), number);
                    said.push((Topic::ModelAssignment(node), payload));
                }
                Err(error) => problems.push(format!("{node} is not told which model it runs: {error}")),
            }
        }
        Ok(true)
    }

    fn complain(&mut self, problems: Vec<String>) {
        if problems != self.problems {
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
            self.problems = problems;
        }
    }
}

/// A record's message, and its number: a new one where it was to be renewed.
fn message(registry: &Registry, record: Record, orders: &SecretKey, now_s: u64) -> Result<(u64, Vec<u8>), String> {
    let text = |error: super::registry::RegistryError| error.to_string();
    let record = registry.renew(&record.node, now_s).map_err(text)?.unwrap_or(record);
    let assignment = registry.assignment(&record, orders).map_err(text)?;
    let payload = codec::encode(&assignment).map_err(|error| error.to_string())?;
    Ok((record.number, payload))
}
