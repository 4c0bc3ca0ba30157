//! Proves: labels are what rules go by, at every moment of a change and from the first moment of a key; they come with a key
//! only if it is new, stay over a restart, go with a deleted key; who changes what rules say needs leave for that; and commands
//! that cannot know labels say so.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::Server;
use holdfast_tests::journal;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, World};
use holdfast_wire::admin::Reason;
use holdfast_wire::admin::v1::import_keys_request::Part;
use holdfast_wire::admin::v1::{
    DeleteKeysRequest, ImportKeysOptions, ImportKeysRequest, ImportStatus, KeystoreToImport, LabelKeysRequest,
    LabelledKey, ShowKeyRequest, Watermark,
};
use tonic::Status;

use crate::client::{Admin, reason};

/// Clients may do their duties, but with no key that is frozen or held.
const DENY: &str = "[[policy]]\nname = \"clients\"\neffect = \"allow\"\ncallers = [\"http\"]\noperations = [\"duties\", \"list\"]\n\
     [[policy]]\nname = \"stopped\"\neffect = \"deny\"\ncallers = [\"http\"]\nlabels = [\"frozen\", \"held\"]\noperations = [\"duties\", \"list\"]\n";
/// Clients may do their duties with keys of one cluster, and nothing else.
const ALLOW: &str = "[[policy]]\nname = \"cluster\"\neffect = \"allow\"\ncallers = [\"http\"]\nlabels = [\"cluster=a\"]\noperations = [\"duties\", \"list\"]\n";

/// A world under these rules.
struct Stage {
    world: World,
    config: String,
}

impl Stage {
    fn new(keys: u64, rules: &str) -> Self {
        let world = World::new(keys);
        let config = world.path().join("holdfast.toml");
        std::fs::write(&config, rules).expect("a configuration");
        Self { config: config.display().to_string(), world }
    }

    fn start(&self) -> (Server, Admin) {
        let server = self.world.server().global("--config").global(&self.config).start();
        server.wait_ready();
        (server, Admin::connect(&self.world.data_dir()))
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        run(&self.world.with(&[&["--config", &self.config], arguments].concat()))
    }

    fn key(&self, place: usize) -> &str {
        &self.world.keys[place].public
    }
}

/// Status and reason of a signature that can be asked for again and again.
fn sign(server: &Server, key: &str) -> (u16, String) {
    let answer = server.sign(key, &CHAIN.randao(7).0);
    (answer.status, if answer.status == 200 { String::new() } else { answer.reason() })
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|&word| word.to_owned()).collect()
}

fn label(admin: &Admin, keys: &[&str], add: &[&str], remove: &[&str]) -> Result<Vec<LabelledKey>, Status> {
    let request = LabelKeysRequest {
        pubkeys: words(keys),
        add: words(add),
        remove: words(remove),
        dry_run: false,
        approval: Vec::new(),
    };
    let answer = admin.runtime.block_on(admin.keys().label(request));
    answer.map(|answer| answer.into_inner().keys)
}

fn labels(admin: &Admin, key: &str) -> Vec<String> {
    let shown = admin.runtime.block_on(admin.keys().show(ShowKeyRequest { pubkey: key.to_owned() }));
    shown.expect("the key is known").into_inner().key.expect("a key").labels
}

/// Imports keystores as never signed; the answers' words, in order.
fn import(
    admin: &Admin,
    keys: &[&TestKey],
    labels: &[&str],
    replace_tombstone: bool,
) -> Result<Vec<ImportStatus>, Status> {
    let part = |part| ImportKeysRequest { part: Some(part) };
    let options = ImportKeysOptions {
        watermark: if replace_tombstone { Watermark::Now } else { Watermark::NeverSigned }.into(),
        replace_tombstone,
        labels: words(labels),
    };
    let keystores = (0..).zip(keys).map(|(index, key)| {
        part(Part::Keystore(KeystoreToImport { index, json: key.keystore("p"), password: b"p".to_vec() }))
    });
    let parts: Vec<_> = std::iter::once(part(Part::Options(options))).chain(keystores).collect();
    let mut client = admin.keys();
    admin.runtime.block_on(async {
        let mut answers = client.import(tokio_stream::iter(parts)).await?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await? {
            all.push(answer);
        }
        all.sort_by_key(|answer| answer.index);
        Ok(all.iter().map(holdfast_wire::admin::v1::ImportKeysResponse::status).collect())
    })
}

