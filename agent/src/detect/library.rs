//! Finds the ONNX Runtime library, and asks what it is before anything else trusts it.
//!
//! The order: the configured file, then `ORT_DYLIB_PATH`, then the directories of [`directories`]. Nothing here runs a
//! model, and no file that is not such a library makes it panic.

use std::ffi::{CStr, OsString, c_char, c_void};
use std::fmt;
use std::path::{Path, PathBuf};

use picket_shared::exit::{Exit, Failure};

/// The C interface that this build speaks, `ORT_API_VERSION` in the runtime's header: the library must be as new.
pub const API: u32 = 20;
/// The oldest library with that interface.
pub const VERSION_MIN: Version = Version(1, API, 0);

const FILE: &str = "libonnxruntime.so";
const REMEDY: &str = "`make demo` prepares one; or unpack onnxruntime/capi/libonnxruntime.so.* from what \
                      `pip download onnxruntime` gives into the last of these; or set `library` to the file";

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `1.24.4`; also `1.24.4-dev` and `1.24`.
    pub fn parse(text: &str) -> Option<Version> {
        let mut parts = text.splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        });
        Some(Version(parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A library that opened, answered, and is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// The file, absolute and without links.
    pub path: PathBuf,
    /// What it says of itself.
    pub version: Version,
}

/// Finds the library and opens it.
pub fn find(configured: Option<&Path>) -> Result<Runtime, Failure> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let named = configured.map(Path::to_owned).or_else(|| env("ORT_DYLIB_PATH").map(PathBuf::from));
    let path = match named {
        Some(path) => path,
        None => {
            let listing: Vec<_> = directories(env).into_iter().map(|dir| (names_in(&dir), dir)).collect();
            choose(&listing).ok_or_else(|| {
                let looked: Vec<_> = listing.iter().map(|(_, dir)| dir.display().to_string()).collect();
                let looked = looked.join(", ");
                Failure::new(Exit::Runtime, format!("no {FILE} in {looked}; {REMEDY}"))
            })?
        }
    };
    open(&path)
}

/// Where to look, first to last. `env` gives the value of a variable that is set and not empty.
pub fn directories(env: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let fixed = ["/usr/lib/picket", "/opt/onnxruntime/lib", "/usr/local/lib", &triplet, "/usr/lib"];
    let cache = user_cache_dir(env).map(|cache| cache.join("picket/onnxruntime"));
    fixed.iter().map(PathBuf::from).chain(cache).collect()
}

/// Where this program keeps what it can make again: systemd's cache directory where it made one, else the user's.
pub(super) fn cache_dir(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    env("CACHE_DIRECTORY").map(PathBuf::from).or_else(|| Some(user_cache_dir(env)?.join("picket")))
}

