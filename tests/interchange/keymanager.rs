//! The Keymanager API end to end: who may, what comes in, what leaves, and that nothing leaks on the way.

use std::os::unix::fs::PermissionsExt;

use holdfast_tests::harness::Server;
use holdfast_tests::http::once;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, World};
use serde_json::{Value, json};

use crate::support::{Manager, entry, file, marks, statuses};

fn start(world: &World) -> Server {
    let server = world.server().start();
    server.wait_ready();
    server
}

fn vote(server: &Server, key: &str, source: u64, target: u64, seed: u64) -> u16 {
    server.sign(key, &CHAIN.attestation(target * 8, source, target, seed).0).status
}

#[test]
fn only_the_token_opens_and_guessing_is_slowed_down() {
    let world = World::new(1);
    let server = start(&world);
    let token = world.data_dir().join("keymanager-token");
    assert_eq!(std::fs::metadata(&token).expect("the token").permissions().mode() & 0o777, 0o600);
    let routes = [
        ("GET", "/eth/v1/keystores"),
        ("POST", "/eth/v1/keystores"),
        ("DELETE", "/eth/v1/keystores"),
        ("GET", "/eth/v1/remotekeys"),
        ("POST", "/eth/v1/validator/0xab/voluntary_exit"),
    ];
    for (method, path) in routes {
        let none = once(server.http_addr(), method, path, &[], b"{}").expect("answers");
        assert_eq!(none.status, 401, "{method} {path}: {}", none.text());
        assert!(none.json()["message"].is_string());
    }
    let wrong = [("Authorization", "Bearer 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")];
    let answer = once(server.http_addr(), "GET", "/eth/v1/keystores", &wrong, b"").expect("answers");
    assert_eq!(answer.status, 403);
    let many: Vec<u16> = (0..40)
        .map(|_| once(server.http_addr(), "GET", "/eth/v1/keystores", &wrong, b"").expect("answers").status)
        .collect();
    assert!(many.contains(&429), "{many:?}");
    assert_eq!(
        Manager::new(&world, &server).list(),
        [world.keys[0].public.clone()],
        "the right token is not locked out"
    );
    server.stop();
    let before = std::fs::read_to_string(&token).expect("the token");
    start(&world).stop();
    assert_eq!(std::fs::read_to_string(&token).expect("the token"), before, "the token outlives restarts");
    let server = world.server().env("HOLDFAST_KEYMANAGER_ENABLED", "false").start();
    assert_eq!(Manager::new(&world, &server).send("GET", "/eth/v1/keystores", "").status, 404);
}

