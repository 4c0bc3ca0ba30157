//! A private key at rest: encrypted under the data key, bound to its public key and its network.
//!
//! Guarantees: what [`open`] returns is the key that [`seal`] was given for that public key on that
//! network under that data key, or an error; every byte of a sealed key is authenticated. Opening is
//! symmetric cryptography only, so thousands of keys open in milliseconds.
//!
//! Format 1, 85 bytes:
//!
//! ```text
//! version = 1 | data key fingerprint 8 | network 8 | public key 8 | nonce 12 | ciphertext 32 | tag 16
//! ```
//!
//! The three eight-byte fields are there so that an error can say which of them is wrong. The
//! associated data is a label, everything before the nonce, and the full network root and public key.

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave_sys::SecretScalar;
use holdfast_slashing_db::SealedKey;

use crate::aead::{self, BOX_LEN, BoxError, FINGERPRINT_LEN, Fingerprint};
use crate::error::SealError;
use crate::secret::{DataKey, SecretKey};

/// The format written.
const VERSION: u8 = 1;
const LABEL: &[u8] = b"holdfast sealed key";
const HEADER_LEN: usize = 1 + 3 * FINGERPRINT_LEN;
/// Length of a sealed key in bytes.
pub const SEALED_LEN: usize = HEADER_LEN + BOX_LEN;

/// What a sealed key says about itself.
struct Header {
    data_key: Fingerprint,
    network: Fingerprint,
    public_key: Fingerprint,
}

impl Header {
    fn new(data_key: &DataKey, network: &GenesisValidatorsRoot, public_key: &PublicKey) -> Self {
        Self {
            data_key: data_key.fingerprint(),
            network: aead::short(&network.0),
            public_key: aead::short(public_key.as_bytes()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        [&[VERSION], self.data_key.as_slice(), &self.network, &self.public_key].concat()
    }
}

fn associated_data(header: &[u8], network: &GenesisValidatorsRoot, public_key: &PublicKey) -> Vec<u8> {
    [LABEL, header, &network.0, public_key.as_bytes()].concat()
}

/// Encrypts a private key for storage.
///
/// # Errors
///
/// [`SealError::Random`] if the operating system gives no randomness.
pub fn seal(data_key: &DataKey, network: GenesisValidatorsRoot, secret: &SecretKey) -> Result<SealedKey, SealError> {
    let public_key = *secret.public_key();
    let mut out = Header::new(data_key, &network, &public_key).encode();
    let aad = associated_data(&out, &network, &public_key);
    let boxed =
        secret.expose_be_bytes(|bytes| aead::encrypt(data_key.bytes(), &aad, bytes)).map_err(|error| match error {
            BoxError::Random(source) => SealError::Random { public_key, source },
            BoxError::Unusable => SealError::Damaged { public_key },
        })?;
    out.extend_from_slice(&boxed);
    Ok(SealedKey::new(out).under(data_key.id()))
}

/// Decrypts a stored private key. The public key and the network are those the caller expects.
///
/// # Errors
///
/// [`SealError::WrongNetwork`], [`SealError::WrongPublicKey`] or [`SealError::WrongDataKey`] if it was
/// sealed for another one; [`SealError::UnknownVersion`] or [`SealError::Length`] if it is not a sealed
/// key of this version; [`SealError::Damaged`] if any byte of it was changed.
pub fn open(
    data_key: &DataKey,
    public_key: &PublicKey,
    network: GenesisValidatorsRoot,
    sealed: &SealedKey,
) -> Result<SecretKey, SealError> {
    let public_key = *public_key;
    let (header, boxed) = parse(sealed.as_bytes(), public_key)?;
    let expected = Header::new(data_key, &network, &public_key);
    if header.network != expected.network {
        return Err(SealError::WrongNetwork { public_key, expected: network });
    }
    if header.public_key != expected.public_key {
        return Err(SealError::WrongPublicKey { public_key });
    }
    if header.data_key != expected.data_key {
        return Err(SealError::WrongDataKey { public_key });
    }
    let aad = associated_data(&expected.encode(), &network, &public_key);
    let mut secret = aead::decrypt(data_key.bytes(), &aad, boxed).ok_or(SealError::Damaged { public_key })?;
    let scalar =
        SecretScalar::from_be_bytes(&mut secret).map_err(|source| SealError::Unusable { public_key, source })?;
    Ok(SecretKey::vouched_for(public_key, scalar))
}

fn parse(sealed: &[u8], public_key: PublicKey) -> Result<(Header, &[u8; BOX_LEN]), SealError> {
    let length = || SealError::Length { public_key, len: sealed.len(), expected: SEALED_LEN };
    let (version, rest) = sealed.split_first().ok_or_else(length)?;
    if *version != VERSION {
        return Err(SealError::UnknownVersion { public_key, version: *version });
    }
    let (data_key, rest) = rest.split_first_chunk().ok_or_else(length)?;
    let (network, rest) = rest.split_first_chunk().ok_or_else(length)?;
    let (sealed_for, rest) = rest.split_first_chunk().ok_or_else(length)?;
    let boxed = rest.try_into().map_err(|_| length())?;
    Ok((Header { data_key: *data_key, network: *network, public_key: *sealed_for }, boxed))
}

#[cfg(test)]
mod tests {
    //! Proved here: round trip; a change of any byte, length, key, network or public key is an error of
    //! the right kind that names the public key; opening many keys is fast (printed, not asserted).

    use std::time::Instant;

    use super::*;
    use crate::generate;

    const NETWORK: GenesisValidatorsRoot = GenesisValidatorsRoot([0x4b; 32]);

    struct Sealed {
        data_key: DataKey,
        secret: SecretKey,
        bytes: Vec<u8>,
    }

    fn sealed() -> Sealed {
        let (data_key, secret) = (DataKey::generate().unwrap(), generate::secret_key().unwrap());
        let bytes = seal(&data_key, NETWORK, &secret).unwrap().as_bytes().to_vec();
        Sealed { data_key, secret, bytes }
    }

    fn try_open(
        data_key: &DataKey,
        public_key: &PublicKey,
        network: GenesisValidatorsRoot,
        bytes: &[u8],
    ) -> Result<SecretKey, SealError> {
        open(data_key, public_key, network, &SealedKey::new(bytes.to_vec()))
    }

    fn error(result: Result<SecretKey, SealError>) -> SealError {
        match result {
            Ok(_) => panic!("it opened"),
            Err(error) => error,
        }
    }

    #[test]
    fn what_was_sealed_comes_back() {
        let Sealed { data_key, secret, bytes } = sealed();
        assert_eq!(bytes.len(), SEALED_LEN);
        let opened = try_open(&data_key, secret.public_key(), NETWORK, &bytes).unwrap();
        assert_eq!(opened.public_key(), secret.public_key());
        assert_eq!(opened.scalar().public_key(), *secret.public_key().as_bytes());
        secret.expose_be_bytes(|a| opened.expose_be_bytes(|b| assert!(a == b)));
    }

    #[test]
    fn sealing_twice_never_repeats() {
        let Sealed { data_key, secret, bytes } = sealed();
        assert_ne!(bytes, seal(&data_key, NETWORK, &secret).unwrap().as_bytes());
        secret.expose_be_bytes(|plain| {
            assert!(!bytes.windows(plain.len()).any(|window| window == plain));
        });
    }

    #[test]
    fn no_changed_byte_ever_opens() {
        let Sealed { data_key, secret, bytes } = sealed();
        for place in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[place] ^= flip;
                let error = error(try_open(&data_key, secret.public_key(), NETWORK, &changed));
                let named = match place {
                    0 => matches!(error, SealError::UnknownVersion { .. }),
                    1..=8 => matches!(error, SealError::WrongDataKey { .. }),
                    9..=16 => matches!(error, SealError::WrongNetwork { .. }),
                    17..=24 => matches!(error, SealError::WrongPublicKey { .. }),
                    _ => matches!(error, SealError::Damaged { .. }),
                };
                assert!(named, "byte {place}: {error}");
                assert!(error.to_string().contains(&secret.public_key().to_string()));
            }
        }
    }