fn user_cache_dir(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    env("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(env("HOME")?).join(".cache")))
}

/// Chooses among directories in order, each with the names of its files: in the first directory that has one which
/// is not known to be too old, the plain name, else the newest version. One that is too old is chosen only where
/// there is no other, so that it can be named.
pub fn choose(listing: &[(Vec<String>, PathBuf)]) -> Option<PathBuf> {
    let best = |(names, dir): &(Vec<String>, PathBuf)| {
        let (version, name) = names.iter().filter_map(|name| Some((version_of(name)?, name))).max()?;
        Some((version >= VERSION_MIN, dir.join(name)))
    };
    let mut found = listing.iter().filter_map(best).peekable();
    let first = found.peek().cloned();
    found.find(|(fits, _)| *fits).or(first).map(|(_, path)| path)
}

/// The version in a file's name; the plain name stands above all, for somebody chose where it points.
fn version_of(name: &str) -> Option<Version> {
    match name.strip_prefix(FILE)? {
        "" => Some(Version(u32::MAX, 0, 0)),
        rest => Version::parse(rest.strip_prefix('.')?),
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What `OrtGetApiBase` returns, from the runtime's C header; it has not changed since version 1.0.
#[repr(C)]
struct ApiBase {
    api: extern "C" fn(u32) -> *const c_void,
    version: extern "C" fn() -> *const c_char,
}

/// Opens a library and asks its version; one that is too old, or no such library, is refused with a sentence.
pub fn open(path: &Path) -> Result<Runtime, Failure> {
    let refuse = |what: String| Failure::new(Exit::Runtime, format!("the runtime library {} {what}", path.display()));
    // Absolute, because the loader searches the system for a name without a slash.
    let real = path
        .canonicalize()
        .map_err(|e| refuse(format!("cannot be opened ({e}); check `library` or ORT_DYLIB_PATH")))?;
    if !real.is_file() {
        return Err(refuse(format!("is not a file; name the file, as in {}/{FILE}", path.display())));
    }
    let version = ask(&real).map_err(|what| refuse(format!("{what}; name ONNX Runtime {VERSION_MIN} or newer")))?;
    let known = Version::parse(&version);
    match known.filter(|version| *version >= VERSION_MIN) {
        Some(version) => Ok(Runtime { path: real, version }),
        None => {
            Err(refuse(format!("is version {version:.40}, and {VERSION_MIN} or newer is needed; install a newer one")))
        }
    }
}

/// The version that a library claims, once it has shown that it speaks [`API`].
#[allow(unsafe_code)]
fn ask(path: &Path) -> Result<String, String> {
    // SAFETY: loading runs the file's initialisers: whoever names the file is trusted with that, as for any library.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| format!("cannot be loaded ({e})"))?;
    // SAFETY: the type is that of the runtime's C header; only the runtime exports this name.
    let base = unsafe { library.get::<extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase\0") };
    let base = base.map_err(|_| "is not ONNX Runtime: it has no OrtGetApiBase".to_owned())?();
    // SAFETY: null, or a table that lives as long as the library.
    let base = unsafe { base.as_ref() }.ok_or("answers nothing to OrtGetApiBase")?;
    let text = (base.version)();
    if text.is_null() {
        return Err("does not tell its version".into());
    }
    // SAFETY: not null, and by the header a constant string of the library.
    let version = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    let new_enough = Version::parse(&version).is_some_and(|version| version >= VERSION_MIN);
    // ort would panic on a library that claims the version and lacks the interface.
    if new_enough && (base.api)(API).is_null() {
        return Err(format!("claims version {version:.40} and lacks its interface {API}"));
    }
    if new_enough {
        // It is about to be used, and its threads and statics would not survive being unloaded in between.
        std::mem::forget(library);
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn listing(dirs: &[(&str, &[&str])]) -> Vec<(Vec<String>, PathBuf)> {
        dirs.iter().map(|(dir, names)| (names.iter().map(|n| n.to_string()).collect(), PathBuf::from(dir))).collect()
    }

    #[test]
    fn the_first_directory_with_a_usable_library_wins() {
        for (dirs, expect) in [
            (listing(&[("/a", &[]), ("/b", &["libz.so"])]), None),
            (
                listing(&[("/a", &["libonnxruntime.so.1.24.4"]), ("/b", &["libonnxruntime.so"])]),
                Some("/a/libonnxruntime.so.1.24.4"),
            ),
            // By number, not by letter.
            (
                listing(&[("/a", &["libonnxruntime.so.1.24.4", "libonnxruntime.so.1.100.0"])]),
                Some("/a/libonnxruntime.so.1.100.0"),
            ),
            (listing(&[("/a", &["libonnxruntime.so.1.24.4", "libonnxruntime.so"])]), Some("/a/libonnxruntime.so")),
            // Too old by its name: only where there is nothing else.
            (
                listing(&[("/a", &["libonnxruntime.so.1.9.0"]), ("/b", &["libonnxruntime.so.1.20.0"])]),
                Some("/b/libonnxruntime.so.1.20.0"),
            ),
            (
                listing(&[("/a", &["libonnxruntime.so.1.9.0"]), ("/b", &["libonnxruntime.so.1.8.0"])]),
                Some("/a/libonnxruntime.so.1.9.0"),
            ),
            (
                listing(&[(
                    "/a",
                    &["libonnxruntime.so.1", "libonnxruntime.so.x", "libonnxruntime_providers_shared.so"],
                )]),
                None,
            ),
        ] {
            assert_eq!(choose(&dirs), expect.map(PathBuf::from), "{dirs:?}");
        }
    }

    #[test]
    fn the_cache_is_the_users_own_and_comes_last() {
        let with = |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.into());
        assert_eq!(directories(with("XDG_CACHE_HOME", "/x")).last(), Some(&"/x/picket/onnxruntime".into()));
        assert_eq!(directories(with("HOME", "/h")).last(), Some(&"/h/.cache/picket/onnxruntime".into()));
        assert_eq!(cache_dir(with("CACHE_DIRECTORY", "/var/cache/p")), Some("/var/cache/p".into()));
        assert_eq!(cache_dir(with("HOME", "/h")), Some("/h/.cache/picket".into()));
        assert_eq!(directories(|_| None).last(), Some(&"/usr/lib".into()));
        assert_eq!(directories(|_| None).first(), Some(&"/usr/lib/picket".into()));
    }

    #[test]
    fn a_version_is_read_from_text() {
        for (text, expect) in [
            ("1.24.4", Some(Version(1, 24, 4))),
            ("1.20", Some(Version(1, 20, 0))),
            ("1.25.0-dev", Some(Version(1, 25, 0))),
            ("1", None),
            ("", None),
            ("a.b.c", None),
            ("1.99999999999.0", None),
        ] {
            assert_eq!(Version::parse(text), expect, "{text}");
        }
    }

    /// Compiles a library whose `OrtGetApiBase` is `body`.
    fn fake(dir: &Path, name: &str, body: &str) -> PathBuf {
        let source = dir.join(format!("{name}.c"));
        let library = dir.join(name);
        let head = "struct base { const void *(*api)(unsigned); const char *(*version)(void); };\n";
        std::fs::write(&source, format!("{head}{body}\n")).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(built.expect("a C compiler, which Rust links with too; install gcc").success());
        library
    }

    #[test]
    fn what_is_no_usable_library_is_refused_with_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let speaks = |api: &str, version: &str| {
            format!(
                "static const void *api(unsigned v) {{ return {api}; }}\nstatic const char *version(void) {{ return {version}; }}\n\
                 static struct base base = {{ api, version }};\nconst struct base *OrtGetApiBase(void) {{ return &base; }}"
            )
        };
        let garbage = dir.path().join("garbage.so");
        std::fs::write(&garbage, b"\x7fELF and then nothing of the kind").unwrap();
        let empty = dir.path().join("empty.so");
        std::fs::write(&empty, b"").unwrap();
        for (path, expect) in [
            (dir.path().join("none.so"), "cannot be opened"),
            (dir.path().to_owned(), "is not a file"),
            (garbage, "cannot be loaded"),
            (empty, "cannot be loaded"),
            (fake(dir.path(), "other.so", "int x;"), "has no OrtGetApiBase"),
            (fake(dir.path(), "null.so", "void *OrtGetApiBase(void) { return 0; }"), "answers nothing"),
            (fake(dir.path(), "mute.so", &speaks("&api", "0")), "does not tell its version"),
            (
                fake(dir.path(), "old.so", &speaks("&api", "\"1.19.2\"")),
                "is version 1.19.2, and 1.20.0 or newer is needed",
            ),
            (fake(dir.path(), "odd.so", &speaks("&api", "\"newest\"")), "is version newest, and 1.20.0 or newer"),
            (fake(dir.path(), "liar.so", &speaks("0", "\"1.99.0\"")), "lacks its interface 20"),
        ] {
            let failure = open(&path).unwrap_err();
            assert_eq!(failure.exit, Exit::Runtime);
            assert!(failure.sentence.contains(expect), "{failure}");
        }
    }

    #[test]
    fn a_library_that_answers_as_it_should_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let body = "static const void *api(unsigned v) { return v == 20 ? &api : 0; }\n\
                    static const char *version(void) { return \"1.20.1\"; }\n\
                    static struct base base = { api, version };\nconst struct base *OrtGetApiBase(void) { return &base; }";
        let path = fake(dir.path(), "fine.so", body);
        assert_eq!(open(&path).unwrap().version, Version(1, 20, 1));
    }
}
