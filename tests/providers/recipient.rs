//! AWS KMS and an enclave as the recipient, with AWS's own client library: what the host gets opens for the enclave only, and
//! only if the key's policy knows its image.
//!
//! The library finds credentials in the environment, so each test runs in a process of its own: this program again, with
//! that one test.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ciborium::Value;
use holdfast_domain::GenesisValidatorsRoot;
use holdfast_enclave::provider::{DataKeyId, GuardKey, KeyService, ServiceFailure, WrapContext};
use holdfast_nitro::Pcr;
use holdfast_nitro::cms::RecipientKey;
use holdfast_providers::aws::{AwsKms, AwsOptions};
use holdfast_tests::elsewhere::kms::{KeyState, Kms};
use holdfast_tests::elsewhere::moto::Moto;
use holdfast_tests::elsewhere::recipient::{Document, RecipientPolicy};

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

fn kms_at(url: String, key: &str) -> AwsKms {
    AwsKms::new(AwsOptions {
        key: key.to_owned(),
        region: Some("eu-west-1".to_owned()),
        endpoint: Some(url),
        timeout: Duration::from_secs(20),
    })
}

fn context() -> WrapContext {
    WrapContext { network: GenesisValidatorsRoot([7; 32]), data_key: DataKeyId(1) }
}

fn pcr(byte: u8) -> Pcr {
    Pcr::try_from([byte; 48].as_slice()).expect("48 bytes")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis().try_into().expect("64 bits")
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("memory");
    bytes
}

/// A document as QEMU's device writes them: everything but a signature.
fn document(image: u8, public_key: &[u8], timestamp: u64) -> Vec<u8> {
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
