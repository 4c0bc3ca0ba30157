//! Secrets are planted everywhere an operator has them; the program works, fails and crashes; and nothing that it
//! leaves behind holds one: logs at every level, messages, results, metrics, command lines and environments of its
//! processes, core dumps, files, the journal and its export. (Memory is searched in tests/vault and tests/providers.)

mod search;
mod stage;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::harness::Server;
use holdfast_tests::http::once;
use holdfast_tests::world::CHAIN;
use serde_json::json;

use search::{Findings, Secret, found};
use stage::Planted;

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_mins(1);
/// Lifts the limit on core dumps, then becomes the program.
const DUMPING: &str = "ulimit -c unlimited && exec \"$0\" \"$@\"";

#[test]
fn the_search_finds_what_is_there() {
    let secret = [Secret::new("control", b"c0ntr0l-s3cret-7f")];
    let encode = |text: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let text = b"x c0ntr0l-s3cret-7f y";
    for shown in [
        text.to_vec(),
        hex::encode(text).into_bytes(),
        hex::encode_upper(text).into_bytes(),
        encode(text).into_bytes(),
        encode(&text[1..]).into_bytes(),
        encode(&text[2..]).into_bytes(),
    ] {
        assert!(!found(&secret, &shown).is_empty(), "{}", String::from_utf8_lossy(&shown));
    }
    assert!(found(&secret, b"c0ntr0l-s3cret-7").is_empty());
}

#[test]
fn nothing_that_is_left_behind_holds_a_secret() {
    for (number, planted) in [Planted::with_passphrase("text"), Planted::with_transit("json")].iter().enumerate() {
        let mut findings = Findings::default();
        commands(planted, &mut findings);
        let log = works(planted, number, &mut findings);
        assert!(log.contains("TRACE") || log.contains("trace"), "the log is at its lowest level");
        fails(planted, &mut findings);
        // A copy that must be found, at a place that is searched like all others.
        let control = planted.world.data_dir().join("control");
        let known = Secret::new("control", b"c0ntr0l-s3cret-7f");
        std::fs::write(&control, "c0ntr0l-s3cret-7f").expect("a control copy");
        let mut secrets = planted.secrets();
        secrets.push(known);
        findings.look_below(planted.world.path(), &Planted::INPUTS, &secrets);
        let at_control = format!("{}: control (raw)", control.display());
        let (control, leaks): (Vec<String>, Vec<String>) =
            findings.leaks.into_iter().partition(|leak| *leak == at_control);
        assert_eq!(control.len(), 1, "the search misses what is there");
        assert!(leaks.is_empty(), "{leaks:#?}");
        assert!(findings.places > 30 && findings.bytes > 50_000, "{} places", findings.places);
        println!("{} places, {} bytes, {} secrets, none shown", findings.places, findings.bytes, secrets.len());
    }
}

/// Everything a person does at a terminal, well and badly.
fn commands(planted: &Planted, findings: &mut Findings) {
    let secrets = planted.secrets();
    let mut run = |arguments: &[&str], codes: &[i32]| {
        let finished = planted.run(arguments);
        assert!(codes.contains(&finished.code), "{arguments:?}\n{}", finished.text());
        findings.look(&arguments.join(" "), &secrets, finished.text().as_bytes());
    };
    let path = |name: &str| planted.path(name);
    run(&["kek", "init"], &[0]);
    let (keys, right, wrong) = (path("keystores"), path("secrets/keystore-password"), path("secrets/wrong-password"));
    for (password, code) in [(&wrong, 1), (&right, 0)] {
        let arguments = ["keys", "import", "--from", &keys, "--password-file", password, "--watermark", "never-signed"];
        run(&arguments, &[code]);
    }
    run(&["keys", "generate", "--count", "1", "--mnemonic-file", &path("secrets/mnemonic")], &[0]);
    run(&["keys", "generate", "--count", "1", "--mnemonic-file", &path("secrets/broken-mnemonic")], &[1, 2]);
    for form in [&[][..], &["--json"]] {
        for command in [
            &["config", "validate"][..],
            &["doctor"],
            &["status"],
            &["keys", "list"],
            &["kek", "status"],
            &["slashing", "status"],
        ] {
            run(&[form, command].concat(), &[0, 1, 3]);
        }
    }
}

