//! Requests for a picture, as they are said: the order of who asks, what becomes of it, and the picture in parts.
//!
//! A picture leaves a device by such an order alone. These types say who asks, why, for what and until when; whether it is
//! given is the device's to decide. No other message of this crate has room for pixels, nor for numbers that describe how
//! somebody looks.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::crypto::{PARCEL_KEY_BYTES, PARCEL_OVERHEAD_BYTES};
use crate::ids::{CameraId, EventId};
use crate::limits::{
    PICTURE_ORDER_BYTES_MAX, PICTURE_PART_BYTES_MAX, PICTURE_PARTS_MAX, PICTURE_STATE_BYTES_MAX, PICTURE_WHO_CHARS_MAX,
    PICTURE_WHY_CHARS_MAX,
};
use crate::wire::Wire;

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// One picture: of an event, or of a camera.
    #[default]
    Picture,
    /// The clip of an event.
    Clip,
}

/// Somebody asks for a picture. Said again, under the same id, until it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureOrder {
    /// Who asks: a person's name, as he gave it.
    pub who: String,
    /// Why.
    pub why: String,
    /// What.
    pub what: What,
    /// Of this event; or else of a camera.
    pub event: Option<EventId>,
    /// Of this camera, as it is now, or was at `moment_ms`.
    pub camera: Option<CameraId>,
    /// When, milliseconds since 1970: the picture of an event that is nearest. Nothing is now.
    pub moment_ms: Option<u64>,
    /// People are to be seen. Else they are made unrecognisable, which is the rule.
    pub clear: bool,
    /// Until when it stands, seconds since 1970.
    pub until_s: u64,
    /// Whom the answer is sealed for: an X25519 key of this request.
    pub key: ByteBuf,
    /// Parts of the answer that did not arrive, to be said again.
    pub missing: Vec<u32>,
    /// Who asks has all of it, or gave up: nothing more is to be said.
    pub done: bool,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It was made; the device was not heard yet.
    #[default]
    Init,
    /// The device has it.
    Executing,
    /// It was answered.
    Successful,
    /// It is refused, or cannot be answered.
    Failed,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureState {
    /// How far it is.
    pub stage: Stage,
    /// Why it failed: a constant word.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// Of an answer: `image/jpeg` or `video/mp4`.
    pub media: Option<String>,
    /// Its bytes.
    pub bytes: u32,
    /// Its SHA-256.
    pub digest: Option<ByteBuf>,
    /// When the picture was taken, milliseconds since 1970.
    pub taken_ms: u64,
    /// People in it are unrecognisable.
    pub blurred: bool,
    /// The device's X25519 key for this answer.
    pub key: Option<ByteBuf>,
}

/// A part of an answer: byte `number * PICTURE_PART_BYTES_MAX` and those that follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PicturePart {
    /// Counts from 0.
    pub number: u32,
    /// Sealed for who asked.
    pub sealed: ByteBuf,
}

/// What every text that a person gave must be; the error says which, and what to do.
pub fn check_reason(name: &str, text: &str, chars_max: usize) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(format!("it says nothing of {name}; give it"));
    }
    if text.chars().count() > chars_max {
        return Err(format!("{name} has more than {chars_max} characters; shorten it"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{name} has a control character; leave it out"));
    }
    Ok(())
}

impl PictureOrder {
    /// Whether it says who, why, and one thing; the error is a clause about it.
    pub fn check_meaning(&self) -> Result<(), String> {
        check_reason("who asks", &self.who, PICTURE_WHO_CHARS_MAX)?;
        check_reason("why", &self.why, PICTURE_WHY_CHARS_MAX)?;
        match (&self.event, &self.camera, self.moment_ms) {
            (Some(_), None, None) => Ok(()),
            (None, Some(_), _) if self.what == What::Picture => Ok(()),
            (None, Some(_), _) => Err("a clip is an event's; name the event".into()),
            _ => Err("it names neither one event nor one camera".into()),
        }
    }
}

impl Wire for PictureOrder {
    const BYTES_MAX: usize = PICTURE_ORDER_BYTES_MAX;

    /// What it means is judged, and refused by name, where it is answered: here are its bounds alone.
    fn check(&self) -> Result<(), String> {
        if self.key.len() != PARCEL_KEY_BYTES {
            return Err(format!("a key of {} bytes", self.key.len()));
        }
        if self.missing.len() > PICTURE_PARTS_MAX {
            return Err(format!("{} parts of at most {PICTURE_PARTS_MAX}", self.missing.len()));
        }
        Ok(())
    }
}

impl Wire for PictureState {
    const BYTES_MAX: usize = PICTURE_STATE_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        let fits = |bytes: &Option<ByteBuf>, length| bytes.as_ref().is_none_or(|bytes| bytes.len() == length);
        if !fits(&self.digest, 32) || !fits(&self.key, PARCEL_KEY_BYTES) {
            return Err("a digest or a key of another length".into());
        }
        let parts = (self.bytes as usize).div_ceil(PICTURE_PART_BYTES_MAX);
        if parts > PICTURE_PARTS_MAX {
            return Err(format!("{} bytes", self.bytes));
        }
        let whole = self.digest.is_some() && self.key.is_some() && self.media.is_some() && self.bytes > 0;
        if (self.stage == Stage::Successful) != whole || (self.stage == Stage::Failed) != self.reason.is_some() {
            return Err("an answer that is none, or a failure without a reason".into());
        }
        Ok(())
    }
}

