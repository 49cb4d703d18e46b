//! What a person orders of learning, by whichever way: the command line leaves it for the coordinator as a file, the page hands it over. Pure.

use picket_shared::ids::{EventId, NodeId, OperatorName};
use picket_shared::learn::label::Label;
use picket_shared::learn::operator::{LastLabel, OperatorLabels};
use picket_shared::limits::{LABELS_MAX, NAME_CHARS_MAX};

/// What a person orders.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Learn nothing more.
    Freeze,
    /// Learn again.
    Unfreeze,
    /// Go back to the release before, as a new version, and learn nothing more.
    Revert,
    /// Take a station out.
    Out(NodeId),
    /// Take it in again.
    In(NodeId),
    /// Tell devices what persons say of their events.
    Label(Vec<Label>),
}

/// What somebody says of events: that somebody was there, or nobody. What cannot be learned from is refused here, where whoever says
/// it sees it.
pub fn label(events: &[EventId], person: bool, who: &str) -> Result<Order, String> {
    labels(events.iter().map(|event| Label { event: event.clone(), person, who: who.to_owned() }).collect(), who)
}

fn labels(labels: Vec<Label>, who: &str) -> Result<Order, String> {
    if who.is_empty() || who.len() > NAME_CHARS_MAX || labels.is_empty() || labels.len() > LABELS_MAX {
        return Err(format!(
            "name who says so, in at most {NAME_CHARS_MAX} characters, and 1 to {LABELS_MAX} events at once"
        ));
    }
    match labels.iter().find(|label| label.event.node().is_none()) {
        Some(label) => Err(format!("{} is no event of one person; learning has no use for it", label.event)),
        None => Ok(Order::Label(labels)),
    }
}

/// What an operator's program says at the broker, at this time; else a constant word for a counter, and a sentence. `last` is the last
/// event of a node that had begun by a time.
pub fn said(
    name: &OperatorName,
    payload: &[u8],
    now_s: f64,
    last: impl FnOnce(&NodeId, f64) -> Option<EventId>,
) -> Result<Order, (&'static str, String)> {
    let OperatorLabels { labels: of_events, last: of_last } = OperatorLabels::read(payload, name, now_s)?;
    let mut said: Vec<(EventId, bool)> = of_events.into_iter().map(|label| (label.event, label.person)).collect();
    if let Some(LastLabel { node, person, time }) = of_last {
        let none = || ("operator_last", format!("{node} has no event among the newest that {name} could have meant"));
        said.push((last(&node, time).ok_or_else(none)?, person));
    }
    let said = said.into_iter().map(|(event, person)| Label { event, person, who: name.to_string() }).collect();
    labels(said, name.as_str()).map_err(|sentence| ("operator_labels", sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_events_of_one_person_each_are_labelled_by_somebody_with_a_name() {
        let event = |text: &str| EventId::new(text).unwrap();
        let said = Label { event: event("gate-1-3"), person: false, who: "anna".into() };
        assert_eq!(label(&[event("gate-1-3")], false, "anna"), Ok(Order::Label(vec![said])));
        let long = "a".repeat(NAME_CHARS_MAX + 1);
        for (events, who) in [
            (vec![event("gate-1-3")], ""),
            (vec![event("gate-1-3")], long.as_str()),
            (vec![], "anna"),
            (vec![event("gate-1-3"); LABELS_MAX + 1], "anna"),
            (vec![event("gate-1-3"), event("gate-1-3-crowd1")], "anna"),
        ] {
            assert!(label(&events, true, who).is_err(), "{} events by {who}", events.len());
        }
    }

    #[test]
    fn what_is_said_at_the_broker_is_said_by_whose_topic_it_is_and_of_the_event_that_was_meant() {
        let name = OperatorName::new("anna").unwrap();
        let known = |node: &NodeId, by_s: f64| {
            (node.as_str() == "gate-1" && by_s >= 990.0).then(|| EventId::new("gate-1-7-3").unwrap())
        };
        let said = |text: &str| said(&name, text.as_bytes(), 1_000.0, known).map_err(|(word, _)| word);
        let label = |event: &str, person| Label { event: EventId::new(event).unwrap(), person, who: "anna".into() };
        let two = r#"{"labels":[{"event":"a-1-2","person":true},{"event":"b-1-2","person":false,"who":"anna"}]}"#;
        assert_eq!(said(two), Ok(Order::Label(vec![label("a-1-2", true), label("b-1-2", false)])));
        let last =
            |node: &str, time: u32| said(&format!(r#"{{"last":{{"node":"{node}","person":false,"time":{time}}}}}"#));
        assert_eq!(last("gate-1", 995), Ok(Order::Label(vec![label("gate-1-7-3", false)])));
        assert_eq!((last("gate-1", 980), last("gate-2", 995)), (Err("operator_last"), Err("operator_last")));
        assert_eq!(last("gate-1", 900), Err("operator_late"), "a broker that kept it says it again");
        assert_eq!(said(r#"{"labels":[{"event":"a-1-2-crowd1","person":true}]}"#), Err("operator_labels"));
        assert_eq!(said(r#"{"labels":[{"event":"a-1-2","person":true,"who":"bert"}]}"#), Err("operator_who"));
    }
}
