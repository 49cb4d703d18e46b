//! A whole agent that gets neither the providers nor the model that it was configured for: it watches all the same, and its
//! health says in whose place, and why.

use std::process::Command;

use picket_shared::status::{Health, Twin};

use crate::common::{Running, heard, mosquitto, wait_for};
use crate::gate::frames;
use crate::onnx::{Data, Model};
use crate::{NAMES, saved};

#[test]
fn what_the_detector_was_to_be_and_is_not_stands_in_health() {
    let dir = tempfile::tempdir().unwrap();
    // It sees somebody where nobody is, and nobody where somebody is.
    let stubborn = Data::F32(vec![1.0, 1.0, 3.0, 3.0, 0.9, 1.0]);
    let stubborn = Model::of_picture(64, 64).says("names", NAMES).gives("output0", &[1, 6], stubborn);
    let (model, frames) = (saved(dir.path(), &stubborn).model, frames(dir.path()));
    let (_broker, port) = mosquitto(dir.path());
    let (_heard, mut lines) =
        heard(port, &["picket/v1/+/+/twin", "picket/v1/+/n/status/health", "picket/v1/+/n/m/stats"]);
    let config = format!(
        "node = \"n\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n[live]\nenabled = false\n[detector]\n\
         model = \"{model}\"\nreference = \"builtin\"\nframes = \"{}\"\nproviders = [\"tensorrt\", \"cuda\"]\n\
         [detector.tensorrt]\ncache_dir = \"{}\"\n[[camera]]\nname = \"c\"\nsource = \"synthetic:\"\nsnapshots = false\n",
        dir.path().join("data").display(),
        frames.display(),
        dir.path().join("engines").display()
    );
    let (file, log) = (dir.path().join("agent.toml"), dir.path().join("log"));
    std::fs::write(&file, config).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["run", "--config"])
        .arg(&file)
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn();
    let _agent = Running(agent.unwrap());
    let said = || std::fs::read_to_string(&log).unwrap();
    let (mut twin, mut health): (Option<Twin>, Option<Health>) = (None, None);
    let (twin, problems) = wait_for("both in health", || {
        let line = lines.next().unwrap_or_else(|| panic!("the broker is gone: {}", said()));
        let (topic, payload) = line.split_once(' ').unwrap();
        if topic.ends_with("twin") {
            twin = Some(serde_json::from_str(payload).unwrap());
        } else if topic.ends_with("health") {
            health = Some(serde_json::from_str(payload).unwrap());
        }
        // Statistics come again and again, so that this does not wait for ever.
        let problems = health.clone()?.problems;
        (!problems.is_empty()).then_some((twin.clone()?, problems))
    });
    let place = &twin.detector.provider;
    let has = |begins: String, why: &str| {
        problems.iter().any(|problem| problem.starts_with(&begins) && problem.contains(why))
    };
    let model = format!("the model {model} is not used, and its reference is: ");
    assert!(has(model, "agrees with the reference to 0.000"), "{problems:?}");
    // A machine that has such a provider has nothing to say of it.
    let providers = twin.detector.passed_over.iter().filter(|(what, _)| !what.starts_with("model "));
    for (provider, why) in providers {
        let begins = format!("the provider {provider} cannot be had, and {place} is used: ");
        assert!(has(begins, &why[..why.len().min(40)]), "{problems:?}");
        assert!(said().contains(&format!("the provider {provider} cannot be had")), "aloud too: {}", said());
    }
    let passed_over = |provider: &str| twin.detector.passed_over.contains_key(provider);
    assert!(place != "cpu" || passed_over("cuda") && passed_over("tensorrt"), "{twin:?}");
}
