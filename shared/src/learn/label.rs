//! What persons say of events, and what neighbours agree on: JSON, so that whoever may speak at the broker can say it by any program.

use serde::{Deserialize, Serialize};

use crate::ids::EventId;
use crate::limits::{AGREED_MAX, LABELS_BYTES_MAX, LABELS_MAX, NAME_CHARS_MAX};

/// What persons said of one node's events, the newest last. Each message has all that still counts, so that one that was missed, or
/// comes again, changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// At most [`LABELS_MAX`].
    pub labels: Vec<Label>,
    /// What cameras that see the same ground tell of its events, `who` the other station: at most [`AGREED_MAX`]. It is no person's word,
    /// and stands apart from those so that a device that knows nothing of it takes it for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<Label>,
}

/// What a person says of one event. Of two about one event the later one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The event.
    pub event: EventId,
    /// Somebody was there.
    pub person: bool,
    /// Who says so.
    pub who: String,
}

impl Labels {
    /// Reads a message; else a constant word for a counter, and a sentence.
    pub fn read(payload: &[u8]) -> Result<Labels, (&'static str, String)> {
        if payload.len() > LABELS_BYTES_MAX {
            let sentence = format!("labels of {} bytes; at most {LABELS_BYTES_MAX}", payload.len());
            return Err(("too_large", sentence));
        }
        let labels: Labels = crate::status::read(payload)?;
        match labels.check() {
            Ok(()) => Ok(labels),
            Err(sentence) => Err(("refused", sentence)),
        }
    }

    fn check(&self) -> Result<(), String> {
        for (labels, labels_max) in [(&self.labels, LABELS_MAX), (&self.agreed, AGREED_MAX)] {
            if labels.len() > labels_max {
                return Err(format!("{} labels; at most {labels_max}", labels.len()));
            }
        }
        let nameless = |label: &&Label| label.who.is_empty() || label.who.len() > NAME_CHARS_MAX;
        match self.labels.iter().chain(&self.agreed).find(nameless) {
            Some(label) => {
                Err(format!("a label of {} by nobody, or by a name above {NAME_CHARS_MAX} characters", label.event))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_anybody_writes_them_and_others_are_refused_by_name() {
        let text = r#"{"labels":[{"event":"gate-1-3","person":false,"who":"anna"}]}"#;
        let label = Label { event: EventId::new("gate-1-3").unwrap(), person: false, who: "anna".into() };
        assert_eq!(Labels::read(text.as_bytes()), Ok(Labels { labels: vec![label.clone()], agreed: vec![] }));
        let many = Labels { labels: vec![label.clone(); LABELS_MAX + 1], agreed: vec![] };
        let agreed = Labels { labels: vec![], agreed: vec![label.clone(); AGREED_MAX] };
        assert_eq!(Labels::read(&serde_json::to_vec(&agreed).unwrap()), Ok(agreed.clone()));
        let many_agreed = Labels { agreed: vec![label.clone(); AGREED_MAX + 1], ..agreed };
        let nobody = Label { who: String::new(), ..label };
        let nobody_agreed = Labels { labels: vec![], agreed: vec![nobody.clone()] };
        let nobody = Labels { labels: vec![nobody], agreed: vec![] };
        for (text, word) in [
            (serde_json::to_string(&many).unwrap(), "refused"),
            (serde_json::to_string(&nobody).unwrap(), "refused"),
            (serde_json::to_string(&many_agreed).unwrap(), "refused"),
            (serde_json::to_string(&nobody_agreed).unwrap(), "refused"),
            (" ".repeat(LABELS_BYTES_MAX + 1), "too_large"),
            ("{\"labels\":[{}]}".into(), "malformed"),
            (String::new(), "empty"),
        ] {
            assert_eq!(Labels::read(text.as_bytes()).unwrap_err().0, word);
        }
    }
}
