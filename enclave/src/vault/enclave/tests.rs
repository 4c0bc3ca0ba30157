//! Proved here, with an enclave whose encryption is a prefix: what a vault in an enclave takes and what it refuses. That the
//! real one decrypts is shown by `enclave/guest` and by the boot tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

use std::num::NonZeroU64;
use std::sync::Mutex;

use eth2_keystore::AccountIndex;
use holdfast_domain::UnixMillis;
use holdfast_vault_proto::{AttestedOrder, DataKeyBytes, EncryptedSeed, Origin, SignItem};

use super::super::generate;
use super::*;
use crate::ceremony::KeyTree;
use crate::generate::secret_key;
use crate::support::{NETWORK, block, intent, network};

/// A slot is this long in these tests.
const SLOT: u64 = 12_000;

#[derive(Clone)]
struct Dial(Arc<Mutex<u64>>);

impl Clock for Dial {
    fn now(&self) -> UnixMillis {
        UnixMillis(*self.0.lock().unwrap())
    }
}

/// Its clock jumps by a slot whenever it is set, so that a test sees that it was.
struct Paper {
    dial: Dial,
    chain: Option<Network>,
}

impl Enclave for Paper {
    fn boot_key(&self) -> &[u8] {
        b"boot key"
    }

    fn attest(&self, nonce: &[u8], user_data: &[u8]) -> Result<Vec<u8>, Failure> {
        Ok([nonce, user_data].concat())
    }

    fn open(&self, cms: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        cms.strip_prefix(b"cms").map(|plain| Zeroizing::new(plain.to_vec())).ok_or(Failure::NotForThisBoot)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        wrapped.strip_prefix(b"rsa").map(|plain| Zeroizing::new(plain.to_vec())).ok_or(Failure::NotForThisBoot)
    }

    fn chain(&self) -> Option<&Network> {
        self.chain.as_ref()
    }

    fn set_clock(&self) -> Result<(), Failure> {
        *self.dial.0.lock().unwrap() += SLOT;
        Ok(())
    }
}

fn vault_with(chain: Option<Network>) -> (Vault, Dial) {
    let dial = Dial(Arc::new(Mutex::new(1_000 * SLOT)));
    let vault = Vault::in_enclave(Arc::new(dial.clone()), Box::new(Paper { dial: dial.clone(), chain }));
    (vault, dial)
}

fn pinned() -> (Vault, Dial) {
    let (mut vault, dial) = vault_with(Some(network()));
    vault.pin(network()).unwrap();
    (vault, dial)
}

const PLAIN: [u8; 32] = [5; 32];

fn cms(plain: &[u8]) -> Vec<u8> {
    [b"cms", plain].concat()
}

fn sealed_under(plain: [u8; 32], secret: &SecretKey) -> SealedKeyBytes {
    let data_key = DataKey::take(&mut plain.clone()).unwrap();
    let sealed = seal::seal(&data_key, NETWORK, secret).unwrap().as_bytes().to_vec();
    SealedKeyBytes { public_key: *secret.public_key(), sealed }
}

fn item(key: PublicKey, slot: u64) -> SignItem {
    let intent = intent(&key, &block(slot));
    SignItem { public_key: key, root: intent.root().into(), commit_seq: 0, statement: **intent.statement() }
}

#[test]
fn a_data_key_in_the_clear_is_refused_and_an_encrypted_one_is_a_candidate() {
    let (mut vault, _) = pinned();
    let secret = secret_key().unwrap();
    let sealed = sealed_under(PLAIN, &secret);
    let plain = vault.provision(&mut DataKeyBytes::new(&PLAIN), vec![sealed.clone()]);
    assert_eq!(plain, Err(Failure::PlainDataKey));
    let other = vault.provision_attested(&cms(&[6; 32]), vec![sealed.clone()]);
    assert_eq!(other, Ok(vec![KeyOutcome::OtherDataKey]));
    assert_eq!(vault.provision_attested(&cms(&PLAIN), vec![sealed.clone()]), Ok(vec![KeyOutcome::Opened]));
    assert_eq!(vault.provision_attested(&cms(&PLAIN), vec![sealed]), Ok(vec![KeyOutcome::AlreadyOpen]));
}

