//! STAR-SGD against golden vectors of an independent implementation (Python, in `coordinator/tests/golden/star.json`), against a
//! plain second writing of itself, and against what it promises.

use super::*;
use picket_shared::crypto::{hex, sha256};
use picket_shared::random::SplitMix64;
use proptest::prelude::*;

const GOLDEN: &str = include_str!("../../tests/golden/star.json");

#[derive(Debug, Clone)]
struct Said {
    station: NodeId,
    epoch: u64,
    seq: u64,
    base: u64,
    row: Vec<f32>,
}

fn station(n: usize) -> NodeId {
    NodeId::new(format!("n{n:05}")).unwrap()
}

fn star(parameters: usize, fresh: usize) -> Star {
    Star::new(Settings { fresh, ..Settings::default() }, vec![0.0; parameters], 0)
}

/// Takes it in, and flushes where that is due; the direction is a gate's.
fn feed(star: &mut Star, said: &Said, direction: Option<&[f32]>) -> Result<Taken, Refused> {
    let taken = star.take(&said.station, said.epoch, said.seq, said.base, said.row.clone());
    if star.is_ready(0) {
        star.flush(direction, &BTreeSet::new());
    }
    taken
}

fn state(star: &Star) -> String {
    let head = star.head().iter().flat_map(|x| x.to_le_bytes());
    hex(&sha256(&star.version().to_le_bytes().into_iter().chain(head).collect::<Vec<u8>>()))
}

fn row(random: &mut SplitMix64, parameters: usize) -> Vec<f32> {
    (0..parameters).map(|_| (random.normals()[0] * 0.1 + 0.05) as f32).collect()
}

/// So many messages of so many stations, from heads that stand already.
fn said(seed: u64, parameters: usize, stations: usize, messages: usize) -> Vec<Said> {
    let (mut random, mut seqs) = (SplitMix64::new(seed), BTreeMap::<usize, u64>::new());
    let one = |_| {
        let n = random.below(stations);
        let seq = seqs.entry(n).or_default();
        *seq += 1;
        Said { station: station(n), epoch: 1, seq: *seq, base: 0, row: row(&mut random, parameters) }
    };
    (0..messages).map(one).collect()
}

fn golden() -> (Vec<Said>, String, u64, Vec<u8>) {
    let file: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    let numbers =
        |value: &serde_json::Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let messages = file["messages"].as_array().unwrap().iter().map(|m| Said {
        station: station(number(&m["st"]) as usize),
        epoch: number(&m["ep"]),
        seq: number(&m["seq"]),
        base: number(&m["base"]),
        row: numbers(&m["row"]),
    });
    let head = file["head_hex"].as_str().unwrap();
    let bytes = (0..head.len()).step_by(2).map(|at| u8::from_str_radix(&head[at..at + 2], 16).unwrap()).collect();
    (messages.collect(), file["digest"].as_str().unwrap().into(), number(&file["version"]), bytes)
}

#[test]
fn the_golden_vectors_give_the_golden_head_bit_for_bit() {
    let (messages, digest, version, bytes) = golden();
    let mut star = star(48, 4);
    messages.iter().for_each(|m| assert_eq!(feed(&mut star, m, None), Ok(Taken::New)));
    let head: Vec<u8> = star.head().iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(star.version(), version);
    assert_eq!(head, bytes);
    assert_eq!(state(&star), digest);
}