/// Asks for signatures in a thread until told to stop; `right` judges every answer. Counts them.
fn hammer<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    server: &'scope Server,
    key: &'scope str,
    stop: &'scope AtomicBool,
    right: fn(&(u16, String)) -> bool,
) -> &'scope AtomicU64 {
    let counted: &AtomicU64 = Box::leak(Box::default());
    scope.spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let answer = sign(server, key);
            if !right(&answer) {
                stop.store(true, Ordering::Relaxed);
                panic!("{key}: {answer:?}\n{}", server.log());
            }
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    counted
}

/// Waits until so many more were counted, which is when everybody has asked since.
fn until_asked(counted: &[&AtomicU64], times: u64, stop: &AtomicBool) {
    let before: Vec<u64> = counted.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
    let asked = || counted.iter().zip(&before).all(|(count, before)| count.load(Ordering::Relaxed) >= before + times);
    while !asked() && !stop.load(Ordering::Relaxed) {
        assert!(std::time::Instant::now() < end, "nobody asks any more");
        std::thread::yield_now();
    }
}

fn denied(answer: &(u16, String)) -> bool {
    *answer == (403, "policy_denied".to_owned())
}

fn signed(answer: &(u16, String)) -> bool {
    answer.0 == 200
}

/// Not here yet, or denied, but never signed.
fn absent_or_denied(answer: &(u16, String)) -> bool {
    answer.0 == 404 || denied(answer)
}

#[test]
fn a_denial_by_label_misses_no_moment() {
    let stage = Stage::new(2, DENY);
    let (server, admin) = stage.start();
    let (stopped, free) = (stage.key(0), stage.key(1));
    assert_eq!(sign(&server, stopped).0, 200);
    let done = label(&admin, &[stopped], &["frozen"], &[]).expect("it is labelled");
    assert_eq!((done[0].result.as_str(), &done[0].before, &done[0].labels), ("done", &vec![], &words(&["frozen"])));
    assert!(denied(&sign(&server, stopped)), "from the next request on");
    // Keys that come in with the label, one after the other.
    let news: Vec<TestKey> = (70..73).map(TestKey::interop).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut counted =
            vec![hammer(scope, &server, stopped, &stop, denied), hammer(scope, &server, free, &stop, signed)];
        for round in 0..30 {
            let (add, remove) = if round % 2 == 0 { ("held", "frozen") } else { ("frozen", "held") };
            let done = label(&admin, &[stopped], &[add], &[remove]).expect("it is labelled");
            assert_eq!(done[0].labels, words(&[add]));
            label(&admin, &[free], &["other"], if round == 0 { &[] } else { &["another"] }).expect("labelled");
            label(&admin, &[free], &["another"], &["other"]).expect("it is labelled");
            until_asked(&counted, 2, &stop);
        }
        for new in &news {
            counted.push(hammer(scope, &server, &new.public, &stop, absent_or_denied));
            until_asked(&counted, 2, &stop);
            // The keys that are here keep their labels, whatever comes with them.
            let came = import(&admin, &[&stage.world.keys[1], new], &["frozen"], false).expect("an answer");
            assert_eq!(came, [ImportStatus::Duplicate, ImportStatus::Imported]);
            assert!(denied(&sign(&server, &new.public)));
            until_asked(&counted, 5, &stop);
        }
        assert!(!stop.swap(true, Ordering::Relaxed), "somebody got a wrong answer");
        let asked: u64 = counted.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        println!("labels: {asked} requests while labels changed 90 times and 3 keys came in, each judged right");
    });
    assert_eq!(labels(&admin, free), ["another"]);
    label(&admin, &[stopped], &[], &["frozen", "held"]).expect("it is labelled");
    assert_eq!(sign(&server, stopped).0, 200, "from the next request on");
    server.stop();
}

