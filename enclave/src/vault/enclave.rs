//! A vault in an enclave: what it takes from a host that nobody trusts, and what it tells it.
//!
//! Why it exists: in an enclave the host carries every message, also those of the key service. So a data key comes
//! encrypted to a key of this boot, and what comes out is believed only as far as it opens sealed keys: anybody can
//! encrypt to a public key.
//!
//! What it guarantees, besides what [every vault](super) does:
//! - a data key in the clear is refused, and so is one encrypted to another boot's key;
//! - where witnesses are measured with the enclave, it signs by their leases, whatever the host says of witnesses;
//! - the times of the chain, on which the fence at the present rests, are built in or measured with the enclave; a host
//!   that could name them would wind them back;
//! - a private key that an administrator sends is sealed under the data key *he* named, by a commitment that is
//!   authenticated with it. A host that brings a data key of its own, with keys of its own sealed under it, gets
//!   nothing sealed under that;
//! - the clock is asked anew before any key gets its fence, and the fence is one slot further than a process sets it,
//!   as the clock of another instance may have been ahead of this one's;
//! - a ciphertext that does not open is answered in one way, whatever is wrong with it, and after a few of them nothing
//!   more is decrypted until the next boot: CBC and OAEP both give way to whoever may ask often enough.
//!
//! What it does not cover: the same image started twice at the same time (see the lease in SECURITY.md), and a clock
//! that the host owns, which is any clock without a security module.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use holdfast_domain::{Clock, GenesisValidatorsRoot, Network, PublicKey, SlotClock};
use holdfast_enclave_sys::LockedBytes;
use holdfast_vault_proto::{
    Bound, DataKeyCommitment, EncryptedKey, Failure, FrameError, KeyOutcome, Operation, Protections, Request,
    SealedKeyBytes, VERSION,
};
use holdfast_witness::Pins;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::core::{Home, Vault};
use super::crew::Crew;
use super::sandbox;
use super::serve::{self, Ended};
use crate::secret::{DataKey, SecretKey};
use crate::{aead, seal, stack};

/// What the machine around a vault offers. Everything that it decrypts is a candidate and nothing more.
pub trait Enclave: Send {
    /// The public key of this boot (SubjectPublicKeyInfo, DER).
    fn boot_key(&self) -> &[u8];

    /// An attestation document with this nonce and user data and the boot key.
    ///
    /// # Errors
    /// [`Failure::NoSecurityModule`].
    fn attest(&self, nonce: &[u8], user_data: &[u8]) -> Result<Vec<u8>, Failure>;

    /// Opens what a key service encrypted to the boot key (CMS EnvelopedData).
    ///
    /// # Errors
    /// [`Failure::NotForThisBoot`], whatever is wrong with it.
    fn open(&self, cms: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure>;

    /// Opens what was encrypted to the boot key without more (RSAES-OAEP, SHA-256).
    ///
    /// # Errors
    /// [`Failure::NotForThisBoot`], whatever is wrong with it.
    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure>;

    /// The chain that was measured with the enclave, if one was.
    fn chain(&self) -> Option<&Network>;

    /// Asks whoever knows for the time, if somebody does.
    ///
    /// # Errors
    /// [`Failure::NoSecurityModule`] if it should know and does not answer.
    fn set_clock(&self) -> Result<(), Failure>;
}

/// Ciphertexts of one boot that may fail to open. An honest host sends none; a padding oracle takes thousands.
const FAILED_OPENINGS: u32 = 32;
/// Length of a data key and of a wrapping key, in bytes.
const KEY_LEN: usize = 32;

/// The enclave around a vault, and the data key that opened its keys.
pub(super) struct Inside {
    enclave: Box<dyn Enclave>,
    /// Those that were measured with the enclave, if any were.
    witnesses: Option<Pins>,
    data_key: Option<DataKey>,
    failures_left: u32,
}

impl Inside {
    /// Decrypts so many bytes.
    pub(super) fn decrypt(
        &mut self,
        len: usize,
        open: impl FnOnce(&dyn Enclave) -> Result<Zeroizing<Vec<u8>>, Failure>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if self.failures_left == 0 {
            return Err(Failure::NotForThisBoot);
        }
        match open(self.enclave.as_ref()) {
            Ok(plain) if plain.len() == len => Ok(plain),
            Ok(_) | Err(_) => {
                self.failures_left = self.failures_left.saturating_sub(1);
                Err(Failure::NotForThisBoot)
            }
        }
    }

    /// The data key that is held, if one is.
    pub(super) fn held(&self) -> Option<&DataKey> {
        self.data_key.as_ref()
    }

    /// Whether the data key that is held is the one named so.
    ///
    /// # Errors
    /// [`Failure::OtherDataKey`] if not, or if none is.
    pub(super) fn holds(&self, named: DataKeyCommitment) -> Result<(), Failure> {
        let holds = self.held().is_some_and(|held| commitment(held) == named);
        if holds { Ok(()) } else { Err(Failure::OtherDataKey) }
    }

