//! Bytes on the wire and in the archive. What is accepted keeps its meaning through another trip; what is refused says
//! why.

use std::fmt::Debug;

use picket_coordinator::archive::{Entry, LaneRow, NodeRow};
use picket_shared::codec::{decode, encode};
use picket_shared::crypto::MacKey;
use picket_shared::duty::{Duty, Heartbeat, Leases, Standby};
use picket_shared::event::Event;
use picket_shared::gossip;
use picket_shared::ids::SiteId;
use picket_shared::wire::{Ack, EventBatch, Wire};

use super::Verdict;

fn message<T: Wire + PartialEq + Debug>(bytes: &[u8]) -> Result<Option<T>, String> {
    let message = match decode::<T>(bytes) {
        Ok(message) => message,
        Err(error) if error.to_string().len() < 12 || error.word().is_empty() => {
            return Err(format!("a refusal without a sentence: {error}"));
        }
        Err(_) => return Ok(None),
    };
    let again = encode(&message).map_err(|error| format!("accepted, and cannot be written: {error}"))?;
    match decode::<T>(&again) {
        Ok(same) if same == message => Ok(Some(message)),
        other => Err(format!("{message:?} came back as {other:?}")),
    }
}

fn any<T: Wire + PartialEq + Debug>(bytes: &[u8]) -> Verdict {
    Ok(message::<T>(bytes)?.is_some())
}

pub(super) fn batch(bytes: &[u8]) -> Verdict {
    let Some(batch) = message::<EventBatch>(bytes)? else { return Ok(false) };
    for event in &batch.events {
        message::<Event>(event)?;
    }
    Ok(true)
}

pub(super) fn event(bytes: &[u8]) -> Verdict {
    any::<Event>(bytes)
}

pub(super) fn ack(bytes: &[u8]) -> Verdict {
    any::<Ack>(bytes)
}

pub(super) fn heartbeat(bytes: &[u8]) -> Verdict {
    any::<Heartbeat>(bytes)
}

/// Each input is tried as it came, and as somebody with the site's key would have signed it: what he says is hostile too.
pub(super) fn gossip(bytes: &[u8]) -> Verdict {
    let (key, site) = (MacKey::new(&[7; 32]), SiteId::new("yard").unwrap());
    let signed: Vec<u8> = bytes.iter().copied().chain(key.sign(bytes)).collect();
    if gossip::open(&key, &site, bytes).is_ok() {
        return Err("what nobody signed was taken".into());
    }
    let Ok((node, beat)) = gossip::open(&key, &site, &signed) else { return Ok(false) };
    let again = gossip::seal(&key, &site, &node, beat);
    if again == signed { Ok(true) } else { Err("it was read as another datagram".into()) }
}

pub(super) fn leases(bytes: &[u8]) -> Verdict {
    any::<Leases>(bytes)
}

pub(super) fn standby(bytes: &[u8]) -> Verdict {
    any::<Standby>(bytes)
}

pub(super) fn duty(bytes: &[u8]) -> Verdict {
    any::<Duty>(bytes)
}

pub(super) fn entry(bytes: &[u8]) -> Verdict {
    any::<Entry>(bytes)
}

/// Both kinds of rows have the same form on the disk, and the key alone tells which it is.
pub(super) fn row(bytes: &[u8]) -> Verdict {
    let lane = message::<LaneRow>(bytes)?;
    if let Some(row) = &lane {
        // What a coordinator does with a row that it finds.
        let _ = row.events();
    }
    Ok(any::<NodeRow>(bytes)? || lane.is_some())
}
