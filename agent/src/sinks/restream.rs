//! Sends a camera's annotated pictures on as an RTSP stream, through an encoder child that records to a server.
//!
//! ffmpeg takes the address it sends to from its command line and from nowhere else, so every user of the machine can see
//! it there, with its password; whoever minds gives an `encoder` that reads `PICKET_URL` from its environment.

use serde::Deserialize;

use super::encoder::{Halt, Invocation, Target};
use super::words::{check_words, ffmpeg_reads_raw, filled};
use crate::capture::SourceUrl;
use picket_shared::config::within;

/// Where an encoder of the user's own finds the address.
const URL_VARIABLE: &str = "PICKET_URL";
/// Longest complaint that is repeated.
const COMPLAINT_CHARS_MAX: usize = 120;

/// What a complaint of ffmpeg holds, and what to do then.
const REMEDIES: [(&str, &str); 6] = [
    ("401 Unauthorized", "check user name and password in restream.url"),
    ("403 Forbidden", "check what the server allows this user"),
    ("404 ", "check the path in restream.url"),
    ("405 ", "the server does not take streams: set it up for recording (ANNOUNCE)"),
    ("Connection refused", "check that the server is on, and address and port in restream.url"),
    ("No route to host", "check that the server is on, and the address in restream.url"),
];

/// Where and how to send a stream on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `rtsp://server:8554/name`: a server that takes streams (MediaMTX, gst-rtsp-server in RECORD mode). A password in it
    /// can be seen in the list of processes while ffmpeg runs.
    pub url: SourceUrl,
    /// Most pictures a second. More takes more of the processor and of the network.
    #[serde(default = "default_fps")]
    pub fps: f64,
    /// Another encoder's command line, in place of ffmpeg's. It reads raw RGB pictures, 8 bits a channel, as they come,
    /// from its standard input, and finds the address in the environment variable `PICKET_URL`, which others cannot see;
    /// `{url}` stands for it too, where they can. `{width}`, `{height}` and `{fps}` stand for what they are.
    #[serde(default)]
    pub encoder: Option<Vec<String>>,
}

fn default_fps() -> f64 {
    10.0
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let url = self.url.secret();
        if !url.starts_with("rtsp://") || url.contains(|c: char| c.is_control() || c == ' ') {
            return Err(format!("restream.url is {}; write rtsp://server:8554/name", self.url));
        }
        within("restream.fps", self.fps, super::pace::FPS_MIN..=super::pace::FPS_MAX)?;
        check_words("restream.encoder", self.encoder.as_deref())
    }

    /// Whether others on this machine can see a password.
    pub fn shows_password(&self) -> bool {
        let words = self.encoder.as_deref();
        self.url.secret().contains('@') && words.is_none_or(|words| words.iter().any(|word| word.contains("{url}")))
    }
}

/// One stream.
pub(super) struct Stream(pub(super) Config);

impl Target for Stream {
    fn begin(&mut self, (width, height): (u32, u32)) -> Result<Invocation, Halt> {
        let Config { url, fps, encoder } = &self.0;
        let url = url.secret().to_owned();
        let words = match encoder {
            Some(words) => {
                let size = [("width", width.to_string()), ("height", height.to_string()), ("fps", fps.to_string())];
                filled(words, &[&size[..], &[("url", url.clone())]].concat())
            }
            None => {
                let mut words = ffmpeg_reads_raw(width, height, *fps);
                // Whoever joins waits for the next key frame.
                let ours = "-preset ultrafast -tune zerolatency -force_key_frames expr:gte(t,n_forced*2) -f rtsp \
                     -rtsp_transport tcp";
                words.extend(ours.split_whitespace().map(String::from));
                words.push(url.clone());
                words
            }
        };
        Ok(Invocation { words, env: Some((URL_VARIABLE, url)) })
    }

    fn explain(&self, what: &str, complaints: &[String]) -> Halt {
        let url = &self.0.url;
        let known = REMEDIES.iter().find(|(words, _)| complaints.iter().any(|line| line.contains(words)));
        let remedy = known.map_or("it is tried again", |(_, remedy)| remedy);
        // Secrets go first: in a complaint that was cut they could not be recognised.
        let said = |words: &str| complaints.iter().rev().find(|line| line.contains(words));
        let line = known.and_then(|(words, _)| said(words)).or(complaints.last());
        let last = line.map_or(String::new(), |line| {
            format!(", \"{}\"", url.redact(line).chars().take(COMPLAINT_CHARS_MAX).collect::<String>())
        });
        Halt::Wrong(format!("{url}: {what}{last}; {remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str, encoder: Option<&[&str]>) -> Config {
        let encoder = encoder.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        Config { url: url.into(), fps: 10.0, encoder }
    }

    #[test]
    fn what_is_no_address_to_send_to_is_refused_without_its_password() {
        assert_eq!(config("rtsp://u:p@server/name", None).check(), Ok(()));
        for url in ["http://u:geheim@server/name", "-y", "rtsp://u:geheim@server/na me"] {
            let refused = config(url, None).check().unwrap_err();
            assert!(refused.contains("write rtsp://server") && !refused.contains("geheim"), "{refused}");
        }
    }

    #[test]
    fn a_password_is_shown_to_nobody_but_where_the_encoder_leaves_no_other_way() {
        for (encoder, shown) in
            [(None, true), (Some(&["enc", "{url}"][..]), true), (Some(&["enc", "--url-from-environment"]), false)]
        {
            let config = config("rtsp://u:geheim@server/name", encoder);
            assert_eq!(config.shows_password(), shown);
            let Invocation { words, env } = Stream(config).begin((64, 48)).unwrap();
            assert_eq!(words.iter().any(|word| word.contains("geheim")), shown, "{words:?}");
            assert_eq!(env.unwrap().1, "rtsp://u:geheim@server/name");
        }
        let stream = Stream(config("rtsp://u:geheim@server/name", None));
        let line = "[tcp] Connection to tcp://server failed: Connection refused rtsp://u:geheim@server/name";
        let Halt::Wrong(sentence) = stream.explain("it ended", &[line.to_owned()]) else { panic!("it is no room") };
        assert!(sentence.contains("check that the server is on") && !sentence.contains("geheim"), "{sentence}");
    }
}