    #[test]
    fn no_other_length_opens() {
        let Sealed { data_key, secret, bytes } = sealed();
        for len in 0..bytes.len() {
            let error = error(try_open(&data_key, secret.public_key(), NETWORK, &bytes[..len]));
            assert!(matches!(error, SealError::Length { .. }), "{len}: {error}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        let error = error(try_open(&data_key, secret.public_key(), NETWORK, &longer));
        assert!(matches!(error, SealError::Length { .. }));
    }

    #[test]
    fn another_key_network_or_data_key_is_named() {
        let Sealed { data_key, secret, bytes } = sealed();
        let other = generate::secret_key().unwrap();
        let wrong = error(try_open(&data_key, other.public_key(), NETWORK, &bytes));
        assert!(matches!(wrong, SealError::WrongPublicKey { public_key } if public_key == *other.public_key()));
        let elsewhere = GenesisValidatorsRoot([1; 32]);
        let wrong = error(try_open(&data_key, secret.public_key(), elsewhere, &bytes));
        assert!(matches!(wrong, SealError::WrongNetwork { expected, .. } if expected == elsewhere));
        let wrong = error(try_open(&DataKey::generate().unwrap(), secret.public_key(), NETWORK, &bytes));
        assert!(matches!(wrong, SealError::WrongDataKey { .. }));
    }

    /// The full values are authenticated, not only the eight bytes that are stored.
    #[test]
    fn a_near_miss_is_refused_too() {
        let Sealed { data_key, secret, bytes } = sealed();
        let mut near = *secret.public_key().as_bytes();
        near[47] ^= 1;
        let error_of_key = error(try_open(&data_key, &PublicKey::from_bytes(near), NETWORK, &bytes));
        assert!(matches!(error_of_key, SealError::Damaged { .. }));
        let mut near = NETWORK;
        near.0[31] ^= 1;
        let error_of_network = error(try_open(&data_key, secret.public_key(), near, &bytes));
        assert!(matches!(error_of_network, SealError::Damaged { .. }));
    }

    #[test]
    fn ten_thousand_keys_open() {
        let Sealed { data_key, secret, bytes } = sealed();
        let started = Instant::now();
        let opened: Vec<SecretKey> =
            (0..10_000).map(|_| try_open(&data_key, secret.public_key(), NETWORK, &bytes).unwrap()).collect();
        println!("opened {} sealed keys in {:?}", opened.len(), started.elapsed());
        assert!(opened.iter().all(|key| key.public_key() == secret.public_key()));
    }
}
