//! The Debian packages, in a Debian that is put over this machine's own and thrown away: installed, upgraded, removed, purged.
//!
//! Needs root and an overlay file system. `PICKET_DEBIAN_ROOT` names another Debian to use, such as one of debootstrap's.
//! Nothing of this machine is changed, and nothing is started: there is no systemd in there that runs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use picket_tests::{binary, run_within, skipped, text};
use tempfile::TempDir;

const PACKAGES: [&str; 2] = ["picket-agent", "picket-coordinator"];
const PATIENCE: Duration = Duration::from_secs(300);

/// Packs the programs of this build under that version; gives the packages.
pub(crate) fn packages(out: &Path, version: &str) -> Vec<PathBuf> {
    let mut build = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/debian/build.sh"));
    build.arg(architecture()).arg(binary("picket-agent").parent().unwrap()).arg(out).env("VERSION", version);
    // Small is for those who download.
    build.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    let output = run_within(&mut build, PATIENCE);
    assert!(output.status.success(), "{}", text(&output));
    PACKAGES.iter().map(|name| out.join(format!("{name}_{version}_{}.deb", architecture()))).collect()
}

fn architecture() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

/// What a machine without Debian's tools lacks.
pub(crate) fn missing(tools: &[&str]) -> Option<String> {
    let there = |tool: &str| {
        let look = format!("command -v {tool}");
        Command::new("sh").args(["-c", &look]).output().is_ok_and(|found| found.status.success())
    };
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| !there(tool)).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// A Debian to write in. Each command mounts it for itself, in a name space of its own, and leaves nothing mounted.
struct Debian {
    dir: TempDir,
    lower: String,
}

impl Debian {
    /// Says why there is none.
    fn new() -> Result<Debian, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount".into());
        }
        if let Some(missing) = missing(&["dpkg", "dpkg-deb", "readelf", "strip", "unshare", "chroot"]) {
            return Err(format!("this machine lacks {missing}"));
        }
        let lower = std::env::var("PICKET_DEBIAN_ROOT").unwrap_or_else(|_| "/".into());
        let debian = Debian { dir: TempDir::new().unwrap(), lower };
        for name in ["upper", "work", "merged", "debs"] {
            std::fs::create_dir(debian.dir.path().join(name)).unwrap();
        }
        let needed = "dpkg-query -W systemd procps libgcc-s1 && ! dpkg-query -W picket-agent picket-coordinator";
        let output = debian.run(needed);
        if output.status.success() { Ok(debian) } else { Err(text(&output)) }
    }

    /// Runs a line of the shell in there; the packages lie in /mnt.
    fn run(&self, line: &str) -> Output {
        let (dir, lower) = (self.dir.path().display(), &self.lower);
        let mount = format!(
            "mount -t overlay overlay -o lowerdir={lower},upperdir={dir}/upper,workdir={dir}/work {dir}/merged && \
             mount -t proc proc {dir}/merged/proc && mount --bind {dir}/debs {dir}/merged/mnt && \
             exec chroot {dir}/merged /bin/sh -c \"$1\""
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &mount, "sh", line]);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        run_within(&mut command, PATIENCE)
    }

    /// The same, which must succeed; gives what was said.
    fn sh(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", text(&output));
        text(&output)
    }

    /// Every file where packages put any; dpkg's own books aside.
    fn files(&self) -> String {
        self.sh("find /etc /usr/bin /usr/lib /usr/share/doc /var/lib /var/cache -xdev -not -path '/var/lib/dpkg*' \
             -not -path '/etc/*-' -not -name .pwd.lock -not -path '*/ldconfig/*' | sort >/mnt/files");
        std::fs::read_to_string(self.dir.path().join("debs/files")).unwrap()
    }
}

#[test]
fn the_packages_install_upgrade_and_go_without_a_trace() {
    let debian = match Debian::new() {
        Ok(debian) => debian,
        Err(why) => return skipped(&format!("no Debian to install in: {why}")),
    };
    let debs = debian.dir.path().join("debs");
    packages(&debs, "0.9.0");
    packages(&debs, "0.9.1");
    let before = debian.files();

    debian.sh("dpkg -i /mnt/*_0.9.0_*.deb");
    for (path, expect) in [
        ("/etc/picket", "750 root:picket\n"),
        ("/etc/picket/agent.toml", "640 root:picket\n"),
        ("/etc/picket/coordinator.toml", "640 root:picket\n"),
        ("/usr/bin/picket-agent", "755 root:root\n"),
        ("/usr/lib/systemd/system/picket-agent-renew.timer", "644 root:root\n"),
        ("/usr/lib/udev/rules.d/70-picket.rules", "644 root:root\n"),
        ("/usr/share/doc/picket-agent/examples/jetson-nano/agent.toml", "644 root:root\n"),
    ] {
        assert_eq!(debian.sh(&format!("stat -c '%a %U:%G' {path}")), expect, "{path}");
    }
    // The users are there and may read what is theirs; the programs start.
    for name in PACKAGES {
        let config = format!("/etc/picket/{}.toml", name.trim_start_matches("picket-"));
        debian.sh(&format!(
            "id -nG {name} | grep -qw picket && setpriv --reuid {name} --regid {name} --init-groups cat {config}"
        ));
        debian.sh(&format!("{name} --version"));
    }

    // An upgrade keeps what was configured and remembered.
    debian.sh("echo '# mine' >>/etc/picket/agent.toml && mkdir -p /var/lib/picket-agent/store /var/cache/picket-agent");
    debian.sh("dpkg -i /mnt/*_0.9.1_*.deb");
    let kept = "grep -q '# mine' /etc/picket/agent.toml && test -d /var/lib/picket-agent/store";
    debian.sh(&format!("{kept} && test \"$(dpkg-query -Wf '${{Version}}' picket-agent)\" = 0.9.1"));
    assert_eq!(debian.sh("stat -c '%a %U:%G' /etc/picket/agent.toml"), "640 root:picket\n");

    // So does a removal, which takes the program.
    debian.sh("dpkg -r picket-agent picket-coordinator");
    debian.sh(&format!(
        "{kept} && test ! -e /usr/bin/picket-agent && test ! -e /usr/lib/systemd/system/picket-agent.service"
    ));

    // A purge leaves nothing, whatever was made meanwhile.
    debian.sh("dpkg -i /mnt/*_0.9.1_*.deb && mkdir -p /etc/systemd/system/multi-user.target.wants");
    debian.sh("ln -s /usr/lib/systemd/system/picket-agent.service /etc/systemd/system/multi-user.target.wants/");
    debian.sh("dpkg -P picket-agent picket-coordinator");
    let after = debian.files();
    let known: HashSet<&str> = before.lines().collect();
    let left: Vec<&str> = after.lines().filter(|path| !known.contains(path)).collect();
    assert!(left.is_empty() && before.len() == after.len(), "{left:?}");
}

#[test]
fn lintian_finds_no_error_in_the_packages() {
    if let Some(missing) = missing(&["lintian", "dpkg-deb", "readelf", "strip"]) {
        return skipped(&format!("the packages are not looked at by lintian: this machine lacks {missing}"));
    }
    let dir = TempDir::new().unwrap();
    let packages = packages(dir.path(), "0.9.0");
    let output =
        run_within(Command::new("lintian").args(["--allow-root", "--fail-on", "error"]).args(packages), PATIENCE);
    assert!(output.status.success(), "{}", text(&output));
}
