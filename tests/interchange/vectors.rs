//! The EIP-3076 test files through `holdfast slashing import` and the signing API.
//!
//! The files' public keys have no known secrets, so each distinct key of a file stands for an interop test
//! key, in the interchange (in the same spelling: letter case, with or without 0x) and in the attempts.
//! The files' chains stand for the test network in the same way: the case's own genesis validators root
//! becomes the network's, any other stays, and must be refused. Signing roots are computed, not taken, so an
//! attempt's `signing_root` is turned into the content of the message: equal roots there are equal messages
//! here. Imported roots never allow signing again under the minimal strategy, so they may differ.
//!
//! Compared with the minimal strategy's column, both ways. One rule is stricter than the column: nothing
//! beyond the clock is signed. Attempts that the column allows and that lie in the future of the test
//! network must be refused for that reason.

use std::collections::BTreeMap;

use holdfast_tests::auditor::Root;
use holdfast_tests::harness::Server;
use holdfast_tests::keys::{TestKey, verifies};
use holdfast_tests::vectors::{json_files, shared};
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{chain, entry, file, keys, run, write};

/// The test keys that stand for a file's keys.
struct Cast(BTreeMap<String, TestKey>);

fn plain(key: &str) -> String {
    key.trim_start_matches("0x").to_ascii_lowercase()
}

impl Cast {
    fn of(case: &Value) -> Self {
        let mut named = std::collections::BTreeSet::new();
        for step in case["steps"].as_array().expect("steps") {
            for list in [&step["interchange"]["data"], &step["blocks"], &step["attestations"]] {
                for one in list.as_array().into_iter().flatten() {
                    named.insert(plain(one["pubkey"].as_str().expect("a public key")));
                }
            }
        }
        Self(named.into_iter().zip(0..).map(|(name, index)| (name, TestKey::interop(index))).collect())
    }

    fn actor(&self, key: &Value) -> &TestKey {
        &self.0[&plain(key.as_str().expect("a public key"))]
    }

