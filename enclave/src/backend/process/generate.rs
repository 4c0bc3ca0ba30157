//! New keys of a vault process.
//!
//! Guarantees: what is asked for in one call comes whole or not at all; a tree's seed and the data key are wiped here when
//! they are sent, and no private key is ever here.

use holdfast_slashing_db::SealedKey;
use holdfast_vault_proto::limits::MAX_GENERATED;
use holdfast_vault_proto::{Answer, DataKeyBytes, GeneratedKey, Origin as Wire, Request, SeedBytes};

use super::link::Link;
use crate::error::SignError;
use crate::generate::{GenerateError, Generated, Origin};
use crate::import::SealFor;
use crate::secret::DataKey;

/// Asks for keys, a few at a time.
pub(super) fn generate(
    link: &Link,
    origin: Origin<'_>,
    count: u32,
    sealed_for: SealFor<'_>,
) -> Result<Vec<Generated>, SignError> {
    let at_once = u32::try_from(MAX_GENERATED).unwrap_or(u32::MAX);
    let mut made = Vec::new();
    for (origin, _, some) in origin.parts(count, at_once) {
        let request = order(origin, some, sealed_for.data_key)?;
        match link.ask(&request)? {
            Answer::Generated(keys) if u32::try_from(keys.len()) == Ok(some) => {
                made.extend(keys.into_iter().map(|key| stored(key, sealed_for.data_key)));
            }
            Answer::Failed(failure) => return Err(SignError::VaultFailed { reason: failure.as_str() }),
            _ => return Err(SignError::VaultDown),
        }
    }
    Ok(made)
}

fn order(origin: Origin<'_>, some: u32, data_key: &DataKey) -> Result<Request, SignError> {
    let plain = data_key.bytes().expose(|bytes| bytes.first_chunk().map(DataKeyBytes::new));
    let no_place = || SignError::NotMade(Box::new(GenerateError::NoPlace));
    let origin = match origin {
        Origin::Random => Wire::Random,
        Origin::Tree { tree, first } => {
            let first = Some(first.get()).filter(|first| first.checked_add(some).is_some());
            let seed =
                tree.expose_seed(|seed| seed.first_chunk().filter(|all| all.len() == seed.len()).map(SeedBytes::new));
            Wire::Tree { first: first.ok_or_else(no_place)?, seed: seed.ok_or(SignError::VaultDown)? }
        }
    };
    let count = usize::try_from(some).map_err(|_| no_place())?;
    Ok(Request::Generate { data_key: plain.ok_or(SignError::VaultDown)?, origin, count })
}

/// As it is stored: what the vault does not know is which recorded data key it was given.
fn stored(GeneratedKey { key, withdrawal_key }: GeneratedKey, data_key: &DataKey) -> Generated {
    Generated { key: key.public_key, sealed: SealedKey::new(key.sealed).under(data_key.id()), withdrawal_key }
}
