//! A passphrase as guard: Argon2id makes the key-encryption key at each start, and nothing is stored
//! that opens the data without it.
//!
//! Guarantees: the cost is stored with the wrapped key and authenticated with it, and bounded before it
//! is paid; the memory Argon2 used is wiped. The passphrase is a [`Passphrase`], which is made from a
//! prompt or a file: this crate reads no arguments and no environment.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use holdfast_enclave_sys::LockedBytes;
use zeroize::Zeroizing;

use super::{Envelope, Provider, ProviderKind, WrapContext, Wrapped, seal_with};
use crate::aead::SECRET_LEN;
use crate::error::{ProviderError, SecretError};
use crate::secret::{DataKey, Passphrase};

const SALT_LEN: usize = 16;

/// What one derivation costs (RFC 9106).
///
/// The default is 128 MiB, 3 passes, 1 lane: the passes of the memory-constrained recommendation of RFC
/// 9106 (section 4) with twice its memory, as it is paid once per start and not per request. It is less
/// than a second, and fits the smallest containers signers run in; one lane, because more help a
/// many-core attacker as much as us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for Argon2Cost {
    fn default() -> Self {
        Self { memory_kib: 128 * 1024, passes: 3, lanes: 1 }
    }
}

impl Argon2Cost {
    /// Bounds for memory in KiB: 8 MiB to 1 GiB. Below it is no obstacle, above it a denial of service.
    pub const MEMORY_KIB: core::ops::RangeInclusive<u32> = 8 * 1024..=1024 * 1024;
    /// Bounds for passes.
    pub const PASSES: core::ops::RangeInclusive<u32> = 1..=16;
    /// Bounds for lanes.
    pub const LANES: core::ops::RangeInclusive<u32> = 1..=16;

    /// A cost within the bounds.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Cost`] outside [`Self::MEMORY_KIB`], [`Self::PASSES`] or [`Self::LANES`].
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, ProviderError> {
        let allowed =
            Self::MEMORY_KIB.contains(&memory_kib) && Self::PASSES.contains(&passes) && Self::LANES.contains(&lanes);
        if allowed {
            Ok(Self { memory_kib, passes, lanes })
        } else {
            Err(ProviderError::Cost { memory_kib, passes, lanes })
        }
    }

    fn encode(self, salt: &[u8; SALT_LEN]) -> Vec<u8> {
        let [memory, passes, lanes] = [self.memory_kib, self.passes, self.lanes].map(u32::to_be_bytes);
        [memory.as_slice(), &passes, &lanes, salt].concat()
    }

    fn decode(parameters: &[u8]) -> Result<(Self, [u8; SALT_LEN]), ProviderError> {
        let malformed = ProviderError::Malformed;
        let Some((memory, rest)) = parameters.split_first_chunk() else { return Err(malformed) };
        let Some((passes, rest)) = rest.split_first_chunk() else { return Err(malformed) };
        let Some((lanes, salt)) = rest.split_first_chunk() else { return Err(malformed) };
        let Ok(salt) = salt.try_into() else { return Err(malformed) };
        let [memory, passes, lanes] = [*memory, *passes, *lanes].map(u32::from_be_bytes);
        Ok((Self::new(memory, passes, lanes)?, salt))
    }
}

/// Guards data keys with a passphrase. Each call pays the cost once.
pub struct PassphraseProvider {
    passphrase: Passphrase,
    cost: Argon2Cost,
}

impl PassphraseProvider {
    /// Uses a passphrase with the default cost.
    ///
    /// # Errors
    ///
    /// [`ProviderError::EmptyPassphrase`] if it is empty.
    pub fn new(passphrase: Passphrase) -> Result<Self, ProviderError> {
        Self::with_cost(passphrase, Argon2Cost::default())
    }

    /// Uses a passphrase with this cost for new wrappings. Stored ones bring their own.
    ///
    /// # Errors
    ///
    /// [`ProviderError::EmptyPassphrase`] if it is empty.
    pub fn with_cost(passphrase: Passphrase, cost: Argon2Cost) -> Result<Self, ProviderError> {
        if passphrase.is_empty() {
            return Err(ProviderError::EmptyPassphrase);
        }
        Ok(Self { passphrase, cost })
    }

    fn derive(&self, cost: Argon2Cost, salt: &[u8; SALT_LEN]) -> Result<LockedBytes, ProviderError> {
        let params =
            Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(SECRET_LEN)).map_err(ProviderError::Argon2)?;
        // Argon2's own allocation would not be wiped.
        let mut memory = Zeroizing::new(Vec::new());
        memory.try_reserve_exact(params.block_count()).map_err(|_| ProviderError::Memory { kib: cost.memory_kib })?;
        memory.resize(params.block_count(), Block::new());
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = LockedBytes::zeroed(SECRET_LEN).map_err(SecretError::Memory)?;
        self.passphrase
            .expose(|passphrase| {
                key.expose_mut(|key| {
                    argon2.hash_password_into_with_memory(passphrase, salt, key, memory.as_mut_slice())
                })
            })
            .map_err(ProviderError::Argon2)?;
        Ok(key)
    }
}

