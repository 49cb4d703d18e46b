//! Messages that are made to cost memory: as long as they may be, and full of the smallest items that become the largest
//! values. Whatever comes, reading it never holds more than four times what such a message may have.

use picket_shared::codec::decode;
use picket_shared::crypto::SecretKey;
use picket_shared::duty::{Duty, Heartbeat, Leases, Standby};
use picket_shared::event::Event;
use picket_shared::ids::SiteId;
use picket_shared::learn::message::{HeadDelta, HeadFull, HeadUpdate, LearnAck, RootSamples};
use picket_shared::limits::{DUTY_BYTES_MAX, DUTY_ITEMS_MAX, ROSTER_BYTES_MAX, STANDBY_BYTES_MAX, STATUS_BYTES_MAX};
use picket_shared::model::{Assignment, Chunk, Want};
use picket_shared::picture::{PictureOrder, PicturePart, PictureState};
use picket_shared::status::{self, Health, Stats, Twin};
use picket_shared::trust::orders::OrdersChain;
use picket_shared::trust::roster::Roster;
use picket_shared::wire::{Ack, EventBatch, Wire};

use super::heap::peak_bytes;
use super::texts;
use super::wire::KEY;

/// A map whose fields before `field` are small numbers, and whose `field` is an array of as many `item`s as fit: of a stated
/// length, and of none.
fn cbor(field: u8, item: &[u8], bytes_max: usize) -> [Vec<u8>; 2] {
    let count = (bytes_max - 64) / item.len();
    let items = item.repeat(count);
    let fields: Vec<u8> = (0..field).flat_map(|number| [number, 1]).collect();
    let head = [&[1, 0xa0 + field + 1][..], &fields, &[field]].concat();
    let length = (count as u32).to_be_bytes();
    [[&head[..], &[0x9a], &length, &items].concat(), [&head[..], &[0x9f], &items, &[0xff]].concat()]
}

/// How many of what separates values in TOML are in a piece of it.
fn separators(text: &str) -> usize {
    text.chars().filter(|c| ",=[{\n.".contains(*c)).count()
}

/// What is no message is refused, and costs no more than a message may.
fn wire<T: Wire>(name: &str, hostile: &mut Vec<String>) {
    filled_up::<T>(name, true, hostile);
}

/// `refused`: no map of these is a message; of those whose fields are all numbers or may be absent, some are.
fn filled_up<T: Wire>(name: &str, refused: bool, hostile: &mut Vec<String>) {
    let items: [&[u8]; 8] = [&[0x40], &[0x60], &[0x61, b'a'], &[0x00], &[0x80], &[0xa0], &[0x82, 1, 2], &[0x81, 0x81]];
    for field in 0..22 {
        for (number, item) in items.iter().enumerate() {
            for message in cbor(field, item, T::BYTES_MAX) {
                assert!(message.len() <= T::BYTES_MAX);
                let (read, held) = peak_bytes(|| decode::<T>(&message).is_ok());
                if held > 4 * T::BYTES_MAX || read && refused {
                    hostile.push(format!("{name}, field {field}, item {number}: {held} of {}, {read}", T::BYTES_MAX));
                }
            }
        }
    }
}

