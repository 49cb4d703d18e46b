//! The one place where everything is wired: archive, broker, link, core, web page, and the end of it all.
//!
//! The core lives in one task. The archive lives in a thread of its own, because a commit waits for the disk. Nothing is
//! decided here.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Context;
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::brokers::fallback_problem;
use picket_shared::calendar::unix_s;
use picket_shared::exit::{Exit, Failure};
use picket_shared::keyfile::KeyfileError;
use picket_shared::learn::view::Learning;
use picket_shared::limits::{BATCH_BYTES_MAX, DUTY_BYTES_MAX, HEAD_UPDATE_BYTES_MAX, STATUS_BYTES_MAX};
use picket_shared::listener::Refusals;
use picket_shared::mqtt::{self, Link, LinkEvent, LinkOptions, Will};
use picket_shared::status::UpDown;
use picket_shared::store::StoreError;
use picket_shared::topics::Topic;
use picket_shared::trust::DAY_S;
use picket_shared::trust::seal::SEAL_JSON_BYTES_MAX;
use picket_shared::trust::signer::Signer;
use picket_shared::trust::tls::TlsFiles;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::archive::Commit;
use crate::authority::Authority;
use crate::clock::Clock;
use crate::config::Config;
use crate::coordinator::{Coordinator, Effect, Identity, Input};
use crate::credentials::Credentials;
use crate::heads::Heads;
use crate::http::{Answer, Pages, QUESTIONS_MAX, Question};
use crate::lead::DEAF_MS_MAX;
use crate::leader::FileLeader;
use crate::leading;
use crate::learn::agreement::Agreement;
use crate::learn::learner;
use crate::learn::study::{self, Study};
use crate::learn::voice;
use crate::model::desk::Desk;
use crate::model::fleet::Fleet;
use crate::model::registry::Registry;
use crate::model::server::Server;
use crate::outgoing::Outgoing;
use crate::pictures::folder::Folder;
use crate::pictures::{self, Pictures};
use crate::store::Archive;
use crate::writer::{self, Written};
use crate::{broker, door, http, plan, view};

mod learning;
mod operators;

/// How long the last commit and the goodbye may take.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How soon to offer a message again that the MQTT client had no room for: its queue empties in a few milliseconds.
const BUSY_RETRY: Duration = Duration::from_millis(5);

