//! What of a device's models is worth a line in its audit log: that another one runs, and how a candidate came to its end. Pure;
//! it compares two records and decides nothing.

use picket_shared::model::RunningModel;

use super::record::{Record, Release};

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which model.
    pub model: String,
    /// What became of it.
    pub what: String,
}

/// What happened from one record to a later one; nothing where the same model runs and no candidate ended.
pub fn between(before: &Record, after: &Record) -> Option<Change> {
    let running = |record: &Record| record.release(record.active).map(Release::running);
    let (runs, ran) = (running(after), running(before));
    let switched = (before.active, &ran) != (after.active, &runs);
    let ended = after.last.as_ref().filter(|last| before.last.as_ref() != Some(last));
    match ended {
        Some(ended) => {
            let model = named(ended.model.as_ref());
            let now = named(runs.as_ref());
            let what = match &ended.why {
                None => "has lasted, and is committed".to_owned(),
                Some((word, why)) if switched => format!("given up, {now} runs again ({word}): {why}"),
                Some((word, why)) => format!("given up, {now} runs on ({word}): {why}"),
            };
            Some(Change { model, what })
        }
        None if switched => Some(Change {
            model: named(runs.as_ref()),
            what: format!("runs in the place of {}, and must last", named(ran.as_ref())),
        }),
        None => None,
    }
}

fn named(model: Option<&RunningModel>) -> String {
    match model.and_then(|model| Some((model.name.as_ref()?, model))) {
        Some((name, model)) => format!("{name} release {} ({})", model.counter, model.sha256.short()),
        None => "the configuration's own model".to_owned(),
    }
}
