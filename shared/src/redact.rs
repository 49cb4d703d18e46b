//! Makes passwords in texts unreadable: people put them into addresses, also where none belongs, and what is wrong with an address is
//! told to everybody. Pure; it knows the form of addresses and no secret.

/// Names of parameters whose values open something: what cameras of many makers have in their addresses.
const SECRET_PARAMETERS: [&str; 12] =
    ["password", "passwd", "pass", "pwd", "psw", "user", "username", "usr", "token", "ticket", "key", "auth"];

/// A text in which every word that looks like an address shows neither a login nor what stands behind a question mark.
///
/// ```
/// use picket_shared::redact::text;
/// assert_eq!(text("moved to http://me:hush@camera/1?token=a: 404"), "moved to http://***@camera/1?*** 404");
/// assert_eq!(text("me:hush@camera"), "***@camera");
/// ```
pub fn text(text: &str) -> String {
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Everything up to the last `@` may be a password, whatever characters it has; a query may hold a token, and so may a path.
fn word(word: &str) -> String {
    let (before, rest) = match word.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        // A login without a scheme has a colon, unlike other words with an @.
        None if word.split_once('@').is_some_and(|(login, _)| login.contains(':')) => (String::new(), word),
        None => return word.to_owned(),
    };
    let (login, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    match rest.split_once('?') {
        Some((path, _)) => format!("{before}{login}{}?***", path_of(path)),
        None => format!("{before}{login}{}", path_of(rest)),
    }
}

/// Some cameras have user and password in the path: `/user=admin_password=hush_channel=1.sdp`. What follows may be part of it.
fn path_of(path: &str) -> String {
    let mut ends = path.match_indices('=').map(|(at, _)| at);
    let opens = |at: &usize| {
        // The name before it is as long as letters and digits go.
        let name = path[..*at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        SECRET_PARAMETERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
    };
    ends.find(opens).map_or_else(|| path.to_owned(), |at| format!("{}***", &path[..=at]))
}

/// An address without the parameters whose values open something: for those who have their own. Where they stand in the path, and
/// nobody can say how far they reach, what is left does not lead to the camera, and shows why.
///
/// ```
/// use picket_shared::redact::without_secret_parameters;
/// let url = "http://camera/live?channel=1&Token=a&user=me";
/// assert_eq!(without_secret_parameters(url), "http://camera/live?channel=1");
/// ```
pub fn without_secret_parameters(url: &str) -> String {
    let Some((place, query)) = url.split_once('?') else { return path_of(url) };
    let place = path_of(place);
    let opens = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        SECRET_PARAMETERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !opens(pair)).collect();
    if kept.is_empty() { place } else { format!("{place}?{}", kept.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_an_address_shows_no_login_and_no_query_and_other_words_stay() {
        for (given, expect) in [
            ("rtsp://admin:pa/s?s@w0rd@camera:554/live?token=abc", "rtsp://***@camera:554/live?***"),
            ("[tcp] 'rtsp://u:p@h/': refused", "[tcp] 'rtsp://***@h/': refused"),
            ("[http @ 0x55d0] HTTP error 401", "[http @ 0x55d0] HTTP error 401"),
            ("rtsp:me:hush@h/1", "***@h/1"),
            ("mail somebody@example.org", "mail somebody@example.org"),
            ("rtsp://h/user=admin_password=hush_channel=1.sdp?real_stream", "rtsp://h/user=***?***"),
            ("rtsp://h/User=a&PASSWORD=hush", "rtsp://h/User=***"),
            ("rtsp://h/live/1", "rtsp://h/live/1"),
            ("rtsp://h/monkey=1/über=2", "rtsp://h/monkey=1/über=2"),
            ("plain words", "plain words"),
            ("", ""),
        ] {
            assert_eq!(text(given), expect);
        }
    }

    #[test]
    fn an_address_keeps_what_opens_nothing() {
        for (given, expect) in [
            ("rtsp://h/live?channel=1&subtype=0", "rtsp://h/live?channel=1&subtype=0"),
            ("http://h/v?pwd=x", "http://h/v"),
            ("http://h/v?a=1&PassWord=x&b=2", "http://h/v?a=1&b=2"),
            ("http://h/v?", "http://h/v?"),
            ("http://h/v", "http://h/v"),
            ("rtsp://h/user=a_password=b_channel=1.sdp?real", "rtsp://h/user=***?real"),
            ("rtsp://h/user=a_password=b_channel=1.sdp", "rtsp://h/user=***"),
            ("http://h/v?monkey=1&compass=2", "http://h/v?monkey=1&compass=2"),
        ] {
            assert_eq!(without_secret_parameters(given), expect);
        }
    }
}