/// STAR-SGD once more, as it is told in sentences: no tables, no blocks, every product anew.
fn plainly(star: &Star, direction: Option<&[f32]>) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + f64::from(*a) * f64::from(*b));
    let live: Vec<&Row> = star.rows.values().filter(|row| star.version - row.base <= 1024).collect();
    let lengths: Vec<f64> = live.iter().map(|row| dot(&row.values, &row.values).sqrt()).collect();
    let mut sorted = lengths.clone();
    sorted.sort_by(f64::total_cmp);
    let scaled = live.iter().zip(&lengths).map(|(row, length)| {
        let clip = if *length > 0.0 { (sorted[sorted.len() / 2] / length).min(1.0) } else { 1.0 };
        let factor = clip * (1.0 / (1.0 + (star.version - row.base) as f64).sqrt().sqrt());
        row.values.iter().map(|x| (f64::from(*x) * factor) as f32).collect::<Vec<f32>>()
    });
    let mut rows: Vec<Vec<f32>> = scaled.collect();
    let mut beta = 0.3;
    if let Some(direction) = direction {
        beta = 0.1;
        let length = dot(direction, direction).sqrt();
        rows.retain(|row| {
            let both = dot(row, row).sqrt() * length;
            both == 0.0 || dot(row, direction) / both > -0.1
        });
    }
    let n = rows.len();
    let mean = |column: &[f64]| column.iter().fold(0.0, |sum, x| sum + x) / column.len() as f64;
    let step = |at: usize| {
        if n < 4 {
            let column: Vec<f64> = rows.iter().map(|row| f64::from(row[at])).collect();
            return if n == 0 { 0.0 } else { mean(&column) };
        }
        let f = (beta * n as f64).ceil() as usize;
        let mixed = (0..n).map(|i| {
            let own = dot(&rows[i], &rows[i]);
            let distance = |j: usize| own + dot(&rows[j], &rows[j]) - 2.0 * dot(&rows[i], &rows[j]);
            let mut by_distance: Vec<(f64, usize)> = (0..n).map(|j| (distance(j).max(0.0), j)).collect();
            by_distance.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let mut near: Vec<usize> = by_distance[..n - f].iter().map(|(_, j)| *j).collect();
            near.sort_unstable();
            mean(&near.iter().map(|j| f64::from(rows[*j][at])).collect::<Vec<f64>>())
        });
        let mut column: Vec<f64> = mixed.collect();
        column.sort_by(f64::total_cmp);
        let b = if 2 * f.max(1) >= n { (n - 1) / 2 } else { f.max(1) };
        mean(&column[b..n - b])
    };
    star.head.iter().enumerate().map(|(at, w)| (f64::from(*w) + 2.0 * step(at)) as f32).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The tables, blocks and networks give the bits of the plain sentence: with rows that change, age, are cut and are gated.
    #[test]
    fn a_flush_is_what_it_is_told_to_be(seed: u64, parameters in 1usize..150, stations in 1usize..40, gated: bool) {
        let mut random = SplitMix64::new(seed);
        let mut star = star(parameters, 0);
        for round in 0..6u64 {
            for n in 0..stations {
                if random.below(3) > 0 {
                    let long = if random.below(4) == 0 { 30.0 } else { 1.0 };
                    let values: Vec<f32> = row(&mut random, parameters).iter().map(|x| x * long).collect();
                    let base = star.version().saturating_sub(random.below(3) as u64);
                    star.take(&station(n), 1, round + 1, base, values).unwrap();
                }
            }
            let direction = gated.then(|| row(&mut random, parameters));
            let expected = if star.rows().is_empty() { star.head().to_vec() } else { plainly(&star, direction.as_deref()) };
            star.flush(direction.as_deref(), &BTreeSet::new());
            prop_assert_eq!(star.head(), &expected[..]);
        }
    }

    /// P1: what comes again, at once or late, changes nothing.
    #[test]
    fn at_least_once_is_exactly_once(seed: u64) {
        let messages = said(seed, 16, 9, 60);
        let (mut once, mut again, mut random) = (star(16, 4), star(16, 4), SplitMix64::new(seed));
        for (n, message) in messages.iter().enumerate() {
            feed(&mut once, message, None).unwrap();
            feed(&mut again, message, None).unwrap();
            for _ in 0..random.below(3) {
                prop_assert_eq!(feed(&mut again, message, None), Ok(Taken::Repeated));
            }
            let earlier = &messages[random.below(n + 1)];
            prop_assert_ne!(feed(&mut again, earlier, None), Ok(Taken::New));
        }
        prop_assert_eq!(state(&once), state(&again));
    }

    /// P2: within a flush it does not matter who came first.
    #[test]
    fn the_order_within_a_flush_does_not_matter(seed: u64, turn in 0usize..4) {
        let (mut one, mut other) = (star(16, 4), star(16, 4));
        for message in said(seed, 16, 9, 40) {
            feed(&mut one, &message, None).unwrap();
            feed(&mut other, &message, None).unwrap();
        }
        one.flush(None, &BTreeSet::new());
        other.flush(None, &BTreeSet::new());
        let mut random = SplitMix64::new(seed ^ 1);
        let mut window: Vec<Said> = (0..4).map(|n| Said { station: station(200 + n), epoch: 1, seq: 1, base: 0, row: row(&mut random, 16) }).collect();
        window.iter().for_each(|m| assert!(feed(&mut one, m, None).is_ok()));
        window.rotate_left(turn);
        window.swap(0, 2);
        window.iter().for_each(|m| assert!(feed(&mut other, m, None).is_ok()));
        prop_assert_eq!(state(&one), state(&other));
    }

    /// P4 and P10: whatever a minority says, however large, a step is at most eta times the median length; so is any step.
    #[test]
    fn a_step_is_no_longer_than_eta_medians(seed: u64, hostile in 0usize..12, power in -30i32..38) {
        let (mut random, mut star, mut lengths) = (SplitMix64::new(seed), star(20, 12), Vec::new());
        for n in 0..12 {
            let values: Vec<f32> = if n < hostile {
                (0..20).map(|_| (10f64.powi(power) * (random.unit() - 0.5)) as f32).collect()
            } else {
                row(&mut random, 20)
            };
            lengths.push(norm(&values));
            star.take(&station(n), 1, 1, 0, values).unwrap();
        }
        lengths.sort_by(f64::total_cmp);
        let flush = star.flush(None, &BTreeSet::new());
        prop_assert!(flush.step <= 2.0 * lengths[6] * (1.0 + 1e-6), "{} {}", flush.step, lengths[6]);
        if hostile <= 3 {
            // Twenty coordinates around 0.05 with a deviation of 0.1 are never longer than this.
            prop_assert!(flush.step <= 2.0 * 20f64.sqrt() * 0.8);
        }
    }
}

