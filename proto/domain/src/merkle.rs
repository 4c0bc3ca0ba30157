//! SSZ Merkleization (consensus specification, `ssz/simple-serialize.md`; EIP-7916, EIP-7688).
//!
//! Own code because it is small, because the limits come from the configured preset at run time,
//! and because the signing root is the one value this program must never get wrong: the tests hold
//! it against an independent implementation. Every function is total: depth is bounded by the
//! width of `usize`, no input can make one panic, and only bit lists allocate.
//!
//! Trees are computed over the packed bytes of their chunks; a short last chunk counts as padded
//! with zeros and missing chunks are never hashed one by one.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::error::TreeError;

/// A node of a tree: 32 bytes.
pub type Chunk = [u8; 32];

const CHUNK_BYTES: usize = 32;
const ZERO: Chunk = [0; CHUNK_BYTES];

/// A value of fixed size: its root always exists.
pub trait TreeRoot {
    /// `hash_tree_root` of the value.
    fn tree_root(&self) -> Chunk;
}

impl TreeRoot for u64 {
    fn tree_root(&self) -> Chunk {
        last_chunk(&self.to_le_bytes())
    }
}

impl TreeRoot for bool {
    fn tree_root(&self) -> Chunk {
        u64::from(*self).tree_root()
    }
}

impl<const N: usize> TreeRoot for [u8; N] {
    fn tree_root(&self) -> Chunk {
        tree(self, depth_for(N.div_ceil(CHUNK_BYTES)))
    }
}

