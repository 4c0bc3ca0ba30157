//! Unwrapping in a short-lived process, so that what a cloud library, a TLS stack or a vendor's module leaves in
//! memory goes away with that process, and their code never runs where validator keys are.
//!
//! [`HelperProvider`] is a provider like any other: it starts the helper, hands it the request on standard input
//! and takes the data key from its standard output, a pipe nobody else holds. The helper is this same program
//! ([`Request::read`], [`answer`]).
//!
//! Guarantees: a call ends within its limit, by killing the helper if need be; the data key is read into locked
//! memory; nothing secret is in an argument, the environment or a file.
//!
//! ```text
//! request: provider | key in hex | network | number of the data key | wrapped data key in hex, a line each,
//!          then the configuration
//! answer:  "ok" LF, 32 bytes    or    "failed" SP word LF, text
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_enclave_sys::LockedBytes;
use zeroize::Zeroizing;

use super::{DataKeyId, Provider, ProviderKind, ServiceFailure, WrapContext, Wrapped};
use crate::aead::SECRET_LEN;
use crate::error::{ProviderError, SecretError};
use crate::secret::DataKey;

/// Longest answer: a data key, or a text about a failure.
const MAX_ANSWER: usize = 8 * 1024;
/// Longest request.
const MAX_REQUEST: u64 = 1024 * 1024;
const OK: &[u8] = b"ok\n";

/// Makes the command that starts a helper.
pub type HelperCommand = fn() -> Command;

/// A provider that unwraps in a process of its own. It does not wrap: that is done by commands, which are
/// short-lived processes themselves.
pub struct HelperProvider {
    kind: ProviderKind,
    key: Option<String>,
    description: String,
    command: HelperCommand,
    configuration: String,
    limit: Duration,
}

impl HelperProvider {
    /// Stands for `real`, which the helper makes again from `configuration`. `limit` is for one call in all.
    pub fn new(real: &dyn Provider, command: HelperCommand, configuration: String, limit: Duration) -> Self {
        Self {
            kind: real.kind(),
            key: real.key().map(str::to_owned),
            description: real.describe(),
            command,
            configuration,
            limit,
        }
    }

