//! Approvals while a server runs: asked, signed elsewhere, acted upon, and nothing else; the server signs on throughout.
//! Rules for callers and approvers change by a reload the same way.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_approvals::{Payload, Request, Scope};
use holdfast_domain::UnixMillis;
use holdfast_tests::harness::Server;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::CHAIN;

use crate::approvals::{Desk, elsewhere, ssh_key};

fn start(desk: &Desk) -> Server {
    let server = desk.world.server().global("--config").global(&desk.config).start();
    server.wait_ready();
    server
}

fn read(request: &str) -> Request {
    Request::from_text(&std::fs::read_to_string(request).expect("the request")).expect("a request")
}

#[test]
fn a_key_comes_back_through_a_running_server_once_people_elsewhere_approved() {
    let desk = Desk::new(2, "lifetime_hours = 1\n");
    let server = start(&desk);
    let (key, other) = (desk.world.keys[0].public.clone(), desk.world.keys[1].public.clone());
    let signs = |slot: u64| assert_eq!(server.sign(&other, &CHAIN.block(slot, 1).0).status, 200, "slot {slot}");
    desk.run(&["keys", "delete", "--yes", &key]).expect(0, &[]);
    let (keys, password) = (desk.at("keys"), desk.at("password.txt"));
    let fixed = ["keys", "import", "--from", &keys, "--password-file", &password, "--replace-tombstone"];
    let import = |more: &[&str]| desk.run(&[&fixed, more].concat());
    let state = || desk.run(&["--json", "keys", "show", &key]).expect(0, &[]).lines()[0]["state"].clone();

    let place = desk.at("request.txt");
    import(&["--request-to", &place]).expect(1, &["2 of alice, bob, carol", "holdfast approve", &place]);
    signs(10);
    let asked = read(&place);
    desk.run(&["approvals", "status"]).expect(0, &["In force", "threshold 2", "running server"]);
    let id = asked.id.to_string();
    desk.run(&["approvals", "list"]).expect(0, &[&id, "pending", "replace_tombstone", "Import 1 keys."]);
    desk.run(&["approvals", "show", &id]).expect(0, &[asked.to_text().trim_end()]);

    // Whatever is wrong is named, and nothing is done.
    let (alice, bob) = (desk.alice.as_path(), desk.bob.as_path());
    let (eve, _) = ssh_key(desk.keys.path(), "eve");
    let hour = 3_600_000;
    let moved = |by: i64| {
        let shift = |time: UnixMillis| UnixMillis(time.0.checked_add_signed(by).expect("a time"));
        Request { made: shift(asked.made), expires: shift(asked.expires), ..asked.clone() }
    };
    let other_payload = Payload::new(asked.payload.lines().iter().skip(1));
    let other_scope = Scope { instance: [1; 16], ..asked.scope.clone() };
    let cases: [(Request, &[&Path], &str); 8] = [
        (moved(-2 * hour), &[alice, bob], "expired at"),
        (moved(hour), &[alice, bob], "lies in the future"),
        (Request { scope: other_scope, ..asked.clone() }, &[alice, bob], "another place"),
        (Request { payload: other_payload, ..asked.clone() }, &[alice, bob], "something else"),
        (asked.clone(), &[alice, &eve], "nobody who may approve"),
        (asked.clone(), &[alice, bob, bob], "approved twice"),
        (asked.clone(), &[alice], "1 of 2"),
        (asked.clone(), &[], "0 of 2"),
    ];
    for (request, by, words) in cases {
        import(&["--approval", &desk.signed("case.txt", &request, by)]).expect(1, &[words]);
    }
    std::fs::write(desk.at("case.txt"), "hello").expect("a file");
    import(&["--approval", &desk.at("case.txt")]).expect(2, &["case.txt is malformed"]);
    import(&["--watermark", "never-signed", "--approval", &desk.approve(&place)]).expect(1, &["something else"]);
    assert_eq!(state(), "tombstoned");
    signs(11);

    // Signed on other machines, with nothing but the file and a key.
    let machine = tempfile::tempdir().expect("a machine");
    std::fs::copy(&place, machine.path().join("request.txt")).expect("carried over");
    for person in [alice, bob] {
        let person = person.display().to_string();
        elsewhere(machine.path(), &["approve", "request.txt", "--key", &person, "--yes", "--append"])
            .expect(0, &[&key, "approved by SHA256:"]);
    }
    let approved = machine.path().join("request.txt").display().to_string();
    import(&["--approval", &approved]).expect(0, &["1 imported", "running server"]);
    assert_eq!(state(), "enabled");
    signs(12);
    desk.run(&["approvals", "list"]).expect(0, &["Nothing waits"]);
    desk.run(&["approvals", "list", "--all"]).expect(0, &[&id, "used", "given by alice SHA256:", "bob SHA256:"]);

    // Once.
    desk.run(&["keys", "delete", "--yes", &key]).expect(0, &[]);
    import(&["--approval", &approved]).expect(1, &["used before"]);
    assert_eq!(state(), "tombstoned");

    // What was approved is something else once what is here has changed.
    let fresh = TestKey::interop(50);
    fresh.write_keystore(Path::new(&keys), "correct horse");
    let place = desk.at("both.txt");
    import(&["--request-to", &place]).expect(1, &["2 of alice, bob, carol"]);
    assert!(read(&place).payload.lines().iter().any(|line| line.contains(&fresh.public)));
    let both = desk.approve(&place);
    let without = ["keys", "import", "--from", &keys, "--password-file", &password];
    desk.run(&without).expect(1, &["1 imported", "was deleted here"]);
    import(&["--approval", &both]).expect(1, &["something else"]);
    assert_eq!(state(), "tombstoned");
    signs(13);
    server.stop();
    let refused = desk.events().into_iter().filter(|(kind, _)| kind == "approvals.refused");
    let refused: Vec<String> = refused.map(|(_, why)| why.split(':').next().unwrap_or_default().to_owned()).collect();
    let wanted = "expired not_yet_valid wrong_instance changed_payload wrong_approver duplicate_approver too_few too_few \
        changed_payload used changed_payload";
    assert_eq!(refused.join(" "), wanted);
}

