//! Importing, listing, deleting: every kind of bad keystore, and that a bad one costs only itself.

use std::os::unix::fs::PermissionsExt;

use holdfast_tests::keys::TestKey;
use holdfast_tests::world::World;
use serde_json::Value;

use holdfast_tests::finished::{Finished, run};

/// A world without keys and one good keystore in its folder.
fn world_with_file(content: &str, password: &str) -> World {
    let world = World::new(0);
    std::fs::write(world.path().join("keys/key.json"), content).expect("keystore");
    std::fs::write(world.path().join("password.txt"), password).expect("password");
    world
}

fn import(world: &World, extra: &[&str]) -> Finished {
    run(&world.import_arguments(extra))
}

fn result_of(finished: &Finished, key: &str) -> Value {
    finished
        .lines()
        .into_iter()
        .find(|line| line["pubkey"].as_str().is_some_and(|one| one.eq_ignore_ascii_case(key)))
        .unwrap_or_else(|| panic!("no result for {key} in {}", finished.text()))
}

#[test]
fn a_wrong_password_is_named_and_nothing_is_imported() {
    let key = TestKey::interop(0);
    let world = world_with_file(&key.keystore("right"), "wrong");
    import(&world, &[]).expect(1, &["password", "key.json"]);
    let list = run(&world.with(&["--json", "keys", "list"]));
    assert!(!list.text().contains(&key.public), "{}", list.text());
}

#[test]
fn a_password_that_others_can_read_is_warned_of_and_taken() {
    let key = TestKey::interop(0);
    let world = world_with_file(&key.keystore("p"), "p");
    let password = world.path().join("password.txt");
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    // As a person types it: notes are for people.
    let typed: Vec<_> = world.import_arguments(&[]).into_iter().filter(|one| one != "--json").collect();
    run(&typed).expect(0, &["1 imported", "Warning: ", "mode 0644", "chmod 600"]);
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let again = run(&typed).expect(0, &["1 held already"]);
    assert!(!again.text().contains("Warning"), "{}", again.text());
}

#[test]
fn damaged_keystores_are_refused_with_their_name() {
    let good = TestKey::interop(0).keystore("p");
    let mut value: Value = serde_json::from_str(&good).expect("JSON");
    value["crypto"]["checksum"]["message"] = "00".repeat(32).into();
    let checksum = value.to_string();
    for content in [&good[..good.len() / 2], "", "[]", "{\"version\": 3}", &checksum] {
        let world = world_with_file(content, "p");
        let finished = import(&world, &[]);
        assert_eq!(finished.code, 1, "{content}: {}", finished.text());
        assert!(finished.text().contains("key.json"), "{content}: {}", finished.text());
    }
}

#[test]
fn a_keystore_whose_public_key_lies_is_refused() {
    let mut value: Value = serde_json::from_str(&TestKey::interop(0).keystore("p")).expect("JSON");
    let claimed = TestKey::interop(1).public;
    value["pubkey"] = claimed[2..].into();
    let world = world_with_file(&value.to_string(), "p");
    import(&world, &[]).expect(1, &["key.json", &claimed[2..18]]);
    let list = run(&world.with(&["--json", "keys", "list"]));
    assert!(!list.text().contains(&claimed), "a lying keystore was imported");
}

#[test]
fn one_bad_keystore_does_not_stop_the_others() {
    let good = TestKey::interop(0);
    let world = world_with_file("{", "p");
    std::fs::write(world.path().join("keys/good.json"), good.keystore("p")).expect("keystore");
    let finished = import(&world, &["--watermark", "never-signed"]).expect(1, &["key.json"]);
    assert_eq!(result_of(&finished, &good.public)["status"], "imported");
    let server = world.server().start();
    server.wait_ready();
    assert!(server.get("/api/v1/eth2/publicKeys").text().contains(&good.public));
}

#[test]
fn a_duplicate_is_reported_and_changes_nothing() {
    let world = World::new(1);
    let before = run(&world.with(&["--json", "slashing", "status"])).expect(0, &[]).stdout;
    let finished = import(&world, &["--watermark", "now"]).expect(0, &[]);
    assert_eq!(result_of(&finished, &world.keys[0].public)["status"], "duplicate");
    let after = run(&world.with(&["--json", "slashing", "status"])).expect(0, &[]).stdout;
    let watermarks = |text: &str| serde_json::from_str::<Value>(text).map(|value| value["keys"].clone()).ok();
    assert_eq!(watermarks(&before), watermarks(&after));
}

#[test]
fn a_deleted_key_comes_back_only_when_told_and_keeps_its_watermark() {
    let world = World::new(1);
    let key = world.keys[0].public.clone();
    let server = world.server().start();
    server.wait_ready();
    let chain = holdfast_tests::world::CHAIN;
    let (body, _) = chain.attestation(800, 99, 100, 1);
    assert_eq!(server.sign(&key, &body).status, 200);
    server.stop();
    run(&world.with(&["keys", "delete", "--yes", &key])).expect(0, &[]);
    let finished = import(&world, &["--watermark", "never-signed"]).expect(1, &["--replace-tombstone"]);
    assert_eq!(result_of(&finished, &key)["status"], "tombstoned");
    import(&world, &["--watermark", "never-signed", "--replace-tombstone"]).expect(1, &["never-signed"]);
    import(&world, &["--replace-tombstone"]).expect(0, &["imported"]);
    let server = world.server().start();
    server.wait_ready();
    let (conflict, _) = chain.attestation(800, 99, 100, 2);
    assert_eq!(server.sign(&key, &conflict).status, 412, "the tombstone's watermark came back with the key");
}

