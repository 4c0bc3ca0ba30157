//! The fault suite: several clients ask several signers for advancing, identical and conflicting messages while
//! everything below them breaks, by a seeded schedule; an auditor judges every released signature.
//!
//! **Stages.** Three signers with the same keys on one real PostgreSQL with a streaming replica, through a TCP proxy; and
//! one signer on SQLite, at times beside a second one on a copied data directory. Both run at once. An *era* is the life
//! of one database: made, hurt some forty times, audited, thrown away; so memory stays bounded however long the run is.
//!
//! **Faults.** See `plan.rs` for all kinds. Processes are real and are killed and stopped with real signals; disks that
//! are full are full; PostgreSQL is restored from real copies and promoted for real. What the system does not
//! do on command is done by a library that the test compiles and loads (`tests/src/shim`): a disk that fails at a
//! flush or a write, and a wrong clock. There is no switch for faults in the binary.
//!
//! **Findings**, each of which fails the run: a slashable pair; a signature that does not verify; two signatures of
//! one root; a released signature without a journal entry; a journal that does not verify, or lost batches although
//! nothing was rolled back; a cut that is not followed by a fence of every key; a rollback of its own journal that a
//! signer does not notice; a freeze without a rollback; a signer that does not come back within a minute; no new
//! signatures between two faults.
//!
//! **Restores.** Before an older copy is put in place the journals are read from what is about to be lost. The union of all
//! that was ever read must cover every released signature.
//!
//! **Time** moves with requests, by the clocks of the signers (the shim again), so that a fence costs no waiting. A fence rests on
//! a clock that is not behind the one that signed (ADR 0007); so after a clock was ahead, time passes it before the next fault.
//!
//! **Needs** root or sudo without a password (it mounts small file systems), `cc`, and PostgreSQL 14 or later.
//!
//! - `HOLDFAST_SEED` replays a run: the same faults in the same order and the same clients' draws. What the system
//!   schedules in between is not replayed.
//! - `HOLDFAST_SIM_REQUESTS` and `HOLDFAST_SIM_FAULTS` make a longer run; `HOLDFAST_SIM_STAGE=postgres|sqlite` runs one
//!   stage; `HOLDFAST_SIM_TIMES=1` prints how long each fault took.
//!
//! The long run: `tests/sim/long`. Mutants that the suite must catch: `tests/mutants/run`.

mod ask;
mod calm;
mod chains;
mod clock;
mod instance;
mod ledger;
mod mutants;
mod on_postgres;
mod on_sqlite;
mod plan;
mod run;
mod stage;
mod totals;
mod traffic;

use std::time::Instant;

use plan::{EraPlan, Kind, eras};
use totals::Totals;

/// Requests and faults of a run that is part of `./test`: every kind on every stage once.
const REQUESTS: u64 = 9_000;
const FAULTS: u64 = (Kind::POSTGRES.len() + Kind::SQLITE.len()) as u64;
const SEED: u64 = 3_076;
/// Of a hundred requests and faults, how many are for PostgreSQL, where each takes longer.
const POSTGRES_SHARE: u64 = 35;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs eras one after the other until one has findings.
fn all(eras: &[EraPlan], totals: &Totals, run: impl Fn(&EraPlan, &Totals) -> Vec<String>) -> Vec<String> {
    eras.iter().map(|plan| run(plan, totals)).find(|findings| !findings.is_empty()).unwrap_or_default()
}

#[test]
fn no_fault_makes_signers_release_what_gets_slashed_or_is_not_recorded() {
    let seed = number("HOLDFAST_SEED", SEED);
    let requests = number("HOLDFAST_SIM_REQUESTS", REQUESTS);
    let faults = number("HOLDFAST_SIM_FAULTS", FAULTS);
    let stage = std::env::var("HOLDFAST_SIM_STAGE").unwrap_or_default();
    println!("sim: seed {seed}, at least {requests} requests and {faults} faults; replay with HOLDFAST_SEED={seed}");
    let share = |of: u64| of * POSTGRES_SHARE / 100;
    let plans = |name: &'static str, kinds: &[Kind], requests: u64, faults: u64| {
        if stage.is_empty() || stage == name { eras(name, kinds, seed, faults, requests) } else { Vec::new() }
    };
    let on_postgres = plans("postgres", &Kind::POSTGRES, share(requests), share(faults));
    let on_sqlite = plans("sqlite", &Kind::SQLITE, requests - share(requests), faults - share(faults));
    let totals = Totals::default();
    let begun = Instant::now();
    let findings = std::thread::scope(|scope| {
        let first = scope.spawn(|| all(&on_postgres, &totals, run::postgres_era));
        let second = scope.spawn(|| all(&on_sqlite, &totals, run::sqlite_era));
        [first, second].map(|stage| stage.join().expect("a stage ends")).concat()
    });
    let counts = totals.counts();
    println!(
        "sim: seed {seed}, {} s\n{counts}\n  findings                    {}",
        begun.elapsed().as_secs(),
        findings.len()
    );
    assert!(findings.is_empty(), "seed {seed}: {} findings, the first: {}", findings.len(), findings[0]);
    for (name, kinds) in [("postgres", &on_postgres), ("sqlite", &on_sqlite)] {
        for kind in kinds.iter().flat_map(|era| &era.faults) {
            assert!(counts.faults.contains_key(&(name, *kind)), "{name} {} never happened", kind.name());
        }
    }
    assert!(counts.requests >= requests, "only {} requests", counts.requests);
    let planned: usize = on_postgres.iter().chain(&on_sqlite).map(|era| era.faults.len()).sum();
    assert_eq!(counts.faults.values().sum::<u64>(), planned as u64, "not every planned fault happened");
    for reason in ["412 double_vote", "412 double_block", "412 source_below_watermark", "412 target_below_watermark"] {
        assert!(counts.refusals.contains_key(reason), "the run never met {reason}: {:?}", counts.refusals);
    }
}
