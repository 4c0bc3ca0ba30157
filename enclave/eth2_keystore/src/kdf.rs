//! The two key derivation functions of EIP-2335 and what they may cost.
//!
//! Guarantees: a [`Kdf`] that exists passed [`KdfLimits`], so a hostile file cannot make us allocate or
//! compute without bound. The limits are checked with saturating arithmetic, before anything is allocated.

use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{Flaw, KdfCost, KeystoreError};

/// A key derivation function and its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KdfChoice {
    /// scrypt (RFC 7914). Takes `128 * n * r` bytes of memory.
    Scrypt {
        /// Cost in memory and time; a power of two, at least 2.
        n: u64,
        /// Block size.
        r: u32,
        /// Parallelism: how many times the memory is filled, here one after the other.
        p: u32,
    },
    /// PBKDF2-HMAC-SHA256 (RFC 8018).
    Pbkdf2 {
        /// Iterations, at least 1.
        c: u32,
    },
}

impl KdfChoice {
    /// scrypt with the cost of EIP-2335's example: 256 MiB, about a second.
    pub const SCRYPT: Self = Self::Scrypt { n: 262_144, r: 8, p: 1 };

    /// pbkdf2 with the cost of EIP-2335's example: little memory, a tenth of a second.
    pub const PBKDF2: Self = Self::Pbkdf2 { c: 262_144 };

    /// Memory that a derivation allocates, in bytes. For pbkdf2 next to none: 0.
    pub fn memory_bytes(self) -> u64 {
        match self {
            Self::Scrypt { n, r, p } => {
                let blocks = n.saturating_add(u64::from(p)).saturating_add(1);
                blocks.saturating_mul(128).saturating_mul(u64::from(r))
            }
            Self::Pbkdf2 { .. } => 0,
        }
    }

    /// Refuses costs that make no sense or exceed the limits.
    fn check(self, limits: &KdfLimits) -> Result<(), KeystoreError> {
        match self {
            Self::Scrypt { n, r, p } => {
                at_least("crypto.kdf.params.n", n, 2)?;
                at_least("crypto.kdf.params.r", r.into(), 1)?;
                at_least("crypto.kdf.params.p", p.into(), 1)?;
                if !n.is_power_of_two() {
                    let flaw = Flaw::NotPowerOfTwo { found: n };
                    return Err(KeystoreError::Malformed { field: "crypto.kdf.params.n", flaw });
                }
                let memory = n.saturating_mul(128).saturating_mul(r.into());
                let work = memory.saturating_mul(p.into());
                at_most(KdfCost::ScryptMemoryBytes, memory, limits.scrypt_memory_bytes)?;
                at_most(KdfCost::ScryptWorkBytes, work, limits.scrypt_work_bytes)?;
                // With a small n the two limits above leave room for an r and p that need gigabytes.
                at_most(KdfCost::ScryptBlockSize, r.into(), KdfLimits::SCRYPT_BLOCK_SIZE)?;
                at_most(KdfCost::ScryptParallelism, p.into(), KdfLimits::SCRYPT_PARALLELISM)
            }
            Self::Pbkdf2 { c } => {
                at_least("crypto.kdf.params.c", c.into(), 1)?;
                at_most(KdfCost::Pbkdf2Iterations, c.into(), limits.pbkdf2_iterations)
            }
        }
    }
}

fn at_least(field: &'static str, found: u64, min: u64) -> Result<(), KeystoreError> {
    if found < min {
        return Err(KeystoreError::Malformed { field, flaw: Flaw::TooSmall { min, found } });
    }
    Ok(())
}

fn at_most(cost: KdfCost, asked: u64, limit: u64) -> Result<(), KeystoreError> {
    if asked > limit {
        return Err(KeystoreError::KdfTooExpensive { cost, asked, limit });
    }
    Ok(())
}

/// What a key derivation may cost. The default is well above what key tools write:
/// scrypt with 256 MiB, or pbkdf2 with 262 144 iterations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfLimits {
    /// Most memory for scrypt: `128 * n * r`, in bytes.
    pub scrypt_memory_bytes: u64,
    /// Most work for scrypt: `128 * n * r * p`, in bytes.
    pub scrypt_work_bytes: u64,
    /// Most iterations for pbkdf2.
    pub pbkdf2_iterations: u64,
}