/// Runs a coordinator until `shutdown` is done.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let clock = Clock::start();
    let now_s = clock.now().unix_ms / 1000;
    let (mut archive, recovered) = Archive::open(&config.data_dir, now_s).map_err(disk_failure)?;
    let boot = archive.begin_boot(now_s, fastrand::u32(..)).map_err(disk_failure)?;
    tracing::info!(
        "archive {}: {} entries, {} lanes, read in {} ms",
        config.data_dir.display(),
        recovered.last,
        recovered.lanes.len(),
        clock.now().mono_ms
    );
    for problem in &recovered.problems {
        tracing::error!("{problem}; check the disk, and the copies you have of the archive");
    }

    for gap in plan::gaps(&config.stations) {
        tracing::warn!("the site plan: {gap}");
    }

    if config.mqtt.embedded {
        broker::start(config.mqtt.port, config.mqtt.websocket_port)?;
    }
    let (refusals, of_the_door) = (Refusals::default(), Refusals::default());
    let listener = http::listen(config.http.listen, refusals.clone())
        .map_err(|error| broker::port_failure(config.http.listen, "http.listen or --http-port", &error))?;
    tracing::info!("page, metrics and health on http://{}", config.http.listen);
    if !config.http.listen.ip().is_loopback() {
        tracing::warn!("whoever reaches this machine can look at the page; put a proxy in front that asks who it is");
    }
    if config.http.operators_anywhere {
        tracing::warn!(
            "operators' tokens are taken from other machines, and travel in the clear unless a proxy has TLS"
        );
    }
    if config.websocket_url().is_none() {
        tracing::warn!(
            "the page will show no events: mqtt.websocket_url does not say where a browser reaches the broker"
        );
    }

    let audit = Arc::new(AuditLog::open_or_later(&config.data_dir, now_s));
    if let Err(error) = audit.record(now_s, Act::Started, &Note::about(env!("CARGO_PKG_VERSION"))) {
        tracing::error!("{error}; nobody is admitted and no picture is taken in meanwhile");
    }
    let disk = |error: KeyfileError| Failure::new(Exit::Disk, error.to_string());
    let heads = Heads::open(&config.data_dir, Arc::clone(&audit)).map_err(disk)?;
    let pictures = Pictures::new(config.pictures.clone(), Folder::below(&config.data_dir), Arc::clone(&audit));

    let (tls, door) = trust(&config, &audit, &of_the_door)?;
    let me = Identity { site: config.site.clone(), pid: std::process::id(), boot, name: config.leader.name.clone() };
    let credentials = credentials(&config)?;
    let options = link_options(&config, &me, tls, &credentials, clock);
    let (link, events) = mqtt::open_any(options, config.mqtt.fallback.clone());
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    let dirs = (config.data_dir.clone(), config.models_dir());
    let anywhere = config.http.operators_anywhere;
    let orders = http::orders::Door::new(dirs, Arc::clone(&audit), anywhere, questions.clone(), refusals.clone());
    let refusals = [("http", refusals), ("enrolment", of_the_door)];
    let (site, mqtt_websocket_url) = (config.site.clone(), config.websocket_url());
    let pages = Pages { site, mqtt_websocket_url, questions, refusals, door: orders };
    let page = tokio::spawn(http::serve(listener, pages));

    let archive_bytes = archive.size_bytes();
    let (commits, answers) = writer::spawn(archive, clock).context("no thread for the archive")?;
    let core = Coordinator::new(me, config.rules(), recovered, clock.now());
    let (outgoing, desk) = (Outgoing::default(), Desk::new(&config.models_dir()));
    let fleet = Fleet::new(&config.models_dir(), config.site.clone(), config.model.home_assistant);
    let fleet = fleet.with_buttons(config.learn.enabled).releasing(config.learn.heads());
    let clock_of = move || clock.now();
    let study = config.learn.terms().map(|terms| study::begin(terms, &config.data_dir, clock_of)).transpose();
    let study =
        study.map_err(|error| Failure::new(Exit::Disk, format!("the log of learning: {error}; check the disk")))?;
    let (study, learned) = study.unzip();
    let (outranked, above) = watch::channel(0);
    let leader = FileLeader::new(&config.leader_file(), config.leader.name.as_str());
    let (want, wanted) = watch::channel(true);
    let (mut leading, stop_leading) = leading::spawn(leader, clock, above, wanted);
    let models = Server::new(Registry::blobs_dir(&config.models_dir()), config.model.bytes_per_s);
    let shell = Shell {
        agreement: Agreement::new(if config.learn.enabled { &config.learn.overlap } else { &[] }),
        config,
        models,
        clock,
        core,
        link,
        credentials,
        desk,
        fleet,
        study,
        learning: None,
        led: false,
        outgoing,
        audit,
        heads,
        pictures,
        asked: Vec::new(),
        commits,
        archive_bytes,
        outranked,
        want,
        effects: Vec::new(),
    };
    let ended = shell.run(events, answers, asked, learned, &mut leading, shutdown).await;
    page.abort();
    door.iter().for_each(tokio::task::JoinHandle::abort);
    // The row is given back by a task of its own, which ends when it has.
    drop(stop_leading);
    while leading.recv().await.is_some() {}
    ended
}

/// What this coordinator signs with and checks by: nothing, where the site has no authority.
fn credentials(config: &Config) -> anyhow::Result<Credentials> {
    if !Authority::exists(&config.authority_dir()) {
        return Ok(Credentials::none(config.site.clone()));
    }
    let authority = Authority::open(&config.authority_dir(), &config.site, unix_s()).map_err(Failure::from)?;
    Ok(Credentials::of(authority, config.site.clone(), unix_s()).map_err(Failure::from)?)
}

