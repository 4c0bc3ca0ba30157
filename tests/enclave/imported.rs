//! Keys of an administrator, by the product's own way: he checks the document of the booted vault, encrypts each key for it,
//! and gets it back sealed. The security module is played by an authority of the test, which attests the key of that boot.

#[allow(dead_code, reason = "each suite that includes it uses a part of it")]
#[path = "../../enclave/nitro/tests/support/authority.rs"]
mod authority;

use std::sync::Arc;

use ciborium::Value;
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::provider::{DataKeyId, WrapContext};
use holdfast_enclave::{AttestedVault, EncryptedKey, SignError};
use holdfast_nitro::Pcr;
use holdfast_nitro::attestation::{AttestationError, PcrIndex, PcrPolicy, Timestamp, Verifier};
use holdfast_providers::nitro::{Expected, Proven, ReleaseError};
use holdfast_slashing_db::SealedKey;
use holdfast_vault_proto::KeyOutcome;

use self::authority::{Authority, NONCE, now};
use crate::every::backend_at;
use crate::hostile::conflicts;
use crate::support::chain::{GENESIS, block, network};
use crate::support::keys::{KnownDataKey, secret};
use crate::support::line::Line;
use crate::support::machine::Machine;
use crate::support::relay::Relay;
use crate::support::wait_until;

/// PCR0 of the image that is expected.
const IMAGE: [u8; 48] = [0x1d; 48];

/// Who attests, and what an administrator expects.
struct Administrator {
    authority: Authority,
    verifier: Verifier,
}

impl Administrator {
    fn new() -> Self {
        let authority = Authority::of_now();
        let verifier = Verifier::with_root(authority.bundle[0].clone()).unwrap();
        Self { authority, verifier }
    }

    /// A document about the boot with this key.
    fn document(&self, vault: &dyn AttestedVault, boot_key: &[u8], image: [u8; 48]) -> Vec<u8> {
        let draft = self.authority.draft().with_pcr(0, Some(image.to_vec()));
        let draft = draft.with("public_key", Value::Bytes(boot_key.to_vec()));
        self.authority.sign(&draft.with("user_data", Value::Bytes(vault.user_data(GENESIS))))
    }

    /// What he makes of a document that was asked for with this nonce.
    fn check(&self, vault: &dyn AttestedVault, document: &[u8], nonce: &[u8]) -> Result<Proven, ReleaseError> {
        let images = PcrPolicy::any().allow(PcrIndex::IMAGE, Pcr::try_from(IMAGE.as_slice()).unwrap());
        let user_data = vault.user_data(GENESIS);
        let expected = Expected { nonce, user_data: &user_data, now: Timestamp::from_millis(now()) };
        Proven::new(&self.verifier, &images, document, &expected)
    }
}

