//! Draws what the agent knows onto a picture: the zones and lines with their names, and who was seen.
//!
//! Nothing here decides who that is.

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line as Stroke, PrimitiveStyle};
use embedded_graphics::text::{Baseline, Text};

use super::tap::Mark;
use crate::annotate::{Canvas, draw_box, pen};
use crate::frame::Frame;
use crate::observe::{Line, Zone};

const ZONE: Rgb888 = Rgb888::new(0, 200, 255);

/// Draws the zones and lines, and above them a box with track number and score for each mark.
pub(super) fn draw(frame: &mut Frame, zones: &[Zone], lines: &[Line], marks: &[Mark]) {
    // Whoever draws trusts the size.
    if !frame.is_whole() {
        return;
    }
    zones.iter().for_each(|zone| outline(frame, zone.polygon.edges(), zone.name.as_str()));
    lines.iter().for_each(|line| outline(frame, [(line.from, line.to)], line.name.as_str()));
    for mark in marks {
        draw_box(frame, &mark.area, &format!("#{} {:.2}", mark.track, mark.score));
    }
}

/// Draws edges, in fractions of the picture, and a name where the first begins.
fn outline(frame: &mut Frame, edges: impl IntoIterator<Item = ([f64; 2], [f64; 2])>, name: &str) {
    let (stroke, font) = pen(frame);
    let (width, height) = (f64::from(frame.width), f64::from(frame.height));
    let pixel = |corner: [f64; 2]| Point::new((corner[0] * width) as i32, (corner[1] * height) as i32);
    let (mut canvas, mut first) = (Canvas(frame), None);
    for (from, to) in edges {
        first.get_or_insert(from);
        let line = Stroke::new(pixel(from), pixel(to)).into_styled(PrimitiveStyle::with_stroke(ZONE, stroke));
        let Ok(()) = line.draw(&mut canvas);
    }
    let Some(first) = first else { return };
    // Inside the picture, also where the corner is not.
    let room = Point::new(canvas.0.width as i32 - 1, canvas.0.height as i32 - font.character_size.height as i32);
    let at = (pixel(first) + Point::new(3, 3)).component_min(room).component_max(Point::zero());
    let Ok(_) = Text::with_baseline(name, at, MonoTextStyle::new(font, ZONE), Baseline::Top).draw(&mut canvas);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotate::COLOR;
    use crate::frame::Area;
    use crate::polygon::Polygon;
    use picket_shared::ids::{LineId, ZoneId};

    #[test]
    fn boxes_lie_above_zones_and_both_are_where_they_are() {
        let mut frame = Frame { taken_ms: 0, width: 100, height: 80, rgb: vec![0; 100 * 80 * 3] };
        let polygon = Polygon::new(vec![[0.1, 0.5], [0.9, 0.5], [0.9, 0.9], [0.1, 0.9]]).unwrap();
        let zone = Zone::new(ZoneId::new("door").unwrap(), polygon);
        let line = Line { name: LineId::new("l").unwrap(), from: [0.1, 0.05], to: [0.3, 0.05] };
        let area = Area { x1: 40.0, y1: 20.0, x2: 60.0, y2: 60.0 };
        draw(&mut frame, &[zone], &[line], &[Mark { track: 7, area, score: 0.5 }]);
        let at = |x: usize, y: usize| <[u8; 3]>::try_from(&frame.rgb[(y * 100 + x) * 3..][..3]).unwrap();
        let (zone, person) = ([ZONE.r(), ZONE.g(), ZONE.b()], [COLOR.r(), COLOR.g(), COLOR.b()]);
        for (x, y, expect) in [
            (29, 4, zone),
            (30, 40, zone),
            (90, 50, zone),
            (40, 40, person),
            (40, 30, person),
            (59, 50, person),
            (50, 30, [0; 3]),
        ] {
            assert_eq!(at(x, y), expect, "{x} {y}");
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_and_a_zone_beyond_the_picture_are_no_panic() {
        let polygon = Polygon::new(vec![[-1.0, -1.0], [2.0, -1.0], [2.0, 2.0]]).unwrap();
        let zones = [Zone::new(ZoneId::new("all").unwrap(), polygon)];
        for (width, height, bytes) in [(9, 9, 3), (0, 0, 0), (1, 1, 3), (7, 3, 63)] {
            draw(&mut Frame { taken_ms: 0, width, height, rgb: vec![0; bytes] }, &zones, &[], &[]);
        }
    }
}