    fn failed(
        &self,
        failure: ServiceFailure,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ProviderError {
        let key = self.key.clone().unwrap_or_default();
        ProviderError::Service { provider: self.kind, key, failure, source: source.into() }
    }

    fn request(&self, wrapped: &Wrapped, context: &WrapContext) -> String {
        let (kind, key) = (self.kind, to_hex(self.key.as_deref().unwrap_or_default().as_bytes()));
        let (network, number) = (to_hex(&context.network.0), context.data_key.0);
        format!("{kind}\n{key}\n{network}\n{number}\n{}\n{}", to_hex(wrapped.as_bytes()), self.configuration)
    }

    fn ask(&self, request: &str) -> Result<(LockedBytes, usize), ProviderError> {
        let broken = |error: io::Error| ProviderError::Helper { problem: format!("it could not be run: {error}") };
        let mut child = (self.command)()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(broken)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else {
            return Err(broken(io::ErrorKind::BrokenPipe.into()));
        };
        let mut buffer = LockedBytes::zeroed(MAX_ANSWER).map_err(SecretError::Memory)?;
        let (done, reading) = sync_channel(1);
        let reader = thread::Builder::new().name("holdfast-unwrap".to_owned());
        let started = reader.spawn(move || {
            let length = buffer.expose_mut(|buffer| read_up_to(&mut stdout, buffer));
            // Nobody listens any more if the limit has passed.
            let _ = done.send((buffer, length));
        });
        // A helper that does not take its request has ended, and says why.
        let _ = stdin.write_all(request.as_bytes());
        drop(stdin);
        let read = started.map_err(broken).and_then(|_| {
            let limit = self.limit;
            let late = |_| self.failed(ServiceFailure::TimedOut, format!("no answer within {limit:?}"));
            reading.recv_timeout(limit).map_err(late)
        });
        if read.is_err() {
            // It may just have ended by itself.
            let _ = child.kill();
        }
        let status = child.wait().map_err(broken)?;
        let (buffer, length) = read?;
        match length.map_err(broken)? {
            0 => Err(ProviderError::Helper { problem: format!("it said nothing and ended with {status}") }),
            length => Ok((buffer, length)),
        }
    }

    fn failure(&self, answer: &[u8]) -> ProviderError {
        let text = String::from_utf8_lossy(answer).into_owned();
        let Some((word, text)) = text.strip_prefix("failed ").and_then(|rest| rest.split_once('\n')) else {
            return ProviderError::Helper { problem: "it gave an answer that makes no sense".to_owned() };
        };
        match (word, word.parse()) {
            ("damaged", _) => ProviderError::Damaged,
            (_, Ok(failure)) => self.failed(failure, text.to_owned()),
            (_, Err(())) => ProviderError::Helper { problem: text.to_owned() },
        }
    }
}

/// Fills `buffer` until the end of `from`. What does not fit is an error.
fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let Some(free) = buffer.get_mut(length..).filter(|free| !free.is_empty()) else {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "its answer is too long"));
        };
        match from.read(free) {
            Ok(0) => return Ok(length),
            Ok(more) => length = length.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Provider for HelperProvider {
    fn kind(&self) -> ProviderKind {
        self.kind
    }

    fn wrap(&self, _: &DataKey, _: &WrapContext) -> Result<Wrapped, ProviderError> {
        Err(ProviderError::Helper { problem: "it only unwraps".to_owned() })
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &WrapContext) -> Result<DataKey, ProviderError> {
        let (answer, length) = self.ask(&self.request(wrapped, context))?;
        answer.expose(|bytes| {
            let answer = bytes.get(..length).unwrap_or_default();
            let key = answer.strip_prefix(OK).and_then(|rest| <&[u8; SECRET_LEN]>::try_from(rest).ok());
            match key {
                Some(key) => Ok(DataKey::from_plain(Zeroizing::new(*key))?),
                None => Err(self.failure(answer)),
            }
        })
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// What a helper is asked.
#[derive(Debug)]
pub struct Request {
    /// The provider to unwrap with.
    pub provider: ProviderKind,
    /// Its key; empty where it has only one.
    pub key: String,
    /// What the wrapped data key is bound to.
    pub context: WrapContext,
    /// The wrapped data key.
    pub wrapped: Wrapped,
    /// The configuration of the provider, in whatever form the program gave it.
    pub configuration: String,
}

impl Request {
    /// Reads a request to its end.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Helper`] if it is none.
    pub fn read(from: impl Read) -> Result<Self, ProviderError> {
        let broken = |what: &str| ProviderError::Helper { problem: format!("its request {what}") };
        let mut text = String::new();
        from.take(MAX_REQUEST).read_to_string(&mut text).map_err(|error| broken(&error.to_string()))?;
        let mut parts = text.splitn(6, '\n');
        let mut part = || parts.next().ok_or_else(|| broken("is cut short"));
        let provider = part()?.parse()?;
        let key = String::from_utf8(hex(part()?).ok_or_else(|| broken("names no key"))?);
        let network = hex(part()?).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| broken("names no network"))?;
        let number = part()?.parse().map_err(|_| broken("names no data key"))?;
        let wrapped = hex(part()?).ok_or_else(|| broken("holds no data key"))?;
        Ok(Self {
            provider,
            key: key.map_err(|_| broken("names no key"))?,
            context: WrapContext { network: GenesisValidatorsRoot(network), data_key: DataKeyId(number) },
            wrapped: Wrapped::from_bytes(wrapped),
            configuration: part()?.to_owned(),
        })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at.saturating_add(2))?, 16).ok()).collect()
}

