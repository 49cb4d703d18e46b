//! What stations look at: labelled pictures dealt out one by one, a poster of somebody at one place of all of a station's pictures, and
//! one station behind a bad lens. Pure: the same seed deals the same.

use picket_agent::eval::degrade::Degradation;
use picket_agent::eval::truth::TruthBox;
use picket_agent::frame::{Area, Frame};
use picket_shared::random::SplitMix64;

/// A poster is so high a part of the picture.
const POSTER_HEIGHT: f32 = 0.42;
/// Whoever is on one was at least so high a part of the picture that he comes from.
const MODEL_HEIGHT_MIN: f32 = 0.55;
/// Where posters hang, as parts of the picture: the left upper corner of each.
const POSTER_PLACES: [(f32, f32); 2] = [(0.02, 0.12), (0.80, 0.12)];
/// What the bad lens does.
const BAD_LENS: Degradation = Degradation::Blur;

/// A labelled picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Itself.
    pub frame: Frame,
    /// Who is in it.
    pub people: Vec<TruthBox>,
}

/// What is special about a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// A poster of a person, which is none.
    Poster,
    /// A lens out of focus.
    Degraded,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Plain, Kind::Poster, Kind::Degraded];

    /// For tables.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Poster => "a poster",
            Kind::Degraded => "bad lens",
        }
    }
}

/// A poster, and where its left upper corner is.
#[derive(Debug, Clone)]
struct Poster {
    pixels: Frame,
    place: (f32, f32),
}

/// A station.
#[derive(Debug, Clone)]
pub struct Station {
    /// What is special about it.
    pub kind: Kind,
    /// Its pictures, by number.
    pub pictures: Vec<usize>,
    poster: Option<Poster>,
}

impl Station {
    /// What its camera shows of one of them.
    pub fn frame(&self, pictures: &[Picture], number: usize) -> Frame {
        let mut frame = pictures[number].frame.clone();
        if let Some(poster) = &self.poster {
            poster.paste(&mut frame);
        }
        if self.kind == Kind::Degraded {
            BAD_LENS.apply(&mut frame, 1, number as u64);
        }
        frame
    }
}

/// Deals pictures to so many plain stations, one for each of so many posters, and one with a bad lens; all have as many.
pub fn deal(pictures: &[Picture], plain: usize, posters: usize, seed: u64) -> Vec<Station> {
    let mut random = SplitMix64::stream(seed, 1, 0);
    let mut order: Vec<usize> = (0..pictures.len()).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at + 1));
    }
    let each = pictures.len() / (plain + posters + 1);
    let mut stations = Vec::new();
    for n in 0..posters {
        let Some(poster) = Poster::of_somebody(pictures, POSTER_PLACES[n % POSTER_PLACES.len()], &mut random) else {
            break;
        };
        // Nobody may stand behind it: he would be hidden, and the truth would be wrong.
        let (mut own, mut rest) = (Vec::new(), Vec::new());
        for number in order {
            let free = own.len() < each && poster.hides_nobody(&pictures[number]);
            if free { own.push(number) } else { rest.push(number) }
        }
        order = rest;
        stations.push(Station { kind: Kind::Poster, pictures: own, poster: Some(poster) });
    }
    for (n, own) in order.chunks_exact(each.max(1)).take(plain + 1).enumerate() {
        let kind = if n == 0 { Kind::Degraded } else { Kind::Plain };
        stations.push(Station { kind, pictures: own.to_vec(), poster: None });
    }
    stations
}

impl Poster {
    /// Of somebody large.
    fn of_somebody(pictures: &[Picture], place: (f32, f32), random: &mut SplitMix64) -> Option<Poster> {
        let large = |picture: &Picture, area: &Area| area.height() > MODEL_HEIGHT_MIN * picture.frame.height as f32;
        let models: Vec<(&Picture, Area)> = pictures
            .iter()
            .flat_map(|picture| picture.people.iter().map(move |marked| (picture, marked.area)))
            .filter(|(picture, area)| large(picture, area))
            .collect();
        let (picture, area) = models.get(random.below(models.len().max(1)))?;
        Some(Poster { pixels: cut(&picture.frame, area)?, place })
    }

    /// Where it hangs in a picture of this size: left, top, width, height.
    fn hangs(&self, width: u32, height: u32) -> [u32; 4] {
        let high = ((height as f32 * POSTER_HEIGHT) as u32).max(1);
        let wide = (high * self.pixels.width / self.pixels.height).clamp(1, width);
        let left = ((self.place.0 * width as f32) as u32).min(width - wide);
        let top = ((self.place.1 * height as f32) as u32).min(height - high);
        [left, top, wide, high]
    }

