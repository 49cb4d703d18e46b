//! Who may act at the page: names, and of each one's token the digest alone, in a file for the coordinator's user only. It is read at
//! each request, so that whoever is removed is out at once. Nothing here decides what may be ordered.

pub mod command;

use std::fs::File;
use std::io;
use std::path::Path;

use picket_shared::crypto::{NoRandom, same_secret, secret_hex, sha256_hex};
use picket_shared::ids::OperatorName;
use picket_shared::keyfile::{self, KeyfileError};
use serde::{Deserialize, Serialize};

/// Below the data directory.
pub const FILE: &str = "operators.json";
/// Whoever changes it holds this one, so that of two nobody is forgotten.
const LOCK: &str = "operators.lock";
/// Operators of one site.
pub const OPERATORS_MAX: usize = 64;
/// Bytes of a token: nobody guesses 256 bits.
const TOKEN_BYTES: usize = 32;

/// One who may act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// His name.
    pub name: OperatorName,
    /// SHA-256 of his token, in hexadecimal.
    token_sha256: String,
    /// Since when, seconds since 1970.
    pub added_s: u64,
}

/// All who may act.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operators {
    operators: Vec<Operator>,
}

/// Why nobody is added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// There is one of this name.
    #[error("there is an operator {0} already; remove that one first, and the old link is void")]
    Known(OperatorName),
    /// There are too many.
    #[error("there are {OPERATORS_MAX} operators, which is the most; remove one")]
    TooMany,
    /// No token can be made.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// The disk.
    #[error(transparent)]
    File(#[from] KeyfileError),
}

impl Operators {
    /// Those of this data directory; nobody where there is no file.
    pub fn read(data_dir: &Path) -> Result<Operators, KeyfileError> {
        let path = data_dir.join(FILE);
        match keyfile::read_secret(&path) {
            Err(KeyfileError::Missing(_)) => Ok(Operators::default()),
            text => serde_json::from_str(&text?).map_err(|error| {
                KeyfileError::Content(path, format!("is damaged ({error}); remove it, and add the operators again"))
            }),
        }
    }

    /// Changes those of this data directory; where the change fails nothing is changed.
    pub fn change<T, E: From<OperatorError>>(
        data_dir: &Path,
        change: impl FnOnce(&mut Operators) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = data_dir.join(LOCK);
        let lock = || {
            let file = File::options().create(true).append(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        let disk = |error: io::Error| OperatorError::File(KeyfileError::Disk(path.clone(), error.to_string()));
        let _lock = lock().map_err(disk)?;
        let mut operators = Operators::read(data_dir).map_err(OperatorError::File)?;
        let done = change(&mut operators)?;
        let bytes = serde_json::to_vec(&operators).expect("names and numbers");
        keyfile::write_secret(&data_dir.join(FILE), &bytes).map_err(OperatorError::File)?;
        Ok(done)
    }

    /// Adds one; his token, which is kept nowhere.
    pub fn add(&mut self, name: &OperatorName, now_s: u64) -> Result<String, OperatorError> {
        if self.operators.iter().any(|operator| operator.name == *name) {
            return Err(OperatorError::Known(name.clone()));
        }
        if self.operators.len() >= OPERATORS_MAX {
            return Err(OperatorError::TooMany);
        }
        let token = secret_hex::<TOKEN_BYTES>()?;
        let token_sha256 = sha256_hex(token.as_bytes());
        self.operators.push(Operator { name: name.clone(), token_sha256, added_s: now_s });
        Ok(token)
    }

    /// Removes one; false where there is none of this name.
    pub fn remove(&mut self, name: &OperatorName) -> bool {
        let before = self.operators.len();
        self.operators.retain(|operator| operator.name != *name);
        self.operators.len() < before
    }

    /// Whose token this is. How long it takes says nothing of any token.
    pub fn who(&self, token: &str) -> Option<&OperatorName> {
        let digest = sha256_hex(token.as_bytes());
        // All are looked at, whichever it is.
        self.operators.iter().fold(None, |found, operator| {
            let same = same_secret(digest.as_bytes(), operator.token_sha256.as_bytes());
            if same { Some(&operator.name) } else { found }
        })
    }

    /// All of them.
    pub fn all(&self) -> &[Operator] {
        &self.operators
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn name(text: &str) -> OperatorName {
        OperatorName::new(text).unwrap()
    }

    #[test]
    fn a_token_is_one_operators_until_he_is_removed_and_is_kept_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let add = |who: &str| Operators::change(dir.path(), |operators| operators.add(&name(who), 7));
        assert_eq!(Operators::read(dir.path()), Ok(Operators::default()));
        let (anna, bert) = (add("anna").unwrap(), add("bert").unwrap());
        assert_eq!((anna.len(), anna == bert), (64, false));
        let known = Operators::read(dir.path()).unwrap();
        assert_eq!((known.who(&anna), known.who(&bert)), (Some(&name("anna")), Some(&name("bert"))));
        for wrong in ["", &anna[..63], &format!("{anna}0"), &anna.to_uppercase(), &sha256_hex(anna.as_bytes())] {
            assert_eq!(known.who(wrong), None, "{wrong}");
        }
        assert_eq!(add("anna"), Err(OperatorError::Known(name("anna"))), "nobody takes another's name over");
        let path = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&anna));
        assert_eq!(
            Operators::change(dir.path(), |operators| Ok::<_, OperatorError>(operators.remove(&name("anna")))),
            Ok(true)
        );
        assert_eq!(
            Operators::change(dir.path(), |operators| Ok::<_, OperatorError>(operators.remove(&name("anna")))),
            Ok(false)
        );
        assert_eq!(Operators::read(dir.path()).unwrap().who(&anna), None);
    }

    #[test]
    fn operators_are_bounded_and_a_file_that_others_can_read_admits_nobody() {
        let mut operators = Operators::default();
        for n in 0..OPERATORS_MAX {
            operators.add(&name(&format!("o{n}")), 0).unwrap();
        }
        assert_eq!(operators.add(&name("one-more"), 0), Err(OperatorError::TooMany));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        keyfile::write_open(&path, &serde_json::to_vec(&operators).unwrap()).unwrap();
        assert_eq!(Operators::read(dir.path()), Err(KeyfileError::Open(path.clone(), 0o644)));
        keyfile::write_secret(&path, b"{").unwrap();
        assert!(Operators::read(dir.path()).unwrap_err().to_string().contains("add the operators again"));
    }
}
