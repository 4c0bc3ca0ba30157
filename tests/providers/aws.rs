//! AWS KMS: its own client library against moto, and against the fake that enforces key states.

use std::time::Instant;

use holdfast_tests::elsewhere::kms::{KeyState, Kms};
use holdfast_tests::elsewhere::moto::Moto;
use holdfast_tests::elsewhere::server::Mood;
use holdfast_tests::world::GENESIS_VALIDATORS_ROOT;

use crate::stage::Stage;
use crate::suite;

const ALIAS: &str = "alias/holdfast";

/// A world that uses this key of the service at this address.
pub(crate) fn stage(url: &str, keys: &str) -> Stage {
    Stage::new(&[
        ("HOLDFAST_KEYS_PROVIDER", "aws-kms"),
        ("HOLDFAST_AWS_KEYS", keys),
        ("HOLDFAST_AWS_ENDPOINT", url),
        ("HOLDFAST_AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "TEST"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ])
}

#[test]
fn round_trip_with_context_and_key_in_every_call() {
    let kms = Kms::start(&[ALIAS]);
    suite::round_trip(&stage(&kms.url(), ALIAS), "aws-kms");
    let network = format!("0x{}", hex::encode(GENESIS_VALIDATORS_ROOT));
    let calls = kms.calls();
    assert!(kms.count("Encrypt") == 1 && kms.count("Decrypt") >= 4, "{calls:?}");
    for call in calls {
        assert_eq!((call.key.as_str(), call.error.as_str()), (ALIAS, ""));
        let context: Vec<_> = call.context.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(context, [("app", "holdfast/v1"), ("data_key", "1"), ("network", network.as_str())]);
    }
}

#[test]
fn wrong_context_and_tampering_are_refused() {
    let kms = Kms::start(&[ALIAS]);
    suite::wrong_context_and_tampering(&stage(&kms.url(), ALIAS), &["refuses the wrapped data key"]);
}

#[test]
fn a_disabled_key_and_one_to_be_deleted_are_named() {
    for state in [KeyState::Disabled, KeyState::PendingDeletion] {
        let kms = Kms::start(&[ALIAS]);
        let (disable, enable) = (|| kms.set_state(ALIAS, state), || kms.set_state(ALIAS, KeyState::Enabled));
        suite::disabled_key(&stage(&kms.url(), ALIAS), disable, enable, "is disabled or about to be deleted");
    }
}

#[test]
fn an_outage_is_waited_for_at_start_and_harmless_later() {
    let kms = Kms::start(&[ALIAS]);
    suite::outage(&stage(&kms.url(), ALIAS), || kms.set_mood(Mood::Away), || kms.set_mood(Mood::Works));
}

#[test]
fn rotation_keeps_the_keys() {
    let kms = Kms::start(&[ALIAS]);
    suite::rotation(&mut stage(&kms.url(), ALIAS), "aws-kms");
}

#[test]
fn a_slow_service_is_an_error_in_time() {
    let kms = Kms::start(&[ALIAS]);
    let mut stage = stage(&kms.url(), ALIAS);
    stage.set("HOLDFAST_AWS_TIMEOUT_MS", "1500");
    suite::slow(&stage, || kms.set_mood(Mood::Hangs), || kms.set_mood(Mood::Works));
}

#[test]
fn what_the_service_says_is_told_with_what_to_do() {
    let kms = Kms::start(&[ALIAS, "alias/other"]);
    let mut stage = stage(&kms.url(), ALIAS);
    stage.make_keys(1);
    for (key, said) in [("EXPIRED", "renew them"), ("UNKNOWN", "renew them"), ("DENIED", "may not be used")] {
        stage.set("AWS_ACCESS_KEY_ID", key);
        stage.status().expect(3, &[said]);
    }
    stage.set("AWS_ACCESS_KEY_ID", "TEST");
    for (code, said) in [("ThrottlingException", "overloaded"), ("KMSInternalException", "overloaded")] {
        kms.break_with(Some(code));
        let asked = kms.calls().len();
        stage.status().expect(3, &[said, code]);
        assert!(kms.calls().len() > asked + 3, "what may pass is tried again");
    }
    kms.break_with(None);
    for (key, said) in [
        ("alias/other", "another key than the one the data key was wrapped with"),
        ("alias/none", "does not exist there"),
    ] {
        stage.set("HOLDFAST_AWS_KEYS", key);
        stage.status().expect(3, &[said]);
    }
    // The ARN of the same key is the same key.
    stage.set("HOLDFAST_AWS_KEYS", &kms.arn(ALIAS));
    stage.status().expect(0, &["\"opens\":true"]);
    stage.set("HOLDFAST_KEYS_PROVIDER", "file");
    stage.set("HOLDFAST_AWS_KEYS", "");
    stage.status().expect(3, &["aws-kms with key alias/holdfast, which is not configured"]);
}

#[test]
fn expired_credentials_are_waited_for() {
    let kms = Kms::start(&[ALIAS]);
    let stage = stage(&kms.url(), ALIAS);
    stage.make_keys(1);
    kms.break_with(Some("ExpiredTokenException"));
    let loading = stage.loading();
    crate::stage::wait_for("a try", || kms.calls().iter().any(|call| !call.error.is_empty()));
    assert_eq!(loading.ready(), 503);
    kms.break_with(None);
    crate::stage::wait_for("readiness", || loading.ready() == 200);
}

#[test]
fn without_credentials_the_message_is_about_credentials() {
    let kms = Kms::start(&[ALIAS]);
    let mut stage = stage(&kms.url(), ALIAS);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        stage.set(name, "");
    }
    // Nothing of the user's own either.
    stage.set("HOME", "/nonexistent");
    stage.run(&["kek", "init"]).expect(3, &["no valid credentials"]);
}

#[test]
fn ten_thousand_keys_are_ready_after_one_call() {
    let kms = Kms::start(&[ALIAS]);
    let stage = stage(&kms.url(), ALIAS);
    stage.make_keys(10_000);
    let before = kms.count("Decrypt");
    let begun = Instant::now();
    let server = stage.serves(10_000);
    println!("10 000 keys sealed under a data key of AWS KMS (fake): ready in {:.2} s", begun.elapsed().as_secs_f64());
    assert_eq!(kms.count("Decrypt"), before + 1);
    let (status, _) = server.stop();
    assert!(status.success());
}

#[test]
fn the_real_library_and_moto_agree() {
    let moto = Moto::start();
    let key = moto.create_key();
    let stage_of = || stage(&moto.url(), &key);
    suite::round_trip(&stage_of(), "aws-kms");
    suite::wrong_context_and_tampering(&stage_of(), &["refuses the wrapped data key"]);
    suite::rotation(&mut stage_of(), "aws-kms");
    let mut other = stage_of();
    other.make_keys(1);
    other.set("HOLDFAST_AWS_KEYS", &moto.create_key());
    // moto answers AccessDenied where the service answers IncorrectKey; refused it is in both cases.
    other.status().expect(3, &["aws-kms key"]);
}
