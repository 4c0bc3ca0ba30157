//! `holdfast migrate` to a server on another machine, where people approve: histories come in at once, a key only with their
//! approval, switched off, and it signs once somebody confirmed; nothing is made on the machine of the command.

use holdfast_tests::keys::TestKey;
use holdfast_tests::world::CHAIN;
use serde_json::json;

use crate::admin::{address, from_elsewhere, server};
use crate::approvals::{approve, chain, configured};
use crate::stage::Stage;

const DONE: &str = "old-signer-stopped,keys-removed";

#[test]
fn keys_move_to_a_server_elsewhere_with_the_approval_of_several() {
    let stage = Stage::new(1);
    stage.documented("revocations");
    stage.documented_in("docs/admin.md", "administrator");
    let server = server(&stage).global("--config").global(configured(&stage)).start();
    server.wait_ready();
    let at = address(&server);
    // Teku's directories, and what it exported.
    let key = TestKey::interop(70);
    for (folder, name, text) in [("keys", "a.json", key.keystore("pw")), ("passwords", "a.txt", "pw".to_owned())] {
        let folder = stage.files.join("teku").join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let root = format!("0x{}", hex::encode(holdfast_tests::world::GENESIS_VALIDATORS_ROOT));
    let histories = json!({
        "metadata": { "interchange_format_version": "5", "genesis_validators_root": root },
        "data": [{
            "pubkey": key.public, "signed_blocks": [{ "slot": "30" }],
            "signed_attestations": [{ "source_epoch": "2", "target_epoch": "3" }],
        }],
    });
    std::fs::write(stage.file("interchange.json"), histories.to_string()).expect("a file");
    let (from, histories, request) = (stage.file("teku"), stage.file("interchange.json"), stage.file("request.txt"));
    let chain = chain(&stage);
    let chain = chain.each_ref().map(String::as_str);
    let start = ["migrate", "teku", "--from", &from, "--interchange", &histories, "--watermark", "interchange"];
    let migrate = |who: &str, more: &[&str]| from_elsewhere(&stage, at, who, &[&chain[..], &start, more].concat());
    let sign = |slot: u64| {
        let answer = server.sign(&key.public, &CHAIN.block(slot, 1).0);
        (answer.status, if answer.status == 412 { answer.reason() } else { String::new() })
    };

    migrate("vc-1", &["--plan"]).expect(1, &["no administrator"]);
    migrate("alice", &["--plan"]).expect(0, &["1 keys move: 1 come in", "Nothing was changed"]);
    migrate("alice", &["--move", "1", "--request-to", &request]).expect(1, &["2 of ann, ben", &request]);
    // What it signed is here, and the key is not.
    from_elsewhere(&stage, at, "alice", &["keys", "show", &key.public]).expect(0, &["disabled", "origin        -"]);
    assert_eq!(sign(31).0, 404, "its history is here, and it is not");
    approve(&stage, &request, "ann", &["lower_protection", &key.public]);
    migrate("alice", &["--move", "1", "--approval", &request]).expect(1, &["1 of 2 approvals", "ben"]);
    approve(&stage, &request, "ben", &["lower_protection", &key.public]);
    migrate("alice", &["--move", "1", "--approval", &request]).expect(1, &["1 imported", "Not confirmed: 1 keys"]);
    assert_eq!(sign(31), (412, "key_disabled".to_owned()));
    let marks = || {
        from_elsewhere(&stage, at, "alice", &["--json", "keys", "show", &key.public]).expect(0, &[]).lines()[0].clone()
    };
    assert_eq!((&marks()["block_slot"], &marks()["target_epoch"]), (&json!(30), &json!(3)), "as the file says");
    // Nobody approved that the key comes on without a fence.
    migrate("alice", &["--move", "1", "--confirm", DONE]).expect(0, &["fenced", "The keys sign here from now on"]);
    assert_eq!((sign(30).0, sign(31)), (412, (412, "block_slot_below_watermark".to_owned())));
    assert!(marks()["block_slot"].as_u64().is_some_and(|slot| slot > 1_000_000), "{}", marks());
    assert_eq!(server.sign(&stage.world.keys[0].public, &CHAIN.block(5, 1).0).status, 200);
    assert!(!stage.files.join("elsewhere").exists(), "nothing was made on this machine");
    assert!(server.stop().0.success());
}