#[test]
fn a_key_comes_in_signs_at_once_leaves_and_its_history_goes_along() {
    let world = World::new(0);
    let server = start(&world);
    let manager = Manager::new(&world, &server);
    let (one, two) = (TestKey::interop(0), TestKey::interop(1));
    let protection = file(&json!([entry(&one.public.to_uppercase().replace("0X", "0x"), 40, 6, 7)]));
    let (first, second, bad) = (one.keystore("pass one"), two.keystore("pass two"), TestKey::interop(2).keystore("x"));
    let answer = manager.import(
        &[(&first, "pass one"), (&bad, "wrong"), (&second, "pass two"), ("{}", ""), (&first, "pass one")],
        Some(&protection),
    );
    assert_eq!(statuses(&answer), ["imported", "error", "imported", "error", "duplicate"], "{}", answer.text());
    assert_eq!(manager.list(), {
        let mut keys = vec![one.public.clone(), two.public.clone()];
        keys.sort();
        keys
    });
    assert_eq!(vote(&server, &one.public, 6, 7, 1), 412, "its history is in force");
    assert_eq!(vote(&server, &one.public, 6, 8, 1), 200, "and it signs at once");
    assert_eq!(vote(&server, &two.public, 6, 8, 1), 412, "not in the file, so it starts at the present");
    assert_eq!(statuses(&manager.import(&[(&first, "pass one")], None)), ["duplicate"]);

    let unknown = TestKey::interop(9).public;
    let answer = manager.delete(&[&one.public, &unknown, &one.public]);
    assert_eq!(statuses(&answer), ["deleted", "not_found", "not_active"]);
    let history: Value = serde_json::from_str(answer.json()["slashing_protection"].as_str().expect("a text")).unwrap();
    assert_eq!(history["metadata"], protection["metadata"]);
    assert_eq!(history["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(history["data"][0]["signed_attestations"][0]["target_epoch"], "8");
    assert_eq!(vote(&server, &one.public, 8, 9, 1), 404, "gone at once");
    let again = manager.delete(&[&one.public]);
    assert_eq!(statuses(&again), ["not_active"], "the history can be had again");
    assert_eq!(again.json()["slashing_protection"], answer.json()["slashing_protection"]);

    let refused = manager.import(&[(&first, "pass one")], Some(&history));
    assert_eq!(statuses(&refused), ["error"], "a deleted key needs an explicit word");
    assert!(refused.text().contains("replace_tombstone"), "{}", refused.text());
    let body =
        json!({ "keystores": [first], "passwords": ["pass one"], "slashing_protection": protection.to_string() });
    let back = manager.send("POST", "/eth/v1/keystores?replace_tombstone=true", &body.to_string());
    assert_eq!(statuses(&back), ["imported"], "{}", back.text());
    assert_eq!(vote(&server, &one.public, 6, 8, 2), 412, "the tombstone's watermark is above the file's");
    assert_eq!(vote(&server, &one.public, 8, 9, 1), 200);
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
    for password in ["pass one", "pass two"] {
        assert!(!log.contains(password), "a password was logged");
    }
    assert_eq!(marks(&world, &one.public), (Some(40), Some(8), Some(9)));

    let server = start(&world);
    assert_eq!(Manager::new(&world, &server).list().len(), 2, "both survive a restart, the failed one does not appear");
    assert_eq!(vote(&server, &one.public, 9, 10, 1), 200);
    drop(server);
    let secret = hex::encode(one.secret.to_bytes());
    let database = std::fs::read(world.data_dir().join("holdfast.db")).expect("the database");
    for needle in [one.secret.to_bytes().as_slice(), secret.as_bytes(), b"pass one"] {
        assert!(!database.windows(needle.len()).any(|window| window == needle), "a secret is on disk");
    }
}

#[test]
fn a_history_for_a_key_that_is_here_is_taken_in_and_one_that_says_nothing_is_none() {
    let world = World::new(1);
    let server = start(&world);
    let manager = Manager::new(&world, &server);
    let held = &world.keys[0];
    assert_eq!(vote(&server, &held.public, 1, 2, 1), 200);
    let keystore = held.keystore("a password");
    let later = file(&json!([entry(&held.public, 40, 6, 7)]));
    let answer = manager.import(&[(&keystore, "nobody looks at it")], Some(&later));
    assert_eq!(statuses(&answer), ["duplicate"], "{}", answer.text());
    assert!(answer.text().contains("its history was taken in"), "{}", answer.text());
    assert_eq!(vote(&server, &held.public, 2, 7, 1), 412);
    assert_eq!(vote(&server, &held.public, 6, 8, 1), 200, "it is at work, so it is not fenced");
    for again in [Some(&later), None] {
        let answer = manager.import(&[(&keystore, "a password")], again);
        assert_eq!(statuses(&answer), ["duplicate"]);
        assert!(answer.text().contains("nothing was changed"), "{}", answer.text());
    }

    let named = TestKey::interop(5);
    let empty = file(&json!([{ "pubkey": named.public, "signed_blocks": [], "signed_attestations": [] }]));
    let answer = manager.import(&[(&named.keystore("a password"), "a password")], Some(&empty));
    assert_eq!(statuses(&answer), ["imported"], "{}", answer.text());
    assert_eq!(vote(&server, &named.public, 6, 8, 1), 412, "nobody said that it never signed");
    server.stop();
    assert!(marks(&world, &named.public).0.is_some_and(|slot| slot > 1_000_000), "it starts at the present");
    assert_eq!(marks(&world, &held.public), (Some(40), Some(6), Some(8)));
}

#[test]
fn bad_requests_are_refused_as_a_whole_and_do_not_repeat_passwords() {
    let world = World::new(1);
    let server = start(&world);
    let manager = Manager::new(&world, &server);
    let keystore = TestKey::interop(3).keystore("hunter2");
    let other_chain = json!({ "metadata": { "interchange_format_version": "5", "genesis_validators_root": format!("0x{}", "11".repeat(32)) }, "data": [] });
    let body = |protection: &str| {
        json!({ "keystores": [keystore], "passwords": ["hunter2"], "slashing_protection": protection }).to_string()
    };
    let bad = [
        ("POST", String::new()),
        ("POST", "hunter2".to_owned()),
        ("POST", "{\"keystores\": [], \"passwords\": \"hunter2\"}".to_owned()),
        ("POST", json!({ "keystores": [keystore], "passwords": ["hunter2", "hunter2"] }).to_string()),
        ("POST", json!({ "keystores": [{}], "passwords": ["hunter2"] }).to_string()),
        ("POST", body("{")),
        ("POST", body(&other_chain.to_string())),
        ("POST", body(&file(&json!([])).to_string().replace("\"5\"", "\"4\""))),
        ("POST", body(&file(&json!([entry("0x12", 1, 1, 1)])).to_string())),
        ("DELETE", String::new()),
        ("DELETE", "[]".to_owned()),
        ("DELETE", json!({ "pubkeys": ["hunter2"] }).to_string()),
        ("DELETE", json!({ "pubkeys": "all" }).to_string()),
    ];
    for (method, text) in &bad {
        let answer = manager.send(method, "/eth/v1/keystores", text);
        assert_eq!(answer.status, 400, "{method} {text}: {}", answer.text());
        assert!(answer.json()["message"].is_string());
        assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    }
    let mut costly: Value = serde_json::from_str(&keystore).expect("a keystore");
    let salt = costly["crypto"]["kdf"]["params"]["salt"].clone();
    costly["crypto"]["kdf"]["function"] = "scrypt".into();
    costly["crypto"]["kdf"]["params"] = json!({ "dklen": 32, "n": 1_u64 << 40, "r": 8, "p": 1, "salt": salt });
    let mut lying: Value = serde_json::from_str(&keystore).expect("a keystore");
    lying["pubkey"] = TestKey::interop(4).public[2..].into();
    let (costly, lying) = (costly.to_string(), lying.to_string());
    let huge = "x".repeat(100_000);
    let answer = manager.import(&[(&costly, "hunter2"), (&lying, "hunter2"), (&huge, "hunter2"), ("[]", "")], None);
    assert_eq!(statuses(&answer), ["error"; 4], "{}", answer.text());
    assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    let deep = format!("{{\"keystores\": {}", "[".repeat(100_000));
    assert_eq!(manager.send("POST", "/eth/v1/keystores", &deep).status, 400);
    assert_eq!(statuses(&manager.import(&[], None)), [] as [&str; 0]);
    let nothing = manager.delete(&[]);
    assert_eq!(statuses(&nothing), [] as [&str; 0]);
    assert_eq!(manager.send("PUT", "/eth/v1/keystores", "").status, 405);
    assert_eq!(manager.list(), [world.keys[0].public.clone()]);
    assert_eq!(vote(&server, &world.keys[0].public, 1, 2, 1), 200, "signing goes on");
    assert!(!server.log().contains("hunter2"));
}

#[test]
fn what_a_signer_does_not_have_is_said() {
    let world = World::new(1);
    let server = start(&world);
    let manager = Manager::new(&world, &server);
    assert_eq!(manager.send("GET", "/eth/v1/remotekeys", "").json(), json!({ "data": [] }));
    let key = &world.keys[0].public;
    let body = json!({ "remote_keys": [{ "pubkey": key, "url": "http://x" }, { "pubkey": key }] }).to_string();
    let added = manager.send("POST", "/eth/v1/remotekeys", &body);
    assert_eq!(statuses(&added), ["error", "error"]);
    assert!(added.text().contains("keystore"), "{}", added.text());
    let removed = manager.send("DELETE", "/eth/v1/remotekeys", &json!({ "pubkeys": [key] }).to_string());
    assert_eq!(statuses(&removed), ["not_found"]);
    for what in ["feerecipient", "gas_limit", "graffiti"] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = manager.send(method, &format!("/eth/v1/validator/{key}/{what}"), "{}");
            assert_eq!((answer.status, answer.reason().as_str()), (501, "not_supported"), "{method} {what}");
            assert!(answer.text().contains("validator client"), "{}", answer.text());
        }
    }
}