/// Writes the helper's answer to a file descriptor, past any buffer.
///
/// # Errors
///
/// [`io::Error`] if the other side is gone.
pub fn answer(result: Result<&DataKey, (&ProviderError, String)>, to: impl AsFd) -> io::Result<()> {
    let mut out = File::from(to.as_fd().try_clone_to_owned()?);
    match result {
        Ok(key) => {
            out.write_all(OK)?;
            key.bytes().expose(|bytes| out.write_all(bytes))
        }
        Err((error, text)) => {
            let most = text.char_indices().map(|(at, _)| at).take_while(|at| *at < MAX_ANSWER / 2).last().unwrap_or(0);
            let text = if text.len() > most { text.get(..most).unwrap_or_default() } else { &text };
            write!(out, "failed {}\n{text}", error.word())
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proved here, with a shell in the helper's place: the data key comes over, failures keep their kind, a hanging
    //! or babbling helper is an error in time. The real helper is tested with the real program.

    use std::time::Instant;

    use super::*;
    use crate::provider::{GuardKey, KeyService, Recovery, Remote, ServiceError};

    /// Stands for a provider elsewhere; never called.
    struct Nowhere;

    impl KeyService for Nowhere {
        fn kind(&self) -> ProviderKind {
            ProviderKind::AwsKms
        }
        fn key(&self) -> &'static str {
            "alias/test"
        }
        fn encrypt(&self, _: &GuardKey, _: &WrapContext) -> Result<Vec<u8>, ServiceError> {
            Err(ServiceError::new(ServiceFailure::Unreachable, "nowhere"))
        }
        fn decrypt(&self, _: &[u8], _: &WrapContext) -> Result<GuardKey, ServiceError> {
            Err(ServiceError::new(ServiceFailure::Unreachable, "nowhere"))
        }
    }

    const CONTEXT: WrapContext = WrapContext { network: GenesisValidatorsRoot([3; 32]), data_key: DataKeyId(5) };

    fn ask(command: HelperCommand, limit: Duration) -> Result<DataKey, ProviderError> {
        let real = Remote::new(Nowhere, Duration::from_secs(1));
        let helper = HelperProvider::new(&real, command, "x = 1\n".to_owned(), limit);
        assert_eq!((helper.key(), helper.describe().as_str()), (Some("alias/test"), "aws-kms key alias/test"));
        helper.unwrap(&Wrapped::from_bytes(vec![1, 0xfe]), &CONTEXT)
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn the_data_key_comes_over() {
        let key = ask(|| shell("cat >/dev/null; printf 'ok\\n'; printf '%032d' 7"), MINUTE).unwrap();
        key.bytes().expose(|bytes| assert_eq!(bytes, format!("{:032}", 7).as_bytes()));
    }

    #[test]
    fn failures_keep_their_kind() {
        let error =
            ask(|| shell("cat >/dev/null; printf 'failed unreachable\\nno route'"), MINUTE).map(|_| ()).unwrap_err();
        assert_eq!(error.recovery(), Recovery::Soon);
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no route");
        let error = ask(|| shell("cat >/dev/null; printf 'failed damaged\\n'"), MINUTE).map(|_| ()).unwrap_err();
        assert!(matches!(error, ProviderError::Damaged));
        for script in ["true", "exit 3", "echo hello", "head -c 20000 /dev/zero", "printf 'ok\\nshort'"] {
            let script: HelperCommand = match script {
                "true" => || shell("true"),
                "exit 3" => || shell("exit 3"),
                "echo hello" => || shell("cat >/dev/null; echo hello"),
                "printf 'ok\\nshort'" => || shell("cat >/dev/null; printf 'ok\\nshort'"),
                _ => || shell("cat >/dev/null; head -c 20000 /dev/zero"),
            };
            let error = ask(script, MINUTE).map(|_| ()).unwrap_err();
            assert!(matches!(error, ProviderError::Helper { .. }), "{error}");
        }
        let error = ask(|| Command::new("/nonexistent/holdfast"), MINUTE).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("could not be run"), "{error}");
    }

    #[test]
    fn a_hanging_helper_is_killed_in_time() {
        let begun = Instant::now();
        let error = ask(|| shell("exec sleep 600"), Duration::from_millis(200)).map(|_| ()).unwrap_err();
        assert!(matches!(error, ProviderError::Service { failure: ServiceFailure::TimedOut, .. }), "{error}");
        assert!(begun.elapsed() < MINUTE);
    }

    #[test]
    fn requests_are_read_as_they_were_written() {
        let real = Remote::new(Nowhere, MINUTE);
        let helper = HelperProvider::new(&real, || shell("true"), "a = 1\n\nb = \"é\"\n".to_owned(), MINUTE);
        let text = helper.request(&Wrapped::from_bytes(vec![1, 0xfe]), &CONTEXT);
        let request = Request::read(text.as_bytes()).unwrap();
        assert_eq!((request.provider, request.key.as_str()), (ProviderKind::AwsKms, "alias/test"));
        assert_eq!((request.context, request.wrapped.as_bytes()), (CONTEXT, [1, 0xfe].as_slice()));
        assert_eq!(request.configuration, "a = 1\n\nb = \"é\"\n");
        for cut in ["", "aws-kms\n", "aws-kms\nzz\n", "aws-kms\n61\n00\n1\n00\n", "nobody\n61\n"] {
            assert!(Request::read(cut.as_bytes()).is_err(), "{cut:?}");
        }
    }
}
