//! Prysm's wallets: all keys of a client in one file, which has to be opened before anybody can say which they are.
//!
//! Guarantees: a wallet, or a key in one, that cannot be read is named with the reason and costs nothing else; each key is a
//! keystore in memory afterwards, and comes in like any other.

use std::path::Path;

use eth2_keystore::{MAX_WALLET_BYTES, PrysmWallet};
use holdfast_enclave::Passphrase;

use super::super::args::KeystoresArgs;
use super::super::{Failure, Output};
use super::discover::{Discovery, Wallet};
use super::passwords::Passwords;
use super::raw::{self, Made};
use crate::outcome::chain;

/// Opens all that were found. Asks for a password if it is nowhere.
///
/// # Errors
/// [`Failure`] (usage) if what was said about passwords is no good.
pub(in crate::cli) fn open(found: &mut Discovery, args: &KeystoresArgs, output: Output) -> Result<(), Failure> {
    if found.wallets.is_empty() {
        return Ok(());
    }
    let mut passwords = Passwords::new(args, output)?;
    for Wallet { path, password } in std::mem::take(&mut found.wallets) {
        match passwords.at(&password).and_then(|password| keys(&path, &password)) {
            Ok(keys) if keys.is_empty() => found.skip(&path, "is a Prysm wallet without keys"),
            Ok(keys) => {
                for (number, key) in (1_usize..).zip(keys) {
                    match key {
                        Ok(made) => found.made(&path, made),
                        Err(reason) => found.skip(&path, format!("holds a key that cannot be used (number {number}): {reason}")),
                    }
                }
            }
            Err(reason) => found.skip(
                &path,
                format!(
                    "is a Prysm wallet that cannot be opened: {reason}; or run `prysm validator accounts backup` (for each key, \
                     one keystore in a zip file), unpack it and use that"
                ),
            ),
        }
    }
    *found = std::mem::take(found).sorted();
    Ok(())
}

fn keys(path: &Path, password: &Passphrase) -> Result<Vec<Result<Made, String>>, String> {
    let most = u64::try_from(MAX_WALLET_BYTES).unwrap_or(u64::MAX);
    let text = raw::text(path, most).map_err(|error| format!("it cannot be read: {error}"))?;
    let wallet = PrysmWallet::from_json(text.expose().as_bytes()).map_err(|error| chain(&error))?;
    let password = password.keystore_password().map_err(|error| chain(&error))?;
    let keys = wallet.decrypt(&password).map_err(|error| chain(&error))?;
    Ok(keys
        .into_iter()
        .map(|key| key.map_err(|error| chain(&error)).and_then(|secret| raw::of_secret(&secret)))
        .collect())
}
