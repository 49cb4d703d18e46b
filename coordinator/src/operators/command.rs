//! `picket-coordinator operator`: lets somebody act at the page, or no more. It works beside a running coordinator. A token is printed
//! once, to whoever ran the command, and is in no log and no list of processes.

use std::io::Write;

use clap::Subcommand;
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::calendar::unix_s;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::OperatorName;

use super::{OperatorError, Operators};
use crate::config::{Config, Flags};

/// What can be done with operators.
#[derive(Subcommand)]
pub enum OperatorCommand {
    /// Let somebody act at the page: prints the link that he opens, once
    Add {
        /// His name: what labels and the audit log call him
        name: OperatorName,
        /// Where his browser finds the page; by default where this coordinator listens
        #[arg(long, value_name = "http://HOST:PORT/")]
        url: Option<String>,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Let him act no more
    Remove {
        /// His name
        name: OperatorName,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Everybody who may act: one JSON object a line
    List {
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Failure {
        let exit = match &error {
            OperatorError::Known(_) | OperatorError::TooMany => Exit::Denied,
            OperatorError::Random(_) | OperatorError::File(_) => Exit::Disk,
        };
        Failure::new(exit, error.to_string())
    }
}

/// Does what was asked.
pub fn run(command: &OperatorCommand) -> Result<(), Failure> {
    match command {
        OperatorCommand::Add { name, url, flags } => add(&Config::read(flags)?, name, url.as_deref()),
        OperatorCommand::Remove { name, flags } => {
            let config = Config::read(flags)?;
            Operators::change(&config.data_dir, |operators| match operators.remove(name) {
                true => note(&config, Act::OperatorRemoved, name),
                false => Err(Failure::new(Exit::Denied, format!("there is no operator {name}"))),
            })
        }
        OperatorCommand::List { flags } => {
            let operators = Operators::read(&Config::read(flags)?.data_dir).map_err(OperatorError::File)?;
            let lines = operators.all().iter().map(|operator| {
                serde_json::json!({ "operator": operator.name, "added": operator.added_s }).to_string()
            });
            say(&lines.collect::<Vec<_>>())
        }
    }
}

fn add(config: &Config, name: &OperatorName, url: Option<&str>) -> Result<(), Failure> {
    let own = format!("http://{}/", config.http.listen);
    let url = url.unwrap_or(&own);
    let begins_well = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    if !begins_well || url.contains(['#', '?']) || url.contains(char::is_whitespace) {
        return Err(Failure::new(Exit::Config, format!("--url \"{url}\" is not of the form http://host:port/")));
    }
    let token = Operators::change(&config.data_dir, |operators| {
        let token = operators.add(name, unix_s())?;
        note(config, Act::OperatorAdded, name)?;
        Ok::<_, Failure>(token)
    })?;
    let slash = if url.ends_with('/') { "" } else { "/" };
    say(&[format!("{url}{slash}#operator={token}")])?;
    eprintln!(
        "picket-coordinator: whoever opens this link acts as {name}; it is shown once. `picket-coordinator operator remove \
         {name}` makes it void"
    );
    Ok(())
}

/// Writes down what is about to be done; without that it is not.
fn note(config: &Config, act: Act, name: &OperatorName) -> Result<(), Failure> {
    let log = AuditLog::open(&config.data_dir, unix_s());
    let written = log.and_then(|log| log.record(unix_s(), act, &Note::about(name)));
    written.map(drop).map_err(picket_shared::audit::command::failure)
}

fn say(lines: &[String]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match lines.iter().try_for_each(|line| writeln!(out, "{line}")) {
        // The reader may have seen enough (`| head`).
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Disk, format!("the output cannot be written ({error})")))
        }
        _ => Ok(()),
    }
}
