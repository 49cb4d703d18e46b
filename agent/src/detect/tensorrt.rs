//! What TensorRT is asked for, and where it keeps what it builds.
//!
//! An engine fits one model on one GPU under one driver and one pair of libraries: [`Key`] names all of them, so that
//! an upgrade builds a new engine and never loads a foreign one. Building takes minutes; `Progress` says so while it
//! goes on. Nothing here knows the runtime.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use picket_shared::crypto::sha256_hex;
use picket_shared::event::Precision;
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

/// A calibration table has a line for each tensor.
const CALIBRATION_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How often a long build is told.
const SAY_EVERY: Duration = Duration::from_secs(15);
/// How much longer systemd waits for the agent's start each time that a build is told.
const START_LONGER: Duration = Duration::from_secs(60);
/// From then on it is not asked to: a build of half an hour hangs.
const BUILD_MAX: Duration = Duration::from_secs(30 * 60);

/// TensorRT's part of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What to compute in: `fp32`, `fp16` or `int8`. Lower is faster; check a lower one with `model compare`.
    pub precision: Precision,
    /// TensorRT's table of ranges, for `int8` with a model that is not quantised itself.
    pub calibration: Option<PathBuf>,
    /// Where engines are kept; the cache directory by default.
    pub cache_dir: Option<PathBuf>,
    /// The deep learning accelerator of a Jetson to use, in place of the GPU.
    pub dla_core: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Config { precision: Precision::Fp16, calibration: None, cache_dir: None, dla_core: None }
    }
}

/// Everything that an engine depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Key {
    /// First digits of the model file's SHA-256.
    pub model: String,
    /// The GPU's name, or the board's.
    pub gpu: String,
    /// The driver's version.
    pub driver: String,
    /// ONNX Runtime's version.
    pub runtime: String,
    /// TensorRT's version.
    pub tensorrt: String,
    /// What is computed in.
    pub precision: String,
    /// First digits of the calibration table's SHA-256; empty without one.
    pub calibration: String,
    /// The accelerator; empty for the GPU.
    pub dla: String,
}

impl Key {
    /// The directory of the engine: readable where it can be, and different whenever any part is.
    pub fn engine(&self) -> String {
        let all = [
            &self.model,
            &self.gpu,
            &self.driver,
            &self.runtime,
            &self.tensorrt,
            &self.precision,
            &self.calibration,
            &self.dla,
        ];
        format!("{}-{}-{}-{}", plain(&self.model), plain(&self.gpu), plain(&self.precision), digest(&all))
    }

    /// The directory of the timing cache, which every model on this GPU and these libraries shares.
    pub fn timing(&self) -> String {
        format!("timing-{}-{}", plain(&self.gpu), digest(&[&self.gpu, &self.driver, &self.tensorrt, &self.dla]))
    }
}

/// The parts with their lengths, so that no two lists are the same text.
fn digest(parts: &[&String]) -> String {
    let text: String = parts.iter().map(|part| format!("{}:{part};", part.len())).collect();
    sha256_hex(text.as_bytes())[..12].to_owned()
}

/// A word of a file's name.
fn plain(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    text.chars().map(keep).take(24).collect()
}

/// What the provider is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Allow 16-bit floating point.
    pub fp16: bool,
    /// Allow 8-bit integers.
    pub int8: bool,
    /// The table's name within `engine_dir`, and whether TensorRT itself wrote it.
    pub calibration: Option<(String, bool)>,
    /// The accelerator.
    pub dla_core: Option<u32>,
    /// Where the engine lies or will lie.
    pub engine_dir: PathBuf,
    /// Where the timings lie or will lie.
    pub timing_dir: PathBuf,
}

impl Config {
    /// What is wrong with it for a model of this precision, as the end of a sentence about TensorRT.
    pub fn check(&self, model: Precision) -> Result<(), String> {
        if self.precision == Precision::Int8 && model != Precision::Int8 && self.calibration.is_none() {
            return Err("in int8 needs a quantised model (`picket-agent model quantize`) or `calibration`".into());
        }
        Ok(())
    }

