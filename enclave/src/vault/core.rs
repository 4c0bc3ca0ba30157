//! Keys, marks and the chain: every decision of the vault, without input or output.
//!
//! Guarantees: see [the vault](super). Marks are kept for every key that was ever open, also after its secret is
//! gone; they only rise. A key's marks move before its signature is made, so a failure later costs a signature and
//! nothing else.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use holdfast_domain::{
    Clock, GenesisValidatorsRoot, IntentError, Network, PublicKey, SigningRoot, SlotClock, Subject, UnixMillis,
};
use holdfast_slashing_db::SealedKey;
use holdfast_vault_proto::{
    DataKeyBytes, Failure, HealthReport, KeyOutcome, KeyState, Reason, Refusal, SealedKeyBytes, SignItem,
};

use super::enclave::{Inside, misstates_times};
use super::lease::Leasing;
use super::rules::{Edge, Marks};
use crate::error::SealError;
use crate::seal;
use crate::secret::{DataKey, SecretKey};

/// Most keys a vault knows: ten times the largest operator's.
const MAX_HELD: usize = 1_000_000;

/// The state of a vault.
pub struct Vault {
    clock: Arc<dyn Clock>,
    chain: Option<Chain>,
    /// Whose leases it signs by, if any.
    pub(super) lease: Option<Leasing>,
    keys: Keys,
    open: u64,
    approved: u64,
    refused: u64,
    pub(super) home: Home,
}

/// Where a vault is, and so what it takes from whoever talks to it.
pub(super) enum Home {
    /// A process of the signer's machine: the signer brings the data key.
    Process,
    /// An enclave: nothing that opens keys comes in the clear.
    Enclave(Inside),
}

/// The chain the vault signs for.
pub(super) struct Chain {
    network: Network,
    pub(super) genesis: GenesisValidatorsRoot,
    pub(super) slots: SlotClock,
}

/// What is known of a key.
pub(super) struct Held {
    /// `None` once forgotten.
    pub(super) secret: Option<Arc<SecretKey>>,
    pub(super) marks: Marks,
}

/// Everything a vault knows of keys.
pub(super) type Keys = BTreeMap<PublicKey, Held>;

/// Permission to sign a root with a key. Only [`Vault::approve`] makes one.
#[must_use]
pub(crate) struct Approved {
    secret: Arc<SecretKey>,
    root: SigningRoot,
    block: bool,
}

impl Approved {
    /// The key.
    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The root.
    pub(crate) fn root(&self) -> SigningRoot {
        self.root
    }

    /// Whether it is a block proposal, which goes first.
    pub(crate) fn is_block(&self) -> bool {
        self.block
    }
}