#[test]
fn keys_are_allowed_and_listed_by_label_over_a_restart_and_until_they_are_deleted() {
    let stage = Stage::new(2, ALLOW);
    let (server, admin) = stage.start();
    let (own, other) = (stage.key(0), stage.key(1));
    assert!(denied(&sign(&server, own)), "no key has the label yet");
    stage
        .run(&["keys", "label", own, "--add", "cluster=a", "--dry-run"])
        .expect(0, &["would be labelled", "Nothing was"]);
    assert!(denied(&sign(&server, own)));
    stage.run(&["keys", "label", own, "--add", "cluster=a", "--add", "eu"]).expect(0, &["labelled", "cluster=a,eu"]);
    let by_label = |server: &Server| {
        assert_eq!(sign(server, own).0, 200);
        assert!(denied(&sign(server, other)));
        let listed = server.get("/api/v1/eth2/publicKeys").json();
        assert_eq!(listed, serde_json::json!([own]), "the list has what may be listed");
    };
    by_label(&server);
    let listed = stage.run(&["--json", "keys", "list", "--label", "cluster=a", "--label", "eu"]).expect(0, &[]).lines();
    let keys = listed[0]["keys"].as_array().expect("keys");
    assert_eq!((keys.len(), &keys[0]["pubkey"]), (1, &serde_json::json!(own)), "{listed:?}");
    assert_eq!(keys[0]["labels"], serde_json::json!(["cluster=a", "eu"]));
    stage.run(&["keys", "list", "--label", "us"]).expect(0, &["No key has these labels"]);
    stage.run(&["policy", "explain", "--caller", "http", "--op", "randao", "--key", own]).expect(0, &["allowed"]);
    stage.run(&["policy", "explain", "--caller", "http", "--op", "randao", "--key", other]).expect(1, &["refused"]);
    server.stop();

    let (server, admin) = {
        drop(admin);
        stage.start()
    };
    by_label(&server);
    // What is deleted has no labels, and comes back without.
    let delete = DeleteKeysRequest { pubkeys: words(&[own]) };
    admin.runtime.block_on(admin.keys().delete(delete)).expect("it is deleted");
    assert_eq!(label(&admin, &[own], &["eu"], &[]).expect("an answer")[0].result, Reason::KeyDeleted.as_str());
    let back = import(&admin, &[&stage.world.keys[0]], &[], true).expect("an answer");
    assert_eq!(back, [ImportStatus::Imported]);
    assert!(denied(&sign(&server, own)), "it came back without its labels");
    server.stop();
    // The same without a server.
    stage.run(&["keys", "label", own, other, "--add", "cluster=a"]).expect(0, &["No server is running"]);
    let (server, _admin) = stage.start();
    assert_eq!((sign(&server, own).0, sign(&server, other).0), (200, 200));
    server.stop();
    let events = journal::read(&stage.world.data_dir()).events;
    let labelled: Vec<_> = events.iter().filter(|event| event.kind().as_str() == "admin.key.labelled").collect();
    let said: Vec<_> = labelled.iter().map(|event| event.why()).collect();
    assert_eq!(said, ["+cluster=a +eu", "+eu", "+cluster=a", "+cluster=a"]);
    assert_eq!(labelled[0].key().map(ToString::to_string).as_deref(), Some(own));
}

#[test]
fn of_two_imports_of_a_key_only_the_one_that_brings_it_labels_it() {
    let stage = Stage::new(0, DENY);
    let (server, one) = stage.start();
    let other = Admin::connect(&stage.world.data_dir());
    for (round, new) in (40..44).map(TestKey::interop).enumerate() {
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| import(&one, &[&new], &["first"], false).expect("an answer"));
            let second = import(&other, &[&new], &["second"], false).expect("an answer");
            (first.join().expect("it ends"), second)
        });
        let came = [&first[0], &second[0]].map(|status| *status == ImportStatus::Imported);
        assert!(came == [true, false] || came == [false, true], "{round}: {first:?} {second:?}");
        assert_eq!(labels(&one, &new.public), [if came[0] { "first" } else { "second" }]);
    }
    server.stop();
}

