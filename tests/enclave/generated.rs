//! Keys that come into being in an enclave, and the document that vouches for them.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use eth2_keystore::{AccountIndex, Mnemonic};
use holdfast_enclave::ceremony::KeyTree;
use holdfast_enclave::generate::Origin;
use holdfast_enclave::vault::generate::{bound, encrypt_seed};
use holdfast_slashing_db::SealedKey;
use holdfast_tests::elsewhere::recipient::Document;
use holdfast_vault_proto::{
    Answer, AttestedOrder, DataKeyBytes, DataKeyCommitment, EncryptedSeed, Failure, GeneratedKey, KeyOutcome, Request,
};

use crate::attested::enclave;
use crate::hostile::conflicts;
use crate::support::chain::{GENESIS, block};
use crate::support::keys::KnownDataKey;
use crate::support::line::Line;
use crate::support::machine::Machine;

fn order(data_key: DataKeyCommitment, count: usize, seed: Option<EncryptedSeed>) -> Request {
    Request::GenerateAttested(Box::new(AttestedOrder { nonce: b"administrator".to_vec(), data_key, count, seed }))
}

/// A machine without a security module: nothing could vouch for its keys, so it makes none.
pub(crate) fn nothing_unattested() {
    let mut machine = Machine::stock();
    let (mut line, greeting) = Line::pinned(&mut machine);
    let data_key = KnownDataKey::new(51);
    let plain = Request::Generate {
        data_key: DataKeyBytes::new(&data_key.plain),
        origin: holdfast_vault_proto::Origin::Random,
        count: 1,
    };
    assert_eq!(line.ask(&plain), Answer::Failed(Failure::PlainDataKey));
    assert_eq!(line.ask(&order(data_key.named(), 1, None)), Answer::Failed(Failure::OtherDataKey), "none is held");
    assert_eq!(line.provision(data_key.envelope(&greeting.boot_key), Vec::new()), Ok(Vec::new()));
    assert_eq!(line.ask(&order(KnownDataKey::new(52).named(), 1, None)), Answer::Failed(Failure::OtherDataKey));
    assert_eq!(line.ask(&order(data_key.named(), 1, None)), Answer::Failed(Failure::NoSecurityModule));
    assert_eq!(line.health().keys, 0);
}

fn made(line: &mut Line, request: &Request) -> (Vec<GeneratedKey>, Document) {
    match line.ask(request) {
        Answer::GeneratedAttested { keys, document } => (keys, Document::read(&document).unwrap()),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn made_inside_and_vouched_for() {
    let (_machine, mut line, greeting) = enclave();
    let (ours, hosts) = (KnownDataKey::new(53), KnownDataKey::new(54));
    assert_eq!(line.provision(ours.envelope(&greeting.boot_key), Vec::new()), Ok(Vec::new()));

    let (keys, document) = made(&mut line, &order(ours.named(), 3, None));
    assert_eq!(keys.len(), 3);
    assert_eq!(document.nonce, b"administrator");
    assert_eq!(document.public_key, greeting.boot_key);
    assert_eq!(Some(document.user_data.clone()), bound(GENESIS, ours.named(), &keys), "it vouches for just these");
    // The host puts a key of its own into the answer, or another seal: the document does not vouch for that.
    let mut changed = keys.clone();
    changed[0].key.sealed[80] ^= 1;
    assert_ne!(Some(document.user_data.clone()), bound(GENESIS, ours.named(), &changed));
    assert_ne!(Some(document.user_data), bound(GENESIS, hosts.named(), &keys));
    for one in &keys {
        let sealed = SealedKey::new(one.key.sealed.clone());
        assert_eq!(ours.open(&one.key.public_key, &sealed), one.key.public_key);
    }

    // Of a mnemonic, whose seed only this boot opens, and only for the data key it was encrypted with.
    let mnemonic = Mnemonic::parse(&format!("{}about", "abandon ".repeat(11))).unwrap();
    let tree = KeyTree::new(&mnemonic, None).unwrap();
    let to = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&greeting.boot_key).unwrap()).unwrap();
    let origin = Origin::Tree { tree: &tree, first: AccountIndex::new(7) };
    let wrap = |plain: &[u8]| {
        let mut out = vec![0; to.ciphertext_size()];
        to.encrypt(&OAEP_SHA256_MGF1SHA256, plain, &mut out, None).map(|sealed| sealed.to_vec())
    };
    let seed = encrypt_seed(origin, ours.named(), GENESIS, wrap).unwrap();
    let (grown, document) = made(&mut line, &order(ours.named(), 2, seed.clone()));
    for (one, place) in grown.iter().zip(7..) {
        let account = AccountIndex::new(place);
        assert_eq!(one.key.public_key, *tree.signing_key(account).unwrap().public_key());
        assert_eq!(one.withdrawal_key, Some(tree.withdrawal_public_key(account).unwrap()));
    }
    assert_eq!(Some(document.user_data), bound(GENESIS, ours.named(), &grown));

    let sealed: Vec<_> = keys.iter().chain(&grown).map(|one| one.key.clone()).collect();
    let opened = line.provision(ours.envelope(&greeting.boot_key), sealed);
    assert_eq!(opened, Ok(vec![KeyOutcome::Opened; 5]));
    let number = conflicts(&mut line, keys[0].key.public_key);
    assert_eq!(line.reasons(grown[1].key.public_key, &[block(number, 1)]), [None]);

    // A host with a data key of its own: nothing is sealed under that from a seed it carries.
    assert_eq!(line.provision(hosts.envelope(&greeting.boot_key), Vec::new()), Ok(Vec::new()));
    assert_eq!(line.ask(&order(hosts.named(), 2, seed)), Answer::Failed(Failure::NotForThisBoot));
}