impl KdfLimits {
    /// Largest block size of scrypt (r), whatever the other limits. Files have 8.
    pub const SCRYPT_BLOCK_SIZE: u64 = 1024;
    /// Largest parallelism of scrypt (p), whatever the other limits. Files have 1.
    pub const SCRYPT_PARALLELISM: u64 = 64;
}

impl Default for KdfLimits {
    fn default() -> Self {
        Self { scrypt_memory_bytes: 1 << 30, scrypt_work_bytes: 4 << 30, pbkdf2_iterations: 10_000_000 }
    }
}

/// A derivation that is affordable: function, cost and salt.
#[derive(Clone)]
pub(crate) struct Kdf {
    choice: KdfChoice,
    function: Function,
    salt: Vec<u8>,
}

/// The choice in the form that the functions take.
#[derive(Clone)]
enum Function {
    Scrypt(scrypt::Params),
    Pbkdf2 { c: u32 },
}

impl Kdf {
    /// Checks the cost.
    pub(crate) fn new(choice: KdfChoice, salt: Vec<u8>, limits: &KdfLimits) -> Result<Self, KeystoreError> {
        choice.check(limits)?;
        let function = match choice {
            KdfChoice::Pbkdf2 { c } => Function::Pbkdf2 { c },
            KdfChoice::Scrypt { n, r, p } => {
                // n is a power of two below 2^64. What a caller's own limits let through may still be too
                // much for the address space.
                let asked = choice.memory_bytes();
                let params = u8::try_from(n.ilog2()).ok().and_then(|log_n| scrypt::Params::new(log_n, r, p).ok());
                Function::Scrypt(params.ok_or(KeystoreError::KdfTooExpensive {
                    cost: KdfCost::ScryptMemoryBytes,
                    asked,
                    limit: usize::MAX as u64,
                })?)
            }
        };
        Ok(Self { choice, function, salt })
    }

