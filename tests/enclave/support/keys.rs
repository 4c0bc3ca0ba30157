//! Data keys and validator keys of an operator, and what he encrypts to an enclave.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use holdfast_domain::PublicKey;
use holdfast_enclave::vault::enclave::{commitment, import_associated_data};
use holdfast_enclave::{DataKey, DataKeyCommitment, SecretKey, generate, seal};
use holdfast_nitro::cms::seal::{Form, seal as envelope};
use holdfast_slashing_db::SealedKey;
use holdfast_vault_proto::{EncryptedKey, SealedKeyBytes};

use super::chain::GENESIS;

/// A data key that the test knows.
pub(crate) struct KnownDataKey {
    pub(crate) plain: [u8; 32],
    key: DataKey,
}

impl KnownDataKey {
    pub(crate) fn new(byte: u8) -> Self {
        Self::of(std::array::from_fn(|index| byte.wrapping_add(u8::try_from(index).unwrap().wrapping_mul(37))))
    }

    pub(crate) fn of(plain: [u8; 32]) -> Self {
        Self { plain, key: DataKey::take(&mut plain.clone()).unwrap() }
    }

    /// Encrypted as a key service does it, to the key of a boot.
    pub(crate) fn envelope(&self, boot_key: &[u8]) -> Vec<u8> {
        envelope(boot_key, &self.plain, Form::Pieces(4096)).unwrap()
    }

    /// A validator key sealed under it.
    pub(crate) fn seal(&self, secret: &SecretKey) -> SealedKeyBytes {
        let sealed = seal::seal(&self.key, GENESIS, secret).unwrap().as_bytes().to_vec();
        SealedKeyBytes { public_key: *secret.public_key(), sealed }
    }

    /// What an import names it by.
    pub(crate) fn named(&self) -> DataKeyCommitment {
        commitment(&self.key)
    }

    /// The public key of what is sealed under it.
    pub(crate) fn open(&self, public_key: &PublicKey, sealed: &SealedKey) -> PublicKey {
        *seal::open(&self.key, public_key, GENESIS, sealed).unwrap().public_key()
    }

    /// A validator key on its way to be sealed under it, as an administrator's tool encrypts it.
    pub(crate) fn import(&self, boot_key: &[u8], secret: &SecretKey) -> EncryptedKey {
        let (public_key, data_key) = (*secret.public_key(), commitment(&self.key));
        let (wrapping, nonce) = ([0x5a_u8; 32], [7_u8; 12]);
        let mut body = secret.expose_be_bytes(|bytes| bytes.to_vec());
        let aad = Aad::from(import_associated_data(&public_key, GENESIS, data_key));
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &wrapping).unwrap());
        cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body).unwrap();
        let to = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(boot_key).unwrap()).unwrap();
        let mut wrapped_key = vec![0; to.ciphertext_size()];
        to.encrypt(&OAEP_SHA256_MGF1SHA256, &wrapping, &mut wrapped_key, None).unwrap();
        let ciphertext = [nonce.as_slice(), &body].concat().try_into().unwrap();
        EncryptedKey { public_key, data_key, wrapped_key, ciphertext }
    }
}

/// A new validator key.
pub(crate) fn secret() -> SecretKey {
    generate::secret_key().unwrap()
}
