//! What a source is: its URL, told apart by scheme, and shown without its secrets.
//!
//! Cameras carry user names, passwords and tokens in their URLs. They leave this file in two ways only: to the decoder's
//! command line, or made unreadable. Nothing here opens a file or a socket.

use std::fmt;
use std::path::PathBuf;

use picket_shared::redact;

use super::negotiate::Wish;
use super::pixels::Layout;
use super::synthetic::Scene;

/// Shorter ones are looked for inside URLs only: elsewhere they would make every sentence unreadable.
const SECRET_BYTES_MIN: usize = 3;

/// Longest source: a decoder reads it from a pipe, which holds this in one piece.
const SOURCE_BYTES_MAX: usize = 4096;
/// Frames a second that may be asked for.
const FPS: std::ops::RangeInclusive<f64> = 0.1..=240.0;
/// What there is, for whoever wrote something else.
const KINDS: &str =
    "file:/path, rtsp://…, http://…, https://…, v4l:/dev/video0, camera:0, images:/folder and synthetic:";

/// A source's URL, as configured. Shown and logged, it never tells a user name, a password or a query.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct SourceUrl(String);

/// A source by its kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// A video file. It ends.
    File(PathBuf),
    /// A stream from the network (`rtsp`, `http`, `https`), by its scheme. It is expected to go on for ever.
    Stream(&'static str),
    /// A camera of this machine, by its Video4Linux device.
    V4l(PathBuf, Wish),
    /// A camera of this machine, by its number or a part of its name.
    Camera(String, Wish),
    /// A folder of pictures, and their rate where the URL says one. It ends.
    Images(PathBuf, Option<f64>),
    /// A drawn scene. It goes on for ever.
    Synthetic(Scene),
}

impl Source {
    /// Whether it ends by itself; a live one is expected to go on for ever, and is waited for where it is not there.
    pub(super) fn is_finite(&self) -> bool {
        matches!(self, Source::File(_) | Source::Images(..))
    }

    /// Whether a sensor is behind it, whose noise makes each picture differ from the last.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Source::Stream(_) | Source::V4l(..) | Source::Camera(..))
    }
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
        if text.len() > SOURCE_BYTES_MAX || text.contains(char::is_control) {
            return Err(format!("the source has a control character or more than {SOURCE_BYTES_MAX} bytes; check it"));
        }
        let path = |path: &str| match path {
            "" => Err(format!("the source is empty; write {KINDS}")),
            path => Ok(PathBuf::from(path)),
        };
        let Some((scheme, rest)) = scheme(text) else { return path(text).map(Source::File) };
        let wrong = |what: String| format!("the source \"{self}\": {what}");
        match (scheme.to_ascii_lowercase().as_str(), rest.strip_prefix("//")) {
            ("file", local) => path(local.filter(|path| path.starts_with('/')).unwrap_or(rest)).map(Source::File),
            ("rtsp", Some(_)) => Ok(Source::Stream("rtsp")),
            ("http", Some(_)) => Ok(Source::Stream("http")),
            ("https", Some(_)) => Ok(Source::Stream("https")),
            ("v4l", None) => Ask::of(rest).and_then(Ask::v4l).map_err(wrong),
            ("camera", None) => Ask::of(rest).and_then(Ask::camera).map_err(wrong),
            ("images", None) => Ask::of(rest).and_then(Ask::images).map_err(wrong),
            ("synthetic", None) => Ask::of(rest).and_then(Ask::synthetic).map_err(wrong),
            _ => Err(format!("the source \"{self}\" begins with \"{scheme}:\", which is not known; there are {KINDS}")),
        }
    }

    /// The word for its kind, as URLs begin with; a sentence where there is none such.
    pub(crate) fn scheme(&self) -> Result<&'static str, String> {
        Ok(match self.kind()? {
            Source::File(_) => "file",
            Source::Stream(scheme) => scheme,
            Source::V4l(..) => "v4l",
            Source::Camera(..) => "camera",
            Source::Images(..) => "images",
            Source::Synthetic(_) => "synthetic",
        })
    }

    /// Where a stream comes from: a host's name or address, and a port.
    pub(crate) fn host(&self) -> Option<(String, u16)> {
        let Ok(Source::Stream(scheme)) = self.kind() else { return None };
        let (_, rest) = self.0.split_once("://")?;
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let place = place.split(['/', '?', '#']).next().unwrap_or_default();
        let port = match scheme {
            "rtsp" => 554,
            "http" => 80,
            _ => 443,
        };
        // An address of IPv6 stands in brackets.
        let (host, after) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, after)) => (host, after.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = after.map_or(Some(port), |port| port.parse().ok())?;
        Some((host.to_owned(), port)).filter(|_| !host.is_empty())
    }

    /// The user's name and the password in front of the host, if there are any.
    pub(crate) fn login(&self) -> Option<&str> {
        Some(self.0.split_once("://")?.1.rsplit_once('@')?.0)
    }

    /// The same place under another login, or under none.
    pub(crate) fn with_login(&self, login: Option<&str>) -> SourceUrl {
        let Some((scheme, rest)) = self.0.split_once("://") else { return self.clone() };
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let login = login.map(|login| format!("{login}@")).unwrap_or_default();
        SourceUrl(format!("{scheme}://{login}{place}"))
    }

    /// The same place for those who have a login of their own: without this one, and without what opens it in its parameters.
    pub(crate) fn for_others(&self) -> SourceUrl {
        SourceUrl(redact::without_secret_parameters(&self.with_login(None).0))
    }

    /// Whether both are the same place, whoever opens it. One of which not all can be told is like no other.
    pub(crate) fn is_like(&self, other: &SourceUrl) -> bool {
        let (mine, theirs) = (self.for_others(), other.for_others());
        mine == theirs && !mine.0.contains("***")
    }

    /// The URL with its secrets: for a command line only.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// Makes this URL's secrets, and those of every other URL in the text, unreadable.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets() {
            text = text.replace(secret, "***");
        }
        redact::text(&text)
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

