//! Does to a site what its scenario says, ends it again, and heals everything.
//!
//! One thing at a time is done to anybody: whoever is in trouble is not chosen again.

use picket_coordinator::leader::row::Row;

use super::coverage::Cause;
use super::ground::station_of;
use super::net::Who;
use super::scenario::{What, Whom};
use super::{Due, Happening, World};

/// What is being done.
pub(super) struct Troubles {
    /// To whom each act is done: as chosen the first time; nobody stands for the broker.
    chosen: Vec<Option<Vec<Option<Who>>>>,
    /// The first node that anything was done to.
    first: Option<usize>,
    tickets: u64,
    /// The broker is dead, since this ticket.
    broker: Option<u64>,
}

impl Troubles {
    pub(super) fn new(acts: usize) -> Troubles {
        Troubles { chosen: vec![None; acts], first: None, tickets: 0, broker: None }
    }
}

impl World {
    /// Does an act for the so many'th time.
    pub(super) fn act(&mut self, index: usize, time: usize) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        if time == 0 || self.troubles.chosen[index].is_none() {
            self.troubles.chosen[index] = Some(self.choose(index));
        }
        let act = self.scenario.acts[index].clone();
        for who in self.troubles.chosen[index].clone().unwrap_or_default() {
            self.troubles.tickets += 1;
            let ticket = self.troubles.tickets;
            let done = match who {
                None => self.kill_the_broker(ticket),
                Some(who) => self.trouble(who, act.what, ticket)?,
            };
            if let Some(span) = act.for_s.filter(|_| done) {
                let for_ms = span.draw_ms(&mut self.rng);
                self.after(for_ms, Happening::Undo(who, ticket));
            }
        }
        Ok(())
    }

    fn choose(&mut self, index: usize) -> Vec<Option<Who>> {
        let act = &self.scenario.acts[index];
        let (whom, count) = (act.whom, if act.count == 0 { self.agents.len() / 2 } else { act.count });
        let fine = |world: &World, who: Who| world.body(who).trouble.is_none() && world.body(who).alive;
        let all: Vec<Who> = (0..self.coordinators.len()).map(Who::Coordinator).collect();
        let (leading, standing_by): (Vec<Who>, Vec<Who>) =
            all.iter().partition(|who| matches!(who, Who::Coordinator(n) if self.leads(*n)));
        let chosen = match whom {
            Whom::Broker => return vec![None],
            Whom::Leader => leading,
            Whom::Standby => standing_by,
            Whom::Coordinators => all,
            Whom::Coverer => {
                let Some(first) = self.troubles.first else { return vec![] };
                let station = station_of(&self.names[first]);
                let covers = (0..self.agents.len()).filter(|n| self.agents[*n].covers.contains_key(&station));
                covers.map(Who::Agent).collect()
            }
            Whom::Node => {
                let mut nodes: Vec<usize> = (0..self.agents.len()).filter(|n| fine(self, Who::Agent(*n))).collect();
                self.rng.shuffle(&mut nodes);
                nodes.truncate(count);
                self.troubles.first = self.troubles.first.or(nodes.first().copied());
                nodes.into_iter().map(Who::Agent).collect()
            }
        };
        chosen.into_iter().filter(|who| fine(self, *who)).map(Some).collect()
    }

    /// Does something to somebody, unless something is being done. True where it was done.
    fn trouble(&mut self, who: Who, what: What, ticket: u64) -> Result<bool, String> {
        let body = self.body_mut(who);
        if body.trouble.is_some() || !body.alive {
            return Ok(false);
        }
        (body.trouble, body.ticket) = (Some(what), ticket);
        let (now_ms, mut due) = (self.now_ms, Due::new());
        match what {
            What::Kill => self.end(who, Cause::Crash),
            What::Power => {
                self.net.still(now_ms, who, true, &mut due);
                self.end(who, Cause::Silence);
            }
            What::Lose => {
                self.end(who, Cause::Crash);
                self.lose_row(who);
            }
            What::Pause => {
                self.net.still(now_ms, who, true, &mut due);
                self.body_mut(who).paused = true;
                self.see_again(who, Cause::Silence);
            }
            What::Cut | What::Estrange => self.net.path(now_ms, who, false, false, &mut due),
            What::Mute => self.net.path(now_ms, who, false, true, &mut due),
            What::Deafen => self.net.path(now_ms, who, true, false, &mut due),
            What::Drop => {
                self.body_mut(who).trouble = None;
                self.break_connection(who);
            }
            What::Delude => self.delude(who, true),
            What::Blind => self.blind(who, true),
        }
        self.set(due);
        self.is_there(who);
        Ok(true)
    }

    /// What was done to somebody ends.
    pub(super) fn undo(&mut self, who: Option<Who>, ticket: u64) -> Result<(), String> {
        let Some(who) = who else {
            if self.troubles.broker == Some(ticket) {
                self.troubles.broker = None;
                self.net.broker_returns();
                self.net_there();
            }
            return Ok(());
        };
        let body = self.body_mut(who);
        if body.ticket != ticket {
            return Ok(());
        }
        let Some(what) = body.trouble.take() else { return Ok(()) };
        let (now_ms, mut due) = (self.now_ms, Due::new());
        match what {
            What::Kill | What::Lose => self.after(0, Happening::Start(who)),
            What::Power => {
                self.net.still(now_ms, who, false, &mut due);
                self.after(0, Happening::Start(who));
            }
            What::Pause => {
                self.net.still(now_ms, who, false, &mut due);
                self.set(std::mem::take(&mut due));
                self.go_on(who)?;
            }
            What::Cut | What::Estrange | What::Mute | What::Deafen => self.net.path(now_ms, who, true, true, &mut due),
            What::Drop => {}
            What::Delude => self.delude(who, false),
            What::Blind => self.blind(who, false),
        }
        self.set(due);
        self.is_there(who);
        Ok(())
    }

    /// From here on nothing fails: what ends later ends now, and what is for good stays.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.healed = true;
        let air = &mut self.net.air;
        (air.loss, air.duplication, air.replay, air.retransmission) = (0.0, 0.0, 0.0, 0.0);
        let for_good: Vec<bool> = self.scenario.acts.iter().map(|act| act.for_s.is_none()).collect();
        let acts = std::mem::take(&mut self.troubles.chosen).into_iter().zip(for_good);
        let stays: Vec<Option<Who>> =
            acts.filter(|(_, for_good)| *for_good).flat_map(|(who, _)| who).flatten().collect();
        if let Some(ticket) = self.troubles.broker.filter(|_| !stays.contains(&None)) {
            self.undo(None, ticket)?;
        }
        let everybody =
            (0..self.coordinators.len()).map(Who::Coordinator).chain((0..self.agents.len()).map(Who::Agent));
        for who in everybody.filter(|who| !stays.contains(&Some(*who))).collect::<Vec<_>>() {
            let ticket = self.body(who).ticket;
            self.undo(Some(who), ticket)?;
        }
        Ok(())
    }

    /// A process starts.
    pub(super) fn start(&mut self, who: Who) -> Result<(), String> {
        if self.body(who).alive {
            return Ok(());
        }
        match who {
            Who::Agent(index) => self.start_agent(index)?,
            Who::Coordinator(index) => self.start_coordinator(index)?,
        }
        self.links.remove(&who);
        let (pause_ms, life) = (self.rng.u64(1..300), self.body(who).life);
        self.after(pause_ms, Happening::Connect(who, life));
        Ok(())
    }

    fn end(&mut self, who: Who, cause: Cause) {
        let mut due = Due::new();
        if let Some(number) = self.net.session(who) {
            self.net.lose(self.now_ms, who, number, &mut due);
        }
        self.set(due);
        self.body_mut(who).end();
        match who {
            Who::Agent(index) => self.end_agent(index),
            Who::Coordinator(index) => self.end_coordinator(index),
        }
        self.see_again(who, cause);
    }

    /// A process that stood still goes on: its clock first, or what waits for it.
    fn go_on(&mut self, who: Who) -> Result<(), String> {
        let life = self.body(who).life;
        let clock_first = self.rng.bool();
        self.body_mut(who).paused = false;
        if clock_first {
            self.wake(who, life)?;
        }
        while let Some(what) = self.body_mut(who).inbox.pop_front() {
            self.arrive(who, what)?;
        }
        self.wake(who, life)?;
        if std::mem::take(&mut self.body_mut(who).connects) {
            self.connect(who, life)?;
        }
        let agents = &self.agents;
        self.referee.one_actor(|agent| agents[agent].body.runs())?;
        self.see_again(who, Cause::Other);
        Ok(())
    }

    fn kill_the_broker(&mut self, ticket: u64) -> bool {
        if !self.net.is_up() {
            return false;
        }
        self.troubles.broker = Some(ticket);
        let mut due = Due::new();
        let forgets = self.rng.bool();
        self.net.broker_dies(self.now_ms, forgets, &mut due);
        self.set(due);
        self.net_there();
        true
    }

    fn break_connection(&mut self, who: Who) {
        let mut due = Due::new();
        if let Some(number) = self.net.session(who) {
            self.net.end_session(self.now_ms, who, number, &mut due);
        }
        self.set(due);
        self.is_there(who);
    }

    pub(super) fn drop_again(&mut self) {
        let every_s = self.scenario.air.drop_every_s / self.agents.len() as f64;
        if every_s > 0.0 && !self.healed {
            let pause_ms = (every_s * 2_000.0 * self.rng.f64()) as u64;
            self.after(pause_ms, Happening::Drop);
        }
    }

    pub(super) fn drop_somebody(&mut self) {
        if !self.healed {
            let who = Who::Agent(self.rng.usize(..self.agents.len()));
            self.break_connection(who);
        }
        self.drop_again();
    }

    /// Its grants begin anew under an epoch that has been.
    fn lose_row(&mut self, who: Who) {
        if let Who::Coordinator(index) = who {
            let row = self.row_of(index);
            self.rows[row] = Row::default();
            self.referee.keep_no_books();
        }
    }

    fn delude(&mut self, who: Who, deluded: bool) {
        if let Who::Coordinator(index) = who {
            self.coordinators[index].deluded = deluded;
        }
    }

    fn blind(&mut self, who: Who, blind: bool) {
        if let Who::Agent(index) = who {
            self.agents[index].blind = blind;
            self.look_again(index, Cause::Other);
        }
    }

    fn see_again(&mut self, who: Who, cause: Cause) {
        if let Who::Agent(index) = who {
            self.look_again(index, cause);
        }
    }

    /// Keeps in mind since when each node has a connection that serves.
    pub(super) fn net_there(&mut self) {
        (0..self.agents.len()).for_each(|index| self.is_there(Who::Agent(index)));
    }

    /// Keeps in mind since when this client has a connection that serves.
    pub(super) fn is_there(&mut self, who: Who) {
        let (now_ms, there) = (self.now_ms, self.net.connected(who) && self.body(who).runs());
        let since_ms = &mut self.body_mut(who).there_since_ms;
        *since_ms = there.then(|| since_ms.unwrap_or(now_ms));
    }
}
