//! The examples of one station: bounded, balanced between what they are and who says so, and a share of them held out that is never
//! trained on. Pure: the same examples in the same order are the same store.

use std::collections::BTreeMap;

use half::f16;
use picket_shared::crypto::sha256;
use picket_shared::ids::EventId;
use picket_shared::limits::{HEAD_INPUTS_MAX, NAME_CHARS_MAX};
use picket_shared::random::SplitMix64;
use picket_shared::wire::Wire;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Examples to be trained on.
pub const KEPT_MAX: usize = 1024;
/// Examples that are held out.
pub const HELD_OUT_MAX: usize = 256;
/// Events whose looks wait for a person's word.
pub const WAITING_MAX: usize = 512;
/// Looks at one event.
pub const LOOKS_MAX: usize = 3;
/// What nobody said of one label is passed over from so many on, where there are not at least half as many of the other one. The tracker
/// sees far more people than flickers, and what knows one answer best gives it too often.
pub const TRACKED_MIN: usize = 32;
const TRACKED_SHARE: usize = 2;
/// Of one label, the teacher has so many of what there may be at most: it never tires, and others must have room.
const TAUGHT_ONE_OF: usize = 8;

/// Who says what an example is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// A person.
    Operator,
    /// The tracker: somebody who was missed, or a flicker.
    Tracker,
    /// Cameras that see the same ground.
    Neighbours,
    /// A second, heavier detector on this device.
    Teacher,
}

impl Source {
    /// How much its word counts.
    pub fn weight(self) -> f32 {
        match self {
            Source::Operator => 1.0,
            Source::Teacher => 0.7,
            Source::Tracker => 0.5,
            Source::Neighbours => 0.3,
        }
    }
}

/// A labelled candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The event that it belongs to, or would have; all of one event are held out together, or none.
    pub event: EventId,
    /// Somebody was there.
    pub person: bool,
    /// Who says so.
    pub source: Source,
    /// His name, where it is a person.
    pub who: String,
    /// What it was judged by: halves of floats, the lowest byte first.
    pub features: ByteBuf,
}

impl Example {
    /// One of these features.
    pub fn new(event: EventId, person: bool, source: Source, who: &str, features: &[f32]) -> Example {
        Example { event, person, source, who: who.to_owned(), features: halves(features) }
    }

    /// Its features.
    pub fn numbers(&self, out: &mut Vec<f32>) {
        numbers(&self.features, out);
    }
}

/// Numbers at half their length.
pub fn halves(numbers: &[f32]) -> ByteBuf {
    ByteBuf::from(numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect::<Vec<u8>>())
}

/// Appends them to `out`, as far as they are finite.
pub fn numbers(halves: &[u8], out: &mut Vec<f32>) {
    let (pairs, _) = halves.as_chunks::<2>();
    out.extend(
        pairs.iter().map(|pair| f16::from_le_bytes(*pair).to_f32()).map(|x| if x.is_finite() { x } else { 0.0 }),
    );
}

/// The looks at one event that ended, surest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// The event.
    pub event: EventId,
    /// The looks, as in [`Example::features`].
    pub looks: Vec<ByteBuf>,
}

/// Most bytes of one example, or of one look, with all names.
pub const EXAMPLE_BYTES_MAX: usize = 2 * HEAD_INPUTS_MAX + 512;

impl Wire for Example {
    const BYTES_MAX: usize = EXAMPLE_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        if self.who.len() > NAME_CHARS_MAX { Err("a name that is too long".into()) } else { Ok(()) }
    }
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// People, by persons' words.
    pub people_confirmed: u32,
    /// Nobody, by persons' words.
    pub nobody_confirmed: u32,
    /// People, by the tracker.
    pub people_tracked: u32,
    /// Nobody, by the tracker.
    pub nobody_tracked: u32,
    /// People, by other cameras.
    pub people_agreed: u32,
    /// Nobody, by other cameras.
    pub nobody_agreed: u32,
    /// People, by the teacher.
    pub people_taught: u32,
    /// Nobody, by the teacher.
    pub nobody_taught: u32,
    /// Of all these, those that are held out.
    pub held_out: u32,
}