#[test]
fn the_clock_is_set_before_a_key_gets_its_fence() {
    let (mut vault, dial) = pinned();
    let secret = secret_key().unwrap();
    let key = *secret.public_key();
    vault.provision_attested(&cms(&PLAIN), vec![sealed_under(PLAIN, &secret)]).unwrap();
    // It was slot 1,000 and became 1,001. Another instance's clock may be ahead by a slot, and it signs one slot ahead.
    *dial.0.lock().unwrap() += 5 * SLOT;
    assert!(vault.approve(&item(key, 1_003)).is_err());
    assert!(vault.approve(&item(key, 1_004)).is_ok());
}

#[test]
fn after_some_failures_nothing_is_decrypted_any_more() {
    let (mut vault, _) = pinned();
    let secret = secret_key().unwrap();
    let sealed = || vec![sealed_under(PLAIN, &secret)];
    let bad: [Vec<u8>; 4] = [Vec::new(), b"other".to_vec(), cms(&PLAIN[..31]), cms(&[1; 33])];
    for attempt in 0..FAILED_OPENINGS as usize {
        let answer = vault.provision_attested(&bad[attempt % 4], sealed());
        assert_eq!(answer, Err(Failure::NotForThisBoot), "{attempt}");
    }
    assert_eq!(vault.provision_attested(&cms(&PLAIN), sealed()), Err(Failure::NotForThisBoot));
}

#[test]
fn what_is_attested_names_the_protocol_and_the_chain() {
    let (mut vault, _) = vault_with(Some(network()));
    let before = Bound { version: VERSION, chain: None };
    assert_eq!(vault.attest(b"nonce"), Ok([b"nonce".as_slice(), &before.encode()].concat()));
    vault.pin(network()).unwrap();
    let after = Bound { version: VERSION, chain: Some(NETWORK) };
    assert_eq!(vault.attest(&[]), Ok(after.encode()));
    assert_eq!(vault.boot_key(), b"boot key");
}

#[test]
fn a_host_cannot_wind_the_times_of_a_chain() {
    let mainnet = Network::builtin("mainnet").unwrap();
    assert_eq!(vault_with(None).0.pin(mainnet.clone()), Ok(()));
    let later = Network { genesis_time: mainnet.genesis_time.map(|time| UnixMillis(time.0 + 1)), ..mainnet.clone() };
    let slower = Network { slot_millis: NonZeroU64::new(12_001).unwrap(), ..mainnet.clone() };
    let mut longer = mainnet.clone();
    longer.preset.slots_per_epoch = NonZeroU64::new(33).unwrap();
    for wound in [later, slower, longer, network()] {
        assert_eq!(vault_with(None).0.pin(wound), Err(Failure::UnknownChain));
    }
    // Another chain than the built-in ones is measured with the enclave, and then it is the only one.
    assert_eq!(vault_with(Some(network())).0.pin(network()), Ok(()));
    assert_eq!(vault_with(Some(network())).0.pin(mainnet), Err(Failure::UnknownChain));
    let mut wound = network();
    wound.genesis_time = Some(UnixMillis(1));
    assert_eq!(vault_with(Some(network())).0.pin(wound), Err(Failure::UnknownChain));
}

/// As an administrator's tool does it, with a fixed nonce and the encryption of these tests.
fn encrypted(secret: &SecretKey, named: PublicKey, data_key: DataKeyCommitment) -> EncryptedKey {
    let wrapping = [8_u8; 32];
    let locked = LockedBytes::take(&mut wrapping.clone()).unwrap();
    let aad = import_associated_data(&named, NETWORK, data_key);
    let Ok(ciphertext) = secret.expose_be_bytes(|bytes| aead::encrypt(&locked, &aad, bytes)) else {
        panic!("no randomness")
    };
    EncryptedKey { public_key: named, data_key, wrapped_key: [b"rsa".as_slice(), &wrapping].concat(), ciphertext }
}

