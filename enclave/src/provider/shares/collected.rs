//! Shares that were brought to a process and wait for the others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_enclave_sys::LockedBytes;

use super::{BroughtShare, ShareSet, fingerprint};
use crate::aead::Fingerprint;
use crate::error::ProviderError;
use crate::shamir::Share;

/// How long a share waits for the others.
const PATIENCE: Duration = Duration::from_mins(15);

/// Shares that wait. Each is wiped when it is used, replaced or too old.
#[derive(Default)]
pub struct Collected {
    shares: Mutex<BTreeMap<(Fingerprint, u8), Waiting>>,
}

struct Waiting {
    value: LockedBytes,
    since: Instant,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Shares that were brought and still wait.
    pub have: usize,
    /// Shares that are needed, with those of providers.
    pub need: usize,
}

/// Why a share is of no use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShareError {
    /// Of another data key, or of one from before a rotation.
    #[error("this share belongs to another data key, or to one that was rotated since: bring the one made last")]
    OtherSet,
    /// Nobody was given such a share.
    #[error("there is no share {number}: it was changed, or belongs to another data key")]
    NoSuchShare {
        /// The number it says.
        number: u8,
    },
    /// Not as it was handed out.
    #[error("share {number} ({label}) is not as it was handed out: decrypt it again from the original")]
    Changed {
        /// Its number.
        number: u8,
        /// Whose it is.
        label: String,
    },
    /// It is here.
    #[error("share {number} ({label}) is here already: another one is needed")]
    Twice {
        /// Its number.
        number: u8,
        /// Whose it is.
        label: String,
    },
}

impl Collected {
    /// Takes a share in.
    ///
    /// # Errors
    ///
    /// [`ShareError`] if it is of no use; it is wiped then.
    pub fn bring(&self, share: BroughtShare, set: &ShareSet) -> Result<Progress, ShareError> {
        if share.set != set.set {
            return Err(ShareError::OtherSet);
        }
        let number = share.point;
        let Some(known) = set.share(number) else { return Err(ShareError::NoSuchShare { number }) };
        let label = known.label.clone();
        if fingerprint(&share.value) != known.fingerprint {
            return Err(ShareError::Changed { number, label });
        }
        let mut shares = self.waiting();
        if shares.contains_key(&(share.set, number)) {
            return Err(ShareError::Twice { number, label });
        }
        shares.insert((share.set, number), Waiting { value: share.value, since: Instant::now() });
        drop(shares);
        Ok(self.progress(set))
    }

    /// How far it is with this set.
    pub fn progress(&self, set: &ShareSet) -> Progress {
        let have = self.waiting().keys().filter(|(of, _)| *of == set.set).count();
        Progress { have, need: set.threshold() }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// Wipes all of them.
    pub fn forget(&self) {
        self.waiting().clear();
    }

    pub(super) fn keep(&self, set: Fingerprint, share: Share) {
        self.waiting().insert((set, share.point), Waiting { value: share.value, since: Instant::now() });
    }

    pub(super) fn get(&self, set: Fingerprint, point: u8) -> Result<Option<LockedBytes>, ProviderError> {
        self.waiting().get(&(set, point)).map(|waiting| super::copy(&waiting.value)).transpose()
    }

    /// Those that are not too old.
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(Fingerprint, u8), Waiting>> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, waiting| waiting.since.elapsed() < PATIENCE);
        shares
    }

    /// Makes what waits this much older.
    #[cfg(test)]
    pub(super) fn age(&self, by: Duration) {
        for waiting in self.shares.lock().unwrap().values_mut() {
            waiting.since = waiting.since.checked_sub(by).unwrap();
        }
    }
}
