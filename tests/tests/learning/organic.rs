//! From what persons say to what all stations judge by, with nobody in between: three real stations learn, the confirmed samples of all
//! let a head through, and that comes as a signed release, by a canary, to each of them.

use picket_shared::learn::view::ReleaseView;
use picket_shared::model::ModelState;
use picket_shared::model::rollouts::{Course, Stage};

use super::rig::{Site, publish_root};
use super::yard::WITHIN;

const NODES: [&str; 3] = ["a", "b", "c"];

#[test]
fn what_stations_learn_together_comes_back_to_each_as_a_release_that_its_own_examples_took() {
    let mut site = Site::start_with(&NODES, "", publish_root);
    // One that halts, or of which nobody can tell, is followed by the next one after a minute.
    let through = |release: &&ReleaseView| {
        let proven = release.stations.iter().any(|station| station.canary && station.outcome == Stage::Committed);
        release.course == Course::Done && proven
    };
    let first = site.until_within(8 * WITHIN, "a head that learning released to be through", |heard| {
        heard.view.as_ref()?.releases.iter().find(through).cloned()
    });
    println!("{}", serde_json::to_string(&first).unwrap());
    assert_eq!((first.stations.len(), first.revert_of), (3, None));
    for station in first.stations.iter().filter(|station| station.outcome == Stage::Committed) {
        // Where there were enough held-out examples to tell, they said that it does not lose.
        let surely = station.difference.zip(station.error).is_none_or(|(mean, error)| mean + error <= 0.0);
        assert!(surely, "{station:?}");
    }
    // Whoever could not tell yet has more to compare by at this release, or at one after it.
    site.until_within(8 * WITHIN, "two stations to judge by what was released", |heard| {
        let used = |model: &ModelState| model.learned.as_ref().map_or(0, |learned| learned.used);
        (heard.models.values().filter(|model| used(model) >= first.version).count() >= 2).then_some(())
    });
    println!("let through by {:?} confirmed samples", site.heard().view.as_ref().unwrap().root_samples);
}
