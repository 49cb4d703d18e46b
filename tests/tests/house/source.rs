//! Reads Rust as text: as much of its grammar as the house rules need, and no more.
//!
//! It never fails: what it cannot follow comes out as words.

/// The text without comments, and with empty literals.
pub(super) fn code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if c == '"' {
            out.push_str("\"\"");
            string_len(rest)
        } else if let Some(len) = raw_string_len(rest).filter(|_| !out.ends_with(|c: char| c.is_alphanumeric())) {
            out.push_str("\"\"");
            len
        } else if let Some(len) = char_len(rest) {
            out.push_str("' '");
            len
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

fn raw_string_len(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let open = text.len() - after.len() + hashes;
    text[open..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(text[open + 1..].find(&close).map_or(text.len(), |at| open + 1 + at + close.len()))
}

/// A character, and not a lifetime: closed after one character or one escape.
fn char_len(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        return inside.char_indices().skip(2).find(|&(_, c)| c == '\'').map(|(at, _)| at + 2);
    }
    let len = inside.chars().next()?.len_utf8();
    inside[len..].starts_with('\'').then_some(len + 2)
}

/// Without the items under `#[cfg(test)]`.
pub(super) fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut depth = 0;
        let end = rest.char_indices().find(|&(_, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0 && matches!(c, '}' | ';')
        });
        rest = end.map_or("", |(at, _)| &rest[at + 1..]);
    }
    out + rest
}

/// Identifiers, `::`, and every other character but white space by itself.
pub(super) fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = code.trim_start();
    while let Some(c) = rest.chars().next() {
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = match c {
            _ if in_word(c) => rest.find(|c| !in_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => c.len_utf8(),
        };
        words.push(rest[..len].to_owned());
        rest = rest[len..].trim_start();
    }
    words
}

/// Every path of more than one word, and every one that a `use` brings in, with its groups unfolded:
/// `use std::{fs, io}` is `std::fs` and `std::io`.
pub(super) fn paths(words: &[String]) -> Vec<String> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < words.len() {
        // `use<'a>` is a bound of a type.
        if words[at] == "use" && words.get(at + 1).is_some_and(|next| next != "<") {
            let end = words[at..].iter().position(|word| word == ";").map_or(words.len(), |len| at + len);
            unfold(&words[at + 1..end], &mut paths);
            at = end;
        } else if is_name(&words[at]) {
            let mut path = words[at].clone();
            while at + 2 < words.len() && words[at + 1] == "::" && is_name(&words[at + 2]) {
                path = path + "::" + &words[at + 2];
                at += 2;
            }
            if path.contains("::") {
                paths.push(path);
            }
        }
        at += 1;
    }
    paths
}

/// The paths of what stands between `use` and `;`.
fn unfold(tree: &[String], paths: &mut Vec<String>) {
    let mut outer: Vec<String> = Vec::new();
    let mut path = String::new();
    for word in tree {
        match word.as_str() {
            "{" => outer.push(path.clone()),
            "}" | "," => {
                paths.push(std::mem::take(&mut path));
                if word == "}" {
                    outer.pop();
                }
                path.push_str(outer.last().map_or("", String::as_str));
            }
            "as" => path.push(' '),
            "::" if path.is_empty() => {}
            word => path.push_str(word),
        }
    }
    paths.push(path);
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Whether a path begins with these segments.
pub(super) fn begins(path: &str, with: &str) -> bool {
    path.strip_prefix(with).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}
