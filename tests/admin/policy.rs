//! Proves: rules given through the admin API count whole and with the next request, and over restarts; nobody replaces rules
//! he has not seen, shuts himself out or opens everything by mistake; what cannot be journaled is not done; an altered file
//! of rules starts nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::Server;
use holdfast_tests::journal;
use holdfast_tests::world::{CHAIN, World};
use holdfast_wire::admin::Reason;
use holdfast_wire::admin::v1::policy_question::What;
use holdfast_wire::admin::v1::{
    ChangePolicyResponse, CheckPolicyRequest, ExplainPolicyRequest, PolicyOrigin, PolicyQuestion, PolicyRules,
    ReplacePolicyRequest, ResetPolicyRequest, ShowPolicyRequest, ShowPolicyResponse,
};
use tonic::Status;

use crate::client::{Admin, reason};

fn start(world: &World) -> (Server, Admin) {
    let server = world.server().global("--config").global(world.path().join("holdfast.toml")).start();
    server.wait_ready();
    let admin = Admin::connect(&world.data_dir());
    (server, admin)
}

/// A world with this configuration.
fn world(keys: u64, config: &str) -> World {
    let world = World::new(keys);
    configure(&world, config);
    world
}

fn configure(world: &World, config: &str) {
    std::fs::write(world.path().join("holdfast.toml"), config).expect("a configuration");
}

/// A command, with the configuration of the world.
fn holdfast(world: &World, rest: &[&str]) -> Finished {
    let config = world.path().join("holdfast.toml").display().to_string();
    run(&world.with(&[&["--config", &config], rest].concat()))
}

fn show(admin: &Admin) -> ShowPolicyResponse {
    admin.runtime.block_on(admin.policy().show(ShowPolicyRequest {})).expect("it is shown").into_inner()
}

fn in_force(admin: &Admin) -> PolicyRules {
    show(admin).in_force.expect("there always are some")
}

fn wanted(admin: &Admin, rules: &str) -> ReplacePolicyRequest {
    let expected_digest = in_force(admin).digest;
    ReplacePolicyRequest {
        rules_toml: rules.to_owned(),
        expected_digest,
        dry_run: false,
        force: false,
        approval: Vec::new(),
    }
}

fn replace(admin: &Admin, request: ReplacePolicyRequest) -> Result<ChangePolicyResponse, Status> {
    admin.runtime.block_on(admin.policy().replace(request)).map(tonic::Response::into_inner)
}

/// Rules by which clients may sign with one key only, and see that one only.
fn only(key: &str) -> String {
    format!(
        "# for a test\n[[policy]]\nname = \"one\"\neffect = \"allow\"\ncallers = [\"http\"]\nkeys = [\"{key}\"]\n\
         operations = [\"duties\", \"list\"]\n"
    )
}

fn listed(server: &Server) -> Vec<String> {
    let answer = server.get("/api/v1/eth2/publicKeys");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).expect("a list")
}

fn randao(server: &Server, key: &str) -> u16 {
    server.sign(key, &CHAIN.randao(4).0).status
}

#[test]
fn each_request_is_judged_by_one_policy_and_the_next_one_by_the_new() {
    let world = world(2, "");
    let (server, admin) = start(&world);
    let keys = [world.keys[0].public.clone(), world.keys[1].public.clone()];
    assert_eq!(listed(&server).len(), 2);
    assert!(replace(&admin, wanted(&admin, &only(&keys[0]))).expect("it is done").done);
    let (end, lists) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    let seen = listed(&server);
                    assert!(seen == [keys[0].as_str()] || seen == [keys[1].as_str()], "half of each: {seen:?}");
                    lists.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=30 {
            let (may, may_not) = (&keys[round % 2], &keys[(round + 1) % 2]);
            assert!(replace(&admin, wanted(&admin, &only(may))).expect("it is done").done);
            assert_eq!(listed(&server), [may.as_str()], "round {round}");
            assert_eq!((randao(&server, may), randao(&server, may_not)), (200, 403), "round {round}");
        }
        end.store(true, Ordering::Relaxed);
    });
    assert!(lists.load(Ordering::Relaxed) > 30, "{lists:?} lists were asked for meanwhile");
    // Two administrators who saw the same rules: one of them is told.
    let request =
        |key: &str| ReplacePolicyRequest { expected_digest: in_force(&admin).digest, ..wanted(&admin, &only(key)) };
    let (one, two) = (
        request(&keys[1]),
        ReplacePolicyRequest {
            rules_toml: format!("{}# 2\n[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\n", only(&keys[0])),
            ..request(&keys[0])
        },
    );
    let (mut first, mut second) = (admin.policy(), admin.policy());
    let (one, two) = admin.runtime.block_on(async { tokio::join!(first.replace(one), second.replace(two)) });
    let refused = match (one, two) {
        (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused,
        other => panic!("exactly one is done: {other:?}"),
    };
    assert_eq!(reason::<()>(Err(refused)), Reason::Stale);
    assert!(server.stop().0.success());
    let events = journal::read(&world.data_dir()).events;
    let replaced: Vec<_> = events.iter().filter(|event| event.kind().as_str() == "policy.replaced").collect();
    assert_eq!(replaced.len(), 32);
    assert!(replaced.iter().all(|event| event.caller().as_str().starts_with("uid/")), "{replaced:?}");
    for pair in replaced.windows(2) {
        let (_, after) = pair[0].why().split_once(" to ").expect("from and to");
        assert!(pair[1].why().starts_with(&format!("from {after}")), "{pair:?}");
    }
}

