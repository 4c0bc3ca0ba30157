//! Who asks: from what a connection and a request prove to a name that policy, the journal and logs use.
//!
//! Why it exists: every door (the signing API, the Keymanager API, reload, the admin API) must take callers in the
//! same way. What it guarantees: a [`Principal`] is made in this module only, so a handler that has one has a caller
//! whose name was proved, or that of the listener where nothing is configured. As soon as one caller is configured,
//! nobody is let in without proof, until the process ends: a file of callers that is deleted or emptied opens nothing.

mod credentials;
mod directory;
mod failures;
mod file;
mod principal;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use holdfast_domain::Clock;
use hyper::header::HeaderMap;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::{CallerEntry, Config, Fingerprint, check_callers};
use crate::http::{Peer, Proof};
use crate::tls::{Pins, Stamps};
use credentials::Credentials;
use directory::Directory;
use failures::{Failures, Tell};

pub(crate) use file::{CallersFile, FileError};
pub(crate) use principal::Principal;

/// What a listener asks of those who come.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// Its name in logs and metrics.
    pub(crate) name: &'static str,
    /// Who comes without proof, where none is asked for.
    pub(crate) listener: Arc<Principal>,
    /// Whether proof is asked for although no caller is configured.
    pub(crate) guarded: bool,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Denial {
    /// There is no proof.
    #[error(
        "who is asking? This signer has callers: send a name and a token (http://NAME:TOKEN@HOST), a bearer token or a \
         client certificate; `holdfast callers add` makes one"
    )]
    Missing,
    /// The name and the token, or the bearer token, are nobody's.
    #[error("the name and the token do not belong to a caller of this signer; `holdfast callers list` shows who does")]
    Wrong,
    /// The header cannot be read.
    #[error("the Authorization header is neither Basic nor Bearer, or there is more than one")]
    Unreadable,
    /// The certificate is good, and names nobody.
    #[error(
        "the client certificate belongs to no caller: its name is that of a caller who does not list it in \
         certificate_subjects or certificate_fingerprints, or it is listed no more"
    )]
    Certificate,
    /// A process of a user who is no caller.
    #[error("this user is no caller; list it in unix_uids of a caller")]
    UnixUser,
    /// Too many failures are waiting for their answers.
    #[error(
        "too many wrong credentials are waiting for an answer; send this again later, with the right ones at any time"
    )]
    TooMany,
}

impl Denial {
    /// Stable word for responses, logs and metrics.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "credentials_missing",
            Self::Wrong => "credentials_wrong",
            Self::Unreadable => "credentials_unreadable",
            Self::Certificate => "certificate_unknown",
            Self::UnixUser => "user_unknown",
            Self::TooMany => "too_many_failures",
        }
    }
}

/// Labels of `holdfast_authentication_failures_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DenialLabels {
    listener: &'static str,
    reason: &'static str,
}

impl EncodeLabelSet for DenialLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("listener", self.listener), ("reason", self.reason)].encode(encoder)
    }
}

/// The callers of this process: those of the configuration and those of `callers.toml`, which is read again when it
/// changes. One for all listeners.
pub(crate) struct Callers {
    /// Those of the configuration. Held while they or the file are taken over, so that no older reading is put in place last.
    configured: Mutex<Vec<CallerEntry>>,
    file: PathBuf,
    directory: ArcSwap<Directory>,
    /// Whether there has been a caller since the process began. Never taken back.
    asks: AtomicBool,
    /// The file as it was when it was last read, with or without success.
    stamps: Mutex<Stamps>,
    failures: Failures,
    denials: Family<DenialLabels, Counter>,
    known: Gauge,
    /// 1 while the file cannot be used.
    unusable: Gauge,
    clock: Arc<dyn Clock>,
}

