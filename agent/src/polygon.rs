//! A polygon drawn on the picture: what privacy zones and named zones have in common, and lines in part.
//!
//! Coordinates are fractions of the picture, so that a zone outlives a change of resolution. A polygon is checked once,
//! where it enters; from then on it has an area and finite corners. Nothing here knows pixels.

use serde::{Deserialize, Serialize};

/// Corners of one polygon: enough for any room seen by hand, and a bound on the work per frame.
pub const POINTS_MAX: usize = 64;
/// How far outside the picture (0 to 1) a corner may lie, so that a zone can run over the edge.
const COORDINATE_MIN: f64 = -1.0;
const COORDINATE_MAX: f64 = 2.0;

/// A closed polygon; the last corner joins the first. It may cross itself: what it winds around is inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<[f64; 2]>")]
pub struct Polygon(Vec<[f64; 2]>);

impl Polygon {
    /// Checks the corners, `[x, y]` in fractions of the picture from its upper left, and takes them as a polygon.
    pub fn new(points: Vec<[f64; 2]>) -> Result<Self, String> {
        if !(3..=POINTS_MAX).contains(&points.len()) {
            return Err(format!("a polygon has {} points; give it 3 to {POINTS_MAX}", points.len()));
        }
        check_coordinates("a polygon", &points)?;
        let polygon = Self(points);
        let [from, ..] = polygon.points() else { unreachable!("three points were counted") };
        if polygon.edges().all(|(a, b)| side(*from, a, b) == 0.0) {
            return Err("the points of a polygon lie on one line; move one so that it has an area".into());
        }
        Ok(polygon)
    }

    /// The corners.
    pub fn points(&self) -> &[[f64; 2]] {
        &self.0
    }

    /// The edges, each from one corner to the next.
    pub fn edges(&self) -> impl Iterator<Item = ([f64; 2], [f64; 2])> {
        let next = self.0.iter().cycle().skip(1);
        self.0.iter().copied().zip(next.copied())
    }

    /// Whether the polygon winds around a point (the winding number of Sunday, 2001). Where a polygon overlaps itself the
    /// overlap is inside, because a privacy zone must not have a hole that nobody drew.
    pub fn contains(&self, point: [f64; 2]) -> bool {
        let mut winding = 0;
        for (a, b) in self.edges() {
            if a[1] <= point[1] && b[1] > point[1] && side(a, b, point) > 0.0 {
                winding += 1;
            } else if a[1] > point[1] && b[1] <= point[1] && side(a, b, point) < 0.0 {
                winding -= 1;
            }
        }
        winding != 0
    }
}

impl TryFrom<Vec<[f64; 2]>> for Polygon {
    type Error = String;
    fn try_from(points: Vec<[f64; 2]>) -> Result<Self, String> {
        Self::new(points)
    }
}

/// Refuses points that cannot be meant: not numbers, or so far outside the picture that they must be pixels.
pub(crate) fn check_coordinates(what: &str, points: &[[f64; 2]]) -> Result<(), String> {
    match points.iter().flatten().find(|value| !(COORDINATE_MIN..=COORDINATE_MAX).contains(*value)) {
        None => Ok(()),
        Some(value) => Err(format!(
            "{what} has the coordinate {value}; write fractions of the picture, {COORDINATE_MIN} to {COORDINATE_MAX} where \
             0 to 1 is inside"
        )),
    }
}

/// Twice the signed area of a triangle: on which side of the line from `a` to `b` the point `p` is, greater than 0 on the
/// right of who looks from `a` to `b` on the picture as it is seen on a screen.
pub(crate) fn side(a: [f64; 2], b: [f64; 2], p: [f64; 2]) -> f64 {
    (b[0] - a[0]) * (p[1] - a[1]) - (p[0] - a[0]) * (b[1] - a[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polygon_is_checked_where_it_enters() {
        let nan = f64::NAN;
        let many = vec![[0.5, 0.5]; POINTS_MAX + 1];
        for (points, expect) in [
            (vec![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], None),
            (vec![[-1.0, -1.0], [2.0, -1.0], [2.0, 2.0]], None),
            (vec![], Some("has 0 points")),
            (vec![[0.0, 0.0], [1.0, 1.0]], Some("has 2 points")),
            (many, Some("has 65 points")),
            (vec![[0.0, 0.0], [nan, 0.0], [0.0, 1.0]], Some("the coordinate NaN")),
            (vec![[0.0, 0.0], [640.0, 0.0], [0.0, 1.0]], Some("the coordinate 640")),
            (vec![[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]], Some("lie on one line")),
            (vec![[0.5, 0.5]; 3], Some("lie on one line")),
        ] {
            match (Polygon::new(points.clone()), expect) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => assert!(error.contains(part), "{error}"),
                (result, _) => panic!("{points:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn inside_is_what_the_polygon_winds_around() {
        let square = vec![[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]];
        let notched = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 0.2], [0.0, 1.0]];
        let bow = vec![[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]];
        // A pentagram winds twice around its middle; an even-odd rule would leave that open.
        let star = vec![[0.5, 0.0], [0.8, 0.9], [0.0, 0.35], [1.0, 0.35], [0.2, 0.9]];
        for (points, point, inside) in [
            (&square, [0.5, 0.5], true),
            (&square, [0.1, 0.5], false),
            (&square, [0.5, 0.9], false),
            (&notched, [0.5, 0.1], true),
            (&notched, [0.5, 0.6], false),
            (&notched, [0.1, 0.6], true),
            (&bow, [0.1, 0.5], true),
            (&bow, [0.9, 0.5], true),
            (&bow, [0.5, 0.1], false),
            (&star, [0.5, 0.5], true),
        ] {
            let mut points = points.clone();
            assert_eq!(Polygon::new(points.clone()).unwrap().contains(point), inside, "{points:?} {point:?}");
            points.reverse();
            assert_eq!(Polygon::new(points).unwrap().contains(point), inside, "the direction does not matter");
        }
    }
}
