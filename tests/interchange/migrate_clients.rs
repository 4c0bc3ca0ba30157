//! `holdfast migrate` from validator clients: their directories, with their own protection or an interchange file.

use std::path::Path;

use holdfast_tests::keys::{TestKey, prysm_wallet};
use holdfast_tests::world::{CHAIN, World};
use rusqlite::Connection;
use serde_json::json;

use crate::support::{entry, file, keys, marks, run, write};
use crate::web3signer::served;

fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
    std::fs::write(path, text).expect("the file is written");
}

const DONE: &str = "old-signer-stopped,keys-removed";

#[test]
fn from_lighthouse_with_its_own_database() {
    let world = World::new(0);
    let (one, off) = (TestKey::interop(0), TestKey::interop(1));
    let home = world.path().join("lh");
    for key in [&one, &off] {
        put(&home.join(format!("validators/{}/voting-keystore.json", key.public)), &key.keystore("pw"));
        put(&home.join(format!("secrets/{}", key.public)), "pw");
    }
    let listed = format!(
        "---\n- enabled: false\n  voting_public_key: \"{}\"\n  type: local_keystore\n  voting_keystore_path: {}\n",
        off.public,
        home.join(format!("validators/{}/voting-keystore.json", off.public)).display()
    );
    put(&home.join("validators/validator_definitions.yml"), &listed);
    let db = Connection::open(home.join("validators/slashing_protection.sqlite")).expect("a database");
    db.execute_batch(&format!(
        "CREATE TABLE validators (id INTEGER PRIMARY KEY, public_key BLOB NOT NULL UNIQUE);
        CREATE TABLE signed_blocks (validator_id INTEGER NOT NULL, slot INTEGER NOT NULL, signing_root BLOB NOT NULL);
        CREATE TABLE signed_attestations (validator_id INTEGER, source_epoch INTEGER NOT NULL, target_epoch INTEGER NOT NULL,
            signing_root BLOB NOT NULL);
        INSERT INTO validators VALUES (1, '{}'), (2, '{}');
        INSERT INTO signed_blocks VALUES (1, 40, x'00');
        INSERT INTO signed_attestations VALUES (1, 3, 4, x'00'), (1, 2, 5, x'00');",
        one.public, off.public
    ))
    .expect("the tables are made");
    let from = home.display().to_string();
    let start = ["migrate", "lighthouse", "--from", from.as_str()];
    // While Lighthouse runs it holds its database.
    db.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    run(&world, &[&start[..], &["--plan"]].concat()).expect(1, &["stop Lighthouse first"]);
    db.execute_batch("COMMIT").expect("unlocked");
    let plan = run(&world, &[&start[..], &["--plan"]].concat()).expect(0, &[]).lines();
    let totals = &plan.iter().find(|line| line["from"] == "lighthouse").expect("totals")["totals"];
    assert_eq!((&totals["move"], &totals["fenced"]), (&json!(2), &json!(null)));
    // It has no fence of its own that could be said to be set.
    let moved = [&start[..], &["--move", "2", "--watermark", "interchange", "--confirm"]].concat();
    run(&world, &[&moved[..], &["old-signer-stopped,fence-set"]].concat()).expect(1, &["checklist"]);
    run(&world, &[&moved[..], &[DONE]].concat()).expect(0, &["enabled"]);
    assert_eq!(marks(&world, &one.public), (Some(40), Some(3), Some(5)));
    let server = served(&world);
    assert_eq!(server.sign(&one.public, &CHAIN.block(40, 1).0).status, 412);
    assert_eq!(server.sign(&one.public, &CHAIN.block(41, 1).0).status, 200);
    assert_eq!(server.sign(&one.public, &CHAIN.attestation(40, 2, 6, 1).0).status, 412);
    let answer = server.sign(&off.public, &CHAIN.block(41, 1).0);
    assert_eq!((answer.status, answer.reason()), (412, "key_disabled".to_owned()));
}

