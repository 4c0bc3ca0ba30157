//! Keys that were enabled a short while ago, and what was seen of them since: whether somebody else signs with them.
//!
//! Guarantees: a key that is enabled, by whatever road, is noted in the transaction that enables it, and stays noted
//! until somebody who looked says that it is over, or until it is disabled. An epoch is counted once. What a finding
//! was about is compared: one about an earlier time of the same key changes nothing. Nothing here looks at the network.

use holdfast_domain::{Epoch, PublicKey, UnixMillis};

use crate::rules::{Objection, Watermarks};

/// What a key's row says about watching it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Watch {
    /// Nothing.
    #[default]
    Off,
    /// It was enabled a short while ago.
    New,
    /// Somebody else was seen signing with it.
    Seen,
}

impl Watch {
    /// How it is stored.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::New => 1,
            Self::Seen => 2,
        }
    }

    /// The one with this code.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Off, Self::New, Self::Seen].into_iter().find(|watch| watch.code() == code)
    }

    /// What speaks against signing, where such keys are held back.
    pub(crate) const fn objection(self) -> Option<Objection> {
        match self {
            Self::Off => None,
            Self::New => Some(Objection::DoppelgangerPending),
            Self::Seen => Some(Objection::DoppelgangerDetected),
        }
    }
}

/// A key that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewlyEnabled {
    /// The key.
    pub key: PublicKey,
    /// When it was enabled, by the clock of whoever did it.
    pub enabled: UnixMillis,
    /// Epochs in which nobody was seen signing with it.
    pub quiet_epochs: u64,
    /// Epochs in which what was seen may be signatures of this database.
    pub own_epochs: u64,
    /// The last epoch counted.
    pub judged_through: Option<Epoch>,
    /// The epoch in which somebody else was seen.
    pub seen: Option<Epoch>,
    /// What it has signed.
    pub watermarks: Watermarks,
}

/// What somebody who looked found out about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The key.
    pub key: PublicKey,
    /// Which time of it: [`NewlyEnabled::enabled`] as it was read.
    pub enabled: UnixMillis,
    /// What.
    pub finding: Finding,
}

/// A finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nobody signed with it in this epoch.
    Quiet(Epoch),
    /// What was seen in this epoch may be signatures of this database.
    Own(Epoch),
    /// Somebody else signed with it in this epoch. Stays until the key is disabled.
    Seen(Epoch),
    /// There is nothing more to watch for.
    Over,
}
