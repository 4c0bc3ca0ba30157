//! Proves: through a running server an act that several must approve happens once they did, and once; only what they read
//! happens; of two who bring one approval at once exactly one acts; what a killed process used up stays used up.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast_approvals::{Approval, Request, SigningKey};
use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::Server;
use holdfast_tests::journal;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, World};
use holdfast_wire::admin::v1::import_keys_request::Part;
use holdfast_wire::admin::v1::{
    ApprovalRequest, ApprovalState, FetchApprovalRequest, ImportKeysOptions, ImportKeysRequest, ImportKeysResponse,
    ImportStatus, KeysToImport, KeystoreToImport, ListApprovalsRequest, Watermark,
};
use holdfast_wire::admin::{Reason, facts_of, reason_of};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::client::{Admin, reason};

const LIMIT: Duration = Duration::from_secs(30);

/// A world with a running server and two approvers, both of whom must agree.
struct Stage {
    world: World,
    config: PathBuf,
    people: Vec<SigningKey>,
}

impl Stage {
    fn new(keys: u64) -> Self {
        let world = World::new(keys);
        let (mut people, mut lines) = (Vec::new(), Vec::new());
        for name in ["alice", "bob"] {
            let path = world.path().join(name);
            let made = run(&["approvals", "keygen", "--to", &path.display().to_string()]).expect(0, &["ssh-ed25519 "]);
            people.push(SigningKey::from_file(&std::fs::read_to_string(&path).unwrap()).unwrap());
            lines.push(format!("\"{name} {}\"", made.stdout.trim()));
        }
        let config = world.path().join("holdfast.toml");
        let text = format!("[approvals]\napprovers = [{}]\nthreshold = 2\n", lines.join(", "));
        std::fs::write(&config, text).unwrap();
        Self { world, config, people }
    }

    fn start(&self) -> (Server, Admin) {
        let server = self.world.server().global("--config").global(self.config.display().to_string()).start();
        server.wait_ready();
        let admin = Admin::connect(&self.world.data_dir());
        (server, admin)
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let config = self.config.display().to_string();
        run(&self.world.with(&[&["--config", &config], arguments].concat()))
    }

    fn state(&self, key: &TestKey) -> String {
        let shown = self.run(&["--json", "keys", "show", &key.public]).expect(0, &[]).lines()[0].clone();
        shown["state"].as_str().unwrap().to_owned()
    }

    /// The request with what these people sign behind it.
    fn signed(&self, request: &str, by: usize) -> Vec<u8> {
        let signed = self.people.iter().take(by).map(|key| Approval::sign(request.as_bytes(), key).to_text());
        std::iter::once(request.to_owned()).chain(signed).collect::<String>().into_bytes()
    }
}

fn part(part: Part) -> ImportKeysRequest {
    ImportKeysRequest { part: Some(part) }
}

fn keystore(index: u64, key: &TestKey) -> ImportKeysRequest {
    part(Part::Keystore(KeystoreToImport { index, json: key.keystore("p"), password: b"p".to_vec() }))
}

/// What goes before the keystores: deleted keys come back, in this order.
fn before(keys: &[&TestKey], approval: Option<Vec<u8>>) -> Vec<ImportKeysRequest> {
    let options = ImportKeysOptions { watermark: Watermark::Now.into(), replace_tombstone: true, labels: Vec::new() };
    let pubkeys = keys.iter().map(|key| key.public.clone()).collect();
    let mut parts = vec![part(Part::Options(options)), part(Part::Keys(KeysToImport { pubkeys }))];
    // In small pieces, as a long one comes.
    let text = approval.unwrap_or_default();
    parts.extend(text.chunks(100).map(|piece| part(Part::Approval(piece.to_vec()))));
    parts
}

async fn all(mut answers: Streaming<ImportKeysResponse>) -> Result<Vec<ImportKeysResponse>, Status> {
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await? {
        all.push(answer);
    }
    Ok(all)
}

fn import(admin: &Admin, parts: Vec<ImportKeysRequest>) -> Result<Vec<ImportKeysResponse>, Status> {
    admin.runtime.block_on(async { all(admin.keys().import(tokio_stream::iter(parts)).await?.into_inner()).await })
}

/// Asks for keys to come back, and returns the request that people must sign.
fn asked(admin: &Admin, keys: &[&TestKey]) -> String {
    let status = import(admin, before(keys, None)).expect_err("people must approve");
    assert_eq!(reason_of(&status), Some(Reason::ApprovalRequired), "{status:?}");
    assert!(status.message().contains("2 of alice, bob"), "{}", status.message());
    let facts = facts_of(&status);
    let text = fetch(admin, &facts["request"]).unwrap();
    let request = Request::from_text(&text).expect("a request");
    assert_eq!((request.digest().to_string(), request.act.as_str()), (facts["digest"].clone(), facts["act"].as_str()));
    text
}

