//! Every measurement of the benchmark once, as small as it can be: that it works, not what it measures.

use std::process::Command;

fn bench(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().expect("the benchmark starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "bench {arguments:?}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn slots() {
    let text = bench(&["slots", "--keys", "20", "--bursts", "1", "--start-keys", "20"]);
    for line in ["same root", "distinct roots", "journal", "start with 20"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn instances() {
    let text = bench(&["instances", "--keys", "10", "--bursts", "1", "--seconds", "1", "--instances", "2"]);
    for line in ["1 on PostgreSQL, +0 ms", "2 on PostgreSQL, +5 ms"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn scale() {
    let text = bench(&["scale", "--keys", "64"]);
    for line in ["SQLite: start", "PostgreSQL: export", "PostgreSQL: import again"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn epochs() {
    // More than stay in the database in any case, over more days than are kept.
    let text = bench(&["epochs", "--keys", "2", "--epochs", "3000"]);
    assert_eq!(text.matches("verify as one chain of 6000 entries").count(), 2, "{text}");
}
