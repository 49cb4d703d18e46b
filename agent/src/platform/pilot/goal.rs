//! Reads a goal as waypoints: `lat,lon,alt[;lat,lon,alt…]`, in degrees and metres. Pure.

/// Waypoints of one goal.
pub(super) const WAYPOINTS_MAX: usize = 32;
/// Metres above where the vehicle took off, at most.
pub(super) const ALTITUDE_M_MAX: f32 = 500.0;

/// One place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Waypoint {
    /// Degrees north, in units of 1e-7.
    pub(super) lat_e7: i32,
    /// Degrees east, in units of 1e-7.
    pub(super) lon_e7: i32,
    /// Metres above where the vehicle took off.
    pub(super) alt_m: f32,
}

/// The waypoints of a goal, at least one; or what is wrong with it, in a sentence.
pub(super) fn waypoints(goal: &str) -> Result<Vec<Waypoint>, String> {
    let places: Vec<&str> = goal.split(';').collect();
    if places.len() > WAYPOINTS_MAX {
        return Err(format!("the goal has {} waypoints, of at most {WAYPOINTS_MAX}", places.len()));
    }
    places.into_iter().map(waypoint).collect()
}

fn waypoint(text: &str) -> Result<Waypoint, String> {
    let wrong = |what: String| {
        let text: String = text.chars().take(60).collect();
        format!("the waypoint \"{text}\" {what}; write the goal as lat,lon,alt[;lat,lon,alt…], degrees and metres")
    };
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse::<f64>()).collect();
    let numbers = numbers.map_err(|_| wrong("is not three numbers".into()))?;
    let [lat, lon, alt] = numbers[..] else { return Err(wrong(format!("has {} numbers", numbers.len()))) };
    // Not-a-number is outside every range.
    for (name, value, most) in [("latitude", lat, 90.0), ("longitude", lon, 180.0)] {
        if !(-most..=most).contains(&value) {
            return Err(wrong(format!("has no valid {name}")));
        }
    }
    if !(0.0..=f64::from(ALTITUDE_M_MAX)).contains(&alt) {
        return Err(wrong(format!("has an altitude outside 0 to {ALTITUDE_M_MAX} m")));
    }
    Ok(Waypoint { lat_e7: (lat * 1e7).round() as i32, lon_e7: (lon * 1e7).round() as i32, alt_m: alt as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_read_or_refused_in_a_sentence() {
        let read = waypoints("52.0116,4.3571,30; -33.8568 , -180, 0").unwrap();
        let at = |lat_e7, lon_e7, alt_m| Waypoint { lat_e7, lon_e7, alt_m };
        assert_eq!(read, [at(520_116_000, 43_571_000, 30.0), at(-338_568_000, -1_800_000_000, 0.0)]);
        for (goal, expect) in [
            ("", "is not three numbers"),
            ("52,4", "has 2 numbers"),
            ("52,4,30,", "is not three numbers"),
            ("52,4,30;", "is not three numbers"),
            ("52,4,30,1", "has 4 numbers"),
            ("90.1,4,30", "no valid latitude"),
            ("nan,4,30", "no valid latitude"),
            ("52,-180.5,30", "no valid longitude"),
            ("52,inf,30", "no valid longitude"),
            ("52,4,500.1", "outside 0 to 500 m"),
            ("52,4,-1", "outside 0 to 500 m"),
            ("52,4,nan", "outside 0 to 500 m"),
            ("north lawn", "is not three numbers"),
        ] {
            let error = waypoints(goal).unwrap_err();
            assert!(error.contains(expect) && error.contains("lat,lon,alt"), "{goal:?} gave {error:?}");
        }
        let many = vec!["1,1,1"; WAYPOINTS_MAX + 1].join(";");
        assert!(waypoints(&many).unwrap_err().contains("33 waypoints, of at most 32"));
    }
}
