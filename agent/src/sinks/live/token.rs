//! The live view's token: made at the first start, kept where only the agent's user can read it, and asked of everybody.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, Uri, header};
use picket_shared::crypto::{same_secret, secret_hex};

/// The token's name in the data directory.
const FILE: &str = "live.token";
/// Only the owner may read and write it.
const MODE: u32 = 0o600;
/// Random bytes in a token: nobody guesses them.
const TOKEN_BYTES: usize = 32;
/// A token that somebody wrote there has at least so many characters, and at most.
const CHARS: std::ops::RangeInclusive<usize> = 32..=256;

/// What came with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// The token, in the header or in the cookie.
    Right,
    /// The token, in the address: it must not stay there.
    InAddress,
    /// None, or another.
    Wrong,
}

/// The token, and what it is called in a browser.
pub(super) struct Token {
    secret: String,
    cookie: String,
}

impl Token {
    /// The token of this data directory, made if there is none; and where it lies. `port` tells the cookies of two agents
    /// on one machine apart, which a browser would not.
    pub(super) fn open(data_dir: &Path, port: u16) -> Result<(Token, PathBuf), String> {
        let path = data_dir.join(FILE);
        let wrong = |error: std::io::Error| format!("{} cannot be used ({error}); check its owner", path.display());
        let secret = match fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(data_dir, &path)?,
            Err(error) => return Err(wrong(error)),
        };
        if !CHARS.contains(&secret.len()) || !secret.chars().all(|c| c.is_ascii_alphanumeric()) {
            let (least, most) = (CHARS.start(), CHARS.end());
            return Err(format!(
                "{} holds no token of {least} to {most} letters and digits; delete it, and a new one is made",
                path.display()
            ));
        }
        let mode = fs::metadata(&path).map_err(wrong)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!("{} could be read by others (mode {mode:o}); it no longer can", path.display());
            fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).map_err(wrong)?;
        }
        Ok((Token { secret, cookie: format!("picket-live-{port}") }, path))
    }

    /// Whether a request may see anything.
    pub(super) fn given(&self, uri: &Uri, headers: &HeaderMap) -> Given {
        let same = |text: &str| same_secret(text.as_bytes(), self.secret.as_bytes());
        if let Some(token) = uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("token=")))
        {
            return if same(token) { Given::InAddress } else { Given::Wrong };
        }
        let texts = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut bearers = texts(header::AUTHORIZATION).filter_map(|text| text.strip_prefix("Bearer "));
        let cookies = texts(header::COOKIE).flat_map(|text| text.split(';'));
        let mut ours = cookies.filter_map(|cookie| cookie.trim().strip_prefix(&self.cookie)?.strip_prefix('='));
        if bearers.any(same) || ours.any(same) { Given::Right } else { Given::Wrong }
    }

    /// What makes a browser remember it: out of scripts' reach, and sent to this page only.
    pub(super) fn cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.secret)
    }
}

/// Writes a new token whole or not at all.
fn make(data_dir: &Path, path: &Path) -> Result<String, String> {
    let secret = secret_hex::<TOKEN_BYTES>().map_err(|error| error.to_string())?;
    let part = data_dir.join(format!("{FILE}.part"));
    let write = || {
        fs::create_dir_all(data_dir)?;
        let _ = fs::remove_file(&part);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(&part)?;
        writeln!(file, "{secret}")?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|error| format!("{} cannot be written ({error}); check the disk and its owner", path.display()))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("new");
        let (first, path) = Token::open(&data_dir, 1).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!((first.secret.len(), mode()), (64, 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let (again, _) = Token::open(&data_dir, 2).unwrap();
        assert_eq!((again.secret, mode()), (first.secret, 0o600));
        for bad in ["", "short", &"x ".repeat(40), &"x".repeat(300)] {
            fs::write(&path, bad).unwrap();
            assert!(Token::open(&data_dir, 1).err().unwrap().contains("delete it, and a new one is made"), "{bad}");
        }
    }

    #[test]
    fn only_the_token_opens_and_from_the_address_it_goes_at_once() {
        let token = Token { secret: "a".repeat(64), cookie: "picket-live-8091".into() };
        let (right, wrong) = ("a".repeat(64), "b".repeat(64));
        let cookie = |name: &str, value: &str| format!("x=y; {name}={value}; z=1");
        for (uri, bearer, cookies, expect) in [
            ("/".to_owned(), None, None, Given::Wrong),
            (format!("/?token={right}"), None, None, Given::InAddress),
            (format!("/?a=b&token={right}"), None, None, Given::InAddress),
            (format!("/?token={wrong}"), Some(format!("Bearer {right}")), None, Given::Wrong),
            ("/?token=".to_owned(), None, None, Given::Wrong),
            ("/".to_owned(), Some(format!("Bearer {right}")), None, Given::Right),
            ("/".to_owned(), Some(format!("Bearer {wrong}")), None, Given::Wrong),
            ("/".to_owned(), Some("Bearer ".to_owned()), None, Given::Wrong),
            ("/".to_owned(), Some(format!("Basic {right}")), None, Given::Wrong),
            ("/".to_owned(), None, Some(cookie("picket-live-8091", &right)), Given::Right),
            ("/".to_owned(), None, Some(cookie("picket-live-8091", &wrong)), Given::Wrong),
            ("/".to_owned(), None, Some(cookie("picket-live-80911", &right)), Given::Wrong),
        ] {
            let mut headers = HeaderMap::new();
            let value = |text: String| HeaderValue::from_str(&text).unwrap();
            bearer.clone().map(|text| headers.insert(header::AUTHORIZATION, value(text)));
            cookies.clone().map(|text| headers.insert(header::COOKIE, value(text)));
            assert_eq!(token.given(&uri.parse().unwrap(), &headers), expect, "{uri} {bearer:?} {cookies:?}");
        }
    }
}
