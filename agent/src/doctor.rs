//! `picket-agent doctor`: tries everything an agent needs, one line each, with the remedy where something is missing.
//!
//! Each check does the real thing (takes a frame, runs the model, connects) and undoes it. It publishes nothing in the
//! node's name, and works beside a running agent.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use picket_shared::calendar::unix_s;
use picket_shared::exit::Exit;
use picket_shared::mqtt::{self, BrokerUrl, LinkEvent, LinkOptions};
use picket_shared::trust::certificate::Standing;
use picket_shared::trust::identity::Identity;

use crate::capture::{self, Mailbox, Pace};
use crate::config::{Camera, Config};
use crate::detect::{self, Detector};
use crate::frame::Frame;
use crate::learn::teacher::Config as Teacher;

/// A camera behind a slow network gives its first frame within this.
const FIRST_FRAME: Duration = Duration::from_secs(15);
const BROKER_ANSWER: Duration = Duration::from_secs(6);
/// Below this, a day of events and the logs may not fit.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// How a check came out.
enum Finding {
    /// It works; what was seen.
    Fine(String),
    /// It works, and will not for long.
    Doubtful(String),
    /// It does not work; a sentence with the remedy.
    Broken(String),
}

use Finding::{Broken, Doubtful, Fine};

/// Runs every check. The exit code is 0 if nothing is broken.
pub async fn run(config: &Config) -> ExitCode {
    let mut broken = 0;
    let mut show = |what: &str, finding: Finding| {
        let (mark, text) = match finding {
            Fine(seen) => ("ok   ", seen),
            Doubtful(why) => ("warn ", why),
            Broken(why) => {
                broken += 1;
                ("FAIL ", why)
            }
        };
        println!("{mark} {what:<12} {text}");
    };
    for camera in &config.cameras {
        show(&format!("camera {}", camera.name), check_camera(camera));
    }
    if config.cameras.iter().any(|camera| camera.capture().needs_decoder()) {
        show("decoder", check_decoder(config));
    }
    let (runtime, model) = check_detector(config);
    show("onnxruntime", runtime);
    show("model", model);
    if let Some(teacher) = &config.learn.teacher {
        show("teacher", check_teacher(teacher, &config.detector));
    }
    let identity = Identity::below(&config.data_dir);
    if identity.is_enrolled() {
        show("identity", check_identity(&identity));
    }
    for broker in std::iter::once(&config.broker()).chain(&config.mqtt.fallback) {
        show("broker", check_broker(config, broker).await);
    }
    show("disk", check_disk(config));
    if config.live.enabled {
        show("live view", check_live(config));
    }
    for camera in config.cameras.iter().filter(|camera| camera.record.is_some() || camera.restream.is_some()) {
        show(&format!("sinks of {}", camera.name), check_sinks(camera));
    }
    if config.cameras.iter().any(|camera| camera.snapshots || camera.record.is_some() || camera.restream.is_some()) {
        show("encoder", check_encoder(config));
    }
    show("clock", check_clock());
    if broken == 0 {
        println!("everything that an agent needs is here");
        ExitCode::SUCCESS
    } else {
        println!("{broken} of the above must be put right first");
        ExitCode::FAILURE
    }
}

fn check_camera(camera: &Camera) -> Finding {
    let mailbox = Mailbox::new(1);
    let one_frame = capture::Config { pace: Pace::Max, ..camera.capture() };
    let began = Instant::now();
    let source = capture::start(0, camera.name.clone(), one_frame, Some(1), mailbox.clone());
    match mailbox.take(FIRST_FRAME) {
        Ok((_, frame)) => {
            let took_ms = began.elapsed().as_millis();
            let form = source.snapshot().format.map_or(String::new(), |format| format!(" ({format})"));
            Fine(format!("{}x{}{form} after {took_ms} ms", frame.width, frame.height))
        }
        Err(_) => Broken(match (source.failure(), source.snapshot().last_error) {
            (Some(failure), _) => failure.sentence,
            (None, Some(error)) => error,
            (None, None) => format!("no frame within {} s; check the address and the camera", FIRST_FRAME.as_secs()),
        }),
    }
}