/// What connections by TLS are made with, and the tasks that keep it fresh and the door open, where there are any.
fn trust(
    config: &Config,
    audit: &Arc<AuditLog>,
    refusals: &Refusals,
) -> anyhow::Result<(Option<TlsFiles>, Vec<tokio::task::JoinHandle<()>>)> {
    let (brokers, mut tasks) = (config.brokers(), Vec::new());
    let open = || Authority::open(&config.authority_dir(), &config.site, unix_s());
    if let Some(plain) = brokers.iter().find(|broker| !broker.tls && !broker.is_loopback())
        && Authority::exists(&config.authority_dir())
        && !config.mqtt.plain
    {
        let sentence = format!(
            "{plain} is a broker of another machine without TLS, and this site has an authority; write mqtts://, or set \
             plain = true in [mqtt]"
        );
        return Err(Failure::new(Exit::Config, sentence).into());
    }
    let mut tls = config.mqtt.tls.clone();
    if tls.is_none() && brokers.iter().any(|broker| broker.tls) {
        let authority = open().map_err(Failure::from)?;
        tls = Some(authority.coordinator(unix_s()).map_err(Failure::from)?.tls());
        tasks.push(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(DAY_S)).await;
                if let Err(error) = authority.coordinator(unix_s()) {
                    tracing::error!("the coordinator's certificate is not renewed: {error}");
                }
            }
        }));
    }
    if let Some(listen) = config.enrolment.listen {
        let (models, audit, refusals) = (config.models_dir(), Arc::clone(audit), refusals.clone());
        let door = door::Door::new(open().map_err(Failure::from)?, config.brokers_told(), models, audit, refusals)?;
        let listener = door.listen(listen).map_err(|error| broker::port_failure(listen, "enrolment.listen", &error))?;
        tracing::info!("devices are admitted at {listen}");
        tasks.push(tokio::spawn(door.serve(listener)));
    }
    Ok((tls, tasks))
}

/// A store's error as an end of the program.
pub fn disk_failure(error: StoreError) -> Failure {
    Failure::new(Exit::Disk, error.to_string())
}

fn link_options(
    config: &Config,
    me: &Identity,
    tls: Option<TlsFiles>,
    credentials: &Credentials,
    clock: Clock,
) -> LinkOptions {
    let (will_of, signer, text) = (me.clone(), credentials.signer.clone(), Topic::CoordinatorHealth.render(&me.site));
    let will = Will::new(move || {
        let now = clock.now();
        let will = view::json(&will_of.health(now, UpDown::Down, 0, Vec::new()));
        let sign = |will, signer: &Arc<Signer>| signer.will(&Topic::CoordinatorHealth, will, now.unix_ms / 1000);
        (text.clone(), signer.iter().fold(will, sign))
    });
    LinkOptions {
        broker: config.broker(),
        client_id: format!("picket-coordinator-{}-{}", me.site, config.leader.name),
        will: Some(will),
        filters: Topic::coordinator_filters(&me.site),
        // The largest of what nodes say; more is cut off, and refused.
        payload_bytes_max: BATCH_BYTES_MAX.max(STATUS_BYTES_MAX).max(DUTY_BYTES_MAX).max(HEAD_UPDATE_BYTES_MAX)
            + SEAL_JSON_BYTES_MAX,
        tls,
    }
}

/// The core and what performs its effects.
struct Shell {
    config: Config,
    /// Sends models to devices.
    models: Server,
    clock: Clock,
    core: Coordinator,
    link: Link,
    credentials: Credentials,
    desk: Desk,
    /// What the site's devices run, and rollouts.
    fleet: Fleet,
    /// The thread that learns, where anything is learned.
    study: Option<Study>,
    /// What it showed last.
    learning: Option<Learning>,
    /// What neighbours agree on.
    agreement: Agreement,
    /// It led when it was last looked at.
    led: bool,
    outgoing: Outgoing,
    audit: Arc<AuditLog>,
    heads: Heads,
    pictures: Pictures,
    /// What devices are to be asked.
    asked: Vec<(Topic, Vec<u8>)>,
    commits: SyncSender<Arc<Commit>>,
    archive_bytes: u64,
    /// Tells the task that settles who leads of a higher epoch.
    outranked: watch::Sender<u32>,
    /// Tells it whether this coordinator wants the lead.
    want: watch::Sender<bool>,
    effects: Vec<Effect>,
}

