//! Puts values into a configuration's text, and leaves every other character of it as it is.
//!
//! It knows as much of TOML as that takes: tables by their headings, keys at the beginning of a line. Whoever calls it
//! reads the result back, so that a text which is cleverer than this is refused and not spoilt.

/// One value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The table: `detector`.
    pub table: &'static str,
    /// The key in it.
    pub key: &'static str,
    /// The value; written with two places.
    pub value: f64,
}

/// The settings as lines to paste, table by table.
pub fn lines(settings: &[Setting]) -> String {
    put("", settings)
}

/// The text with the settings in it: a value that is there is replaced, and what follows it on its line stays; a table
/// that is not there is added at the end.
pub fn put(text: &str, settings: &[Setting]) -> String {
    settings.iter().fold(text.to_owned(), |text, setting| put_one(&text, setting))
}

fn put_one(text: &str, Setting { table, key, value }: &Setting) -> String {
    let assignment = format!("{key} = {value:.2}");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let heading = lines.iter().position(|line| without_remark(line) == format!("[{table}]"));
    let Some(heading) = heading else {
        if lines.last().is_some_and(|last| !last.trim().is_empty()) {
            lines.push(String::new());
        }
        lines.push(format!("[{table}]"));
        lines.push(assignment);
        return joined(&lines);
    };
    let body = heading + 1;
    let end =
        lines[body..].iter().position(|line| line.trim_start().starts_with('[')).map_or(lines.len(), |at| body + at);
    let is_key = |line: &String| line.split_once('=').is_some_and(|(name, _)| name.trim() == *key);
    match lines[body..end].iter().position(is_key) {
        Some(at) => {
            let line = &mut lines[body + at];
            let remark = line.find('#').map(|at| format!(" {}", &line[at..])).unwrap_or_default();
            *line = assignment + &remark;
        }
        None => lines.insert(body, assignment),
    }
    joined(&lines)
}

fn without_remark(line: &str) -> &str {
    line.split_once('#').map_or(line, |(before, _)| before).trim()
}

fn joined(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORE: Setting = Setting { table: "detector", key: "score_min", value: 0.4 };

    #[test]
    fn a_value_is_put_in_its_place_and_nothing_else_changes() {
        for (text, expect) in [
            ("", "[detector]\nscore_min = 0.40\n"),
            ("site = \"a\"\n", "site = \"a\"\n\n[detector]\nscore_min = 0.40\n"),
            ("[detector]\nscore_min = 0.3\n", "[detector]\nscore_min = 0.40\n"),
            (
                "# ours\n[detector] # eyes\nthreads = 1\n  score_min=0.3 # tuned by hand\n\n[track]\nhits_min = 3\n",
                "# ours\n[detector] # eyes\nthreads = 1\nscore_min = 0.40 # tuned by hand\n\n[track]\nhits_min = 3\n",
            ),
            ("[detector]\nthreads = 1", "[detector]\nscore_min = 0.40\nthreads = 1\n"),
            // The key of another table, and a remark, are not it.
            (
                "[gate]\nscore_min = 1\n[detector]\n# score_min = 0.3\n[[camera]]\nscore_min = 2\n",
                "[gate]\nscore_min = 1\n[detector]\nscore_min = 0.40\n# score_min = 0.3\n[[camera]]\nscore_min = 2\n",
            ),
        ] {
            assert_eq!(put(text, &[SCORE]), expect);
            assert_eq!(put(&put(text, &[SCORE]), &[SCORE]), expect, "again changes nothing");
        }
    }

    #[test]
    fn lines_to_paste_stand_by_table() {
        let track = |key, value| Setting { table: "track", key, value };
        let expect = "[detector]\nscore_min = 0.40\n\n[track]\nscore_new = 0.40\n";
        assert_eq!(lines(&[SCORE, track("score_new", 0.4)]), expect);
    }
}
