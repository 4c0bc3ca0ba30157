//! Proves: services are found and described; health tells the truth; each verb does what it says in a running signer, at
//! once, and is in the journal before; an act that cannot be journaled does not happen; wrong input gets a typed reason.

use holdfast_tests::harness::Server;
use holdfast_tests::journal;
use holdfast_tests::keys::{TestKey, verifies};
use holdfast_tests::world::{CHAIN, World};
use holdfast_wire::admin::Reason;
use holdfast_wire::admin::v1::import_histories_request::Part as HistoryPart;
use holdfast_wire::admin::v1::import_keys_request::Part;
use holdfast_wire::admin::v1::{
    DeleteKeysRequest, FenceRequest, GenerateKeysRequest, Histories, History, ImportHistoriesOptions,
    ImportHistoriesRequest, ImportKeysOptions, ImportKeysRequest, ImportKeysResponse, ImportStatus, KeystoreToImport,
    ShowKeyRequest, SwitchKeysRequest, Watermark, Watermarks,
};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::client::{Admin, reason};

fn start(world: &World) -> (Server, Admin) {
    let server = world.server().start();
    server.wait_ready();
    let admin = Admin::connect(&world.data_dir());
    (server, admin)
}

fn block(server: &Server, key: &str, slot: u64) -> u16 {
    server.sign(key, &CHAIN.block(slot, 1).0).status
}

fn switch(keys: &[&str]) -> SwitchKeysRequest {
    SwitchKeysRequest { pubkeys: keys.iter().map(|&key| key.to_owned()).collect(), without_fence: false }
}

/// Imports keystores as never signed, over the socket.
fn import(admin: &Admin, keystores: Vec<(String, &str)>) -> Vec<ImportKeysResponse> {
    let part = |part| ImportKeysRequest { part: Some(part) };
    let options =
        ImportKeysOptions { watermark: Watermark::NeverSigned.into(), replace_tombstone: false, labels: Vec::new() };
    let keystores = keystores.into_iter().zip(0..).map(|((json, password), index)| {
        part(Part::Keystore(KeystoreToImport { index, json, password: password.as_bytes().to_vec() }))
    });
    let parts: Vec<_> = std::iter::once(part(Part::Options(options))).chain(keystores).collect();
    admin.runtime.block_on(async {
        let mut answers = admin.keys().import(tokio_stream::iter(parts)).await.expect("an answer").into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await.expect("an answer") {
            all.push(answer);
        }
        all.sort_by_key(|answer| answer.index);
        all
    })
}

#[test]
fn a_signer_with_a_vault_makes_keys_there() {
    let world = World::new(0);
    let server = world.server().env("HOLDFAST_SIGNING_BACKEND", "process").start();
    server.wait_ready();
    let admin = Admin::connect(&world.data_dir());
    // More than one frame of the vault's protocol has.
    let request = GenerateKeysRequest { count: 40 };
    let made = admin.runtime.block_on(admin.keys().generate(request)).unwrap().into_inner().pubkeys;
    assert_eq!(made.iter().collect::<std::collections::BTreeSet<_>>().len(), 40);
    for key in [&made[0], &made[39]] {
        let (body, root) = CHAIN.randao(3);
        let signed = server.sign(key, &body);
        assert_eq!(signed.status, 200, "{}", signed.reason());
        assert!(verifies(key, &root, signed.json()["signature"].as_str().unwrap()));
    }
    server.stop();
    // What the vault sealed opens in another run, also without a vault.
    let (server, _admin) = start(&world);
    assert_eq!(block(&server, &made[20], 90), 200);
}

#[test]
fn services_are_listed_and_described() {
    let world = World::new(0);
    let (_server, admin) = start(&world);
    let ask = |message: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        admin.runtime.block_on(async {
            let mut answers =
                admin.reflection().server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
            answers.message().await.unwrap().and_then(|answer| answer.message_response).expect("an answer")
        })
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())) else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["Keys", "Slashing", "Kek", "Audit", "Approvals", "Policy", "Status", "Configuration"] {
        let full = format!("holdfast.admin.v1.{name}");
        assert!(names.contains(&full.as_str()), "{full} is not in {names:?}");
        let described = ask(MessageRequest::FileContainingSymbol(full));
        assert!(matches!(described, MessageResponse::FileDescriptorResponse(_)), "{described:?}");
    }
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    // There is no switcher in this process, so none is offered.
    assert!(!names.contains(&"holdfast.admin.v1.Switcher"), "{names:?}");
}

