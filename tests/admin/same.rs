//! Proves: every command that a server can do prints the same with a server and without, ends the same, and says which.

use holdfast_tests::finished::run;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::World;
use serde_json::Value;

/// What differs between two databases, or depends on when and by whom something was done.
const OWN: [&str; 19] = [
    "through",
    "instance",
    "instances",
    "hash",
    "seq",
    "entries",
    "created",
    "created_by",
    "changed",
    "changed_by",
    "since",
    "data_dir",
    "place",
    "server",
    "file",
    "keystore",
    "opened_by",
    "protected_by",
    "key",
];

fn scrub(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !OWN.contains(&name.as_str()));
            members.values_mut().for_each(scrub);
        }
        Value::Array(values) => values.iter_mut().for_each(scrub),
        _ => {}
    }
}

/// Exit code, results without what is their own, and who did it.
fn outcome(world: &World, arguments: &[&str]) -> (i32, Vec<Value>, Vec<String>) {
    let mut all = world.with(&["--json"]);
    all.extend(arguments.iter().map(|argument| argument.replace("FOLDER", &world.path().display().to_string())));
    let finished = run(&all);
    let mut lines = finished.lines();
    let through = lines.iter().filter_map(|line| line["through"].as_str().map(str::to_owned)).collect();
    lines.iter_mut().for_each(scrub);
    (finished.code, lines, through)
}

#[test]
fn each_command_does_the_same_with_a_server_and_without() {
    let (served, alone) = (World::new(2), World::new(2));
    let server = served.server().start();
    server.wait_ready();
    let extra = TestKey::interop(9);
    let unknown = TestKey::interop(50).public;
    for world in [&served, &alone] {
        let folder = world.path().join("more");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("good.json"), extra.keystore("correct horse")).unwrap();
        std::fs::write(folder.join("wrong.json"), TestKey::interop(10).keystore("other")).unwrap();
        std::fs::write(folder.join("broken.json"), "{\"crypto\": 1, \"pubkey\": \"\"}").unwrap();
        std::fs::write(world.path().join("bad.json"), "{}").unwrap();
    }
    let key = served.keys[0].public.clone();
    let password = ["--password-file", "FOLDER/password.txt"];
    let import = ["keys", "import", "--from", "FOLDER/more", password[0], password[1], "--watermark", "never-signed"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["keys", "list"],
        vec!["keys", "show", &key],
        vec!["keys", "show", &unknown],
        import.to_vec(),
        import.to_vec(),
        vec!["keys", "enable", &key],
        vec!["keys", "list"],
        vec!["slashing", "export", "--to", "FOLDER/history.json"],
        vec!["slashing", "export", "--to", "FOLDER/history.json", "--disable", "--key", &key, "--key", &unknown],
        vec!["slashing", "import", "--from", "FOLDER/history.json", "--dry-run"],
        vec!["slashing", "import", "--from", "FOLDER/history.json"],
        vec!["slashing", "import", "--from", "FOLDER/bad.json"],
        vec!["slashing", "fence", "--key", &unknown],
        vec!["slashing", "status"],
        vec!["slashing", "status", "--verify"],
        vec!["keys", "delete", "--yes", &extra.public, &unknown],
        vec!["keys", "delete", "--yes", &extra.public],
        import.to_vec(),
        vec!["keys", "list", "--all"],
        vec!["kek", "status"],
        vec!["kek", "rotate"],
        vec!["kek", "rotate", "--data-key"],
        vec!["status"],
        vec!["audit", "prove", "--batch", "100000", "--index", "0", "--to", "FOLDER/proof"],
        vec!["keys", "disable", &key, &unknown],
        vec!["keys", "list"],
        // Last: from here on watermarks depend on the time.
        vec!["keys", "enable", &key, &unknown],
    ];
    for command in commands {
        let (with, without) = (outcome(&served, &command), outcome(&alone, &command));
        assert_eq!(with.0, without.0, "{command:?} ends differently: {with:?} and {without:?}");
        assert_eq!(with.1, without.1, "{command:?} prints differently");
        assert!(with.2.iter().all(|through| through == "server"), "{command:?}: {with:?}");
        assert!(without.2.iter().all(|through| through == "database"), "{command:?}: {without:?}");
        assert_eq!(with.2.len(), without.2.len(), "{command:?}");
    }
    let told = run(&served.with(&["keys", "list"])).expect(0, &["Working through the running server at unix:"]);
    assert!(!told.stderr.contains("No server"), "{}", told.stderr);
    run(&alone.with(&["keys", "list"])).expect(0, &["No server is running; working on"]);
    let text = std::fs::read_to_string(served.path().join("history.json")).unwrap();
    assert_eq!(text, std::fs::read_to_string(alone.path().join("history.json")).unwrap());
    audit(&served, "server");
    audit(&alone, "database");
    server.stop();
}

/// An export, gone on with, and what is read of it, verify.
fn audit(world: &World, through: &str) {
    let file = world.path().join("export.jsonl").display().to_string();
    let export = |more: &[&str]| {
        let mut all = world.with(&["--json", "audit", "export", "--to", &file]);
        all.extend(more.iter().map(|&argument| argument.to_owned()));
        run(&all)
    };
    let first = export(&[]).expect(0, &[]).lines();
    assert_eq!(first[0]["through"], through);
    export(&[]).expect(2, &["is there already"]);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    export(&["--resume"]).expect(0, &[]);
    // It covers the record of the first one, too.
    let before = world.path().join("before.jsonl").display().to_string();
    std::fs::write(&before, &whole).unwrap();
    run(&world.with(&["audit", "consistency", &before, &file])).expect(0, &["consistent"]);
    let tail = run(&world.with(&["audit", "tail", "--operation", "audit.exported"])).expect(0, &[]).stdout;
    let recorded = tail.lines().filter(|line| line.contains("audit.exported")).count();
    assert!(first[0]["recorded"] == true && recorded >= 2, "{tail}");
    run(&world.with(&["audit", "verify", &file])).expect(0, &["verified"]);
    run(&world.with(&["audit", "tail", "-n", "12"])).expect(0, &["admin."]);
    let proof = world.path().join("proof.jsonl").display().to_string();
    run(&world.with(&["audit", "prove", "--batch", "1", "--index", "0", "--to", &proof])).expect(0, &[]);
    run(&world.with(&["audit", "verify", &proof])).expect(0, &["verified"]);
    let csv = world.path().join("export.csv").display().to_string();
    run(&world.with(&["audit", "export", "--format", "csv", "--to", &csv])).expect(0, &[]);
    assert!(std::fs::read_to_string(&csv).unwrap().lines().count() > 3);
}