    /// The same file with test keys and the test network.
    fn rewritten(&self, interchange: &Value, own_chain: &Value) -> Value {
        let mut file = interchange.clone();
        if file["metadata"]["genesis_validators_root"] == *own_chain {
            file["metadata"]["genesis_validators_root"] = chain().into();
        }
        for one in file["data"].as_array_mut().into_iter().flatten() {
            let spelling = one["pubkey"].as_str().expect("a public key").to_owned();
            let digits = &self.actor(&one["pubkey"]).public[2..];
            let upper = spelling.trim_start_matches("0x").chars().any(|digit| digit.is_ascii_uppercase());
            let digits = if upper { digits.to_uppercase() } else { digits.to_owned() };
            one["pubkey"] = if spelling.starts_with("0x") { format!("0x{digits}") } else { digits }.into();
        }
        file
    }
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

fn seed(root: &Value) -> u64 {
    let digest: [u8; 32] = Sha256::digest(root.as_str().expect("a root")).into();
    u64::from_le_bytes(digest[..8].try_into().expect("8 bytes"))
}

#[derive(Default, Debug)]
struct Counted {
    files: usize,
    imports: usize,
    signed: usize,
    refused: usize,
    in_future: usize,
}

/// Tries one message; the answer must be what the column says.
fn attempt(server: &Server, key: &TestKey, message: (Value, Root), column: bool, place: &str, counted: &mut Counted) {
    let (body, root) = message;
    let answer = server.sign(&key.public, &body);
    if answer.status == 200 {
        assert!(column, "{place}: signed, and must not be");
        let signature = answer.json()["signature"].as_str().expect("a signature").to_owned();
        assert!(verifies(&key.public, &root, &signature), "{place}: a signature over something else");
        counted.signed += 1;
        return;
    }
    assert_eq!(answer.status, 412, "{place}: {}", answer.text());
    counted.refused += 1;
    if column {
        let reason = answer.reason();
        assert!(reason == "slot_in_future" || reason == "target_in_future", "{place}: refused for {reason}");
        counted.in_future += 1;
    }
}

fn play(name: &str, case: &Value, world: &dyn Fn(u64) -> World, counted: &mut Counted) {
    let cast = Cast::of(case);
    // A file may name no key at all.
    let world = world(u64::try_from(cast.0.len().max(1)).expect("few keys"));
    counted.files += 1;
    for (index, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let place = format!("{name}, step {index}");
        let before = keys(&world);
        let text = cast.rewritten(&step["interchange"], &case["genesis_validators_root"]).to_string();
        let path = write(&world, "interchange.json", &text);
        run(&world, &["slashing", "import", "--from", &path, "--dry-run"]);
        assert_eq!(keys(&world), before, "{place}: a dry run changed something");
        let imported = run(&world, &["slashing", "import", "--from", &path]);
        if step["should_succeed"] == true {
            imported.expect(0, &["totals"]);
            counted.imports += 1;
        } else {
            imported.expect(1, &["nothing was imported"]);
            assert_eq!(keys(&world), before, "{place}: a refused import changed something");
        }
        let server = world.server().start();
        server.wait_ready();
        for (number_of, one) in step["blocks"].as_array().expect("blocks").iter().enumerate() {
            let message = CHAIN.block(number(&one["slot"]), seed(&one["signing_root"]));
            let place = format!("{place}, block {number_of}");
            attempt(&server, cast.actor(&one["pubkey"]), message, one["should_succeed"] == true, &place, counted);
        }
        for (number_of, one) in step["attestations"].as_array().expect("attestations").iter().enumerate() {
            let (source, target) = (number(&one["source_epoch"]), number(&one["target_epoch"]));
            let message =
                CHAIN.attestation(target.saturating_mul(SLOTS_PER_EPOCH), source, target, seed(&one["signing_root"]));
            let place = format!("{place}, attestation {number_of}");
            attempt(&server, cast.actor(&one["pubkey"]), message, one["should_succeed"] == true, &place, counted);
        }
        let (status, log) = server.stop();
        assert!(status.success(), "{place}: {log}");
    }
}

/// A case of our own, so that this test means something without the published files.
fn own_case() -> Value {
    let key = format!("0x{}", "ab".repeat(48));
    let root = |byte: &str| format!("0x{}", byte.repeat(32));
    let block = |slot: u64, content: &str, good: bool| json!({ "pubkey": key, "slot": slot.to_string(), "signing_root": root(content), "should_succeed": good });
    let vote = |source: u64, target: u64, good: bool| {
        json!({ "pubkey": key, "source_epoch": source.to_string(), "target_epoch": target.to_string(),
                "signing_root": root("cc"), "should_succeed": good })
    };
    let mut second = file(&json!([entry(&key.to_uppercase()[2..], 20, 3, 9)]));
    second["metadata"]["genesis_validators_root"] = root("01").into();
    let mut first = file(&json!([entry(&key, 10, 2, 5)]));
    first["metadata"]["genesis_validators_root"] = root("01").into();
    let mut foreign = file(&json!([entry(&key, 99, 99, 99)]));
    foreign["metadata"]["genesis_validators_root"] = root("02").into();
    json!({
        "genesis_validators_root": root("01"),
        "steps": [
            { "should_succeed": true, "interchange": first,
              "blocks": [block(10, "aa", false), block(11, "aa", true), block(11, "aa", true), block(11, "bb", false)],
              "attestations": [vote(1, 6, false), vote(2, 5, false), vote(2, 6, true)] },
            { "should_succeed": false, "interchange": foreign, "blocks": [block(12, "aa", true)], "attestations": [] },
            { "should_succeed": true, "interchange": second,
              "blocks": [block(20, "aa", false), block(21, "aa", true)],
              "attestations": [vote(2, 10, false), vote(3, 9, false), vote(3, 10, true)] },
        ],
    })
}

/// Plays every case there is, each in a world of its own with as many keys as it names.
pub(crate) fn play_all(world: &dyn Fn(u64) -> World) {
    let mut counted = Counted::default();
    play("own case", &own_case(), world, &mut counted);
    if let Some(folder) = shared() {
        for (name, least) in [("eip-3076", 25), ("eip-3076-extra", 29)] {
            let mut cases = json_files(&folder.join(name));
            cases.retain(|(name, _)| name != "schema");
            assert!(cases.len() >= least, "{name} has {} files, {least} or more were expected", cases.len());
            for (name, case) in &cases {
                play(name, case, world, &mut counted);
            }
        }
    }
    println!("{counted:?}");
    assert!(counted.signed > 0 && counted.refused > 0, "{counted:?}");
}

#[test]
fn every_file_is_imported_and_judged_as_the_minimal_column_says() {
    play_all(&World::new);
}
