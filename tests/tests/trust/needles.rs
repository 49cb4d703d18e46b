//! Secrets, in every form in which somebody could come across them, and where they are looked for. What is found is told by its
//! name and place, and never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use picket_shared::crypto::hex;

/// How often the processes are looked at: a command of ours lives for longer.
const LOOK: Duration = Duration::from_millis(10);
/// Shorter ones would be found by chance.
const NEEDLE_BYTES_MIN: usize = 6;

/// What must be found nowhere but where it is kept.
#[derive(Default)]
pub struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// A text that somebody could type: as it is, and as HTTP and others encode it.
    pub fn text(&mut self, name: &str, text: &str) {
        self.bytes(name, text.as_bytes());
    }

    /// Bytes: as they are, in hexadecimal and in base64, wherever in a longer text of base64 they begin.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let digits = hex(bytes);
        let mut forms = vec![bytes.to_vec(), digits.to_uppercase().into_bytes(), digits.into_bytes()];
        for before in 0..3 {
            // What stands before shares the first characters with it, and what follows the last ones.
            let text = base64(&[&vec![0; before], bytes].concat());
            let inner = &text[if before == 0 { 0 } else { 4 }..(before + bytes.len()) / 3 * 4];
            forms.push(inner.as_bytes().to_vec());
            forms.push(inner.replace('+', "-").replace('/', "_").into_bytes());
        }
        forms.retain(|form| form.len() >= NEEDLE_BYTES_MIN);
        assert!(!forms.is_empty(), "{name} is too short to be looked for");
        self.0.extend(forms.into_iter().map(|form| (name.to_owned(), form)));
    }

    /// The key of a PEM file: all of it, and the 32 bytes that matter.
    pub fn key(&mut self, name: &str, path: &Path) {
        let text = fs::read_to_string(path).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = from_base64(&body);
        self.text(name, &body);
        self.bytes(name, &der[der.len() - 32..]);
        assert!(self.found_in(text.as_bytes()).contains(name), "{name} is found where it is kept");
    }

    /// The names of those that are in there.
    pub fn found_in(&self, haystack: &[u8]) -> BTreeSet<String> {
        let has = |needle: &[u8]| {
            let starts = haystack.iter().enumerate().filter(|(_, byte)| **byte == needle[0]);
            starts.into_iter().any(|(at, _)| haystack[at..].starts_with(needle))
        };
        self.0.iter().filter(|(_, needle)| has(needle)).map(|(name, _)| name.clone()).collect()
    }
}

/// RFC 4648, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let all = three.iter().chain([0, 0].iter()).take(3).fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let digit = |place: usize| char::from(DIGITS[(all >> (18 - 6 * place)) as usize & 63]);
        (0..4).map(|place| if place <= three.len() { digit(place) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |c: char| match c {
        'A'..='Z' => c as u32 - 65,
        'a'..='z' => c as u32 - 71,
        '0'..='9' => c as u32 + 4,
        '+' => 62,
        '/' => 63,
        _ => panic!("{c} is no base64"),
    };
    let digits: Vec<u32> = text.trim_end_matches('=').chars().map(value).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let all = four.iter().fold(0, |all, digit| all << 6 | digit) << (6 * (4 - four.len()));
        all.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}

/// Everything that anybody on the machine could read of its processes, from here on.
pub struct Processes {
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Processes {
    pub fn watch() -> Processes {
        let (seen, stop) = (Arc::<Mutex<BTreeSet<Vec<u8>>>>::default(), Arc::new(AtomicBool::new(false)));
        let (of_thread, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(SeqCst) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    let of = ["cmdline", "environ"].map(|what| fs::read(entry.path().join(what)).unwrap_or_default());
                    of_thread.lock().unwrap().extend(of.into_iter().filter(|bytes| !bytes.is_empty()));
                }
                std::thread::sleep(LOOK);
            }
        });
        Processes { seen, stop, thread: Some(thread) }
    }

    /// Command lines and environments, each once.
    pub fn all(&self) -> Vec<u8> {
        self.seen.lock().unwrap().iter().flat_map(|bytes| [&bytes[..], b"\n"].concat()).collect()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = self.thread.take().unwrap().join();
    }
}

/// The files below a folder that others than their owner may read, whoever may enter the folders above; by their paths.
pub fn open_files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut open = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        // Whoever runs here may take a file away at any time.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            open.extend(open_files(&entry.path()));
        } else if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
            open.insert(entry.path().display().to_string(), fs::read(entry.path()).unwrap_or_default());
        }
    }
    open
}

/// Whether others than its owner can get at a file: it and all folders up to `top` let them.
pub fn is_reachable(top: &Path, file: &Path) -> bool {
    let lets = |path: &Path, bits: u32| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & bits != 0);
    let above = file.ancestors().skip(1).take_while(|path| *path != top);
    lets(file, 0o044) && above.into_iter().all(|path| lets(path, 0o011))
}

#[test]
fn secrets_are_found_in_every_form() {
    let mut secrets = Secrets::default();
    let bytes: Vec<u8> = (7..39).map(|n: u8| n.wrapping_mul(37)).collect();
    secrets.bytes("bytes", &bytes);
    secrets.text("password", "hush%Gate7");
    let found = |text: &str| secrets.found_in(text.as_bytes()).into_iter().collect::<Vec<_>>().join(" ");
    for before in ["", "a", "ab", "abc"] {
        let text = base64(&[before.as_bytes(), &bytes, b"more"].concat());
        assert_eq!(found(&format!("x {text} y")), "bytes", "after {} bytes", before.len());
        assert_eq!(from_base64(&text), [before.as_bytes(), &bytes, b"more"].concat());
    }
    assert_eq!(found(&hex(&bytes)), "bytes");
    assert_eq!(found("Basic YWRtaW46aHVzaCVHYXRlNw=="), "password");
    assert_eq!(found("rtsp://admin:hush%Gate7@camera"), "password");
    assert_eq!(found("rtsp://admin:***@camera"), "");
}