impl Vault {
    /// A vault that holds nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::at(clock, Home::Process)
    }

    pub(super) fn at(clock: Arc<dyn Clock>, home: Home) -> Self {
        Self { clock, chain: None, lease: None, keys: BTreeMap::new(), open: 0, approved: 0, refused: 0, home }
    }

    /// The chain, once pinned.
    pub(super) fn genesis(&self) -> Option<GenesisValidatorsRoot> {
        self.chain.as_ref().map(|chain| chain.genesis)
    }

    /// Whether a chain is pinned.
    pub(crate) fn is_pinned(&self) -> bool {
        self.chain.is_some()
    }

    /// Chain, lease and keys, for [`super::lease`].
    pub(super) fn parts(&mut self) -> (Option<&Chain>, &mut Option<Leasing>, &mut Keys) {
        (self.chain.as_ref(), &mut self.lease, &mut self.keys)
    }

    /// Pins the chain; the same chain again changes nothing.
    ///
    /// # Errors
    /// [`Failure::OtherChain`] if another is pinned, or if this one is incomplete; [`Failure::UnknownChain`] if the
    /// times are not those of the built-in network, and in an enclave that cannot know them.
    pub(crate) fn pin(&mut self, network: Network) -> Result<(), Failure> {
        if let Some(chain) = &self.chain {
            return if chain.network == network { Ok(()) } else { Err(Failure::OtherChain) };
        }
        let genesis = network.genesis_validators_root.ok_or(Failure::OtherChain)?;
        let slots = network.slot_clock().ok_or(Failure::OtherChain)?;
        match &self.home {
            Home::Process if misstates_times(&network) => return Err(Failure::UnknownChain),
            Home::Process => {}
            Home::Enclave(inside) => {
                inside.knows(&network)?;
                // Before any key can come in.
                if let Some(pins) = inside.witnesses() {
                    self.lease = Some(Leasing::new(pins.clone(), genesis)?);
                }
            }
        }
        self.chain = Some(Chain { network, genesis, slots });
        Ok(())
    }

    /// Opens sealed keys with a data key that came in the clear.
    ///
    /// # Errors
    /// As [`Self::open_all`]; [`Failure::PlainDataKey`] in an enclave; [`Failure::Internal`] without memory for the
    /// data key.
    pub(crate) fn provision(
        &mut self,
        data_key: &mut DataKeyBytes,
        keys: Vec<SealedKeyBytes>,
    ) -> Result<Vec<KeyOutcome>, Failure> {
        match &self.home {
            Home::Process => {}
            Home::Enclave(_) => return Err(Failure::PlainDataKey),
        }
        let data_key = DataKey::take(data_key.as_bytes_mut()).map_err(|_| Failure::Internal)?;
        self.open_all(&data_key, keys)
    }

    /// Opens sealed keys. Each that was not open begins behind a fence at the present.
    ///
    /// # Errors
    /// [`Failure::NotPinned`] before a chain is.
    pub(super) fn open_all(
        &mut self,
        data_key: &DataKey,
        keys: Vec<SealedKeyBytes>,
    ) -> Result<Vec<KeyOutcome>, Failure> {
        let chain = self.chain.as_ref().ok_or(Failure::NotPinned)?;
        let (genesis, slots) = (chain.genesis, chain.slots);
        let skew = match &self.home {
            Home::Process => 0,
            // An instance before this one had a clock of its own, which may have been ahead of this one.
            Home::Enclave(_) => slots.slot_millis.get(),
        };
        // What others of the group may have signed, as far as this vault's lease says.
        let others = match &mut self.lease {
            None => Marks::default(),
            Some(lease) => {
                lease.learn(data_key)?;
                lease.base().map(|base| Marks::behind(base, &slots)).unwrap_or_default()
            }
        };
        let mut outcomes = Vec::with_capacity(keys.len());
        for SealedKeyBytes { public_key, sealed } in keys {
            let outcome = if self.keys.get(&public_key).is_some_and(|held| held.secret.is_some()) {
                KeyOutcome::AlreadyOpen
            } else if self.keys.len() >= MAX_HELD {
                KeyOutcome::NoRoom
            } else {
                match open(data_key, &public_key, genesis, sealed) {
                    Ok(secret) => {
                        // After the secret is had: nobody signs with it here before this moment.
                        let now = UnixMillis(self.clock.now().0.saturating_add(skew));
                        let fence = Marks::fence(Edge::at(&slots, now)).raised_to(others);
                        let known = self.keys.get(&public_key).map(|held| held.marks).unwrap_or_default();
                        let held = Held { secret: Some(Arc::new(secret)), marks: known.raised_to(fence) };
                        self.keys.insert(public_key, held);
                        self.open = self.open.saturating_add(1);
                        KeyOutcome::Opened
                    }
                    Err(outcome) => outcome,
                }
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Wipes the secrets of these keys, once what was approved is signed. Their marks stay.
    pub(crate) fn forget(&mut self, keys: &[PublicKey]) {
        for key in keys {
            let secret = self.keys.get_mut(key).and_then(|held| held.secret.take());
            self.open = self.open.saturating_sub(u64::from(secret.is_some()));
        }
    }

    /// Judges one message. From now on its mark is taken, whether or not it is signed.
    ///
    /// # Errors
    /// [`Refusal`]: it must not be signed, and nothing changed.
    pub(crate) fn approve(&mut self, item: &SignItem) -> Result<Approved, Refusal> {
        let result = self.judge(item);
        let count = if result.is_ok() { &mut self.approved } else { &mut self.refused };
        *count = count.saturating_add(1);
        result
    }

    fn judge(&mut self, item: &SignItem) -> Result<Approved, Refusal> {
        let unmarked = |reason| Refusal { reason, marks: Marks::default().shown() };
        let chain = self.chain.as_ref().ok_or_else(|| unmarked(Reason::WrongChain))?;
        let held = self.keys.get_mut(&item.public_key).ok_or_else(|| unmarked(Reason::UnknownKey))?;
        let refused = |reason| Refusal { reason, marks: held.marks.shown() };
        let Some(secret) = &held.secret else { return Err(refused(Reason::UnknownKey)) };
        let restated = item.statement.restate(item.root, &chain.network).map_err(|error| {
            refused(match error {
                IntentError::SigningRootMismatch { .. } => Reason::RootMismatch,
                IntentError::MissingForkInfo(_)
                | IntentError::UnknownForkVersion { .. }
                | IntentError::NoCapellaVersion { .. }
                | IntentError::Malformed(_) => Reason::Unsignable,
            })
        })?;
        let ours = restated.genesis_validators_root.map(|named| named == chain.genesis);
        let (block, ours) = match restated.subject {
            Subject::Block { .. } => (true, ours == Some(true)),
            Subject::Attestation { .. } => (false, ours == Some(true)),
            // Some types are valid on every chain and name none.
            Subject::Unslashable { .. } => (false, ours != Some(false)),
        };
        if !ours {
            return Err(refused(Reason::WrongChain));
        }
        if let Some(lease) = &self.lease {
            lease.allows(&restated.subject, &chain.slots).map_err(refused)?;
        }
        let edge = Edge::at(&chain.slots, self.clock.now());
        let after = held.marks.judge(&restated.subject, restated.root, edge).map_err(refused)?;
        let secret = Arc::clone(secret);
        held.marks = after;
        Ok(Approved { secret, root: restated.root, block })
    }

    /// Keys in byte order, after this one, at most so many.
    pub(crate) fn list(&self, after: Option<PublicKey>, limit: usize) -> Vec<KeyState> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(key, held)| KeyState { public_key: *key, open: held.secret.is_some(), marks: held.marks.shown() })
            .collect()
    }

    /// How it is.
    pub(crate) fn health(&self) -> HealthReport {
        HealthReport {
            keys: self.open,
            signatures: self.approved,
            refusals: self.refused,
            clock_millis: self.clock.now().0,
        }
    }
}

/// Opens one sealed key, and computes its public key: a secret under another name would have other marks.
fn open(
    data_key: &DataKey,
    public_key: &PublicKey,
    genesis: GenesisValidatorsRoot,
    sealed: Vec<u8>,
) -> Result<SecretKey, KeyOutcome> {
    let secret = seal::open(data_key, public_key, genesis, &SealedKey::new(sealed)).map_err(|error| match error {
        SealError::WrongNetwork { .. } => KeyOutcome::OtherNetwork,
        SealError::WrongPublicKey { .. } => KeyOutcome::OtherKey,
        SealError::WrongDataKey { .. } => KeyOutcome::OtherDataKey,
        SealError::UnknownVersion { .. } => KeyOutcome::UnknownFormat,
        SealError::Unusable { source: holdfast_enclave_sys::SysError::Map(_), .. } => KeyOutcome::NoRoom,
        SealError::Length { .. }
        | SealError::Damaged { .. }
        | SealError::Unusable { .. }
        | SealError::Random { .. } => KeyOutcome::Damaged,
    })?;
    if secret.scalar().public_key() == *public_key.as_bytes() { Ok(secret) } else { Err(KeyOutcome::OtherKey) }
}

#[cfg(test)]
mod tests;
