//! Bytes on the wire and in the archive. What is accepted keeps its meaning through another trip; what is refused says
//! why.

use std::fmt::Debug;

use picket_coordinator::archive::{Entry, LaneRow, NodeRow};
use picket_shared::codec::{decode, encode};
use picket_shared::crypto::{MacKey, SecretKey};
use picket_shared::duty::{Duty, Heartbeat, Leases, Standby};
use picket_shared::event::Event;
use picket_shared::gossip;
use picket_shared::ids::SiteId;
use picket_shared::trust::orders::OrdersChain;
use picket_shared::trust::roster::Roster;
use picket_shared::trust::seal;
use picket_shared::wire::{Ack, EventBatch, Wire};

use super::Verdict;

pub(super) fn message<T: Wire + PartialEq + Debug>(bytes: &[u8]) -> Result<Option<T>, String> {
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

/// The key of the seeds, and no secret: RFC 8032, section 7.1, test 1.
pub(super) const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
pub(super) const SEALED_ON: &str = "picket/v1/yard/gate-3/duty";

/// What is opened was sealed by the key; and who opens it learns the same as who passes its seal over.
pub(super) fn seal(bytes: &[u8]) -> Verdict {
    let key = SecretKey::from_pem(KEY).unwrap();
    let stripped = seal::strip(bytes).map(|message| message.into_owned());
    match seal::open(|id| (id == key.public().id()).then(|| key.public()), SEALED_ON, bytes) {
        Ok(opened) if stripped.as_deref() != Ok(&*opened.payload) => Err("the seal hides another message".into()),
        Ok(opened) => {
            let again = match bytes.first() {
                Some(b'{') => seal::seal_json(&key, SEALED_ON, &opened.mark, &opened.payload),
                _ => seal::seal(&key, SEALED_ON, &opened.mark, &opened.payload),
            };
            if again == bytes { Ok(true) } else { Err("two seals of one message are both taken".into()) }
        }
        Err(error) if error.to_string().len() < 12 => Err(format!("a refusal without a sentence: {error}")),
        Err(_) => Ok(false),
    }
}

pub(super) fn roster(bytes: &[u8]) -> Verdict {
    let (key, site) = (SecretKey::from_pem(KEY).unwrap(), SiteId::new("yard").unwrap());
    let known = OrdersChain::begin(&site, &key, 0).newest().clone();
    match Roster::read(&site, &known, 0, bytes) {
        Ok((_, newest)) if newest.key != key.public() => Err("a key that nobody announced".into()),
        Ok(_) => Ok(true),
        Err(error) if error.to_string().len() < 12 => Err(format!("a refusal without a sentence: {error}")),
        Err(_) => Ok(false),
    }
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
