//! Secrets in locked memory: scalars that sign, and byte strings.
//!
//! Guarantees: neither type has `Debug`, `Clone`, `Display` or serialization; constructors wipe the
//! buffer they are given, whether or not they succeed; the only copies of the content are in locked
//! memory, except inside the closures of `expose*`; dropping a value zeroes it.

use zeroize::{Zeroize, Zeroizing};

use crate::arena::{PROCESS_ARENA, SLOT_LEN, Slot};
use crate::bls::{self, HashedPoint};
use crate::error::SysError;
use crate::pages::{LockStatus, Region};

/// Whether the memory of all secrets so far is locked. Answers before the first secret exists as well.
///
/// Locking is best effort: without it secrets still work, but can reach swap. Callers decide whether
/// to go on; the reason says what to change.
pub fn lock_status() -> LockStatus {
    PROCESS_ARENA.status()
}

/// A BLS12-381 secret key in locked memory, 32 bytes of it. Send and Sync.
///
/// ```compile_fail,E0277
/// # let scalar = holdfast_enclave_sys::SecretScalar::from_be_bytes(&mut [1; 32]).unwrap();
/// println!("{scalar:?}"); // secrets are never printed
/// ```
///
/// ```compile_fail,E0599
/// # let scalar = holdfast_enclave_sys::SecretScalar::from_be_bytes(&mut [1; 32]).unwrap();
/// let copy = scalar.clone(); // nor copied
/// ```
pub struct SecretScalar(Slot);

impl SecretScalar {
    /// Takes over a big-endian private key and wipes `bytes`, also on failure.
    ///
    /// # Errors
    ///
    /// [`SysError::ScalarOutOfRange`] unless 0 < key < r; [`SysError::Map`] if there is no memory.
    pub fn from_be_bytes(bytes: &mut [u8; 32]) -> Result<Self, SysError> {
        let result = PROCESS_ARENA.slot().and_then(|mut slot| {
            if bls::read_scalar(bytes, slot.bytes_mut()) { Ok(Self(slot)) } else { Err(SysError::ScalarOutOfRange) }
        });
        bytes.zeroize();
        result
    }

    /// The public key, compressed.
    pub fn public_key(&self) -> [u8; 48] {
        bls::public_key(self.0.bytes())
    }

    /// The signature of the root that `point` was hashed from, compressed.
    ///
    /// Constant time in the key. The result is not verified: a caller that fears faulty hardware
    /// calls [`verify`](crate::verify).
    pub fn sign(&self, point: &HashedPoint) -> [u8; 96] {
        bls::multiply(self.0.bytes(), point)
    }

    /// Lends the big-endian private key, for sealing and export only. The copy is on the stack and
    /// wiped when `f` returns or panics.
    pub fn expose_be_bytes<R>(&self, f: impl FnOnce(&[u8; 32]) -> R) -> R {
        let mut bytes = Zeroizing::new([0; 32]);
        bls::write_scalar(self.0.bytes(), &mut bytes);
        f(&bytes)
    }
}

/// A secret byte string of fixed length in locked memory: a data key, a passphrase.
///
/// Up to 32 bytes share a page with other secrets; longer ones get pages of their own.
///
/// ```compile_fail,E0277
/// # let bytes = holdfast_enclave_sys::LockedBytes::take(&mut [1; 32]).unwrap();
/// println!("{bytes:?}"); // secrets are never printed
/// ```
pub struct LockedBytes {
    store: Store,
    len: usize,
}

enum Store {
    Slot(Slot),
    Region(Region),
}

// SAFETY: the only part that is not Sync by itself is the region, whose bytes a shared LockedBytes only
// lets be read.
unsafe impl Sync for LockedBytes {}

impl LockedBytes {
    /// Longest string, in bytes: 64 KiB.
    pub const MAX_LEN: usize = 64 * 1024;

    /// Moves `source` into locked memory and wipes it, also on failure. May be empty.
    ///
    /// # Errors
    ///
    /// [`SysError::TooLong`] above [`Self::MAX_LEN`]; [`SysError::Map`] if there is no memory.
    pub fn take(source: &mut [u8]) -> Result<Self, SysError> {
        let result = Self::zeroed(source.len()).map(|mut locked| {
            locked.expose_mut(|bytes| bytes.copy_from_slice(source));
            locked
        });
        source.zeroize();
        result
    }