impl Wire for PicturePart {
    const BYTES_MAX: usize = PICTURE_PART_BYTES_MAX + PARCEL_OVERHEAD_BYTES + 64;

    fn check(&self) -> Result<(), String> {
        let sealed_max = PICTURE_PART_BYTES_MAX + PARCEL_OVERHEAD_BYTES;
        if self.number as usize >= PICTURE_PARTS_MAX
            || !(1 + PARCEL_OVERHEAD_BYTES..=sealed_max).contains(&self.sealed.len())
        {
            return Err(format!("part {} of {} bytes", self.number, self.sealed.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    fn order() -> PictureOrder {
        PictureOrder {
            who: "M. Jansen".into(),
            why: "a bag was left".into(),
            what: What::Picture,
            event: None,
            camera: Some(CameraId::new("front").unwrap()),
            moment_ms: None,
            clear: false,
            until_s: 1_800_000_000,
            key: ByteBuf::from([7; PARCEL_KEY_BYTES]),
            missing: vec![],
            done: false,
        }
    }

    #[test]
    fn an_order_says_who_why_and_one_thing_or_is_refused_in_a_clause() {
        assert_eq!(order().check_meaning(), Ok(()));
        let event = EventId::new("n-1-1").ok();
        for (order, expect) in [
            (PictureOrder { who: " ".into(), ..order() }, "nothing of who asks"),
            (PictureOrder { why: String::new(), ..order() }, "nothing of why"),
            (PictureOrder { why: "x".repeat(PICTURE_WHY_CHARS_MAX + 1), ..order() }, "more than 200"),
            (PictureOrder { who: "a\nb".into(), ..order() }, "control character"),
            (PictureOrder { what: What::Clip, ..order() }, "name the event"),
            (PictureOrder { camera: None, ..order() }, "neither"),
            (PictureOrder { event: event.clone(), ..order() }, "neither"),
            (PictureOrder { event, camera: None, moment_ms: Some(1), ..order() }, "neither"),
        ] {
            assert!(order.check_meaning().unwrap_err().contains(expect), "{order:?}");
        }
    }

    #[test]
    fn the_fullest_order_and_part_fit_their_messages() {
        let wide = |chars: usize| "\u{10348}".repeat(chars);
        let full = PictureOrder {
            who: wide(PICTURE_WHO_CHARS_MAX),
            why: wide(PICTURE_WHY_CHARS_MAX),
            event: EventId::new("e".repeat(160)).ok(),
            moment_ms: Some(u64::MAX),
            until_s: u64::MAX,
            missing: vec![u32::MAX; PICTURE_PARTS_MAX],
            ..order()
        };
        assert_eq!(decode::<PictureOrder>(&encode(&full).unwrap()).unwrap(), full);
        let sealed = ByteBuf::from(vec![1; PICTURE_PART_BYTES_MAX + PARCEL_OVERHEAD_BYTES]);
        let part = PicturePart { number: PICTURE_PARTS_MAX as u32 - 1, sealed };
        assert_eq!(decode::<PicturePart>(&encode(&part).unwrap()).unwrap(), part);
        assert!(encode(&PicturePart { number: PICTURE_PARTS_MAX as u32, ..part }).is_err());
        let long = PictureOrder { missing: vec![0; PICTURE_PARTS_MAX + 1], ..order() };
        assert!(encode(&long).is_err());
    }

    #[test]
    fn a_state_is_whole_or_says_why_not() {
        let failed = PictureState { stage: Stage::Failed, reason: Some("never".into()), ..PictureState::default() };
        assert!(encode(&failed).is_ok() && encode(&PictureState::default()).is_ok());
        assert!(encode(&PictureState { reason: None, ..failed }).is_err());
        let good = PictureState {
            stage: Stage::Successful,
            media: Some("image/jpeg".into()),
            bytes: 7,
            digest: Some(ByteBuf::from([1; 32])),
            key: Some(ByteBuf::from([2; 32])),
            ..PictureState::default()
        };
        assert!(encode(&good).is_ok());
        for bad in [
            PictureState { key: None, ..good.clone() },
            PictureState { digest: Some(ByteBuf::from([1; 31])), ..good.clone() },
            PictureState { bytes: u32::MAX, ..good.clone() },
            PictureState { stage: Stage::Executing, ..good },
        ] {
            assert!(encode(&bad).is_err(), "{bad:?}");
        }
    }
}
