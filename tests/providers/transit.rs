//! The transit engine of HashiCorp Vault and OpenBao, against a fake written from their API documents.

use std::os::unix::fs::PermissionsExt as _;

use holdfast_tests::elsewhere::server::Mood;
use holdfast_tests::elsewhere::transit::{APPROLE, KUBERNETES, POWERLESS_TOKEN, TOKEN, Transit};

use crate::stage::{Stage, wait_for};
use crate::suite;

const KEY: &str = "holdfast";

fn stage(transit: &Transit) -> Stage {
    let mut stage = Stage::new(&[
        ("HOLDFAST_KEYS_PROVIDER", "vault-transit"),
        ("HOLDFAST_TRANSIT_ADDRESS", &transit.url()),
        ("HOLDFAST_TRANSIT_KEY", KEY),
    ]);
    secret(&mut stage, TOKEN);
    stage
}

fn secret(stage: &mut Stage, text: &str) {
    let path = stage.world.path().join("secret");
    std::fs::write(&path, format!("{text}\n")).expect("the secret file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    stage.set("HOLDFAST_TRANSIT_SECRET_FILE", &path.display().to_string());
}

#[test]
fn round_trip() {
    let transit = Transit::start(&[KEY]);
    suite::round_trip(&stage(&transit), "vault-transit");
}

#[test]
fn wrong_context_and_tampering_are_refused() {
    let transit = Transit::start(&[KEY]);
    suite::wrong_context_and_tampering(&stage(&transit), &["refuses the wrapped data key"]);
}

#[test]
fn a_key_version_that_no_longer_decrypts_is_named() {
    let transit = Transit::start(&[KEY]);
    let (disable, enable) =
        (|| transit.set_min_decryption_version(KEY, 2), || transit.set_min_decryption_version(KEY, 1));
    suite::disabled_key(&stage(&transit), disable, enable, "disallowed by policy");
}

#[test]
fn an_outage_is_waited_for_at_start_and_harmless_later() {
    let transit = Transit::start(&[KEY]);
    suite::outage(&stage(&transit), || transit.set_mood(Mood::Away), || transit.set_mood(Mood::Works));
    let transit = Transit::start(&[KEY]);
    suite::outage(&stage(&transit), || transit.set_sealed(true), || transit.set_sealed(false));
}

#[test]
fn rotation_keeps_the_keys() {
    let transit = Transit::start(&[KEY]);
    suite::rotation(&mut stage(&transit), "vault-transit");
}

#[test]
fn a_slow_server_is_an_error_in_time() {
    let transit = Transit::start(&[KEY]);
    let mut stage = stage(&transit);
    stage.set("HOLDFAST_TRANSIT_TIMEOUT_MS", "1500");
    suite::slow(&stage, || transit.set_mood(Mood::Hangs), || transit.set_mood(Mood::Works));
}

#[test]
fn roles_log_in_anew_for_each_call() {
    for (auth, role, credential) in [("approle", APPROLE.0, APPROLE.1), ("kubernetes", KUBERNETES.0, KUBERNETES.1)] {
        let transit = Transit::start(&[KEY]);
        let mut stage = stage(&transit);
        stage.set("HOLDFAST_TRANSIT_AUTH", auth);
        stage.run(&["kek", "init"]).expect(3, &["transit.role is not given"]);
        stage.set("HOLDFAST_TRANSIT_ROLE", role);
        secret(&mut stage, credential);
        stage.make_keys(1);
        // Tokens of earlier logins are no longer needed.
        transit.revoke_tokens();
        stage.serves(1);
        let logins = transit.calls().iter().filter(|(path, _)| *path == format!("/v1/auth/{auth}/login")).count();
        assert!(logins >= 3, "{auth}: {:?}", transit.calls());
        secret(&mut stage, "wrong");
        stage.status().expect(3, &["no valid credentials"]);
    }
}

#[test]
fn a_token_is_renewed_when_half_of_its_time_is_over() {
    let transit = Transit::start(&[KEY]);
    let stage = stage(&transit);
    stage.make_keys(1);
    let renewals = || transit.calls().iter().filter(|(path, _)| path == "/v1/auth/token/renew-self").count();
    transit.set_left(3000);
    stage.status().expect(0, &["\"opens\":true"]);
    assert_eq!(renewals(), 0, "it has most of its time left");
    transit.set_left(1000);
    stage.status().expect(0, &["\"opens\":true"]);
    assert!(renewals() >= 1);
    let before = renewals();
    stage.serves(1);
    assert_eq!(renewals(), before, "a renewed token is left alone");
}

#[test]
fn what_the_server_says_is_told_with_what_to_do() {
    let transit = Transit::start(&[KEY]);
    let mut stage = stage(&transit);
    stage.make_keys(1);
    secret(&mut stage, POWERLESS_TOKEN);
    stage.status().expect(3, &["may not be used with these credentials", "permission denied"]);
    secret(&mut stage, "s.revoked");
    stage.status().expect(3, &["no valid credentials"]);
    let path = stage.world.path().join("secret");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    stage.status().expect(3, &["chmod 600"]);
    secret(&mut stage, TOKEN);
    transit.set_namespace("team-a");
    stage.status().expect(3, &["does not exist there", "no handler for route"]);
    stage.set("HOLDFAST_TRANSIT_NAMESPACE", "team-a");
    stage.status().expect(0, &["\"opens\":true"]);
    transit.delete(KEY);
    stage.status().expect(3, &["encryption key not found"]);
    stage.set("HOLDFAST_TRANSIT_ADDRESS", "ftp://nowhere");
    stage.status().expect(3, &["it must begin with https://"]);
    stage.set("HOLDFAST_TRANSIT_ADDRESS", "");
    stage.status().expect(2, &["transit.address"]);
}

#[test]
fn a_server_with_a_revoked_token_waits_for_another() {
    let transit = Transit::start(&[KEY]);
    let mut stage = stage(&transit);
    stage.make_keys(1);
    secret(&mut stage, "s.expired");
    let loading = stage.loading();
    wait_for("a try", || transit.calls().iter().any(|(_, status)| *status == 403));
    assert_eq!(loading.ready(), 503);
    secret(&mut stage, TOKEN);
    wait_for("readiness", || loading.ready() == 200);
}
