//! Histories straight from Web3Signer's database: everything it would refuse is refused here, what is above all of
//! it is signed, keys that are off there are off here, and the database is only read.

use std::collections::BTreeMap;

use holdfast_tests::finished;
use holdfast_tests::harness::Server;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, World};
use serde_json::{Value, json};

use crate::support::{empty_database, keys, marks, run};
use crate::web3signer_db::{Database, High, Signed};

/// Attempts are made at slots and epochs below this.
const END: u64 = 16;

pub(crate) fn import(world: &World, url: &str, rest: &[&str]) -> finished::Finished {
    let mut arguments = vec!["slashing", "import", "--from-web3signer", url];
    arguments.extend(rest);
    run(world, &arguments)
}

/// Histories with gaps, entries without roots, low watermarks below and above the rows, and every combination of
/// nothing with something.
pub(crate) fn histories() -> Vec<Signed> {
    let blocks = |slots: &[u64]| slots.iter().map(|slot| (*slot, (slot % 2 == 0).then_some(7))).collect();
    let votes = |votes: &[(u64, u64)]| votes.iter().map(|(s, t)| (*t, (*s, (t % 2 == 0).then_some(7)))).collect();
    let (none, no_votes) = (BTreeMap::new(), BTreeMap::new());
    vec![
        Signed { low: Some((2, 1, 2)), blocks: blocks(&[2, 3, 7]), votes: votes(&[(1, 2), (2, 3), (3, 6), (6, 7)]) },
        // Surrounds that only the whole list shows: the highest source is not that of the highest target.
        Signed { low: Some((0, 0, 1)), blocks: blocks(&[9]), votes: votes(&[(0, 1), (5, 6), (2, 9)]) },
        // A watermark was raised above all rows, as a repair does.
        Signed { low: Some((11, 8, 9)), blocks: blocks(&[4]), votes: votes(&[(3, 4)]) },
        Signed { low: Some((5, 2, 3)), blocks: none.clone(), votes: no_votes.clone() },
        Signed { low: None, blocks: none.clone(), votes: no_votes },
        Signed { low: Some((6, 4, 5)), blocks: none, votes: votes(&[(4, 5), (5, 5), (6, 8)]) },
    ]
}

pub(crate) fn served(world: &World) -> Server {
    let server = world.server().start();
    server.wait_ready();
    server
}

/// Counts what was tried: refused by both, and signed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) refused: u64,
    pub(crate) signed: u64,
}

/// Tries every block and vote below [`END`] that Web3Signer would refuse, then what is above everything.
pub(crate) fn judge(server: &Server, key: &str, signed: &Signed, high: High, tried: &mut Tried) {
    let mut expect = |body: &Value, status: u16, what: &str| {
        let answer = server.sign(key, body);
        assert_eq!(answer.status, status, "{key} {what}: {}", answer.text());
        *(if status == 200 { &mut tried.signed } else { &mut tried.refused }) += 1;
    };
    // At and above a high watermark Web3Signer signs nothing so that the next signer may: that is this one.
    let below = |high: Option<u64>| high.unwrap_or(END);
    let (slots, epochs) = (below(high.map(|(slot, _)| slot)), below(high.map(|(_, epoch)| epoch)));
    for slot in (0..slots).filter(|slot| signed.refuses_block(*slot, high)) {
        expect(&CHAIN.block(slot, 99).0, 412, &format!("block {slot}"));
    }
    for source in 0..epochs {
        for target in (0..epochs).filter(|target| signed.refuses_vote(source, *target, high)) {
            expect(&CHAIN.attestation(target * 8, source, target, 99).0, 412, &format!("vote {source} -> {target}"));
        }
    }
    let (slot, source, target) = signed.highest();
    let above = |own: Option<u64>, high: Option<u64>| own.map(|own| own + 1).max(high).unwrap_or(0);
    let slot = above(slot, high.map(|(slot, _)| slot));
    expect(&CHAIN.block(slot, 99).0, 200, &format!("block {slot}"));
    let source = source.max(high.map(|(_, epoch)| epoch - 1)).unwrap_or(0);
    let target = above(target, high.map(|(_, epoch)| epoch)).max(source);
    expect(&CHAIN.attestation(target * 8, source, target, 99).0, 200, &format!("vote {source} -> {target}"));
}

