//! Key ceremonies: keys that grow from a mnemonic, and keys that leave as keystores.
//!
//! Guarantees: a private key is in plain only on the thread that derives, seals or encrypts it; what is written as a
//! keystore was opened again with the same password, and holds the key it is named after.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use eth2_keystore::{
    AccountIndex, DerivationPath, KdfChoice, Keystore, Mnemonic, MnemonicError, Password, Secret, Seed,
};
use holdfast_domain::PublicKey;
use holdfast_slashing_db::SealedKey;
use zeroize::Zeroizing;

use crate::error::{ExportError, KeyError, MnemonicInputError};
use crate::import::SealFor;
use crate::kdf::{KdfBudget, MemorySize};
use crate::seal;
use crate::secret::{Passphrase, SecretKey};

/// Reads a mnemonic that was typed or read from a file as a passphrase is.
///
/// # Errors
///
/// [`MnemonicInputError`]; it names words by their position and repeats none.
pub fn read_mnemonic(text: &Passphrase) -> Result<Mnemonic, MnemonicInputError> {
    text.expose(|bytes| {
        let text = std::str::from_utf8(bytes).map_err(|_| MnemonicInputError::NotUtf8)?;
        Mnemonic::parse(text).map_err(|error: MnemonicError| MnemonicInputError::Mnemonic(error))
    })
}

/// The keys of one mnemonic (EIP-2333), by their places (EIP-2334).
pub struct KeyTree(Seed);

impl KeyTree {
    /// The tree of a mnemonic. Another passphrase (BIP-39's, most often none) is another tree.
    ///
    /// # Errors
    ///
    /// [`MnemonicInputError`] if the passphrase is not UTF-8.
    pub fn new(mnemonic: &Mnemonic, passphrase: Option<&Passphrase>) -> Result<Self, MnemonicInputError> {
        let grow = |bytes: &[u8]| {
            let passphrase = std::str::from_utf8(bytes).map_err(|_| MnemonicInputError::NotUtf8)?;
            mnemonic.seed(passphrase).map(Self).map_err(MnemonicInputError::Seed)
        };
        passphrase.map_or_else(|| grow(b""), |passphrase| passphrase.expose(grow))
    }

    /// The key that signs the duties of a validator: `m/12381/3600/account/0/0`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unusable`] without memory.
    pub fn signing_key(&self, account: AccountIndex) -> Result<SecretKey, KeyError> {
        let secret = self.derive(&DerivationPath::validator_signing(account))?;
        let mut bytes = Zeroizing::new(secret.expose(|bytes| *bytes));
        SecretKey::from_be_bytes(&mut bytes)
    }

    /// The public key of BLS withdrawal credentials: `m/12381/3600/account/0`. The private one stays with the mnemonic.
    ///
    /// # Errors
    ///
    /// [`KeyError::Generate`], in practice never.
    pub fn withdrawal_public_key(&self, account: AccountIndex) -> Result<PublicKey, KeyError> {
        let secret = self.derive(&DerivationPath::validator_withdrawal(account))?;
        Ok(PublicKey::from_bytes(secret.public_key().to_bytes()))
    }

    /// The tree of a seed as it came from [`Self::expose_seed`].
    #[cfg(feature = "backend-process")]
    pub(crate) fn of_seed(seed: &[u8]) -> Result<Self, KeyError> {
        Seed::from_bytes(seed).map(Self).map_err(KeyError::Generate)
    }

    /// Lends the seed, for a vault that derives the keys itself.
    #[cfg(feature = "backend-process")]
    pub(crate) fn expose_seed<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        self.0.expose(f)
    }

    /// Both keys of a place, for the price of one: the signing key is the first child of the withdrawal key.
    pub(crate) fn keys_at(&self, account: AccountIndex) -> Result<(SecretKey, PublicKey), KeyError> {
        let withdrawal = self.derive(&DerivationPath::validator_withdrawal(account))?;
        let mut bytes = Zeroizing::new(withdrawal.child(0).expose(|bytes| *bytes));
        let withdrawal_key = PublicKey::from_bytes(withdrawal.public_key().to_bytes());
        Ok((SecretKey::from_be_bytes(&mut bytes)?, withdrawal_key))
    }

    fn derive(&self, path: &DerivationPath) -> Result<Secret, KeyError> {
        Secret::derive(&self.0, path).map_err(KeyError::Generate)
    }
}

