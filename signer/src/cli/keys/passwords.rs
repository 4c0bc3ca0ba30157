//! The passwords of keystores: from files, from a client's own list, or asked for once.
//!
//! Guarantees: a password is never an argument and never printed; each file is read once.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_enclave::durable::check_private_permissions;
use holdfast_enclave::secret::FilePrivacy;
use holdfast_enclave::{Passphrase, PermissionError};

use super::super::args::KeystoresArgs;
use super::super::{Exit, Failure, Output};
use super::discover::PasswordAt;
use crate::outcome::chain;

/// Finds the password of each keystore.
pub(super) struct Passwords<'a> {
    args: &'a KeystoresArgs,
    output: Output,
    files: HashMap<PathBuf, Result<Arc<Passphrase>, String>>,
    /// The answer to the one question that is asked.
    typed: Option<Result<Arc<Passphrase>, String>>,
}

impl<'a> Passwords<'a> {
    /// Reads the file given for all keystores, so that a wrong path is noticed before anything is done.
    ///
    /// # Errors
    /// [`Failure`] (usage) if that file cannot be read.
    pub(super) fn new(args: &'a KeystoresArgs, output: Output) -> Result<Self, Failure> {
        let mut passwords = Self { args, output, files: HashMap::new(), typed: None };
        if let Some(path) = &args.password_file {
            passwords
                .file(path)
                .map_err(|reason| Failure::message(Exit::Usage, format!("--password-file: {reason}")))?;
            // No reason to refuse: the keystores are the client's, and it may have had this file for years.
            if let Err(open @ PermissionError::TooOpen { .. }) = check_private_permissions(path) {
                output.note(format!("Warning: {open}"));
            }
        }
        if let Some(dir) = args.passwords_dir.as_ref().filter(|dir| !dir.is_dir()) {
            let message = format!("--passwords-dir: {} is not a directory; check the path", dir.display());
            return Err(Failure::message(Exit::Usage, message));
        }
        Ok(passwords)
    }

    /// The password of one keystore or wallet, or why there is none.
    pub(super) fn at(&mut self, place: &PasswordAt) -> Result<Arc<Passphrase>, String> {
        if let PasswordAt::Made(password) = place {
            return Ok(Arc::clone(password));
        }
        if let Some(path) = &self.args.password_file {
            return self.file(path);
        }
        match place {
            PasswordAt::Made(password) => Ok(Arc::clone(password)),
            PasswordAt::File(path) => self.file(path),
            PasswordAt::Inline(text) => {
                Passphrase::new(text.expose().to_owned()).map(Arc::new).map_err(|error| chain(&error))
            }
            PasswordAt::Elsewhere => match &self.args.passwords_dir {
                Some(dir) => Err(format!(
                    "no password file for it in {}; put one there with the same name and .txt",
                    dir.display()
                )),
                None => self.ask(),
            },
        }
    }

    fn file(&mut self, path: &Path) -> Result<Arc<Passphrase>, String> {
        let read = || Passphrase::read_file(path, FilePrivacy::Ignored).map(Arc::new).map_err(|error| chain(&error));
        self.files.entry(path.to_owned()).or_insert_with(read).clone()
    }

    fn ask(&mut self) -> Result<Arc<Passphrase>, String> {
        let output = self.output;
        self.typed
            .get_or_insert_with(|| {
                if !std::io::stdin().is_terminal() || output.is_json() {
                    return Err(
                        "no password: give --password-file or --passwords-dir, or run this on a terminal".to_owned()
                    );
                }
                let text = rpassword::prompt_password("Password of the keystores that have no password file: ")
                    .map_err(|error| format!("the password could not be read from the terminal: {error}"))?;
                Passphrase::new(text).map(Arc::new).map_err(|error| chain(&error))
            })
            .clone()
    }
}