#[test]
fn an_import_is_sealed_under_the_data_key_that_was_named_and_no_other() {
    let (mut vault, _) = pinned();
    let named = commitment(&DataKey::take(&mut PLAIN.clone()).unwrap());
    let [held, imported, other] = [(); 3].map(|()| secret_key().unwrap());
    let key = encrypted(&imported, *imported.public_key(), named);
    assert_eq!(vault.import(&key), Err(Failure::OtherDataKey), "no data key is held yet");

    // The host's own data key, with a key of its own sealed under it: it is held now, and nothing is sealed under it.
    let hosts = [9; 32];
    let opened = vault.provision_attested(&cms(&hosts), vec![sealed_under(hosts, &other)]).unwrap();
    assert_eq!(opened, [KeyOutcome::Opened]);
    assert_eq!(vault.import(&key), Err(Failure::OtherDataKey));
    // Nor under another commitment than the one that was authenticated.
    let own = commitment(&DataKey::take(&mut hosts.clone()).unwrap());
    assert_eq!(vault.import(&EncryptedKey { data_key: own, ..key.clone() }), Err(Failure::NotForThisBoot));

    vault.provision_attested(&cms(&PLAIN), vec![sealed_under(PLAIN, &held)]).unwrap();
    let sealed = SealedKeyBytes { public_key: key.public_key, sealed: vault.import(&key).unwrap() };
    assert_eq!(vault.provision_attested(&cms(&PLAIN), vec![sealed]), Ok(vec![KeyOutcome::Opened]));

    let wrong = encrypted(&imported, *other.public_key(), named);
    assert_eq!(vault.import(&wrong), Err(Failure::OtherKey));
    for change in [0, 20, 59] {
        let mut changed = key.clone();
        changed.ciphertext[change] ^= 1;
        assert_eq!(vault.import(&changed), Err(Failure::NotForThisBoot));
    }
}

fn order(data_key: DataKeyCommitment, seed: Option<EncryptedSeed>) -> AttestedOrder {
    AttestedOrder { nonce: b"nonce".to_vec(), data_key, count: 3, seed }
}

#[test]
fn keys_are_made_under_the_data_key_that_was_named_and_attested() {
    let (mut vault, _) = pinned();
    let [named, hosts] = [PLAIN, [9; 32]].map(|plain| commitment(&DataKey::take(&mut plain.clone()).unwrap()));
    assert_eq!(vault.generate_attested(&order(named, None)), Err(Failure::OtherDataKey), "none is held");
    vault.provision_attested(&cms(&[9; 32]), vec![]).unwrap();
    assert_eq!(vault.generate_attested(&order(named, None)), Err(Failure::OtherDataKey), "the host's is held");
    let plain = vault.generate(&mut DataKeyBytes::new(&PLAIN), &Origin::Random, 1);
    assert_eq!(plain, Err(Failure::PlainDataKey));

    vault.provision_attested(&cms(&PLAIN), vec![]).unwrap();
    let (keys, document) = vault.generate_attested(&order(named, None)).unwrap();
    let expected = [b"nonce".as_slice(), &generate::bound(NETWORK, named, &keys).unwrap()].concat();
    assert_eq!((keys.len(), document), (3, expected.clone()));
    // Whoever carries the answer cannot put a key of his own into it, nor say that it is sealed under another data key.
    let (others, _) = vault.generate_attested(&order(named, None)).unwrap();
    assert_ne!(generate::bound(NETWORK, named, &others), generate::bound(NETWORK, named, &keys));
    assert_ne!(generate::bound(NETWORK, hosts, &keys), generate::bound(NETWORK, named, &keys));
    let mut other = keys.clone();
    other[1].withdrawal_key = Some(keys[0].key.public_key);
    assert_ne!(generate::bound(NETWORK, named, &other), generate::bound(NETWORK, named, &keys));

    let sealed = keys.into_iter().map(|one| one.key).collect();
    assert_eq!(vault.provision_attested(&cms(&PLAIN), sealed), Ok(vec![KeyOutcome::Opened; 3]));
}

