//! What must hold at every step of every site, judged from what is said and done and from nothing that a core believes:
//! one actor for a station, no right that a later grant has ended, nothing held after an answer without it.
//!
//! It keeps its own books of all grants and of what each receiver has been told. A sentence from here ends the run.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::duty::{Epoch, Heartbeat, Leases, Standby};
use picket_shared::ids::{Boot, StationId};
use picket_shared::limits::{LEASE_MARGIN_MS, LEASE_TTL_MS};

/// Heartbeats whose content is kept, to understand their answers.
const BEATS_KEPT: usize = 16;

/// What one run of an agent has been told and has said.
#[derive(Default)]
struct Ear {
    boot: Option<Boot>,
    /// The highest leader that it has been told of, and the highest that it has spoken of.
    leader: u32,
    said_leader: u32,
    /// The highest epoch of each station that it has been told of, and that it has spoken of.
    epochs: BTreeMap<StationId, Epoch>,
    said_epochs: BTreeMap<StationId, Epoch>,
    /// Its heartbeats: when they were sent on its clock, and what they named.
    beats: BTreeMap<u64, (u64, BTreeSet<StationId>)>,
    /// The leader, heartbeat and turn of the last answer.
    answered: (u32, u64, u32),
    /// Its leases: until when on its own clock.
    leases: BTreeMap<StationId, (Epoch, u64)>,
}

/// What follows from a message, if its receiver does right.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// It is from before something that the receiver knows: it must be refused.
    pub stale: bool,
    /// Afterwards none of these is held.
    pub not_held: BTreeSet<StationId>,
}

/// What one run of a coordinator has granted, by its own answers: to whom each station belongs now.
type Told = BTreeMap<StationId, (Epoch, usize)>;

/// The books.
pub struct Referee {
    ears: Vec<Ear>,
    told: Vec<Told>,
    /// To whom each epoch of a station was granted.
    grants: BTreeMap<(StationId, Epoch), usize>,
    /// Who acts for a station, and under which epoch.
    actors: BTreeMap<StationId, BTreeMap<usize, Epoch>>,
    /// Messages from before something that their receiver knew: all were refused.
    pub stale_refused: u64,
    /// How often a platform began to act.
    pub acts: u64,
    /// Grants may be made twice under one epoch: by two coordinators with a row each, or because the row was lost. Then no
    /// books can be kept of who owns what; that only one acts must hold all the same.
    no_books: bool,
}

impl Referee {
    /// Empty books.
    pub fn new(agents: usize, coordinators: usize, no_books: bool) -> Referee {
        Referee {
            ears: (0..agents).map(|_| Ear::default()).collect(),
            told: vec![Told::new(); coordinators],
            grants: BTreeMap::new(),
            actors: BTreeMap::new(),
            stale_refused: 0,
            acts: 0,
            no_books,
        }
    }

    /// From here on grants may be made under epochs that have been.
    pub fn keep_no_books(&mut self) {
        self.no_books = true;
    }

    /// Whether grants may be made twice under one epoch.
    pub fn keeps_no_books(&self) -> bool {
        self.no_books
    }

    /// An agent begins a run.
    pub fn agent_begins(&mut self, agent: usize, boot: Boot) {
        self.ears[agent] = Ear { boot: Some(boot), ..Ear::default() };
    }

    /// An agent's run ends, and with it whatever it did.
    pub fn agent_ends(&mut self, agent: usize) {
        for actors in self.actors.values_mut() {
            actors.remove(&agent);
        }
        self.ears[agent].leases.clear();
    }

    /// A coordinator begins to lead, or a run.
    pub fn coordinator_begins(&mut self, coordinator: usize) {
        self.told[coordinator].clear();
    }

    /// An agent says what it holds.
    pub fn heartbeat(&mut self, agent: usize, beat: &Heartbeat, mono_ms: u64) -> Result<(), String> {
        let ear = &mut self.ears[agent];
        if beat.leader < ear.said_leader {
            return Err(format!("agent {agent} goes back from leader {} to {}", ear.said_leader, beat.leader));
        }
        ear.said_leader = beat.leader;
        for held in &beat.holdings {
            let said = ear.said_epochs.entry(held.station.clone()).or_insert(held.epoch);
            if held.epoch < *said {
                let station = &held.station;
                return Err(format!("agent {agent} goes back from epoch {said} of {station} to {}", held.epoch));
            }
            *said = held.epoch;
            let owned = |(epoch, until_ms): &(Epoch, u64)| *epoch == held.epoch && mono_ms < *until_ms;
            if !self.no_books && !held.provisional && !ear.leases.get(&held.station).is_some_and(owned) {
                let lease = ear.leases.get(&held.station);
                return Err(format!(
                    "agent {agent} claims {} by {} at {mono_ms} and has {lease:?}",
                    held.station, held.epoch
                ));
            }
        }
        let named = beat.holdings.iter().map(|held| held.station.clone()).collect();
        ear.beats.insert(beat.number, (mono_ms, named));
        while ear.beats.len() > BEATS_KEPT {
            ear.beats.pop_first();
        }
        Ok(())
    }

