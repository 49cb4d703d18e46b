//! Named lines, and who has crossed them and which way: with an inertia on both sides, so that a person who trembles on a
//! line does not cross it ten times.
//!
//! A line has a left and a right, those of somebody who stands at its `from`, on the picture as it is seen on a screen, and
//! looks to its `to`. An object is on a side once it was there for `inertia_frames` frames in a row. It crosses where it
//! changes sides and its way, when it last came over, cut the line itself: whoever walks round its end changes sides and
//! crosses nothing. Nothing here knows tracks or time.

use picket_shared::event::Direction;
use picket_shared::ids::LineId;
use picket_shared::limits::CAMERA_LINES_MAX;
use serde::{Deserialize, Serialize};

use crate::polygon::{check_coordinates, side};

/// A named stroke across the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Its name in events.
    pub name: LineId,
    /// Where it begins, `[x, y]` in fractions of the picture from its upper left.
    pub from: [f64; 2],
    /// Where it ends.
    pub to: [f64; 2],
}

impl Line {
    fn check(&self) -> Result<(), String> {
        let wrong = |what: String| format!("line \"{}\": {what}", self.name);
        check_coordinates("a line", &[self.from, self.to]).map_err(wrong)?;
        if self.from == self.to {
            return Err(wrong("from and to are the same point; move one".into()));
        }
        Ok(())
    }

    /// Where a point is: greater than 0 on the right, less on the left.
    fn side(&self, point: [f64; 2]) -> f64 {
        side(self.from, self.to, point)
    }

    /// Whether the straight way between two points on different sides goes through the line, its ends included.
    fn is_cut_by(&self, a: [f64; 2], b: [f64; 2]) -> bool {
        let (from, to) = (side(a, b, self.from), side(a, b, self.to));
        from.min(to) <= 0.0 && from.max(to) >= 0.0
    }
}

/// The lines of one source: at most [`CAMERA_LINES_MAX`], each name once.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "Vec<Line>")]
pub struct Lines(Vec<Line>);

impl Lines {
    /// Checks the lines and takes them.
    pub fn new(lines: Vec<Line>) -> Result<Self, String> {
        if lines.len() > CAMERA_LINES_MAX {
            return Err(format!("there are {} lines; give a source 0 to {CAMERA_LINES_MAX}", lines.len()));
        }
        for (n, line) in lines.iter().enumerate() {
            if lines[..n].iter().any(|earlier| earlier.name == line.name) {
                return Err(format!("two lines are named \"{}\"; give each its own name", line.name));
            }
            line.check()?;
        }
        Ok(Self(lines))
    }

    /// The lines, in the order of the configuration.
    pub fn as_slice(&self) -> &[Line] {
        &self.0
    }
}

impl TryFrom<Vec<Line>> for Lines {
    type Error = String;
    fn try_from(lines: Vec<Line>) -> Result<Self, String> {
        Self::new(lines)
    }
}

/// On which side of each line one object is.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Sides([Standing; CAMERA_LINES_MAX]);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Standing {
    /// The side that it has stayed on for long enough, named by the direction that leads there.
    settled: Option<Direction>,
    /// Where it was last, if not on the line itself, and on which side that is.
    last: Option<([f64; 2], Direction)>,
    /// For how many frames in a row it has been there, since when, and whether it came through the line.
    frames: u32,
    since_ms: u64,
    through: bool,
}

impl Sides {
    /// Takes in where the object stands in one frame, and tells what it has crossed: the line's number, the direction, and
    /// the time of the first frame on the new side.
    pub(super) fn stand(
        &mut self,
        now_ms: u64,
        lines: &Lines,
        foot: [f64; 2],
        inertia_frames: u32,
        mut crossed: impl FnMut(usize, Direction, u64),
    ) {
        for (n, (line, standing)) in lines.0.iter().zip(&mut self.0).enumerate() {
            if let Some(direction) = standing.stand(now_ms, line, foot, inertia_frames) {
                crossed(n, direction, standing.since_ms);
            }
        }
    }
}