    /// An attestation document with this nonce and user data.
    pub(super) fn attest(&self, nonce: &[u8], user_data: &[u8]) -> Result<Vec<u8>, Failure> {
        self.enclave.attest(nonce, user_data)
    }

    /// Whose leases it signs by, whatever its host says.
    pub(super) fn witnesses(&self) -> Option<&Pins> {
        self.witnesses.as_ref()
    }

    /// Whether the times of a chain are known here.
    pub(super) fn knows(&self, network: &Network) -> Result<(), Failure> {
        let known = match self.enclave.chain() {
            Some(measured) => measured == network,
            None => is_built_in(network),
        };
        if known { Ok(()) } else { Err(Failure::UnknownChain) }
    }
}

/// Whether the times of a chain are others than those of the built-in network with its genesis validators root: by these,
/// whoever names the chain would wind the fence back.
pub(super) fn misstates_times(network: &Network) -> bool {
    Network::BUILTIN_NAMES
        .iter()
        .filter_map(|name| Network::builtin(name))
        .filter(|known| known.genesis_validators_root == network.genesis_validators_root)
        .any(|known| known.slot_clock() != network.slot_clock())
}

/// Whether these are the times of a built-in network. Fork versions and presets decide signing roots, which the vault
/// computes; what is slashable is told by slots and epochs alone.
fn is_built_in(network: &Network) -> bool {
    let times = |network: &Network| -> Option<(GenesisValidatorsRoot, SlotClock)> {
        Some((network.genesis_validators_root?, network.slot_clock()?))
    };
    let named = times(network);
    named.is_some()
        && Network::BUILTIN_NAMES.iter().filter_map(|name| Network::builtin(name)).any(|known| times(&known) == named)
}

/// 32 bytes that tell this data key from every other and say nothing of it: what an import names it by.
pub fn commitment(data_key: &DataKey) -> DataKeyCommitment {
    let digest =
        |bytes: &[u8]| Sha256::new().chain_update(b"holdfast data key commitment").chain_update(bytes).finalize();
    DataKeyCommitment(stack::apart(|| data_key.bytes().expose(digest)).into())
}

/// What is authenticated with a private key on its way to an enclave.
pub fn import_associated_data(
    public_key: &PublicKey,
    genesis: GenesisValidatorsRoot,
    data_key: DataKeyCommitment,
) -> Vec<u8> {
    [b"holdfast import 1".as_slice(), public_key.as_bytes(), &genesis.0, &data_key.0].concat()
}

/// A private key could not be encrypted for an enclave.
#[derive(Debug, thiserror::Error)]
pub enum ImportKeyError {
    /// The system gives no randomness or no locked memory.
    #[error("the system gives no randomness or no locked memory")]
    System,
    /// The enclave's key.
    #[error("the wrapping key cannot be encrypted to the enclave's key")]
    Wrap(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A private key as an administrator sends it to an enclave: under a key that is used once, which `wrap` encrypts to the
/// enclave's. The enclave seals it under the data key that is named here, and under no other.
///
/// # Errors
/// [`ImportKeyError`].
pub fn encrypt_for_import<E: std::error::Error + Send + Sync + 'static>(
    secret: &SecretKey,
    genesis: GenesisValidatorsRoot,
    data_key: DataKeyCommitment,
    wrap: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<EncryptedKey, ImportKeyError> {
    let mut wrapping = Zeroizing::new([0; KEY_LEN]);
    getrandom::fill(wrapping.as_mut_slice()).map_err(|_| ImportKeyError::System)?;
    let wrapped_key = wrap(wrapping.as_slice()).map_err(|error| ImportKeyError::Wrap(error.into()))?;
    let wrapping = LockedBytes::take(wrapping.as_mut_slice()).map_err(|_| ImportKeyError::System)?;
    let aad = import_associated_data(secret.public_key(), genesis, data_key);
    let sealed = secret.expose_be_bytes(|bytes| aead::encrypt(&wrapping, &aad, bytes));
    let ciphertext = sealed.map_err(|_| ImportKeyError::System)?;
    Ok(EncryptedKey { public_key: *secret.public_key(), data_key, wrapped_key, ciphertext })
}

/// The file of an image that names the witnesses without whose grants the vault in it signs no block and no attestation: the
/// body of a `Witnesses` request.
pub fn measured_witnesses(pins: &Pins) -> Vec<u8> {
    let witnesses = pins.witnesses().iter().map(|key| *key.as_bytes()).collect();
    let request = Request::Witnesses { group: pins.group().as_str().to_owned(), witnesses, quorum: pins.quorum() };
    // It is far below the longest frame: both have their bounds.
    request.frame(1).map(|frame| frame.body().to_vec()).unwrap_or_default()
}

impl Vault {
    /// A vault in an enclave that holds nothing yet.
    pub fn in_enclave(clock: Arc<dyn Clock>, enclave: Box<dyn Enclave>) -> Self {
        let inside = Inside { enclave, witnesses: None, data_key: None, failures_left: FAILED_OPENINGS };
        Self::at(clock, Home::Enclave(inside))
    }

    /// The same for whoever was measured with witnesses: it signs no block and no attestation without their grants, and a
    /// host that names none, or others, changes nothing about that. `file` is what [`measured_witnesses`] makes.
    ///
    /// # Errors
    /// [`Failure::UnfitWitnesses`] if it is no such file.
    pub fn with_witnesses(mut self, file: &[u8]) -> Result<Self, Failure> {
        let Ok(Request::Witnesses { group, witnesses, quorum }) = Request::read(Operation::Witnesses, file) else {
            return Err(Failure::UnfitWitnesses);
        };
        let pins = super::lease::pins(&group, &witnesses, quorum).ok_or(Failure::UnfitWitnesses)?;
        self.inside_mut()?.witnesses = Some(pins);
        Ok(self)
    }

    fn inside(&self) -> Result<&Inside, Failure> {
        match &self.home {
            Home::Process => Err(Failure::NoEnclave),
            Home::Enclave(inside) => Ok(inside),
        }
    }

    pub(super) fn inside_mut(&mut self) -> Result<&mut Inside, Failure> {
        match &mut self.home {
            Home::Process => Err(Failure::NoEnclave),
            Home::Enclave(inside) => Ok(inside),
        }
    }

    /// The public key of this boot; empty where there is none.
    pub(super) fn boot_key(&self) -> &[u8] {
        self.inside().map_or(&[], |inside| inside.enclave.boot_key())
    }

    /// An attestation document.
    pub(super) fn attest(&self, nonce: &[u8]) -> Result<Vec<u8>, Failure> {
        let bound = Bound { version: VERSION, chain: self.genesis() };
        self.inside()?.attest(nonce, &bound.encode())
    }

    /// Opens sealed keys with a data key that was encrypted to the boot key. A data key that comes with no keys is held for
    /// imports.
    pub(super) fn provision_attested(
        &mut self,
        cms: &[u8],
        keys: Vec<SealedKeyBytes>,
    ) -> Result<Vec<KeyOutcome>, Failure> {
        let inside = self.inside_mut()?;
        // Before anything is decrypted, so that how long it takes says nothing of what came out.
        inside.enclave.set_clock()?;
        let mut candidate = inside.decrypt(KEY_LEN, |enclave| enclave.open(cms))?;
        let data_key = DataKey::take(&mut candidate).map_err(|_| Failure::Internal)?;
        let for_imports = keys.is_empty();
        let outcomes = self.open_all(&data_key, keys)?;
        if for_imports || outcomes.contains(&KeyOutcome::Opened) {
            // Neither says whose it is, not even that it opened something: whoever brought it may have sealed that. An import
            // names its data key.
            self.inside_mut()?.data_key = Some(data_key);
        }
        Ok(outcomes)
    }

    /// Seals a private key that an administrator encrypted to the boot key, under the data key that he named.
    ///
    /// # Errors
    /// [`Failure::OtherDataKey`] if that is not the one held; [`Failure::NotForThisBoot`] if it does not open;
    /// [`Failure::OtherKey`] if it is not the private key of that public key.
    pub(super) fn import(&mut self, key: &EncryptedKey) -> Result<Vec<u8>, Failure> {
        let genesis = self.genesis().ok_or(Failure::NotPinned)?;
        let inside = self.inside_mut()?;
        inside.holds(key.data_key)?;
        let mut wrapping = inside.decrypt(KEY_LEN, |enclave| enclave.unwrap(&key.wrapped_key))?;
        let wrapping = LockedBytes::take(&mut wrapping).map_err(|_| Failure::Internal)?;
        let aad = import_associated_data(&key.public_key, genesis, key.data_key);
        let mut secret = aead::decrypt(&wrapping, &aad, &key.ciphertext).ok_or(Failure::NotForThisBoot)?;
        let secret = SecretKey::from_be_bytes(&mut secret).map_err(|_| Failure::OtherKey)?;
        if *secret.public_key() != key.public_key {
            return Err(Failure::OtherKey);
        }
        let data_key = inside.data_key.as_ref().ok_or(Failure::OtherDataKey)?;
        let sealed = seal::seal(data_key, genesis, &secret).map_err(|_| Failure::Internal)?;
        Ok(sealed.as_bytes().to_vec())
    }
}

/// Gives up what a vault needs no more once its devices are open: files, new privileges, dumps. For the only program of
/// a machine, before it starts threads.
pub fn settle() -> Protections {
    sandbox::in_enclave()
}

/// Serves one conversation of a vault that outlives it.
///
/// # Errors
/// [`FrameError`] if the other side said something that cannot be understood, or the connection broke. The vault is
/// none the worse for it.
pub fn converse(
    from: impl Read,
    to: impl Write + Send + 'static,
    vault: &mut Vault,
    options: &serve::Options,
) -> Result<Ended, FrameError> {
    let crew = Crew::start(options.threads, Box::new(to)).map_err(FrameError::Io)?;
    serve::converse(from, crew, vault, options.program.clone(), |_| options.protections)
}

/// Threads that sign: one for each processor.
pub fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests;
