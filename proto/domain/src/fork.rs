//! Fork versions and signature domains (consensus specification, `compute_domain`).

use core::fmt;

use sha2::{Digest, Sha256};

use crate::root::write_hex;
use crate::time::Epoch;

/// The named forks, in order of activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the definition")]
pub enum ForkName {
    Phase0,
    Altair,
    Bellatrix,
    Capella,
    Deneb,
    Electra,
    Fulu,
    Gloas,
}

impl ForkName {
    /// All forks in order.
    pub const ALL: [Self; 8] = [
        Self::Phase0,
        Self::Altair,
        Self::Bellatrix,
        Self::Capella,
        Self::Deneb,
        Self::Electra,
        Self::Fulu,
        Self::Gloas,
    ];

    /// Upper-case name as the remote signing API writes it, e.g. `ELECTRA`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Phase0 => "PHASE0",
            Self::Altair => "ALTAIR",
            Self::Bellatrix => "BELLATRIX",
            Self::Capella => "CAPELLA",
            Self::Deneb => "DENEB",
            Self::Electra => "ELECTRA",
            Self::Fulu => "FULU",
            Self::Gloas => "GLOAS",
        }
    }
}

/// A 4-byte fork version.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ForkVersion(pub [u8; 4]);

/// `hash_tree_root` of the genesis validator set: names the chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GenesisValidatorsRoot(pub [u8; 32]);

impl GenesisValidatorsRoot {
    /// The zero root, used by domains that are valid on every chain (deposits, registrations).
    pub const ZERO: Self = Self([0; 32]);
}

/// The 4-byte domain type (consensus specification, "Domain types").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DomainType(pub [u8; 4]);

#[expect(missing_docs, reason = "the specification's own names")]
impl DomainType {
    pub const BEACON_PROPOSER: Self = Self([0x00, 0, 0, 0]);
    pub const BEACON_ATTESTER: Self = Self([0x01, 0, 0, 0]);
    pub const RANDAO: Self = Self([0x02, 0, 0, 0]);
    pub const DEPOSIT: Self = Self([0x03, 0, 0, 0]);
    pub const VOLUNTARY_EXIT: Self = Self([0x04, 0, 0, 0]);
    pub const SELECTION_PROOF: Self = Self([0x05, 0, 0, 0]);
    pub const AGGREGATE_AND_PROOF: Self = Self([0x06, 0, 0, 0]);
    pub const SYNC_COMMITTEE: Self = Self([0x07, 0, 0, 0]);
    pub const SYNC_COMMITTEE_SELECTION_PROOF: Self = Self([0x08, 0, 0, 0]);
    pub const CONTRIBUTION_AND_PROOF: Self = Self([0x09, 0, 0, 0]);
    pub const BEACON_BUILDER: Self = Self([0x0b, 0, 0, 0]);
    pub const PTC_ATTESTER: Self = Self([0x0c, 0, 0, 0]);
    pub const PROPOSER_PREFERENCES: Self = Self([0x0d, 0, 0, 0]);
    pub const APPLICATION_BUILDER: Self = Self([0x00, 0, 0, 0x01]);
    pub const BUILDER_REQUEST_AUTH: Self = Self([0x0b, 0, 0, 0x01]);
}

/// A 32-byte signature domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain(pub(crate) [u8; 32]);

macro_rules! hex_fmt {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
    )*};
}
hex_fmt!(ForkVersion, GenesisValidatorsRoot, DomainType, Domain);

impl Domain {
    /// `compute_domain`: `domain_type || sha256(version padded || genesis_validators_root)[..28]`.
    pub fn compute(domain_type: DomainType, version: ForkVersion, root: GenesisValidatorsRoot) -> Self {
        let mut hash = Sha256::new();
        hash.update(version.0);
        hash.update([0u8; 28]);
        hash.update(root.0);
        let fork_data_root: [u8; 32] = hash.finalize().into();
        let mut domain = [0u8; 32];
        let (head, tail) = domain.split_at_mut(4);
        head.copy_from_slice(&domain_type.0);
        for (to, from) in tail.iter_mut().zip(fork_data_root) {
            *to = from;
        }
        Self(domain)
    }
}

/// `Fork` of the beacon state, as the client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Version in force before `epoch`.
    pub previous_version: ForkVersion,
    /// Version in force from `epoch` on.
    pub current_version: ForkVersion,
    /// Activation epoch. Some clients put the epoch of the message here: it is applied, not validated.
    pub epoch: Epoch,
}

impl Fork {
    /// The version for a message of `epoch` (consensus specification, `get_domain`).
    pub fn version_at(&self, epoch: Epoch) -> ForkVersion {
        if epoch < self.epoch { self.previous_version } else { self.current_version }
    }
}

/// What a client says about the chain it signs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkInfo {
    /// Fork versions around the message.
    pub fork: Fork,
    /// Which chain.
    pub genesis_validators_root: GenesisValidatorsRoot,
}
