//! PostgreSQL as operators have it, under the real binary: TLS and passwords, settings that lose commits, servers
//! that hang, and schemas that change while signers run.

mod durability;
mod hang;
mod password;
mod tls;
mod upgrade;

use std::time::{Duration, Instant};

use holdfast_tests::finished::{Finished, run};

/// Connects to a database and looks at it, without changing anything.
fn look(url: &str) -> Finished {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().display().to_string();
    run(&["--data-dir", &data, "--network", "hoodi", "--database", url, "slashing", "migrate", "--dry-run"])
}

/// How long anything may take that comes at all.
const SOON: Duration = Duration::from_secs(30);

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < SOON, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
