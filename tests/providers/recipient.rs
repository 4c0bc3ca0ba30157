//! AWS KMS and an enclave as the recipient, with AWS's own client library: what the host gets opens for the enclave only, and
//! only if the key's policy knows its image.
//!
//! The library finds credentials in the environment, so each test runs in a process of its own: this program again, with
//! that one test.

#[allow(dead_code, reason = "each suite that includes it uses a part of it")]
#[path = "../../enclave/nitro/tests/support/authority.rs"]
mod authority;

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ciborium::Value;
use holdfast_domain::GenesisValidatorsRoot;
use holdfast_enclave::provider::{DataKeyId, GuardKey, KeyService, ServiceFailure, WrapContext};
use holdfast_enclave::{DataKeyCommitment, generate};
use holdfast_nitro::Pcr;
use holdfast_nitro::attestation::{AttestationError, PcrIndex, PcrPolicy, Timestamp, Verifier};
use holdfast_nitro::cms::RecipientKey;
use holdfast_providers::aws::{AwsKms, AwsOptions};
use holdfast_providers::nitro::{EnclaveKey, Expected, Proven, ReleaseError};
use holdfast_tests::elsewhere::kms::{KeyState, Kms};
use holdfast_tests::elsewhere::moto::Moto;
use holdfast_tests::elsewhere::recipient::{Document, RecipientPolicy};
use holdfast_tests::elsewhere::server::Mood;

const ALIAS: &str = "alias/vault";
const GUARD: [u8; 32] = [0x5a; 32];