    fn hides_nobody(&self, picture: &Picture) -> bool {
        let [left, top, wide, high] = self.hangs(picture.frame.width, picture.frame.height).map(|px| px as f32);
        let overlaps = |area: &Area| area.x1 < left + wide && area.x2 > left && area.y1 < top + high && area.y2 > top;
        !picture.people.iter().any(|marked| overlaps(&marked.area))
    }

    fn paste(&self, frame: &mut Frame) {
        let [left, top, wide, high] = self.hangs(frame.width, frame.height);
        for y in 0..high {
            for x in 0..wide {
                let pixel = mean(&self.pixels, [x, y], [wide, high]);
                let at = (((top + y) * frame.width + left + x) * 3) as usize;
                frame.rgb[at..at + 3].copy_from_slice(&pixel);
            }
        }
    }
}

/// A part of a frame.
fn cut(frame: &Frame, area: &Area) -> Option<Frame> {
    let (x1, y1) = (area.x1.max(0.0) as u32, area.y1.max(0.0) as u32);
    let (x2, y2) = ((area.x2 as u32).min(frame.width), (area.y2 as u32).min(frame.height));
    if x2 <= x1 || y2 <= y1 {
        return None;
    }
    let row = |y: u32| &frame.rgb[((y * frame.width + x1) * 3) as usize..((y * frame.width + x2) * 3) as usize];
    let rgb = (y1..y2).flat_map(row).copied().collect();
    Some(Frame { taken_ms: 0, width: x2 - x1, height: y2 - y1, rgb })
}

/// One pixel of a frame brought to another size: the mean of those that fall on it, and at least of one.
fn mean(frame: &Frame, [x, y]: [u32; 2], [wide, high]: [u32; 2]) -> [u8; 3] {
    let span = |at: u32, of: u32, length: u32| {
        let begin = at * length / of;
        begin..((at + 1) * length / of).max(begin + 1)
    };
    let (mut sums, mut count) = ([0u32; 3], 0);
    for row in span(y, high, frame.height) {
        for column in span(x, wide, frame.width) {
            let at = ((row * frame.width + column) * 3) as usize;
            sums.iter_mut().zip(&frame.rgb[at..at + 3]).for_each(|(sum, value)| *sum += u32::from(*value));
            count += 1;
        }
    }
    sums.map(|sum| (sum / count) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, shade: u8, people: &[[f32; 4]]) -> Picture {
        let marked = |corners: &[f32; 4]| {
            let [x1, y1, x2, y2] = *corners;
            TruthBox { area: Area { x1, y1, x2, y2 }, id: None, ignore: false }
        };
        let rgb = vec![shade; (width * height * 3) as usize];
        Picture { frame: Frame { taken_ms: 0, width, height, rgb }, people: people.iter().map(marked).collect() }
    }

    #[test]
    fn each_picture_is_dealt_once_and_nobody_stands_behind_a_poster() {
        let people: [&[[f32; 4]]; 3] = [&[[40.0, 5.0, 60.0, 95.0]], &[[1.0, 10.0, 30.0, 90.0]], &[]];
        let pictures: Vec<Picture> = (0..60).map(|n| picture(100, 100, n as u8, people[n % 3])).collect();
        for seed in 0..5 {
            let stations = deal(&pictures, 8, 2, seed);
            let kinds = |kind| stations.iter().filter(|station| station.kind == kind).count();
            assert_eq!([kinds(Kind::Plain), kinds(Kind::Poster), kinds(Kind::Degraded)], [8, 2, 1]);
            let mut dealt: Vec<usize> = stations.iter().flat_map(|station| station.pictures.clone()).collect();
            assert_eq!(dealt.len(), 55);
            dealt.sort_unstable();
            dealt.dedup();
            assert_eq!(dealt.len(), 55);
            let left = stations.iter().find(|s| s.poster.as_ref().is_some_and(|p| p.place.0 < 0.5)).unwrap();
            assert!(left.pictures.iter().all(|number| number % 3 != 1), "{:?}", left.pictures);
        }
    }

    #[test]
    fn a_poster_hangs_at_one_place_and_covers_nothing_else() {
        let white = Frame { taken_ms: 0, width: 20, height: 40, rgb: vec![255; 2400] };
        let poster = Poster { pixels: white, place: (0.8, 0.12) };
        let mut frame = picture(200, 100, 0, &[]).frame;
        poster.paste(&mut frame);
        let [left, top, wide, high] = poster.hangs(200, 100);
        assert_eq!([left, top, wide, high], [160, 12, 21, 42]);
        for y in 0..100 {
            for x in 0..200 {
                let inside = (left..left + wide).contains(&x) && (top..top + high).contains(&y);
                assert_eq!(frame.rgb[((y * 200 + x) * 3) as usize], if inside { 255 } else { 0 });
            }
        }
    }
}