fn check_decoder(config: &Config) -> Finding {
    let own = config.cameras.iter().filter_map(|camera| camera.decoder.as_ref()?.first()).next();
    let program = own.map_or("ffmpeg", String::as_str);
    let flag = if own.is_some() { "--version" } else { "-version" };
    match Command::new(program).arg(flag).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            Fine(text.lines().next().unwrap_or(program).chars().take(60).collect())
        }
        Err(error) => Broken(format!("{program} cannot be started ({error}); install it: apt-get install ffmpeg")),
    }
}

fn check_detector(config: &Config) -> (Finding, Finding) {
    let mut detector = match Detector::load(&config.detector) {
        Ok(detector) => detector,
        Err(failure) if failure.exit == Exit::Runtime => {
            return (Broken(failure.sentence), Doubtful("cannot be tried without onnxruntime".into()));
        }
        Err(failure) => return (Fine("loaded".into()), Broken(failure.sentence)),
    };
    let twin = detector.twin();
    let passed_over: Vec<_> = twin.passed_over.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let seen = format!("{} on {}, {} thread(s)", twin.runtime, twin.provider, twin.threads);
    let runtime =
        if passed_over.is_empty() { Fine(seen) } else { Doubtful(format!("{seen}; not {}", passed_over.join(", "))) };

    let model = match detector.detect(&grey(), &mut Vec::new()) {
        Ok(timing) => {
            Fine(format!("{} ({}), {:.1} ms a frame", twin.model, twin.layout, timing.run.as_secs_f64() * 1000.0))
        }
        Err(error) => Broken(format!("{error}; choose another model")),
    };
    (runtime, model)
}

/// Whether the teacher looks, and as often as it is to: what it takes at full speed must fit into its share.
fn check_teacher(teacher: &Teacher, own: &detect::Config) -> Finding {
    let mut detector = match Detector::load(&teacher.detector(own)) {
        Ok(detector) => detector,
        Err(failure) => return Broken(failure.sentence),
    };
    let twin = detector.twin();
    match detector.detect(&grey(), &mut Vec::new()) {
        Ok(timing) => {
            let frame_ms = timing.run.as_secs_f64() * 1000.0;
            let seen = format!("{} ({}), {frame_ms:.1} ms a frame", twin.model, twin.layout);
            let least_s = timing.run_cpu.as_secs_f64() * 100.0 / f64::from(teacher.cpu_percent);
            if least_s <= f64::from(teacher.every_s) {
                Fine(seen)
            } else {
                let (every_s, percent) = (teacher.every_s, teacher.cpu_percent);
                Doubtful(format!(
                    "{seen}: with cpu_percent = {percent} it looks every {least_s:.1} s, and not every {every_s}"
                ))
            }
        }
        Err(error) => Broken(format!("{error}; choose another model")),
    }
}

fn grey() -> Frame {
    Frame { taken_ms: 0, width: 768, height: 576, rgb: vec![128; 768 * 576 * 3] }
}

/// Whether the device is who it says, and for how long yet.
fn check_identity(identity: &Identity) -> Finding {
    let read = identity.key().and_then(|_| identity.membership()).and_then(|_| identity.certificate());
    let certificate = match read {
        Ok(certificate) => certificate,
        Err(error) => return Broken(error.to_string()),
    };
    let seen = format!("{}, its certificate {}", certificate.name, certificate.left(unix_s()));
    match certificate.standing(unix_s()) {
        Standing::Fresh => Fine(seen),
        Standing::Late => Doubtful(format!("{seen}; run picket-agent renew, and see whether its timer runs")),
        Standing::Expired => Broken(format!("{seen}; enrol this device again")),
        Standing::Early => Broken(format!("{seen}, and does not hold yet; set this machine's clock")),
    }
}

async fn check_broker(config: &Config, broker: &BrokerUrl) -> Finding {
    if broker.tls {
        // A broker that names clients by their certificates would throw the running agent out.
        let tried = tokio::time::timeout(BROKER_ANSWER, mqtt::shake_hands(broker, config.mqtt.tls.as_ref())).await;
        return match tried {
            Ok(Ok(())) => Fine(format!("{broker} takes this device's certificate")),
            Ok(Err(sentence)) => Broken(sentence),
            Err(_) => Broken(format!("{broker} does not answer; check the address and any firewall")),
        };
    }
    let (link, mut events) = mqtt::open(LinkOptions {
        broker: broker.clone(),
        // Not the agent's own: the two would throw each other out.
        client_id: format!("picket-{}-{}-doctor", config.site, config.node),
        will: None,
        filters: vec![],
        payload_bytes_max: 0,
        tls: None,
    });
    let finding = match tokio::time::timeout(BROKER_ANSWER, events.recv()).await {
        Ok(Some(LinkEvent::Down(reason))) => Broken(reason),
        Ok(_) => Fine(format!("{broker} takes connections")),
        Err(_) => Broken(format!("{broker} does not answer; check the address and any firewall")),
    };
    link.close();
    finding
}