/// Runs a test again where the library finds credentials. True in that process.
fn with_credentials(test: &str) -> bool {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|key| key == "TEST") {
        return true;
    }
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .envs([("AWS_ACCESS_KEY_ID", "TEST"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_EC2_METADATA_DISABLED", "true")])
        .output()
        .expect("this program starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

fn options(url: String, key: &str) -> AwsOptions {
    AwsOptions {
        key: key.to_owned(),
        region: Some("eu-west-1".to_owned()),
        endpoint: Some(url),
        timeout: Duration::from_secs(20),
    }
}

fn kms_at(url: String, key: &str) -> AwsKms {
    AwsKms::new(options(url, key))
}

fn context() -> WrapContext {
    WrapContext { network: GenesisValidatorsRoot([7; 32]), data_key: DataKeyId(1) }
}

fn pcr(byte: u8) -> Pcr {
    Pcr::try_from([byte; 48].as_slice()).expect("48 bytes")
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis().try_into().expect("64 bits")
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("memory");
    bytes
}

/// A document as QEMU's device writes them: everything but a signature.
pub(crate) fn document(image: u8, public_key: &[u8], timestamp: u64) -> Vec<u8> {
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    let pcrs = [(0, image), (1, 1), (2, 2), (3, 0)].map(|(index, byte)| (Value::from(index), bytes(&[byte; 48])));
    let fields = [
        ("module_id", Value::from("test")),
        ("digest", Value::from("SHA384")),
        ("timestamp", Value::from(timestamp)),
        ("pcrs", Value::Map(pcrs.to_vec())),
        ("certificate", bytes(&[0; 64])),
        ("cabundle", Value::Array(vec![bytes(&[0; 64])])),
        ("public_key", bytes(public_key)),
        ("user_data", Value::Null),
        ("nonce", bytes(b"nonce")),
    ];
    let fields = fields.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
    let payload = encode(&Value::Map(fields));
    let parts = vec![bytes(&[0xa1, 0x01, 0x20]), Value::Map(Vec::new()), bytes(&payload), bytes(&[0; 64])];
    encode(&Value::Array(parts))
}

#[test]
fn an_enclave_of_the_policy_and_nobody_else_gets_the_key() {
    if !with_credentials("recipient::an_enclave_of_the_policy_and_nobody_else_gets_the_key") {
        return;
    }
    let fake = Kms::start(&[ALIAS]);
    let kms = kms_at(fake.url(), ALIAS);
    let guard = GuardKey::take(&mut GUARD.clone()).expect("32 bytes");
    let ciphertext = kms.encrypt(&guard, &context()).expect("encrypted");
    let key = RecipientKey::generate().expect("a key");
    let good = document(9, key.public_key_der(), now());
    assert_eq!(Document::read(&good).expect("a document").pcrs[&0], pcr(9));

    fake.only_for(RecipientPolicy::default().allow(0, pcr(8)).allow(0, pcr(9)));
    let envelope = kms.decrypt_for_recipient(&ciphertext, &context(), &good).expect("for the enclave");
    assert_eq!(envelope.len(), 493, "as long as one of the real service");
    assert!(!envelope.windows(8).any(|window| window == &GUARD[..8]));
    assert_eq!(key.open(&envelope).expect("it opens").as_slice(), GUARD);
    assert!(RecipientKey::generate().expect("a key").open(&envelope).is_err(), "for another boot");

    let refused = |ciphertext: &[u8], context: &WrapContext, document: &[u8]| {
        kms.decrypt_for_recipient(ciphertext, context, document).expect_err("refused").failure
    };
    let of = |image, timestamp| document(image, key.public_key_der(), timestamp);
    assert_eq!(refused(&ciphertext, &context(), &of(7, now())), ServiceFailure::Denied, "another image");
    assert_eq!(refused(&ciphertext, &context(), &of(0, now())), ServiceFailure::Denied, "debug mode");
    assert_eq!(refused(&ciphertext, &context(), &of(9, now() - 3_600_000)), ServiceFailure::Unusable, "an hour old");
    assert_eq!(refused(&ciphertext, &context(), b"no document"), ServiceFailure::Unusable);
    assert_eq!(refused(&ciphertext, &context(), &document(9, b"no key", now())), ServiceFailure::Unusable);
    let other = WrapContext { data_key: DataKeyId(2), ..context() };
    assert_eq!(refused(&ciphertext, &other, &good), ServiceFailure::Rejected, "another context");
    assert_eq!(refused(b"changed", &context(), &good), ServiceFailure::Rejected);
    // Without an enclave nobody gets it.
    assert_eq!(kms.decrypt(&ciphertext, &context()).err().expect("refused").failure, ServiceFailure::Denied);
    fake.set_state(ALIAS, KeyState::Disabled);
    assert_eq!(refused(&ciphertext, &context(), &good), ServiceFailure::KeyDisabled);
}

#[test]
fn a_data_key_goes_to_a_vault_that_proves_to_be_an_expected_enclave() {
    if !with_credentials("recipient::a_data_key_goes_to_a_vault_that_proves_to_be_an_expected_enclave") {
        return;
    }
    let fake = Kms::start(&[ALIAS]);
    let kms = kms_at(fake.url(), ALIAS);
    let guard = GuardKey::take(&mut GUARD.clone()).expect("32 bytes");
    let wrapped = kms.encrypt(&guard, &context()).expect("encrypted");
    fake.only_for(RecipientPolicy::default().allow(0, pcr(1)));

    let authority = authority::Authority::of_now();
    let verifier = Verifier::with_root(authority.bundle[0].clone()).expect("a root");
    let images = PcrPolicy::any().allow(PcrIndex::IMAGE, pcr(1));
    let key = EnclaveKey::with_verifier(verifier.clone(), options(fake.url(), ALIAS), images);
    let boot = RecipientKey::generate().expect("a key");
    let draft = || {
        let draft = authority.draft().with("public_key", Value::Bytes(boot.public_key_der().to_vec()));
        draft.with("user_data", Value::Bytes(b"this chain".to_vec()))
    };
    let expected =
        |nonce: &'static [u8]| Expected { nonce, user_data: b"this chain", now: Timestamp::from_millis(now()) };
    let ask = |key: &EnclaveKey, document: &[u8], nonce: &'static [u8]| {
        key.release(&wrapped, &context(), document, &expected(nonce))
    };
    let good = authority.sign(&draft());
    let envelope = ask(&key, &good, authority::NONCE).expect("for the vault");
    assert_eq!(boot.open(&envelope).expect("it opens").as_slice(), GUARD);

    let calls = fake.count("Decrypt");
    let refused = |document: &[u8], nonce| ask(&key, document, nonce).expect_err("refused");
    assert!(matches!(refused(&good, b"another"), ReleaseError::Attestation(AttestationError::Nonce)));
    let other = authority.sign(&draft().with("user_data", Value::Bytes(b"another chain".to_vec())));
    assert!(matches!(refused(&other, authority::NONCE), ReleaseError::OtherVault));
    let keyless = authority.sign(&draft().with("public_key", Value::Null));
    assert!(matches!(refused(&keyless, authority::NONCE), ReleaseError::NoPublicKey));
    let image = authority.sign(&draft().with_pcr(0, Some(vec![2; 48])));
    assert!(matches!(refused(&image, authority::NONCE), ReleaseError::Attestation(AttestationError::OtherPcr { .. })));
    let unsigned = document(1, boot.public_key_der(), now());
    assert!(matches!(refused(&unsigned, b"nonce"), ReleaseError::Attestation(AttestationError::Shape(_))));
    let aws = EnclaveKey::new(options(fake.url(), ALIAS), PcrPolicy::any().allow(PcrIndex::IMAGE, pcr(1)));
    let error = ask(&aws, &good, authority::NONCE).expect_err("another root");
    assert!(matches!(error, ReleaseError::Attestation(AttestationError::OtherRoot)) && !error.may_pass());
    assert_eq!(fake.count("Decrypt"), calls, "nothing was asked for any of them");

    // An administrator's key is encrypted for the same vault only, and opens in that boot of it.
    let images = PcrPolicy::any().allow(PcrIndex::IMAGE, pcr(1));
    let prove = |document: &[u8], nonce| Proven::new(&verifier, &images, document, &expected(nonce));
    let (secret, named) = (generate::secret_key().expect("a key"), DataKeyCommitment([3; 32]));
    let proven = prove(&good, authority::NONCE).expect("an expected enclave");
    let sent = proven.encrypt(&secret, &context(), named).expect("encrypted");
    assert_eq!((sent.public_key, sent.data_key), (*secret.public_key(), named));
    assert_eq!(boot.unwrap(&sent.wrapped_key).expect("the wrapping key").len(), 32);
    assert!(RecipientKey::generate().expect("a key").unwrap(&sent.wrapped_key).is_err(), "another boot");
    let plain = secret.expose_be_bytes(|bytes| *bytes);
    assert!(!sent.ciphertext.windows(8).any(|window| window == &plain[..8]));
    for (document, nonce) in [
        (&good, b"another".as_slice()),
        (&other, authority::NONCE),
        (&keyless, authority::NONCE),
        (&image, authority::NONCE),
        (&authority.sign(&draft().with_pcr(0, Some(vec![0; 48]))), authority::NONCE),
        (&unsigned, b"nonce"),
    ] {
        assert!(Proven::new(&verifier, &images, document, &expected(nonce)).is_err());
    }
    let late = Expected { now: Timestamp::from_millis(now() + 3_600_000), ..expected(authority::NONCE) };
    assert!(Proven::new(&verifier, &images, &good, &late).is_err(), "an hour old");
    assert!(Proven::new(&Verifier::aws(), &images, &good, &expected(authority::NONCE)).is_err(), "another root");

    // What the signer accepts, the key's policy may still refuse.
    fake.only_for(RecipientPolicy::default().allow(0, pcr(9)));
    let denied = refused(&good, authority::NONCE);
    assert!(matches!(denied, ReleaseError::Service { failure: ServiceFailure::Denied, .. }) && !denied.may_pass());
    fake.set_mood(Mood::Away);
    assert!(refused(&good, authority::NONCE).may_pass(), "an outage is waited for");
}

#[test]
fn a_service_that_ignores_the_recipient_is_refused() {
    if !with_credentials("recipient::a_service_that_ignores_the_recipient_is_refused") {
        return;
    }
    let moto = Moto::start();
    let kms = kms_at(moto.url(), &moto.create_key());
    let guard = GuardKey::take(&mut GUARD.clone()).expect("32 bytes");
    let ciphertext = kms.encrypt(&guard, &context()).expect("encrypted");
    let key = RecipientKey::generate().expect("a key");
    let document = document(9, key.public_key_der(), now());
    let error = kms.decrypt_for_recipient(&ciphertext, &context(), &document).expect_err("refused");
    assert_eq!(error.failure, ServiceFailure::Protocol);
    assert!(error.source.to_string().contains("a plaintext"), "{}", error.source);
}