fn fetch(admin: &Admin, id: &str) -> Result<String, Status> {
    admin.runtime.block_on(async {
        let request = FetchApprovalRequest { id: id.to_owned() };
        let mut pieces = admin.approvals().fetch(request).await?.into_inner();
        let mut text = Vec::new();
        while let Some(piece) = pieces.message().await? {
            text.extend(piece.text);
        }
        Ok(String::from_utf8(text).unwrap())
    })
}

/// States of all requests there were, the oldest first.
fn states(admin: &Admin) -> Vec<ApprovalState> {
    admin.runtime.block_on(async {
        let mut pages = admin.approvals().list(ListApprovalsRequest { all: true }).await.unwrap().into_inner();
        let mut states = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            states.extend(page.requests.iter().map(ApprovalRequest::state));
        }
        states
    })
}

fn deleted(stage: &Stage) -> &TestKey {
    let key = &stage.world.keys[0];
    stage.run(&["keys", "delete", "--yes", &key.public]).expect(0, &[]);
    key
}

#[test]
fn only_what_people_read_happens_and_once() {
    let stage = Stage::new(2);
    let (server, admin) = stage.start();
    let (key, other, foreign) = (deleted(&stage), &stage.world.keys[1], TestKey::interop(30));
    let signs = |slot: u64| assert_eq!(server.sign(&other.public, &CHAIN.block(slot, 1).0).status, 200);
    // Who names no key, or only keys that are here, asks for nothing that could be approved.
    for keys in [&[][..], &[other]] {
        let status = import(&admin, before(keys, None)).unwrap_err();
        assert_eq!(reason_of(&status), Some(Reason::InvalidArgument), "{status:?}");
        assert!(status.message().contains("needs approvals (replace_tombstone)"), "{}", status.message());
    }
    let request = asked(&admin, &[key]);
    assert!(request.contains(&format!("key {}, deleted here before", key.public)), "{request}");
    signs(10);
    // Not a word of another order, nor a key that was not named, nor too few people.
    let disordered = [before(&[key], None), vec![keystore(0, &foreign)], before(&[key], None)].concat();
    assert_eq!(reason(import(&admin, disordered)), Reason::ApprovalRequired);
    for (keys, by, words) in [(&[key][..], 1, "1 of 2 approvals"), (&[key, &foreign], 2, "something else")] {
        let parts = [before(keys, Some(stage.signed(&request, by))), vec![keystore(0, key)]].concat();
        let status = import(&admin, parts).unwrap_err();
        assert!(reason_of(&status) == Some(Reason::Refused) && status.message().contains(words), "{status:?}");
    }
    for broken in [b"hello".to_vec(), vec![0xff], [request.as_bytes(), b"x"].concat()] {
        assert_eq!(reason(import(&admin, before(&[key], Some(broken)))), Reason::InvalidArgument);
    }
    assert_eq!(stage.state(key), "tombstoned");
    // Brought without a keystore, it is looked at and not used up.
    assert_eq!(import(&admin, before(&[key], Some(stage.signed(&request, 2)))).unwrap(), []);

    // A keystore of a key that nobody approved, one that names no key, and one that names another key than it has.
    let nameless = serde_json::from_str::<serde_json::Value>(&key.keystore("p")).map(|mut keystore| {
        keystore.as_object_mut().unwrap().remove("pubkey");
        keystore.to_string()
    });
    let lying = foreign.keystore("p").replace(&foreign.public[2..], &key.public[2..]);
    let odd = [nameless.unwrap(), lying]
        .into_iter()
        .zip(2..)
        .map(|(json, index)| part(Part::Keystore(KeystoreToImport { index, json, password: b"p".to_vec() })));
    let mut parts = before(&[key], Some(stage.signed(&request, 2)));
    parts.push(keystore(1, &foreign));
    parts.extend(odd);
    parts.push(keystore(4, key));
    let mut answers = import(&admin, parts).unwrap();
    answers.sort_by_key(|answer| answer.index);
    let told: Vec<_> = answers.iter().map(|one| (one.index, one.status())).collect();
    let error = ImportStatus::Error;
    assert_eq!(told, [(1, error), (2, error), (3, error), (4, ImportStatus::Imported)], "{answers:?}");
    assert!(answers[0].reason().contains("not among those that were approved"), "{answers:?}");
    assert!(answers[1].reason().contains("does not name its key"), "{answers:?}");
    assert_eq!(stage.state(key), "enabled");
    stage.run(&["keys", "show", &foreign.public]).expect(1, &["not held here"]);
    signs(11);

    // Once: the same again is refused, and nothing is done.
    deleted(&stage);
    let again = [before(&[key], Some(stage.signed(&request, 2))), vec![keystore(0, key)]].concat();
    let status = import(&admin, again).unwrap_err();
    assert!(status.message().contains("used before"), "{status:?}");
    assert_eq!(stage.state(key), "tombstoned");
    assert_eq!(states(&admin)[0], ApprovalState::Used);
    assert_eq!(reason(fetch(&admin, "00")), Reason::NotFound);
    signs(12);
    server.stop();
    let events = journal::read(&stage.world.data_dir()).events;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind().as_str()).collect();
    let place = |kind: &str| kinds.iter().position(|one| *one == kind).unwrap_or_else(|| panic!("no {kind}"));
    let used = place("approvals.used");
    assert!(place("approvals.requested") < place("approvals.given") && place("approvals.given") < used, "{kinds:?}");
    assert_eq!(kinds[used + 1], "admin.key.imported", "the act comes next: {kinds:?}");
    assert!(events[used].caller().as_str().starts_with("uid/"), "{:?}", events[used]);
}

