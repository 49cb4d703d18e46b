//! The one text that a person carries from the coordinator to a new device: where to enrol, whom to trust there, and a secret
//! that admits one device once. Pure.

use crate::crypto::{from_hex, hex, sha256};

const BEGINS: &str = "picket://";
/// Bytes of the secret: nobody guesses 128 bits.
pub const TOKEN_SECRET_BYTES: usize = 16;
/// Longest token: a host name has at most 253 characters.
pub const TOKEN_CHARS_MAX: usize = 400;

/// An admission for one device.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Where the door is: host name or address, and port.
    pub door: Door,
    /// SHA-256 of the site's CA certificate.
    pub fingerprint: [u8; 32],
    /// What admits.
    pub secret: [u8; TOKEN_SECRET_BYTES],
}

/// Why a text is not a token. It does not repeat the text, which may be most of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a whole token; copy all of the line that `picket-coordinator enrol` printed, from picket:// to its end"
)]
pub struct TokenError;

impl Token {
    /// Reads a token; spaces around it do not matter.
    ///
    /// ```
    /// use picket_shared::trust::token::Token;
    /// let text = format!("picket://10.0.0.1:8444/{}/{}", "ab".repeat(32), "cd".repeat(16));
    /// let token = Token::parse(&format!(" {text}\n"))?;
    /// assert_eq!((token.door.host.as_str(), token.door.port), ("10.0.0.1", 8444));
    /// assert_eq!(token.text(), text);
    /// # Ok::<(), picket_shared::trust::token::TokenError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(BEGINS).filter(|_| text.len() <= TOKEN_CHARS_MAX).ok_or(TokenError)?;
        let [door, fingerprint, secret] = rest.split('/').collect::<Vec<_>>().try_into().map_err(|_| TokenError)?;
        Ok(Token {
            door: Door::parse(door).ok_or(TokenError)?,
            fingerprint: from_hex(fingerprint).ok_or(TokenError)?,
            secret: from_hex(secret).ok_or(TokenError)?,
        })
    }

    /// The token as text: for the one who carries it, and for nothing that is kept.
    pub fn text(&self) -> String {
        format!("{BEGINS}{}/{}/{}", self.door, hex(&self.fingerprint), hex(&self.secret))
    }

    /// What may be kept of the secret: nobody comes back from it.
    pub fn digest(secret: &[u8; TOKEN_SECRET_BYTES]) -> String {
        hex(&sha256(secret))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token for {}", self.door)
    }
}

/// Where a door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Host name or address; an IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Door {
    /// Reads `host:port`.
    pub fn parse(text: &str) -> Option<Door> {
        let (host, port) = text.rsplit_once(':')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.[]:".contains(c);
        let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty() && bare && host.chars().all(plain)).then(|| Door { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_whole_is_refused_without_being_repeated() {
        let door = Door { host: "[fd00::1]".into(), port: 8444 };
        let token = Token { door, fingerprint: [7; 32], secret: [9; 16] };
        let text = token.text();
        assert_eq!(Token::parse(&text), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), "Token for [fd00::1]:8444");
        for wrong in [
            "",
            &text[..text.len() - 1],
            &text[1..],
            &format!("{text}0"),
            &format!("{text}/"),
            &text.replace("8444", "0"),
            &text.replace("8444", "84444"),
            &text.replace("[fd00::1]", "fd00::1"),
            &text.replace("[fd00::1]", ""),
            &text.replace("[fd00::1]", "a@b"),
            &text.replace("[fd00::1]", &"h".repeat(TOKEN_CHARS_MAX)),
        ] {
            assert_eq!(Token::parse(wrong), Err(TokenError), "{wrong}");
        }
        assert!(!TokenError.to_string().contains("0909"));
    }
}
