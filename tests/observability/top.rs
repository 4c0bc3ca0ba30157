//! `holdfast top`: the same numbers in a terminal.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use holdfast_tests::finished::run;
use holdfast_tests::harness::binary;

use crate::stage::{Stage, until};

#[test]
fn the_terminal_shows_what_the_page_shows() {
    let mut stage = Stage::new(3);
    let load = stage.load();
    until("something was signed", || {
        let document = stage.server().get_metrics("/status.json").json();
        document["signer"]["signing"]["per_second"].as_f64() > Some(1.0)
    });
    let once =
        run(&stage.world.with(&["top", "--once"])).expect(0, &["Signer", "Ready", "attestation", "double block"]);
    for line in once.stdout.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    assert!(!once.stdout.contains('\u{1b}'), "no colours where nobody sees them: {:?}", once.stdout);
    let json = run(&stage.world.with(&["--json", "top", "--once"])).expect(0, &[]);
    assert_eq!(json.lines()[0]["schema"], "holdfast-status/v1");
    at_a_terminal(&stage);
    drop(load);
    stage.server.take().unwrap().stop();
    run(&stage.world.with(&["top", "--once"])).expect(3, &["no server"]);
}

/// At a terminal, which `script` makes, it takes another screen and gives everything back at Ctrl-C.
fn at_a_terminal(stage: &Stage) {
    let quoted: Vec<String> = stage.world.with(&["top"]).iter().map(|argument| format!("'{argument}'")).collect();
    // Ctrl-C reaches every process of the terminal: a shell that waited would end by it and be what is reported.
    let command = format!("exec {} {}", binary().display(), quoted.join(" "));
    // A terminal that never says what is waited for must not hold up the test.
    let mut script = Command::new("timeout");
    script.args(["--foreground", "60", "script", "--quiet", "--return", "--flush", "--command", &command, "/dev/null"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
        script.env_remove(name);
    }
    let child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("`script` starts: install bsdutils");
    let (mut typing, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut typed) = (String::new(), false);
    let mut piece = [0; 4096];
    loop {
        let read = output.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        // After the second look, once: what is typed comes back as output.
        if !typed && seen.matches("Protection").count() >= 2 {
            typed = true;
            typing.write_all(b"\x03").and_then(|()| typing.flush()).expect("typed");
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0), "{seen:?}");
    assert!(seen.contains("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l"), "{seen:?}");
    assert!(seen.trim_end().ends_with("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l"), "{seen:?}");
}
