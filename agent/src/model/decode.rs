//! From the bytes that travelled to the file that they stand for. Each coding is one arm; what a device does not know it does
//! not ask for.
//!
//! Pure. Nobody is believed about lengths: no coding gives more than the file has by its manifest, whatever its bytes say.

use std::io::Read;

use picket_shared::crypto::Digest;
use picket_shared::model::{Artifact, Encoding, coding};
use ruzstd::decoding::StreamingDecoder;

/// The encoding to ask for: the smallest of those that this device can use, whose base `has` says to be here.
pub fn choose<'a>(artifact: &'a Artifact, avoid: &[Digest], has: impl Fn(&Digest) -> bool) -> Option<&'a Encoding> {
    let usable = |encoding: &&Encoding| {
        knows(&encoding.coding) && !avoid.contains(&encoding.sha256) && encoding.from.is_none_or(|from| has(&from))
    };
    artifact.encodings.iter().filter(usable).min_by_key(|encoding| encoding.length)
}

fn knows(name: &str) -> bool {
    [coding::FULL, coding::ZSTD].contains(&name)
}

/// The file that these bytes stand for. `base` gives the file that an encoding builds on. The error is the end of a sentence.
pub fn decode(
    artifact: &Artifact,
    encoding: &Encoding,
    bytes: Vec<u8>,
    _base: impl Fn(&Digest) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, String> {
    match encoding.coding.as_str() {
        coding::FULL => Ok(bytes),
        coding::ZSTD => unzstd(&bytes, artifact.length),
        other => Err(format!("is coded as {other}, which this program does not know; upgrade it")),
    }
}

/// RFC 8878.
fn unzstd(bytes: &[u8], length: u64) -> Result<Vec<u8>, String> {
    let wrong = |why: String| format!("is no Zstandard frame that can be read ({why})");
    let (mut rest, mut file) = (bytes, Vec::new());
    let decoder = StreamingDecoder::new(&mut rest).map_err(|error| wrong(error.to_string()))?;
    // One byte too many shows that it is too long; the rest of a bomb is never unpacked.
    decoder.take(length.saturating_add(1)).read_to_end(&mut file).map_err(|error| wrong(error.to_string()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn encoding(coding: &str, from: Option<u8>, length: u64) -> Encoding {
        let sha256 = Digest([length as u8; 32]);
        Encoding { coding: coding.into(), from: from.map(|byte| Digest([byte; 32])), sha256, length }
    }

    fn artifact(length: u64, encodings: Vec<Encoding>) -> Artifact {
        Artifact { sha256: Digest([0; 32]), length, encodings }
    }

    #[test]
    fn the_smallest_that_can_be_used_is_asked_for() {
        let all = vec![
            encoding("full", None, 100),
            encoding("zstd", None, 50),
            encoding("zstd", Some(7), 20),
            encoding("of-tomorrow", None, 3),
        ];
        let artifact = artifact(100, all);
        let chosen = |avoid: &[Digest], here: u8| {
            choose(&artifact, avoid, |from| *from == Digest([here; 32])).map(|encoding| encoding.length)
        };
        assert_eq!(chosen(&[], 7), Some(20));
        assert_eq!(chosen(&[], 8), Some(50), "what it builds on is not here");
        assert_eq!(chosen(&[Digest([50; 32])], 8), Some(100), "that one did not do");
        assert_eq!(chosen(&[Digest([50; 32]), Digest([100; 32])], 8), None);
    }

    #[test]
    fn what_was_compressed_comes_back_and_never_as_more_than_it_should_be() {
        let file: Vec<u8> = (0..200_000u32).map(|n| (n / 100) as u8).collect();
        let packed = compress_to_vec(&file[..], CompressionLevel::Fastest);
        assert!(packed.len() < file.len() / 2);
        let decoded = |length: usize, bytes: &[u8]| {
            let artifact = artifact(length as u64, vec![]);
            decode(&artifact, &encoding("zstd", None, bytes.len() as u64), bytes.to_vec(), |_| None)
        };
        assert_eq!(decoded(file.len(), &packed).as_deref(), Ok(&file[..]));
        // A bomb: it is read no further than one byte too far, and refused for its length afterwards.
        assert!(decoded(1_000, &packed).map_or(true, |file| file.len() == 1_001));
        for cut in [0, 1, 5, packed.len() / 2] {
            assert!(decoded(file.len(), &packed[..cut]).map_or(true, |got| got != file), "{cut}");
        }
        assert!(decode(&artifact(1, vec![]), &encoding("of-tomorrow", None, 1), vec![1], |_| None).is_err());
    }
}
