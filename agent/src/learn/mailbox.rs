//! What the courier hands over to the thread that learns: whether there is a connection, the newest message of each topic, and every word
//! of a person. Frames may be passed over while that thread is busy or at rest; nothing of this is, for much of it is said only once. It
//! waits for nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_shared::model::LearnedManifest;
use picket_shared::topics::Topic;

use super::student::Input;

/// Messages that are kept; of more the one that came first goes. A device listens to its acks and labels, and to the head of each network
/// that the site learns over.
const HEARD_MAX: usize = 48;
/// Labels that wait for each other.
const LABELS_WAITING_MAX: usize = 32;

/// The mailbox; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Mailbox(Arc<Mutex<Mail>>);

#[derive(Debug, Default)]
struct Mail {
    /// Nothing where that did not change.
    online: Option<bool>,
    /// In the order in which they came.
    heard: Vec<Heard>,
    /// The newest release that was fetched.
    released: Option<(Box<LearnedManifest>, Vec<u8>)>,
}

#[derive(Debug)]
struct Heard {
    topic: Topic,
    payload: Vec<u8>,
    taken: bool,
}

impl Mailbox {
    /// There is a connection, or none.
    pub(super) fn online(&self, online: bool) {
        self.lock().online = Some(online);
    }

    /// Said to this node. It takes the place of what was said before on its topic, for it says the whole of it; but where nothing is
    /// signed, each who says labels says only what is new, and so they wait for each other.
    pub(super) fn hear(&self, topic: Topic, payload: Vec<u8>) {
        let heard = &mut self.lock().heard;
        let adds = matches!(topic, Topic::LearnLabels(_));
        heard.retain(|before| before.topic != topic || (adds && !before.taken));
        let same = |before: &Heard| before.topic == topic;
        let full = heard.iter().filter(|before| same(before)).count() >= LABELS_WAITING_MAX;
        if let Some(first) = heard.iter().position(same).filter(|_| full) {
            heard.remove(first);
        } else if heard.len() >= HEARD_MAX {
            heard.remove(0);
        }
        heard.push(Heard { topic, payload, taken: false });
    }

    /// A release of the head, and its file.
    pub(super) fn release(&self, manifest: Box<LearnedManifest>, file: Vec<u8>) {
        self.lock().released = Some((manifest, file));
    }

    /// What came since this was asked before.
    pub(super) fn take(&self) -> Vec<Input> {
        let mut mail = self.lock();
        let (online, released) = (mail.online.take(), mail.released.take());
        let heard = mail.heard.iter_mut().filter(|heard| !heard.taken).map(|heard| {
            heard.taken = true;
            Input::Heard(heard.topic.clone(), heard.payload.clone())
        });
        let released = released.map(|(manifest, file)| Input::Released(manifest, file));
        online.map(Input::Online).into_iter().chain(heard).chain(released).collect()
    }

    /// Whoever takes next has heard nothing yet: what stands is said once more, as a broker does with what is retained.
    pub(super) fn again(&self) {
        self.lock().heard.iter_mut().for_each(|heard| heard.taken = false);
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::ids::NodeId;
    use picket_shared::learn::lineage::LineageId;

    fn ack() -> Topic {
        Topic::LearnAck(NodeId::new("n").unwrap())
    }

    fn head(n: u8) -> Topic {
        Topic::LearnHead(LineageId([n; 8]))
    }

    /// What is taken: topics with the first byte of what was said.
    fn taken(mailbox: &Mailbox) -> Vec<(Topic, u8)> {
        let heard = |input| match input {
            Input::Heard(topic, payload) => (topic, payload[0]),
            other => panic!("{other:?}"),
        };
        mailbox.take().into_iter().map(heard).collect()
    }

    #[test]
    fn the_newest_of_each_topic_is_taken_once_in_its_order() {
        let mailbox = Mailbox::default();
        for (topic, byte) in [(ack(), 1), (head(1), 2), (ack(), 3)] {
            mailbox.hear(topic, vec![byte]);
        }
        assert_eq!(taken(&mailbox), [(head(1), 2), (ack(), 3)]);
        assert_eq!(taken(&mailbox), []);
        mailbox.hear(head(1), vec![2]);
        assert_eq!(taken(&mailbox), [(head(1), 2)], "a broker says again what it is asked for again");
        mailbox.again();
        assert_eq!(taken(&mailbox), [(ack(), 3), (head(1), 2)]);
    }

    #[test]
    fn a_connection_is_told_however_much_there_is_beside_it_and_told_first() {
        let mailbox = Mailbox::default();
        mailbox.hear(ack(), vec![1]);
        mailbox.online(false);
        mailbox.online(true);
        let inputs = mailbox.take();
        assert!(matches!(inputs[..], [Input::Online(true), Input::Heard(..)]), "{inputs:?}");
        assert!(mailbox.take().is_empty());
    }

    #[test]
    fn each_word_of_a_person_is_taken_and_what_stands_of_them_is_the_last() {
        let (mailbox, labels) = (Mailbox::default(), || Topic::LearnLabels(NodeId::new("n").unwrap()));
        (1..=3).for_each(|n| mailbox.hear(labels(), vec![n]));
        assert_eq!(taken(&mailbox), [1, 2, 3].map(|n| (labels(), n)));
        mailbox.hear(labels(), vec![4]);
        mailbox.again();
        assert_eq!(taken(&mailbox), [(labels(), 4)]);
    }

    #[test]
    fn it_holds_so_many_messages_and_no_more_and_labels_drive_nothing_else_out() {
        let (mailbox, labels) = (Mailbox::default(), || Topic::LearnLabels(NodeId::new("n").unwrap()));
        mailbox.hear(ack(), vec![1]);
        (0..=LABELS_WAITING_MAX as u8).for_each(|n| mailbox.hear(labels(), vec![n]));
        let all = taken(&mailbox);
        assert_eq!((all.len(), &all[0], &all[1]), (1 + LABELS_WAITING_MAX, &(ack(), 1), &(labels(), 1)));
        (0..=HEARD_MAX as u8).for_each(|n| mailbox.hear(head(n), vec![n]));
        let all = taken(&mailbox);
        assert_eq!((all.len(), &all[0]), (HEARD_MAX, &(head(1), 1)));
    }
}