#[derive(Debug, Clone)]
struct Kept {
    /// Rises from example to example.
    number: u64,
    example: Example,
}

/// The store.
#[derive(Debug, Clone)]
pub struct Examples {
    /// Of a hundred events, so many are held out.
    held_out_percent: u8,
    taken: u64,
    /// Trained on, and held out.
    kept: [Vec<Kept>; 2],
    waiting: Vec<Waiting>,
}

impl Examples {
    /// None yet.
    pub fn new(held_out_percent: u8) -> Examples {
        Examples { held_out_percent, taken: 0, kept: [Vec::new(), Vec::new()], waiting: Vec::new() }
    }

    /// Whether the examples of an event are held out. By its name alone, so that no restart and no order changes it.
    pub fn holds_out(&self, event: &EventId) -> bool {
        let digest = sha256(event.as_str().as_bytes());
        u16::from_le_bytes([digest[0], digest[1]]) % 100 < u16::from(self.held_out_percent)
    }

    /// Takes an example in. Where there are too many, the oldest of those goes of which there are most: of one label, from one source,
    /// and of one person; so whoever says most loses first, and nobody else by him. True where it is to be trained on.
    ///
    /// A person's word about an event makes those before it void, and all others' too. One that comes again changes nothing: `None`.
    pub fn take(&mut self, example: Example) -> Option<bool> {
        let held_out = self.holds_out(&example.event);
        let [same, other] = [example.person, !example.person].map(|person| self.count(held_out, person));
        if example.source != Source::Operator && same >= TRACKED_MIN.max(TRACKED_SHARE * other) {
            return None;
        }
        self.restore(example)
    }

    /// The same of what was taken in before, whatever else there is by now.
    pub fn restore(&mut self, example: Example) -> Option<bool> {
        // Heads are compared by what this device or a person knows: another device could lie.
        if example.source == Source::Neighbours && self.holds_out(&example.event) {
            return None;
        }
        let by_person = example.source == Source::Operator;
        let said = |kept: &Kept| kept.example.event == example.event && kept.example.source == Source::Operator;
        if !by_person && self.kept.iter().flatten().any(said) {
            return None;
        }
        if self.kept.iter().flatten().any(|kept| kept.example == example) {
            return None;
        }
        if by_person {
            let void = |kept: &Kept| {
                let Example { event, person, source, .. } = &kept.example;
                *event == example.event && (*source != Source::Operator || *person != example.person)
            };
            self.kept.iter_mut().for_each(|kept| kept.retain(|kept| !void(kept)));
        }
        let held_out = self.holds_out(&example.event);
        let all_max = if held_out { HELD_OUT_MAX } else { KEPT_MAX };
        self.taken += 1;
        let kept = &mut self.kept[usize::from(held_out)];
        let (person, by_teacher) = (example.person, example.source == Source::Teacher);
        kept.push(Kept { number: self.taken, example });
        if by_teacher {
            drop_from_taught(kept, person, all_max / TAUGHT_ONE_OF);
        }
        if kept.len() > all_max {
            drop_from_most(kept);
        }
        Some(!held_out)
    }

    /// What a person said of an event before, if he did.
    pub fn said(&self, event: &EventId) -> Option<(bool, &str)> {
        let said = self.kept.iter().flatten().map(|kept| &kept.example);
        let mut said = said.filter(|example| example.event == *event && example.source == Source::Operator);
        said.next_back().map(|example| (example.person, example.who.as_str()))
    }

    /// The looks at an event that ended wait for a person's word; the oldest goes where there are too many.
    pub fn wait(&mut self, waiting: Waiting) {
        self.waiting.retain(|other| other.event != waiting.event);
        self.waiting.push(waiting);
        if self.waiting.len() > WAITING_MAX {
            self.waiting.remove(0);
        }
    }

    /// The looks at an event that waits.
    pub fn waiting(&self, event: &EventId) -> Option<&Waiting> {
        self.waiting.iter().find(|waiting| waiting.event == *event)
    }

