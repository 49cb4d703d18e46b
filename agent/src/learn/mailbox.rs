//! What the courier hands over to the thread that learns: whether there is a connection, and the newest message of each topic. Frames may
//! be passed over while that thread is busy or at rest; nothing of this is, for much of it is said only once. It waits for nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_shared::model::LearnedManifest;
use picket_shared::topics::Topic;

use super::student::Input;

/// Topics whose newest message is kept; of more the one that was heard of longest ago goes. A device listens to its acks and labels, and to
/// the head of each network that the site learns over.
const TOPICS_MAX: usize = 16;

/// The mailbox; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Mailbox(Arc<Mutex<Mail>>);

#[derive(Debug, Default)]
struct Mail {
    /// Nothing where that did not change.
    online: Option<bool>,
    /// The newest of each topic, in the order in which they came.
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

    /// Said to this node. It takes the place of what was said before on its topic: all that is said here says the whole of it.
    pub(super) fn hear(&self, topic: Topic, payload: Vec<u8>) {
        let heard = &mut self.lock().heard;
        heard.retain(|before| before.topic != topic);
        if heard.len() >= TOPICS_MAX {
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
    fn it_holds_so_many_topics_and_no_more() {
        let mailbox = Mailbox::default();
        (0..=TOPICS_MAX as u8).for_each(|n| mailbox.hear(head(n), vec![n]));
        let all = taken(&mailbox);
        assert_eq!((all.len(), &all[0]), (TOPICS_MAX, &(head(1), 1)));
    }
}
