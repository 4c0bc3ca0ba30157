//! The bearer token of the Keymanager API: who has it can delete keys.
//!
//! Guarantees: made from 256 random bits, once, in a file that only this user can read; compared in
//! constant time; wrong guesses are answered slower and slower by being refused, never by locking out
//! whoever has the right one.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use holdfast_enclave::durable::{Existing, write_private_file};
use holdfast_enclave::secret::FilePrivacy;
use holdfast_enclave::{DurableError, Passphrase, SecretError};
use zeroize::Zeroizing;

use crate::clock::Stopwatch;
use crate::config::Config;

/// Name of the file in the data directory.
const FILE: &str = "keymanager-token";
/// Random bytes in a token.
const BYTES: usize = 32;
/// Fewest characters of a token somebody else made: less could be guessed.
const SHORTEST: usize = 32;
/// Failures answered as such before the others are told to wait.
const FAILURES: f64 = 10.0;
/// Failures forgotten per second.
const FORGOTTEN_PER_SECOND: f64 = 1.0;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the Keymanager API token from {}; mend that, or set keymanager.enabled = false", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// The token could be guessed.
    #[error(
        "the Keymanager API token in {} is shorter than {SHORTEST} characters; make one with `openssl rand -hex 32`",
        path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
    },
    /// No randomness.
    #[error("the operating system gave no random bytes for the Keymanager API token")]
    Random(#[source] getrandom::Error),
    /// The file cannot be written.
    #[error("cannot write the Keymanager API token")]
    Write(#[from] DurableError),
}

/// The token.
pub(crate) struct Token {
    secret: Passphrase,
    failures: Mutex<Failures>,
}

/// What became of a request's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Come in.
    Granted,
    /// There is no token in the request.
    Missing,
    /// It is not the right one.
    Wrong,
    /// Too many were not the right one.
    TooMany,
}

impl Token {
    /// Reads the configured file, or the one in the data directory, which is made if it is not there. `None`
    /// if the API is switched off.
    ///
    /// # Errors
    /// [`TokenError`]. A configured file is never made.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, TokenError> {
        if !config.keymanager.enabled {
            return Ok(None);
        }
        let path = config.keymanager.token_file.clone().unwrap_or_else(|| config.data_dir().join(FILE));
        if config.keymanager.token_file.is_none() && !path.exists() {
            make(&path)?;
        }
        let read = Passphrase::read_file(&path, FilePrivacy::Required);
        let secret = read.map_err(|source| TokenError::Read { path: path.clone(), source })?;
        let long_enough = secret.len() >= SHORTEST;
        if long_enough { Ok(Some(Self::new(secret))) } else { Err(TokenError::Short { path }) }
    }

    fn new(secret: Passphrase) -> Self {
        Self { secret, failures: Mutex::new(Failures { left: FAILURES, since: Stopwatch::start() }) }
    }

    /// Judges the value of an `Authorization` header.
    pub(crate) fn judge(&self, header: Option<&[u8]>) -> Access {
        let Some(given) = header.and_then(bearer) else { return self.failed(Access::Missing) };
        let matches = match std::str::from_utf8(given).map(|text| Passphrase::new(text.to_owned())) {
            Ok(Ok(given)) => self.secret.matches(&given),
            Ok(Err(_)) | Err(_) => false,
        };
        if matches { Access::Granted } else { self.failed(Access::Wrong) }
    }

    fn failed(&self, as_what: Access) -> Access {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.take() { as_what } else { Access::TooMany }
    }
}

fn make(path: &Path) -> Result<(), TokenError> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    getrandom::fill(bytes.as_mut_slice()).map_err(TokenError::Random)?;
    let text = Zeroizing::new(hex::encode(bytes.as_slice()));
    Ok(write_private_file(path, text.as_bytes(), Existing::Refuse)?)
}

/// What follows `Bearer ` (RFC 6750 §2.1; the scheme in any letter case).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// How many failures may still be answered as such: refilled with time.
struct Failures {
    left: f64,
    since: Stopwatch,
}

impl Failures {
    fn take(&mut self) -> bool {
        self.left = (self.left + self.since.lap() * FORGOTTEN_PER_SECOND).min(FAILURES);
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(dir: &Path) -> Config {
        let mut config = Config::default();
        config.data.dir = dir.to_owned();
        config
    }

    #[test]
    fn the_token_is_made_once_private_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let first = Token::open(&config).unwrap().unwrap();
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Token::open(&config).unwrap().unwrap();
        for token in [&first, &second] {
            assert_eq!(token.judge(Some(format!("Bearer {text}").as_bytes())), Access::Granted);
            assert_eq!(token.judge(Some(format!("bearer  {text} ").as_bytes())), Access::Granted);
            assert_eq!(token.judge(Some(format!("Bearer {}x", &text[..63]).as_bytes())), Access::Wrong);
            assert_eq!(token.judge(Some(format!("Basic {text}").as_bytes())), Access::Missing);
            assert_eq!(token.judge(None), Access::Missing);
        }
    }

    #[test]
    fn failures_run_out_and_the_right_token_still_works() {
        let token = Token::new(Passphrase::new("right".repeat(8)).unwrap());
        let answers: Vec<Access> = (0..200).map(|_| token.judge(Some(b"Bearer wrong"))).collect();
        assert_eq!(answers.first(), Some(&Access::Wrong));
        assert_eq!(answers.last(), Some(&Access::TooMany));
        assert_eq!(token.judge(Some(format!("Bearer {}", "right".repeat(8)).as_bytes())), Access::Granted);
    }

    #[test]
    fn a_bad_file_is_an_error_and_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let path = dir.path().join("own");
        config.keymanager.token_file = Some(path.clone());
        assert!(matches!(Token::open(&config), Err(TokenError::Read { .. })));
        assert!(!path.exists());
        write_private_file(&path, b"short\n", Existing::Refuse).unwrap();
        assert!(matches!(Token::open(&config), Err(TokenError::Short { .. })));
        write_private_file(&path, "long".repeat(9).as_bytes(), Existing::Replace).unwrap();
        assert!(Token::open(&config).unwrap().is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Token::open(&config), Err(TokenError::Read { .. })));
        config.keymanager.enabled = false;
        assert!(Token::open(&config).unwrap().is_none());
    }
}