    /// An answer reaches an agent, whose own station this is.
    pub fn leases(&mut self, agent: usize, own: &StationId, leases: &Leases) -> Expected {
        let ear = &mut self.ears[agent];
        if Some(leases.boot) != ear.boot {
            return Expected { stale: true, ..Expected::default() };
        }
        let before = |lease: &picket_shared::duty::Lease| {
            ear.epochs.get(&lease.station).is_some_and(|known| lease.epoch < *known)
        };
        // Whoever is overtaken by a later answer of the same leader is passed over without a word.
        let this = (leases.leader, leases.number, leases.turn);
        let overtaken = leases.leader == ear.answered.0 && this <= ear.answered;
        if leases.leader < ear.leader || !overtaken && leases.leases.iter().any(before) {
            return Expected { stale: true, ..Expected::default() };
        }
        let newest = ear.beats.last_key_value().map_or(0, |(number, _)| *number);
        // The agent keeps eight heartbeats; an answer to an older one comes too late to mean anything.
        let Some((sent_ms, named)) = ear.beats.get(&leases.number).filter(|_| leases.number + 8 > newest) else {
            return Expected::default();
        };
        if overtaken {
            return Expected::default();
        }
        let granted: BTreeMap<_, _> = leases.leases.iter().map(|lease| (lease.station.clone(), lease.epoch)).collect();
        // What this leader granted, it can take by any later answer.
        let leased =
            ear.leases.iter().filter(|(_, (epoch, _))| epoch.leader() == leases.leader).map(|(station, _)| station);
        let gone = named.iter().chain(leased).filter(|station| !granted.contains_key(*station) && *station != own);
        let not_held: BTreeSet<_> = gone.cloned().collect();
        (ear.leader, ear.answered) = (leases.leader, this);
        let until_ms = sent_ms + LEASE_TTL_MS - LEASE_MARGIN_MS;
        ear.epochs.extend(granted.iter().map(|(station, epoch)| (station.clone(), *epoch)));
        // A lease of the leader before that this answer cannot know of lasts its time: that leader's successor waits for it.
        ear.leases.retain(|station, _| !not_held.contains(station) && station != own);
        ear.leases.extend(granted.into_iter().map(|(station, epoch)| (station, (epoch, until_ms))));
        Expected { stale: false, not_held }
    }

    /// What it may have to cover reaches an agent.
    pub fn standby(&mut self, agent: usize, standby: &Standby) -> Expected {
        let ear = &mut self.ears[agent];
        let stale = standby.leader < ear.leader;
        ear.leader = ear.leader.max(standby.leader);
        Expected { stale, ..Expected::default() }
    }

    /// An agent has taken in a message: it refused it or did not, and covers these now.
    pub fn took(
        &mut self,
        agent: usize,
        expected: &Expected,
        refused: bool,
        covers: &BTreeSet<StationId>,
    ) -> Result<(), String> {
        if self.no_books {
            return Ok(());
        }
        if expected.stale && !refused {
            return Err(format!("agent {agent} accepted what is older than what it knew"));
        }
        self.stale_refused += u64::from(expected.stale);
        match expected.not_held.intersection(covers).next() {
            Some(station) => Err(format!("agent {agent} holds {station} after an answer without it")),
            None => Ok(()),
        }
    }

    /// A heartbeat reaches a coordinator of this epoch: whether it claims what a later grant of that coordinator has ended.
    pub fn claims_what_has_ended(&self, coordinator: usize, leader: u32, agent: usize, beat: &Heartbeat) -> bool {
        if self.no_books {
            return false;
        }
        let own = beat.holdings.first().map(|held| &held.station);
        beat.holdings.iter().any(|held| {
            let told = self.told[coordinator].get(&held.station);
            let ended = told.is_some_and(|(epoch, holder)| *epoch > held.epoch && *holder != agent);
            // A home watches its own whoever else does, and who speaks of another leader cannot know.
            ended && !held.provisional && held.epoch.leader() == leader && Some(&held.station) != own
        })
    }