impl Standing {
    fn stand(&mut self, now_ms: u64, line: &Line, foot: [f64; 2], inertia_frames: u32) -> Option<Direction> {
        let side = line.side(foot);
        // On the line itself is on no side, and says nothing.
        let here = if side > 0.0 {
            Direction::LeftToRight
        } else if side < 0.0 {
            Direction::RightToLeft
        } else {
            return None;
        };
        match self.last.replace((foot, here)) {
            Some((_, before)) if before == here => self.frames = self.frames.saturating_add(1),
            before => {
                self.through = before.is_some_and(|(place, _)| line.is_cut_by(place, foot));
                (self.frames, self.since_ms) = (1, now_ms);
            }
        }
        if self.frames < inertia_frames || self.settled == Some(here) {
            return None;
        }
        let moved = self.settled.replace(here).is_some();
        (moved && self.through).then_some(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{LeftToRight, RightToLeft};
    use proptest::prelude::*;

    fn line(from: [f64; 2], to: [f64; 2]) -> Lines {
        Lines::new(vec![Line { name: LineId::new("l").unwrap(), from, to }]).unwrap()
    }

    /// What is crossed on a walk with a frame each 100 ms, with its times.
    fn walked(lines: &Lines, inertia_frames: u32, walk: impl IntoIterator<Item = [f64; 2]>) -> Vec<(Direction, u64)> {
        let (mut sides, mut out) = (Sides::default(), Vec::new());
        for (n, foot) in walk.into_iter().enumerate() {
            let now_ms = n as u64 * 100;
            sides.stand(now_ms, lines, foot, inertia_frames, |_, direction, ms| out.push((direction, ms)));
        }
        out
    }

    #[test]
    fn left_and_right_are_those_of_who_looks_along_the_line_on_the_screen() {
        let (left, right, up, down) = ([0.1, 0.5], [0.9, 0.5], [0.5, 0.1], [0.5, 0.9]);
        for (name, from, to, walk, expect) in [
            ("drawn upwards, walked to the right", [0.5, 1.0], [0.5, 0.0], [left, right], LeftToRight),
            ("drawn upwards, walked to the left", [0.5, 1.0], [0.5, 0.0], [right, left], RightToLeft),
            ("drawn downwards, walked to the right", [0.5, 0.0], [0.5, 1.0], [left, right], RightToLeft),
            ("drawn to the right, walked down", [0.0, 0.5], [1.0, 0.5], [up, down], LeftToRight),
            ("drawn to the right, walked up", [0.0, 0.5], [1.0, 0.5], [down, up], RightToLeft),
            ("drawn to the left, walked up", [1.0, 0.5], [0.0, 0.5], [down, up], LeftToRight),
        ] {
            assert_eq!(walked(&line(from, to), 1, walk), [(expect, 100)], "{name}");
        }
    }

    #[test]
    fn crossing_takes_frames_on_both_sides_and_the_line_itself() {
        // Upwards in the middle, from y 0.8 to 0.2.
        let lines = line([0.5, 0.8], [0.5, 0.2]);
        let at = |x: f64| [x, 0.5];
        let (l, r) = (at(0.4), at(0.6));
        for (name, inertia_frames, walk, expect) in [
            ("there and back", 2, &[l, l, r, r, l, l][..], &[(LeftToRight, 200), (RightToLeft, 400)][..]),
            ("a tremble", 2, &[l, l, r, l, r, l, r, l], &[]),
            ("a tremble, and over", 2, &[l, l, r, l, r, r, l, r], &[(LeftToRight, 400)]),
            ("not long enough there", 3, &[l, l, l, r, r], &[]),
            ("not long enough here", 2, &[l, r, r, r], &[]),
            ("with the line touched between", 2, &[l, l, at(0.5), r, at(0.5), r], &[(LeftToRight, 300)]),
            ("touched and gone back", 1, &[l, at(0.5), l], &[]),
            ("along the line", 1, &[[0.5, 0.3], [0.5, 0.7]], &[]),
            ("round its upper end", 1, &[l, [0.4, 0.1], [0.6, 0.1], r], &[]),
            ("through its very end", 1, &[[0.4, 0.2], [0.6, 0.2]], &[(LeftToRight, 100)]),
            ("slanting past its end", 1, &[[0.4, 0.3], [0.6, 0.0]], &[]),
            ("slanting through it", 1, &[[0.4, 0.4], [0.6, 0.1]], &[(LeftToRight, 100)]),
            ("round its end and back through it", 1, &[l, [0.4, 0.1], [0.6, 0.1], r, l], &[(RightToLeft, 400)]),
            ("trembles through it, comes round its end", 2, &[l, l, r, l, [0.4, 0.1], [0.6, 0.1], r], &[]),
            ("in one great step", 1, &[[0.0, 0.5], [1.0, 0.5]], &[(LeftToRight, 100)]),
        ] {
            assert_eq!(walked(&lines, inertia_frames, walk.iter().copied()), expect, "{name}");
        }
    }

    #[test]
    fn lines_are_checked_where_they_enter() {
        #[derive(Debug, Deserialize)]
        struct Source {
            lines: Lines,
        }
        let parse =
            |lines: &[String]| picket_shared::config::parse::<Source>(&format!("lines = [{}]", lines.join(",")));
        let line = |name: &str| format!("{{ name = \"{name}\", from = [0, 0], to = [1, 1] }}");
        let many: Vec<_> = (0..=CAMERA_LINES_MAX).map(|n| line(&format!("l{n}"))).collect();
        assert_eq!(parse(&many[1..]).unwrap().lines.0.len(), CAMERA_LINES_MAX);
        for (lines, expect) in [
            (many, "there are 17 lines; give a source 0 to 16"),
            (vec![line("kerb"), line("kerb")], "two lines are named \"kerb\""),
            (vec!["{ name = \"a\", from = [0, 0], to = [0, 0] }".into()], "line \"a\": from and to are the same point"),
            (
                vec!["{ name = \"a\", from = [0, 0], to = [640, 0] }".into()],
                "line \"a\": a line has the coordinate 640",
            ),
            (vec!["{ name = \"a\", from = [0, nan], to = [1, 0] }".into()], "the coordinate NaN"),
            (vec!["{ name = \"a\", form = [0, 0], to = [1, 0] }".into()], "did you mean \"from\""),
        ] {
            let error = parse(&lines).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }

    fn point() -> impl Strategy<Value = [f64; 2]> {
        // Close to each other and to the lines, so that trembling is usual.
        [0.3f64..0.7, 0.3f64..0.7]
    }

    proptest! {
        /// A path walked backwards crosses the same lines backwards. Of a line across the whole picture nothing is left to
        /// where exactly it was cut.
        #[test]
        fn the_way_back_crosses_in_the_other_direction(
            walk in proptest::collection::vec(point(), 1..60), inertia_frames in 1u32..4, slant in 0.35f64..0.65,
        ) {
            let lines = line([slant, 2.0], [1.0 - slant, -1.0]);
            let there: Vec<_> = walked(&lines, inertia_frames, walk.clone()).iter().map(|crossing| crossing.0).collect();
            let back = walked(&lines, inertia_frames, walk.into_iter().rev());
            let other = |direction| if direction == LeftToRight { RightToLeft } else { LeftToRight };
            let mut back: Vec<_> = back.into_iter().map(|(direction, _)| other(direction)).collect();
            back.reverse();
            prop_assert_eq!(there, back);
        }

        /// What was crossed one way and not back is the side that it is on now and was not on before; and a line drawn
        /// the other way round is crossed at the same times in the other direction.
        #[test]
        fn crossings_add_up_to_the_change_of_side(
            walk in proptest::collection::vec(point(), 1..60), inertia_frames in 1u32..4, slant in 0.35f64..0.65,
        ) {
            let (from, to) = ([slant, 2.0], [1.0 - slant, -1.0]);
            let lines = line(from, to);
            let crossed = walked(&lines, inertia_frames, walk.clone());
            let net: i32 = crossed.iter().map(|(d, _)| if *d == LeftToRight { 1 } else { -1 }).sum();
            // The sides of the first and the last run that is long enough, by hand.
            let sides: Vec<bool> = walk.iter().map(|foot| lines.0[0].side(*foot) > 0.0).collect();
            let runs = sides.chunk_by(|a, b| a == b).filter(|run| run.len() >= inertia_frames as usize);
            let settled: Vec<i32> = runs.map(|run| i32::from(run[0])).collect();
            let change = settled.last().unwrap_or(&0) - settled.first().unwrap_or(&0);
            prop_assert_eq!(net, change);
            prop_assert!(crossed.windows(2).all(|pair| pair[0].0 != pair[1].0), "one cannot cross the same way twice");
            let turned = walked(&line(to, from), inertia_frames, walk);
            prop_assert_eq!(crossed.len(), turned.len());
            prop_assert!(crossed.iter().zip(&turned).all(|(a, b)| a.0 != b.0 && a.1 == b.1));
        }

        /// A part of a line is crossed no more often than the whole.
        #[test]
        fn a_part_is_crossed_no_more_often_than_the_whole(
            walk in proptest::collection::vec(point(), 1..60), inertia_frames in 1u32..4, end in 0.35f64..0.65,
        ) {
            let whole = walked(&line([0.5, 2.0], [0.5, -1.0]), inertia_frames, walk.clone());
            let part = walked(&line([0.5, 2.0], [0.5, end]), inertia_frames, walk);
            prop_assert!(part.iter().all(|crossing| whole.contains(crossing)));
        }
    }
}
