//! `holdfast exits`: voluntary exits of many validators, signed before they are needed.

mod resolve;
mod server;
mod sign;
mod verify;

use std::io::Read as _;
use std::path::Path;

use eth2_keystore::{EncryptedMessage, Password};
use holdfast_enclave::Passphrase;
use holdfast_enclave::secret::FilePrivacy;

use super::args::ExitsCommand;
use super::{Context, Exit, Failure};
use crate::exits::{MAX_FILE_BYTES, SignedExit};
use crate::outcome::chain;

/// Runs one of the commands.
pub(super) async fn run(command: &ExitsCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        ExitsCommand::Sign(args) => sign::run(args, context).await,
        ExitsCommand::Verify(args) => verify::run(args, context).await,
    }
}

/// The password of encrypted files, from a private file.
fn password(path: &Path) -> Result<Password, Failure> {
    let passphrase =
        Passphrase::read_file(path, FilePrivacy::Required).map_err(|error| Failure::new(Exit::Usage, error))?;
    passphrase.keystore_password().map_err(|error| Failure::new(Exit::Usage, error))
}

/// Reads a file of an exit, encrypted or not.
///
/// # Errors
/// Why it is none, for people.
fn read_exit(path: &Path, password: Option<&Password>) -> Result<SignedExit, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    let encrypted =
        serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|value| value.get("crypto").is_some());
    if !encrypted {
        return SignedExit::read(&bytes).map_err(|error| chain(&error));
    }
    let Some(password) = password else {
        return Err("it is encrypted; give the password with --password-file".to_owned());
    };
    let message = EncryptedMessage::from_json(&bytes).map_err(|error| chain(&error))?;
    let text = message.decrypt(password).map_err(|error| chain(&error))?;
    SignedExit::read(&text).map_err(|error| chain(&error))
}
