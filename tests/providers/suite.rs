//! What every provider does, whatever is behind it. One function for each property; a provider's module calls them with
//! its own stage and its own ways to break it.

use rusqlite::params;

use crate::stage::{Stage, signs, wait_for};

/// Made, used over a restart, and described; nothing but a wrapped key is on disk.
pub(crate) fn round_trip(stage: &Stage, provider: &str) {
    stage.make_keys(3);
    assert!(!stage.world.data_dir().join("kek").exists(), "a key file was made beside the provider");
    let status = stage.status().expect(0, &["\"opens\":true", provider]);
    assert_eq!(status.lines()[0]["provider"], provider);
    let first = stage.serves(3);
    let log = first.stop().1;
    assert!(!log.contains("panicked"), "{log}");
    stage.serves(3);
    stage.run(&["--json", "kek", "init"]).expect(1, &["there is a data key already"]);
    stage.run(&["--json", "doctor"]).expect(0, &["3 stored, all open"]);
}

/// A wrapped data key of another number, and one with any byte changed, does not open; nothing is lost by trying.
pub(crate) fn wrong_context_and_tampering(stage: &Stage, said: &[&str]) {
    stage.make_keys(1);
    let wrapped = stage.wrapped();
    stage.database().execute("UPDATE data_keys SET id = 2", params![]).expect("the row is changed");
    let refused = stage.status();
    assert_ne!(refused.code, 0, "{}", refused.text());
    assert!(said.iter().any(|said| refused.text().contains(said)), "none of {said:?} in {}", refused.text());
    stage.database().execute("UPDATE data_keys SET id = 1", params![]).expect("the row is changed");
    // The ends, and places in the name, the ciphertext, the fingerprints and the seal.
    let last = wrapped.len() - 1;
    for place in [0, 2, wrapped.len() / 4, wrapped.len() / 2, last - 70, last - 55, last - 20, last] {
        let mut changed = wrapped.clone();
        changed[place] ^= 1;
        stage.set_wrapped(&changed);
        let refused = stage.status();
        assert_ne!(refused.code, 0, "byte {place}: {}", refused.text());
    }
    for cut in [0, 1, wrapped.len() / 2, last] {
        stage.set_wrapped(&wrapped[..cut]);
        let refused = stage.status();
        assert_ne!(refused.code, 0, "{cut} bytes: {}", refused.text());
    }
    stage.set_wrapped(&wrapped);
    stage.serves(1);
}

/// While the key is disabled a command says so and a server does not start; enabled again, all is as before.
pub(crate) fn disabled_key(stage: &Stage, disable: impl Fn(), enable: impl Fn(), said: &str) {
    stage.make_keys(2);
    disable();
    let refused = stage.status();
    refused.expect(3, &[said]);
    let failed = stage.server().try_start().map(|_| ()).expect_err("it must not start");
    assert!(failed.contains(said), "{failed}");
    enable();
    stage.serves(2);
}

/// A server that starts while the provider is away answers 503 and comes up by itself; one that runs goes on signing.
pub(crate) fn outage(stage: &Stage, leave: impl Fn(), come_back: impl Fn()) {
    stage.make_keys(2);
    leave();
    let mut loading = stage.loading();
    wait_for("a try that failed", || {
        let text = loading.metrics();
        let line = text.lines().find(|line| line.starts_with("holdfast_provider_load_retries_total ")).expect("a line");
        !line.ends_with(" 0")
    });
    assert_eq!(loading.ready(), 503);
    let answer = holdfast_tests::http::once(loading.http, "GET", "/upcheck", &[], b"").expect("an answer");
    assert_eq!((answer.status, answer.reason().as_str()), (503, "keys_loading"), "{}", answer.text());
    assert_eq!(loading.ended(), None);
    come_back();
    wait_for("readiness", || loading.ready() == 200);
    assert_eq!(signs(loading.http), 2);

    leave();
    let reload = holdfast_tests::http::once(loading.http, "POST", "/reload", &[], b"").expect("an answer");
    assert!(reload.status < 300, "{}", reload.text());
    let state = || holdfast_tests::http::once(loading.http, "GET", "/reload", &[], b"").expect("an answer").text();
    wait_for("the end of the reload", || !state().contains("running"));
    assert!(state().contains("failed"), "{}", state());
    assert_eq!(signs(loading.http), 2, "an outage never takes keys away");
    come_back();
}

/// From the key file to the provider and back: the same keys sign, not a byte of them is changed, and what was
/// dropped no longer opens them.
pub(crate) fn rotation(stage: &mut Stage, provider: &str) {
    let remote = stage.environment.clone();
    stage.set("HOLDFAST_KEYS_PROVIDER", "file");
    stage.make_keys(2);
    let sealed = stage.sealed();
    let before = stage.wrapped();
    stage.environment = remote;
    stage.run(&["--json", "kek", "rotate"]).expect(0, &["\"provider_before\":\"file\"", provider]);
    assert_ne!(stage.wrapped(), before);
    assert_eq!(stage.sealed(), sealed, "rotation touches no key");
    let key_file = stage.world.data_dir().join("kek/file.key");
    std::fs::rename(&key_file, stage.world.path().join("file.key")).expect("the key file is moved away");
    stage.serves(2);
    // Again with the same provider: another wrapping, the same keys.
    let once = stage.wrapped();
    stage.run(&["--json", "kek", "rotate"]).expect(0, &[provider]);
    assert_ne!(stage.wrapped(), once);
    stage.serves(2);
    // And back, with a key file made anew.
    stage.run(&["--json", "kek", "rotate", "--provider", "file"]).expect(0, &["\"provider\":\"file\""]);
    assert_eq!(stage.sealed(), sealed);
    assert!(key_file.is_file());
    stage.serves(2);
}

/// A provider that does not answer is an error within its time, never a hang.
pub(crate) fn slow(stage: &Stage, hang: impl Fn(), come_back: impl Fn()) {
    stage.make_keys(1);
    hang();
    let begun = std::time::Instant::now();
    stage.status().expect(3, &["did not answer in time"]);
    assert!(begun.elapsed() < crate::stage::LIMIT, "{:?}", begun.elapsed());
    come_back();
    stage.serves(1);
}