#[test]
fn health_is_serving_while_signing_and_not_at_the_end_or_under_suspicion() {
    let world = World::new(1);
    let database = world.data_dir().join("holdfast.db");
    let old = world.path().join("old.db");
    std::fs::copy(&database, &old).unwrap();
    let server = world.server().env("HOLDFAST_HTTP_SHUTDOWN_DELAY_SECONDS", "2").start();
    server.wait_ready();
    let admin = Admin::connect(&world.data_dir());
    let request = HealthCheckRequest { service: "holdfast.signer".to_owned() };
    admin.runtime.block_on(async {
        let mut watched = admin.health().watch(request.clone()).await.unwrap().into_inner();
        while watched.message().await.unwrap().expect("a state").status() != ServingStatus::Serving {}
        server.terminate();
        assert_eq!(watched.message().await.unwrap().expect("a state").status(), ServingStatus::NotServing);
    });
    assert!(server.wait().0.success());
    // A database put back to before: protection freezes, and the probe says so.
    std::fs::copy(&old, &database).unwrap();
    for helper in ["holdfast.db-wal", "holdfast.db-shm"] {
        let _ = std::fs::remove_file(world.data_dir().join(helper));
    }
    let server = world.server().start();
    let admin = Admin::connect(&world.data_dir());
    let check = || admin.runtime.block_on(admin.health().check(request.clone())).unwrap().into_inner().status();
    assert_eq!(check(), ServingStatus::NotServing);
    // The fence is placed through the running server, which signs again without a restart.
    let fenced = admin.runtime.block_on(admin.slashing().fence(FenceRequest { pubkeys: Vec::new() })).unwrap();
    assert!(!fenced.into_inner().frozen);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while check() != ServingStatus::Serving {
        assert!(std::time::Instant::now() < end, "a fence ends the freeze");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server.stop();
}

#[test]
fn keys_come_and_go_while_others_sign_and_the_journal_has_it_first() {
    let world = World::new(1);
    let (server, admin) = start(&world);
    let own = world.keys[0].public.clone();
    let (new, wrong) = (TestKey::interop(7), TestKey::interop(8));
    let answers = import(
        &admin,
        vec![
            (new.keystore("p"), "p"),
            (wrong.keystore("p"), "q"),
            (new.keystore("p"), "p"),
            (world.keys[0].keystore("p"), "p"),
            ("{".to_owned(), ""),
        ],
    );
    let statuses: Vec<_> = answers.iter().map(ImportKeysResponse::status).collect();
    // Of two keystores with the same key, whichever is decrypted first is the one.
    assert_eq!(statuses[1], ImportStatus::Error, "{answers:?}");
    assert_eq!(statuses[3..], [ImportStatus::Duplicate, ImportStatus::Error], "{answers:?}");
    let imported = statuses.iter().filter(|status| **status == ImportStatus::Imported).count();
    assert_eq!(imported, 1, "{answers:?}");
    assert_eq!(block(&server, &new.public, 50), 200, "an imported key signs at once");

    let mut keys = admin.keys();
    let one = admin.runtime.block_on(keys.disable(switch(&[&new.public]))).unwrap().into_inner().keys;
    assert_eq!(one[0].result, "done");
    assert_eq!(block(&server, &new.public, 51), 412, "a disabled key is refused at once");
    assert_eq!(block(&server, &own, 51), 200);
    let one = admin.runtime.block_on(keys.enable(switch(&[&new.public]))).unwrap().into_inner().keys;
    assert_eq!(one[0].result, "done");
    assert!(one[0].reason.as_ref().is_some_and(|reason| reason.contains("fenced")), "{one:?}");
    assert_eq!(block(&server, &new.public, 52), 412, "what it may have signed elsewhere is not contradicted");
    // On already, and on again by the word of somebody who knows all that it signed: nothing is lost.
    for off in [false, true] {
        if off {
            admin.runtime.block_on(keys.disable(switch(&[&own]))).unwrap();
        }
        let request = SwitchKeysRequest { without_fence: off, ..switch(&[&own]) };
        let one = admin.runtime.block_on(keys.enable(request)).unwrap().into_inner().keys;
        assert_eq!((one[0].result.as_str(), &one[0].reason), ("done", &None));
        assert_eq!(block(&server, &own, 52 + u64::from(off)), 200);
    }
    let made = admin.runtime.block_on(keys.generate(GenerateKeysRequest { count: 2 })).unwrap().into_inner().pubkeys;
    assert_eq!(block(&server, &made[1], 60), 200, "a generated key signs at once");

    let history = History {
        pubkey: own.clone(),
        watermarks: Some(Watermarks { block_slot: Some(90), source_epoch: None, target_epoch: None }),
        ..History::default()
    };
    let options = ImportHistoriesOptions {
        genesis_validators_root: Some(format!("0x{}", hex::encode(holdfast_tests::world::GENESIS_VALIDATORS_ROOT))),
        ..ImportHistoriesOptions::default()
    };
    let parts = [HistoryPart::Options(options), HistoryPart::Histories(Histories { histories: vec![history] })]
        .map(|part| ImportHistoriesRequest { part: Some(part) });
    let changes = admin.runtime.block_on(async {
        let mut stream = admin.slashing().import(tokio_stream::iter(parts)).await.unwrap().into_inner();
        stream.message().await.unwrap().expect("a change").changes
    });
    assert_eq!((changes.len(), changes[0].change.as_str()), (1, "raised"));
    assert_eq!(block(&server, &own, 90), 412, "an imported history holds at once");

    let request = DeleteKeysRequest { pubkeys: vec![new.public.clone()] };
    let deleted = admin.runtime.block_on(keys.delete(request)).unwrap().into_inner();
    assert_eq!(deleted.keys[0].result, "done");
    let interchange: serde_json::Value = serde_json::from_str(&deleted.interchange_json).expect("EIP-3076");
    let fence = interchange["data"][0]["signed_blocks"][0]["slot"].as_str().and_then(|slot| slot.parse::<u64>().ok());
    assert!(fence.is_some_and(|slot| slot > 1_000_000), "{interchange}");
    assert_eq!(block(&server, &new.public, 70), 404);
    server.stop();

    let events = journal::read(&world.data_dir()).events;
    let acts: Vec<_> = events.iter().filter(|event| event.kind().as_str().starts_with("admin.")).collect();
    let kinds: Vec<_> = acts.iter().map(|event| event.kind().as_str()).collect();
    let switched = ["disabled", "enabled", "enabled", "disabled", "enabled"];
    let expected = [&["imported"][..], &switched, &["generated", "", "deleted"]]
        .concat()
        .into_iter()
        .map(|act| if act.is_empty() { "admin.slashing.imported".to_owned() } else { format!("admin.key.{act}") })
        .collect::<Vec<_>>();
    // What the world itself imported comes first, by a command without a server.
    assert_eq!(kinds[0], "admin.key.imported");
    assert!(acts[0].caller().as_str().starts_with("cli:uid="));
    assert_eq!(kinds[1..], expected, "{acts:?}");
    assert!(acts[1..].iter().all(|act| act.caller().as_str().starts_with("uid/")), "{acts:?}");
    assert_eq!(acts[1].key().map(ToString::to_string), Some(new.public));
    assert!(acts[3].why().contains("fenced at the present"), "{acts:?}");
    assert_eq!(acts[6].why(), "without a fence", "{acts:?}");
}

#[test]
fn what_cannot_be_journaled_is_not_done() {
    let world = World::new(1);
    let (server, admin) = start(&world);
    let key = world.keys[0].public.clone();
    // From now on the database takes everything but rows of the journal.
    let database = rusqlite::Connection::open(world.data_dir().join("holdfast.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON journal BEGIN SELECT raise(ABORT, 'broken by a test'); END";
    database.execute_batch(trigger).unwrap();
    // At once: a signer whose commits fail freezes, and its process ends.
    let (mut one, mut two, mut three) = (admin.keys(), admin.keys(), admin.keys());
    let request = DeleteKeysRequest { pubkeys: vec![key.clone()] };
    let (disabled, deleted, generated) = admin.runtime.block_on(async {
        let generate = three.generate(GenerateKeysRequest { count: 1 });
        tokio::join!(one.disable(switch(&[&key])), two.delete(request), generate)
    });
    assert_eq!(reason(disabled), Reason::NotJournaled);
    assert_eq!(reason(deleted), Reason::NotJournaled);
    assert_eq!(reason(generated), Reason::NotJournaled);
    let states = |name: &str| -> u32 {
        database.query_row(&format!("SELECT count(*) FROM validators WHERE {name}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((states("state = 0"), states("true")), (1, 1), "nothing was done");
    drop(server);
}

#[test]
fn policy_judges_each_verb_and_locks_out_no_administrator_by_rules_for_others() {
    let world = World::new(1);
    let key = world.keys[0].public.clone();
    let config = world.path().join("holdfast.toml");
    let others = "[[policy]]\neffect = \"allow\"\ncallers = [\"http\"]\noperations = [\"duties\"]\n";
    let uid = rustix::process::geteuid().as_raw();
    let me =
        format!("\n[[policy]]\neffect = \"allow\"\ncallers = [\"uid/{uid}\"]\noperations = [\"admin.keys.read\"]\n");
    let denied =
        "\n[[policy]]\neffect = \"deny\"\nmeans = [\"unix\"]\noperations = [\"admin.keys.write\"]\n".to_owned();
    for (more, may) in [(String::new(), true), (me, false), (denied, false)] {
        std::fs::write(&config, format!("{others}{more}")).unwrap();
        let server = world.server().global("--config").global(config.display().to_string()).start();
        server.wait_ready();
        let admin = Admin::connect(&world.data_dir());
        let show = ShowKeyRequest { pubkey: key.clone() };
        assert!(admin.runtime.block_on(admin.keys().show(show)).is_ok(), "{more}");
        let disabled = admin.runtime.block_on(admin.keys().disable(switch(&[&key])));
        if may {
            assert_eq!(disabled.unwrap().into_inner().keys[0].result, "done");
        } else {
            assert_eq!(reason(disabled), Reason::Denied, "{more}");
        }
        server.stop();
    }
}

#[test]
fn wrong_input_gets_a_typed_reason() {
    let world = World::new(1);
    let (server, admin) = start(&world);
    let mut keys = admin.keys();
    let show = |pubkey: String| admin.runtime.block_on(admin.keys().show(ShowKeyRequest { pubkey }));
    assert_eq!(reason(show("0x12".to_owned())), Reason::InvalidArgument);
    assert_eq!(reason(show(TestKey::interop(99).public)), Reason::UnknownKey);
    assert_eq!(reason(admin.runtime.block_on(keys.disable(switch(&[])))), Reason::InvalidArgument);
    assert_eq!(
        reason(admin.runtime.block_on(keys.generate(GenerateKeysRequest { count: 100_000 }))),
        Reason::InvalidArgument
    );
    let fence = FenceRequest { pubkeys: vec![TestKey::interop(99).public] };
    assert_eq!(reason(admin.runtime.block_on(admin.slashing().fence(fence))), Reason::UnknownKey);
    let part = |part| ImportHistoriesRequest { part: Some(part) };
    let without_options = [part(HistoryPart::File(b"{}".to_vec()))];
    let refused = admin.runtime.block_on(admin.slashing().import(tokio_stream::iter(without_options)));
    assert_eq!(reason(refused), Reason::MessageOrder);
    let file = [part(HistoryPart::Options(ImportHistoriesOptions::default())), part(HistoryPart::File(b"{}".to_vec()))];
    let refused = admin.runtime.block_on(admin.slashing().import(tokio_stream::iter(file)));
    assert_eq!(reason(refused), Reason::InvalidArgument);
    let foreign = ImportHistoriesOptions {
        genesis_validators_root: Some(format!("0x{}", "11".repeat(32))),
        ..ImportHistoriesOptions::default()
    };
    let histories = Histories { histories: Vec::new() };
    let parts = [part(HistoryPart::Options(foreign)), part(HistoryPart::Histories(histories))];
    let refused = admin.runtime.block_on(admin.slashing().import(tokio_stream::iter(parts)));
    assert_eq!(reason(refused), Reason::WrongChain);
    assert_eq!(block(&server, &world.keys[0].public, 9), 200);
    server.stop();
}