/// The word in which the vault refused.
fn refused<T>(answer: Result<T, SignError>) -> &'static str {
    match answer {
        Err(SignError::VaultFailed { reason }) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

fn booted(relay: &Relay) -> (Machine, Vec<u8>) {
    let mut machine = Machine::stock();
    let (line, greeting) = Line::greeted(&mut machine);
    drop(line);
    relay.lead_to(Some(machine.vsock()));
    (machine, greeting.boot_key)
}

pub(crate) fn sealed_inside() {
    let (administrator, relay) = (Administrator::new(), Relay::new());
    let (machine, boot_key) = booted(&relay);
    let backend = backend_at(relay.path(), &network());
    let place: Arc<dyn KeyBackend> = backend.clone().into();
    let vault = place.attested().unwrap();
    let good = administrator.document(vault, &boot_key, IMAGE);

    // A key is encrypted for no other image, none that can be debugged, and for no document that answers somebody else.
    for image in [[0x1e; 48], [0; 48]] {
        let other = administrator.document(vault, &boot_key, image);
        let error = administrator.check(vault, &other, NONCE).unwrap_err();
        assert!(matches!(error, ReleaseError::Attestation(_)), "{error:?}");
    }
    let replayed = administrator.check(vault, &good, b"another nonce").unwrap_err();
    assert!(matches!(replayed, ReleaseError::Attestation(AttestationError::Nonce)), "{replayed:?}");
    let proven = administrator.check(vault, &good, NONCE).unwrap();

    let (ours, hosts) = (KnownDataKey::new(41), KnownDataKey::new(42));
    let secrets = [(); 3].map(|()| secret());
    let context = WrapContext { network: GENESIS, data_key: DataKeyId(1) };
    let sent: Vec<EncryptedKey> =
        secrets.iter().map(|secret| proven.encrypt(secret, &context, ours.named()).unwrap()).collect();
    for (secret, sent) in secrets.iter().zip(&sent) {
        let plain = secret.expose_be_bytes(|bytes| *bytes);
        assert!(!sent.ciphertext.windows(8).any(|window| window == &plain[..8]));
    }
    // Nothing is sealed before there is a data key, nor under one that the host brought.
    assert_eq!(refused(vault.import(sent[0].clone())), "other_data_key");
    vault.hold_data_key(&hosts.envelope(&boot_key)).unwrap();
    assert_eq!(refused(vault.import(sent[0].clone())), "other_data_key");
    let planted = secret();
    let sealed = SealedKey::new(hosts.seal(&planted).sealed);
    let opened = vault.open_attested(&hosts.envelope(&boot_key), GENESIS, &[(*planted.public_key(), &sealed)]).unwrap();
    assert!(opened[0].is_ok(), "its own key opens");
    assert_eq!(refused(vault.import(sent[0].clone())), "other_data_key", "and says nothing of whose it is");
    let envelope = ours.envelope(&boot_key);
    vault.hold_data_key(&envelope).unwrap();

    // Whatever is changed on the way: nothing comes back.
    let mut changed = [(); 4].map(|()| sent[0].clone());
    changed[0].wrapped_key[100] ^= 1;
    changed[1].ciphertext[20] ^= 1;
    changed[2].public_key = sent[1].public_key;
    changed[3].data_key = hosts.named();
    let words = changed.map(|key| refused(vault.import(key)));
    assert_eq!(words, ["not_for_this_boot", "not_for_this_boot", "not_for_this_boot", "other_data_key"]);

    let sealed: Vec<SealedKey> = sent.iter().map(|key| vault.import(key.clone()).unwrap()).collect();
    for (secret, sealed) in secrets.iter().zip(&sealed) {
        assert_eq!(ours.open(secret.public_key(), sealed), *secret.public_key(), "sealed under the key that was named");
    }

    // Encrypted by another implementation than the product's, it is the same.
    let other = secret();
    let imported = vault.import(ours.import(&boot_key, &other)).unwrap();
    assert_eq!(ours.open(other.public_key(), &imported), *other.public_key());

    // Another boot: what was encrypted for the one before is of no use, what was sealed is.
    relay.lead_to(None);
    drop(machine);
    let (mut machine, later_key) = booted(&relay);
    wait_until("the next vault", || !matches!(vault.attest(NONCE), Err(SignError::VaultDown)));
    let keys: Vec<_> = secrets.iter().map(|secret| *secret.public_key()).zip(&sealed).collect();
    assert_eq!(refused(vault.hold_data_key(&envelope)), "not_for_this_boot");
    vault.hold_data_key(&ours.envelope(&later_key)).unwrap();
    assert_eq!(refused(vault.import(sent[0].clone())), "not_for_this_boot");
    for held in vault.open_attested(&ours.envelope(&later_key), GENESIS, &keys).unwrap() {
        held.unwrap();
    }
    // One conversation at a time.
    drop((place, backend));
    let (mut line, _) = Line::pinned(&mut machine);
    assert_eq!(line.health().keys, 3);
    let again = vec![ours.seal(&secrets[0])];
    assert_eq!(line.provision(ours.envelope(&later_key), again), Ok(vec![KeyOutcome::AlreadyOpen]));
    let number = conflicts(&mut line, *secrets[0].public_key());
    for secret in &secrets[1..] {
        assert_eq!(line.reasons(*secret.public_key(), &[block(number, 1)]), [None]);
    }
}