/// SIGHUP, until a line has been logged so many times.
fn hang_up(server: &Server, line: &str, times: usize) {
    let pid = server.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    let end = Instant::now() + Duration::from_secs(20);
    while server.log().matches(line).count() < times {
        assert!(Instant::now() < end, "no {line:?} in\n{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn rules_and_approvers_change_by_a_reload_only_once_people_approved() {
    let desk = Desk::new(1, "");
    let server = start(&desk);
    let folder = desk.world.data_dir().join("approvals");
    let files = |before: &str| -> Vec<String> {
        let all = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let named = all.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(before)));
        named.map(|path| path.display().to_string()).collect()
    };
    let randao = || server.sign(&desk.world.keys[0].public, &CHAIN.randao(4).0).status;
    let (nothing, in_force) = ("SIGHUP: nothing changes: ", "the policy of the configuration is in force");
    let before = desk.text();
    let rules = "[[policy]]\nname = \"few\"\neffect = \"allow\"\ncallers = [\"http\"]\noperations = [\"attesting\"]\n";
    // The same again needs nobody.
    hang_up(&server, "SIGHUP: the configuration was read again", 1);
    desk.write(&format!("{before}\n[telemetry]\nlog = \"debug\"\n{rules}"));
    hang_up(&server, nothing, 1);
    assert!(server.log().contains("policy: this needs the approval of 2 of alice, bob, carol"), "{}", server.log());
    assert!(!server.log().contains("telemetry.log is in force"), "nor does anything else change: {}", server.log());
    assert_eq!(randao(), 200);
    let requests = files("approval-policy-");
    let asked = read(&requests[0]);
    assert!(requests.len() == 1 && asked.payload.lines().iter().any(|line| line.contains("\"few\"")), "{asked:?}");
    desk.run(&["approvals", "list"]).expect(0, &[&asked.id.to_string(), "policy", "sighup"]);

    // One person is not enough; what was approved is this change and no other.
    desk.run(&["approvals", "bring", &desk.signed("one.txt", &asked, &[&desk.alice])]).expect(0, &["1 approvals"]);
    hang_up(&server, nothing, 2);
    assert!(server.log().contains("policy: 1 of 2 approvals are there"), "{}", server.log());
    let approved = desk.approve(&requests[0]);
    desk.run(&["approvals", "bring", &approved]).expect(0, &["2 approvals"]);
    desk.write(&format!("{before}\n{}", rules.replace("attesting", "duties")));
    hang_up(&server, nothing, 3);
    assert!(server.log().contains("what was approved is something else"), "{}", server.log());
    assert_eq!(randao(), 200);
    desk.write(&format!("{before}\n{rules}"));
    hang_up(&server, in_force, 1);
    assert_eq!(randao(), 403, "the rules are in force");
    assert!(files("").is_empty(), "what was used is taken away: {:?}", files(""));

    // Once: back, and the same approval again.
    let back = desk.at("back.txt");
    desk.write(&before);
    hang_up(&server, nothing, 4);
    std::fs::copy(&files("approval-policy-")[0], &back).expect("carried over");
    desk.run(&["approvals", "bring", &desk.approve(&back)]).expect(0, &[]);
    hang_up(&server, in_force, 2);
    assert_eq!(randao(), 200);
    desk.write(&format!("{before}\n{rules}"));
    desk.run(&["approvals", "bring", &approved]).expect(0, &[]);
    hang_up(&server, nothing, 5);
    assert_eq!(randao(), 200);

    // Other approvers, by leave of those in force; no policy changes.
    std::fs::remove_file(folder.join("policy.txt")).expect("taken away");
    desk.write(&before.replace("threshold = 2", "threshold = 1"));
    hang_up(&server, nothing, 6);
    assert!(server.log().contains("approvers: this needs the approval of 2 of alice, bob, carol"), "{}", server.log());
    desk.run(&["approvals", "status"]).expect(0, &["threshold 2"]);
    let place = desk.at("approvers.txt");
    std::fs::copy(&files("approval-approvers-")[0], &place).expect("carried over");
    desk.run(&["approvals", "bring", &desk.approve(&place)]).expect(0, &[]);
    hang_up(&server, "the approvers of the configuration are in force", 1);
    desk.run(&["approvals", "status"]).expect(0, &["In force", "threshold 1"]);
    desk.run(&["approvals", "adopt"]).expect(1, &["change by a reload"]);
    // An act that no reload does.
    let place = desk.at("export.txt");
    server.stop();
    desk.run(&["keys", "export", "--all", "--to", &desk.at("out"), "--request-to", &place]).expect(1, &["1 of alice"]);
    desk.run(&["approvals", "bring", &place]).expect(2, &["no reload does"]);
    let kinds: Vec<String> = desk.events().into_iter().map(|(kind, _)| kind).collect();
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((count("approvals.used"), count("approvals.adopted")), (3, 1), "{kinds:?}");
}

