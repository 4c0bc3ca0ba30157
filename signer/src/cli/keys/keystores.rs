//! Keys written out as keystores (EIP-2335), for `keys export` and `keys generate`.
//!
//! Guarantees: a key that leaves is in the journal before its file exists, or it does not leave; the directory is new
//! and private, and each file appears whole, after it was opened again.

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use eth2_keystore::KdfChoice;
use holdfast_domain::PublicKey;
use holdfast_enclave::ceremony::{Encryption, Outgoing, encrypt};
use holdfast_enclave::durable::{Existing, create_private_dir, write_private_file};
use holdfast_enclave::import::SealFor;
use holdfast_enclave::kdf::KdfBudget;
use holdfast_enclave::secret::FilePrivacy;
use holdfast_enclave::{DataKey, Passphrase};
use holdfast_slashing_db::journal::{Event, EventKind};
use serde_json::json;

use super::super::args::KdfArg;
use super::super::{Exit, Failure, Output};
use super::operator;
use crate::custody::Custody;
use crate::outcome::chain;

/// Shortest password, in bytes: a keystore can be guessed at for ever by whoever has it.
const SHORTEST_PASSWORD: usize = 12;

/// Where keystores go, and their password.
pub(super) struct Keystores {
    dir: PathBuf,
    password: Passphrase,
    kdf: KdfChoice,
    output: Output,
}

impl Keystores {
    /// Checks the directory, which must be new or empty, and reads or asks for the password. Makes nothing.
    ///
    /// # Errors
    /// [`Failure`] (usage).
    pub(super) fn new(dir: &Path, password: Option<&Path>, kdf: KdfArg, output: Output) -> Result<Self, Failure> {
        let taken = dir.exists() && std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_some());
        if taken {
            let text = format!("{} is there already and not an empty directory; name a new one", dir.display());
            return Err(Failure::message(Exit::Usage, text));
        }
        let password = match password {
            Some(path) => {
                Passphrase::read_file(path, FilePrivacy::Required).map_err(|error| Failure::new(Exit::Usage, error))?
            }
            None => asked(output)?,
        };
        if password.len() < SHORTEST_PASSWORD {
            let text = format!(
                "the password of the keystores is shorter than {SHORTEST_PASSWORD} characters; take a longer one"
            );
            return Err(Failure::message(Exit::Usage, text));
        }
        let kdf = match kdf {
            KdfArg::Scrypt => KdfChoice::SCRYPT,
            KdfArg::Pbkdf2 => KdfChoice::PBKDF2,
        };
        Ok(Self { dir: dir.to_owned(), password, kdf, output })
    }

    /// Where they go.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// [`Failure`] if the system refuses, or if it exists and is open to others.
    pub(super) fn make_dir(&self) -> Result<(), Failure> {
        create_private_dir(&self.dir).map_err(|error| Failure::new(Exit::Refused, error))
    }

    /// Writes the keystores, which [`journal`] must have written down. `Some` is how the command ends if some could
    /// not be written.
    ///
    /// # Errors
    /// [`Failure`] if not even a thread can be had.
    pub(super) fn write(
        &self,
        keys: &[&Outgoing],
        (custody, data_key): (&Custody, &DataKey),
        budget: &KdfBudget,
    ) -> Result<Option<Exit>, Failure> {
        self.make_dir()?;
        let sealed_for = SealFor { data_key, network: custody.genesis_validators_root };
        let encryption = Encryption { password: &self.password, kdf: self.kdf };
        let mut exit = None;
        let mut printing = Ok(());
        let done = encrypt(keys, sealed_for, encryption, budget, |index, result| {
            let Some(key) = keys.get(index).map(|outgoing| outgoing.key) else { return ControlFlow::Continue(()) };
            let path = self.dir.join(format!("keystore-{key}.json"));
            let written = result.map_err(|error| chain(&error)).and_then(|keystore| {
                write_private_file(&path, keystore.to_json().as_bytes(), Existing::Refuse)
                    .map_err(|error| chain(&error))
            });
            printing = self.say(&key, &path, written.as_ref().err().map(String::as_str));
            if written.is_err() {
                exit = Some(Exit::Refused);
            }
            if printing.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        done.map_err(|error| Failure::new(Exit::Unreachable, error))?;
        printing?;
        Ok(exit)
    }

    fn say(&self, key: &PublicKey, path: &Path, reason: Option<&str>) -> Result<(), Failure> {
        let status = if reason.is_none() { "written" } else { "error" };
        let text = reason.map_or_else(
            || format!("{key} written: {}", path.display()),
            |reason| format!("{key} error: {reason}; the other keys are not affected"),
        );
        let file = reason.is_none().then(|| path.display().to_string());
        self.output
            .result(text, &json!({ "pubkey": key.to_string(), "status": status, "keystore": file, "reason": reason }))
    }
}

/// Writes down, one event a key, that keys are about to leave. Without that they do not.
///
/// # Errors
/// [`Failure`]; then nothing may be written.
pub(super) async fn journal(
    custody: &Custody,
    keys: impl Iterator<Item = PublicKey>,
    dir: &Path,
    how: &str,
) -> Result<(), Failure> {
    let about = format!("keystores/{}", dir.display());
    // All are queued before the first is waited for, so that they share a commit.
    let asked: Vec<_> = keys
        .map(|key| {
            let event = Event::new(custody.clock.now(), &operator(), EventKind::new("keys.exported"));
            custody.guard.record(event.of_key(key).about(&about).detail(how))
        })
        .collect();
    for recorded in asked {
        recorded.await.map_err(|error| {
            let error =
                anyhow::Error::new(error).context("an export is journaled before it happens, and the journal refuses");
            Failure::new(Exit::Unreachable, error)
        })?;
    }
    Ok(())
}

fn asked(output: Output) -> Result<Passphrase, Failure> {
    if !std::io::stdin().is_terminal() || output.is_json() {
        return Err(Failure::message(
            Exit::Usage,
            "no password for the keystores: name a file that holds it, or run this on a terminal",
        ));
    }
    let ask = |prompt: &str| {
        let text = rpassword::prompt_password(prompt).map_err(|error| {
            Failure::new(Exit::Refused, anyhow::Error::new(error).context("cannot read from the terminal"))
        })?;
        Passphrase::new(text).map_err(|error| Failure::new(Exit::Usage, error))
    };
    let (first, second) = (ask("Password of the keystores: ")?, ask("The same password again: ")?);
    if first.matches(&second) {
        Ok(first)
    } else {
        Err(Failure::message(Exit::Refused, "the two passwords differ; nothing was written, start again"))
    }
}
