//! The ground: where the stations are, what their cameras see, and who walks there.
//!
//! Stations stand on a grid and look in a drawn direction; the fields of neighbours overlap. Who can see a neighbour's
//! ground, and so cover it by its own view, follows from that. Numbers here are metres and seconds.

use std::f64::consts::TAU;

use fastrand::Rng;
use picket_coordinator::plan;
use picket_shared::duty::How;
use picket_shared::ids::{NodeId, StationId};

/// From one station to the next.
const GRID_M: f64 = 10.0;
/// How far a camera sees people, and how far to each side.
const SEES_M: f64 = 14.0;
const SEES_TURN: f64 = TAU / 7.0;
/// How fast people walk.
const WALK_M_PER_S: std::ops::Range<f64> = 0.6..1.8;
/// Points of a field that are tried, to say how much of it another sees.
const POINTS: usize = 64;
/// Who sees so much of another's field can cover it without moving.
const SEES_ENOUGH: f64 = 0.5;

type Point = (f64, f64);

struct Field {
    at: Point,
    turn: f64,
}

impl Field {
    fn sees(&self, point: Point) -> bool {
        let (dx, dy) = (point.0 - self.at.0, point.1 - self.at.1);
        let off = (dy.atan2(dx) - self.turn).rem_euclid(TAU);
        dx * dx + dy * dy <= SEES_M * SEES_M && off.min(TAU - off) <= SEES_TURN
    }
}

struct Walker {
    at: Point,
    to: Point,
    m_per_s: f64,
}

/// Stations, cameras and people.
pub struct Ground {
    fields: Vec<Field>,
    walkers: Vec<Walker>,
    size: Point,
}

impl Ground {
    /// A ground of so many stations and people.
    pub fn new(rng: &mut Rng, stations: usize, walkers: usize) -> Ground {
        let wide = (stations as f64).sqrt().ceil() as usize;
        let at = |n: usize| ((n % wide) as f64 * GRID_M, (n / wide) as f64 * GRID_M);
        let fields = (0..stations).map(|n| Field { at: at(n), turn: rng.f64() * TAU }).collect();
        let size = (wide as f64 * GRID_M, stations.div_ceil(wide) as f64 * GRID_M);
        let mut ground = Ground { fields, walkers: Vec::new(), size };
        ground.walkers = (0..walkers)
            .map(|_| {
                let m_per_s = WALK_M_PER_S.start + rng.f64() * (WALK_M_PER_S.end - WALK_M_PER_S.start);
                Walker { at: ground.somewhere(rng), to: ground.somewhere(rng), m_per_s }
            })
            .collect();
        ground
    }

    fn somewhere(&self, rng: &mut Rng) -> Point {
        (rng.f64() * self.size.0, rng.f64() * self.size.1)
    }

    /// Everybody walks for a second.
    pub fn second(&mut self, rng: &mut Rng) {
        for n in 0..self.walkers.len() {
            let Walker { at, to, m_per_s } = self.walkers[n];
            let (dx, dy) = (to.0 - at.0, to.1 - at.1);
            let far = dx.hypot(dy);
            if far <= m_per_s {
                (self.walkers[n].at, self.walkers[n].to) = (to, self.somewhere(rng));
            } else {
                self.walkers[n].at = (at.0 + dx / far * m_per_s, at.1 + dy / far * m_per_s);
            }
        }
    }

    /// Of each person whom some station's camera can see, the stations that can.
    pub fn seen(&self) -> impl Iterator<Item = Vec<usize>> {
        let stations = |walker: &Walker| -> Vec<usize> {
            (0..self.fields.len()).filter(|station| self.fields[*station].sees(walker.at)).collect()
        };
        self.walkers.iter().map(stations).filter(|stations| !stations.is_empty())
    }

    /// The site plan: each station can be covered by the nearest `reach` nodes, where that is not 0. Who flies covers by
    /// moving; who sees enough of the ground, by its own view; the others, by the station's own camera.
    pub fn plan(&self, names: &[NodeId], flies: &[bool], reach: usize) -> Vec<plan::Station> {
        let station = |n: usize| plan::Station {
            name: station_of(&names[n]),
            node: names[n].clone(),
            priority: n as i32,
            position: Some([self.fields[n].at.0, self.fields[n].at.1]),
            covers: self.nearest(n, reach).into_iter().map(|other| self.cover(n, other, names, flies)).collect(),
        };
        (0..self.fields.len()).map(station).collect()
    }

    fn cover(&self, station: usize, by: usize, names: &[NodeId], flies: &[bool]) -> plan::Cover {
        let how = match (flies[by], self.part_seen(by, station) >= SEES_ENOUGH) {
            (true, _) => How::Flight,
            (false, true) => How::View,
            (false, false) => How::Camera,
        };
        let mut camera = toml::Table::new();
        camera.insert("name".into(), "other".into());
        camera.insert("source".into(), "synthetic:".into());
        let cameras = if how == How::Camera { vec![] } else { vec![camera] };
        plan::Cover { node: names[by].clone(), how, cameras, goal: how.moves().then(|| "there".into()) }
    }

    fn nearest(&self, station: usize, reach: usize) -> Vec<usize> {
        let (x, y) = self.fields[station].at;
        let mut others: Vec<usize> = (0..self.fields.len()).filter(|other| *other != station).collect();
        let far = |n: &usize| {
            let (dx, dy) = (self.fields[*n].at.0 - x, self.fields[*n].at.1 - y);
            ((dx * dx + dy * dy) as u64, *n)
        };
        others.sort_by_key(far);
        others.truncate(reach);
        others
    }

    /// The part of a station's field that another camera sees.
    fn part_seen(&self, by: usize, station: usize) -> f64 {
        let Field { at, turn } = &self.fields[station];
        let seen = (0..POINTS).filter(|n| {
            let unit = (*n as f64 + 0.5) / POINTS as f64;
            let (angle, far) = (turn + (unit * 7.0 % 2.0 - 1.0) * SEES_TURN, SEES_M * unit.sqrt());
            self.fields[by].sees((at.0 + angle.cos() * far, at.1 + angle.sin() * far))
        });
        seen.count() as f64 / POINTS as f64
    }
}

/// Each node's own station.
pub fn station_of(node: &NodeId) -> StationId {
    StationId::new(node.as_str()).expect("a node's name is a station's name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_any_ground_is_sound_and_those_who_see_the_same_ground_need_not_move() {
        let mut hows = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let (ground, nodes) = (Ground::new(&mut rng, 12, 5), 12);
            let names: Vec<NodeId> = (0..nodes).map(|n| NodeId::new(format!("n{n}")).unwrap()).collect();
            let flies: Vec<bool> = (0..nodes).map(|n| n % 3 == 0).collect();
            let plan = ground.plan(&names, &flies, 4);
            plan::check(&plan).unwrap();
            hows.extend(plan.iter().flat_map(|station| station.covers.iter().map(|cover| cover.how)));
        }
        assert_eq!(hows.into_iter().collect::<Vec<_>>(), [How::Camera, How::View, How::Flight]);
    }

    #[test]
    fn people_walk_and_are_seen_where_they_are() {
        let mut rng = Rng::with_seed(1);
        let mut ground = Ground::new(&mut rng, 9, 20);
        let mut seen = 0;
        for _ in 0..100 {
            ground.second(&mut rng);
            seen += ground.seen().count();
        }
        assert!((200..2_000).contains(&seen), "{seen}");
    }
}
