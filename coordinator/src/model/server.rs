//! Sends models in pieces to the devices that ask for them, from files that are known by their SHA-256. Which piece is next is
//! decided in [`super::blobs`]; who may run what is no matter here, because a device takes nothing that was not signed for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::crypto::Digest;
use picket_shared::ids::NodeId;
use picket_shared::limits::MODEL_BYTES_MAX;
use picket_shared::model::{Chunk, Want};
use picket_shared::mqtt::PublishError;
use picket_shared::topics::Topic;
use picket_shared::trust::verifier::Refusal;

use super::blobs::{Blobs, Due, Served};

/// How soon a piece is offered again that the MQTT client had no room for: what devices and people wait for goes first.
const BUSY_MS: u64 = 50;

/// All that is sent.
pub struct Server {
    folder: PathBuf,
    blobs: Blobs,
    /// Open files; as many as blobs that are served at once.
    files: BTreeMap<Digest, File>,
    not_before_ms: u64,
}

impl Server {
    /// Sends files of this folder, named by their SHA-256, at most so many bytes a second.
    pub fn new(folder: PathBuf, bytes_per_s: u64) -> Server {
        Server { folder, blobs: Blobs::new(bytes_per_s), files: BTreeMap::new(), not_before_ms: 0 }
    }

    /// A device asks for pieces of a file.
    pub fn want(&mut self, now: Now, node: &NodeId, payload: &[u8]) -> Result<(), Refusal> {
        let Want { sha256, chunk_bytes, ranges } =
            codec::decode(payload).map_err(|error| (error.word(), format!("{error}, from {node}")))?;
        let length = self.length(&sha256).map_err(|error| {
            ("model_unknown", format!("{node} asks for the file {sha256}, which is not here ({error})"))
        })?;
        self.blobs.want(now.mono_ms, node, (sha256, chunk_bytes), length, &ranges)
    }

    /// Sends the next piece, where it is time for one; whether another may follow at once.
    pub fn send(&mut self, now: Now, publish: impl FnOnce(&Topic, Vec<u8>) -> Result<(), PublishError>) -> bool {
        if now.mono_ms < self.not_before_ms {
            return false;
        }
        let Some(due) = self.blobs.next(now.mono_ms) else {
            return false;
        };
        let (digest, _) = due.blob;
        let chunk = match self.read(&due) {
            Ok(bytes) => Chunk { index: due.index, bytes: bytes.into() },
            Err(error) => {
                tracing::error!("the file of a model, {digest}, cannot be read ({error}); publish the model again");
                self.files.remove(&digest);
                self.blobs.not_sent(due);
                self.blobs.forget(Some(&due.blob));
                return false;
            }
        };
        let payload = codec::encode(&chunk).expect("a piece of ours keeps its own bounds");
        match publish(&Topic::Blob(digest), payload) {
            Ok(()) => true,
            Err(_) => {
                self.blobs.not_sent(due);
                self.not_before_ms = now.mono_ms + BUSY_MS;
                false
            }
        }
    }

    /// Another coordinator sends from here on, or nobody can be reached: who still wants something asks again.
    pub fn rest(&mut self) {
        self.blobs.forget(None);
        self.files.clear();
    }

    /// When [`Server::send`] may have something to send.
    pub fn next_wakeup_ms(&self, now: Now) -> Option<u64> {
        self.blobs.next_wakeup_ms(now.mono_ms).map(|due_ms| due_ms.max(self.not_before_ms))
    }

    /// What has been sent.
    pub fn served(&self) -> Served {
        self.blobs.served()
    }

    fn length(&mut self, digest: &Digest) -> io::Result<u64> {
        let about = std::fs::metadata(self.folder.join(digest.to_string()))?;
        match about.len() {
            length if about.is_file() && (1..=MODEL_BYTES_MAX as u64).contains(&length) => Ok(length),
            length => Err(io::Error::other(format!("it is no file of a model, with {length} bytes"))),
        }
    }

    fn read(&mut self, due: &Due) -> io::Result<Vec<u8>> {
        let (digest, _) = due.blob;
        let file = match self.files.remove(&digest) {
            Some(file) => file,
            None => File::open(self.folder.join(digest.to_string()))?,
        };
        if self.files.len() >= super::blobs::SERVED_MAX {
            self.files.clear();
        }
        let mut bytes = vec![0; due.bytes as usize];
        file.read_exact_at(&mut bytes, due.offset)?;
        self.files.insert(digest, file);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: mono_ms }
    }

    #[test]
    fn a_file_comes_out_in_pieces_and_a_busy_client_is_offered_the_same_again() {
        let dir = tempfile::tempdir().unwrap();
        let file: Vec<u8> = (0..2_500u32).map(|n| n as u8).collect();
        let sha256 = Digest::of(&file);
        std::fs::write(dir.path().join(sha256.to_string()), &file).unwrap();
        let mut server = Server::new(dir.path().to_owned(), 1_000_000);
        let edge = NodeId::new("edge").unwrap();
        let want = |sha256: Digest, to: u32| {
            codec::encode(&Want { sha256, chunk_bytes: 1024, ranges: vec![(0, to)] }).unwrap()
        };
        server.want(now(0), &edge, &want(sha256, 2)).unwrap();
        let word = |refused: Result<(), Refusal>| refused.unwrap_err().0;
        assert_eq!(word(server.want(now(0), &edge, &want(Digest([0; 32]), 2))), "model_unknown");
        assert_eq!(word(server.want(now(0), &edge, &want(sha256, 3))), "model_want");
        assert_eq!(word(server.want(now(0), &edge, b"\x01what")), "malformed");
        let (mut got, mut busy) = (Vec::new(), 0);
        for at in 0..10_000 {
            server.send(now(at), |topic, payload| {
                assert_eq!(topic, &Topic::Blob(sha256));
                if at % 3 == 0 {
                    busy += 1;
                    return Err(PublishError::Busy);
                }
                let chunk: Chunk = codec::decode(&payload).unwrap();
                got.push(chunk.index);
                let from = chunk.index as usize * 1024;
                assert_eq!(chunk.bytes, file[from..(from + 1024).min(file.len())]);
                Ok(())
            });
        }
        assert_eq!((got, server.served().bytes), (vec![0, 1, 2], 2_500));
        assert!(busy > 0);
        // Its file is gone in the middle: nobody waits for it.
        server.want(now(20_000), &edge, &want(sha256, 2)).unwrap();
        std::fs::write(dir.path().join(sha256.to_string()), b"short").unwrap();
        server.rest();
        server
            .want(
                now(20_000),
                &edge,
                &codec::encode(&Want { sha256, chunk_bytes: 1024, ranges: vec![(0, 0)] }).unwrap(),
            )
            .unwrap();
        std::fs::remove_file(dir.path().join(sha256.to_string())).unwrap();
        assert!(!server.send(now(30_000), |_, _| panic!("there is nothing to send")));
        assert_eq!(server.next_wakeup_ms(now(30_000)), None);
    }
}