/// A server that signs, serves the Keymanager API, and crashes. What it logged.
fn works(planted: &Planted, number: usize, findings: &mut Findings) -> String {
    let secrets = planted.secrets();
    let server = planted.server().start();
    server.wait_ready();
    let key = &planted.keys[0].public;
    for step in 0..3 {
        assert_eq!(server.sign(key, &CHAIN.randao(step).0).status, 200);
    }
    let (vote, _) = CHAIN.attestation(16, 0, 1, 0);
    // A vault votes only in epochs that begin after it did.
    let voted = if planted.children == 0 { 200 } else { 412 };
    assert_eq!(server.sign(key, &vote).status, voted);
    let (double, _) = CHAIN.attestation(16, 0, 1, 1);
    assert_eq!(server.sign(key, &double).status, 412);
    keymanager(planted, &server, findings);
    // At its end it sends a checkpoint elsewhere.
    let (ended, first) = server.stop();
    assert!(ended.success() && planted.webhook_was_called(), "{first}");
    findings.look("the log of a server that stopped", &secrets, first.as_bytes());
    let server = planted.server().start();
    server.wait_ready();
    assert_eq!(server.sign(key, &CHAIN.randao(9).0).status, 200);
    for path in ["/metrics", "/readyz", "/healthcheck"] {
        let answer = server.get_metrics(path).text();
        findings.look(path, &secrets, answer.as_bytes());
    }
    for arguments in [&["status"][..], &["doctor"], &["audit", "tail"], &["audit", "checkpoint"]] {
        let finished = planted.run(arguments);
        findings.look(&format!("{arguments:?} beside a server"), &secrets, finished.text().as_bytes());
    }
    processes(planted, &server, findings);
    crash(planted, server, number, findings)
}

fn keymanager(planted: &Planted, server: &Server, findings: &mut Findings) {
    let secrets = planted.secrets();
    let token = format!("Bearer {}", planted.token);
    let wrong = format!("Bearer {}x", planted.token);
    let other = &planted.keys[1];
    let import = |password: &str| {
        json!({ "keystores": [other.keystore(&planted.keystore_password)], "passwords": [password] }).to_string()
    };
    let authorised = |token: &str, method: &str, body: &str| {
        let headers = [("Authorization", token), ("Content-Type", "application/json")];
        once(server.http_addr(), method, "/eth/v1/keystores", &headers, body.as_bytes()).expect("an answer")
    };
    let answers = [
        authorised(&token, "GET", ""),
        authorised(&wrong, "GET", ""),
        authorised(&token, "POST", &import(&format!("{}x", planted.keystore_password))),
        authorised(&token, "POST", &import(&planted.keystore_password)),
        authorised(&token, "POST", &format!("{{\"passwords\": \"{}\"}}", planted.keystore_password)),
    ];
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 403, 200, 200, 400]);
    for answer in answers {
        findings.look("an answer of the Keymanager API", &secrets, answer.text().as_bytes());
    }
}

/// What the system shows of the server and each of its children to whoever may look.
fn processes(planted: &Planted, server: &Server, findings: &mut Findings) {
    let (all, ours) = (planted.secrets(), planted.secrets_not_in_environment());
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("threads");
    let children: Vec<String> = tasks
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(children.len(), planted.children, "{children:?}");
    for process in std::iter::once(&server.pid().to_string()).chain(&children) {
        let read = |what: &str| std::fs::read(format!("/proc/{process}/{what}")).expect("as root all can be read");
        let limits = String::from_utf8_lossy(&read("limits")).into_owned();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit").to_owned();
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
        findings.look("a command line", &all, &read("cmdline"));
        // What the operator put into the server's own environment is there; its children get none of it.
        let secrets = if *process == server.pid().to_string() { &ours } else { &all };
        findings.look("an environment", secrets, &read("environ"));
    }
}