/// P3: one station, no staleness, eta 1, plain: the sum of its steps and nothing else.
#[test]
fn one_station_alone_is_plain_gradient_descent_bit_for_bit() {
    use picket_shared::learn::{lineage::HeadShape, train::Sample, train::Trainer};
    let shape = HeadShape::softmax(12, 4);
    let (mut random, parameters) = (SplitMix64::new(9), shape.parameters());
    let features: Vec<Vec<f32>> = (0..32).map(|_| (0..12).map(|_| random.normals()[0] as f32).collect()).collect();
    let batch: Vec<Sample> =
        features.iter().enumerate().map(|(n, f)| Sample { features: f, label: (n % 4) as u8, weight: 1.0 }).collect();
    let settings = Settings { eta: 1.0, mixing: Mixing::Plain, fresh: 1, ..Settings::default() };
    let (mut star, mut trainer) = (Star::new(settings, vec![0.0; parameters], 0), Trainer::new(shape));
    let mut plain = vec![0.0f32; parameters];
    for seq in 1..=200 {
        let mut delta = vec![0.0; parameters];
        trainer.step(star.head(), &mut delta, &batch, 0.05);
        star.take(&station(1), 1, seq, star.version(), delta).unwrap();
        star.flush(None, &BTreeSet::new());
        let mut step = vec![0.0; parameters];
        trainer.step(&plain, &mut step, &batch, 0.05);
        plain.iter_mut().zip(&step).for_each(|(w, step)| *w += step);
        assert_eq!(star.head(), plain, "step {seq}");
    }
}

/// P6: of one station the highest (epoch, seq) stays, in whatever order they come.
#[test]
fn of_one_station_the_newest_stays() {
    let (mut messages, mut a, mut b) = (said(3, 8, 1, 12), star(8, 99), star(8, 99));
    messages[11].epoch = 2;
    messages[11].seq = 1;
    messages.iter().for_each(|m| assert_eq!(feed(&mut a, m, None), Ok(Taken::New)));
    messages.reverse();
    messages.iter().for_each(|m| assert!(feed(&mut b, m, None).is_ok()));
    assert_eq!(a.rows()[&station(0)].values, b.rows()[&station(0)].values);
    assert_eq!(b.seen()[&station(0)], (2, 1));
}

