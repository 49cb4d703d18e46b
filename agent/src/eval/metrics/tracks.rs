//! Tracks against a truth with identities: CLEAR MOT and IDF1.
//!
//! CLEAR MOT (Bernardin and Stiefelhagen, 2008): in each frame a person keeps the track of before while the two still
//! overlap; the others are assigned so that as many pairs as possible are made and their overlap is greatest. IDF1
//! (Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016): people and
//! tracks are assigned once for the whole sequence. Both as PyPI's motmetrics counts them, and a test compares.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{IOU_MIN, in_ignored};
use crate::eval::truth::TruthBox;
use crate::frame::Area;
use crate::track::assign::Assigner;

/// A track's box in one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tracked {
    /// The track's number.
    pub id: u64,
    /// Where.
    pub area: Area,
}

/// The figures of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrackScores {
    /// Different people.
    pub people: u64,
    /// People, summed over frames.
    pub boxes: u64,
    /// Different tracks.
    pub tracks: u64,
    /// Frames in which a person had no track, summed over people.
    pub misses: u64,
    /// Boxes of tracks that are nobody.
    pub false_positives: u64,
    /// Times that a person went on under another track.
    pub switches: u64,
    /// Times that a person was lost and found again.
    pub fragmentations: u64,
    /// 1 − (misses + false positives + switches) / boxes. Below 0 where the errors are more than the people.
    pub mota: Option<f64>,
    /// Mean overlap (IoU) of people with their tracks; motmetrics gives 1 minus it.
    pub motp: Option<f64>,
    /// Frames in which people and their tracks, assigned once, agree: 2 · agreeing / (boxes + tracks' boxes).
    pub idf1: Option<f64>,
    /// Of the tracks' boxes, the share that agrees.
    pub id_precision: Option<f64>,
    /// Of the people's boxes, the share that agrees.
    pub id_recall: Option<f64>,
}

/// What is known of one person so far.
#[derive(Debug, Default)]
struct Person {
    /// The track that it had last, however long ago.
    track: Option<u64>,
    /// It was missed since it had that track.
    missed_since: bool,
}

/// Takes a sequence in, frame by frame.
#[derive(Debug, Default)]
pub struct Accumulator {
    people: HashMap<u64, Person>,
    /// Boxes of each track.
    tracks: HashMap<u64, u64>,
    /// Frames in which a person and a track overlap enough, in the order of their numbers.
    together: BTreeMap<(u64, u64), u64>,
    boxes: u64,
    misses: u64,
    false_positives: u64,
    switches: u64,
    fragmentations: u64,
    matches: u64,
    overlap: f64,
    assigner: Assigner,
}

impl Accumulator {
    /// Takes the next frame in. Boxes without an identity are not people of a sequence, and are passed over.
    pub fn frame(&mut self, truth: &[TruthBox], found: &[Tracked]) {
        let counted = |marked: &&TruthBox| !marked.ignore && marked.id.is_some();
        let people: Vec<(u64, Area)> =
            truth.iter().filter(counted).filter_map(|marked| Some((marked.id?, marked.area))).collect();
        let found = self.without_ignored(truth, &people, found);
        self.count_together(&people, &found);
        let (mut free_people, mut free_found) = (vec![true; people.len()], vec![true; found.len()]);
        let mut pairs = Vec::new();
        // Whoever had a track keeps it while the two overlap.
        for (row, (id, area)) in people.iter().enumerate() {
            let Some(track) = self.people.get(id).and_then(|person| person.track) else { continue };
            let same = (0..found.len()).find(|&column| free_found[column] && found[column].id == track);
            let Some(column) = same.filter(|&column| area.iou(&found[column].area) >= IOU_MIN) else { continue };
            (free_people[row], free_found[column]) = (false, false);
            pairs.push((row, column));
        }
        let rows: Vec<usize> = (0..people.len()).filter(|&row| free_people[row]).collect();
        let columns: Vec<usize> = (0..found.len()).filter(|&column| free_found[column]).collect();
        let benefit = |row: usize, column: usize| pairing(&people[rows[row]].1, &found[columns[column]].area);
        let assigned = self.assigner.solve(rows.len(), columns.len(), benefit);
        pairs.extend(assigned.iter().map(|&(row, column)| (rows[row], columns[column])));

        self.boxes += people.len() as u64;
        self.misses += (people.len() - pairs.len()) as u64;
        self.false_positives += (found.len() - pairs.len()) as u64;
        self.matches += pairs.len() as u64;
        let mut tracks = vec![None; people.len()];
        for (row, column) in pairs {
            tracks[row] = Some(found[column].id);
            self.overlap += f64::from(people[row].1.iou(&found[column].area));
        }
        for ((id, _), track) in people.iter().zip(tracks) {
            self.go_on(*id, track);
        }
    }

