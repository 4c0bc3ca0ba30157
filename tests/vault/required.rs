//! `signing.require_protections`: where memory cannot be locked, a signer that must have it says so and signs nothing; one
//! that need not warns and signs.

use std::process::{Command, Stdio};

use holdfast_tests::finished::Finished;
use holdfast_tests::world::World;

/// A server whose memory cannot be locked: no limit left, and nobody to ignore limits. It is ended once it is ready.
fn without_locked_memory(world: &World, settings: &[(&str, &str)]) -> Finished {
    let server = settings.iter().fold(world.server(), |server, (name, value)| server.env(*name, *value)).command();
    let mut command = Command::new("prlimit");
    command.args(["--memlock=0:0", "setpriv", "--inh-caps=-ipc_lock", "--bounding-set=-ipc_lock"]);
    command.arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("prlimit and setpriv start: install util-linux");
    let pid = rustix::process::Pid::from_child(&child);
    // One that refuses ends by itself; one that signs is told to stop when it says that it is ready.
    let ready = std::thread::spawn(move || {
        let mut child = child;
        let mut out = std::io::BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        let _ = std::io::BufRead::read_line(&mut out, &mut line);
        if line.contains("\"ready\"") {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is told to stop");
        }
        let mut output = child.wait_with_output().expect("it ends");
        output.stdout = line.into_bytes();
        output
    });
    ready.join().expect("the server was waited for").into()
}

#[test]
fn a_signer_that_must_be_protected_and_cannot_be_signs_nothing() {
    let world = World::new(1);
    let must = ("HOLDFAST_SIGNING_REQUIRE_PROTECTIONS", "true");
    let refused = without_locked_memory(&world, &[must]).expect(2, &["secrets cannot be locked in memory"]);
    assert!(!refused.stdout.contains("ready"), "{}", refused.text());
    let refused = without_locked_memory(&world, &[must, ("HOLDFAST_SIGNING_BACKEND", "process")]);
    refused.expect(3, &["the vault would run without", "locked_memory", "signing.require_protections"]);
    // Without the setting it warns and signs.
    without_locked_memory(&world, &[]).expect(0, &["ready"]);
    without_locked_memory(&world, &[("HOLDFAST_SIGNING_BACKEND", "process")])
        .expect(0, &["runs with less than it could"]);
}

#[test]
fn a_signer_that_is_protected_starts_and_doctor_shows_by_what() {
    let world = World::new(1);
    let settings = [("HOLDFAST_SIGNING_REQUIRE_PROTECTIONS", "true"), ("HOLDFAST_SIGNING_BACKEND", "process")];
    let server = settings.iter().fold(world.server(), |server, (name, value)| server.env(*name, *value));
    let server = server.start();
    server.wait_ready();
    server.stop();
    let mut doctor = holdfast_tests::harness::command();
    doctor.args(world.with(&["--json", "doctor"])).envs(settings);
    let found = Finished::from(doctor.output().expect("the binary starts")).expect(0, &["no core dumps", "\"vault\""]);
    assert!(found.text().contains("landlock") && found.text().contains("seccomp"), "{}", found.text());
}