#[test]
fn labels_that_are_none_are_refused_with_what_one_is() {
    let stage = Stage::new(1, DENY);
    let (server, admin) = stage.start();
    let key = stage.key(0);
    let many: Vec<String> = (0..20).map(|number| format!("l{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let more: Vec<String> = (20..40).map(|number| format!("l{number}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let long = "x".repeat(65);
    for bad in ["", "Frozen", "a b", "-a", "a,b", "ä", long.as_str()] {
        assert_eq!(reason(label(&admin, &[key], &[bad], &[])), Reason::InvalidArgument, "{bad:?}");
        assert_eq!(reason(import(&admin, &[], &[bad], false)), Reason::InvalidArgument, "{bad:?}");
    }
    stage.run(&["keys", "label", key, "--add", "Frozen"]).expect(2, &["a label has 1 to 64 characters, small letters"]);
    stage.run(&["keys", "label", key]).expect(2, &["--add"]);
    assert_eq!(reason(label(&admin, &[key], &[], &[])), Reason::InvalidArgument);
    assert_eq!(reason(label(&admin, &[], &["a"], &[])), Reason::InvalidArgument);
    assert_eq!(reason(label(&admin, &[key], &["a", "b"], &["b"])), Reason::InvalidArgument);
    let strange = TestKey::interop(90).public;
    let done = label(&admin, &[&strange, key], &many, &[]).expect("an answer");
    assert_eq!((done[0].result.as_str(), done[1].result.as_str()), (Reason::UnknownKey.as_str(), "done"));
    let done = label(&admin, &[key], &more, &[]).expect("an answer");
    assert_eq!(done[0].result, Reason::Refused.as_str(), "more than a key can have");
    assert_eq!(labels(&admin, key).len(), 20);
    assert_eq!(label(&admin, &[key], &["l1"], &["never-there"]).expect("an answer")[0].result, "unchanged");
    server.stop();
}

#[test]
fn who_changes_what_rules_say_needs_leave_for_the_policy_too() {
    let uid = rustix::process::geteuid().as_raw();
    let mine = format!("[[policy]]\neffect = \"allow\"\ncallers = [\"uid/{uid}\"]\noperations = [\"admin.keys.*\"]\n");
    let stage = Stage::new(1, &format!("{DENY}{mine}"));
    let (server, admin) = stage.start();
    let key = stage.key(0);
    assert_eq!(reason(label(&admin, &[key], &["frozen"], &[])), Reason::Denied);
    assert_eq!(reason(label(&admin, &[key], &["note"], &["held"])), Reason::Denied);
    assert_eq!(sign(&server, key).0, 200, "nothing was done");
    assert_eq!(label(&admin, &[key], &["note"], &[]).expect("no rule names it")[0].result, "done");
    // A new key changes nothing about those that are here.
    let came = import(&admin, &[&TestKey::interop(60)], &["frozen"], false).expect("an answer");
    assert_eq!(came, [ImportStatus::Imported]);
    server.stop();
}

#[test]
fn commands_about_the_policy_say_what_they_cannot_know() {
    let stage = Stage::new(1, &format!("{ALLOW}{}", DENY.replace("\"clients\"", "\"all\"").replace("duties", "exit")));
    let key = stage.key(0).to_owned();
    let explain = |stage: &Stage, op: &str| {
        stage.run(&["--json", "policy", "explain", "--caller", "http", "--op", op, "--key", &key])
    };
    // Beside nobody, and read without being opened.
    stage.run(&["keys", "label", &key, "--add", "cluster=a"]).expect(0, &[]);
    explain(&stage, "randao").expect(0, &["\"allowed\":true"]);
    let checked = stage.run(&["--json", "policy", "check"]);
    assert_eq!(checked.lines()[0]["labels_known"], true, "{}", checked.text());
    // A database that cannot be read.
    let file = stage.world.data_dir().join("holdfast.db");
    let kept = std::fs::read(&file).expect("the database");
    for helper in ["holdfast.db-wal", "holdfast.db-shm"] {
        let _ = std::fs::remove_file(stage.world.data_dir().join(helper));
    }
    std::fs::write(&file, "no database").expect("written");
    explain(&stage, "randao").expect(3, &["\"allowed\":null", "hangs on labels", "cannot be read"]);
    explain(&stage, "exit").expect(3, &["\"allowed\":null"]);
    explain(&stage, "reload").expect(1, &["\"allowed\":false"]);
    let checked = stage.run(&["--json", "policy", "check"]).expect(1, &["cannot be read"]);
    assert_eq!(checked.lines()[0]["labels_known"], false, "{}", checked.text());
    assert!(!checked.text().contains("about no key at all"), "{}", checked.text());
    stage.run(&["doctor"]).expect(1, &["which keys have them cannot be read"]);
    // None at all.
    std::fs::remove_file(&file).expect("taken away");
    explain(&stage, "randao").expect(1, &["there is no database yet", "\"allowed\":false"]);
    stage.run(&["policy", "check"]).expect(1, &["there is no database yet", "about no key at all"]);
    std::fs::write(&file, kept).expect("put back");
}