impl Shell {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<LinkEvent>,
        mut answers: mpsc::Receiver<Written>,
        mut asked: mpsc::Receiver<Question>,
        mut learned: Option<mpsc::Receiver<learner::Effect>>,
        leading: &mut mpsc::Receiver<Input>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        tokio::pin!(shutdown);
        let mut stop_by: Option<Instant> = None;
        loop {
            let wakeup = self.core.next_wakeup().map(|mono_ms| self.clock.at(mono_ms));
            let busy = (!self.outgoing.is_empty() && self.core.link_is_up()).then(|| Instant::now() + BUSY_RETRY);
            let sends = self.sends_models().then(|| self.models.next_wakeup_ms(self.clock.now())).flatten();
            let sends = sends.map(|mono_ms| self.clock.at(mono_ms));
            let look = Some(Instant::now() + Duration::from_millis(pictures::LOOK_MS));
            let wakeup = [wakeup, busy, sends, stop_by, look].into_iter().flatten().min();
            let input = tokio::select! {
                biased;
                () = &mut shutdown, if stop_by.is_none() => {
                    tracing::info!("stopping");
                    stop_by = Some(Instant::now() + STOP_MAX);
                    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                    Input::Stop
                }
                written = answers.recv() => self.written(written.context("the archive's thread ended")?),
                question = asked.recv() => {
                    match question {
                        Some(Question::State(answer)) => drop(answer.send(self.answer())),
                        Some(Question::Learn(order, done)) => drop(done.send(self.ordered(order))),
                        None => {}
                    }
                    continue;
                }
                effect = next_of(&mut learned) => self.learned(effect.context("the thread that learns ended")?),
                lead = leading.recv() => lead.context("the task that settles who leads ended")?,
                event = events.recv() => self.link_event(event.context("the link's task ended")?),
                () = sleep_until(wakeup) => Input::Tick,
            };
            self.core.step(self.clock.now(), input, &mut self.effects);
            self.agree();
            let wants = self.core.wants_the_lead(self.clock.now());
            if self.want.send_replace(wants) && !wants {
                tracing::warn!("no broker for {} s: the lead is given back", DEAF_MS_MAX / 1000);
            }
            if let Some(unarchived) = self.perform()? {
                return self.say_goodbye(events, unarchived).await;
            }
            if stop_by.is_some_and(|by| Instant::now() >= by) {
                return Err(Failure::new(
                    Exit::Disk,
                    "the disk did not take the last events in time; agents hold them",
                )
                .into());
            }
        }
    }

    fn written(&mut self, (result, bytes): Written) -> Input {
        self.archive_bytes = bytes.unwrap_or(self.archive_bytes);
        match result {
            Ok(()) => Input::Committed,
            Err(error) => {
                tracing::error!(
                    "{error}; nothing is acknowledged until the archive can be written, and agents hold their events"
                );
                Input::CommitFailed(error.to_string())
            }
        }
    }

    fn link_event(&mut self, event: LinkEvent) -> Input {
        match event {
            LinkEvent::Up(broker) => {
                tracing::info!("connected to {broker}");
                self.core.on_fallback(fallback_problem(&self.config.broker(), &broker));
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
                self.say_roster();
                self.desk.say_again();
                self.fleet.say_again();
                self.learn(learner::Input::SayAgain);
                Input::LinkUp
            }
            LinkEvent::Down(reason) => {
                tracing::warn!("{reason}");
                self.outgoing.link_lost();
                Input::LinkDown(reason)
            }
            LinkEvent::Message { topic, payload } => self.said(topic, payload),
        }
    }

    /// What somebody says, if he may.
    fn said(&mut self, topic: String, payload: Vec<u8>) -> Input {
        // What is no topic of ours the core refuses; and what somebody cleared says nothing.
        let Some(of) = Topic::parse(&self.config.site, &topic).ok().filter(|_| !payload.is_empty()) else {
            return Input::Message { topic, payload };
        };
        let (taken, changed) = self.credentials.open(&of, &payload, self.clock.now());
        if changed {
            self.authority_changed();
        }
        let taken = taken.and_then(|payload| {
            if let (Topic::ModelWant(node), true) = (&of, self.core.leads_under().is_some()) {
                self.models.want(self.clock.now(), node, &payload)?;
            }
            if let Topic::ModelState(node) = &of {
                self.fleet.hear(node, &payload)?;
            }
            if let Topic::OperatorLabels(name) = &of {
                self.operator_said(name, &payload)?;
            }
            if self.study.is_none() && matches!(of, Topic::LearnUpdate(_) | Topic::LearnSamples(_)) {
                return Err(("learn_off", format!("{topic}: nothing is learned here; [learn] enabled says whether")));
            }
            // Who does not lead takes only what the leader says.
            let leads = self.core.leads_under().is_some() || matches!(of, Topic::LearnHead(_));
            if !voice::heard(&of, &payload).filter(|_| leads).is_none_or(|input| self.learn(input)) {
                return Err(("learn_busy", format!("{topic}: too much waits to be learned from; it is said again")));
            }
            Ok(payload)
        });
        let now = self.clock.now();
        match taken {
            Ok(payload) if matches!(of, Topic::PictureState(..) | Topic::PicturePart(..)) => {
                match self.pictures.heard(now, &of, &payload, &mut self.asked) {
                    Ok(()) => Input::Tick,
                    Err((reason, detail)) => Input::Refused(reason, detail),
                }
            }
            Ok(payload) => {
                if let Topic::Health(node) = &of {
                    self.heads.hear(now.unix_ms / 1000, node, &payload);
                }
                Input::Message { topic, payload }
            }
            Err((reason, detail)) => Input::Refused(reason, detail),
        }
    }

    /// There may be another key, under which everything that stands is to be said again; and somebody new, of whom everything
    /// that he said before was refused, and is heard again where it is retained.
    fn authority_changed(&mut self) {
        self.say_roster();
        self.desk.say_again();
        self.link.hear_again();
    }

    /// Gives rollouts their turn and tells nodes which model they run, where this coordinator leads.
    fn say_models(&mut self) {
        if let Some(leader) = self.core.leads_under().filter(|_| self.core.link_is_up()) {
            let now = self.clock.now();
            // The fleet first: whom it assigned something is told at once.
            let shown = self.fleet.look(now, leader, self.core.presences());
            let said = self.desk.look(now, leader, || self.credentials.orders_key());
            shown.into_iter().chain(said).for_each(|(topic, payload)| self.outgoing.push(topic, payload));
            let study = &self.study;
            self.fleet.tell_learner(|path| study.as_ref().is_none_or(|study| study.hand(learner::Input::Path(path))));
            self.core.on_models([self.fleet.problems(), self.desk.problems()].concat());
        }
    }

    /// Whether pieces of models may go out now: what waits for the broker goes first, and another coordinator's affair is not
    /// ours.
    fn sends_models(&self) -> bool {
        self.core.link_is_up() && self.core.leads_under().is_some() && self.outgoing.is_empty()
    }

    fn say_roster(&mut self) {
        if let Some(roster) = self.credentials.published() {
            self.outgoing.push(Topic::Roster, roster.to_vec());
        }
    }

    fn answer(&self) -> Answer {
        let counters = self.core.counters();
        let stats = || self.core.stats();
        let cameras =
            stats().flat_map(|(node, stats)| stats.cameras.iter().map(|camera| (node.clone(), camera.clone())));
        let learners = stats().filter_map(|(node, stats)| Some((node.clone(), stats.learn?)));
        Answer {
            counters,
            cameras: cameras.collect(),
            learners: learners.collect(),
            outgoing_dropped: self.outgoing.dropped(),
            archive_bytes: self.archive_bytes,
            models: self.models.served(),
            rollouts: self.fleet.courses(),
            learning: self.learning.clone(),
        }
    }

    /// Performs what the core asked for. Some number where the core has come to its end: entries in no archive.
    fn perform(&mut self) -> anyhow::Result<Option<usize>> {
        let mut stopped = None;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Commit(commit) => {
                    self.agreement.archived(&commit);
                    self.commits.send(commit).context("the archive's thread ended")?;
                }
                Effect::Publish { topic, payload } => {
                    // For the journal too: the view keeps the newest, and a live one may have no reader.
                    if topic == Topic::ViewChange {
                        tracing::info!("{}", String::from_utf8_lossy(&payload));
                    }
                    self.outgoing.push(topic, payload);
                }
                Effect::Outranked(epoch) => drop(self.outranked.send_replace(epoch)),
                Effect::Reject { reason, detail, count } => {
                    // A flood of garbage must not become a flood of log lines.
                    if count.is_power_of_two() {
                        tracing::warn!("refused ({reason}, {count} so far): {detail}");
                    }
                }
                Effect::Stopped { unarchived } => stopped = Some(unarchived),
            }
        }
        let speaks = self.core.link_is_up() && self.core.leads_under().is_some();
        self.pictures.tick(self.clock.now(), speaks, &mut self.asked);
        self.asked.drain(..).for_each(|(topic, payload)| self.outgoing.push(topic, payload));
        let problems = self.audit.problems().into_iter().chain(self.heads.problems()).collect();
        self.core.on_audit(self.audit.head(), problems);
        if self.credentials.look(self.clock.now()) {
            self.authority_changed();
        }
        self.say_models();
        let leads = self.core.leads_under().is_some();
        if leads && !std::mem::replace(&mut self.led, leads) {
            self.learn(learner::Input::SayAgain);
        }
        self.led = leads;
        if let (Some(signer), Some(epoch)) = (&self.credentials.signer, self.core.leads_under()) {
            signer.run(u64::from(epoch));
        }
        let (link, site, credentials) = (&self.link, &self.config.site, &self.credentials);
        let now_s = self.clock.now().unix_ms / 1000;
        self.outgoing.flush(|topic, payload| {
            // An agent that misses an ack asks again, and the retained list has what the live view misses.
            let at_most_once = matches!(topic, Topic::Ack(_) | Topic::Leases(_) | Topic::ViewEvent | Topic::ViewChange);
            let payload = credentials.sign(topic, payload.to_vec(), now_s);
            link.publish(&topic.render(site), payload, topic.retained(), at_most_once)
        });
        if !self.core.link_is_up() || self.core.leads_under().is_none() {
            self.models.rest();
        } else if self.sends_models() {
            let (link, site, credentials) = (&self.link, &self.config.site, &self.credentials);
            // Lost on the way, it is asked for again.
            let say = |topic: &Topic, payload| {
                link.publish(&topic.render(site), credentials.sign(topic, payload, now_s), false, true)
            };
            while self.models.send(self.clock.now(), say) {}
        }
        Ok(stopped)
    }

    /// Lets the broker have the last words, so that no will is sent.
    async fn say_goodbye(mut self, mut events: mpsc::Receiver<LinkEvent>, unarchived: usize) -> anyhow::Result<()> {
        let goodbye = async {
            while !self.outgoing.is_empty() && self.core.link_is_up() {
                tokio::time::sleep(BUSY_RETRY).await;
                self.perform()?;
            }
            self.link.close();
            while matches!(events.recv().await, Some(LinkEvent::Up(_) | LinkEvent::Message { .. })) {}
            anyhow::Ok(())
        };
        if tokio::time::timeout(STOP_MAX, goodbye).await.is_err() {
            tracing::warn!("the broker did not take the goodbye in time");
        }
        match unarchived {
            0 => Ok(()),
            n => Err(Failure::new(Exit::Disk, format!("{n} events could not be archived; agents hold them")).into()),
        }
    }
}

/// What comes next; for ever nothing where nobody says anything.
async fn next_of<T>(from: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match from {
        Some(from) => from.recv().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until then; for ever where there is no then.
async fn sleep_until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
