//! Tokens that were given out and are not yet used up: one file each, named by the digest of its secret, so that nobody who
//! reads the folder can use one.
//!
//! A ticket admits one key. Which one is written down before anything is answered; the same key may ask again until the ticket
//! expires, because an answer can be lost. The caller holds the authority's lock.

use std::fs;
use std::path::{Path, PathBuf};

use picket_shared::crypto::{PublicKey, random};
use picket_shared::ids::NodeId;
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::trust::DAY_S;
use picket_shared::trust::token::{TOKEN_SECRET_BYTES, Token};
use serde::{Deserialize, Serialize};

/// Tickets that are out at once.
pub const TICKETS_MAX: usize = 256;

/// One admission, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Whom it makes of the device.
    pub node: NodeId,
    /// Until when, seconds since 1970.
    pub expires_s: u64,
    /// The key that used it, once one has.
    pub key: Option<PublicKey>,
}

/// Why somebody is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// There is no such ticket.
    #[error("the token is not known here; check that all of it was copied, or make a new one")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired; make a new one")]
    Expired,
    /// Another device has used it.
    #[error("the token was used already, by another device; make a new one, and find out who that was")]
    Spent,
    /// There are too many.
    #[error("{TICKETS_MAX} tokens are out; wait until some have expired")]
    TooMany,
    /// The disk.
    #[error(transparent)]
    File(#[from] KeyfileError),
}

impl TicketError {
    /// A constant word, for a counter.
    pub fn word(&self) -> &'static str {
        match self {
            TicketError::Unknown => "token_unknown",
            TicketError::Expired => "token_expired",
            TicketError::Spent => "token_spent",
            TicketError::TooMany => "tokens_too_many",
            TicketError::File(_) => "broken",
        }
    }
}

/// The folder of tickets.
pub struct Tickets {
    dir: PathBuf,
}

impl Tickets {
    /// The tickets in this folder, which is made where there is none.
    pub fn in_dir(dir: PathBuf) -> Result<Tickets, KeyfileError> {
        keyfile::make_dir(&dir)?;
        Ok(Tickets { dir })
    }

    /// A new ticket; its secret is kept nowhere.
    pub fn write(&self, ticket: &Ticket, now_s: u64) -> Result<[u8; TOKEN_SECRET_BYTES], TicketError> {
        let mut out = 0;
        for (path, old) in self.list()? {
            // For a day it can still be said that it has expired.
            if old.expires_s + DAY_S < now_s { keyfile::remove(&path)? } else { out += 1 }
        }
        if out >= TICKETS_MAX {
            return Err(TicketError::TooMany);
        }
        let no_random =
            |error: picket_shared::crypto::NoRandom| KeyfileError::Content(self.dir.clone(), error.to_string());
        let secret = random().map_err(no_random)?;
        self.keep(&self.path(&secret), ticket)?;
        Ok(secret)
    }

    /// Uses the ticket of this secret for this key.
    pub fn spend(&self, secret: &[u8; TOKEN_SECRET_BYTES], key: PublicKey, now_s: u64) -> Result<NodeId, TicketError> {
        let path = self.path(secret);
        let mut ticket = match read(&path) {
            Err(KeyfileError::Missing(_)) => return Err(TicketError::Unknown),
            ticket => ticket?,
        };
        if ticket.expires_s <= now_s {
            return Err(TicketError::Expired);
        }
        match ticket.key {
            Some(used_by) if used_by != key => Err(TicketError::Spent),
            Some(_) => Ok(ticket.node),
            None => {
                ticket.key = Some(key);
                self.keep(&path, &ticket)?;
                Ok(ticket.node)
            }
        }
    }

    /// Takes back the tickets of a name that nobody has used; how many. A device that is revoked must not come back by one.
    pub fn withdraw(&self, node: &NodeId) -> Result<usize, KeyfileError> {
        let of_node: Vec<_> = self.list()?.into_iter().filter(|(_, ticket)| ticket.node == *node).collect();
        of_node.iter().try_for_each(|(path, _)| keyfile::remove(path))?;
        Ok(of_node.len())
    }

    /// All that are out, with their files.
    pub fn list(&self) -> Result<Vec<(PathBuf, Ticket)>, KeyfileError> {
        let denied = |error: std::io::Error| KeyfileError::Disk(self.dir.clone(), error.to_string());
        let mut found = Vec::new();
        for file in fs::read_dir(&self.dir).map_err(denied)? {
            let path = file.map_err(denied)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let ticket = read(&path)?;
                found.push((path, ticket));
            }
        }
        Ok(found)
    }

    fn path(&self, secret: &[u8; TOKEN_SECRET_BYTES]) -> PathBuf {
        self.dir.join(format!("{}.json", Token::digest(secret)))
    }

    fn keep(&self, path: &Path, ticket: &Ticket) -> Result<(), KeyfileError> {
        keyfile::write_secret(path, &serde_json::to_vec(ticket).expect("names and numbers"))
    }
}

fn read(path: &Path) -> Result<Ticket, KeyfileError> {
    let damaged = |error: serde_json::Error| {
        KeyfileError::Content(path.to_owned(), format!("is damaged ({error}); remove it and make a new token"))
    };
    serde_json::from_str(&keyfile::read_secret(path)?).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(expires_s: u64) -> Ticket {
        Ticket { node: NodeId::new("edge").unwrap(), expires_s, key: None }
    }

    #[test]
    fn a_ticket_admits_one_key_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = Tickets::in_dir(dir.path().join("tickets")).unwrap();
        let secret = tickets.write(&ticket(100), 0).unwrap();
        let (mine, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
        assert_eq!(tickets.spend(&[0; 16], mine, 1), Err(TicketError::Unknown));
        assert_eq!(tickets.spend(&secret, mine, 100), Err(TicketError::Expired));
        assert_eq!(tickets.spend(&secret, mine, 1).unwrap().as_str(), "edge");
        assert_eq!(tickets.spend(&secret, mine, 99).unwrap().as_str(), "edge", "the answer was lost");
        assert_eq!(tickets.spend(&secret, other, 99), Err(TicketError::Spent));
        assert_eq!(tickets.spend(&secret, mine, 100), Err(TicketError::Expired));
        let kept = fs::read_dir(dir.path().join("tickets")).unwrap().next().unwrap().unwrap().path();
        let all = format!("{} {}", kept.display(), fs::read_to_string(&kept).unwrap());
        assert!(!all.contains(&picket_shared::crypto::hex(&secret)), "{all}");
    }

    #[test]
    fn tickets_are_bounded_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = Tickets::in_dir(dir.path().join("tickets")).unwrap();
        for _ in 0..TICKETS_MAX {
            tickets.write(&ticket(100), 0).unwrap();
        }
        assert_eq!(tickets.write(&ticket(100), 99), Err(TicketError::TooMany));
        tickets.write(&ticket(200_000), 101 + DAY_S).unwrap();
        assert_eq!(tickets.list().unwrap().len(), 1);
        assert_eq!(tickets.withdraw(&NodeId::new("other").unwrap()), Ok(0));
        assert_eq!(tickets.withdraw(&NodeId::new("edge").unwrap()), Ok(1));
    }
}