/// Ends the server as a bug in it would, where a control process leaves a core dump behind.
fn crash(planted: &Planted, server: Server, number: usize, findings: &mut Findings) -> String {
    let secrets = planted.secrets();
    let log = server.log();
    findings.look("the log of a server", &secrets, log.as_bytes());
    server.kill9();
    // Started again by a shell that allows dumps, in a folder of its own, and ended as by abort().
    let folder = planted.world.path().join(format!("dumps-{number}"));
    std::fs::create_dir(&folder).expect("a folder for dumps");
    let abort = |mut child: std::process::Child| {
        Command::new("kill").args(["-ABRT", &child.id().to_string()]).status().expect("kill runs");
        child.wait().expect("it ends")
    };
    let mut control = Command::new("sh");
    control.args(["-c", DUMPING, "sleep", "60"]).current_dir(&folder);
    let child = control.spawn().expect("sh starts");
    let end = Instant::now() + LIMIT;
    let is_sleep = |id: u32| std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"));
    while !is_sleep(child.id()) {
        assert!(Instant::now() < end, "sleep does not run");
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = abort(child);
    assert_eq!(ended.signal(), Some(6));
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    let here = !pattern.starts_with('|') && !pattern.starts_with('/');
    assert_eq!(dumps(&folder), usize::from(here && ended.core_dumped()), "a dump is looked for where it would be");

    let builder = planted.server();
    let ours = builder.command();
    let mut dumping = Command::new("sh");
    dumping.args(["-c", DUMPING]).arg(ours.get_program()).args(ours.get_args()).current_dir(&folder);
    for (name, value) in ours.get_envs() {
        if let Some(value) = value {
            dumping.env(name, value);
        }
    }
    let mut child = dumping.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh starts");
    let stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let ready = std::io::BufRead::lines(stdout).map_while(Result::ok).any(|line| line.contains("\"ready\""));
    assert!(ready, "the server does not get ready");
    let before = dumps(&folder);
    let ended = abort(child);
    assert!(ended.signal() == Some(6) && !ended.core_dumped(), "{ended}");
    assert_eq!(dumps(&folder), before, "a core dump of the server");
    log
}

fn dumps(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).expect("the folder").count()
}

/// Settings, files and services that are wrong, with secrets in them.
fn fails(planted: &Planted, findings: &mut Findings) {
    let secrets = planted.secrets();
    for (what, name, value) in Planted::wrong_settings() {
        for form in [&[][..], &["--json"]] {
            for command in [&["config", "validate"][..], &["status"], &["doctor"], &["keys", "list"]] {
                let finished = planted.run_with(&[form, command].concat(), &name, &value);
                assert_ne!(finished.code, 101, "{}", finished.text());
                findings.look(&format!("{what}: {command:?}"), &secrets, finished.text().as_bytes());
            }
        }
    }
    for (what, text) in Planted::wrong_files() {
        let finished = planted.run_with_file(&["config", "validate"], &text);
        assert_eq!(finished.code, 2, "{what}\n{}", finished.text());
        findings.look(what, &secrets, finished.text().as_bytes());
    }
    // The data key no longer opens.
    planted.take_away();
    let mut server = planted.server().command();
    server.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = server.spawn().expect("it starts");
    let stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut seen = String::new();
    for line in std::io::BufRead::lines(stderr).map_while(Result::ok) {
        seen.push_str(&line);
        seen.push('\n');
        // Either it ends by itself, or it says that it tries again.
        if line.contains("again") {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(!seen.is_empty());
    findings.look("a server whose data key does not open", &secrets, seen.as_bytes());
    let finished = planted.run(&["audit", "export", "--to", &planted.path("export.jsonl")]);
    assert_eq!(finished.code, 0, "{}", finished.text());
}