/// Writes a file where the store is or will be, and removes it. The store itself is left alone: opening it would make one,
/// and as whoever runs this, not as the agent's user.
fn check_disk(config: &Config) -> Finding {
    let wanted = &config.data_dir;
    let Some(dir) = wanted.ancestors().find(|dir| dir.exists()) else {
        return Broken(format!("{} does not exist; name a directory that can be made", wanted.display()));
    };
    let denied = |error: std::io::Error| {
        let place = wanted.display();
        Broken(format!(
            "{place} cannot be written ({error}); check its owner, and that the disk is not full or read-only"
        ))
    };
    let probe = dir.join(format!(".picket-doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, [0; 4096]);
    let removed = std::fs::remove_file(&probe);
    if let Err(error) = written.and(removed) {
        return denied(error);
    }
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let free_bytes = disk.f_bavail * disk.f_frsize;
            let seen = format!("{} has {} MiB free", dir.display(), free_bytes / (1024 * 1024));
            if free_bytes < FREE_BYTES_MIN { Doubtful(format!("{seen}; make room")) } else { Fine(seen) }
        }
        Err(error) => denied(error.into()),
    }
}

/// Whether its address could be listened on. A running agent has it, which is as good.
fn check_live(config: &Config) -> Finding {
    let Some(listen) = config.live.listen else { return Fine("on this machine, at a port that the log names".into()) };
    match std::net::TcpListener::bind(listen) {
        Ok(_) if listen.ip().is_loopback() => Fine(format!("http://{listen}/ for this machine")),
        Ok(_) => Doubtful(format!("http://{listen}/ can be reached from other machines, and is not encrypted")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Doubtful(format!("{listen} is in use: by the running agent, or set live.listen to another port"))
        }
        Err(error) => Broken(format!("{listen} cannot be listened on ({error}); correct live.listen")),
    }
}

/// Whether recordings can be written, and whether a stream's server answers.
fn check_sinks(camera: &Camera) -> Finding {
    if let Some(record) = &camera.record {
        let folder = record.path.parent().unwrap_or(std::path::Path::new("/"));
        let Some(dir) = folder.ancestors().find(|dir| dir.is_dir()) else {
            return Broken(format!("{} cannot be made; correct record.path", folder.display()));
        };
        let probe = dir.join(format!(".picket-doctor-{}", std::process::id()));
        if let Err(error) = std::fs::write(&probe, [0; 4096]).and_then(|()| std::fs::remove_file(&probe)) {
            return Broken(format!("{} cannot be written ({error}); correct record.path", folder.display()));
        }
    }
    match &camera.restream {
        Some(restream) if restream.shows_password() => Doubtful(format!(
            "{}: its password can be seen in the list of processes; give a restream.encoder that reads PICKET_URL",
            restream.url
        )),
        Some(restream) => Fine(format!("sent on to {}", restream.url)),
        None => Fine("recorded".into()),
    }
}

/// Makes a clip of nothing much, with what would make the real ones.
fn check_encoder(config: &Config) -> Finding {
    match crate::sinks::try_encoder(&config.media) {
        Ok(bytes) => Fine(format!("makes clips; one of ten grey pictures has {bytes} bytes")),
        Err(sentence) => Broken(sentence),
    }
}

fn check_clock() -> Finding {
    let now = SystemTime::now();
    let built = std::env::current_exe().and_then(|program| program.metadata()?.modified());
    // A board without a battery wakes up in 1970 or at its image's date, before this program was installed.
    if built.is_ok_and(|built| now < built) {
        return Broken("the clock is earlier than this program's own file; set it: timedatectl set-ntp true".into());
    }
    let year = 1970 + now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) / 31_556_952;
    if std::path::Path::new("/run/systemd/timesync/synchronized").exists() {
        Fine(format!("{year}, synchronised"))
    } else {
        Fine(format!("{year}; whether it is synchronised is not known here"))
    }
}
