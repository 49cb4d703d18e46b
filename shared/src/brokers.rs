//! Where brokers are, and which of several is used: always the earliest that can be reached. Pure.
//!
//! Everybody at a site has the same list and the same rule, so all come together again after any sequence of deaths, without
//! speaking about it. After a connection that was a good one the search begins with the first again; who had to take a later
//! one goes back once an earlier one has answered for a while. Where some reach only one broker and some only another, the
//! site is in two parts: each part watches on, and neighbours stand in by their ranks.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::redact;

/// Brokers of one list.
pub const BROKERS_MAX: usize = 4;
/// From one broker of the list to the next, and back to the first, at most. A thousand clients come over a second.
pub const NEXT_BROKER: Duration = Duration::from_secs(1);
/// A connection that ended earlier was none: a broker that takes everybody and throws everybody out must not keep them.
pub const CONNECTION_MIN: Duration = Duration::from_secs(5);
/// How often it is looked whether an earlier broker answers again; up to a quarter more or less.
pub const LOOK_BACK: Duration = Duration::from_secs(2);
/// An earlier broker is used again after it has answered for so long. All clients of a site begin to count within one
/// [`LOOK_BACK`] of each other, so that they are back within less than heartbeats may be silent.
pub const HOLD_DOWN: Duration = Duration::from_secs(10);

/// Where a broker is: `mqtt://host:port`, or `mqtts://host:port` with TLS.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct BrokerUrl {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it is spoken to by TLS, with certificates on both sides.
    pub tls: bool,
}

impl BrokerUrl {
    /// Whether only this machine can hear what is said to it, so that it may be said in the clear.
    pub fn is_loopback(&self) -> bool {
        let number = |part: &str| part.parse::<u8>().is_ok();
        let parts: Vec<&str> = self.host.split('.').collect();
        let of_version_4 = parts.len() == 4 && parts[0] == "127" && parts.iter().all(|part| number(part));
        of_version_4 || ["localhost", "[::1]"].contains(&self.host.as_str())
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |why: &str| {
            let shown = redact::text(&text);
            format!("the broker \"{shown}\" {why}; write it as mqtt://host:1883 or mqtts://host:8883")
        };
        let (tls, rest) = match (text.strip_prefix("mqtts://"), text.strip_prefix("mqtt://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong("does not begin with mqtt:// or mqtts://")),
        };
        if rest.contains('@') {
            return Err(wrong("has a login, and brokers know us by our certificate and not by that"));
        }
        let usual = if tls { "8883" } else { "1883" };
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').unwrap_or((rest, usual));
        let port = port.parse().map_err(|_| wrong("has no valid port"))?;
        if host.is_empty() || host.contains('/') || port == 0 {
            return Err(wrong("has no plain host and port"));
        }
        Ok(BrokerUrl { host: host.to_owned(), port, tls })
    }
}

impl From<BrokerUrl> for String {
    fn from(url: BrokerUrl) -> String {
        url.to_string()
    }
}

impl std::fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mqtt{}://{}:{}", if self.tls { "s" } else { "" }, self.host, self.port)
    }
}

/// Refuses a list that makes no sense, by the key that names it.
pub fn check_fallback(broker: &BrokerUrl, fallback: &[BrokerUrl]) -> Result<(), String> {
    if fallback.len() >= BROKERS_MAX {
        return Err(format!("mqtt.fallback names {} brokers, of at most {}", fallback.len(), BROKERS_MAX - 1));
    }
    let before = |n: usize| std::iter::once(broker).chain(&fallback[..n]);
    match fallback.iter().enumerate().find(|(n, again)| before(*n).any(|broker| broker == *again)) {
        Some((_, twice)) => Err(format!("mqtt.fallback names {twice} again; name each broker once")),
        None => Ok(()),
    }
}

/// A sentence for the health of who uses another broker than the first.
pub fn fallback_problem(first: &BrokerUrl, used: &BrokerUrl) -> Option<String> {
    let sentence =
        || format!("the broker {first} cannot be reached, and {used} is used in its place; look after the first");
    (used != first).then(sentence)
}

/// Which of several brokers is used. It has one at every time; whether there is a connection to it is not known here.
#[derive(Debug, Clone)]
pub struct Choice {
    count: usize,
    at: usize,
    /// Attempts since the last good connection.
    attempts: usize,
    backoff: Backoff,
    /// Since when each broker before the one in use has answered, without a break.
    answering_ms: [Option<u64>; BROKERS_MAX],
}