/// A stored key that is to leave as a keystore.
pub struct Outgoing {
    /// The public key.
    pub key: PublicKey,
    /// The private key, sealed.
    pub sealed: SealedKey,
    /// Its place in the tree it comes from, if that is known.
    pub path: Option<DerivationPath>,
}

/// How keystores are encrypted.
#[derive(Clone, Copy)]
pub struct Encryption<'a> {
    /// Their password, normalised as EIP-2335 says before use.
    pub password: &'a Passphrase,
    /// The key derivation and its cost.
    pub kdf: KdfChoice,
}

/// Opens stored keys and encrypts them as keystores (EIP-2335), several at a time within a budget of memory, and
/// hands each to `each` on this thread with its place in `keys`, in no particular order. When `each` breaks, no more
/// are begun. Blocks: with scrypt, two seconds of one core for each.
///
/// # Errors
///
/// [`ExportError::Thread`] if the system gives not even one thread. What is wrong with a single key goes to `each`.
pub fn encrypt<K: std::borrow::Borrow<Outgoing> + Sync>(
    keys: &[K],
    sealed_for: SealFor<'_>,
    encryption: Encryption<'_>,
    budget: &KdfBudget,
    mut each: impl FnMut(usize, Result<Keystore, ExportError>) -> ControlFlow<()>,
) -> Result<(), ExportError> {
    let threads = budget.threads().get().min(keys.len());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(threads);
        for started in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            let spawned = thread::Builder::new().name(format!("export-{started}")).spawn_scoped(scope, move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(key) = keys.get(index) else { break };
                    // Nobody receives any more when the caller has had enough.
                    if sender.send((index, one(key.borrow(), sealed_for, encryption, budget))).is_err() {
                        break;
                    }
                }
            });
            match spawned {
                Ok(_) => {}
                Err(source) if started == 0 => return Err(ExportError::Thread(source)),
                Err(error) => {
                    tracing::warn!(%error, threads = started, "fewer export threads than cores");
                    break;
                }
            }
        }
        drop(sender);
        for (index, result) in receiver {
            if each(index, result).is_break() {
                break;
            }
        }
        Ok(())
    })
}

fn one(
    key: &Outgoing,
    sealed_for: SealFor<'_>,
    encryption: Encryption<'_>,
    budget: &KdfBudget,
) -> Result<Keystore, ExportError> {
    let opened =
        seal::open(sealed_for.data_key, &key.key, sealed_for.network, &key.sealed).map_err(ExportError::Seal)?;
    let secret = opened.expose_be_bytes(|bytes| Secret::from_be_bytes(bytes)).map_err(ExportError::Keystore)?;
    drop(opened);
    // Sealed keys are vouched for by their seal; what leaves is computed again.
    let actual = PublicKey::from_bytes(secret.public_key().to_bytes());
    if actual != key.key {
        return Err(ExportError::OtherKey { stored: key.key, actual });
    }
    let _lease = budget.acquire(MemorySize(encryption.kdf.memory_bytes()));
    let password = encryption.password.expose(Password::from_bytes).map_err(ExportError::Keystore)?;
    let keystore = Keystore::encrypt(&secret, &password, key.path.as_ref(), encryption.kdf, None)
        .map_err(ExportError::Keystore)?;
    drop(secret);
    let text = keystore.to_json();
    let read = Keystore::from_json(text.as_bytes()).and_then(|read| read.decrypt(&password));
    read.map_err(ExportError::Unreadable)?;
    Ok(keystore)
}

/// Computes the public key of an opened key and compares it with the one it is stored under.
///
/// # Errors
///
/// [`ExportError::Keystore`] or [`ExportError::OtherKey`].
pub fn prove(key: &SecretKey) -> Result<(), ExportError> {
    let secret = key.expose_be_bytes(|bytes| Secret::from_be_bytes(bytes)).map_err(ExportError::Keystore)?;
    let actual = PublicKey::from_bytes(secret.public_key().to_bytes());
    if actual == *key.public_key() { Ok(()) } else { Err(ExportError::OtherKey { stored: *key.public_key(), actual }) }
}

