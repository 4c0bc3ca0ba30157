//! From key and message to a [`SigningIntent`]: the signing root computed once, the client's only compared.

use crate::fork::{ForkInfo, GenesisValidatorsRoot};
use crate::ids::PublicKey;
use crate::message::{Message, Subject};
use crate::network::Network;
use crate::root::{ObservedRoot, SigningRoot};

/// A request to sign, checked once. Not `Clone`: one intent is authorized at most once.
#[derive(Debug)]
pub struct SigningIntent {
    key: PublicKey,
    root: SigningRoot,
    subject: Subject,
    genesis_validators_root: Option<GenesisValidatorsRoot>,
}

impl SigningIntent {
    /// The key asked for.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
    /// The computed signing root.
    pub fn root(&self) -> SigningRoot {
        self.root
    }
    /// What is judged and recorded.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
    /// The chain the client says it signs for; `None` for types without `fork_info`.
    pub fn genesis_validators_root(&self) -> Option<GenesisValidatorsRoot> {
        self.genesis_validators_root
    }
}