#[test]
fn what_must_not_happen_by_mistake_is_refused_and_changes_nothing() {
    let world = world(1, "");
    let (server, admin) = start(&world);
    let key = world.keys[0].public.clone();
    let given = only(&key);
    assert!(replace(&admin, wanted(&admin, &given)).expect("it is done").done);
    let before = show(&admin);
    let uid = rustix::process::geteuid().as_raw();
    let request = wanted(&admin, &given);
    let with = |rules: &str| ReplacePolicyRequest { rules_toml: rules.to_owned(), ..request.clone() };
    let refused = |request: ReplacePolicyRequest, expected: Reason, part: &str| {
        let status = replace(&admin, request).expect_err("it is refused");
        assert!(status.message().contains(part), "no {part:?} in {status:?}");
        assert_eq!(reason::<()>(Err(status)), expected);
        assert_eq!(show(&admin), before, "nothing changed");
    };
    // Wrong rules, with their place.
    let wrong = "[[policy]]\neffect = \"allow\"\noperations = [\"list\", \"dutys\"]\n";
    refused(with(wrong), Reason::InvalidArgument, "line 3, column 14: ");
    refused(with("[[policy]\n"), Reason::InvalidArgument, "line 1, column ");
    refused(with("[http]\nlisten = \"127.0.0.1:1\"\n"), Reason::InvalidArgument, "nothing else");
    let file = "[[groups]]\nname = \"g\"\nfile = \"/etc/passwd\"\n";
    refused(with(file), Reason::InvalidArgument, "line 3, column 8: rules that are sent stand alone");
    refused(with(&"#".repeat(5 * 1024 * 1024)), Reason::InvalidArgument, "longer than 4 MiB");
    // Others than those in force.
    let other = format!("{given}[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\n");
    let expecting = |digest: &str| ReplacePolicyRequest { expected_digest: digest.to_owned(), ..with(&other) };
    refused(expecting(&"0".repeat(64)), Reason::Stale, "nothing was done");
    refused(expecting(""), Reason::InvalidArgument, "expected_digest");
    refused(expecting("12"), Reason::InvalidArgument, "64 hexadecimal digits");
    // Shut out, and open to everybody.
    let others =
        format!("{given}[[policy]]\neffect = \"deny\"\ncallers = [\"uid/*\"]\noperations = [\"admin.policy.write\"]\n");
    refused(with(&others), Reason::Refused, "admin.policy.write");
    let named =
        format!("{given}[[policy]]\neffect = \"allow\"\ncallers = [\"uid/{uid}\"]\noperations = [\"admin.keys.*\"]\n");
    refused(with(&named), Reason::Refused, "may not change the policy any more");
    refused(with("# nothing\n"), Reason::Refused, "every caller may do everything");
    // A dry run answers what would be, and changes nothing.
    let dry = ReplacePolicyRequest { dry_run: true, expected_digest: String::new(), ..with(&named) };
    let answer = replace(&admin, dry).expect("an answer");
    assert!(!answer.done && answer.objection.is_some(), "{answer:?}");
    assert_eq!(answer.changes.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["rule 2"]);
    assert_eq!(show(&admin), before);
    // The same again is nothing to do, whatever its comments.
    assert!(!replace(&admin, with(&format!("# again\n{given}"))).expect("an answer").done);
    assert_eq!(show(&admin), before);
    // Checked and explained by the rules in force, or by others.
    let check = |rules_toml| {
        let checked = admin.runtime.block_on(admin.policy().check(CheckPolicyRequest { rules_toml }));
        checked.expect("an answer").into_inner()
    };
    assert_eq!(check(None).rules.expect("rules").digest, request.expected_digest);
    let shadowed = check(Some(format!("{given}[[policy]]\neffect = \"deny\"\noperations = [\"*\"]\n")));
    let warning = shadowed.findings.iter().find(|one| one.warning && one.rule == "one").expect("a warning");
    assert!(warning.line == 2 && warning.message.contains("never applies"), "{warning:?}");
    let question = |what| PolicyQuestion {
        caller: "http".to_owned(),
        pubkey: key.clone(),
        what: Some(what),
        ..PolicyQuestion::default()
    };
    let body = CHAIN.block(9, 1).0.to_string().into_bytes();
    let questions = vec![question(What::SigningRequest(body)), question(What::Operation("exit".to_owned()))];
    let explained = admin.runtime.block_on(admin.policy().explain(ExplainPolicyRequest { questions }));
    let answers = explained.expect("answers").into_inner().answers;
    let told: Vec<_> = answers
        .iter()
        .map(|one| (one.operation.as_str(), one.decisions[0].allowed, one.decisions[0].rule.as_str()))
        .collect();
    assert_eq!(told, [("block", true, "one"), ("voluntary_exit", false, "")]);
    // Forced, it is done; then this administrator may not even look.
    let forced = ReplacePolicyRequest { force: true, ..with(&named) };
    assert!(replace(&admin, forced).expect("it is done").done);
    assert_eq!(reason(admin.runtime.block_on(admin.policy().show(ShowPolicyRequest {}))), Reason::Denied);
    let reset = ResetPolicyRequest { dry_run: true, ..ResetPolicyRequest::default() };
    assert_eq!(reason(admin.runtime.block_on(admin.policy().reset(reset))), Reason::Denied);
    assert!(server.stop().0.success());
    // Who has the data directory gets out of it without a server: the same service, on the database.
    holdfast(&world, &["policy", "reset"]).expect(1, &["every caller may do everything"]);
    let done = holdfast(&world, &["--json", "policy", "reset", "--force"]).expect(0, &[]).lines().remove(0);
    assert_eq!((&done["status"], &done["through"]), (&"done".into(), &"database".into()));
    let (server, admin) = start(&world);
    assert_eq!(in_force(&admin).rules, 0);
    assert_eq!(randao(&server, &key), 200);
    server.stop();
}