impl Callers {
    /// Reads them.
    ///
    /// # Errors
    /// [`FileError`], which names the file.
    pub(crate) fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        let callers = Self {
            configured: Mutex::new(config.callers.clone()),
            file: config.callers_file(),
            directory: ArcSwap::default(),
            asks: AtomicBool::new(false),
            stamps: Mutex::new(Stamps::of(&[])),
            failures: Failures::default(),
            denials: Family::default(),
            known: Gauge::default(),
            unusable: Gauge::default(),
            clock,
        };
        callers.reload()?;
        Ok(callers)
    }

    /// Reads `callers.toml` again; requests from now on are judged by what is there. On an error those of before stay.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn reload(&self) -> Result<usize, FileError> {
        let configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.take_over(&configured);
        self.unusable.set(i64::from(result.is_err()));
        result
    }

    /// Puts these in the place of those of the configuration, and reads `callers.toml` again. On an error all is as before.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn replace(&self, entries: Vec<CallerEntry>) -> Result<usize, FileError> {
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.take_over(&entries)?;
        self.unusable.set(0);
        *configured = entries;
        Ok(count)
    }

    /// How many callers there would be with these in the place of those of the configuration. Changes nothing.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn check(&self, entries: &[CallerEntry]) -> Result<usize, FileError> {
        self.read(entries).map(|directory| directory.len())
    }

    fn take_over(&self, configured: &[CallerEntry]) -> Result<usize, FileError> {
        // Before it is read: a change meanwhile is seen the next time.
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) = self.look();
        let directory = self.read(configured)?;
        let count = directory.len();
        // Before the callers go: nothing between may find neither.
        if self.asks.fetch_or(count > 0, Ordering::SeqCst) && count == 0 {
            tracing::warn!("no caller is left; until a restart everybody without proof is refused");
        }
        self.known.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.directory.store(Arc::new(directory));
        Ok(count)
    }

    fn read(&self, configured: &[CallerEntry]) -> Result<Directory, FileError> {
        let CallersFile { callers } = CallersFile::read(&self.file)?;
        let all = || configured.iter().chain(&callers);
        let entry = |problem| FileError::Entry { path: self.file.clone(), problem };
        check_callers(all()).map_err(entry)?;
        Directory::new(all()).map_err(entry)
    }

    fn look(&self) -> Stamps {
        Stamps::of(std::slice::from_ref(&self.file))
    }

    /// Whether the file is another than when it was last read.
    pub(crate) fn has_changed(&self) -> bool {
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) != self.look()
    }

    /// Whether no caller is configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.directory.load().is_empty()
    }

    /// Adds the numbers to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests refused because they did not prove who sent them, by listener and reason";
        registry.register("authentication_failures", help, self.denials.clone());
        registry.register("callers", "Callers that are configured", self.known.clone());
        let help = "1 while callers.toml cannot be used and the callers of before are";
        registry.register("callers_file_unusable", help, self.unusable.clone());
    }

    /// Who sends a request. Decides only; [`Self::turn_away`] counts.
    ///
    /// What the request itself says goes before what its connection proved: a client that sends a name and a token
    /// means them.
    ///
    /// # Errors
    /// [`Denial`].
    pub(crate) fn resolve(&self, door: &Door, peer: &Peer, headers: &HeaderMap) -> Result<Arc<Principal>, Denial> {
        let directory = self.directory.load();
        let guarded = door.guarded || self.asks.load(Ordering::SeqCst);
        if guarded {
            let now = self.clock.now();
            match Credentials::of(headers) {
                Credentials::None => {}
                Credentials::Basic { name, token } => return directory.basic(&name, &token, now).ok_or(Denial::Wrong),
                Credentials::Bearer(token) => return directory.bearer(&token, now).ok_or(Denial::Wrong),
                Credentials::Unreadable => return Err(Denial::Unreadable),
            }
        }
        match &peer.proof {
            Proof::Certificate(certificate) => directory.certificate(certificate).ok_or(Denial::Certificate),
            Proof::User(uid) => match directory.unix(*uid) {
                Some(principal) => Ok(principal),
                None if !guarded && is_own(*uid) => Ok(Arc::clone(&door.listener)),
                None => Err(Denial::UnixUser),
            },
            Proof::None if guarded => Err(Denial::Missing),
            Proof::None => Ok(Arc::clone(&door.listener)),
        }
    }

    /// Who the user of a process is that was let in as such: the caller that lists it, or a name of its own.
    pub(crate) fn of_user(&self, uid: u32) -> Arc<Principal> {
        self.directory.load().unix(uid).unwrap_or_else(|| Principal::user(uid))
    }

    /// Counts a refusal and lets whoever was refused wait for the answer: the longer, the more refusals there were.
    /// Nothing that was let in passes here.
    pub(crate) async fn turn_away(&self, door: &Door, peer: &Peer, denial: Denial) -> Denial {
        let (listener, reason, address) = (door.name, denial.reason(), peer.address);
        self.denials.get_or_create(&DenialLabels { listener, reason }).inc();
        let penalty = self.failures.strike(address, Instant::now());
        match penalty.tell {
            Tell::Failure => tracing::warn!(%address, listener, reason, "refused: {denial}"),
            Tell::Flood => tracing::warn!(
                %address, listener, reason,
                "refused, and further ones from there are slowed down and not logged until it has been quiet for a minute"
            ),
            Tell::Nothing => {}
        }
        if penalty.delay.is_zero() {
            return denial;
        }
        let Some(_place) = self.failures.wait() else { return Denial::TooMany };
        tokio::time::sleep(penalty.delay).await;
        denial
    }
}

impl Pins for Callers {
    fn is_pinned(&self, fingerprint: &Fingerprint) -> bool {
        self.directory.load().lists(fingerprint)
    }

    fn any(&self) -> bool {
        self.directory.load().lists_any()
    }
}

/// Whether a process of this user could do as this one does anyway.
fn is_own(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests;
