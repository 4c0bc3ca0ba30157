//! Proves: keys that come and go over the Keymanager API are admin acts too: in the journal before, by whom and how, with a
//! word on what then failed; and what the journal refuses does not happen.

use holdfast_tests::harness::Server;
use holdfast_tests::http::{Response, once};
use holdfast_tests::journal;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::World;
use serde_json::{Value, json};

fn send(world: &World, server: &Server, method: &str, body: &Value) -> Response {
    let token = std::fs::read_to_string(world.data_dir().join("keymanager-token")).expect("the token is there");
    let authorization = format!("Bearer {}", token.trim());
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    once(server.http_addr(), method, "/eth/v1/keystores", &headers, body.to_string().as_bytes()).expect("answers")
}

fn statuses(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let data = answer["data"].as_array().expect("a list").clone();
    data.iter().map(|one| one["status"].as_str().expect("a status").to_owned()).collect()
}

fn keystore(key: &TestKey) -> Value {
    json!({ "keystores": [key.keystore("a password")], "passwords": ["a password"] })
}

fn start(world: &World) -> Server {
    let server = world.server().start();
    server.wait_ready();
    server
}

#[test]
fn keys_that_come_and_go_are_in_the_journal_with_who_and_how() {
    let world = World::new(0);
    let server = start(&world);
    let key = TestKey::interop(7);
    let gone = json!({ "pubkeys": [key.public, key.public] });
    assert_eq!(statuses(&send(&world, &server, "POST", &keystore(&key))), ["imported"]);
    assert_eq!(statuses(&send(&world, &server, "POST", &keystore(&key))), ["duplicate"], "nothing to do, no act");
    assert_eq!(statuses(&send(&world, &server, "DELETE", &gone)), ["deleted", "not_active"]);
    assert_eq!(statuses(&send(&world, &server, "POST", &keystore(&key))), ["error"], "a deleted key stays away");
    server.stop();

    let events = journal::read(&world.data_dir()).events;
    let acts: Vec<_> = events.iter().filter(|event| event.kind().as_str().starts_with("admin.")).collect();
    let kinds: Vec<_> = acts.iter().map(|event| event.kind().as_str()).collect();
    assert_eq!(kinds, ["admin.key.imported", "admin.key.deleted", "admin.key.imported", "admin.failed"], "{acts:?}");
    for act in &acts {
        assert_eq!(act.caller().as_str(), "keymanager", "{act:?}");
        assert_eq!(act.key().map(ToString::to_string).as_ref(), Some(&key.public), "{act:?}");
    }
    assert!(acts[..3].iter().all(|act| act.why() == "through the Keymanager API by keymanager"), "{acts:?}");
    assert!(acts[3].why().starts_with("admin.key.imported was not done: "), "{acts:?}");
}

#[test]
fn what_the_journal_refuses_neither_comes_nor_goes() {
    for method in ["POST", "DELETE"] {
        let world = World::new(1);
        let server = start(&world);
        let body = match method {
            "POST" => keystore(&TestKey::interop(7)),
            _ => json!({ "pubkeys": [world.keys[0].public] }),
        };
        // From now on the database takes everything but rows of the journal.
        let database = rusqlite::Connection::open(world.data_dir().join("holdfast.db")).unwrap();
        database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        let trigger = "CREATE TRIGGER broken BEFORE INSERT ON journal BEGIN SELECT raise(ABORT, 'by a test'); END";
        database.execute_batch(trigger).unwrap();
        let answer = send(&world, &server, method, &body);
        assert_eq!(statuses(&answer), ["error"], "{method}");
        assert!(answer.text().contains("the journal refuses, so nothing was done"), "{method}: {}", answer.text());
        let count = |which: &str| -> u32 {
            database.query_row(&format!("SELECT count(*) FROM validators WHERE {which}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!((count("state = 0"), count("true")), (1, 1), "{method}: nothing was done");
        drop(server);
    }
}