    /// A coordinator answers. `live` says whether an agent runs, and what its clock shows. What was granted anew is
    /// returned.
    pub fn answers(
        &mut self,
        coordinator: usize,
        agent: usize,
        home_of: impl Fn(&StationId) -> usize,
        live: impl Fn(usize) -> Option<u64>,
        leases: &Leases,
    ) -> Result<Vec<(StationId, Epoch)>, String> {
        let no_books = self.no_books;
        let told = &mut self.told[coordinator];
        told.retain(|station, (_, holder)| *holder != agent || leases.leases.iter().any(|l| l.station == *station));
        let mut new = Vec::new();
        for lease in &leases.leases {
            let (station, epoch) = (&lease.station, lease.epoch);
            let holder = *self.grants.entry((station.clone(), epoch)).or_insert(agent);
            if holder != agent && !no_books {
                return Err(format!("{station} is granted by {epoch} to agent {agent} and to agent {holder}"));
            }
            let before = told.insert(station.clone(), (epoch, agent));
            if before.is_some_and(|(before, _)| before > epoch) {
                return Err(format!("coordinator {coordinator} answers {station} by {epoch}, after {before:?}"));
            }
            if before.is_some_and(|(before, _)| before == epoch) {
                continue;
            }
            new.push((station.clone(), epoch));
            // Its home watches in any case, and never acts.
            let owner = self.ears.iter().enumerate().find(|(other, ear)| {
                let leased = ear.leases.get(station).filter(|(by, _)| by.leader() < leases.leader);
                let owns = leased.is_some_and(|(_, until_ms)| live(*other).is_some_and(|mono_ms| mono_ms < *until_ms));
                owns && *other != agent && *other != home_of(station)
            });
            if let Some((owner, _)) = owner.filter(|_| agent != home_of(station) && !no_books) {
                return Err(format!(
                    "leader {} gives {station} to agent {agent}, and agent {owner} has a lease of the leader before",
                    leases.leader
                ));
            }
        }
        Ok(new)
    }

    /// An agent covers a station no more, of itself or because it was told. If it does again, that is another matter, of
    /// which an answer to an earlier heartbeat says nothing.
    pub fn uncovers(&mut self, agent: usize, station: &StationId) {
        let ear = &mut self.ears[agent];
        ear.leases.remove(station);
        for (_, named) in ear.beats.values_mut() {
            named.remove(station);
        }
    }

    /// The epoch of the last lease that an agent was given of a station.
    pub fn lease_of(&self, agent: usize, station: &StationId) -> Option<Epoch> {
        self.ears[agent].leases.get(station).map(|(epoch, _)| *epoch)
    }

    /// Whether an agent has a lease of a station now, on its clock.
    pub fn owns(&self, agent: usize, station: &StationId, mono_ms: u64) -> bool {
        self.ears[agent].leases.get(station).is_some_and(|(_, until_ms)| mono_ms < *until_ms)
    }

    /// A platform begins to act.
    pub fn go(&mut self, agent: usize, station: &StationId, epoch: Epoch, mono_ms: u64) -> Result<(), String> {
        self.acts += 1;
        let lease = self.ears[agent].leases.get(station);
        if !self.no_books && !lease.is_some_and(|(by, until_ms)| *by == epoch && mono_ms < *until_ms) {
            return Err(format!("agent {agent} acts for {station} by {epoch} at {mono_ms} and has {lease:?}"));
        }
        self.actors.entry(station.clone()).or_default().insert(agent, epoch);
        Ok(())
    }

    /// It ends.
    pub fn leave(&mut self, agent: usize, station: &StationId) {
        if let Some(actors) = self.actors.get_mut(station) {
            actors.remove(&agent);
        }
    }

    /// Whether this agent acts for that station.
    pub fn acts_for(&self, agent: usize, station: &StationId) -> bool {
        self.actors.get(station).is_some_and(|actors| actors.contains_key(&agent))
    }

    /// At most one of those that run acts for a station. One that stands still moves nothing.
    pub fn one_actor(&self, runs: impl Fn(usize) -> bool) -> Result<(), String> {
        for (station, actors) in &self.actors {
            let acting: Vec<_> = actors.iter().filter(|(agent, _)| runs(**agent)).collect();
            if acting.len() > 1 {
                return Err(format!("two act for {station} at once, by agent and epoch: {acting:?}"));
            }
        }
        Ok(())
    }
}