/// What stands behind a scheme of ours: a name, and behind a question mark what is asked of it.
#[derive(Default)]
struct Ask<'a> {
    name: &'a str,
    size: Option<(u32, u32)>,
    fps: Option<f64>,
    layout: Option<Layout>,
    people: Option<u32>,
    seed: Option<u64>,
}

impl<'a> Ask<'a> {
    fn of(text: &'a str) -> Result<Ask<'a>, String> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let mut ask = Ask { name, ..Ask::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bad = |expect: &str| format!("{key} is \"{value}\" and must be {expect}");
            match key {
                "size" => {
                    let sides = value.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
                    ask.size = Some(sides.ok_or_else(|| bad("like 1280x720"))?);
                }
                "fps" => {
                    let fps = value.parse().ok().filter(|fps| FPS.contains(fps));
                    ask.fps = Some(fps.ok_or_else(|| bad("0.1 to 240"))?);
                }
                "format" => {
                    let known = |layout: &Layout| layout.fourcc().eq_ignore_ascii_case(value);
                    let layout = Layout::ALL.into_iter().find(known);
                    ask.layout = Some(layout.ok_or_else(|| bad("NV12, YUYV, MJPG or GREY"))?);
                }
                "people" => ask.people = Some(value.parse().map_err(|_| bad("a number"))?),
                "seed" => ask.seed = Some(value.parse().map_err(|_| bad("a number"))?),
                _ => return Err(format!("\"{key}\" is not known; there are size, fps, format, people and seed")),
            }
        }
        Ok(ask)
    }

    fn v4l(self) -> Result<Source, String> {
        if !cfg!(feature = "v4l") {
            return Err("this program was built without the feature v4l; build it with that".to_owned());
        }
        if !self.name.starts_with('/') {
            return Err("name a device, as in v4l:/dev/video0".to_owned());
        }
        Ok(Source::V4l(self.name.into(), self.wish()?))
    }

    fn camera(self) -> Result<Source, String> {
        if !cfg!(feature = "camera") {
            return Err(
                "this program was built without the feature camera; build it with that, or use v4l:/dev/video0 \
                        for a camera on Linux"
                    .to_owned(),
            );
        }
        if self.name.is_empty() {
            return Err("name a camera by its number or a part of its name, as in camera:0".to_owned());
        }
        Ok(Source::Camera(self.name.to_owned(), self.wish()?))
    }

    fn images(self) -> Result<Source, String> {
        self.only(&["fps"])?;
        if self.name.is_empty() {
            return Err("name a folder of pictures".to_owned());
        }
        Ok(Source::Images(self.name.into(), self.fps))
    }

    fn synthetic(self) -> Result<Source, String> {
        self.only(&["size", "fps", "people", "seed"])?;
        if !self.name.is_empty() {
            return Err("a drawn scene has no name; write synthetic:?people=3".to_owned());
        }
        let default = Scene::default();
        let scene = Scene {
            people: self.people.unwrap_or(default.people),
            seed: self.seed.unwrap_or(default.seed),
            fps: self.fps.unwrap_or(default.fps),
            size: self.size.unwrap_or(default.size),
        };
        scene.check().map(|()| Source::Synthetic(scene))
    }

    fn wish(&self) -> Result<Wish, String> {
        self.only(&["size", "fps", "format"])?;
        let default = Wish::default();
        let (size, fps) = (self.size.unwrap_or(default.size), self.fps.unwrap_or(default.fps));
        Ok(Wish { size, fps, layout: self.layout })
    }

