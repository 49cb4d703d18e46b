//! The authority on the command line: invite a device, take one back, make a broker's certificate, change the orders key. It
//! works beside a running coordinator.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::calendar::unix_s;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::NodeId;
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::topics::OPERATOR_PREFIX;
use picket_shared::trust::token::{Door, Token};

use super::issue::Purpose;
use super::{Authority, AuthorityError, COORDINATOR, Issued};
use crate::config::{Config, Flags};

/// A device is enrolled while somebody stands beside it, or soon.
const MINUTES_MAX: u64 = 7 * 24 * 60;

/// What can be done with the authority.
#[derive(Subcommand)]
pub enum AuthorityCommand {
    /// Every device that was admitted and every token that is out: one JSON object a line
    List {
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Make key, certificate, CA and revocation list for a broker that is reached by these names and addresses
    Broker {
        /// Host names and addresses by which nodes reach it
        #[arg(required = true)]
        hosts: Vec<String>,
        /// Where the files go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Make key and certificate for somebody who connects and is no device: a dashboard, an operator's program, or a second coordinator
    Client {
        /// Its name in the broker's access rules: "dashboard…", "operator-NAME" or "coordinator…"
        name: NodeId,
        /// Where the files go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Write the list of revoked certificates, for brokers
    Revocations {
        /// Where crl.pem goes
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Make a new key that signs orders, announced by the present one, which is forgotten
    Rotate {
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
}

fn open(config: &Config) -> Result<Authority, Failure> {
    Ok(Authority::open(&config.authority_dir(), &config.site, unix_s())?)
}

/// Writes down what is about to be done; without that it is not.
fn note(config: &Config, act: Act, note: &Note) -> Result<(), Failure> {
    let log = AuditLog::open(&config.data_dir, unix_s());
    let written = log.and_then(|log| log.record(unix_s(), act, note));
    written.map(drop).map_err(picket_shared::audit::command::failure)
}

/// Invites a device: prints its token, and as a picture too where somebody looks.
pub fn enrol(flags: &Flags, node: &NodeId, minutes: u64, door: Option<&str>) -> Result<(), Failure> {
    let config = Config::read(flags)?;
    let wrong = |what: String| Failure::new(Exit::Config, what);
    if !(1..=MINUTES_MAX).contains(&minutes) {
        return Err(wrong(format!("--minutes is {minutes}; give it 1 to {MINUTES_MAX}")));
    }
    let door = door.map(str::to_owned).or_else(|| config.enrolment.door.clone()).ok_or_else(|| {
        wrong(
            "where devices reach this coordinator is not known; set door = \"host:port\" in [enrolment], or give --url"
                .into(),
        )
    })?;
    let door = Door::parse(&door).ok_or_else(|| wrong(format!("the door \"{door}\" is not of the form host:port")))?;
    let authority = open(&config)?;
    let fingerprint = authority.ca_certificate()?.fingerprint;
    note(&config, Act::DeviceInvited, &Note::about(node).with(format!("within {minutes} minutes")))?;
    let secret = authority.invite(node, minutes, unix_s())?;
    let text = Token { door, fingerprint, secret }.text();
    let mut out = std::io::stdout().lock();
    let picture = if out.is_terminal() { picture(&text) } else { String::new() };
    said(writeln!(out, "{picture}{text}"))?;
    eprintln!(
        "picket-coordinator: this makes one device {node}, within {minutes} minutes: give it to `picket-agent enrol`"
    );
    Ok(())
}

/// The token as a QR code of half blocks.
fn picture(text: &str) -> String {
    let code = qrcode::QrCode::new(text).map(|code| code.render::<qrcode::render::unicode::Dense1x2>().build());
    // A token has at most 400 characters, and a code room for 2,953 bytes.
    code.map_or_else(|_| String::new(), |picture| picture + "\n")
}

/// Takes a device back.
pub fn revoke(flags: &Flags, node: &NodeId, out: Option<&Path>) -> Result<(), Failure> {
    let config = Config::read(flags)?;
    let authority = open(&config)?;
    note(&config, Act::DeviceRevoked, &Note::about(node))?;
    let revoked = authority.revoke(node, unix_s())?;
    let remedy = match out {
        Some(dir) => {
            let path = write_revocations(&authority, dir)?;
            format!("start the brokers that read {} again: that throws out who is connected", path.display())
        }
        None => "give brokers the new list: `picket-coordinator authority revocations --out DIR`, and start them again"
            .into(),
    };
    eprintln!("picket-coordinator: {revoked} certificates of {node} are revoked; {remedy}");
    Ok(())
}

/// Does what was asked.
pub fn run(command: &AuthorityCommand) -> Result<(), Failure> {
    match command {
        AuthorityCommand::List { flags } => list(&open(&Config::read(flags)?)?),
        AuthorityCommand::Broker { hosts, out, flags } => {
            let config = Config::read(flags)?;
            let authority = open(&config)?;
            note(&config, Act::ClientAdmitted, &Note::about("broker").with(hosts.join(", ")))?;
            let issued = authority.issue("broker", &Purpose::Server(hosts.clone()), unix_s())?;
            write_issued(&authority, &issued, "broker", out)?;
            write_revocations(&authority, out)?;
            let out = out.display();
            eprintln!(
                "picket-coordinator: {out}/broker.key, broker.crt, ca.crt and crl.pem are for the broker's user to read"
            );
            Ok(())
        }
        AuthorityCommand::Client { name, out, flags } => {
            let text = name.as_str();
            let begins = [COORDINATOR, "dashboard", OPERATOR_PREFIX];
            if text == COORDINATOR || !begins.iter().any(|begin| text.starts_with(begin)) {
                let sentence = format!(
                    "{name} is not for somebody who connects; name it dashboard…, {OPERATOR_PREFIX}NAME or {COORDINATOR}-…, and enrol \
                     devices by `picket-coordinator enrol`"
                );
                return Err(Failure::new(Exit::Config, sentence));
            }
            let config = Config::read(flags)?;
            let authority = open(&config)?;
            note(&config, Act::ClientAdmitted, &Note::about(name))?;
            let issued = authority.issue(text, &Purpose::Client, unix_s())?;
            write_issued(&authority, &issued, text, out)
        }
        AuthorityCommand::Revocations { out, flags } => {
            write_revocations(&open(&Config::read(flags)?)?, out)?;
            Ok(())
        }
        AuthorityCommand::Rotate { flags } => {
            let config = Config::read(flags)?;
            let authority = open(&config)?;
            let present = authority.orders()?.newest().number;
            note(&config, Act::OrdersKeyRotated, &Note::about(format!("orders key {}", present + 1)))?;
            let chain = authority.rotate(unix_s())?;
            let newest = chain.newest();
            eprintln!("picket-coordinator: orders key {} ({}) signs from now on", newest.number, newest.key.id());
            Ok(())
        }
    }
}

fn list(authority: &Authority) -> Result<(), Failure> {
    let now_s = unix_s();
    let mut lines = Vec::new();
    for device in authority.devices()? {
        let newest = device.certificates.last();
        lines.push(serde_json::json!({
            "node": device.node,
            "state": device.state(now_s),
            "key": newest.map(|given| given.key.id()),
            "serial": newest.map(|given| &given.serial),
            "not_after": newest.map(|given| given.not_after_s),
        }));
    }
    for ticket in authority.tickets_out()? {
        let state = match ticket.key {
            Some(_) => "token_used",
            None if ticket.expires_s <= now_s => "token_expired",
            None => "invited",
        };
        lines.push(serde_json::json!({ "node": ticket.node, "state": state, "not_after": ticket.expires_s }));
    }
    let mut out = std::io::stdout().lock();
    said(lines.iter().try_for_each(|line| writeln!(out, "{line}")))
}

fn write_issued(authority: &Authority, issued: &Issued, name: &str, dir: &Path) -> Result<(), Failure> {
    let write = || {
        keyfile::make_dir(dir)?;
        keyfile::write_open(&dir.join("ca.crt"), authority.ca_pem()?.as_bytes())?;
        keyfile::write_open(&dir.join(format!("{name}.crt")), issued.chain.as_bytes())?;
        keyfile::write_secret(&dir.join(format!("{name}.key")), issued.key.as_bytes())?;
        Ok::<(), AuthorityError>(())
    };
    Ok(write()?)
}

fn write_revocations(authority: &Authority, dir: &Path) -> Result<PathBuf, Failure> {
    let path = dir.join("crl.pem");
    let list = authority.revocations(unix_s())?;
    let written = keyfile::make_dir(dir).and_then(|()| keyfile::write_open(&path, list.as_bytes()));
    written.map_err(|error: KeyfileError| Failure::new(Exit::Disk, error.to_string()))?;
    Ok(path)
}

/// The reader may have seen enough (`| head`).
fn said(written: std::io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Disk, format!("the output cannot be written ({error})")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_is_a_picture_too() {
        let token = format!("picket://camera-hub.example.org:8444/{}/{}", "ab".repeat(32), "cd".repeat(16));
        let picture = super::picture(&token);
        let lines: Vec<_> = picture.lines().collect();
        assert!(lines.len() > 20 && lines.len() < 45, "{}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() < 80), "it fits a terminal");
    }
}
