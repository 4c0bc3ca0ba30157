//! Many keystores at once: decrypted within a memory budget, and each key sealed as soon as it is open.
//!
//! Guarantees: a plaintext key lives only between its decryption and its sealing, on the thread that does
//! both; results arrive one by one, so that the caller can register what is done and stop at any time;
//! one bad keystore does not spoil the others.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use eth2_keystore::{Keystore, Password};
use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_slashing_db::SealedKey;
use zeroize::Zeroizing;

use crate::error::ImportError;
use crate::kdf::{KdfBudget, MemorySize};
use crate::seal;
use crate::secret::{DataKey, Passphrase, SecretKey};

/// A keystore and the password that is said to open it. One password may be shared by many.
pub struct KeystoreInput {
    /// The keystore, parsed: its cost is within limits.
    pub keystore: Keystore,
    /// Its password.
    pub password: Arc<Passphrase>,
}

/// What imported keys are sealed under.
#[derive(Clone, Copy)]
pub struct SealFor<'a> {
    /// The data key.
    pub data_key: &'a DataKey,
    /// The network whose validators they are.
    pub network: GenesisValidatorsRoot,
}

/// A key taken from a keystore, ready to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The public key, computed from the private one.
    pub public_key: PublicKey,
    /// The private key, sealed.
    pub sealed: SealedKey,
}

/// One keystore is done.
#[derive(Debug)]
pub struct Finished {
    /// Place of the keystore in the input.
    pub index: usize,
    /// What became of it.
    pub outcome: Result<Imported, ImportError>,
    /// How many are done, with this one.
    pub done: usize,
    /// How many there are.
    pub total: usize,
}

/// Decrypts all keystores and seals their keys, calling `each` on this thread as each is done, in no
/// particular order. When `each` breaks, derivations under way are finished and dropped, and no more are
/// begun. Blocks: a usual keystore takes a second of one core.
///
/// # Errors
///
/// [`ImportError::Thread`] if the system gives not even one thread. Failures of single keystores are in
/// [`Finished::outcome`].
pub fn decrypt(
    inputs: &[KeystoreInput],
    seal_for: SealFor<'_>,
    budget: &KdfBudget,
    mut each: impl FnMut(Finished) -> ControlFlow<()>,
) -> Result<(), ImportError> {
    let total = inputs.len();
    let threads = budget.threads().get().min(total);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(threads);
        for started in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            let spawned = thread::Builder::new().name(format!("import-{started}")).spawn_scoped(scope, move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(input) = inputs.get(index) else { break };
                    let outcome = one(input, seal_for, budget);
                    // Nobody receives any more when the caller has had enough.
                    if sender.send((index, outcome)).is_err() {
                        break;
                    }
                }
            });
            match spawned {
                Ok(_) => {}
                Err(source) if started == 0 => return Err(ImportError::Thread(source)),
                Err(error) => {
                    tracing::warn!(%error, threads = started, "fewer import threads than cores");
                    break;
                }
            }
        }
        drop(sender);
        for ((index, outcome), done) in receiver.into_iter().zip(1..) {
            if each(Finished { index, outcome, done, total }).is_break() {
                break;
            }
        }
        Ok(())
    })
}

fn one(input: &KeystoreInput, seal_for: SealFor<'_>, budget: &KdfBudget) -> Result<Imported, ImportError> {
    let secret = {
        let _lease = budget.acquire(MemorySize(input.keystore.kdf_memory_bytes()));
        let password = input.password.expose(Password::from_bytes).map_err(ImportError::Keystore)?;
        input.keystore.decrypt(&password).map_err(ImportError::Keystore)?
    };
    let mut bytes = Zeroizing::new(secret.expose(|bytes| *bytes));
    let key = SecretKey::from_be_bytes(&mut bytes).map_err(ImportError::Key)?;
    let sealed = seal::seal(seal_for.data_key, seal_for.network, &key).map_err(ImportError::Seal)?;
    Ok(Imported { public_key: *key.public_key(), sealed })
}

#[cfg(test)]
mod tests {
    //! Proved here: good keys come out sealed and openable, each bad keystore has its own error, and
    //! stopping stops. The keystores are made with a cheap derivation.

    use eth2_keystore::{KdfChoice, KeystoreError, Secret};

    use super::*;
    use crate::generate;

    const NETWORK: GenesisValidatorsRoot = GenesisValidatorsRoot([5; 32]);

    fn password(text: &str) -> Arc<Passphrase> {
        Arc::new(Passphrase::new(text.to_owned()).unwrap())
    }

    fn keystore(key: &SecretKey, kdf: KdfChoice) -> Keystore {
        let secret = key.expose_be_bytes(|bytes| Secret::from_be_bytes(bytes)).unwrap();
        let password = Password::from_bytes("pässword".as_bytes()).unwrap();
        Keystore::encrypt(&secret, &password, None, kdf, None).unwrap()
    }

    fn budget(threads: usize) -> KdfBudget {
        KdfBudget::new(MemorySize::mebibytes(1), threads.try_into().unwrap())
    }

    #[test]
    fn good_keystores_are_sealed_and_bad_ones_named() {
        let keys: Vec<SecretKey> = (0..12).map(|_| generate::secret_key().unwrap()).collect();
        let right = password("pässword");
        let inputs: Vec<KeystoreInput> = keys
            .iter()
            .enumerate()
            .map(|(index, key)| KeystoreInput {
                // Each of these takes the whole budget, so they also take turns.
                keystore: keystore(key, KdfChoice::Scrypt { n: 1024, r: 8, p: 1 }),
                password: if index % 3 == 2 { password("wrong") } else { Arc::clone(&right) },
            })
            .collect();
        let data_key = DataKey::generate().unwrap();
        let mut counts = Vec::new();
        let mut seen = vec![false; inputs.len()];
        decrypt(&inputs, SealFor { data_key: &data_key, network: NETWORK }, &budget(3), |finished| {
            counts.push((finished.done, finished.total));
            assert!(!std::mem::replace(&mut seen[finished.index], true));
            match finished.outcome {
                Err(ImportError::Keystore(KeystoreError::WrongPassword)) => assert_eq!(finished.index % 3, 2),
                Err(error) => panic!("{error:?}"),
                Ok(imported) => {
                    let expected = keys[finished.index].public_key();
                    assert_ne!(finished.index % 3, 2);
                    assert_eq!(imported.public_key, *expected);
                    let opened = seal::open(&data_key, expected, NETWORK, &imported.sealed).unwrap();
                    assert_eq!(opened.scalar().public_key(), *expected.as_bytes());
                }
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(counts, (1..=12).map(|done| (done, 12)).collect::<Vec<_>>());
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn breaking_stops_the_work() {
        let key = generate::secret_key().unwrap();
        let right = password("pässword");
        let inputs: Vec<KeystoreInput> = (0..50)
            .map(|_| KeystoreInput {
                keystore: keystore(&key, KdfChoice::Pbkdf2 { c: 1 }),
                password: Arc::clone(&right),
            })
            .collect();
        let data_key = DataKey::generate().unwrap();
        let mut calls = 0;
        decrypt(&inputs, SealFor { data_key: &data_key, network: NETWORK }, &budget(2), |_| {
            calls += 1;
            if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert_eq!(calls, 3);
    }

    #[test]
    fn nothing_to_import_is_no_error() {
        let data_key = DataKey::generate().unwrap();
        let seal_for = SealFor { data_key: &data_key, network: NETWORK };
        decrypt(&[], seal_for, &budget(1), |_| panic!("there is nothing")).unwrap();
    }
}