impl Provider for PassphraseProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Passphrase
    }

    fn wrap(&self, key: &DataKey, context: &WrapContext) -> Result<Wrapped, ProviderError> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt).map_err(ProviderError::Random)?;
        let guard = self.derive(self.cost, &salt)?;
        seal_with(&guard, self.kind(), &self.cost.encode(&salt), key, context)
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &WrapContext) -> Result<DataKey, ProviderError> {
        let envelope = Envelope::parse_own(wrapped, self.kind())?;
        let (cost, salt) = Argon2Cost::decode(envelope.parameters)?;
        envelope.open(&self.derive(cost, &salt)?, context)
    }

    fn describe(&self) -> String {
        let Argon2Cost { memory_kib, passes, lanes } = self.cost;
        format!("passphrase (Argon2id, {} MiB, passes: {passes}, lanes: {lanes})", memory_kib / 1024)
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: the derivation is Argon2id with the stored cost, out-of-bounds costs are refused
    //! before they are paid, and a passphrase is needed. Wrapping is in `tests/conformance.rs`.

    use holdfast_domain::GenesisValidatorsRoot;

    use super::*;
    use crate::provider::DataKeyId;

    const CONTEXT: WrapContext = WrapContext { network: GenesisValidatorsRoot([3; 32]), data_key: DataKeyId(1) };

    fn provider(text: &str) -> PassphraseProvider {
        let cost = Argon2Cost::new(8 * 1024, 1, 1).unwrap();
        PassphraseProvider::with_cost(Passphrase::new(text.to_owned()).unwrap(), cost).unwrap()
    }

    #[test]
    fn an_empty_passphrase_guards_nothing() {
        let empty = Passphrase::new("\n".to_owned()).unwrap();
        assert!(matches!(PassphraseProvider::new(empty), Err(ProviderError::EmptyPassphrase)));
    }

    #[test]
    fn the_default_cost_is_within_the_bounds() {
        let Argon2Cost { memory_kib, passes, lanes } = Argon2Cost::default();
        assert_eq!(Argon2Cost::new(memory_kib, passes, lanes).unwrap(), Argon2Cost::default());
        let shown = PassphraseProvider::new(Passphrase::new("x".to_owned()).unwrap()).unwrap().describe();
        assert_eq!(shown, "passphrase (Argon2id, 128 MiB, passes: 3, lanes: 1)");
    }

    #[test]
    fn the_derivation_is_argon2id() {
        let provider = provider("correct horse");
        let key = provider.derive(provider.cost, &[9; SALT_LEN]).unwrap();
        let mut expected = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8 * 1024, 1, 1, Some(32)).unwrap())
            .hash_password_into(b"correct horse", &[9; SALT_LEN], &mut expected)
            .unwrap();
        key.expose(|key| assert_eq!(key, expected));
    }

    #[test]
    fn a_stored_cost_is_bounded_before_it_is_paid() {
        let provider = provider("correct horse");
        let wrapped = provider.wrap(&DataKey::generate().unwrap(), &CONTEXT).unwrap();
        // version, length, name, length: then memory, passes and lanes, four bytes each.
        let memory_at = 2 + "passphrase".len() + 1;
        for (place, value) in [
            (memory_at, u32::MAX),
            (memory_at, 1024 * 1024 + 1),
            (memory_at, 8),
            (memory_at + 4, 0),
            (memory_at + 4, 17),
            (memory_at + 8, 0),
            (memory_at + 8, 17),
        ] {
            let mut bytes = wrapped.as_bytes().to_vec();
            bytes[place..place + 4].copy_from_slice(&value.to_be_bytes());
            let refused = provider.unwrap(&Wrapped::from_bytes(bytes), &CONTEXT).map(|_| ());
            assert!(matches!(refused, Err(ProviderError::Cost { .. })), "{value} at {place}");
        }
    }

    #[test]
    fn the_stored_cost_is_used_and_not_our_own() {
        let wrapped = provider("pass").wrap(&DataKey::generate().unwrap(), &CONTEXT).unwrap();
        let default = PassphraseProvider::new(Passphrase::new("pass".to_owned()).unwrap()).unwrap();
        assert!(default.unwrap(&wrapped, &CONTEXT).is_ok());
    }
}