    /// Everything, as it has to be taken in to be the same again.
    pub fn all(&self) -> (impl Iterator<Item = &Example>, impl Iterator<Item = &Waiting>) {
        let mut kept: Vec<&Kept> = self.kept.iter().flatten().collect();
        kept.sort_by_key(|kept| kept.number);
        (kept.into_iter().map(|kept| &kept.example), self.waiting.iter())
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { held_out: self.kept[1].len() as u32, ..Counts::default() };
        for Kept { example, .. } in self.kept.iter().flatten() {
            *match (example.source, example.person) {
                (Source::Operator, true) => &mut counts.people_confirmed,
                (Source::Operator, false) => &mut counts.nobody_confirmed,
                (Source::Tracker, true) => &mut counts.people_tracked,
                (Source::Tracker, false) => &mut counts.nobody_tracked,
                (Source::Neighbours, true) => &mut counts.people_agreed,
                (Source::Neighbours, false) => &mut counts.nobody_agreed,
                (Source::Teacher, true) => &mut counts.people_taught,
                (Source::Teacher, false) => &mut counts.nobody_taught,
            } += 1;
        }
        counts
    }

    /// Examples of one label that are trained on, or held out.
    pub fn count(&self, held_out: bool, person: bool) -> usize {
        self.kept[usize::from(held_out)].iter().filter(|kept| kept.example.person == person).count()
    }

    /// Those that are held out.
    pub fn held_out(&self) -> impl Iterator<Item = &Example> {
        self.kept[1].iter().map(|kept| &kept.example)
    }

    /// The newest that are trained on, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Example> {
        self.kept[0].iter().rev().map(|kept| &kept.example)
    }

    /// Draws one of the `newest` that are trained on.
    pub fn draw_new(&self, newest: usize, random: &mut SplitMix64) -> Option<&Example> {
        let all = self.kept[0].len();
        let among = newest.min(all);
        (among > 0).then(|| &self.kept[0][all - 1 - random.below(among)].example)
    }

    /// Draws one of a label that is trained on.
    pub fn draw(&self, person: bool, random: &mut SplitMix64) -> Option<&Example> {
        let count = self.count(false, person);
        let mut of_label = self.kept[0].iter().filter(|kept| kept.example.person == person);
        if count == 0 { None } else { of_label.nth(random.below(count)).map(|kept| &kept.example) }
    }
}

fn drop_from_most(kept: &mut Vec<Kept>) {
    let cell = |kept: &Kept| Some((kept.example.person, kept.example.source, kept.example.who.clone()));
    drop_oldest_of_most(kept, cell);
}

/// Of more than so many that the teacher says of one label, the oldest of that event goes of which there are most: what always stands
/// there would else be all that is left.
fn drop_from_taught(kept: &mut Vec<Kept>, person: bool, max: usize) {
    let taught = |kept: &&Kept| kept.example.source == Source::Teacher && kept.example.person == person;
    if kept.iter().filter(taught).count() > max {
        drop_oldest_of_most(kept, |kept| taught(&kept).then(|| kept.example.event.clone()));
    }
}

