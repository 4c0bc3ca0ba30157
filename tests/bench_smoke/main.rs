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
fn idle() {
    let text = bench(&["idle", "--few", "100", "--many", "101", "--rest", "1"]);
    assert!(number_after(line_with(&text, &["program as packaged"]), "packaged:") > 1.0, "{text}");
    // Memory is no matter of how busy the machine is, so here the target itself holds.
    for line in ["idle with 100 sealed keys", "idle with 101 sealed keys"] {
        let memory = number_after(line_with(&text, &[line]), "keys:");
        assert!(memory > 1.0 && memory < 60.0, "{text}");
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
fn page() {
    let text = bench(&["page", "--keys", "40", "--viewers", "12", "--bursts", "1", "--seconds", "3"]);
    assert!(number_after(line_with(&text, &["12 viewers: nothing signed"]), "signed") > 0.0, "{text}");
    let sent = line_with(&text, &["sent with 40 keys"]);
    let (first, later) = (number_after(sent, "keys:"), number_after(sent, "at first,"));
    assert!(first > later && later > 0.0, "{sent}");
}

#[test]
fn providers() {
    let text = bench(&["providers", "--keys", "3"]);
    assert_eq!(text.matches("from exec to the first signature").count(), 9, "{text}");
    for provider in ["file", "passphrase", "pkcs11", "tpm", "shares"] {
        assert!(text.contains(&format!("guarded by {provider} ")), "{text}");
    }
}

#[test]
fn access() {
    let text = bench(&["access", "--keys", "20", "--bursts", "1"]);
    for line in
        ["signature, no rules", "signature, 1000 rules, 10000 keys", "journal, upper bound", "policy and journal"]
    {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn vault() {
    let text = bench(&["vault", "--keys", "5", "--bursts", "1", "--singles", "5"]);
    for line in ["in process  ", "vault  ", "vault, verified", "verification"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn audit() {
    let text = bench(&["audit", "--records", "1000"]);
    assert_eq!(text.matches("records/s on one core").count(), 2, "{text}");
}

#[test]
fn epochs() {
    // More than stay in the database in any case, over more days than are kept.
    let text = bench(&["epochs", "--keys", "2", "--epochs", "3000"]);
    assert_eq!(text.matches("verify as one chain of 6000 entries").count(), 2, "{text}");
}

#[test]
fn switcher() {
    let text = bench(&[
        "switcher",
        "--rounds",
        "1",
        "--requests",
        "24",
        "--rate",
        "400",
        "--megabytes",
        "3",
        "--streams",
        "20",
        "--events",
        "2",
        "--nodes",
        "3",
        "--seconds",
        "2",
    ]);
    for front in ["direct", "switcher", "nginx", "HAProxy"] {
        for kind in
            ["pass-through read", "attestation data, new vote", "attestation data, same slot", "POST attestations"]
        {
            let line = line_with(&text, &[kind, &format!(" {front} "), "p50"]);
            let (p50, p99) = (number_after(line, "p50 "), number_after(line, "p99 "));
            assert!(p50 > 0.0 && p50 <= p99, "{line}");
            assert!(
                front == "direct" || number_after(line, "p99 ") > 0.0 && line.contains("us CPU per request"),
                "{line}"
            );
        }
        for limit in ["1 Gbit/s", "no limit"] {
            let states = line_with(&text, &["duties beside states", &format!(" {front} "), limit]);
            assert!(number_after(states, front) >= 1.0, "at least one state came through: {states}");
        }
        let streams = line_with(&text, &["event streams", &format!(" {front} "), "20 streams, 2 heads"]);
        assert!(number_after(streams, "p50 ") > 0.0, "{streams}");
    }
    assert!(text.contains("switcher - nginx"), "{text}");
    let probing = line_with(&text, &["probing", "3 nodes"]);
    assert!((0.2..5.0).contains(&number_after(probing, "3 nodes, ")), "probed about once a second: {probing}");
    assert!(number_after(probing, "to each: ") > 0.0, "{probing}");
}

/// The line that has all of these in it.
fn line_with<'a>(text: &'a str, words: &[&str]) -> &'a str {
    text.lines()
        .find(|line| words.iter().all(|word| line.contains(word)))
        .unwrap_or_else(|| panic!("{words:?} in\n{text}"))
}

/// The number that follows `name`.
fn number_after(line: &str, name: &str) -> f64 {
    let rest = line.split(name).nth(1).unwrap_or_else(|| panic!("{name} in {line}")).trim_start();
    let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    number.parse().unwrap_or_else(|_| panic!("a number after {name} in {line}"))
}
