//! Whether there are too many people in a zone: a crowd begins when they have been many for long enough, and ends when they
//! have not been for as long.
//!
//! Nothing here knows tracks or polygons; who is in the zone comes in.

use picket_shared::event::{BoxPx, EventKind};

use super::zone::Zone;

/// The people in one zone in one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Gathering {
    /// How many.
    pub(super) count: u32,
    /// The box that holds all of them.
    pub(super) box_px: BoxPx,
    /// The score of the surest.
    pub(super) score: f32,
    /// The highest track number among them.
    pub(super) newest: u64,
}

impl Gathering {
    /// One more.
    pub(super) fn join(&mut self, track: u64, [x1, y1, x2, y2]: BoxPx, score: f32) {
        let [left, top, right, bottom] = self.box_px;
        let first = self.count == 0;
        self.box_px = if first { [x1, y1, x2, y2] } else { [left.min(x1), top.min(y1), right.max(x2), bottom.max(y2)] };
        self.count += 1;
        self.score = self.score.max(score);
        self.newest = self.newest.max(track);
    }
}

/// A crowd: one that is told, or one that may become one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Crowd {
    /// They have been many since; and were last.
    pub(super) start_ms: u64,
    pub(super) last_ms: u64,
    /// The most at once.
    pub(super) count_max: u32,
    /// The score of the surest so far.
    pub(super) top_score: f32,
    /// As they were when last many.
    pub(super) gathering: Gathering,
    /// The track and the number that its id was made of; absent before its `new`.
    pub(super) told: Option<(u64, u64)>,
    said_ms: u64,
    said_count: u32,
}

/// Watches one zone.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    pub(super) crowd: Option<Crowd>,
}

impl Watch {
    /// Takes in who is in the zone in one frame, and tells what there is to say of its crowd. After an `End` the crowd is
    /// to be taken away. `nth` is the number that a new one is given.
    pub(super) fn look(
        &mut self,
        now_ms: u64,
        zone: &Zone,
        gathering: Gathering,
        update_interval_ms: u64,
        nth: u64,
    ) -> Option<EventKind> {
        let many = gathering.count >= zone.crowd_at?;
        if many {
            let begun = || Crowd { start_ms: now_ms, ..Crowd::default() };
            self.crowd.get_or_insert_with(begun).meet(now_ms, gathering);
        }
        let crowd = self.crowd.as_mut()?;
        // Where the clock was set back, they have been few since now.
        crowd.last_ms = crowd.last_ms.min(now_ms);
        crowd.start_ms = crowd.start_ms.min(crowd.last_ms);
        if crowd.told.is_none() {
            if !many {
                self.crowd = None;
            } else if now_ms - crowd.start_ms >= zone.crowd_ms {
                crowd.told = Some((gathering.newest, nth));
                return Some(crowd.say(now_ms, EventKind::New));
            }
            return None;
        }
        if !many && now_ms - crowd.last_ms >= zone.crowd_ms {
            return Some(EventKind::End);
        }
        let silent = now_ms.checked_sub(crowd.said_ms).is_none_or(|ago| ago >= update_interval_ms);
        (crowd.count_max > crowd.said_count || silent).then(|| crowd.say(now_ms, EventKind::Update))
    }
}

impl Crowd {
    fn meet(&mut self, now_ms: u64, gathering: Gathering) {
        self.last_ms = now_ms;
        self.count_max = self.count_max.max(gathering.count);
        self.top_score = self.top_score.max(gathering.score);
        self.gathering = gathering;
    }

    fn say(&mut self, now_ms: u64, kind: EventKind) -> EventKind {
        (self.said_ms, self.said_count) = (now_ms, self.count_max);
        kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polygon::Polygon;
    use picket_shared::ids::ZoneId;

    fn zone(crowd_at: Option<u32>) -> Zone {
        let polygon = Polygon::new(vec![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).unwrap();
        Zone { crowd_at, crowd_ms: 200, ..Zone::new(ZoneId::new("square").unwrap(), polygon) }
    }

    #[test]
    fn a_crowd_begins_and_ends_after_its_time_and_tells_of_its_growth() {
        // Frames 100 ms apart with so many people each; an update is due after 500 ms of silence.
        for (name, crowd_at, counts, expect) in [
            ("too few", Some(3), &[2, 2, 2, 2, 2][..], "....."),
            ("nobody asks", None, &[9, 9, 9, 9, 9], "....."),
            ("for long enough", Some(3), &[3, 3, 3, 3], "..n."),
            ("not for long enough", Some(3), &[3, 3, 2, 3, 3], "....."),
            ("one fewer for a moment", Some(3), &[3, 3, 3, 2, 3, 2, 3], "..n...."),
            ("it grows", Some(3), &[3, 3, 3, 5, 4, 5, 6], "..nu..u"),
            ("it dissolves", Some(3), &[3, 3, 3, 2, 2, 2], "..n.e."),
            ("and comes again", Some(3), &[3, 3, 3, 0, 0, 3, 3, 3], "..n.e..n"),
            ("it stays", Some(3), &[3, 3, 3, 3, 3, 3, 3, 3, 3], "..n....u."),
        ] {
            let mut watch = Watch::default();
            let mut said = String::new();
            for (n, &count) in counts.iter().enumerate() {
                let gathering = Gathering { count, ..Gathering::default() };
                let told = watch.look(1_000 + n as u64 * 100, &zone(crowd_at), gathering, 500, 1);
                if told == Some(EventKind::End) {
                    watch.crowd = None;
                }
                said.push(match told {
                    None => '.',
                    Some(EventKind::New) => 'n',
                    Some(EventKind::Update) => 'u',
                    Some(EventKind::End) => 'e',
                });
            }
            assert_eq!(said, expect, "{name}");
        }
    }

    #[test]
    fn a_gathering_is_one_box_around_all() {
        let mut gathering = Gathering::default();
        gathering.join(4, [10, 20, 30, 40], 0.6);
        gathering.join(2, [5, 30, 20, 90], 0.9);
        assert_eq!(gathering, Gathering { count: 2, box_px: [5, 20, 30, 90], score: 0.9, newest: 4 });
    }

    #[test]
    fn a_clock_set_back_neither_ends_it_nor_keeps_it() {
        let mut watch = Watch::default();
        let mut look =
            |now_ms, count| watch.look(now_ms, &zone(Some(2)), Gathering { count, ..Gathering::default() }, 10_000, 1);
        assert_eq!([look(9_000, 2), look(9_200, 2)], [None, Some(EventKind::New)]);
        assert_eq!(look(500, 1), Some(EventKind::Update), "a word from the future was said before");
        assert_eq!([look(600, 1), look(700, 1)], [None, Some(EventKind::End)]);
    }
}