#[test]
fn a_seed_is_used_with_the_data_key_it_was_encrypted_with_and_no_other() {
    let (mut vault, _) = pinned();
    let [named, hosts] = [PLAIN, [9; 32]].map(|plain| commitment(&DataKey::take(&mut plain.clone()).unwrap()));
    let mnemonic = eth2_keystore::Mnemonic::parse(&format!("{}about", "abandon ".repeat(11))).unwrap();
    let tree = KeyTree::new(&mnemonic, None).unwrap();
    let origin = crate::generate::Origin::Tree { tree: &tree, first: AccountIndex::new(2) };
    let wrap = |plain: &[u8]| Ok::<_, std::io::Error>([b"rsa".as_slice(), plain].concat());
    let seed = |network| generate::encrypt_seed(origin, named, network, wrap).unwrap().unwrap();
    vault.provision_attested(&cms(&PLAIN), vec![]).unwrap();
    let (keys, _) = vault.generate_attested(&order(named, Some(seed(NETWORK)))).unwrap();
    for (key, place) in keys.iter().zip(2..) {
        let account = AccountIndex::new(place);
        assert_eq!(key.key.public_key, *tree.signing_key(account).unwrap().public_key());
        assert_eq!(key.withdrawal_key, Some(tree.withdrawal_public_key(account).unwrap()));
    }
    let refused = Err(Failure::NotForThisBoot);
    let other_chain = seed(GenesisValidatorsRoot([1; 32]));
    assert_eq!(vault.generate_attested(&order(named, Some(other_chain))), refused);
    let short = EncryptedSeed { first: 0, wrapped: b"rsa0123".to_vec() };
    assert_eq!(vault.generate_attested(&order(named, Some(short))), refused);
    // The host brings a data key of its own, and the administrator's seed.
    vault.provision_attested(&cms(&[9; 32]), vec![]).unwrap();
    assert_eq!(vault.generate_attested(&order(hosts, Some(seed(NETWORK)))), refused);
}

#[test]
fn an_administrator_s_key_is_imported_also_where_no_key_is_yet() {
    let (mut vault, _) = pinned();
    let secret = secret_key().unwrap();
    let named = commitment(&DataKey::take(&mut PLAIN.clone()).unwrap());
    let wrap = |wrapping: &[u8]| Ok::<_, std::io::Error>([b"rsa".as_slice(), wrapping].concat());
    let key = encrypt_for_import(&secret, NETWORK, named, wrap).unwrap();
    assert_eq!(vault.provision_attested(&cms(&[9; 32]), vec![]), Ok(vec![]));
    assert_eq!(
        vault.import(&key),
        Err(Failure::OtherDataKey),
        "the host's is the first, and not the one that is named"
    );

    // The right one takes its place: a host's data key does not keep an administrator out for good.
    assert_eq!(vault.provision_attested(&cms(&PLAIN), vec![]), Ok(vec![]));
    let sealed = SealedKeyBytes { public_key: key.public_key, sealed: vault.import(&key).unwrap() };
    assert_eq!(vault.provision_attested(&cms(&PLAIN), vec![sealed]), Ok(vec![KeyOutcome::Opened]));
    let failed = encrypt_for_import(&secret, NETWORK, named, |_| Err(std::io::Error::other("no key")));
    assert!(matches!(failed, Err(ImportKeyError::Wrap(_))));
}

#[test]
fn a_vault_that_is_no_enclave_says_so() {
    let mut vault = Vault::new(Arc::new(Dial(Arc::new(Mutex::new(0)))));
    assert_eq!(vault.attest(&[]), Err(Failure::NoEnclave));
    assert_eq!(vault.provision_attested(&[], Vec::new()), Err(Failure::NoEnclave));
    assert!(vault.boot_key().is_empty());
}