    /// A person's frame, with the track that it has in it.
    fn go_on(&mut self, id: u64, track: Option<u64>) {
        let person = self.people.entry(id).or_default();
        match (person.track, track) {
            (_, None) => person.missed_since = true,
            (before, Some(now)) => {
                self.switches += u64::from(before.is_some_and(|before| before != now));
                self.fragmentations += u64::from(before.is_some() && person.missed_since);
                *person = Person { track: Some(now), missed_since: false };
            }
        }
    }

    /// The tracks' boxes without those that nobody judges: in an ignored region, and no person's.
    fn without_ignored(&mut self, truth: &[TruthBox], people: &[(u64, Area)], found: &[Tracked]) -> Vec<Tracked> {
        if !truth.iter().any(|marked| marked.ignore) {
            return found.to_vec();
        }
        let benefit = |row: usize, column: usize| pairing(&people[row].1, &found[column].area);
        let assigned = self.assigner.solve(people.len(), found.len(), benefit);
        let taken: Vec<usize> = assigned.iter().map(|&(_, column)| column).collect();
        let judged =
            |&(column, tracked): &(usize, &Tracked)| taken.contains(&column) || !in_ignored(truth, &tracked.area);
        found.iter().enumerate().filter(judged).map(|(_, tracked)| *tracked).collect()
    }

    fn count_together(&mut self, people: &[(u64, Area)], found: &[Tracked]) {
        for tracked in found {
            *self.tracks.entry(tracked.id).or_default() += 1;
            for (id, area) in people {
                if area.iou(&tracked.area) >= IOU_MIN {
                    *self.together.entry((*id, tracked.id)).or_default() += 1;
                }
            }
        }
    }

    /// The figures of what was taken in.
    pub fn scores(&mut self) -> TrackScores {
        let agreeing = self.agreeing();
        let tracked: u64 = self.tracks.values().sum();
        let ratio = |part: f64, whole: u64| (whole > 0).then(|| part / whole as f64);
        let errors = self.misses + self.false_positives + self.switches;
        TrackScores {
            people: self.people.len() as u64,
            boxes: self.boxes,
            tracks: self.tracks.len() as u64,
            misses: self.misses,
            false_positives: self.false_positives,
            switches: self.switches,
            fragmentations: self.fragmentations,
            mota: ratio(errors as f64, self.boxes).map(|errors| 1.0 - errors),
            motp: ratio(self.overlap, self.matches),
            idf1: ratio(2.0 * agreeing, self.boxes + tracked),
            id_precision: ratio(agreeing, tracked),
            id_recall: ratio(agreeing, self.boxes),
        }
    }

    /// Frames in which people and their tracks agree, under the assignment for which they are most.
    fn agreeing(&mut self) -> f64 {
        let number = |ids: &mut dyn Iterator<Item = u64>| {
            let mut numbers: HashMap<u64, usize> = HashMap::new();
            ids.for_each(|id| {
                let next = numbers.len();
                numbers.entry(id).or_insert(next);
            });
            numbers
        };
        let people = number(&mut self.together.keys().map(|(person, _)| *person));
        let tracks = number(&mut self.together.keys().map(|(_, track)| *track));
        let mut table = vec![0.0; people.len() * tracks.len()];
        for ((person, track), frames) in &self.together {
            table[people[person] * tracks.len() + tracks[track]] = *frames as f64;
        }
        let benefit = |row: usize, column: usize| table[row * tracks.len() + column];
        let assigned = self.assigner.solve(people.len(), tracks.len(), benefit);
        assigned.iter().map(|&(row, column)| benefit(row, column)).sum()
    }
}