fn compare(world: &World, high: High) {
    let mut database = Database::new();
    let all = histories();
    for (key, signed) in world.keys.iter().zip(&all) {
        database.add(&key.public, true, signed);
    }
    if let Some((slot, epoch)) = high {
        database.sql(&format!("UPDATE metadata SET high_watermark_slot = {slot}, high_watermark_epoch = {epoch}"));
    }
    let before = database.fingerprint();
    let dry = import(world, &database.url(), &["--dry-run"]).expect(0, &[]);
    let done = import(world, &database.url(), &[]).expect(0, &[]);
    assert_eq!(database.fingerprint(), before, "the source was written to");
    let reports = |lines: Vec<Value>| lines.into_iter().filter(|line| line["pubkey"].is_string()).collect::<Vec<_>>();
    assert_eq!(reports(dry.lines()), reports(done.lines()));
    assert_eq!(reports(done.lines()).len(), all.len());
    let server = served(world);
    let mut tried = Tried::default();
    for (key, signed) in world.keys.iter().zip(&all) {
        judge(&server, &key.public, signed, high, &mut tried);
    }
    server.stop();
    println!("web3signer: {} attempts refused as there, {} above everything signed", tried.refused, tried.signed);
    assert_eq!(tried.signed, 2 * all.len() as u64);
    assert!(tried.refused > 500, "{tried:?}");
}

#[test]
fn what_web3signer_refuses_is_refused_and_what_is_above_is_signed_on_sqlite() {
    compare(&World::new(6), None);
}

#[test]
fn what_web3signer_refuses_is_refused_and_what_is_above_is_signed_on_postgresql() {
    compare(&World::with_database(&empty_database(), 6), None);
}

#[test]
fn below_a_high_watermark_nothing_is_signed_and_from_it_on_everything() {
    compare(&World::new(6), Some((14, 13)));
}

#[test]
fn keys_that_are_off_there_are_off_here_now_or_when_they_come() {
    let world = World::new(2);
    let (held, unheld) = (&world.keys[0].public, TestKey::interop(40));
    let mut database = Database::new();
    let signed = histories().remove(0);
    database.add(held, false, &signed);
    database.add(&world.keys[1].public, true, &signed);
    database.add(&unheld.public, false, &signed);
    let lines = import(&world, &database.url(), &[]).expect(0, &[]).lines();
    let of = |key: &str| lines.iter().find(|line| line["pubkey"] == key).expect("each validator has a line");
    assert_eq!(of(held)["switched_off"], "switched_off");
    assert_eq!(of(&world.keys[1].public)["switched_off"], Value::Null);
    assert_eq!(of(&unheld.public)["switched_off"], "noted");
    let totals = lines.last().expect("totals");
    assert_eq!((&totals["totals"]["switched_off"], &totals["totals"]["noted_off"]), (&json!(1), &json!(1)));
    assert_eq!(totals["source"]["switched_off"], 2);

    unheld.write_keystore(&world.path().join("keys"), "correct horse");
    let entered = finished::run(&world.import_arguments(&[])).expect(0, &["switched off"]);
    assert!(
        entered.lines().iter().any(|line| line["pubkey"] == unheld.public.as_str() && line["status"] == "imported")
    );
    let server = served(&world);
    let block = |key: &str| server.sign(key, &CHAIN.block(30_000_000, 1).0);
    for key in [held.as_str(), unheld.public.as_str()] {
        assert_eq!((block(key).status, block(key).reason()), (412, "key_disabled".to_owned()));
    }
    assert_eq!(block(&world.keys[1].public).status, 200, "the third signs");
    server.stop();
    run(&world, &["keys", "enable", &unheld.public]).expect(0, &[]);
    let server = served(&world);
    let vote = server.sign(&unheld.public, &CHAIN.attestation(8, 1, 7, 1).0);
    assert_eq!(vote.status, 412, "its history holds: {}", vote.text());
    assert_ne!(vote.reason(), "key_disabled");
}