#[test]
fn no_message_takes_more_than_four_times_its_bound() {
    let mut hostile = Vec::new();
    wire::<EventBatch>("batch", &mut hostile);
    wire::<Event>("event", &mut hostile);
    wire::<Ack>("ack", &mut hostile);
    wire::<Heartbeat>("heartbeat", &mut hostile);
    wire::<Leases>("leases", &mut hostile);
    wire::<Standby>("standby", &mut hostile);
    wire::<Duty>("duty", &mut hostile);
    wire::<PictureOrder>("picture order", &mut hostile);
    wire::<PicturePart>("picture part", &mut hostile);
    wire::<Assignment>("assignment", &mut hostile);
    wire::<Want>("want", &mut hostile);
    wire::<Chunk>("chunk", &mut hostile);
    wire::<HeadUpdate>("head update", &mut hostile);
    wire::<HeadFull>("head", &mut hostile);
    wire::<HeadDelta>("head delta", &mut hostile);
    wire::<RootSamples>("root samples", &mut hostile);
    filled_up::<PictureState>("picture state", false, &mut hostile);
    filled_up::<LearnAck>("learn ack", false, &mut hostile);

    let filled = |before: &str, item: &str, after: &str, bytes_max: usize| {
        let count = (bytes_max - before.len() - after.len()) / item.len();
        format!("{before}{}{after}", item.repeat(count))
    };
    // Keys that differ, or a map would hold one of them.
    let keys = |value: &str, bytes_max: usize| {
        let items = (0u32..).map(|number| format!("\"{number:x}\":{value},"));
        let mut text = String::new();
        items
            .take_while(|item| {
                let fits = text.len() + item.len() < bytes_max - 200;
                text += item;
                fits
            })
            .for_each(drop);
        text
    };
    let mut json = |name: &str, text: String, bytes_max: usize, read: &dyn Fn(&[u8]) -> bool| {
        assert!(text.len() <= bytes_max, "{name} {}", text.len());
        let (_, held) = peak_bytes(|| read(text.as_bytes()));
        println!("{name}: {} bytes, {held} held", text.len());
        if held > 4 * bytes_max {
            hostile.push(format!("{name}: {held} of {bytes_max}"));
        }
    };
    let status_of = |bytes: &[u8]| {
        let (health, twin) = (status::read::<Health>(bytes).is_ok(), status::read::<Twin>(bytes).is_ok());
        health | twin | status::read::<Stats>(bytes).is_ok()
    };
    let health = "{\"status\":\"up\",\"pid\":1,\"time\":1,\"boot\":1,\"epoch\":1,\"problems\":[";
    json("problems", filled(health, "\"\",", "\"\"]}", STATUS_BYTES_MAX), STATUS_BYTES_MAX, &status_of);
    // As many as may be, and no more: what is left is the weight of one value.
    let some = filled(health, "\"a\",", "\"\"]}", 4 * 4000);
    json("some problems", some, STATUS_BYTES_MAX, &status_of);
    let rejected = |bytes_max| format!("{{\"rejected\":{{{}\"z\":1}}}}", keys("1", bytes_max));
    json("rejected", rejected(STATUS_BYTES_MAX), STATUS_BYTES_MAX, &status_of);
    json("some rejected", rejected(32_000), STATUS_BYTES_MAX, &status_of);
    json("cameras", filled("{\"cameras\":[", "{},", "{}]}", STATUS_BYTES_MAX), STATUS_BYTES_MAX, &status_of);
    json("depth", filled("{\"cameras\":", "[", "", STATUS_BYTES_MAX), STATUS_BYTES_MAX, &status_of);

    let (key, site) = (SecretKey::from_pem(KEY).unwrap(), SiteId::new("yard").unwrap());
    let known = OrdersChain::begin(&site, &key, 0).newest().clone();
    let roster = |bytes: &[u8]| Roster::read(&site, &known, 0, bytes).is_ok();
    let devices =
        |bytes_max| format!("{{\"devices\":{{{}\"z\":{{\"key\":null}}}}}}", keys("{\"key\":null}", bytes_max));
    json("devices", devices(ROSTER_BYTES_MAX), ROSTER_BYTES_MAX, &roster);
    json("some devices", devices(100_000), ROSTER_BYTES_MAX, &roster);
    let revoked =
        filled("{\"devices\":{\"a\":{\"key\":null,\"revoked\":[", "\"0011223344556677\",", "\"\"]}}}", 110_000);
    json("revoked", revoked, ROSTER_BYTES_MAX, &roster);

    // What a neighbour's station consists of, and what a plan says of cameras there, as TOML in a message; the largest that a node
    // takes is what it stands by for.
    let settings = |text: &[u8]| texts::neighbour(text).is_ok_and(|taken| taken);
    let camera = "[[camera]]\nname=\"a\"\nsource=\"rtsp://h/\"\n";
    let head = "[detector]\n[track]\n[observe]\n";
    for (name, before, item, after) in [
        ("settings of cameras", head, "[[camera]]\n", ""),
        ("settings of points", &format!("{head}{camera}[[camera.mask]]\npolygon=["), "[0,0],", "]\n"),
        ("settings of zones", &format!("{head}{camera}zone=["), "{},", "]\n"),
        ("settings of nothing", "a=[", "[],", "]\n"),
        ("settings of texts", "a=[", "\"\",", "]\n"),
        ("settings of numbers", "a=[", "1,", "]\n"),
        ("settings of depth", "a=", "[", ""),
        ("settings of dots", "a", ".a", "=1\n"),
        ("settings of tables", head, "[[a]]\n", ""),
        ("a plan of cameras", "", "[[camera]]\n", ""),
        ("a plan of points", &format!("{camera}[[camera.mask]]\npolygon=["), "[0,0],", "]\n"),
    ] {
        json(name, filled(before, item, after, DUTY_BYTES_MAX), STANDBY_BYTES_MAX, &settings);
        // As many as may be, and no more.
        let some = before.len() + after.len() + DUTY_ITEMS_MAX / separators(item) * item.len() - 256;
        json(
            &format!("{name}, some"),
            filled(before, item, after, some.min(DUTY_BYTES_MAX)),
            STANDBY_BYTES_MAX,
            &settings,
        );
    }
    let different = |item: &dyn Fn(u32) -> String| {
        let mut text = String::new();
        for item in (0..).map(item) {
            if text.len() + item.len() > DUTY_BYTES_MAX {
                break;
            }
            text += &item;
        }
        text
    };
    json("settings of keys", different(&|n| format!("{n:x}=1\n")), STANDBY_BYTES_MAX, &settings);
    json("settings of tables of their own", different(&|n| format!("[{n:x}]\n")), STANDBY_BYTES_MAX, &settings);
    assert!(hostile.is_empty(), "\n{}", hostile.join("\n"));
}