/// What a pair is worth where the number of pairs counts before their overlap; nothing where they overlap too little.
fn pairing(person: &Area, track: &Area) -> f64 {
    /// More than the overlaps of a whole frame differ by.
    const PAIR: f64 = 10_000.0;
    let iou = person.iou(track);
    if iou >= IOU_MIN { PAIR + f64::from(iou) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(x: f32) -> Area {
        Area { x1: x, y1: 0.0, x2: x + 10.0, y2: 20.0 }
    }

    fn person(id: u64, x: f32) -> TruthBox {
        TruthBox { area: area(x), id: Some(id), ignore: false }
    }

    fn track(id: u64, x: f32) -> Tracked {
        Tracked { id, area: area(x) }
    }

    fn scores(frames: &[(Vec<TruthBox>, Vec<Tracked>)]) -> TrackScores {
        let mut accumulator = Accumulator::default();
        frames.iter().for_each(|(truth, found)| accumulator.frame(truth, found));
        accumulator.scores()
    }

    #[test]
    fn errors_of_short_sequences_counted_by_hand() {
        let p = |x| vec![person(1, x)];
        // What, frames, [misses, false positives, switches, fragmentations], agreeing of people's and tracks' boxes.
        for (name, frames, expect, idf1) in [
            ("perfect", vec![(p(0.0), vec![track(7, 0.0)]); 3], [0, 0, 0, 0], 1.0),
            ("nobody seen", vec![(p(0.0), vec![]); 2], [2, 0, 0, 0], 0.0),
            ("nobody there", vec![(vec![], vec![track(7, 0.0)]); 2], [0, 2, 0, 0], 0.0),
            (
                "another track goes on",
                vec![(p(0.0), vec![track(7, 0.0)]), (p(0.0), vec![track(8, 0.0)]), (p(0.0), vec![track(8, 0.0)])],
                [0, 0, 1, 0],
                4.0 / 6.0,
            ),
            (
                "lost and found",
                vec![(p(0.0), vec![track(7, 0.0)]), (p(0.0), vec![]), (p(0.0), vec![track(7, 0.0)])],
                [1, 0, 0, 1],
                4.0 / 5.0,
            ),
            (
                "found again by another",
                vec![(p(0.0), vec![track(7, 0.0)]), (p(0.0), vec![]), (p(0.0), vec![track(8, 0.0)])],
                [1, 0, 1, 1],
                2.0 / 5.0,
            ),
            // Missed before the first and after the last time is no fragment.
            ("seen late", vec![(p(0.0), vec![]), (p(0.0), vec![track(7, 0.0)]), (p(0.0), vec![])], [2, 0, 0, 0], 0.5),
            // It keeps its track although another fits better now.
            (
                "kept",
                vec![(p(0.0), vec![track(7, 0.0)]), (p(0.0), vec![track(7, 3.0), track(8, 0.0)])],
                [0, 1, 0, 0],
                4.0 / 5.0,
            ),
            // Two perfect pairs overlap more than three fair ones, and leave somebody without a track.
            (
                "three pairs before two better ones",
                vec![(
                    vec![person(1, 0.0), person(2, 3.0), person(3, 6.0)],
                    vec![track(7, 3.0), track(8, 6.0), track(9, 9.0)],
                )],
                [0, 0, 0, 0],
                1.0,
            ),
            // A greedy choice of the best pair would leave the other person without a track.
            (
                "most pairs first",
                vec![(vec![person(1, 0.0), person(2, 3.0)], vec![track(7, 1.0), track(8, -2.0)])],
                [0, 0, 0, 0],
                1.0,
            ),
        ] {
            let found = scores(&frames);
            let errors = [found.misses, found.false_positives, found.switches, found.fragmentations];
            assert_eq!(errors, expect, "{name}");
            assert!((found.idf1.unwrap() - idf1).abs() < 1e-12, "{name}: {found:?}");
        }
    }

    #[test]
    fn mota_and_motp_by_hand() {
        let frames = [
            (vec![person(1, 0.0), person(2, 50.0)], vec![track(7, 2.0), track(9, 90.0)]),
            (vec![person(1, 0.0)], vec![]),
        ];
        let found = scores(&frames);
        assert_eq!((found.people, found.boxes, found.tracks), (2, 3, 2));
        assert_eq!(found.mota, Some(1.0 - 3.0 / 3.0));
        assert!((found.motp.unwrap() - 8.0 / 12.0).abs() < 1e-6);
        let nothing = scores(&[]);
        assert_eq!((nothing.mota, nothing.motp, nothing.idf1), (None, None, None));
    }

    #[test]
    fn what_is_ignored_counts_neither_way() {
        let ignored = TruthBox { ignore: true, ..person(3, 50.0) };
        let found = scores(&[(vec![person(1, 0.0), ignored], vec![track(7, 0.0), track(8, 50.0), track(9, 90.0)])]);
        assert_eq!((found.boxes, found.misses, found.false_positives, found.tracks), (1, 0, 1, 2));
        // A person that stands in the region is still one.
        let found = scores(&[(vec![person(1, 50.0), ignored], vec![track(8, 51.0)])]);
        assert_eq!((found.misses, found.false_positives), (0, 0));
    }
}
