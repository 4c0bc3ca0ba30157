//! What a vault leaves behind when it stops in good order: the marks of its open keys, sealed.
//!
//! Guarantees: a page opens only under the same data key, for the same chain and group, at its place in its checkpoint;
//! the hash covers every page in order. Whether a checkpoint is the last one only witnesses can say.
//!
//! A page: a version, number of the checkpoint, index and count of pages, key of the vault, nonce, then encrypted with
//! AES-256-GCM up to [`PER_PAGE`] times a public key and its marks, then the tag.

use std::collections::BTreeMap;

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce, Tag};
use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_vault_proto::Failure;
use holdfast_witness::{CheckpointHash, Group};
use sha2::{Digest as _, Sha256};

use super::rules::{Marks, SAVED_LEN};
use crate::secret::DataKey;

/// Keys in a page.
const PER_PAGE: usize = 256;
/// Most pages: those of a million keys.
const MAX_PAGES: u32 = 4_096;
const VERSION: u8 = 1;
const ENTRY: usize = 48 + SAVED_LEN;
const HEADER: usize = 1 + 8 + 4 + 4 + 32;
const NONCE: usize = 12;
const TAG: usize = 16;
const LABEL: &[u8] = b"holdfast vault checkpoint";

/// What a checkpoint is bound to.
pub(super) struct Binding {
    /// The chain.
    pub(super) chain: GenesisValidatorsRoot,
    /// The group.
    pub(super) group: Group,
}

/// A checkpoint, made.
pub(super) struct Made {
    pub(super) seq: u64,
    pub(super) hash: CheckpointHash,
    pub(super) pages: Vec<Vec<u8>>,
}

/// A checkpoint that comes in page by page.
pub(super) struct Incoming {
    header: Header,
    next: u32,
    hash: [u8; 32],
    pub(super) marks: BTreeMap<PublicKey, Marks>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Header {
    seq: u64,
    count: u32,
    boot: [u8; 32],
}

impl Header {
    fn bytes(&self, index: u32) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&index.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.boot);
        out
    }

    fn read(page: &[u8]) -> Option<(Self, u32)> {
        let (version, rest) = page.split_first()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (boot, _) = rest.split_first_chunk()?;
        let header = Self { seq: u64::from_be_bytes(*seq), count: u32::from_be_bytes(*count), boot: *boot };
        (*version == VERSION && header.count <= MAX_PAGES).then_some((header, u32::from_be_bytes(*index)))
    }
}

/// The hash of the pages so far and one more.
fn chained(before: [u8; 32], page: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(page);
    hash.finalize().into()
}

impl Binding {
    fn associated(&self, header: &[u8]) -> Vec<u8> {
        // Label, chain and header have fixed lengths.
        [LABEL, &self.chain.0, header, self.group.as_str().as_bytes()].concat()
    }
}

/// Seals marks. There is always a page.
pub(super) fn seal<'a>(
    key: &DataKey,
    binding: &Binding,
    (seq, boot): (u64, [u8; 32]),
    marks: impl Iterator<Item = (&'a PublicKey, Marks)>,
) -> Result<Made, Failure> {
    let marks: Vec<(&PublicKey, Marks)> = marks.collect();
    let count = marks.len().div_ceil(PER_PAGE).max(1);
    let count = u32::try_from(count).ok().filter(|count| *count <= MAX_PAGES).ok_or(Failure::Internal)?;
    let header = Header { seq, count, boot };
    let mut chunks = marks.chunks(PER_PAGE);
    let (mut pages, mut hash) = (Vec::new(), [0; 32]);
    for index in 0..count {
        let mut body = Vec::with_capacity(PER_PAGE.saturating_mul(ENTRY));
        for (public_key, marks) in chunks.next().unwrap_or_default() {
            body.extend_from_slice(public_key.as_bytes());
            marks.save(&mut body);
        }
        let head = header.bytes(index);
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| Failure::Internal)?;
        let tag = key.bytes().expose(|key| {
            let cipher = Aes256Gcm::new_from_slice(key).ok()?;
            let associated = binding.associated(&head);
            cipher.encrypt_inout_detached(&Nonce::from(nonce), &associated, body.as_mut_slice().into()).ok()
        });
        let tag = tag.ok_or(Failure::Internal)?;
        let page = [head.as_slice(), &nonce, &body, &tag].concat();
        hash = chained(hash, &page);
        pages.push(page);
    }
    Ok(Made { seq, hash: CheckpointHash(hash), pages })
}

impl Incoming {
    /// Takes a page; the first begins a checkpoint anew.
    pub(super) fn take(before: Option<Self>, key: &DataKey, binding: &Binding, page: &[u8]) -> Result<Self, Failure> {
        let (header, index) = Header::read(page).ok_or(Failure::NoCheckpoint)?;
        let mut incoming = match before {
            Some(incoming) if index > 0 => incoming,
            Some(_) | None => Self { header, next: 0, hash: [0; 32], marks: BTreeMap::new() },
        };
        if incoming.header != header || incoming.next != index || index >= header.count {
            return Err(Failure::NoCheckpoint);
        }
        let body = open(key, binding, page).ok_or(Failure::NoCheckpoint)?;
        for entry in body.chunks(ENTRY) {
            let (public_key, saved) = entry.split_first_chunk::<48>().ok_or(Failure::NoCheckpoint)?;
            let marks = saved.try_into().ok().and_then(Marks::restore).ok_or(Failure::NoCheckpoint)?;
            incoming.marks.insert(PublicKey::from_bytes(*public_key), marks);
        }
        incoming.hash = chained(incoming.hash, page);
        incoming.next = index.saturating_add(1);
        Ok(incoming)
    }

    /// Its number and hash, once it is complete.
    pub(super) fn complete(&self) -> Option<(u64, CheckpointHash)> {
        (self.next == self.header.count).then_some((self.header.seq, CheckpointHash(self.hash)))
    }
}

fn open(key: &DataKey, binding: &Binding, page: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = page.split_at_checked(HEADER)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
    let (body, tag) = rest.split_at_checked(rest.len().checked_sub(TAG)?)?;
    let (mut body, tag) = (body.to_vec(), Tag::try_from(tag).ok()?);
    key.bytes().expose(|key| {
        let cipher = Aes256Gcm::new_from_slice(key).ok()?;
        let associated = binding.associated(head);
        cipher.decrypt_inout_detached(&Nonce::from(*nonce), &associated, body.as_mut_slice().into(), &tag).ok()
    })?;
    Some(body)
}