#[test]
fn deleting_asks_first_and_a_missing_key_is_named() {
    let world = World::new(1);
    let key = world.keys[0].public.clone();
    let finished = run(&world.with(&["keys", "delete", &key]));
    assert_ne!(finished.code, 0, "without a terminal and without --yes nothing is deleted: {}", finished.text());
    assert!(finished.text().contains("--yes"), "{}", finished.text());
    let other = TestKey::interop(40).public;
    run(&world.with(&["keys", "delete", "--yes", &other])).expect(1, &[&other[..18]]);
    run(&world.with(&["keys", "show", &other])).expect(1, &[&other[..18]]);
    run(&world.with(&["--json", "keys", "list"])).expect(0, &[&key]);
}

#[test]
fn nothing_to_import_is_an_error_that_says_where_it_looked() {
    let world = World::new(0);
    import(&world, &[]).expect(2, &["keys"]);
    run(&world.with(&["keys", "import", "--from", "does/not/exist"])).expect(2, &["does/not/exist"]);
}

#[test]
fn a_hostile_keystore_is_refused_without_running_its_key_derivation() {
    let mut value: Value = serde_json::from_str(&TestKey::interop(0).keystore("p")).expect("JSON");
    let salt = value["crypto"]["kdf"]["params"]["salt"].clone();
    value["crypto"]["kdf"]["function"] = "scrypt".into();
    value["crypto"]["kdf"]["params"] = serde_json::json!({"dklen": 32, "n": 1_u64 << 40, "r": 8, "p": 1, "salt": salt});
    let world = world_with_file(&value.to_string(), "p");
    import(&world, &[]).expect(1, &["key.json"]);
}

#[test]
fn the_passphrase_provider_needs_its_passphrase_and_only_from_a_file_or_prompt() {
    let world = World::new(0);
    let private_file = |name: &str, content: &str| {
        let path = world.path().join(name);
        std::fs::write(&path, content).expect("passphrase file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        path.display().to_string()
    };
    let passphrase = private_file("passphrase.txt", "a long passphrase");
    run(&world.with(&["kek", "init", "--provider", "passphrase", "--passphrase-file", &passphrase])).expect(0, &[]);
    std::fs::write(world.path().join("keys/key.json"), TestKey::interop(0).keystore("correct horse"))
        .expect("keystore");
    let environment = |path: &str| {
        let mut command = holdfast_tests::harness::command();
        command.args(world.import_arguments(&["--watermark", "never-signed"]));
        command.env("HOLDFAST_KEYS_PASSPHRASE_FILE", path).env("HOLDFAST_KEYS_PROVIDER", "passphrase");
        Finished::from(command.output().expect("the binary starts"))
    };
    let refused = environment(&private_file("wrong.txt", "not it"));
    assert_eq!(refused.code, 3, "{}", refused.text());
    assert!(refused.text().contains("passphrase") && !refused.text().contains("not it"), "{}", refused.text());
    environment(&passphrase).expect(0, &["imported"]);
    let server = world
        .server()
        .env("HOLDFAST_KEYS_PASSPHRASE_FILE", &passphrase)
        .env("HOLDFAST_KEYS_PROVIDER", "passphrase")
        .start();
    server.wait_ready();
    let (body, _) = holdfast_tests::world::CHAIN.randao(9);
    assert_eq!(server.sign(&TestKey::interop(0).public, &body).status, 200);
}

#[test]
fn generated_keys_sign_and_no_plaintext_is_on_disk() {
    let world = World::new(1);
    run(&world.with(&["keys", "generate", "--count", "3"])).expect(0, &[]);
    let server = world.server().start();
    server.wait_ready();
    let keys = server.get("/api/v1/eth2/publicKeys").json();
    assert_eq!(keys.as_array().map(Vec::len), Some(4));
    let (body, _) = holdfast_tests::world::CHAIN.attestation(800, 99, 100, 1);
    for key in keys.as_array().expect("a list") {
        assert_eq!(server.sign(key.as_str().expect("a key"), &body).status, 200);
    }
    server.stop();
    let secret = world.keys[0].secret.to_bytes();
    let mut reversed = secret;
    reversed.reverse();
    let hex = hex::encode(secret);
    for entry in walk(&world.data_dir()) {
        let bytes = std::fs::read(&entry).expect("a file of the data directory");
        for needle in [&secret[..], &reversed[..], hex.as_bytes(), b"correct horse"] {
            assert!(
                !bytes.windows(needle.len()).any(|window| window == needle),
                "a plaintext secret is in {}",
                entry.display()
            );
        }
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the data directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else if path.is_file() {
            files.push(path);
        }
    }
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}