    /// Refuses what this kind of source does not know.
    fn only(&self, known: &[&str]) -> Result<(), String> {
        let asked = [
            ("size", self.size.is_some()),
            ("fps", self.fps.is_some()),
            ("format", self.layout.is_some()),
            ("people", self.people.is_some()),
            ("seed", self.seed.is_some()),
        ];
        match asked.iter().find(|(key, is_asked)| *is_asked && !known.contains(key)) {
            Some((key, _)) => Err(format!("{key} cannot be asked of it, only {}", known.join(", "))),
            None => Ok(()),
        }
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
            ("concat:a|b", None),
            ("v4l://dev/video0", None),
        ] {
            let kind = SourceUrl::from(text).kind();
            if let Err(sentence) = &kind {
                assert!(sentence.contains("file:/path, rtsp://…"), "{sentence}");
            }
            assert_eq!(kind.ok(), expect, "{text}");
        }
    }

    #[test]
    fn our_own_kinds_say_what_is_asked_of_them_or_why_not() {
        let wish = Wish { size: (640, 480), fps: 12.5, layout: Some(Layout::Mjpeg) };
        let scene = Scene { people: 9, seed: 7, fps: 5.0, size: (320, 240) };
        for (text, expect) in [
            ("images:/pictures", Source::Images("/pictures".into(), None)),
            ("images:a b?fps=30", Source::Images("a b".into(), Some(30.0))),
            ("synthetic:", Source::Synthetic(Scene::default())),
            ("synthetic:?people=9&seed=7&fps=5&size=320x240", Source::Synthetic(scene)),
            #[cfg(feature = "v4l")]
            ("v4l:/dev/video0", Source::V4l("/dev/video0".into(), Wish::default())),
            #[cfg(feature = "v4l")]
            ("v4l:/dev/video0?size=640x480&fps=12.5&format=mjpg", Source::V4l("/dev/video0".into(), wish)),
            #[cfg(feature = "camera")]
            ("camera:HD Webcam", Source::Camera("HD Webcam".into(), Wish::default())),
        ] {
            assert_eq!(SourceUrl::from(text).kind(), Ok(expect), "{text}");
        }
        let _ = wish;
        for (text, expect) in [
            ("images:", "name a folder"),
            ("images:/p?size=1x1", "size cannot be asked of it, only fps"),
            ("synthetic:street", "has no name"),
            ("synthetic:?people=many", "people is \"many\" and must be a number"),
            ("synthetic:?people=65", "people is 65 and must be 0 to 64"),
            ("synthetic:?size=9000x9000", "size is 9000x9000"),
            ("synthetic:?fps=nan", "fps is \"nan\" and must be 0.1 to 240"),
            ("synthetic:?speed=3", "\"speed\" is not known; there are size, fps"),
            #[cfg(feature = "v4l")]
            ("v4l:video0", "as in v4l:/dev/video0"),
            #[cfg(feature = "v4l")]
            ("v4l:/dev/video0?format=h264", "must be NV12, YUYV, MJPG or GREY"),
            #[cfg(not(feature = "v4l"))]
            ("v4l:/dev/video0", "without the feature v4l"),
            #[cfg(not(feature = "camera"))]
            ("camera:0", "without the feature camera"),
            ("rtsp://camera/\nfile '/etc/passwd'", "a control character"),
        ] {
            let error = SourceUrl::from(text).kind().unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        }
    }

    #[test]
    fn the_host_of_a_stream_and_its_login_are_told_apart() {
        for (url, host, login, without) in [
            ("rtsp://a:b@c/1?x=1", Some(("c", 554)), Some("a:b"), "rtsp://c/1?x=1"),
            ("rtsp://a:p@ss@c:8554", Some(("c", 8554)), Some("a:p@ss"), "rtsp://c:8554"),
            ("http://c?x=1", Some(("c", 80)), None, "http://c?x=1"),
            ("https://[fe80::1]:81/v", Some(("fe80::1", 81)), None, "https://[fe80::1]:81/v"),
            ("http://c:99999/", None, None, "http://c:99999/"),
            ("http:///v", None, None, "http:///v"),
            ("/v.mp4", None, None, "/v.mp4"),
            ("v4l:/dev/video0", None, None, "v4l:/dev/video0"),
        ] {
            let url = SourceUrl::from(url);
            assert_eq!(url.host(), host.map(|(host, port)| (host.to_owned(), port)), "{url}");
            assert_eq!(url.login(), login, "{url}");
            let bare = url.with_login(None);
            assert_eq!(bare.secret(), without);
            assert_eq!(bare.with_login(login), url);
        }
    }

    #[test]
    fn others_are_told_of_a_place_and_of_nothing_that_opens_it() {
        let is_like = |one: &str, other: &str| SourceUrl::from(one).is_like(&SourceUrl::from(other));
        for (url, told) in [
            ("rtsp://a:b@c/1?channel=1", "rtsp://c/1?channel=1"),
            ("http://a:b@c/1?token=x&channel=1", "http://c/1?channel=1"),
            ("rtsp://c/user=a_password=b_channel=1.sdp", "rtsp://c/user=***"),
            ("/v.mp4", "/v.mp4"),
        ] {
            assert_eq!(SourceUrl::from(url).for_others().secret(), told);
        }
        assert!(is_like("http://a:b@c/1?token=x&channel=1", "http://c/1?channel=1"));
        assert!(!is_like("http://c/1?channel=2", "http://c/1?channel=1"));
        assert!(!is_like("rtsp://c/user=a_password=b_channel=1.sdp", "rtsp://c/user=a_password=b_channel=1.sdp"));
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
