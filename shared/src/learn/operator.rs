//! What an operator's program says of events at the broker: JSON that any program can write, as `mosquitto_pub` and Home Assistant do.
//! Nobody signs it; who may say it is the broker's to know. Pure.

use serde::{Deserialize, Serialize};

use crate::ids::{EventId, NodeId, OperatorName};
use crate::limits::{LABELS_BYTES_MAX, LABELS_MAX, LAST_LABEL_S_MAX};

/// What is said: of events by their names, or of the last one of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorLabels {
    /// At most [`LABELS_MAX`].
    #[serde(default)]
    pub labels: Vec<OperatorLabel>,
    /// In their place, for who knows no event's name: a button.
    #[serde(default)]
    pub last: Option<LastLabel>,
}

/// What is said of one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorLabel {
    /// The event.
    pub event: EventId,
    /// Somebody was there.
    pub person: bool,
    /// Who says so: nobody else than whose topic it is.
    #[serde(default)]
    pub who: Option<String>,
}

/// What is said of the last event of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastLabel {
    /// The node.
    pub node: NodeId,
    /// Somebody was there.
    pub person: bool,
    /// When it is said, seconds since 1970: said again later, by a broker that kept it, it would be of another event.
    pub time: f64,
}

impl OperatorLabels {
    /// Reads what stands on this operator's topic at this time; else a constant word for a counter, and a sentence.
    pub fn read(payload: &[u8], name: &OperatorName, now_s: f64) -> Result<OperatorLabels, (&'static str, String)> {
        if payload.len() > LABELS_BYTES_MAX {
            return Err(("too_large", format!("labels of {} bytes; at most {LABELS_BYTES_MAX}", payload.len())));
        }
        let said: OperatorLabels = crate::status::read(payload)?;
        if said.labels.len() > LABELS_MAX || said.labels.is_empty() == said.last.is_none() {
            let sentence = format!("{} labels by {name}; say 1 to {LABELS_MAX}, or the last one", said.labels.len());
            return Err(("operator_labels", sentence));
        }
        let foreign = |label: &&OperatorLabel| label.who.as_deref().is_some_and(|who| who != name.as_str());
        if let Some(label) = said.labels.iter().find(foreign) {
            return Err(("operator_who", format!("a label of {} in another's name than {name}", label.event)));
        }
        let near = |last: &LastLabel| (now_s - last.time).abs() <= LAST_LABEL_S_MAX as f64;
        if let Some(last) = said.last.as_ref().filter(|last| !near(last)) {
            let sentence = format!(
                "{name} said something of the last event of {} at {}, and now is {now_s}; say it within {LAST_LABEL_S_MAX} s, and set the clock",
                last.node, last.time
            );
            return Err(("operator_late", sentence));
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OperatorLabels, &'static str> {
        let name = OperatorName::new("anna").unwrap();
        OperatorLabels::read(text.as_bytes(), &name, 1_000.0).map_err(|(word, _)| word)
    }

    #[test]
    fn labels_are_read_as_anybody_writes_them_in_ones_own_name_and_now() {
        let plain = read(r#"{"labels":[{"event":"gate-1-3","person":false}]}"#).unwrap();
        assert_eq!((plain.labels[0].person, &plain.labels[0].who), (false, &None));
        assert!(read(r#"{"labels":[{"event":"gate-1-3","person":true,"who":"anna"}]}"#).is_ok());
        let last = |time: &str| read(&format!(r#"{{"last":{{"node":"gate","person":true,"time":{time}}}}}"#));
        for time in ["1000", "940.5", "1060"] {
            assert!(last(time).unwrap().last.is_some_and(|last| last.person), "{time}");
        }
        for time in ["939", "1061", "0", "-1e300"] {
            assert_eq!(last(time), Err("operator_late"), "{time}");
        }
    }

    #[test]
    fn what_else_is_said_is_refused_by_name() {
        let one = r#"{"event":"gate-1-3","person":true}"#;
        let many = format!("{{\"labels\":[{}]}}", vec![one; LABELS_MAX + 1].join(","));
        let both = format!(r#"{{"labels":[{one}],"last":{{"node":"gate","person":true,"time":1000}}}}"#);
        for (text, word) in [
            ("{}", "operator_labels"),
            (r#"{"labels":[]}"#, "operator_labels"),
            (&many, "operator_labels"),
            (&both, "operator_labels"),
            (r#"{"labels":[{"event":"gate-1-3","person":true,"who":"bert"}]}"#, "operator_who"),
            (r#"{"labels":[{"event":"gate-1-3","person":true,"who":""}]}"#, "operator_who"),
            (r#"{"labels":[{"event":"a/b","person":true}]}"#, "malformed"),
            (r#"{"last":{"node":"gate","person":true}}"#, "malformed"),
            ("", "empty"),
            (&" ".repeat(LABELS_BYTES_MAX + 1), "too_large"),
        ] {
            assert_eq!(read(text), Err(word), "{}", text.chars().take(80).collect::<String>());
        }
    }
}
