//! From the bytes that travelled to the file that they stand for. Each coding is one arm; what a device does not know it does
//! not ask for.
//!
//! A device decodes with it what it fetched, and whoever packs a release tries it beforehand. Pure. Nobody is
//! believed about lengths: no coding gives more than the file has by its manifest, whatever its bytes say.

use super::manifest::{Artifact, Encoding, coding};
use crate::compress;
use crate::crypto::Digest;

/// The encoding to ask for: the smallest of those that this device can use, whose base `has` says to be here.
pub fn choose<'a>(artifact: &'a Artifact, avoid: &[Digest], has: impl Fn(&Digest) -> bool) -> Option<&'a Encoding> {
    let usable = |encoding: &&Encoding| {
        knows(&encoding.coding) && !avoid.contains(&encoding.sha256) && encoding.from.is_none_or(|from| has(&from))
    };
    artifact.encodings.iter().filter(usable).min_by_key(|encoding| encoding.length)
}

fn knows(name: &str) -> bool {
    [coding::FULL, coding::ZSTD, coding::DEEP, coding::DELTA].contains(&name)
}

/// The file that these bytes stand for. `base` gives the file that an encoding builds on. The error is the end of a sentence.
pub fn decode(
    artifact: &Artifact,
    encoding: &Encoding,
    bytes: Vec<u8>,
    base: impl Fn(&Digest) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, String> {
    let length = || usize::try_from(artifact.length).map_err(|_| "is larger than this device's memory".to_owned());
    match encoding.coding.as_str() {
        coding::FULL => Ok(bytes),
        coding::ZSTD => {
            compress::unzstd(&bytes, length()?).map_err(|_| "is no Zstandard frame that can be read".into())
        }
        coding::DEEP | coding::DELTA => {
            let base = encoding.from.and_then(|from| base(&from));
            compress::decode(&bytes, base.as_deref(), length()?).map_err(|error| error.to_string())
        }
        other => Err(format!("is coded as {other}, which this program does not know; upgrade it")),
    }
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

    #[test]
    fn weights_in_few_bytes_come_back_alone_and_on_top_of_what_is_here() {
        use crate::compress::{Segment, Weights};
        let weights = |from| Weights { halves: true, numbers: vec![3, -1, 0, 2], from, ..Weights::default() };
        let alone = compress::encode(&[Segment::Weights(weights(None))]).unwrap();
        let file = decode(&artifact(8, vec![]), &encoding("deep", None, 1), alone.clone(), |_| None).unwrap();
        let of =
            |values: [f32; 4]| values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(file, of([3.0, -1.0, 0.0, 2.0]));
        let delta = compress::encode(&[Segment::Weights(weights(Some(0)))]).unwrap();
        let here = |digest: &Digest| (*digest == Digest([7; 32])).then(|| file.clone());
        let decoded = |from| decode(&artifact(8, vec![]), &encoding("delta", from, 1), delta.clone(), here);
        assert_eq!(decoded(Some(7)), Ok(of([6.0, -2.0, 0.0, 4.0])));
        assert!(decoded(Some(8)).is_err_and(|why| why.contains("not here")));
        assert!(decode(&artifact(6, vec![]), &encoding("deep", None, 1), alone, |_| None).is_err(), "too long");
    }
}