#[test]
fn rules_are_given_through_a_running_server_only_once_people_approved() {
    let desk = Desk::new(1, "");
    let server = start(&desk);
    let randao = || server.sign(&desk.world.keys[0].public, &CHAIN.randao(4).0).status;
    let rules = desk.at("rules.toml");
    let write = |operations: &str| {
        let text = format!(
            "[[policy]]\nname = \"few\"\neffect = \"allow\"\ncallers = [\"http\"]\noperations = [\"{operations}\"]\n"
        );
        std::fs::write(&rules, text).expect("rules");
    };
    write("attesting");
    let apply = |more: &[&str]| desk.run(&[&["policy", "apply", &rules], more].concat());
    let place = desk.at("apply.txt");
    apply(&["--dry-run"]).expect(0, &["few"]);
    apply(&["--request-to", &place]).expect(1, &["2 of alice, bob, carol"]);
    let asked = read(&place);
    assert!(asked.payload.lines().iter().any(|line| line.contains("\"few\"")), "{asked:?}");
    apply(&["--approval", &desk.signed("one.txt", &asked, &[&desk.alice])]).expect(1, &["1 of 2 approvals"]);
    write("duties");
    apply(&["--approval", &desk.signed("two.txt", &asked, &[&desk.alice, &desk.bob])]).expect(1, &["something else"]);
    assert_eq!(randao(), 200, "nothing was done");
    write("attesting");
    apply(&["--approval", &desk.signed("two.txt", &asked, &[&desk.alice, &desk.bob])]).expect(0, &["In force now"]);
    assert_eq!(randao(), 403);

    let reset = |more: &[&str]| desk.run(&[&["policy", "reset", "--force"], more].concat());
    let place = desk.at("reset.txt");
    reset(&["--request-to", &place]).expect(1, &["2 of alice, bob, carol"]);
    reset(&["--approval", &desk.at("two.txt")]).expect(1, &["something else"]);
    reset(&["--approval", &desk.approve(&place)]).expect(0, &["In force now"]);
    assert_eq!(randao(), 200);
    apply(&["--approval", &desk.at("two.txt")]).expect(1, &["used before"]);
    assert_eq!(randao(), 200);
    server.stop();
}