#[test]
fn a_role_that_may_only_select_is_enough_and_one_snapshot_is_read() {
    let world = World::new(1);
    let mut database = Database::new();
    database.add(&world.keys[0].public, true, &histories()[0]);
    let name = format!("reader_{}", std::process::id());
    let cluster = crate::support::cluster();
    cluster
        .psql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'only-reads'; ALTER ROLE {name} SET log_statement = 'all'"));
    let url = database.url_as(&name, "only-reads");
    // Nothing granted yet: what is missing is named.
    import(&world, &url, &[]).expect(1, &["GRANT SELECT", "nothing was imported"]);
    database.sql(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}"));
    let before = database.fingerprint();
    let logged = cluster.log().len();
    import(&world, &url, &[]).expect(0, &["raised"]);
    assert_eq!(database.fingerprint(), before);
    assert_eq!(marks(&world, &world.keys[0].public), (Some(7), Some(6), Some(7)));
    let log = cluster.log()[logged..].to_owned();
    assert_eq!(log.matches("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").count(), 1, "{log}");
    // The password may come from a file instead, which others may not read.
    let file = world.path().join("w3s-password");
    std::fs::write(&file, "only-reads\n").expect("the file is written");
    let path = file.display().to_string();
    let bare = url.replace(":only-reads@", "@");
    let with_file = ["--web3signer-password-file", path.as_str()];
    import(&world, &bare, &with_file).expect(2, &["chmod 600"]);
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    import(&world, &bare, &with_file).expect(0, &["unchanged"]);
}

#[test]
fn a_web3signer_that_seems_to_run_stops_the_import() {
    let world = World::new(1);
    let mut database = Database::new();
    database.add(&world.keys[0].public, true, &histories()[0]);
    let before = keys(&world);
    let running = database.connected_as("PostgreSQL JDBC Driver");
    import(&world, &database.url(), &[]).expect(1, &["Web3Signer seems to be connected", "stop it first"]);
    assert_eq!(keys(&world), before, "nothing is changed");
    let dry = import(&world, &database.url(), &["--dry-run"]).expect(0, &[]).lines();
    let seen = &dry.last().expect("totals")["source"]["connections"];
    assert!(seen.as_array().expect("a list").iter().any(|one| one["looks_like_web3signer"] == true), "{seen}");
    let text = finished::run(&world.with(&["slashing", "import", "--dry-run", "--from-web3signer", &database.url()]));
    text.expect(0, &["Web3Signer must be stopped", "seems to be connected", "Others are connected", "psql"]);
    assert_eq!(keys(&world), before, "nothing is changed");
    import(&world, &database.url(), &["--ignore-connections"]).expect(0, &["raised"]);
    drop(running);
}

#[test]
fn a_dry_run_without_a_database_makes_none() {
    let mut database = Database::new();
    database.add(&TestKey::interop(0).public, false, &histories()[0]);
    let sqlite = World::new(0);
    let url = empty_database();
    let postgres = World::with_database(&url, 0);
    for world in [&sqlite, &postgres] {
        let dry = import(world, &database.url(), &["--dry-run"]).expect(0, &[]).lines();
        assert_eq!((&dry[0]["change"], &dry[0]["switched_off"]), (&json!("new"), &json!("noted")));
        assert!(!world.data_dir().exists(), "a data directory was made");
    }
    let mut session = crate::support::cluster().session_on(&url);
    let schemas = session.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast'").expect("the server runs");
    assert_eq!(schemas, [["0"]]);
    import(&sqlite, &database.url(), &[]).expect(0, &["noted"]);
    assert!(sqlite.data_dir().join("holdfast.db").exists());
}
