//! From what persons say to what all stations judge by, with nobody in between: three real stations learn, the confirmed samples of all
//! let a head through, and that comes as a signed release, by a canary, to each of them.

use picket_shared::model::rollouts::{Course, Stage};

use super::rig::{Site, publish_root};
use super::yard::WITHIN;

const NODES: [&str; 3] = ["a", "b", "c"];

#[test]
fn what_stations_learn_together_comes_back_to_each_as_a_release_that_its_own_examples_took() {
    let mut site = Site::start_with(&NODES, "", publish_root);
    // A release that halts is followed by the next one a minute later.
    let first = site.until_within(8 * WITHIN, "a head that learning released to be through", |heard| {
        let mut releases = heard.view.as_ref()?.releases.iter();
        releases.find(|release| release.course == Course::Done).cloned()
    });
    println!("{}", serde_json::to_string(&first).unwrap());
    assert_eq!((first.stations.len(), first.revert_of), (3, None));
    assert_eq!(first.stations.iter().filter(|station| station.canary).count(), 1);
    let committed = first.stations.iter().filter(|station| station.outcome == Stage::Committed);
    for station in committed.clone() {
        // Where there were enough held-out examples to tell, they said that it does not lose.
        let surely = station.difference.zip(station.error).is_none_or(|(mean, error)| mean + error <= 0.0);
        assert!(surely, "{station:?}");
    }
    // Half of a group at least, and its canary before all others.
    assert!(committed.clone().any(|station| station.canary) && committed.count() >= 2, "{first:?}");
    let used = site.used().into_iter().filter(|version| *version >= first.version && *version < u64::MAX).count();
    assert!(used >= 2, "{:?}", site.statuses());
    println!("let through by {:?} confirmed samples", site.heard().view.as_ref().unwrap().root_samples);
}
