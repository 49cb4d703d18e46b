//! Where a box will be: a Kalman filter with constant velocity over centre, width and height.
//!
//! State and noise follow BoT-SORT (Aharon et al., 2022), which is DeepSORT's filter (Wojke et al., 2017) with width and
//! height in place of aspect and height. There neither the motion nor the noise ties one coordinate to another, so its
//! 8 × 8 covariance stays four 2 × 2 blocks for ever; here each coordinate is a filter of its own, with equal results.
//! Times are in nominal intervals, as the noise figures are per frame. Nothing here decides which box is whose.

use crate::frame::Area;

/// Standard deviations as shares of the box's width or height (DeepSORT's).
const POSITION_NOISE: f64 = 1.0 / 20.0;
const VELOCITY_NOISE: f64 = 1.0 / 160.0;
/// A box narrower than this is none: the noise, and with it the gain, would vanish.
pub(super) const SIDE_PX_MIN: f32 = 1.0;

/// One coordinate and its velocity, with the covariance of the two.
#[derive(Debug, Clone, Copy)]
struct Axis {
    value: f64,
    velocity: f64,
    value_var: f64,
    covar: f64,
    velocity_var: f64,
}

impl Axis {
    /// A first measurement; the uncertainties are DeepSORT's. `scale` is the box's side in this direction.
    fn new(value: f64, scale: f64) -> Self {
        Self {
            value,
            velocity: 0.0,
            value_var: (2.0 * POSITION_NOISE * scale).powi(2),
            covar: 0.0,
            velocity_var: (10.0 * VELOCITY_NOISE * scale).powi(2),
        }
    }

    /// Moves on by `dt` intervals. The noise grows in proportion to time, as it does over that many single steps.
    fn predict(&mut self, dt: f64, scale: f64) {
        self.value += self.velocity * dt;
        self.value_var += dt * (2.0 * self.covar + dt * self.velocity_var) + dt * (POSITION_NOISE * scale).powi(2);
        self.covar += dt * self.velocity_var;
        self.velocity_var += dt * (VELOCITY_NOISE * scale).powi(2);
    }

    /// Takes a measurement in.
    fn correct(&mut self, measured: f64, scale: f64) {
        let total_var = self.value_var + (POSITION_NOISE * scale).powi(2);
        let (value_gain, velocity_gain) = (self.value_var / total_var, self.covar / total_var);
        let surprise = measured - self.value;
        self.value += value_gain * surprise;
        self.velocity += velocity_gain * surprise;
        self.velocity_var -= velocity_gain * self.covar;
        self.covar *= 1.0 - value_gain;
        self.value_var *= 1.0 - value_gain;
    }
}

/// The filter of one box.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxFilter {
    x: Axis,
    y: Axis,
    width: Axis,
    height: Axis,
}

impl BoxFilter {
    /// A filter that begins at a box, which has finite edges and sides of at least [`SIDE_PX_MIN`].
    pub(super) fn new(area: &Area) -> Self {
        let [x, y, width, height] = measured(area);
        Self {
            x: Axis::new(x, width),
            y: Axis::new(y, height),
            width: Axis::new(width, width),
            height: Axis::new(height, height),
        }
    }

    /// Moves on by `dt` intervals. A box that was not seen lately keeps its size: a person half hidden seems to shrink,
    /// and must not go on shrinking unseen.
    pub(super) fn predict(&mut self, dt: f64, seen: bool) {
        if !seen {
            (self.width.velocity, self.height.velocity) = (0.0, 0.0);
        }
        let (width, height) = (self.width.value, self.height.value);
        self.x.predict(dt, width);
        self.y.predict(dt, height);
        self.width.predict(dt, width);
        self.height.predict(dt, height);
        self.keep_sides();
    }

    /// Takes a detected box in, under the same conditions as [`BoxFilter::new`].
    pub(super) fn correct(&mut self, area: &Area) {
        let [x, y, width, height] = measured(area);
        let (width_scale, height_scale) = (self.width.value, self.height.value);
        self.x.correct(x, width_scale);
        self.y.correct(y, height_scale);
        self.width.correct(width, width_scale);
        self.height.correct(height, height_scale);
        self.keep_sides();
    }

    /// The box as it is believed to be now.
    pub(super) fn area(&self) -> Area {
        let (half_width, half_height) = (self.width.value / 2.0, self.height.value / 2.0);
        Area {
            x1: (self.x.value - half_width) as f32,
            y1: (self.y.value - half_height) as f32,
            x2: (self.x.value + half_width) as f32,
            y2: (self.y.value + half_height) as f32,
        }
    }

    fn keep_sides(&mut self) {
        for side in [&mut self.width, &mut self.height] {
            side.value = side.value.max(f64::from(SIDE_PX_MIN));
        }
    }
}

/// Centre, width and height.
fn measured(area: &Area) -> [f64; 4] {
    let [x1, y1, x2, y2] = [area.x1, area.y1, area.x2, area.y2].map(f64::from);
    [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(x: f32) -> Area {
        Area { x1: x, y1: 100.0, x2: x + 40.0, y2: 200.0 }
    }

    /// The four filters must be what the textbook's matrices give (one coordinate, three steps, worked out by numpy with
    /// F = [[1,1],[0,1]], H = [1,0], std 5 and 0.625 for a side of 100).
    #[test]
    fn an_axis_is_the_textbook_filter() {
        let mut axis = Axis::new(100.0, 100.0);
        for measured in [103.0, 107.0, 110.0] {
            axis.predict(1.0, 100.0);
            axis.correct(measured, 100.0);
        }
        let expect = [109.52754697923218, 2.36712200874081, 19.08127962906275, 6.641166941876886, 12.93362692589237];
        let got = [axis.value, axis.velocity, axis.value_var, axis.covar, axis.velocity_var];
        for (got, expect) in got.into_iter().zip(expect) {
            assert!((got - expect).abs() < 1e-6, "{got} {expect}");
        }
    }

    #[test]
    fn steady_motion_is_learnt_and_carried_on_over_any_gap() {
        for dt in [0.5, 1.0, 2.5] {
            let mut filter = BoxFilter::new(&area(100.0));
            for n in 1..=40 {
                filter.predict(dt, true);
                filter.correct(&area(100.0 + 4.0 * n as f32));
            }
            // Five intervals unseen, in one step or in five, end in the same place.
            let mut stepped = filter;
            filter.predict(5.0 * dt, false);
            (0..5).for_each(|_| stepped.predict(dt, false));
            for ahead in [filter.area(), stepped.area()] {
                assert!((ahead.x1 - 280.0).abs() < 3.0, "{ahead:?}");
                assert!((ahead.height() - 100.0).abs() < 0.5, "{ahead:?}");
            }
        }
    }

    #[test]
    fn a_box_that_shrank_while_it_was_hidden_does_not_vanish_unseen() {
        let mut filter = BoxFilter::new(&area(100.0));
        for n in 1..=8 {
            filter.predict(1.0, true);
            filter.correct(&Area { y2: 200.0 - 10.0 * n as f32, ..area(100.0) });
        }
        let hidden = filter.area().height();
        (0..50).for_each(|_| filter.predict(1.0, false));
        assert!((filter.area().height() - hidden).abs() < 1e-3);
    }
}
