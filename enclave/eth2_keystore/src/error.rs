//! What can go wrong, told apart so that a caller can say what to do next.
//!
//! No variant holds a secret. Text from a file is quoted only where the standard names it (the name
//! of an unsupported function), shortened and escaped: someone may point us at the wrong file, and that
//! file may hold a password.

use std::fmt;

use crate::path::PathError;
use crate::public_key::PublicKey;

/// A failed operation of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// The file is longer than any keystore.
    #[error("the file is {bytes} bytes long, a keystore has at most {limit}: check that it is one")]
    TooLarge {
        /// Length of the file, in bytes.
        bytes: usize,
        /// Longest length accepted, in bytes.
        limit: usize,
    },
    /// The file is not JSON.
    #[error("the file is not JSON (line {line}, column {column}): check that it is a keystore and complete")]
    NotJson {
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error, from 1.
        column: usize,
    },
    /// A member is missing or not what EIP-2335 says.
    #[error("the keystore's `{field}` is malformed: get another copy of the file")]
    Malformed {
        /// Path of the member, such as `crypto.cipher.message`.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        flaw: Flaw,
    },
    /// The file is a keystore of another version; only 4 (EIP-2335) is for validators.
    #[error("keystore version {found} is not supported, only version 4 (EIP-2335): convert or recreate the file")]
    UnsupportedVersion {
        /// The version the file states.
        found: u64,
    },
    /// A key derivation function other than scrypt and pbkdf2.
    #[error("key derivation function {function} is not supported, only scrypt and pbkdf2: recreate the file")]
    UnsupportedKdf {
        /// The function the file names.
        function: Quoted,
    },
    /// A pseudo-random function for pbkdf2 other than hmac-sha256.
    #[error("pbkdf2 function {function} is not supported, only hmac-sha256: recreate the file")]
    UnsupportedPrf {
        /// The function the file names.
        function: Quoted,
    },
    /// A checksum other than sha256.
    #[error("checksum {function} is not supported, only sha256: recreate the file")]
    UnsupportedChecksum {
        /// The function the file names.
        function: Quoted,
    },
    /// A cipher other than aes-128-ctr.
    #[error("cipher {function} is not supported, only aes-128-ctr: recreate the file")]
    UnsupportedCipher {
        /// The function the file names.
        function: Quoted,
    },
    /// The key derivation would cost more than the limits allow. It was not run.
    #[error(
        "the keystore asks for {cost} of {asked}, the limit is {limit}: the file is hostile or damaged, \
         or raise the limit if you made it so"
    )]
    KdfTooExpensive {
        /// Which cost is too high.
        cost: KdfCost,
        /// What the file asks for.
        asked: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The checksum does not match.
    #[error("wrong password or damaged file: check the password, then the file")]
    WrongPassword,
    /// The file decrypts, but to the key of another validator than it claims.
    #[error(
        "the keystore claims public key {claimed} but holds the key of {actual}: do not use it before you know why"
    )]
    PubkeyMismatch {
        /// The public key the file claims.
        claimed: PublicKey,
        /// The public key of the secret in it.
        actual: PublicKey,
    },
    /// The secret is not a BLS12-381 private key.
    #[error("the secret is not a validator's private key: check where it comes from")]
    BadSecret(#[source] SecretFlaw),
    /// The password is not UTF-8, so it cannot be normalised as EIP-2335 demands.
    #[error("the password is not valid UTF-8: save it as UTF-8 text")]
    PasswordNotUtf8,
    /// A seed shorter than EIP-2333 allows.
    #[error("the seed has {bytes} bytes, EIP-2333 needs at least 32: use a longer one")]
    SeedTooShort {
        /// Length of the seed, in bytes.
        bytes: usize,
    },
    /// A mnemonic with a number of words that BIP-39 does not know.
    #[error("the mnemonic has {words} words, BIP-39 allows 12, 15, 18, 21 or 24: check for missing words")]
    MnemonicLength {
        /// Words found.
        words: usize,
    },
    /// A derivation path that is not one.
    #[error("the derivation path is malformed: write it like m/12381/3600/0/0/0")]
    Path(#[from] PathError),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers: check that getrandom(2) or /dev/urandom is available")]
    Random(#[source] getrandom::Error),
}

/// What is wrong with a member of a keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// It has another JSON type.
    #[error("it is not {expected}")]
    WrongType {
        /// What it should be.
        expected: &'static str,
    },
    /// It is not hex digits.
    #[error("it is not hexadecimal text without prefix")]
    NotHex,
    /// It is not base64.
    #[error("it is not base64")]
    NotBase64,
    /// It has the wrong number of bytes.
    #[error("it has {found} bytes instead of {expected}")]
    Length {
        /// Bytes the standard demands.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// It is a number below what makes sense.
    #[error("it is {found}, less than {min}")]
    TooSmall {
        /// Least value.
        min: u64,
        /// Value found.
        found: u64,
    },
    /// It is a number beyond what the field can hold.
    #[error("it is {found}, more than {max}")]
    TooLarge {
        /// Largest value.
        max: u64,
        /// Value found.
        found: u64,
    },
    /// It must be a power of two (RFC 7914, section 2).
    #[error("it is {found}, which is not a power of two")]
    NotPowerOfTwo {
        /// Value found.
        found: u64,
    },
    /// It is not a UUID (RFC 4122).
    #[error("it is not a UUID")]
    NotUuid,
}

/// A cost of a key derivation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KdfCost {
    /// 128 * n * r of scrypt, in bytes.
    ScryptMemoryBytes,
    /// 128 * n * r * p of scrypt, in bytes: memory that is written one pass after another.
    ScryptWorkBytes,
    /// r of scrypt.
    ScryptBlockSize,
    /// p of scrypt.
    ScryptParallelism,
    /// c of pbkdf2.
    Pbkdf2Iterations,
}

impl fmt::Display for KdfCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ScryptMemoryBytes => "scrypt memory (bytes)",
            Self::ScryptWorkBytes => "scrypt work (bytes)",
            Self::ScryptBlockSize => "a scrypt block size (r)",
            Self::ScryptParallelism => "a scrypt parallelism (p)",
            Self::Pbkdf2Iterations => "a number of pbkdf2 iterations (c)",
        })
    }
}

/// Why a secret is not a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretFlaw {
    /// It has another length than 32 bytes. Wallets that keep many keys in one file are such a case.
    #[error("it has {bytes} bytes instead of 32")]
    Length {
        /// Length found, in bytes.
        bytes: usize,
    },
    /// It is zero or not below the order of the group.
    #[error("it is zero or not below the group order")]
    OutOfRange,
}

/// A short, escaped quotation from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    /// Longest quotation, in characters.
    const MAX: usize = 32;

    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().take(Self::MAX).collect())
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
