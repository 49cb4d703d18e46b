//! The registry under kill -9: each command of the command line is killed before each of its writes, and whatever is left can be
//! read, and comes to the same end when the command is given again.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use picket_tests::{binary, run_within, text};
use serde_json::Value;

use super::rig::WITHIN;

const NODES: [&str; 2] = ["a", "b"];

struct Bench {
    dir: tempfile::TempDir,
    killer: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let (killer, source) = (dir.path().join("kill.so"), Path::new(env!("CARGO_MANIFEST_DIR")));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&killer);
        let built = compiler.arg(source.join("tests/models/kill.c")).arg("-ldl").output().unwrap();
        assert!(built.status.success(), "{}", text(&built));
        let bench = Bench { dir, killer };
        bench.configure("now");
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A configuration for the registry of this name.
    fn configure(&self, name: &str) {
        let stations = NODES.map(|node| format!("[[station]]\nname = \"at-{node}\"\nnode = \"{node}\"\n")).concat();
        let config = format!("data_dir = \"{}\"\n{stations}", self.at(name).display());
        fs::write(self.at(&format!("{name}.toml")), config).unwrap();
    }

    /// Runs a command on the registry of this name; killed at its n-th write, where there are so many.
    fn run(&self, name: &str, args: &[&str], kill_at: Option<u32>) -> Output {
        let mut command = Command::new(binary("picket-coordinator"));
        let args: Vec<String> = args.iter().map(|arg| arg.replace('~', self.dir.path().to_str().unwrap())).collect();
        command.arg("model").args(&args);
        // What the owner does on his own machine has no registry.
        if !["keygen", "root", "pack", "sign"].contains(&args[0].as_str()) {
            command.arg("--config").arg(self.at(&format!("{name}.toml")));
        }
        if let Some(at) = kill_at {
            command.env("LD_PRELOAD", &self.killer).env("PICKET_KILL_AT", at.to_string());
        }
        run_within(&mut command, WITHIN)
    }

    fn fine(&self, name: &str, args: &[&str]) {
        let output = self.run(name, args, None);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
    }

    /// What stands in a registry, without what differs from one time to the next.
    fn state(&self, name: &str) -> Vec<Value> {
        let output = self.run(name, &["status"], None);
        assert!(output.status.success(), "{}", text(&output));
        let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
        let mut lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter_mut().for_each(without_times);
        lines
    }
}

fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["number", "issued_s", "expires_s", "begun", "heads", "rollout"] {
                if fields.get(name).is_some_and(|field| !field.is_object()) {
                    fields.remove(name);
                }
            }
            fields.values_mut().for_each(without_times);
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        _ => {}
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn killed_before_any_of_its_writes_each_command_comes_to_the_same_end_the_next_time() {
    let bench = Bench::new();
    fs::write(bench.at("model.onnx"), b"a model").unwrap();
    fs::write(bench.at("other.onnx"), b"another model").unwrap();
    fs::write(bench.at("head.f32"), [0; 12]).unwrap();
    bench.fine("now", &["keygen", "~/one.pem"]);
    bench.fine("now", &["root", "new", "--key", "~/one.pem", "--out", "~/root.json"]);
    bench.fine("now", &["root", "rotate", "~/root.json", "--key", "~/one.pem", "--out", "~/root-2.json"]);
    for (counter, model) in [("1", "~/model.onnx"), ("2", "~/other.onnx")] {
        let out = format!("~/{counter}.json");
        let head = ["--head", "~/head.f32", "--delegate-head", "5"];
        let pack = [&["pack", model, "--name", "person", "--counter", counter, "--out", &out][..], &head].concat();
        bench.fine("now", &pack);
        bench.fine("now", &["sign", &out, "--key", "~/one.pem"]);
    }
    let mut writes = Vec::new();
    for args in [
        &["publish", "~/root.json"][..],
        &["publish", "~/1.json", "--file", "~/model.onnx", "--file", "~/head.f32"],
        &["publish", "~/2.json", "--file", "~/other.onnx", "--file", "~/head.f32"],
        &["publish", "~/root-2.json"],
        &["head", "person", "1", "~/head.f32"],
        &["assign", "a", "person", "1"],
        &["rollout", "start", "person", "1", "--canary", "a"],
        &["rollout", "start", "person", "2", "--canary", "b", "--wave", "a"],
        &["rollout", "pause", "2"],
        &["rollout", "resume", "2"],
        &["rollout", "pin", "at-b"],
        &["rollout", "unpin", "at-b"],
        &["rollout", "abort", "2"],
        &["assign", "b", "person", "2"],
        &["revoke", "person", "2"],
        &["assign", "a", "--clear"],
    ] {
        if bench.at("now").is_dir() {
            copy(&bench.at("now"), &bench.at("before"));
        }
        bench.fine("now", args);
        let expect = bench.state("now");
        let mut killed = 0;
        loop {
            let name = "killed";
            bench.configure(name);
            let _ = fs::remove_dir_all(bench.at(name));
            if bench.at("before").is_dir() {
                copy(&bench.at("before"), &bench.at(name));
            }
            let output = bench.run(name, args, Some(killed + 1));
            if output.status.success() {
                break;
            }
            assert_eq!(output.status.signal(), Some(9), "{args:?}: {}", text(&output));
            killed += 1;
            // What is left can be read, and to give the command again comes to the same end, or finds that it has come.
            bench.state(name);
            let again = bench.run(name, args, None);
            let already = text(&again).contains("already");
            assert!(again.status.success() || already, "{args:?}, killed at {killed}: {}", text(&again));
            let (mut left, mut right) = (bench.state(name), expect.clone());
            // A rollout that was begun and is begun again took the place of itself.
            if args[..2] == ["rollout", "start"] {
                for lines in [&mut left, &mut right] {
                    lines.retain(|line| line["rollout"]["course"] != "superseded");
                }
            }
            assert_eq!(left, right, "{args:?}, killed at {killed}");
        }
        println!("{} {}: killed at each of {killed} writes", args[0], args[1]);
        assert!(killed > 1, "{args:?} was killed {killed} times");
        writes.push(killed);
    }
    println!("{} kills in all", writes.iter().sum::<u32>());
}
