//! docs/metrics.md against the program, both ways: every number that is scraped is in the table with its type, labels and
//! meaning, and everything in the table is scraped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use holdfast_tests::harness::{Builder, Server, holdfast_ok, workspace};
use holdfast_tests::world::World;

use crate::exposition::{Family, families};
use crate::guarded::{self, Guarded};
use crate::stage::{PATIENCE, Stage, until};

/// Numbers that have no samples on this stage, and why.
const NOT_SEEN: [(&str, &str); 2] = [
    ("holdfast_doppelganger_findings_total", "needs epochs of watching: tests/switcher"),
    ("holdfast_slashing_frozen_reason", "only while protection is frozen: tests/rollback"),
];

fn is_sampled(seen: &BTreeMap<String, Family>, name: &str) -> bool {
    seen.get(name).is_some_and(|family| family.sampled)
}

fn is_excused(name: &str) -> bool {
    NOT_SEEN.iter().any(|(excused, _)| *excused == name)
}

/// Whether a documented number is one of the server of the stage: a vault, witnesses and guarded doors are elsewhere.
fn is_of_the_stage(name: &str) -> bool {
    let is_elsewhere = name.starts_with("holdfast_vault_") || name.starts_with("holdfast_witness_");
    !is_elsewhere && !guarded::has(name) && !is_excused(name)
}

/// Names of metrics in a query that are not in the table.
pub fn unknown_metrics(query: &str) -> Vec<String> {
    let documented = documented();
    let words = query.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let known = |word: &&str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().filter_map(|end| word.strip_suffix(end));
        documented.contains_key(*word) || of_histogram.into_iter().any(|name| documented.contains_key(name))
    };
    let named = words.filter(|word| word.starts_with("holdfast_") || word.starts_with("process_"));
    named.filter(|word| !known(word)).map(str::to_owned).collect()
}

/// A row of the table.
fn row(name: &str, family: &Family) -> String {
    let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{name}` | {} | {} | {} |", family.kind, labels.join(", "), family.help)
}

/// The rows of every table of the document.
fn documented() -> BTreeMap<String, Family> {
    let path = workspace().join("docs/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("not four cells: {line}") };
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
        let family = Family { kind: kind.to_owned(), help: help.to_owned(), labels, sampled: false };
        let twice = rows.insert(name.trim_matches('`').to_owned(), family);
        assert!(twice.is_none(), "{name} is in the table twice");
    }
    rows
}

/// A witness, for its own numbers.
fn witness(world: &World) -> Server {
    let dir = world.path().join("witness");
    holdfast_ok(
        &[world.arguments_in(&dir), vec!["--json".to_owned(), "witness".to_owned(), "init".to_owned()]].concat(),
    );
    world.server_in(&dir).command_line(&["--json", "witness", "serve", "--listen", "127.0.0.1:0"]).start()
}

/// Scrapes a signer whose lease comes from a witness; it need not get one.
fn with_a_lease(world: &World, witness: &Server) -> BTreeMap<String, Family> {
    let mut key = None;
    until("the witness says its key", || {
        key = witness.log().lines().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line["public_key"].as_str().map(str::to_owned)
        });
        key.is_some()
    });
    let named = format!("http://{}#{}", witness.http_addr(), key.unwrap());
    let builder: Builder = world.server();
    let server = builder
        .env("HOLDFAST_SIGNING_BACKEND", "process")
        .env("HOLDFAST_WITNESS_GROUP", "pair")
        .env("HOLDFAST_WITNESS_SERVERS", named)
        .start();
    let mut seen = BTreeMap::new();
    until("an answer of the witness is counted", || {
        seen = families(&server.get_metrics("/metrics").text());
        is_sampled(&seen, "holdfast_vault_lease_answers_total")
    });
    seen
}

/// Scrapes a signer with guarded doors once it shows what the table says of them.
fn behind_doors(documented: &BTreeMap<String, Family>) -> BTreeMap<String, Family> {
    let stage = Guarded::new();
    let hostility = stage.hostility();
    let wanted: Vec<&String> = documented.keys().filter(|name| guarded::has(name)).collect();
    assert!(wanted.len() > 8, "the table knows only {wanted:?}");
    let mut seen = BTreeMap::new();
    // What never comes is named by the comparison.
    let end = Instant::now() + PATIENCE;
    while !wanted.iter().all(|name| is_sampled(&seen, name)) && Instant::now() < end {
        seen = families(&stage.server.get_metrics("/metrics").text());
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(hostility);
    seen
}

#[test]
fn the_table_of_metrics_is_true_both_ways() {
    let mut stage = Stage::new(3);
    let documented = documented();
    let load = stage.load();
    stage.kill_a_node();
    let mut seen = BTreeMap::new();
    // Some come a while after the start, or after trouble. What never comes is named below.
    let end = Instant::now() + PATIENCE;
    let complete = |seen: &BTreeMap<String, Family>| {
        documented.keys().filter(|name| is_of_the_stage(name)).all(|name| is_sampled(seen, name))
    };
    while !complete(&seen) && Instant::now() < end {
        seen = families(&stage.server().get_metrics("/metrics").text());
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(load);
    drop(stage);
    for (name, family) in behind_doors(&documented) {
        seen.entry(name).or_insert(family);
    }
    let world = World::new(1);
    let witness = witness(&world);
    for (name, family) in with_a_lease(&world, &witness) {
        seen.entry(name).or_insert(family);
    }
    let of_witness = holdfast_tests::http::once(witness.http_addr(), "GET", "/metrics", &[], b"").unwrap();
    for (name, family) in families(&of_witness.text()) {
        seen.entry(name).or_insert(family);
    }

    let mut wrong = String::new();
    for (name, family) in &seen {
        let excused = is_excused(name);
        assert!(family.sampled || excused, "{name} has no samples on this stage: cause some, or say why not");
        match documented.get(name) {
            Some(found)
                if found.kind == family.kind
                    && found.help == family.help
                    && (found.labels == family.labels || excused) => {}
            found => {
                let _ = writeln!(wrong, "should be {}\n       is {found:?}", row(name, family));
            }
        }
    }
    // A family without samples is not in the text at all.
    for name in documented.keys().filter(|name| !seen.contains_key(*name) && !is_excused(name)) {
        let _ = writeln!(wrong, "{name} is documented and does not exist");
    }
    for (name, _) in NOT_SEEN {
        assert!(documented.contains_key(name), "{name} is excused and not documented");
    }
    assert!(wrong.is_empty(), "docs/metrics.md is not true:\n{wrong}");
}

#[test]
fn names_follow_the_conventions() {
    for (name, family) in documented() {
        let own = name.starts_with("holdfast_") || name.starts_with("process_");
        if !own {
            assert!(family.help.starts_with("Web3Signer's name"), "{name}: whose name is this?");
            continue;
        }
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{name}");
        assert!(!family.help.is_empty(), "{name} has no meaning");
        assert_eq!(
            family.kind == "counter",
            name.ends_with("_total"),
            "{name}: counters, and only they, end in _total"
        );
        assert!(!["_ms", "_millis", "_kib", "_mb"].iter().any(|end| name.ends_with(end)), "{name}: base units only");
    }
}