impl Choice {
    /// The first of so many: at least one.
    pub fn new(count: usize) -> Choice {
        let count = count.clamp(1, BROKERS_MAX);
        Choice { count, at: 0, attempts: 0, backoff: Backoff::default(), answering_ms: [None; BROKERS_MAX] }
    }

    /// The place in the list of the one in use.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Its connection ended, `lasted` after the attempt began, and was never up where that is nothing. Chooses the next one,
    /// and says how long to wait before it is tried, by a number from 0 to below 1 that is drawn evenly.
    pub fn ended(&mut self, lasted: Option<Duration>, unit: f64) -> Duration {
        self.answering_ms = [None; BROKERS_MAX];
        self.backoff.ended(lasted.unwrap_or_default());
        if self.count == 1 {
            return self.backoff.next(unit);
        }
        if lasted.is_some_and(|lasted| lasted >= CONNECTION_MIN) {
            (self.at, self.attempts) = (0, 0);
            return NEXT_BROKER.mul_f64(unit);
        }
        (self.at, self.attempts) = ((self.at + 1) % self.count, self.attempts + 1);
        // Once round the list and nobody there: no hurry from here on.
        if self.attempts.is_multiple_of(self.count) { self.backoff.next(unit) } else { NEXT_BROKER.mul_f64(unit) }
    }

