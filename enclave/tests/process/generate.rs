//! Keys that come into being in a vault process.

use std::sync::Arc;

use eth2_keystore::{AccountIndex, Mnemonic};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::ceremony::KeyTree;
use holdfast_enclave::generate::Origin;
use holdfast_enclave::import::SealFor;
use holdfast_enclave::{ActiveKey, DataKey, GenerateError, Generated, SignError, seal};
use holdfast_slashing_db::DataKeyId;

use crate::support::{Bench, NETWORK, attestation};
use crate::{block_on, next_slot, start, suite};

/// A tree that is nobody's.
pub(crate) fn tree() -> KeyTree {
    let mnemonic = Mnemonic::parse(&format!("{}about", "abandon ".repeat(11))).unwrap();
    KeyTree::new(&mnemonic, None).unwrap()
}

fn same_keys(made: &[Generated], tree: &KeyTree, first: u32) {
    for (one, place) in made.iter().zip(first..) {
        let account = AccountIndex::new(place);
        assert_eq!(one.key, *tree.signing_key(account).unwrap().public_key(), "{place}");
        assert_eq!(one.withdrawal_key, Some(tree.withdrawal_public_key(account).unwrap()));
    }
}

pub(crate) fn keys_are_made_sealed_and_sign() {
    let backend = start("vault", &[]);
    let place: Arc<dyn KeyBackend> = backend.clone().into();
    let data_key = suite::data_key().numbered(DataKeyId(7));
    let sealed_for = SealFor { data_key: &data_key, network: NETWORK };
    let tree = tree();
    // More than one frame has.
    let origin = Origin::Tree { tree: &tree, first: AccountIndex::new(3) };
    let grown = place.generate(origin, 70, sealed_for).unwrap();
    assert_eq!(grown.len(), 70);
    same_keys(&grown, &tree, 3);
    let random = place.generate(Origin::Random, 2, sealed_for).unwrap();
    assert_ne!(random[0].key, random[1].key);
    assert!(random.iter().all(|one| one.withdrawal_key.is_none()));
    for one in grown.iter().take(3).chain(&random) {
        assert_eq!(one.sealed.data_key(), Some(DataKeyId(7)));
        assert_eq!(*seal::open(&data_key, &one.key, NETWORK, &one.sealed).unwrap().public_key(), one.key);
        assert!(seal::open(&DataKey::generate().unwrap(), &one.key, NETWORK, &one.sealed).is_err());
    }
    let last = Origin::Tree { tree: &tree, first: AccountIndex::new(u32::MAX) };
    let beyond = place.generate(last, 2, sealed_for).unwrap_err();
    assert!(matches!(beyond, SignError::NotMade(error) if matches!(*error, GenerateError::NoPlace)));

    // They are as good as others, from a fence at the present on.
    let bench = Bench::new();
    let sealed = [(random[0].key, &random[0].sealed), (grown[69].key, &grown[69].sealed)];
    let held = place.open(&data_key, NETWORK, &sealed).unwrap();
    block_on(async {
        for held in held {
            let held = held.unwrap();
            let registration = bench.register(*held.public_key()).await;
            let key = ActiveKey::held(registration, held, Arc::clone(&place)).unwrap();
            let permit = bench.permit(key.key(), &attestation(next_slot())).await;
            assert!(key.sign(permit).await.is_ok());
        }
    });
}
