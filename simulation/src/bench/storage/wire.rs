//! Bytes on the wire for one event: our batches, and the message that Frigate would publish with the same content.
//!
//! Counted are whole MQTT packets at quality of service 0, with topic and header; below MQTT both cost the same.

use picket_shared::codec;
use picket_shared::event::{Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, EventId, NodeId, SiteId, StationId, ZoneId};
use picket_shared::topics::Topic;
use picket_shared::view::SeenEvent;
use picket_shared::wire::EventBatch;
use serde::Serialize;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

/// Bytes per event.
#[derive(Debug, Serialize)]
pub(super) struct Wire {
    pub(super) event_bytes: usize,
    pub(super) batch_of_1: f64,
    pub(super) batch_of_4: f64,
    pub(super) batch_of_16: f64,
    pub(super) public_json: f64,
    pub(super) frigate_json: f64,
}

/// An event of someone who walks through so many zones.
pub(super) fn event(number: u64, zones: usize) -> Event {
    let zone = |n: usize| ZoneId::new(format!("zone-number-{n:02}")).expect("a constant name");
    let node = NodeId::new("gate-3").expect("a constant name");
    Event {
        id: EventId::of_track(&node, Boot::after(None, 1_700_000_000, 4711), number),
        kind: EventKind::Update,
        station: StationId::new("north-gate").expect("a constant name"),
        camera: CameraId::new("front").expect("a constant name"),
        label: "person".into(),
        frame_time_ms: 1_700_000_005_250 + number,
        start_time_ms: 1_700_000_001_000 + number,
        end_time_ms: None,
        score: 0.789_062_5,
        top_score: 0.958_984_4,
        box_px: [424, 500, 536, 712],
        current_zones: (0..zones / 2).map(zone).collect(),
        entered_zones: (0..zones).map(zone).collect(),
        stationary: false,
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: vec![],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    }
}

/// Measures an event with two zones.
pub(super) fn measure() -> anyhow::Result<Wire> {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let one = event(1, 2);
    let bytes = codec::encode(&one)?;
    let (site, node) = (SiteId::new("yard")?, NodeId::new("gate-3")?);
    let boot = Boot::after(None, 1_700_000_000, 4711);
    let batch = |count: usize| -> anyhow::Result<f64> {
        let events = vec![ByteBuf::from(bytes.clone()); count];
        let payload = codec::encode(&EventBatch { boot, base: 100_000, first: 100_000, events, gap: None })?;
        let topic = Topic::Events(node.clone()).render(&site);
        Ok(packet_bytes(&topic, payload.len()) as f64 / count as f64)
    };
    let seen = SeenEvent::of(one.clone(), node.clone(), boot, 100_000, 1_700_000_005_500);
    let public = serde_json::to_vec(&seen)?;
    // The fields of https://docs.frigate.video/integrations/mqtt/#frigateevents: the object before and after the change.
    let object = |frame_time_ms: u64| -> Value {
        let [x1, y1, x2, y2] = one.box_px;
        json!({
            "id": one.id, "camera": one.camera, "frame_time": seconds(frame_time_ms),
            "snapshot": { "frame_time": seconds(frame_time_ms), "box": one.box_px, "area": 23744,
                "region": [264, 450, 667, 853], "score": 0.775_46, "attributes": [] },
            "label": one.label, "sub_label": null, "top_score": 0.958_984_375, "false_positive": false,
            "start_time": seconds(one.start_time_ms), "end_time": null, "score": 0.789_062_5,
            "box": one.box_px, "area": u32::from(x2 - x1) * u32::from(y2 - y1), "ratio": 0.53,
            "region": [264, 450, 667, 853], "current_zones": one.current_zones, "entered_zones": one.entered_zones,
            "thumbnail": null, "has_snapshot": false, "has_clip": false, "active": true,
            "stationary": one.stationary, "motionless_count": 0, "position_changes": 2, "attributes": {},
            "current_attributes": []
        })
    };
    let (before, after) = (object(one.frame_time_ms - 500), object(one.frame_time_ms));
    let frigate = serde_json::to_vec(&json!({ "type": "update", "before": before, "after": after }))?;
    Ok(Wire {
        event_bytes: bytes.len(),
        batch_of_1: batch(1)?,
        batch_of_4: batch(4)?,
        batch_of_16: batch(16)?,
        public_json: packet_bytes(&Topic::ViewEvent.render(&site), public.len()) as f64,
        frigate_json: packet_bytes("frigate/events", frigate.len()) as f64,
    })
}

/// A PUBLISH packet of MQTT 3.1.1 (section 3.3): kind, remaining length in groups of 7 bits, topic with its length.
fn packet_bytes(topic: &str, payload_bytes: usize) -> usize {
    let rest = 2 + topic.len() + payload_bytes;
    let length_bytes = 1 + (rest >= 128) as usize + (rest >= 128 * 128) as usize + (rest >= 128 * 128 * 128) as usize;
    1 + length_bytes + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_counted_as_the_standard_has_it() {
        // 127 is the last length of one byte, 16,383 the last of two.
        for (payload, bytes) in [(0, 5), (124, 129), (125, 131), (16_380, 16_386), (16_381, 16_388)] {
            assert_eq!(packet_bytes("t", payload), bytes, "{payload}");
        }
    }

    #[test]
    fn larger_batches_cost_less_an_event_and_json_costs_most() {
        let wire = measure().unwrap();
        assert!(wire.batch_of_16 < wire.batch_of_4 && wire.batch_of_4 < wire.batch_of_1, "{wire:?}");
        assert!(wire.batch_of_1 < wire.public_json && wire.public_json < wire.frigate_json, "{wire:?}");
    }
}