    /// Whether a broker before the one in use answered just now. True where it has for long enough, and is to be used from
    /// here on: end the connection, and do not say [`Choice::ended`] of it.
    pub fn looked(&mut self, now_ms: u64, earlier: usize, answers: bool) -> bool {
        if !answers || earlier >= self.at {
            self.answering_ms[earlier] = None;
            return false;
        }
        let since_ms = *self.answering_ms[earlier].get_or_insert(now_ms);
        let back = now_ms - since_ms >= HOLD_DOWN.as_millis() as u64;
        if back {
            (self.at, self.attempts, self.answering_ms) = (earlier, 0, [None; BROKERS_MAX]);
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Option<Duration> = Some(CONNECTION_MIN);
    const SHORT: Option<Duration> = Some(Duration::from_secs(4));

    fn url(text: &str) -> BrokerUrl {
        BrokerUrl::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_broker_url_is_read_or_refused_with_the_right_form() {
        for (text, expect) in [
            ("mqtt://127.0.0.1:1884", Some(("127.0.0.1", 1884))),
            ("mqtt://broker.lan", Some(("broker.lan", 1883))),
            ("mqtt://[::1]:1883", Some(("[::1]", 1883))),
            ("127.0.0.1:1883", None),
            ("mqtts://broker.lan", Some(("broker.lan", 8883))),
            ("mqttss://broker.lan", None),
            ("mqtt://broker:99999", None),
            ("mqtt://:1883", None),
            ("mqtt://user@host:1883", None),
        ] {
            let read = BrokerUrl::try_from(text.to_owned());
            let read = read.as_ref().map(|url| (url.host.as_str(), url.port)).map_err(|error| {
                assert!(error.contains("mqtt://host:1883"), "{error}");
            });
            assert_eq!(read.ok(), expect, "{text}");
        }
    }

    #[test]
    fn what_only_this_machine_hears_may_be_in_the_clear() {
        for (text, loopback) in [
            ("mqtt://127.0.0.1", true),
            ("mqtt://127.9.9.9:1884", true),
            ("mqtt://localhost", true),
            ("mqtt://[::1]:1883", true),
            ("mqtt://10.0.0.1", false),
            ("mqtt://127.0.0.1.evil.example", false),
            ("mqtt://localhost.example", false),
        ] {
            assert_eq!(url(text).is_loopback(), loopback, "{text}");
        }
        assert_eq!(url("mqtts://hill").to_string(), "mqtts://hill:8883");
    }

    #[test]
    fn a_list_is_short_and_names_each_once() {
        let list = |names: &[&str]| names.iter().map(|name| url(&format!("mqtt://{name}"))).collect::<Vec<_>>();
        let check = |names: &[&str]| check_fallback(&url("mqtt://a"), &list(names));
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["b", "c", "a:1884"]), Ok(()));
        assert!(check(&["b", "c", "d", "e"]).unwrap_err().contains("4 brokers, of at most 3"));
        assert!(check(&["b", "a"]).unwrap_err().contains("mqtt://a:1883 again"));
        assert!(check(&["b", "c", "b"]).unwrap_err().contains("mqtt://b:1883 again"));
    }

    #[test]
    fn the_list_is_gone_round_quickly_once_and_then_with_a_growing_pause() {
        let mut choice = Choice::new(3);
        let mut tried = Vec::new();
        for _ in 0..7 {
            let wait = choice.ended(None, 0.999_999);
            tried.push((choice.at(), wait > NEXT_BROKER));
        }
        let round = [(1, false), (2, false), (0, true)];
        assert_eq!(tried, [&round[..], &round, &[(1, false)]].concat());
        assert!(choice.ended(None, 0.0) < Duration::from_millis(100), "and with jitter");
    }

    #[test]
    fn after_a_good_connection_the_first_comes_first_and_after_a_short_one_the_next() {
        let mut choice = Choice::new(3);
        choice.ended(None, 0.5);
        assert_eq!(choice.at(), 1);
        choice.ended(GOOD, 0.5);
        assert_eq!(choice.at(), 0);
        choice.ended(SHORT, 0.5);
        assert_eq!(choice.at(), 1, "it takes everybody, and throws everybody out");
    }

    #[test]
    fn one_broker_is_tried_again_as_ever() {
        let (mut choice, mut backoff) = (Choice::new(1), Backoff::default());
        for lasted in [None, SHORT, None, Some(Duration::from_secs(60)), None] {
            backoff.ended(lasted.unwrap_or_default());
            assert_eq!((choice.ended(lasted, 0.7), choice.at()), (backoff.next(0.7), 0));
        }
    }

    #[test]
    fn an_earlier_broker_is_used_again_once_it_has_answered_for_long_enough() {
        let mut choice = Choice::new(3);
        choice.ended(None, 0.5);
        choice.ended(None, 0.5);
        let steady = HOLD_DOWN.as_millis() as u64;
        assert!(!choice.looked(1_000, 1, true));
        assert!(!choice.looked(1_000 + steady - 1, 1, true));
        // It flaps: the count begins anew.
        assert!(!choice.looked(1_000 + steady, 1, false));
        assert!(!choice.looked(2_000 + steady, 1, true));
        assert!(!choice.looked(2_000 + steady, 0, true));
        assert!(!choice.looked(2_000 + steady, 2, true), "it is the one in use");
        assert!(choice.looked(2_000 + 2 * steady, 0, true));
        assert_eq!(choice.at(), 0);
        assert!(!choice.looked(2_000 + 9 * steady, 1, true), "there is none before the first");
    }

    /// Clients that see the same brokers, each at times of its own, after a random past.
    #[test]
    fn all_come_together_after_any_sequence_of_deaths() {
        let mut rng = fastrand::Rng::with_seed(7);
        for world in 0..300 {
            let count = rng.usize(2..=BROKERS_MAX);
            let mut alive = vec![true; count];
            // Each client: its choice, since when it is up, when it acts next.
            let mut clients: Vec<(Choice, Option<u64>, u64)> =
                (0..5).map(|_| (Choice::new(count), None, rng.u64(0..3_000))).collect();
            let (mut now_ms, healed_ms) = (0, 120_000);
            while now_ms < healed_ms + 60_000 {
                now_ms += 100;
                if now_ms < healed_ms && rng.u32(..100) == 0 {
                    let broker = rng.usize(..count);
                    alive[broker] = !alive[broker];
                }
                if now_ms == healed_ms && !alive.contains(&true) {
                    alive[rng.usize(..count)] = true;
                }
                for (choice, up_ms, next_ms) in &mut clients {
                    let lost = up_ms.is_some() && !alive[choice.at()];
                    if lost || (up_ms.is_none() && now_ms >= *next_ms && !alive[choice.at()]) {
                        let lasted = up_ms.take().map(|up_ms| Duration::from_millis(now_ms - up_ms));
                        *next_ms = now_ms + choice.ended(lasted, rng.f64()).as_millis() as u64;
                    } else if up_ms.is_none() && now_ms >= *next_ms {
                        (*up_ms, *next_ms) = (Some(now_ms), now_ms + 2_000);
                    } else if up_ms.is_some() && now_ms >= *next_ms {
                        *next_ms = now_ms + LOOK_BACK.mul_f64(0.75 + rng.f64() / 2.0).as_millis() as u64;
                        if (0..choice.at()).any(|earlier| choice.looked(now_ms, earlier, alive[earlier])) {
                            (*up_ms, *next_ms) = (None, now_ms);
                        }
                    }
                }
            }
            let first = alive.iter().position(|alive| *alive).unwrap();
            for (choice, up_ms, _) in &clients {
                assert_eq!((choice.at(), up_ms.is_some()), (first, true), "world {world}: {alive:?}");
            }
        }
    }
}