/// P7: what cannot be is refused by its name, and changes nothing.
#[test]
fn each_bad_change_has_its_name() {
    let mut star = star(3, 1);
    for (row, base, expected) in [
        (vec![0.0, f32::NAN, 0.0], 0, "learn_not_finite"),
        (vec![0.0, f32::INFINITY, 0.0], 0, "learn_not_finite"),
        (vec![0.0, 0.0], 0, "learn_length"),
        (vec![0.0, 0.0, 0.0], 1, "learn_future"),
    ] {
        let refused = star.take(&station(1), 1, 1, base, row).unwrap_err();
        assert_eq!(refused.word(), expected);
    }
    assert!(star.rows().is_empty() && star.seen().is_empty() && star.version() == 0);
    let mut large = Star::new(Settings::default(), vec![0.0; CELLS_MAX / 2], 0);
    large.restore(&station(1), (1, 1), None, false);
    large.restore(&station(2), (1, 1), None, false);
    assert_eq!(large.place_of(&station(3), 1, 1, 0), Err(Refused::Rows(2)));
    assert_eq!(large.place_of(&station(2), 1, 2, 0), Ok(Taken::New));
}

/// P8: one station alone moves nothing, however much it says.
#[test]
fn a_thousand_updates_of_one_station_make_no_flush() {
    let mut star = star(8, 0);
    for seq in 1..=1000 {
        assert_eq!(star.take(&station(7), 1, seq, 0, vec![1.0; 8]), Ok(Taken::New));
        assert!(!star.is_ready(4));
    }
    assert_eq!((star.version(), star.rows().len()), (0, 1));
}

/// P13: what began too long ago does not count.
#[test]
fn a_row_of_too_old_a_head_has_no_influence() {
    let settings = Settings { age_max: 3, fresh: 1, ..Settings::default() };
    let (mut with, mut without) = (Star::new(settings, vec![0.0; 4], 0), Star::new(settings, vec![0.0; 4], 0));
    with.take(&station(0), 1, 1, 0, vec![5.0; 4]).unwrap();
    for version in 0..8 {
        for star in [&mut with, &mut without] {
            star.take(&station(1), 1, version + 1, version, vec![0.1; 4]).unwrap();
        }
        let before = (with.head().to_vec(), without.head().to_vec());
        let flush = with.flush(None, &BTreeSet::new());
        without.flush(None, &BTreeSet::new());
        let old = flush.parts[&station(0)].fate == Fate::Old;
        assert_eq!(old, version > 3);
        let step = |after: &[f32], before: &[f32]| after[0] - before[0];
        let same = (step(with.head(), &before.0) - step(without.head(), &before.1)).abs() < 1e-6;
        assert_eq!(same, old, "version {version}");
    }
}

#[test]
fn a_station_that_a_person_froze_does_not_count_and_a_gated_one_neither() {
    let mut star = star(2, 2);
    star.take(&station(0), 1, 1, 0, vec![1.0, 0.0]).unwrap();
    star.take(&station(1), 1, 1, 0, vec![0.0, 1.0]).unwrap();
    star.take(&station(2), 1, 1, 0, vec![-1.0, 0.0]).unwrap();
    let flush = star.flush(Some(&[1.0, 0.0]), &[station(1)].into());
    let fates: Vec<Fate> = flush.parts.values().map(|part| part.fate).collect();
    assert_eq!(fates, [Fate::Used, Fate::Frozen, Fate::Gated]);
    assert_eq!(star.head(), [2.0, 0.0]);
}

#[test]
fn a_step_beyond_all_numbers_is_not_made() {
    let mut star = Star::new(Settings { fresh: 2, ..Settings::default() }, vec![f32::MAX; 2], 0);
    star.take(&station(0), 1, 1, 0, vec![f32::MAX; 2]).unwrap();
    star.take(&station(1), 1, 1, 0, vec![f32::MAX; 2]).unwrap();
    let flush = star.flush(None, &BTreeSet::new());
    assert!(flush.overflow && star.head() == [f32::MAX; 2] && star.version() == 1);
}