/// An import that has come to its keystore, and has not ended.
async fn begun(
    admin: &Admin,
    parts: Vec<ImportKeysRequest>,
) -> (mpsc::Sender<ImportKeysRequest>, Streaming<ImportKeysResponse>) {
    let (sender, stream) = mpsc::channel(1_000);
    for part in parts {
        sender.send(part).await.unwrap();
    }
    let answers = admin.keys().import(ReceiverStream::new(stream)).await.unwrap().into_inner();
    (sender, answers)
}

#[test]
fn of_two_who_bring_one_approval_exactly_one_acts() {
    let stage = Stage::new(2);
    let (server, admin) = stage.start();
    let key = deleted(&stage);
    let request = asked(&admin, &[key]);
    let parts = || [before(&[key], Some(stage.signed(&request, 2))), vec![keystore(0, key)]].concat();
    let others: Vec<Admin> = (0..4).map(|_| Admin::connect(&stage.world.data_dir())).collect();
    let outcomes = admin.runtime.block_on(async {
        let (mut tasks, mut senders) = (tokio::task::JoinSet::new(), Vec::new());
        for other in &others {
            let (sender, answers) = begun(other, parts()).await;
            senders.push(sender);
            tasks.spawn(all(answers));
        }
        let mut outcomes = Vec::new();
        while let Some(done) = tokio::time::timeout(LIMIT, tasks.join_next()).await.expect("all but one are refused") {
            outcomes.push(done.unwrap());
            if outcomes.len() + 1 == others.len() {
                // Only now, so that none of the others finds the key here already.
                senders.clear();
            }
        }
        outcomes
    });
    let acted: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(acted.len(), 1, "{outcomes:?}");
    assert_eq!(acted[0][0].status(), ImportStatus::Imported);
    for status in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(status.message().contains("used before"), "{status:?}");
    }
    assert_eq!(stage.state(key), "enabled");
    server.stop();
    let used = journal::read(&stage.world.data_dir()).events;
    assert_eq!(used.iter().filter(|event| event.kind().as_str() == "approvals.used").count(), 1);
}

#[test]
fn what_a_killed_process_used_up_stays_used_up_and_nothing_was_done() {
    let stage = Stage::new(2);
    let (server, admin) = stage.start();
    let key = deleted(&stage);
    let request = asked(&admin, &[key]);
    let parts = [before(&[key], Some(stage.signed(&request, 2))), vec![keystore(0, key)]].concat();
    // It has leave, and waits for more keystores before it registers any.
    let held = admin.runtime.block_on(begun(&admin, parts.clone()));
    let end = Instant::now() + LIMIT;
    while states(&admin) != [ApprovalState::Used] {
        assert!(Instant::now() < end, "it is not used up: {:?}", states(&admin));
        std::thread::sleep(Duration::from_millis(20));
    }
    server.kill9();
    drop((held, admin));
    assert_eq!(stage.state(key), "tombstoned");
    let (server, admin) = stage.start();
    let status = import(&admin, parts).unwrap_err();
    assert!(status.message().contains("used before"), "{status:?}");
    assert_eq!(stage.state(key), "tombstoned");
    // People are asked anew.
    let request = asked(&admin, &[key]);
    let parts = [before(&[key], Some(stage.signed(&request, 2))), vec![keystore(0, key)]].concat();
    assert_eq!(import(&admin, parts).unwrap()[0].status(), ImportStatus::Imported);
    server.stop();
}
