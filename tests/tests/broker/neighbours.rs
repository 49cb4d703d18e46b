//! Neighbours without any broker: three couriers with real sockets, whose broker dies and does not come back. The second in
//! line stands in for a node that falls silent, because the two hear each other themselves.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use picket_agent::gossip;
use picket_shared::codec;
use picket_shared::duty::{How, Standby, StandbyDuty};
use picket_shared::ids::{SiteId, StationId};
use picket_shared::mqtt::{self, LinkEvent, LinkOptions};
use picket_shared::topics::Topic;
use picket_simulation::soak::killer::Deed;
use picket_simulation::soak::site::{MOSQUITTO, Site};
use picket_simulation::soak::victim::Victim;
use picket_tests::{binary, wait_for};

use crate::couriers::{Parts, Running, Seen, id, start, url};
use crate::rig::WITHIN;

/// Tells node `b` that it is in line for station `a`, before `c`.
fn tell_standby(site: &Site) {
    let (station, ranks) = (StationId::new("a").unwrap(), vec![id("b"), id("c")]);
    let duty = StandbyDuty { station, home: id("a"), ranks, how: How::Camera, cameras: None, goal: None };
    let standby = codec::encode(&Standby { leader: 1, duties: vec![duty] }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client_id, will, filters) = ("planner".into(), None, vec![]);
        let options = LinkOptions { broker: url(site), client_id, will, filters, payload_bytes_max: 0, tls: None };
        let (link, mut events) = mqtt::open(options);
        while !matches!(events.recv().await, Some(LinkEvent::Up(_))) {}
        link.publish(&Topic::Standby(id("b")).render(&site.site), standby, true, false).unwrap();
        link.close();
        while matches!(events.recv().await, Some(LinkEvent::Up(_) | LinkEvent::Message { .. })) {}
    });
}

#[test]
fn with_every_broker_gone_the_second_stands_in_for_a_neighbour_that_falls_silent() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::set(dir.path(), binary("picket-simulation").parent().unwrap(), MOSQUITTO).unwrap();
    let mut broker = Victim::start(site.mosquitto()).unwrap();
    let key = dir.path().join("gossip.key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let held: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = held.iter().map(|socket| socket.local_addr().unwrap()).collect();
    drop(held);
    let agent = |at: usize, name| {
        let peers = addresses.iter().copied().filter(|peer| *peer != addresses[at]).collect();
        let gossip =
            gossip::Config { key_file: Some(key.clone()), listen: Some(addresses[at]), peers, multicast: None };
        start(name, dir.path(), &site, Parts { gossip, ..Parts::default() })
    };
    let (a, mut b, _c) = (agent(0, "a"), agent(1, "b"), agent(2, "c"));
    let sees = |running: &Running, what: fn(&Seen) -> bool| what(&running.seen.lock().unwrap()).then_some(());
    wait_for("b to be connected", WITHIN, || sees(&b, |seen| seen.online));
    tell_standby(&site);
    wait_for("b to know what to cover", WITHIN, || sees(&b, |seen| seen.prepared));

    assert!(broker.hit(Deed::Kill, Instant::now() + Duration::from_secs(3_600)).unwrap());
    wait_for("b to lose the broker", WITHIN, || sees(&b, |seen| !seen.online));
    // A start without any broker: what it stands by for is on its disk.
    drop(b);
    b = agent(1, "b");
    wait_for("b to remember what to cover", WITHIN, || sees(&b, |seen| seen.prepared));
    // Twice as long as silence may last: who is heard is not missed.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(b.seen.lock().unwrap().covers, 0, "its neighbour is there");
    drop(a);
    let fell = Instant::now();
    wait_for("b to stand in", WITHIN, || sees(&b, |seen| seen.covers == 1));
    println!("stood in {:?} after the neighbour fell silent", fell.elapsed());

    // Somebody who does not know the key is counted, and heard by nobody.
    let rogue = UdpSocket::bind("127.0.0.1:0").unwrap();
    let beat = picket_shared::gossip::seal(
        &picket_shared::crypto::MacKey::new(&[0; 32]),
        &SiteId::new("soak").unwrap(),
        &id("a"),
        b"beat",
    );
    rogue.send_to(&beat, addresses[1]).unwrap();
    wait_for("b to refuse it", WITHIN, || sees(&b, |seen| seen.refused == 1));
}
