//! Where new keys come into being: a vault process that this command starts, or the vault in the configured enclave.
//!
//! Guarantees: a private key is in neither case in this process; what a place sealed was opened there again before it is
//! returned; what an enclave is said to have made comes with a document that proves it.

use std::sync::Arc;

use holdfast_enclave::generate::{Generated, Origin};
use holdfast_enclave::import::SealFor;
use holdfast_enclave::{ActiveKey, DataKey};
use holdfast_slashing_db::StoredKey;

use super::super::super::Context;
#[cfg(feature = "backend-enclave")]
use crate::custody::EnclaveSeal;
use crate::custody::{Custody, CustodyError};
use crate::vault::{Backend, ready};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Where {
    /// A vault process of this command.
    VaultProcess,
    /// The configured enclave, under the data key with this commitment.
    #[cfg(feature = "backend-enclave")]
    Enclave(holdfast_enclave::DataKeyCommitment),
}

impl Where {
    /// Whether keys can be opened here, to be written as keystores.
    pub(super) const fn lets_keys_out(self) -> bool {
        match self {
            Self::VaultProcess => true,
            #[cfg(feature = "backend-enclave")]
            Self::Enclave(_) => false,
        }
    }
}

/// A place that makes keys.
pub(super) enum Place {
    /// A vault process, and the data key that it is given.
    Process { vault: Backend, data_key: Arc<DataKey> },
    /// An enclave, which has its data key already.
    #[cfg(feature = "backend-enclave")]
    Enclave { vault: Backend, seal: EnclaveSeal },
}

impl Place {
    /// Starts or reaches it.
    ///
    /// # Errors
    /// [`CustodyError`]: the vault or the data key cannot be had, or the enclave does not prove to be an expected one.
    pub(super) async fn reach(asked: Where, custody: &mut Custody, context: &Context) -> Result<Self, CustodyError> {
        let config = &context.config;
        match asked {
            Where::VaultProcess => {
                let data_key = custody.ensure_data_key(config).await?;
                let vault = Backend::for_a_command(config, &custody.network).map_err(CustodyError::Generate)?;
                Ok(Self::Process { vault, data_key })
            }
            #[cfg(feature = "backend-enclave")]
            Where::Enclave(named) => {
                let vault = Backend::start(config, &custody.network).map_err(CustodyError::Backend)?;
                let process = vault.process().ok_or(CustodyError::EnclaveNotConfigured)?.clone();
                let seal = custody.enclave_seal(process, config, named).await?;
                Ok(Self::Enclave { vault, seal })
            }
        }
    }

    /// Has so many keys made.
    ///
    /// # Errors
    /// [`CustodyError`]; then none of these may be used.
    pub(super) fn make(
        &self,
        origin: Origin<'_>,
        some: u32,
        custody: &Custody,
        #[cfg_attr(not(feature = "backend-enclave"), expect(unused_variables, reason = "an enclave's settings"))]
        context: &Context,
    ) -> Result<Vec<Generated>, CustodyError> {
        match self {
            Self::Process { vault, data_key } => {
                let (place, network) = (vault.place(), custody.genesis_validators_root);
                let sealed_for = SealFor { data_key, network };
                let made = place.generate(origin, some, sealed_for).map_err(CustodyError::Generate)?;
                // A seal that does not open would be found when it is too late.
                let sealed: Vec<_> = made.iter().map(|one| (one.key, &one.sealed)).collect();
                let opened = place.open(data_key, network, &sealed).map_err(CustodyError::Generate)?;
                opened.into_iter().try_for_each(|held| held.map(drop))?;
                Ok(made)
            }
            #[cfg(feature = "backend-enclave")]
            Self::Enclave { seal, .. } => seal.generate(custody, &context.config, origin, some),
        }
    }

    /// A stored key, ready to sign there.
    ///
    /// # Errors
    /// [`CustodyError`] if it does not open there.
    pub(super) fn ready(&self, custody: &Custody, stored: StoredKey) -> Result<ActiveKey, CustodyError> {
        match self {
            Self::Process { vault, data_key } => {
                ready(&vault.place(), data_key, custody.genesis_validators_root, stored)
            }
            #[cfg(feature = "backend-enclave")]
            Self::Enclave { seal, .. } => seal.ready(stored),
        }
    }

    /// The data key, where this process has it: without it nothing can be written as a keystore.
    pub(super) fn data_key(&self) -> Option<&DataKey> {
        match self {
            Self::Process { data_key, .. } => Some(data_key),
            #[cfg(feature = "backend-enclave")]
            Self::Enclave { .. } => None,
        }
    }

    /// Ends a process, and the conversation with an enclave.
    pub(super) fn end(&self) {
        match self {
            Self::Process { vault, .. } => vault.shutdown(),
            #[cfg(feature = "backend-enclave")]
            Self::Enclave { vault, .. } => vault.shutdown(),
        }
    }
}