    pub(crate) fn choice(&self) -> KdfChoice {
        self.choice
    }

    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The first 32 bytes of the derived key, which are all that EIP-2335 uses. Both functions give the same
    /// first bytes for any longer output, so a larger `dklen` changes nothing.
    pub(crate) fn derive(&self, password: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        match &self.function {
            Function::Pbkdf2 { c } => pbkdf2_hmac::<Sha256>(password, &self.salt, *c, key.as_mut_slice()),
            Function::Scrypt(params) => {
                let result = scrypt::scrypt(password, &self.salt, params, key.as_mut_slice());
                #[expect(clippy::expect_used, reason = "a zero key must not pass; 32 bytes are always a legal output")]
                result.expect("scrypt refuses only outputs of 0 bytes and of 128 GiB");
            }
        }
        key
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: both functions by the vectors of their RFCs, the memory formula, and the limits on both
    //! sides of each boundary. None of the refused ones is run: they would take gigabytes.

    use super::*;

    fn refused(choice: KdfChoice) -> Option<KdfCost> {
        match Kdf::new(choice, Vec::new(), &KdfLimits::default()) {
            Ok(_) => None,
            Err(KeystoreError::KdfTooExpensive { cost, asked, limit }) => {
                assert!(asked > limit);
                Some(cost)
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn malformed(choice: KdfChoice) -> (&'static str, Flaw) {
        match Kdf::new(choice, Vec::new(), &KdfLimits::default()) {
            Err(KeystoreError::Malformed { field, flaw }) => (field, flaw),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("accepted"),
        }
    }

    fn derived(choice: KdfChoice, password: &[u8], salt: &[u8]) -> String {
        let kdf = Kdf::new(choice, salt.to_vec(), &KdfLimits::default()).ok().unwrap();
        hex::encode(*kdf.derive(password))
    }

    #[test]
    fn scrypt_agrees_with_rfc_7914_section_12() {
        let choice = KdfChoice::Scrypt { n: 1024, r: 8, p: 16 };
        assert_eq!(
            derived(choice, b"password", b"NaCl"),
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
        );
    }

    #[test]
    fn pbkdf2_agrees_with_rfc_7914_section_11() {
        assert_eq!(
            derived(KdfChoice::Pbkdf2 { c: 80_000 }, b"Password", b"NaCl"),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
        );
    }

    #[test]
    fn memory_is_what_scrypt_allocates() {
        assert_eq!(KdfChoice::SCRYPT.memory_bytes(), (256 << 20) + 2 * 1024);
        assert_eq!(KdfChoice::PBKDF2.memory_bytes(), 0);
        let absurd = KdfChoice::Scrypt { n: u64::MAX, r: u32::MAX, p: u32::MAX };
        assert_eq!(absurd.memory_bytes(), u64::MAX, "saturates");
    }

    #[test]
    fn usual_costs_pass() {
        for choice in [
            KdfChoice::SCRYPT,
            KdfChoice::PBKDF2,
            KdfChoice::Scrypt { n: 2, r: 1, p: 1 },
            KdfChoice::Scrypt { n: 4096, r: 8, p: 6 },
            KdfChoice::Scrypt { n: 1 << 20, r: 8, p: 4 },
            KdfChoice::Scrypt { n: 2, r: 1024, p: 64 },
            KdfChoice::Pbkdf2 { c: 10_000_000 },
        ] {
            assert_eq!(refused(choice), None, "{choice:?}");
        }
    }

    #[test]
    fn one_step_beyond_each_limit_is_refused() {
        for (n, r, p, cost) in [
            (1 << 21, 8, 1, KdfCost::ScryptMemoryBytes),
            (1 << 20, 9, 1, KdfCost::ScryptMemoryBytes),
            (1 << 30, 64, 16, KdfCost::ScryptMemoryBytes),
            (1 << 63, u32::MAX, u32::MAX, KdfCost::ScryptMemoryBytes),
            (1 << 20, 8, 5, KdfCost::ScryptWorkBytes),
            (2, 1025, 1, KdfCost::ScryptBlockSize),
            (2, 1, 65, KdfCost::ScryptParallelism),
        ] {
            assert_eq!(refused(KdfChoice::Scrypt { n, r, p }), Some(cost), "{n} {r} {p}");
        }
        for c in [10_000_001, u32::MAX] {
            assert_eq!(refused(KdfChoice::Pbkdf2 { c }), Some(KdfCost::Pbkdf2Iterations));
        }
    }

    #[test]
    fn limits_raised_by_the_caller_still_never_overflow() {
        let limits =
            KdfLimits { scrypt_memory_bytes: u64::MAX, scrypt_work_bytes: u64::MAX, pbkdf2_iterations: u64::MAX };
        let result = Kdf::new(KdfChoice::Scrypt { n: 1 << 63, r: 1, p: 1 }, Vec::new(), &limits);
        assert!(matches!(result, Err(KeystoreError::KdfTooExpensive { .. })));
    }

    #[test]
    fn senseless_costs_are_malformed() {
        let (n, r, p) = ("crypto.kdf.params.n", "crypto.kdf.params.r", "crypto.kdf.params.p");
        let zero = |min| Flaw::TooSmall { min, found: 0 };
        assert_eq!(malformed(KdfChoice::Scrypt { n: 0, r: 8, p: 1 }), (n, zero(2)));
        assert_eq!(malformed(KdfChoice::Scrypt { n: 1, r: 8, p: 1 }).0, n);
        assert_eq!(malformed(KdfChoice::Scrypt { n: 1024, r: 0, p: 1 }), (r, zero(1)));
        assert_eq!(malformed(KdfChoice::Scrypt { n: 1024, r: 8, p: 0 }), (p, zero(1)));
        assert_eq!(malformed(KdfChoice::Pbkdf2 { c: 0 }), ("crypto.kdf.params.c", zero(1)));
        let odd = malformed(KdfChoice::Scrypt { n: 1023, r: 8, p: 1 });
        assert_eq!(odd, (n, Flaw::NotPowerOfTwo { found: 1023 }));
    }
}
