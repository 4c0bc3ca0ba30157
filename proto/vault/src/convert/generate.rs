//! New keys that are ordered, and new keys that are delivered.

use prost::Message as _;

use super::{array, bounded, public_key, sealed_key, unpack};
use crate::error::Malformed;
use crate::frame::{Frame, Header};
use crate::limits::{MAX_DOCUMENT, MAX_GENERATED, MAX_NONCE, MAX_SEALED, MAX_WRAPPED_KEY, SEED};
use crate::message::{
    AttestedOrder, DataKeyBytes, DataKeyCommitment, EncryptedSeed, GeneratedKey, Origin, Request, SeedBytes,
};
use crate::v1;

/// Where there is no seed.
const NO_SEED: [u8; SEED] = [0; SEED];

pub(super) fn frame(header: Header, data_key: &DataKeyBytes, origin: &Origin, count: usize) -> Option<Frame> {
    let (seed, first) = match origin {
        Origin::Random => (NO_SEED.as_slice(), None),
        Origin::Tree { seed, first } => (seed.as_bytes(), Some(*first)),
    };
    let body = v1::Generate { count: number(count)?, first };
    let secrets = data_key.as_bytes().len().checked_add(seed.len())?;
    Frame::new(header, body.encoded_len().checked_add(secrets)?, |out| {
        out.extend_from_slice(data_key.as_bytes());
        out.extend_from_slice(seed);
        body.encode_raw(out);
    })
}

pub(super) fn read(body: &[u8]) -> Result<Request, Malformed> {
    let short = |field| Malformed::Length { field, len: body.len() };
    let (data_key, rest) = body.split_first_chunk().ok_or_else(|| short("data_key"))?;
    let (seed, rest) = rest.split_first_chunk::<SEED>().ok_or_else(|| short("seed"))?;
    let v1::Generate { count, first } = unpack(rest)?;
    let count = counted(count)?;
    let origin = match first {
        Some(first) => Origin::Tree { seed: SeedBytes::new(seed), first: last_within(first, count)? },
        // A seed that is not asked for would be lost without a word.
        None if *seed != NO_SEED => return Err(Malformed::Value { field: "first", value: 0 }),
        None => Origin::Random,
    };
    Ok(Request::Generate { data_key: DataKeyBytes::new(data_key), origin, count })
}

pub(super) fn pack_order(order: &AttestedOrder) -> Option<v1::GenerateAttested> {
    let seed = order.seed.as_ref();
    let within = order.nonce.len() <= MAX_NONCE && seed.is_none_or(|seed| seed.wrapped.len() <= MAX_WRAPPED_KEY);
    let pack = |seed: &EncryptedSeed| v1::EncryptedSeed { first: seed.first, wrapped: seed.wrapped.clone() };
    within.then_some(v1::GenerateAttested {
        nonce: order.nonce.clone(),
        data_key: order.data_key.0.to_vec(),
        count: number(order.count)?,
        seed: seed.map(pack),
    })
}

pub(super) fn unpack_order(order: v1::GenerateAttested) -> Result<AttestedOrder, Malformed> {
    let count = counted(order.count)?;
    let seed = |seed: v1::EncryptedSeed| {
        Ok(EncryptedSeed {
            first: last_within(seed.first, count)?,
            wrapped: bounded("wrapped", MAX_WRAPPED_KEY, seed.wrapped)?,
        })
    };
    Ok(AttestedOrder {
        nonce: bounded("nonce", MAX_NONCE, order.nonce)?,
        data_key: DataKeyCommitment(array("data_key", &order.data_key)?),
        count,
        seed: order.seed.map(seed).transpose()?,
    })
}

pub(super) fn pack_attested(keys: &[GeneratedKey], document: &[u8]) -> Option<v1::GeneratedAttested> {
    let keys = pack_keys(keys)?;
    (document.len() <= MAX_DOCUMENT).then(|| v1::GeneratedAttested { keys, document: document.to_vec() })
}

pub(super) fn pack_keys(keys: &[GeneratedKey]) -> Option<Vec<v1::GeneratedKey>> {
    let within = keys.len() <= MAX_GENERATED && keys.iter().all(|one| one.key.sealed.len() <= MAX_SEALED);
    let pack = |one: &GeneratedKey| v1::GeneratedKey {
        public_key: one.key.public_key.as_bytes().to_vec(),
        sealed: one.key.sealed.clone(),
        withdrawal_key: one.withdrawal_key.map(|key| key.as_bytes().to_vec()).unwrap_or_default(),
    };
    within.then(|| keys.iter().map(pack).collect())
}

pub(super) fn unpack_keys(keys: Vec<v1::GeneratedKey>) -> Result<Vec<GeneratedKey>, Malformed> {
    let one = |v1::GeneratedKey { public_key: key, sealed, withdrawal_key }: v1::GeneratedKey| {
        let key = sealed_key(v1::SealedKey { public_key: key, sealed })?;
        let withdrawal_key = if withdrawal_key.is_empty() { None } else { Some(public_key(&withdrawal_key)?) };
        Ok(GeneratedKey { key, withdrawal_key })
    };
    keys.into_iter().map(one).collect()
}

fn number(count: usize) -> Option<u32> {
    u32::try_from(count).ok().filter(|_| (1..=MAX_GENERATED).contains(&count))
}

fn counted(count: u32) -> Result<usize, Malformed> {
    let number = usize::try_from(count).ok().filter(|count| (1..=MAX_GENERATED).contains(count));
    number.ok_or(Malformed::Value { field: "count", value: count.into() })
}

/// The first place, if there are so many from there on.
fn last_within(first: u32, count: usize) -> Result<u32, Malformed> {
    let last = u32::try_from(count).ok().and_then(|count| first.checked_add(count));
    last.map(|_| first).ok_or(Malformed::Value { field: "first", value: first.into() })
}