#[cfg(test)]
mod tests {
    //! Proved here: keys of a tree are those of EIP-2334, what leaves opens with its password and no other, and a
    //! damaged stored key costs only itself.

    use eth2_keystore::KeystoreError;
    use holdfast_domain::GenesisValidatorsRoot;

    use super::*;
    use crate::secret::DataKey;

    const PHRASE: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    const NETWORK: GenesisValidatorsRoot = GenesisValidatorsRoot([5; 32]);
    const CHEAP: KdfChoice = KdfChoice::Pbkdf2 { c: 2 };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned()).unwrap()
    }

    fn tree(extra: Option<&Passphrase>) -> KeyTree {
        let mnemonic = read_mnemonic(&passphrase(PHRASE)).unwrap_or_else(|error| panic!("{error}"));
        KeyTree::new(&mnemonic, extra).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn keys_grow_where_eip_2334_says() {
        let account = AccountIndex::new(7);
        let seed = Seed::from_mnemonic(PHRASE, "").unwrap();
        let expected = Secret::derive(&seed, &"m/12381/3600/7/0/0".parse().unwrap()).unwrap();
        let (plain, other) = (tree(None), tree(Some(&passphrase("x"))));
        let key = plain.signing_key(account).unwrap();
        assert_eq!(key.public_key().as_bytes(), &expected.public_key().to_bytes());
        prove(&key).unwrap_or_else(|error| panic!("{error}"));
        let withdrawal = Secret::derive(&seed, &"m/12381/3600/7/0".parse().unwrap()).unwrap();
        let found = plain.withdrawal_public_key(account).unwrap();
        assert_eq!(found.as_bytes(), &withdrawal.public_key().to_bytes());
        assert_ne!(other.signing_key(account).unwrap().public_key(), key.public_key());
        assert!(matches!(read_mnemonic(&passphrase("zoo zoo")), Err(MnemonicInputError::Mnemonic(_))));
    }

    #[test]
    fn what_leaves_opens_and_a_damaged_key_costs_itself() {
        let data_key = DataKey::generate().unwrap();
        let sealed_for = SealFor { data_key: &data_key, network: NETWORK };
        let tree = tree(None);
        let mut keys: Vec<Outgoing> = (0..5)
            .map(|index| {
                let account = AccountIndex::new(index);
                let key = tree.signing_key(account).unwrap();
                let sealed = seal::seal(&data_key, NETWORK, &key).unwrap();
                let path = (index > 0).then(|| DerivationPath::validator_signing(account));
                Outgoing { key: *key.public_key(), sealed, path }
            })
            .collect();
        let mut damaged = keys[3].sealed.as_bytes().to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        keys[3].sealed = SealedKey::new(damaged);
        let budget = KdfBudget::new(MemorySize::mebibytes(1), 2.try_into().unwrap());
        let password = passphrase("correct horse");
        let mut seen = Vec::new();
        encrypt(&keys, sealed_for, Encryption { password: &password, kdf: CHEAP }, &budget, |index, result| {
            seen.push(index);
            match result {
                Err(ExportError::Seal(_)) => assert_eq!(index, 3),
                Err(error) => panic!("{error}"),
                Ok(keystore) => {
                    assert_eq!(keystore.pubkey().unwrap().to_bytes(), *keys[index].key.as_bytes());
                    let path = if index == 0 { String::new() } else { format!("m/12381/3600/{index}/0/0") };
                    assert_eq!(keystore.path(), path);
                    assert!(keystore.decrypt(&Password::new("correct horse")).is_ok());
                    let wrong = keystore.decrypt(&Password::new("wrong")).map(|_| ());
                    assert!(matches!(wrong, Err(KeystoreError::WrongPassword)));
                }
            }
            ControlFlow::Continue(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        let nothing = encrypt::<Outgoing>(
            &[],
            sealed_for,
            Encryption { password: &password, kdf: CHEAP },
            &budget,
            |_, _| panic!(),
        );
        nothing.unwrap_or_else(|error| panic!("{error}"));
    }
}