/// Removes the oldest of all that are in a cell that has most; what is in none stays.
fn drop_oldest_of_most<Cell: Ord>(kept: &mut Vec<Kept>, cell: impl Fn(&Kept) -> Option<Cell>) {
    let mut sizes = BTreeMap::new();
    kept.iter().filter_map(&cell).for_each(|cell| *sizes.entry(cell).or_insert(0usize) += 1);
    let most = sizes.values().copied().max();
    if let Some(oldest) = kept.iter().position(|kept| cell(kept).is_some_and(|cell| sizes.get(&cell).copied() == most))
    {
        kept.remove(oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(n: usize) -> EventId {
        EventId::new(format!("n-1-{n}")).unwrap()
    }

    fn example(n: usize, person: bool, source: Source, who: &str) -> Example {
        Example::new(event(n), person, source, who, &[n as f32 % 7.0, 0.5])
    }

    fn take(examples: &mut Examples, n: usize, person: bool, source: Source, who: &str) {
        examples.take(example(n, person, source, who));
    }

    #[test]
    fn the_store_is_bounded_and_whoever_says_most_loses_first() {
        let mut examples = Examples::new(20);
        (0..40).for_each(|n| take(&mut examples, n, false, Source::Operator, "anna"));
        (40..10_000).for_each(|n| take(&mut examples, n, n % 2 == 0, Source::Tracker, ""));
        (10_000..20_000).for_each(|n| take(&mut examples, n, true, Source::Operator, "flood"));
        let counts = examples.counts();
        assert_eq!(counts.nobody_confirmed, 40, "{counts:?}");
        assert_eq!(examples.kept[0].len(), KEPT_MAX);
        assert_eq!(examples.kept[1].len(), HELD_OUT_MAX);
        let cells = [counts.people_tracked, counts.nobody_tracked, counts.people_confirmed];
        assert!(cells.iter().all(|cell| cell.abs_diff(cells[0]) <= 6), "{counts:?}");
    }

    #[test]
    fn the_tracker_does_not_drown_a_label_by_the_other() {
        let mut examples = Examples::new(0);
        (0..1_000).for_each(|n| take(&mut examples, n, true, Source::Tracker, ""));
        assert_eq!(examples.counts().people_tracked as usize, TRACKED_MIN);
        (2_000..2_100).for_each(|n| take(&mut examples, n, false, Source::Operator, "anna"));
        (3_000..4_000).for_each(|n| take(&mut examples, n, true, Source::Tracker, ""));
        assert_eq!(examples.counts().people_tracked as usize, 100 * TRACKED_SHARE);
    }

    #[test]
    fn a_persons_word_stands_above_the_trackers_and_the_later_one_above_the_earlier() {
        let mut examples = Examples::new(0);
        assert_eq!(examples.take(example(1, true, Source::Tracker, "")), Some(true));
        assert_eq!(examples.take(example(1, false, Source::Operator, "anna")), Some(true));
        assert_eq!(examples.take(example(1, false, Source::Operator, "anna")), None, "it came again");
        assert_eq!(examples.take(example(1, true, Source::Tracker, "")), None);
        assert_eq!((examples.counts().nobody_confirmed, examples.counts().people_tracked), (1, 0));
        assert_eq!(examples.said(&event(1)), Some((false, "anna")));
        assert_eq!(examples.take(example(1, true, Source::Operator, "bert")), Some(true));
        assert_eq!(examples.said(&event(1)), Some((true, "bert")));
        assert_eq!((examples.counts().nobody_confirmed, examples.counts().people_confirmed), (0, 1));
    }

    #[test]
    fn what_neighbours_say_weighs_least_gives_way_to_a_person_and_compares_no_heads() {
        let mut examples = Examples::new(50);
        let held_out = (0..).find(|n| examples.holds_out(&event(*n))).unwrap();
        let trained_on = (0..).find(|n| !examples.holds_out(&event(*n))).unwrap();
        assert_eq!(examples.take(example(held_out, true, Source::Neighbours, "yard")), None);
        assert_eq!(examples.take(example(trained_on, true, Source::Neighbours, "yard")), Some(true));
        assert_eq!((examples.counts().people_agreed, examples.counts().held_out), (1, 0));
        assert!(Source::Neighbours.weight() < Source::Tracker.weight());
        take(&mut examples, trained_on, false, Source::Operator, "anna");
        assert_eq!((examples.counts().people_agreed, examples.counts().nobody_confirmed), (0, 1));
        assert_eq!(examples.take(example(trained_on, true, Source::Neighbours, "yard")), None);
    }

    #[test]
    fn what_the_teacher_says_weighs_less_than_a_persons_word_and_gives_way_to_it() {
        let mut examples = Examples::new(0);
        let weights = [Source::Operator, Source::Teacher, Source::Tracker, Source::Neighbours].map(Source::weight);
        assert_eq!(weights, [1.0, 0.7, 0.5, 0.3]);
        assert_eq!(examples.take(example(1, true, Source::Teacher, "")), Some(true));
        take(&mut examples, 1, false, Source::Operator, "anna");
        assert_eq!((examples.counts().people_taught, examples.counts().nobody_confirmed), (0, 1));
        assert_eq!(examples.take(example(1, true, Source::Teacher, "")), None);
    }

    #[test]
    fn the_teacher_drowns_nobody_and_what_always_stands_there_not_what_it_saw_once() {
        let mut examples = Examples::new(0);
        (0..1_000).for_each(|n| take(&mut examples, n, true, Source::Teacher, ""));
        assert_eq!(examples.counts().people_taught as usize, TRACKED_MIN, "of one label alone no more are taken");
        let mut examples = Examples::new(0);
        let of = |event_number: usize, n: usize, person: bool| {
            Example::new(event(event_number), person, Source::Teacher, "", &[n as f32, 0.5])
        };
        examples.take(of(1, 0, false));
        (0..1_000).for_each(|n| {
            examples.take(of(2, n, false));
            examples.take(of(1_000 + n, n, true));
        });
        let (counts, share) = (examples.counts(), KEPT_MAX / TAUGHT_ONE_OF);
        assert_eq!([counts.people_taught, counts.nobody_taught], [share as u32; 2]);
        let of_one = |n: usize| examples.newest().filter(|example| example.event == event(n)).count();
        assert_eq!((of_one(1), of_one(2)), (1, share - 1));
        assert!(
            examples.newest().all(|example| !example.person || example.event.as_str() >= "n-1-1872"),
            "the newest stay"
        );
    }

    #[test]
    fn the_word_of_each_source_is_read_as_it_was_written() {
        let sources = [Source::Operator, Source::Tracker, Source::Neighbours, Source::Teacher];
        let written = sources.map(|source| picket_shared::codec::encode(&example(7, true, source, "a")).unwrap());
        // Logs of before have these bytes, with the number of the source in them.
        let hex: Vec<String> = written[0].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.concat(), "01a500656e2d312d3701f50200036161044400000038");
        for (number, (bytes, source)) in written.iter().zip(sources).enumerate() {
            let differs: Vec<_> = bytes.iter().zip(&written[0]).filter(|(a, b)| a != b).map(|(a, _)| *a).collect();
            assert_eq!(differs, if number == 0 { vec![] } else { vec![number as u8] });
            assert_eq!(picket_shared::codec::decode::<Example>(bytes).unwrap().source, source);
        }
    }

    #[test]
    fn looks_wait_for_a_word_and_the_oldest_go() {
        let mut examples = Examples::new(0);
        let waiting = |n| Waiting { event: event(n), looks: vec![halves(&[0.25])] };
        (0..WAITING_MAX + 3).for_each(|n| examples.wait(waiting(n)));
        assert!(examples.waiting(&event(2)).is_none() && examples.waiting(&event(3)).is_some());
    }

    proptest! {
        #[test]
        fn what_is_held_out_is_never_trained_on_and_the_order_of_restarts_changes_nothing(
            takes in prop::collection::vec((0usize..60, any::<bool>(), 0u8..5), 0..300), percent in 0u8..=60
        ) {
            let mut examples = Examples::new(percent);
            for (n, person, who) in takes {
                let (source, who) = [
                    (Source::Tracker, ""),
                    (Source::Operator, "a"),
                    (Source::Operator, "b"),
                    (Source::Neighbours, "yard"),
                    (Source::Teacher, ""),
                ][who as usize];
                examples.take(example(n, person, source, who));
            }
            let out: Vec<EventId> = examples.held_out().map(|example| example.event.clone()).collect();
            prop_assert!(examples.newest().all(|example| !out.contains(&example.event)));
            let mut again = Examples::new(percent);
            for example in examples.all().0 {
                again.restore(example.clone());
            }
            let of = |examples: &Examples| examples.all().0.cloned().collect::<Vec<_>>();
            prop_assert_eq!(of(&again), of(&examples));
        }
    }
}
