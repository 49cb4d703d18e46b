//! Draws lines and bars as SVG text: the few plots of an evaluation, readable in any browser.
//!
//! It decides nothing about what is shown. The colours are those of Okabe and Ito (2008), which people who see colours
//! differently can tell apart.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Space for the axes and their words: left, top, right, bottom.
const MARGIN: [f64; 4] = [64.0, 44.0, 24.0, 56.0];
const COLORS: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
/// Points of one line. A sequence of an hour has more frames than a plot has columns.
const POINTS_MAX: usize = 2000;
/// Marks along an axis, about.
const TICKS: f64 = 5.0;

/// One line, or one bar in each group.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// x and y of a line; of bars only y counts, one a group. Values that are not finite leave a hole.
    pub points: Vec<(f64, f64)>,
}

/// What is around the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labels<'a> {
    /// Over the plot.
    pub title: &'a str,
    /// Under it.
    pub x: &'a str,
    /// Beside it.
    pub y: &'a str,
}

/// Lines over a horizontal axis. `ranges` fixes what the axes show, `[x, y]`; else the data do, from 0 on.
pub fn lines(labels: Labels, series: &[Series], ranges: [Option<(f64, f64)>; 2]) -> String {
    let all = || series.iter().flat_map(|series| &series.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let x = ranges[0].unwrap_or_else(|| from_zero(all().map(|point| point.0)));
    let y = ranges[1].unwrap_or_else(|| from_zero(all().map(|point| point.1)));
    let mut plot = Plot::new(labels, y);
    for tick in ticks(x) {
        plot.x_tick(plot.x(x, tick), &number(tick));
    }
    for (at, series) in series.iter().enumerate() {
        plot.legend(at, &series.name);
        let step = series.points.len().div_ceil(POINTS_MAX).max(1);
        let mut path = String::new();
        let mut drawing = false;
        for &(px, py) in series.points.iter().step_by(step) {
            if px.is_finite() && py.is_finite() {
                let (command, x, y) = (if drawing { 'L' } else { 'M' }, plot.x(x, px), plot.y(py));
                write!(path, "{command}{x:.1} {y:.1}").expect("writing to a string does not fail");
            }
            drawing = px.is_finite() && py.is_finite();
        }
        let color = COLORS[at % COLORS.len()];
        plot.add(&format!("<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"));
    }
    plot.finish()
}

/// Bars in groups, one of each series in each group.
pub fn bars(labels: Labels, groups: &[String], series: &[Series], range: Option<(f64, f64)>) -> String {
    let heights = series.iter().flat_map(|series| &series.points).map(|point| point.1).filter(|y| y.is_finite());
    let mut plot = Plot::new(labels, range.unwrap_or_else(|| from_zero(heights)));
    let slot = (WIDTH - MARGIN[0] - MARGIN[2]) / groups.len().max(1) as f64;
    let width = slot * 0.8 / series.len().max(1) as f64;
    for (group, name) in groups.iter().enumerate() {
        plot.x_tick(MARGIN[0] + slot * (group as f64 + 0.5), name);
    }
    for (at, series) in series.iter().enumerate() {
        plot.legend(at, &series.name);
        let color = COLORS[at % COLORS.len()];
        for (group, (_, y)) in series.points.iter().enumerate().filter(|(_, point)| point.1.is_finite()) {
            let x = MARGIN[0] + slot * (group as f64 + 0.1) + width * at as f64;
            let (top, foot) = (plot.y(*y).min(plot.y(0.0)), plot.y(*y).max(plot.y(0.0)));
            let height = foot - top;
            plot.add(&format!(
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{}</text>",
                x + width / 2.0,
                top - 3.0,
                number(*y)
            ));
        }
    }
    plot.finish()
}

/// An SVG under way.
struct Plot {
    svg: String,
    y_range: (f64, f64),
}

impl Plot {
    fn new(labels: Labels, y_range: (f64, f64)) -> Plot {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut plot = Plot { svg, y_range };
        let (left, right, foot) = (MARGIN[0], WIDTH - MARGIN[2], HEIGHT - MARGIN[3]);
        for tick in ticks(y_range) {
            let y = plot.y(tick);
            plot.add(&format!(
                "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y + 4.0,
                number(tick)
            ));
        }
        plot.add(&format!("<path d=\"M{left} {}V{foot}H{right}\" fill=\"none\" stroke=\"#444\"/>", MARGIN[1]));
        let (middle, upright) = ((left + right) / 2.0, (MARGIN[1] + foot) / 2.0);
        let Labels { title, x, y } = labels;
        plot.add(&format!(
            "<text x=\"{left}\" y=\"20\" font-size=\"15\" font-weight=\"bold\">{}</text>\
             <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {upright}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(title),
            HEIGHT - 12.0,
            escaped(x),
            escaped(y)
        ));
        plot
    }

    fn add(&mut self, element: &str) {
        self.svg.push_str(element);
        self.svg.push('\n');
    }

    /// Cut at the frame, so that nothing is drawn over the words.
    fn y(&self, value: f64) -> f64 {
        let part = (value - self.y_range.0) / (self.y_range.1 - self.y_range.0);
        HEIGHT - MARGIN[3] - part.clamp(0.0, 1.0) * (HEIGHT - MARGIN[1] - MARGIN[3])
    }

    fn x(&self, range: (f64, f64), value: f64) -> f64 {
        let part = (value - range.0) / (range.1 - range.0);
        MARGIN[0] + part.clamp(0.0, 1.0) * (WIDTH - MARGIN[0] - MARGIN[2])
    }

    fn x_tick(&mut self, x: f64, name: &str) {
        let y = HEIGHT - MARGIN[3] + 18.0;
        self.add(&format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", escaped(name)));
    }

    fn legend(&mut self, at: usize, name: &str) {
        let (x, color) = (MARGIN[0] + 150.0 * at as f64, COLORS[at % COLORS.len()]);
        self.add(&format!(
            "<rect x=\"{x}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{color}\"/>\
             <text x=\"{}\" y=\"37\">{}</text>",
            x + 14.0,
            escaped(name)
        ));
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

/// From 0, or below it, to a little over the highest value; never empty.
fn from_zero(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    if high - low > 0.0 { (low, high + (high - low) * 0.05) } else { (low, low + 1.0) }
}

/// Round numbers within a range: steps of 1, 2 or 5 times a power of ten.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough * 0.999).unwrap_or(power);
    let first = (low / step).ceil() as i64;
    (first..).map(|at| at as f64 * step).take_while(|tick| *tick <= high + step * 1e-6).take(100).collect()
}

/// As few digits as tell it: at most three places.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: Labels = Labels { title: "a < b & \"c\"", x: "x", y: "y" };

    fn series(points: &[(f64, f64)]) -> Vec<Series> {
        vec![Series { name: "<one>".into(), points: points.to_vec() }]
    }

    /// Every plot must be XML that a browser takes.
    fn checked(svg: &str) -> String {
        let document = roxmltree::Document::parse(svg).unwrap_or_else(|e| panic!("{e}: {svg}"));
        assert!(document.root_element().has_tag_name("svg"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        svg.to_owned()
    }

    #[test]
    fn a_line_goes_from_corner_to_corner_and_leaves_holes() {
        let svg = checked(&lines(LABELS, &series(&[(0.0, 0.0), (1.0, 1.0)]), [Some((0.0, 1.0)); 2]));
        assert!(svg.contains("M64.0 364.0L696.0 44.0"), "{svg}");
        let holed = [(0.0, 0.0), (0.5, f64::NAN), (1.0, 1.0)];
        let svg = checked(&lines(LABELS, &series(&holed), [Some((0.0, 1.0)); 2]));
        assert!(svg.contains("M64.0 364.0M696.0 44.0"), "{svg}");
        // What lies outside is held at the frame.
        let svg = checked(&lines(LABELS, &series(&[(0.0, -9.0), (9.0, 9.0)]), [Some((0.0, 1.0)); 2]));
        assert!(svg.contains("M64.0 364.0L696.0 44.0"), "{svg}");
    }

    #[test]
    fn a_bar_stands_on_zero_and_one_that_is_none_is_left_out() {
        let groups = ["a".to_owned(), "b&c".to_owned()];
        let svg = checked(&bars(LABELS, &groups, &series(&[(0.0, 0.5), (0.0, f64::NAN)]), Some((0.0, 1.0))));
        assert!(svg.contains("y=\"204.0\" width=\"252.8\" height=\"160.0\""), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 3, "the ground, the legend and one bar");
    }

    #[test]
    fn no_data_and_odd_data_are_still_a_picture() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(f64::INFINITY, 1.0)], vec![(1e300, -1e300)], vec![(0.0, 1e-300)]]
        {
            checked(&lines(LABELS, &series(&points), [None, None]));
            checked(&bars(LABELS, &[], &series(&points), None));
        }
        checked(&lines(LABELS, &[], [None, None]));
        let many: Vec<(f64, f64)> = (0..100_000).map(|at| (at as f64, 1.0)).collect();
        assert!(checked(&lines(LABELS, &series(&many), [None, None])).len() < 60_000);
    }

    #[test]
    fn marks_are_round_numbers() {
        for (range, expect) in [
            ((0.0, 1.0), vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            ((0.0, 37.0), vec![0.0, 10.0, 20.0, 30.0]),
            ((-1.0, 1.0), vec![-1.0, -0.5, 0.0, 0.5, 1.0]),
        ] {
            let found = ticks(range);
            assert!(
                found.len() == expect.len() && found.iter().zip(&expect).all(|(a, b)| (a - b).abs() < 1e-9),
                "{found:?}"
            );
        }
        assert_eq!([0.25, 1.0, 0.0, -0.0001, 12.5].map(number), ["0.25", "1", "0", "0", "12.5"]);
    }
}