#[test]
fn from_prysms_wallet() {
    let world = World::new(0);
    let keys: Vec<TestKey> = (0..3).map(TestKey::interop).collect();
    let home = world.path().join("prysm");
    let wallet = prysm_wallet(&keys.iter().collect::<Vec<_>>(), "wallet password");
    put(&home.join("direct/accounts/all-accounts.keystore.json"), &wallet);
    put(&home.join("direct/keymanageropts.json"), r#"{"direct_eip_version":"EIP-2335"}"#);
    // Of the third nothing is known.
    let data = file(&json!([entry(&keys[0].public, 30, 2, 3), entry(&keys[1].public, 40, 3, 4)]));
    let histories = write(&world, "interchange.json", &data.to_string());
    let (from, right, wrong) =
        (home.display().to_string(), write(&world, "right", "wallet password\n"), write(&world, "wrong", "x\n"));
    let migrate = |more: &[&str]| {
        let start = ["migrate", "prysm", "--from", &from, "--interchange", &histories];
        let finished = run(&world, &[&start[..], more].concat());
        assert!(
            !keys.iter().any(|key| finished.text().contains(&hex::encode(key.secret.to_bytes()))),
            "a key was shown"
        );
        finished
    };
    migrate(&["--plan"]).expect(1, &["all-accounts.keystore.json", "cannot be opened", "give --password-file"]);
    migrate(&["--plan", "--password-file", &wrong]).expect(1, &["wrong password", "accounts backup"]);
    let plan = migrate(&["--plan", "--password-file", &right]).expect(1, &["no_history"]).lines();
    let totals = &plan.iter().find(|line| line["from"] == "prysm").expect("totals")["totals"];
    assert_eq!((&totals["move"], &totals["behind"]), (&json!(2), &json!(1)));
    let moved = ["--password-file", &right, "--move", "2", "--watermark", "interchange", "--confirm", DONE];
    migrate(&moved).expect(1, &["enabled"]);
    assert_eq!(marks(&world, &keys[1].public), (Some(40), Some(3), Some(4)));
    let server = served(&world);
    assert_eq!(server.sign(&keys[0].public, &CHAIN.block(30, 1).0).status, 412);
    assert_eq!(server.sign(&keys[0].public, &CHAIN.block(31, 1).0).status, 200);
    assert_eq!(server.sign(&keys[2].public, &CHAIN.block(31, 1).0).status, 404);
}

#[test]
fn from_rocket_pool_with_the_same_keys_in_the_layouts_of_five_clients() {
    let world = World::new(0);
    let keys = [TestKey::interop(3), TestKey::interop(4)];
    let home = world.path().join("validators");
    for key in &keys {
        let name = &key.public;
        for (keystore, secret, password) in [
            (format!("lighthouse/validators/{name}/voting-keystore.json"), format!("lighthouse/secrets/{name}"), "a"),
            (format!("lodestar/validators/{name}/voting-keystore.json"), format!("lodestar/secrets/{name}"), "b"),
            (format!("nimbus/validators/{name}/keystore.json"), format!("nimbus/secrets/{name}"), "c"),
            (format!("teku/keys/{name}.json"), format!("teku/passwords/{name}.txt"), "d"),
        ] {
            put(&home.join(keystore), &key.keystore(password));
            put(&home.join(secret), password);
        }
    }
    let wallet = home.join("prysm-non-hd/direct/accounts");
    put(&wallet.join("all-accounts.keystore.json"), &prysm_wallet(&[&keys[0], &keys[1]], "e"));
    put(&wallet.join("secret"), "e");
    let data = file(&json!([entry(&keys[0].public, 30, 2, 3), entry(&keys[1].public, 30, 2, 3)]));
    let histories = write(&world, "interchange.json", &data.to_string());
    let from = home.display().to_string();
    let plan = ["migrate", "teku", "--from", &from, "--interchange", &histories, "--plan"];
    let lines = run(&world, &plan).expect(0, &[]).lines();
    let totals = &lines.iter().find(|line| line["from"] == "teku").expect("totals")["totals"];
    assert_eq!((&totals["move"], &totals["behind"]), (&json!(2), &json!(0)), "each key once");
    // A password that is lost costs nothing while another copy of the key opens.
    put(&home.join(format!("lighthouse/secrets/{}", keys[0].public)), "lost");
    let imported = run(&world, &["keys", "import", "--from", &from]).expect(1, &["wrong password"]).lines();
    let count = |status: &str| imported.iter().filter(|line| line["status"] == status).count();
    assert_eq!(["imported", "duplicate", "error"].map(count), [2, 7, 1]);
}

#[test]
fn from_other_clients_with_an_interchange_file() {
    let world = World::new(0);
    let key = TestKey::interop(2);
    let data = file(&json!([entry(&key.public, 30, 2, 3)]));
    let histories = write(&world, "interchange.json", &data.to_string());
    let layouts = [
        ("lodestar", "keystores/{}/voting-keystore.json", "secrets/{}", "lodestar validator slashing-protection"),
        ("nimbus", "validators/{}/keystore.json", "secrets/{}", "slashingdb export"),
        ("prysm", "backup/keystore-{}.json", "backup/keystore-{}.txt", "slashing-protection-history export"),
        ("teku", "keys/{}.json", "passwords/{}.txt", "teku slashing-protection export"),
    ];
    for (client, keystore, password, command) in layouts {
        let home = world.path().join(client);
        put(&home.join(keystore.replace("{}", &key.public)), &key.keystore("pw"));
        put(&home.join(password.replace("{}", &key.public)), "pw");
        let from = home.display().to_string();
        run(&world, &["migrate", client, "--from", &from, "--plan"]).expect(2, &[command, "--interchange"]);
        let plan = ["migrate", client, "--from", &from, "--interchange", &histories, "--plan"];
        let lines = run(&world, &plan).expect(0, &[]).lines();
        let totals = &lines.iter().find(|line| line["from"] == client).expect("totals")["totals"];
        assert_eq!(totals["move"], 1, "{client}");
    }
    let from = world.path().join("teku").display().to_string();
    let moved = ["migrate", "teku", "--from", &from, "--interchange", &histories, "--move", "1", "--confirm", DONE];
    run(&world, &moved).expect(0, &["fenced", "enabled"]);
    let all = keys(&world);
    assert_eq!((&all[0]["pubkey"], &all[0]["state"]), (&json!(key.public), &json!("enabled")));
    assert!(marks(&world, &key.public).0 > Some(1_000_000), "fenced at the present");
}