#[test]
fn deleting_under_load_lets_nothing_out_that_the_history_does_not_cover() {
    let world = World::new(1);
    let server = start(&world);
    let manager = Manager::new(&world, &server);
    let key = world.keys[0].public.clone();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let signing = std::thread::scope(|scope| {
        let (server, key) = (&server, key.as_str());
        let signing = scope.spawn(move || {
            let mut highest = 0;
            for target in 2.. {
                match vote(server, key, 1, target, 1) {
                    200 => highest = target,
                    404 => break,
                    status => assert_eq!(status, 412, "between the commit and the removal"),
                }
                if target == 5 {
                    begun.send(()).expect("somebody listens");
                }
            }
            highest
        });
        has_begun.recv().expect("it signs");
        let answer = manager.delete(&[key]);
        assert_eq!(statuses(&answer), ["deleted"]);
        let history: Value =
            serde_json::from_str(answer.json()["slashing_protection"].as_str().expect("a text")).expect("JSON");
        let exported = &history["data"][0]["signed_attestations"][0]["target_epoch"];
        let exported: u64 = exported.as_str().and_then(|text| text.parse().ok()).expect("a number");
        (signing.join().expect("it ends"), exported)
    });
    assert!(signing.0 >= 5 && signing.0 <= signing.1, "released up to {}, exported {}", signing.0, signing.1);
}