#[test]
fn rules_that_were_given_stay_until_they_are_withdrawn() {
    let config = "[[policy]]\nname = \"file\"\neffect = \"allow\"\noperations = [\"list\"]\n";
    let world = world(1, config);
    let (server, admin) = start(&world);
    let key = world.keys[0].public.clone();
    let configured = in_force(&admin);
    assert_eq!((configured.origin(), configured.by.as_str()), (PolicyOrigin::Configuration, "start"));
    assert_eq!(randao(&server, &key), 403);
    // By the command line: from a file of rules whose group names a file.
    let (rules, list) = (world.path().join("rules.toml"), world.path().join("list.txt"));
    std::fs::write(&list, format!("{key} # ours\n")).unwrap();
    let text = format!(
        "[[groups]]\nname = \"ours\"\nfile = \"{}\"\n[[policy]]\nname = \"given\"\neffect = \"allow\"\ngroups = [\"ours\"]\n\
         operations = [\"duties\"]\n",
        list.display()
    );
    std::fs::write(&rules, text).unwrap();
    let rules = rules.display().to_string();
    let stale = "0".repeat(64);
    holdfast(&world, &["policy", "apply", &rules, "--expect", &stale]).expect(1, &["other rules are in force"]);
    holdfast(&world, &["policy", "apply", &rules, "--dry-run"])
        .expect(0, &["Nothing was done", "- rule \"file\"", "+ rule \"given\"", "+ group \"ours\"", &key]);
    assert_eq!(in_force(&admin).digest, configured.digest);
    let digest = configured.digest.clone();
    let applied = holdfast(&world, &["--json", "policy", "apply", &rules, "--expect", &digest]).expect(0, &[]);
    let applied = applied.lines().remove(0);
    assert_eq!((&applied["status"], &applied["through"]), (&"done".into(), &"server".into()));
    assert_eq!(randao(&server, &key), 200);
    std::fs::remove_file(&list).unwrap();
    std::fs::write(&rules, "[[policy]]\neffect = \"allow\"\noperation = []\n").unwrap();
    holdfast(&world, &["policy", "apply", &rules]).expect(2, &["rules.toml:3:1: ", "did you mean"]);
    // SIGHUP reads the configuration, and says that it counts for nothing.
    configure(&world, &config.replace("\"list\"", "\"duties\", \"list\""));
    let asked = ["--json", "policy", "explain", "--caller", "http", "--op", "block"];
    let by = |more: &[&str], code| holdfast(&world, &[&asked, more].concat()).expect(code, &[]).lines().remove(0);
    assert_eq!(by(&["--configuration"], 0)["through"], "configuration");
    assert_eq!(by(&[], 0)["decisions"][0]["rule"], "given");
    holdfast(&world, &["policy", "check", "--configuration"]).expect(0, &["1 rules, as they should be"]);
    // Looking says what doing would.
    holdfast(&world, &["reload", "--dry-run"]).expect(1, &["counts for nothing until `holdfast policy reset`"]);
    let pid = server.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !server.log().contains("counts for nothing until `holdfast policy reset`") {
        assert!(std::time::Instant::now() < end, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(in_force(&admin).origin(), PolicyOrigin::Given);
    assert!(server.stop().0.success());
    // A restart keeps them, and says so.
    let (server, admin) = start(&world);
    assert!(server.log().contains("was given through the admin API"), "{}", server.log());
    let shown = show(&admin);
    let again = shown.in_force.expect("rules");
    assert_eq!(again.origin(), PolicyOrigin::Given);
    assert!(again.by.starts_with("uid/") && again.since_unix_millis > configured.since_unix_millis, "{again:?}");
    assert_ne!(shown.configured.expect("those of the configuration").digest, configured.digest);
    assert_eq!(randao(&server, &key), 200);
    holdfast(&world, &["status"]).expect(0, &["given through the admin API by uid/"]);
    // What is shown can be applied.
    let saved = holdfast(&world, &["policy", "show"]).expect(0, &["# policy show: 1 rules", "name = \"given\"", &key]);
    std::fs::write(&rules, &saved.stdout).unwrap();
    holdfast(&world, &["policy", "apply", &rules]).expect(0, &["Nothing to do"]);
    assert!(server.stop().0.success());
    // Without a server the same is looked at.
    let here = holdfast(&world, &["--json", "policy", "show"]).expect(0, &[]).lines().remove(0);
    assert_eq!((&here["through"], &here["in_force"]["sha256"]), (&"configuration".into(), &again.digest.into()));
    let explain = ["policy", "explain", "--caller", "http", "--op", "block", "--key", &key];
    holdfast(&world, &explain).expect(0, &["rule \"given\" allows it", "No server answers"]);
    holdfast(&world, &["policy", "check"]).expect(0, &["given through the admin API by uid/"]);
    // A backup has them, and a restore puts them back.
    let (backup, restored) = (world.path().join("backup").display().to_string(), world.path().join("restored"));
    holdfast(&world, &["backup", "create", "--to", &backup]).expect(0, &[]);
    let there = |rest: &[&str]| {
        let mut arguments = world.arguments_in(&restored);
        arguments.extend(rest.iter().map(|&one| one.to_owned()));
        run(&arguments)
    };
    there(&["backup", "restore", "--from", &backup]).expect(0, &["are in force again as they were then"]);
    let back = there(&["--json", "policy", "show"]).expect(0, &[]).lines().remove(0);
    assert_eq!(back["in_force"], here["in_force"]);
    // A file that was altered starts nothing, and is no reason to go back to the configuration.
    let kept = world.data_dir().join("policy.toml");
    let text = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&kept, text.replace("\"duties\"", "\"signing\"")).unwrap();
    let failure = world.server().try_start().map(|_| ()).expect_err("it must not start");
    assert!(failure.contains("policy.toml was changed by something else"), "{failure}");
    holdfast(&world, &["policy", "show"]).expect(2, &["policy reset --force"]);
    holdfast(&world, &["policy", "reset"]).expect(2, &["policy reset --force"]);
    holdfast(&world, &["policy", "reset", "--force"]).expect(0, &["In force now: 1 rules"]);
    let (server, admin) = start(&world);
    assert_eq!((in_force(&admin).origin(), randao(&server, &key)), (PolicyOrigin::Configuration, 200));
    // And while it runs.
    let given = replace(&admin, wanted(&admin, "[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\n"));
    assert!(given.expect("it is done").done);
    assert_eq!(randao(&server, &key), 403);
    holdfast(&world, &["policy", "reset", "--dry-run"]).expect(0, &["Nothing was done"]);
    holdfast(&world, &["policy", "reset"]).expect(0, &["In force now: 1 rules"]);
    assert_eq!(randao(&server, &key), 200);
    assert!(!kept.exists());
    holdfast(&world, &["policy", "reset"]).expect(0, &["Nothing to do"]);
    configure(&world, config);
    holdfast(&world, &["policy", "check"])
        .expect(0, &["has other rules by now", "`holdfast reload` puts them in force"]);
    assert!(server.stop().0.success());
}

#[test]
fn rules_that_cannot_be_journaled_or_kept_or_approved_do_not_count() {
    let world = world(1, "");
    let (server, admin) = start(&world);
    let key = world.keys[0].public.clone();
    let rules = "[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\n";
    let kept = world.data_dir().join("policy.toml");
    // A folder in its place: the file cannot be given its name.
    std::fs::create_dir(&kept).unwrap();
    assert_eq!(reason(replace(&admin, wanted(&admin, rules))), Reason::Unavailable);
    assert_eq!((in_force(&admin).rules, randao(&server, &key)), (0, 200));
    std::fs::remove_dir(&kept).unwrap();
    // From now on the database takes everything but rows of the journal.
    let database = rusqlite::Connection::open(world.data_dir().join("holdfast.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let request = wanted(&admin, rules);
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON journal BEGIN SELECT raise(ABORT, 'broken by a test'); END";
    database.execute_batch(trigger).unwrap();
    assert_eq!(reason(replace(&admin, request)), Reason::NotJournaled);
    assert!(!kept.exists(), "nothing was written");
    drop(server);
    database.execute_batch("DROP TRIGGER broken").unwrap();
    drop(database);
    let events = journal::read(&world.data_dir()).events;
    let told: Vec<_> = events.iter().map(|event| event.kind().as_str()).filter(|kind| !kind.contains("key")).collect();
    assert!(told.contains(&"admin.failed"), "the folder in its place is on record: {told:?}");
}

#[test]
fn where_people_must_approve_the_policy_a_server_refuses_without_them() {
    let world = World::new(1);
    let approver = world.path().join("approver");
    let made = run(&["approvals", "keygen", "--to", &approver.display().to_string()]).expect(0, &["ssh-ed25519 "]);
    let people = made.stdout.trim();
    configure(&world, &format!("[approvals]\nacts = [\"policy\"]\napprovers = [\"alice {people}\"]\nthreshold = 1\n"));
    let (server, admin) = start(&world);
    let rules = "[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\n";
    assert_eq!(reason(replace(&admin, wanted(&admin, rules))), Reason::ApprovalRequired);
    let dry = ReplacePolicyRequest { dry_run: true, ..wanted(&admin, rules) };
    assert!(!replace(&admin, dry).expect("looking needs nobody").done);
    assert_eq!((in_force(&admin).rules, randao(&server, &world.keys[0].public)), (0, 200));
    server.stop();
}

#[test]
fn killed_at_any_moment_it_has_the_rules_that_were_acknowledged_or_those_on_their_way() {
    let world = world(1, "");
    let mut number = 0;
    let (mut acknowledged, mut on_its_way) = (String::new(), String::new());
    for round in 1..=6 {
        let (server, admin) = start(&world);
        let shown = show(&admin);
        let may = [acknowledged.as_str(), on_its_way.as_str()];
        assert!(may.contains(&shown.rules_toml.as_str()), "round {round}: {shown:?}, not one of {may:?}");
        let mut expected_digest = shown.in_force.expect("rules").digest;
        acknowledged = shown.rules_toml;
        let done = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while done.load(Ordering::Relaxed) < round {
                    std::thread::yield_now();
                }
                server.kill9();
            });
            loop {
                number += 1;
                on_its_way = format!(
                    "[[policy]]\nname = \"number {number}\"\neffect = \"allow\"\noperations = [\"duties\", \"list\"]\n"
                );
                let rules_toml = on_its_way.clone();
                let request = ReplacePolicyRequest { rules_toml, expected_digest, ..ReplacePolicyRequest::default() };
                let Ok(answer) = replace(&admin, request) else { break };
                expected_digest = answer.after.expect("rules").digest;
                acknowledged.clone_from(&on_its_way);
                done.fetch_add(1, Ordering::Relaxed);
            }
            assert!(done.swap(round, Ordering::Relaxed) >= round, "it was killed, and refused nothing before");
        });
    }
    let (server, admin) = start(&world);
    assert!([acknowledged, on_its_way].contains(&show(&admin).rules_toml));
    assert_eq!(randao(&server, &world.keys[0].public), 200);
    server.stop();
}
