//! The tracker, by scripted detections and by any detections.

use super::*;
use proptest::prelude::*;

const FRAME_MS: u64 = 100;

fn at(x: f32, y: f32, score: f32) -> Detection {
    Detection { area: Area { x1: x, y1: y, x2: x + 40.0, y2: y + 100.0 }, score }
}

/// Each frame is a list of detections; after each, the tracks as `id state`, with `?` tentative, `!` confirmed, `-` lost.
fn follow(tracker: &mut Tracker, frames: &[&[Detection]]) -> Vec<String> {
    let shown = |track: &Track| {
        let mark = match track.state {
            State::Tentative => '?',
            State::Confirmed => '!',
            State::Lost => '-',
        };
        format!("{}{mark}", track.id)
    };
    let mut now_ms = tracker.now_ms.unwrap_or(1_000);
    frames
        .iter()
        .map(|frame| {
            now_ms += FRAME_MS;
            tracker.step(now_ms, frame).iter().map(shown).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn a_track_is_tentative_then_confirmed_then_lost_then_gone() {
    let config = Config { lost_ms: 2 * FRAME_MS, ..Config::default() };
    let a: &[Detection] = &[at(100.0, 100.0, 0.8)];
    for (name, frames, expect) in [
        ("its life", vec![a, a, a, a, &[], &[], &[], a], vec!["1?", "1?", "1!", "1!", "1-", "1-", "", "2?"]),
        ("found again", vec![a, a, a, &[], a], vec!["1?", "1?", "1!", "1-", "1!"]),
        ("a flicker", vec![a, a, &[], a], vec!["1?", "1?", "", "2?"]),
        ("nothing", vec![&[], &[]], vec!["", ""]),
    ] {
        assert_eq!(follow(&mut Tracker::new(config.clone()), &frames), expect, "{name}");
    }
}

#[test]
fn what_a_score_is_good_for() {
    let config = Config::default();
    let start = [at(100.0, 100.0, 0.8)];
    let confirmed: Vec<&[Detection]> = vec![&start; 3];
    let next = |detection: Detection, before: &[&[Detection]]| {
        let mut tracker = Tracker::new(config.clone());
        follow(&mut tracker, before);
        follow(&mut tracker, &[&[detection]]).remove(0)
    };
    let lost = [confirmed.clone(), vec![&[]]].concat();
    for (name, detection, before, expect) in [
        ("begins a track", at(300.0, 100.0, config.score_new), &[][..], "1?"),
        ("too low to begin one", at(300.0, 100.0, config.score_new - 0.01), &[], ""),
        ("low, and keeps a track", at(101.0, 100.0, config.score_low), &confirmed, "1!"),
        ("low, and finds a lost track", at(101.0, 100.0, config.score_low), &lost, "1!"),
        ("too low for anything", at(101.0, 100.0, config.score_low - 0.01), &confirmed, "1-"),
        ("low, and too far for a low one", at(122.0, 100.0, 0.2), &confirmed, "1-"),
        ("high, and near enough for a high one", at(122.0, 100.0, 0.5), &confirmed, "1!"),
        ("low does not feed a tentative track", at(100.0, 100.0, 0.3), &confirmed[..2], ""),
    ] {
        assert_eq!(next(detection, before), expect, "{name}");
    }
}

#[test]
fn a_high_detection_takes_the_track_before_a_low_one_that_fits_better() {
    let start = [at(100.0, 100.0, 0.8)];
    let mut tracker = Tracker::new(Config::default());
    follow(&mut tracker, &[&start[..]; 3]);
    let tracks = tracker.step(1_400, &[at(100.0, 100.0, 0.2), at(110.0, 100.0, 0.7)]);
    assert_eq!(tracks.iter().map(|track| (track.id, track.score)).collect::<Vec<_>>(), [(1, 0.7)]);
}

#[test]
fn irregular_intervals_are_followed_and_a_long_gap_is_another_scene() {
    // Six pixels per 100 ms; frames come when they come.
    let mut tracker = Tracker::new(Config::default());
    let mut now_ms = 1_000;
    for elapsed_ms in [0, 100, 100, 50, 150, 100, 100, 200, 400, 100, 900, 100, 1_400] {
        now_ms += elapsed_ms;
        let tracks = tracker.step(now_ms, &[at((now_ms - 1_000) as f32 * 0.06, 100.0, 0.8)]);
        assert_eq!(tracks.iter().map(|track| track.id).collect::<Vec<_>>(), [1], "after {elapsed_ms} ms");
    }
    for (gap_ms, id) in [(GAP_MS_MAX, 1), (GAP_MS_MAX + 1, 2)] {
        let mut tracker = Tracker::new(Config::default());
        let still = [at(100.0, 100.0, 0.8)];
        for n in 0..5 {
            tracker.step(n * FRAME_MS, &still);
        }
        assert_eq!(tracker.step(4 * FRAME_MS + gap_ms, &still)[0].id, id, "a gap of {gap_ms} ms");
    }
}

#[test]
fn a_clock_set_back_keeps_the_tracks_and_moves_their_times() {
    let mut tracker = Tracker::new(Config { nominal_interval_ms: FRAME_MS, lost_ms: 500, ..Config::default() });
    let still = [at(100.0, 100.0, 0.8)];
    for n in 0..5 {
        tracker.step(1_000_000 + n * FRAME_MS, &still);
    }
    let tracks = tracker.step(5_000, &still);
    assert_eq!((tracks[0].id, tracks[0].start_ms, tracks[0].last_seen_ms), (1, 4_500, 5_000));
    // A lost one still ends in time by the new clock.
    assert_eq!(tracker.step(5_500, &[]).len(), 1);
    assert_eq!(tracker.step(5_501, &[]).len(), 0);
    // Nearly as far back as there is time.
    tracker.step(u64::MAX, &still);
    assert_eq!(tracker.step(0, &still)[0].start_ms, 0);
}

#[test]
fn bounds_are_kept_and_counted() {
    let mut tracker = Tracker::new(Config { tracks_max: 3, hits_min: 1, ..Config::default() });
    let row: Vec<_> = (0..5).map(|n| at(n as f32 * 100.0, 0.0, 0.5 + n as f32 / 10.0)).collect();
    let tracks = tracker.step(0, &row);
    assert_eq!(
        tracks.iter().map(|track| track.area.x1).collect::<Vec<_>>(),
        [400.0, 300.0, 200.0],
        "the best are kept"
    );
    assert_eq!(tracker.counts(), Counts { tracks_confirmed: 3, tracks_refused: 2, ..Counts::default() });

    let crowd: Vec<_> = (0..DETECTIONS_MAX + 7).map(|n| at(n as f32 * 50.0, 0.0, 0.8)).collect();
    let mut tracker = Tracker::new(Config { tracks_max: 500, ..Config::default() });
    assert_eq!(tracker.step(0, &crowd).len(), DETECTIONS_MAX);
    assert_eq!(tracker.counts().detections_over, 7);
}

#[test]
fn what_is_no_detection_is_counted_and_never_followed() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let good = at(100.0, 100.0, 0.8);
    let with = |area: Area| Detection { area, ..good };
    let bad = [
        with(Area { x1: nan, ..good.area }),
        with(Area { y2: inf, ..good.area }),
        with(Area { x1: -inf, ..good.area }),
        with(Area { x2: 1e30, ..good.area }),
        with(Area { x2: good.area.x1, ..good.area }),
        with(Area { y2: good.area.y1 - 5.0, ..good.area }),
        with(Area { x2: good.area.x1 + 1e-20, ..good.area }),
        Detection { score: nan, ..good },
        Detection { score: inf, ..good },
        Detection { score: -0.5, ..good },
        Detection { score: 1.5, ..good },
    ];
    let mut tracker = Tracker::new(Config::default());
    for detection in bad {
        assert!(tracker.step(0, &[detection]).is_empty(), "{detection:?}");
    }
    assert_eq!(tracker.counts().detections_refused, bad.len() as u64);
}

#[test]
fn numbers_are_shared_between_trackers_and_never_used_again() {
    let ids = |tracker: &mut Tracker| {
        let tracks = tracker.step(0, &[at(0.0, 0.0, 0.9), at(200.0, 0.0, 0.8)]);
        tracks.iter().map(|track| track.id).collect::<Vec<_>>()
    };
    let mut trackers = [1, 2, 3].map(|first| Tracker::numbered(Config::default(), first, 3));
    assert_eq!(trackers.each_mut().map(ids), [[1, 4], [2, 5], [3, 6]]);
    trackers[0].clear();
    assert!(!trackers[0].alive());
    assert_eq!(ids(&mut trackers[0]), [7, 10]);
}

#[test]
fn the_configuration_is_complete_and_its_nonsense_refused() {
    let parse = |text: &str| picket_shared::config::parse::<Config>(text);
    assert!(parse("").unwrap().check().is_ok());
    for (text, expect) in [
        ("score_low = nan", "track.score_low is NaN; give it 0.01 to 1"),
        ("score_low = 0.5", "track.score_high is 0.4; give it 0.5 to 1"),
        ("score_high = 0.9", "track.score_new is 0.45; give it 0.9 to 1"),
        ("score_new = 2.0", "track.score_new is 2"),
        ("iou_high_min = 0.0", "track.iou_high_min is 0;"),
        ("iou_low_min = -1.0", "track.iou_low_min is -1;"),
        ("iou_tentative_min = inf", "track.iou_tentative_min is inf;"),
        ("hits_min = 0", "track.hits_min is 0; give it 1 to 100"),
        ("lost_ms = 99999999", "track.lost_ms is 99999999;"),
        ("nominal_interval_ms = 0", "track.nominal_interval_ms is 0;"),
        ("tracks_max = 0", "track.tracks_max is 0; give it 1 to 500"),
    ] {
        let error = parse(text).unwrap().check().unwrap_err();
        assert!(error.starts_with(expect), "{text}: {error}");
    }
    assert!(parse("lost = 3").unwrap_err().contains("did you mean \"lost_ms\""));
}

/// Any number, the nasty ones often.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -50.0f32..800.0, 1 => any::<f32>(), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)]
}

fn detection() -> impl Strategy<Value = Detection> {
    let any = (number(), number(), number(), number(), prop_oneof![8 => -0.1f32..1.1, 1 => number()]);
    let any = any.prop_map(|(x1, y1, x2, y2, score)| Detection { area: Area { x1, y1, x2, y2 }, score });
    prop_oneof![1 => any, 2 => (0.0f32..700.0, 0.0f32..500.0, 0.0f32..1.0).prop_map(|(x, y, score)| at(x, y, score))]
}

proptest! {
    #[test]
    fn any_input_keeps_the_tracks_sane_and_the_same_input_gives_the_same_tracks(
        frames in proptest::collection::vec((prop_oneof![4 => 0u64..5_000, 1 => any::<u64>()], proptest::collection::vec(detection(), 0..12)), 1..40),
    ) {
        let config = Config { tracks_max: 8, ..Config::default() };
        let mut tracker = Tracker::new(config.clone());
        let mut twin = Tracker::new(config.clone());
        let mut highest_id = 0;
        for (now_ms, detections) in frames {
            let tracks = tracker.step(now_ms, &detections).to_vec();
            prop_assert_eq!(&tracks, twin.step(now_ms, &detections));
            prop_assert_eq!(tracker.alive(), !tracks.is_empty());
            prop_assert!(tracks.len() <= config.tracks_max);
            prop_assert!(tracks.windows(2).all(|pair| pair[0].id < pair[1].id), "in the order of their numbers");
            for track in &tracks {
                let Area { x1, y1, x2, y2 } = track.area;
                prop_assert!([x1, y1, x2, y2].iter().all(|edge| edge.is_finite()) && x1 < x2 && y1 < y2, "{track:?}");
                prop_assert!(track.start_ms <= track.last_seen_ms && track.last_seen_ms <= now_ms, "{track:?}");
                let seen = track.state != State::Lost;
                prop_assert_eq!(seen, track.last_seen_ms == now_ms && track.score > 0.0, "{:?}", track);
                prop_assert_eq!(track.state == State::Tentative, track.hits < config.hits_min);
                prop_assert!(!seen || detections.iter().any(|d| d.area == track.area && d.score == track.score));
            }
            let new_from = tracks.partition_point(|track| track.id <= highest_id);
            prop_assert!(tracks[new_from..].iter().all(|track| track.hits == 1), "an old number is not used again");
            highest_id = tracks.last().map_or(highest_id, |track| track.id.max(highest_id));
        }
    }
}
