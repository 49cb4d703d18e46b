//! Draws a run: a row for each station, who watched it by colour, and in red where nobody did. Plain SVG, by hand.

use std::fmt::Write;

use super::coverage::{Coverage, Span};

const LEFT: f64 = 70.0;
const WIDE: f64 = 1000.0;
const TOP: f64 = 30.0;
const ROW_MIN: f64 = 4.0;
const ROW_MAX: f64 = 22.0;
/// Rows are made lower before the picture becomes higher than this.
const HIGH: f64 = 800.0;
/// Names are written where a row has room for them.
const NAMED_MIN: f64 = 9.0;

/// The picture of a run that lived so long and healed at that moment.
pub fn svg(title: &str, coverage: &Coverage, lived_ms: u64, healed_ms: u64) -> String {
    let rows = coverage.stations.len();
    let high = (HIGH / rows as f64).clamp(ROW_MIN, ROW_MAX);
    let (x, bottom) = (|ms: u64| LEFT + ms as f64 / lived_ms.max(1) as f64 * WIDE, TOP + rows as f64 * high);
    let mut out = String::new();
    let (width, height) = (LEFT + WIDE + 20.0, bottom + 40.0);
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"18\" \
         font-size=\"14\">{}</text>\n",
        escape(title)
    );
    for (number, station) in coverage.stations.iter().enumerate() {
        let y = TOP + number as f64 * high;
        if high >= NAMED_MIN {
            let _ = writeln!(
                out,
                "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">n{number}</text>",
                LEFT - 6.0,
                y + high * 0.7
            );
        }
        let thick = high * 0.8;
        for Span { agent, from_ms, to_ms } in &station.spans {
            // Who is at home there is pale; who covers, over it, is not.
            let (fill, low) =
                if *agent == number { ("#cfe3d4".to_owned(), 0.0) } else { (colour(*agent), thick * 0.35) };
            let (left, long) = (x(*from_ms), (x(*to_ms) - x(*from_ms)).max(0.5));
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{long:.1}\" height=\"{:.1}\" fill=\"{fill}\"><title>n{agent} \
                 watches n{number} from {:.1} to {:.1} s</title></rect>",
                y + low,
                thick - low,
                *from_ms as f64 / 1000.0,
                *to_ms as f64 / 1000.0
            );
            if *agent != number && high >= NAMED_MIN && long > 30.0 {
                let _ = writeln!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"white\">n{agent}</text>",
                    left + 3.0,
                    y + thick * 0.95
                );
            }
        }
        for (from_ms, to_ms) in &station.holes {
            let (left, long) = (x(*from_ms), (x(*to_ms) - x(*from_ms)).max(2.0));
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{long:.1}\" height=\"{high:.1}\" fill=\"#e60000\"><title>nobody \
                 watches n{number} for {:.1} s</title></rect>",
                y - high * 0.1,
                (to_ms - from_ms) as f64 / 1000.0
            );
        }
    }
    let every_s = [5, 10, 30, 60, 300, 600, 3_600].into_iter().find(|s| lived_ms / 1000 / s <= 14).unwrap_or(7_200);
    for second in (0..=lived_ms / 1000).step_by(every_s as usize) {
        let at = x(second * 1000);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\" stroke=\"#00000022\"/><text x=\"{at:.1}\" \
             y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>",
            bottom + 14.0
        );
    }
    let healed = x(healed_ms);
    let _ = writeln!(
        out,
        "<line x1=\"{healed:.1}\" y1=\"{TOP}\" x2=\"{healed:.1}\" y2=\"{bottom:.1}\" stroke=\"#000\" stroke-dasharray=\"4 3\"/>\
         \n<text x=\"{LEFT}\" y=\"{:.1}\"><tspan fill=\"#e60000\" font-weight=\"bold\">red: nobody watches.</tspan> pale: its own \
         node. other colours: who covers. dashed: nothing fails from here on.</text>\n</svg>",
        bottom + 32.0
    );
    out
}

/// Colours that differ for agents that follow each other, and none of them red.
fn colour(agent: usize) -> String {
    let hue = 40.0 + (agent as f64 * 137.508) % 290.0;
    format!("hsl({hue:.0},60%,40%)")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::coverage::Cause;

    #[test]
    fn a_hole_is_red_and_who_covers_is_named() {
        let mut coverage = Coverage::new(2, 0);
        coverage.begins(0, 0, 0, None, false);
        coverage.begins(0, 1, 1, None, false);
        coverage.ends(10_000, 0, 0, Cause::Crash);
        coverage.begins(12_000, 0, 1, None, false);
        coverage.close(60_000);
        let svg = svg("a < b", &coverage, 60_000, 50_000);
        assert!(svg.contains("nobody watches n0 for 2.0 s") && svg.contains("n1 watches n0 from 12.0 to 60.0 s"));
        assert!(svg.contains("a &lt; b") && svg.matches("#e60000").count() == 2);
    }
}