/// `sha256(left || right)`.
pub fn hash_pair(left: &Chunk, right: &Chunk) -> Chunk {
    let mut hash = Sha256::new();
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// Root of a container: its field roots, padded to a power of two.
pub fn container<const N: usize>(fields: [Chunk; N]) -> Chunk {
    tree(fields.as_flattened(), depth_for(N))
}

/// Root of a progressive container with all of its `N` fields active (EIP-7688).
pub fn progressive_container<const N: usize>(fields: [Chunk; N]) -> Chunk {
    let mut active = ZERO;
    let full_bytes = N / 8;
    for (index, byte) in active.iter_mut().enumerate() {
        if index < full_bytes {
            *byte = u8::MAX;
        } else if index == full_bytes {
            // N % 8 low bits set.
            *byte = !u8::MAX.checked_shl(u32::try_from(N % 8).unwrap_or(0)).unwrap_or(u8::MAX);
        }
    }
    hash_pair(&progressive(fields.as_flattened()), &active)
}

/// Root of a vector of 32-byte values.
pub fn chunk_vector(chunks: &[Chunk]) -> Chunk {
    tree(chunks.as_flattened(), depth_for(chunks.len()))
}

/// Root of `List[T, limit]` for composite `T`, from the roots of its elements.
///
/// # Errors
/// [`TreeError::TooLong`] naming `field`.
pub fn list(field: &'static str, roots: &[Chunk], limit: usize) -> Result<Chunk, TreeError> {
    check_limit(field, roots.len(), limit)?;
    Ok(mix_in_length(&tree(roots.as_flattened(), depth_for(limit)), roots.len()))
}

/// Root of `List[uint64, limit]`.
///
/// # Errors
/// [`TreeError::TooLong`] naming `field`.
pub fn u64_list(field: &'static str, values: &[u64], limit: usize) -> Result<Chunk, TreeError> {
    check_limit(field, values.len(), limit)?;
    let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(mix_in_length(&tree(&packed, depth_for(limit.div_ceil(4))), values.len()))
}

/// Root of `ByteList[limit]`.
///
/// # Errors
/// [`TreeError::TooLong`] naming `field`.
pub fn byte_list(field: &'static str, bytes: &[u8], limit: usize) -> Result<Chunk, TreeError> {
    check_limit(field, bytes.len(), limit)?;
    Ok(mix_in_length(&tree(bytes, depth_for(limit.div_ceil(CHUNK_BYTES))), bytes.len()))
}

/// Root of `Bitlist[limit]` from its serialisation, delimiter bit included.
///
/// # Errors
/// [`TreeError::NoDelimiter`] or [`TreeError::TooManyBits`] naming `field`.
pub fn bitlist(field: &'static str, serialised: &[u8], limit: usize) -> Result<Chunk, TreeError> {
    // The length is known before anything is copied.
    let bits = bitlist_len(field, serialised)?;
    if bits > limit {
        return Err(TreeError::TooManyBits { field, got: bits, limit });
    }
    let content = without_delimiter(serialised);
    Ok(mix_in_length(&tree(&content, depth_for(limit.div_ceil(256))), bits))
}

/// Root of `Bitvector[bits]` from its serialisation.
///
/// # Errors
/// [`TreeError::WrongLength`] or [`TreeError::PaddingSet`] naming `field`.
pub fn bitvector(field: &'static str, serialised: &[u8], bits: usize) -> Result<Chunk, TreeError> {
    let expected = bits.div_ceil(8);
    if serialised.len() != expected {
        return Err(TreeError::WrongLength { field, got: serialised.len(), expected, bits });
    }
    let used = u32::try_from(bits % 8).unwrap_or(0);
    let padding = serialised.last().copied().and_then(|last| last.checked_shr(used)).unwrap_or(0);
    if used != 0 && padding != 0 {
        return Err(TreeError::PaddingSet { field, bits });
    }
    Ok(tree(serialised, depth_for(bits.div_ceil(256))))
}

/// Root of `ProgressiveList[T]` for composite `T`, from the roots of its elements (EIP-7916).
pub fn progressive_list(roots: &[Chunk]) -> Chunk {
    mix_in_length(&progressive(roots.as_flattened()), roots.len())
}

/// Root of `ProgressiveByteList` (EIP-7916).
pub fn progressive_byte_list(bytes: &[u8]) -> Chunk {
    mix_in_length(&progressive(bytes), bytes.len())
}

/// Root of `ProgressiveBitlist` from its serialisation, delimiter bit included (EIP-7916).
///
/// # Errors
/// [`TreeError::NoDelimiter`] naming `field`.
pub fn progressive_bitlist(field: &'static str, serialised: &[u8]) -> Result<Chunk, TreeError> {
    let bits = bitlist_len(field, serialised)?;
    Ok(mix_in_length(&progressive(&without_delimiter(serialised)), bits))
}

fn check_limit(field: &'static str, got: usize, limit: usize) -> Result<(), TreeError> {
    if got > limit { Err(TreeError::TooLong { field, got, limit }) } else { Ok(()) }
}

fn bitlist_len(field: &'static str, serialised: &[u8]) -> Result<usize, TreeError> {
    let (last, head) = serialised.split_last().ok_or(TreeError::NoDelimiter { field })?;
    let delimiter = last.checked_ilog2().ok_or(TreeError::NoDelimiter { field })?;
    let below = usize::try_from(delimiter).unwrap_or(0);
    Ok(head.len().saturating_mul(8).saturating_add(below))
}

/// The bits alone: a last byte that only held the delimiter is dropped.
fn without_delimiter(serialised: &[u8]) -> Vec<u8> {
    let mut content = serialised.to_vec();
    if let Some(last) = content.pop() {
        let cleared = last & !last.checked_ilog2().and_then(|bit| 1u8.checked_shl(bit)).unwrap_or(0);
        if last > 1 {
            content.push(cleared);
        }
    }
    content
}

fn mix_in_length(root: &Chunk, length: usize) -> Chunk {
    hash_pair(root, &u64::try_from(length).unwrap_or(u64::MAX).tree_root())
}

/// Depth of the smallest tree that holds `chunks` leaves.
const fn depth_for(chunks: usize) -> u32 {
    match chunks.checked_next_power_of_two() {
        Some(width) => width.trailing_zeros(),
        None => usize::BITS,
    }
}

/// Bytes under a subtree of `depth`.
fn width_bytes(depth: u32) -> usize {
    1usize.checked_shl(depth).and_then(|leaves| leaves.checked_mul(CHUNK_BYTES)).unwrap_or(usize::MAX)
}

/// Root of a tree of `depth` whose leaves begin with `bytes`; callers have checked that they fit.
fn tree(bytes: &[u8], depth: u32) -> Chunk {
    if bytes.is_empty() {
        return zero_subtree(depth);
    }
    let Some(below) = depth.checked_sub(1) else { return last_chunk(bytes) };
    match bytes.split_at_checked(width_bytes(below)) {
        Some((left, right)) => hash_pair(&tree(left, below), &tree(right, below)),
        None => hash_pair(&tree(bytes, below), &zero_subtree(below)),
    }
}

/// EIP-7916: subtrees of 1, 4, 16, … leaves hang off a spine that ends in zero.
fn progressive(bytes: &[u8]) -> Chunk {
    progressive_from(bytes, 0)
}

fn progressive_from(bytes: &[u8], depth: u32) -> Chunk {
    if bytes.is_empty() {
        return ZERO;
    }
    let (head, rest) = bytes.split_at_checked(width_bytes(depth)).unwrap_or((bytes, &[]));
    hash_pair(&tree(head, depth), &progressive_from(rest, depth.saturating_add(2)))
}

fn last_chunk(bytes: &[u8]) -> Chunk {
    let mut chunk = ZERO;
    for (to, from) in chunk.iter_mut().zip(bytes) {
        *to = *from;
    }
    chunk
}

/// Roots of all-zero trees by depth; deeper ones than `usize` can address do not occur.
static ZERO_SUBTREES: LazyLock<[Chunk; 65]> = LazyLock::new(|| {
    let mut node = ZERO;
    core::array::from_fn(|_| {
        let this = node;
        node = hash_pair(&this, &this);
        this
    })
});

fn zero_subtree(depth: u32) -> Chunk {
    if let Some(root) = usize::try_from(depth).ok().and_then(|depth| ZERO_SUBTREES.get(depth)) {
        return *root;
    }
    let below = zero_subtree(depth.saturating_sub(1));
    hash_pair(&below, &below)
}

#[cfg(test)]
mod tests;