    /// Reads what an engine depends on, and makes the directories. The error is the end of a sentence about TensorRT.
    pub fn prepare(&self, model: &str, precision: Precision, runtime: &str) -> Result<Options, String> {
        self.check(precision)?;
        let table =
            self.calibration.as_deref().filter(|_| self.precision == Precision::Int8).map(read_table).transpose()?;
        let machine = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let key = Key {
            model: model.into(),
            gpu: gpu(),
            driver: machine("/proc/driver/nvidia/version").lines().next().unwrap_or_default().into(),
            runtime: runtime.into(),
            tensorrt: library_version(),
            precision: format!("{:?}", self.precision),
            calibration: table.as_ref().map_or(String::new(), |table| sha256_hex(table)[..12].to_owned()),
            dla: self.dla_core.map_or(String::new(), |core| core.to_string()),
        };
        let cache = self.cache_dir.clone().unwrap_or_else(default_cache_dir);
        let (engine_dir, timing_dir) = (cache.join(key.engine()), cache.join(key.timing()));
        let unwritable = |e: std::io::Error| format!("cannot keep its engines in {} ({e})", cache.display());
        std::fs::create_dir_all(&engine_dir).and_then(|()| std::fs::create_dir_all(&timing_dir)).map_err(unwritable)?;
        let calibration = match table {
            Some(table) => {
                let name = "calibration.table".to_owned();
                std::fs::write(engine_dir.join(&name), &table).map_err(unwritable)?;
                // TensorRT's own begin so; ONNX Runtime's are a binary format.
                Some((name, table.starts_with(b"TRT-")))
            }
            None => None,
        };
        Ok(Options {
            fp16: self.precision != Precision::Fp32,
            int8: self.precision == Precision::Int8 || precision == Precision::Int8,
            calibration,
            dla_core: self.dla_core,
            engine_dir,
            timing_dir,
        })
    }
}

impl Options {
    /// Whether an engine was built before; without one the next session takes minutes.
    pub fn has_engine(&self) -> bool {
        let entries = std::fs::read_dir(&self.engine_dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|end| end == "engine"))
    }
}

fn read_table(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |e: std::io::Error| format!("cannot read `calibration` {} ({e})", path.display());
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() == 0 || metadata.len() > CALIBRATION_BYTES_MAX {
        return Err(format!("has in `calibration` {} no file of 1 to {CALIBRATION_BYTES_MAX} bytes", path.display()));
    }
    std::fs::read(path).map_err(unreadable)
}

/// The GPU as its driver calls it, else the board.
fn gpu() -> String {
    let cards = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let named = cards.filter_map(|card| std::fs::read_to_string(card.path().join("information")).ok());
    let model = |text: String| text.lines().find_map(|line| Some(line.strip_prefix("Model:")?.trim().to_owned()));
    let board = || std::fs::read_to_string("/proc/device-tree/model").ok();
    named.filter_map(model).min().or_else(board).map_or(String::new(), |name| name.trim_end_matches('\0').to_owned())
}

/// TensorRT's version, by the names of its library in the usual places.
fn library_version() -> String {
    let places = ["aarch64", "x86_64"].map(|arch| format!("/usr/lib/{arch}-linux-gnu"));
    let from_env = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let places = places.iter().map(String::as_str).chain(from_env.split(':')).filter(|place| !place.is_empty());
    let names = places.flat_map(|place| std::fs::read_dir(place).into_iter().flatten().flatten());
    let versions = names.filter_map(|name| Some(name.file_name().to_str()?.strip_prefix("libnvinfer.so.")?.to_owned()));
    versions.max_by_key(|version| version.len()).unwrap_or_default()
}

fn default_cache_dir() -> PathBuf {
    super::library::cache_dir(|name| std::env::var_os(name)).unwrap_or_else(std::env::temp_dir).join("tensorrt")
}

/// Says at intervals that something is still going on; ends with its scope.
pub(super) struct Progress {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Progress {
    /// Says it every quarter of a minute, in the log and to systemd, which waits for the agent's start meanwhile.
    pub(super) fn tell(what: &'static str) -> Progress {
        Progress::every(SAY_EVERY, move |gone| say(what, gone))
    }