    /// `len` zero bytes, to be filled in place by [`Self::expose_mut`].
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub fn zeroed(len: usize) -> Result<Self, SysError> {
        let store = if len <= SLOT_LEN {
            Store::Slot(PROCESS_ARENA.slot()?)
        } else if len <= Self::MAX_LEN {
            Store::Region(PROCESS_ARENA.region(len)?)
        } else {
            return Err(SysError::TooLong { len, max: Self::MAX_LEN });
        };
        Ok(Self { store, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the string is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lends the bytes.
    pub fn expose<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let all = match &self.store {
            Store::Slot(slot) => slot.bytes().as_slice(),
            // SAFETY: the region is mapped, initialised and owned by `self`; `&self` excludes writers.
            Store::Region(region) => unsafe { std::slice::from_raw_parts(region.data().as_ptr(), region.len()) },
        };
        // `len` never exceeds the storage; an empty slice is the harmless answer if it did.
        f(all.get(..self.len).unwrap_or_default())
    }

    /// Lends the bytes to be written.
    pub fn expose_mut<R>(&mut self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let all = match &mut self.store {
            Store::Slot(slot) => slot.bytes_mut().as_mut_slice(),
            // SAFETY: the region is mapped, initialised and owned by `self`; `&mut self` excludes every
            // other reference.
            Store::Region(region) => unsafe { std::slice::from_raw_parts_mut(region.data().as_ptr(), region.len()) },
        };
        f(all.get_mut(..self.len).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: constructors wipe their input, bad keys are refused, contents round trip, and the
    //! types cross threads.

    use proptest::prelude::*;

    use super::*;

    /// r of BLS12-381, big-endian.
    const ORDER: [u8; 32] = [
        0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53, 0xbd,
        0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
    ];

    #[test]
    fn keys_outside_the_field_are_refused_and_wiped() {
        let mut above = ORDER;
        above[31] += 1;
        for bad in [[0; 32], ORDER, above, [0xff; 32]] {
            let mut bytes = bad;
            let result = SecretScalar::from_be_bytes(&mut bytes);
            assert!(matches!(result, Err(SysError::ScalarOutOfRange)), "{bad:?}");
            assert_eq!(bytes, [0; 32]);
        }
    }

    #[test]
    fn the_largest_and_smallest_keys_are_taken() {
        let mut largest = ORDER;
        largest[31] -= 1;
        let mut one = [0; 32];
        one[31] = 1;
        for good in [largest, one] {
            let mut bytes = good;
            let scalar = SecretScalar::from_be_bytes(&mut bytes).unwrap();
            assert_eq!(bytes, [0; 32], "the input is wiped");
            scalar.expose_be_bytes(|bytes| assert_eq!(*bytes, good));
        }
    }

    #[test]
    fn one_key_signs_from_many_threads() {
        let mut bytes = [7; 32];
        let scalar = SecretScalar::from_be_bytes(&mut bytes).unwrap();
        let root = [3; 32];
        let point = bls::hash_to_g2(&root);
        let expected = scalar.sign(&point);
        assert!(bls::verify(&scalar.public_key(), &root, &expected));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        assert_eq!(scalar.sign(&point), expected);
                    }
                });
            }
        });
    }

    #[test]
    fn locked_bytes_have_a_limit_and_wipe_what_they_refuse() {
        let mut long = vec![1; LockedBytes::MAX_LEN + 1];
        assert!(matches!(
            LockedBytes::take(&mut long),
            Err(SysError::TooLong { len, max }) if len == max + 1
        ));
        assert!(long.iter().all(|byte| *byte == 0));
        assert!(LockedBytes::take(&mut vec![1; LockedBytes::MAX_LEN]).is_ok());
    }

    #[test]
    fn locked_bytes_are_written_in_place() {
        for len in [0, 1, 32, 33, 5000] {
            let mut locked = LockedBytes::zeroed(len).unwrap();
            assert_eq!((locked.len(), locked.is_empty()), (len, len == 0));
            locked.expose(|bytes| assert_eq!(bytes, vec![0; len]));
            locked.expose_mut(|bytes| bytes.fill(7));
            locked.expose(|bytes| assert_eq!(bytes, vec![7; len]));
        }
    }

    proptest! {
        #[test]
        fn locked_bytes_round_trip(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut source = content.clone();
            let locked = LockedBytes::take(&mut source).unwrap();
            prop_assert!(source.iter().all(|byte| *byte == 0));
            locked.expose(|bytes| assert_eq!(bytes, content));
        }
    }
}
