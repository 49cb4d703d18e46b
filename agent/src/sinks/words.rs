//! Command lines of encoders: ours for ffmpeg, and those that the configuration gives in its place. Pure.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};

/// ffmpeg, from raw pictures that come when they come to H.264.
pub(super) fn ffmpeg_reads_raw(width: u32, height: u32, fps: f64) -> Vec<String> {
    let words = format!(
        "ffmpeg -nostdin -hide_banner -loglevel repeat+error -use_wallclock_as_timestamps 1 -f rawvideo -pixel_format rgb24 \
         -video_size {width}x{height} -framerate {fps} -i pipe:0 -an -fps_mode vfr \
         -vf crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0 -c:v libx264 -pix_fmt yuv420p -threads 1"
    );
    words.split_whitespace().map(String::from).collect()
}

/// The words with what `{name}` stands for.
pub(super) fn filled(words: &[String], known: &[(&str, String)]) -> Vec<String> {
    let fill = |word: &String| {
        known.iter().fold(word.clone(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
    };
    words.iter().map(fill).collect()
}

/// Refuses a command line without a program.
pub(super) fn check_words(key: &str, words: Option<&[String]>) -> Result<(), String> {
    match words {
        Some(words) if words.first().is_none_or(String::is_empty) => {
            Err(format!("{key} is empty; give a command line as a list of words, or leave it out for ffmpeg"))
        }
        _ => Ok(()),
    }
}

/// Reads a table, or a plain text that stands for a table: `whole` makes that of the quoted text.
pub(super) fn plain_or_table<'de, T, D>(
    deserializer: D,
    expecting: &'static str,
    whole: fn(&str) -> String,
) -> Result<T, D::Error>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de>,
{
    struct Either<T>(&'static str, fn(&str) -> String, PhantomData<T>);
    impl<'de, T: DeserializeOwned> Visitor<'de> for Either<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            let quoted = serde_json::to_string(text).map_err(E::custom)?;
            picket_shared::config::parse(&(self.1)(&quoted)).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Either(expecting, whole, PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_braces_is_filled_in() {
        let words = ["enc", "{width}x{height}", "--to={path}", "{unknown}"].map(String::from);
        let known = [("width", "64".to_owned()), ("height", "48".to_owned()), ("path", "/v d.mp4".to_owned())];
        assert_eq!(filled(&words, &known), ["enc", "64x48", "--to=/v d.mp4", "{unknown}"]);
    }
}
