//! What a source is: its URL, told apart by scheme, and shown without its secrets.
//!
//! Cameras carry user names, passwords and tokens in their URLs. They leave this file in two ways only: to the decoder's
//! command line, or made unreadable. Nothing here opens a file or a socket.

use std::fmt;
use std::path::PathBuf;

/// Shorter ones are looked for inside URLs only: elsewhere they would make every sentence unreadable.
const SECRET_BYTES_MIN: usize = 3;

/// A source's URL, as configured. Shown and logged, it never tells a user name, a password or a query.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct SourceUrl(String);

/// A source by its kind. Cameras, pictures and synthetic scenes will be further kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A video file. It ends.
    File(PathBuf),
    /// A stream from the network (`rtsp`, `http`, `https`), by its scheme. It is expected to go on for ever.
    Stream(&'static str),
}

impl<T: Into<String>> From<T> for SourceUrl {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redact(&self.0))
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl SourceUrl {
    /// Which kind of source this is, or a sentence that says which there are.
    pub(super) fn kind(&self) -> Result<Source, String> {
        let text = self.0.as_str();
        let file = |path: &str| match path {
            "" => Err("the source is empty; write file:/path, rtsp://…, http://… or https://…".to_owned()),
            path if path.contains('\0') => Err("the source has a zero byte in its path; check it".to_owned()),
            path => Ok(Source::File(PathBuf::from(path))),
        };
        let Some((scheme, rest)) = scheme(text) else { return file(text) };
        match (scheme.to_ascii_lowercase().as_str(), rest.strip_prefix("//")) {
            ("file", local) => file(local.filter(|path| path.starts_with('/')).unwrap_or(rest)),
            ("rtsp", Some(_)) => Ok(Source::Stream("rtsp")),
            ("http", Some(_)) => Ok(Source::Stream("http")),
            ("https", Some(_)) => Ok(Source::Stream("https")),
            _ => Err(format!(
                "the source \"{self}\" begins with \"{scheme}:\", which is not known; there are file:/path, rtsp://…, \
                 http://… and https://…"
            )),
        }
    }

    /// The URL with its secrets: for a command line only.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// Makes this URL's secrets, and those of every other URL in the text, unreadable.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets() {
            text = text.replace(secret, "***");
        }
        text.split(' ').map(redact_word).collect::<Vec<_>>().join(" ")
    }

    /// Parts of this URL that a program might print on their own.
    fn secrets(&self) -> Vec<&str> {
        let Some((_, rest)) = self.0.split_once("://") else { return Vec::new() };
        let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let password = user.split_once(':').map_or("", |(_, password)| password);
        let query = place.split_once('?').map_or("", |(_, query)| query);
        let mut secrets = vec![user, password, query];
        secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        secrets
    }
}

/// Everything up to the last `@` may be a password, whatever characters it has; a query may hold a token.
fn redact_word(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    match rest.split_once('?') {
        Some((rest, _)) => format!("{scheme}://{user}{rest}?***"),
        None => format!("{scheme}://{user}{rest}"),
    }
}

/// The scheme and what follows its colon; `None` for a plain path.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let word = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-'));
    word.then_some((scheme, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_its_scheme_or_refused_with_those_that_exist() {
        let file = |path: &str| Some(Source::File(path.into()));
        for (text, expect) in [
            ("/var/video.avi", file("/var/video.avi")),
            ("video.avi", file("video.avi")),
            ("./a:b.avi", file("./a:b.avi")),
            ("file:/var/video.avi", file("/var/video.avi")),
            ("file:///var/video.avi", file("/var/video.avi")),
            ("file:video.avi", file("video.avi")),
            ("rtsp://camera/1", Some(Source::Stream("rtsp"))),
            ("RTSP://camera/1", Some(Source::Stream("rtsp"))),
            ("http://camera/1", Some(Source::Stream("http"))),
            ("https://camera/1", Some(Source::Stream("https"))),
            ("", None),
            ("file:", None),
            ("rtsp:camera", None),
            ("v4l:/dev/video0", None),
            ("concat:a|b", None),
        ] {
            let kind = SourceUrl::from(text).kind();
            if let Err(sentence) = &kind {
                assert!(sentence.contains("file:/path, rtsp://…"), "{sentence}");
            }
            assert_eq!(kind.ok(), expect, "{text}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let long = "rtsp://admin:pa/s?s@w0rd@camera:554/live?token=abc";
        for (url, text, expect) in [
            (long, long, "rtsp://***@camera:554/live?***"),
            (long, "failed for user admin:pa/s?s@w0rd", "failed for user ***"),
            (long, "auth pa/s?s@w0rd refused", "auth *** refused"),
            (long, "GET /live?token=abc", "GET /live?***"),
            ("rtsp://camera", "moved to http://u:p@other/x: 404", "moved to http://***@other/x: 404"),
            ("/a.avi", "[tcp] 'rtsp://u:p@h/': refused", "[tcp] 'rtsp://***@h/': refused"),
            ("/a.avi", "plain words", "plain words"),
        ] {
            assert_eq!(SourceUrl::from(url).redact(text), expect);
        }
        let url = SourceUrl::from(long);
        for shown in [format!("{url}"), format!("{url:?}")] {
            assert!(!shown.contains("w0rd") && !shown.contains("admin") && !shown.contains("abc"), "{shown}");
        }
    }
}