    fn every(interval: Duration, say: impl Fn(Duration) + Send + 'static) -> Progress {
        let (stop, stopped) = mpsc::channel();
        let began = Instant::now();
        let work = move || {
            while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(began.elapsed());
            }
        };
        // Without a thread there is no word, and the work goes on all the same.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(work).ok();
        Progress { stop: Some(stop), thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // What was said last holds no longer.
        let _ = sd_notify::notify(&[NotifyState::Status("")]);
    }
}

/// Outside systemd only the log hears it.
fn say(what: &str, gone: Duration) {
    let still = format!("{what}: still at it after {} s", gone.as_secs());
    tracing::info!("{still}");
    let longer = if gone < BUILD_MAX { START_LONGER } else { Duration::ZERO };
    let longer = NotifyState::ExtendTimeoutUsec(longer.as_micros() as u32);
    let _ = sd_notify::notify(&[NotifyState::Status(&still), longer]);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    fn key() -> Key {
        Key {
            model: "0123456789ab".into(),
            gpu: "NVIDIA Orin Nano".into(),
            driver: "540.4.0".into(),
            runtime: "1.24.4".into(),
            tensorrt: "10.3.0".into(),
            precision: "Fp16".into(),
            calibration: String::new(),
            dla: String::new(),
        }
    }

    #[test]
    fn an_engine_is_never_shared_by_what_differs_in_any_part() {
        let changes: [fn(&mut Key); 8] = [
            |key| key.model.push('0'),
            |key| key.gpu.push('0'),
            |key| key.driver.push('0'),
            |key| key.runtime.push('0'),
            |key| key.tensorrt.push('0'),
            |key| key.precision.push('0'),
            |key| key.calibration.push('0'),
            |key| key.dla.push('0'),
        ];
        let mut names = vec![key().engine()];
        for change in changes {
            let mut other = key();
            change(&mut other);
            names.push(other.engine());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 9, "{names:?}");
        // Letters that move from one part to the next.
        let moved = Key { driver: "540.4.01".into(), runtime: ".24.4".into(), ..key() };
        assert_ne!(moved.engine(), key().engine());
        assert_eq!(key().engine(), key().engine());
        let odd = Key { gpu: "a/../b c\0".repeat(20), ..key() }.engine();
        assert!(odd.len() < 100 && odd.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "{odd}");
    }

    #[test]
    fn timings_are_shared_by_models_and_not_by_gpus_or_libraries() {
        let shared = Key { model: "other".into(), precision: "Int8".into(), runtime: "1.25.0".into(), ..key() };
        assert_eq!(shared.timing(), key().timing());
        for other in [
            Key { gpu: "other".into(), ..key() },
            Key { driver: "other".into(), ..key() },
            Key { tensorrt: "other".into(), ..key() },
        ] {
            assert_ne!(other.timing(), key().timing());
        }
    }

    #[test]
    fn int8_needs_a_quantised_model_or_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("table");
        std::fs::write(&table, "TRT-100300-EntropyCalibration2\nimage: 3c010a14\n").unwrap();
        let config = |calibration: Option<&Path>| Config {
            precision: Precision::Int8,
            calibration: calibration.map(Path::to_owned),
            cache_dir: Some(dir.path().join("cache")),
            dla_core: None,
        };
        let prepare = |config: Config, model| config.prepare("0123456789ab", model, "1.24.4");
        assert!(prepare(config(None), Precision::Fp32).unwrap_err().contains("model quantize"));
        let quantised = prepare(config(None), Precision::Int8).unwrap();
        assert!(quantised.int8 && quantised.calibration.is_none() && !quantised.has_engine());
        let with_table = prepare(config(Some(&table)), Precision::Fp32).unwrap();
        assert_eq!(with_table.calibration, Some(("calibration.table".into(), true)));
        assert_eq!(
            std::fs::read(with_table.engine_dir.join("calibration.table")).unwrap(),
            std::fs::read(&table).unwrap()
        );
        std::fs::write(with_table.engine_dir.join("TensorrtExecutionProvider_0.engine"), "").unwrap();
        assert!(with_table.has_engine() && !quantised.has_engine(), "another key, another place");
        let missing = config(Some(&dir.path().join("none")));
        assert!(prepare(missing, Precision::Fp32).unwrap_err().contains("cannot read `calibration`"));
        let nowhere = Config { cache_dir: Some(table.join("below-a-file")), ..Config::default() };
        assert!(prepare(nowhere, Precision::Fp32).unwrap_err().contains("cannot keep its engines"));
    }

    #[test]
    fn a_long_build_is_told_until_it_ends() {
        let (said, heard) = mpsc::channel();
        let progress = Progress::every(Duration::from_millis(1), move |gone| {
            let _ = said.send(gone);
        });
        assert!(heard.recv().is_ok() && heard.recv().is_ok(), "it is told again and again");
        drop(progress);
        // The thread has ended, and its end of the channel with it.
        while heard.try_recv().is_ok() {}
        assert_eq!(heard.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }

    #[test]
    #[ignore = "not a test: the next one runs it as a process of its own"]
    fn a_long_build() {
        let progress = Progress::every(Duration::from_millis(5), |gone| say("the build", gone));
        std::thread::sleep(Duration::from_millis(100));
        drop(progress);
    }

    #[test]
    fn systemd_hears_of_a_long_build_and_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&place).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut build = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "detect::tensorrt::tests::a_long_build", "--ignored"])
            .env("NOTIFY_SOCKET", &place)
            .spawn()
            .unwrap();
        let heard = || {
            let mut bytes = [0; 256];
            let count = systemd.recv(&mut bytes).expect("it says something");
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        };
        let first = heard();
        assert!(first.contains("STATUS=the build: still at it after 0 s"), "{first}");
        assert!(first.contains("EXTEND_TIMEOUT_USEC=60000000"), "{first}");
        // Its end takes the word back.
        while heard().trim_end() != "STATUS=" {}
        assert!(build.wait().unwrap().success());
    }
}
