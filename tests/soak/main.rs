//! A soak: signers, switcher, PostgreSQL and a real Lodestar chain run for as long as asked while things break by a seed,
//! and a verdict is printed.
//!
//! Why it exists: a leak, a slow drift or a fault that meets another one show only with time. What it runs: two signers
//! on one PostgreSQL behind nginx with the documented configuration, a switcher as a process of its own with any number of
//! upstreams (each a TCP proxy to one of the real nodes, so each has a network of its own), and one real validator client.
//! What it judges, all the time: no contradiction is ever signed (asked for by the soak itself, which knows what is
//! slashable from the specification alone), nothing slashable is on the chain, no duty is missed outside of the faults
//! that no signer can bridge, memory stays, and the metrics go on: a Prometheus scrapes all of it, every panel of the
//! dashboard must show something, and no alert may fire that the faults do not explain.
//!
//!     cargo run --release -p holdfast-tests --bin soak -- --minutes 60 --nodes 24 --keys 300 --slot-seconds 12 --seed 1
//!
//! Ends with 0 only if the verdict is "held". The same seed gives the same faults in the same order.
#![allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]

mod asker;
#[path = "../e2e/balancer.rs"]
mod balancer;
mod causes;
mod crowd;
mod faults;
mod judge;
mod memory;
mod stage;
mod votes;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use causes::During;
use faults::{Fault, Signers};
use judge::Judge;
use stage::{Plan, Stage};

const USAGE: &str = "soak [--minutes N] [--nodes N (1 to 32)] [--upstreams N] [--keys N (8 to 1024)] \
    [--slot-seconds N (1 to 12)] [--seed S]";

/// Slots between the end of a fault and the next one.
const REST_SLOTS: u64 = 3;

/// What was asked for.
struct Options {
    plan: Plan,
    seed: u64,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut plan = Plan { nodes: 3, upstreams: 0, keys: 32, slot_seconds: 2, time: Duration::from_mins(15) };
        let mut seed = 1;
        while let Some(name) = arguments.next() {
            let text = arguments.next().unwrap_or_else(|| panic!("{name} needs a number\n{USAGE}"));
            let number: u64 = text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number\n{USAGE}"));
            let small = || usize::try_from(number).expect("a small number");
            match name.as_str() {
                "--minutes" => plan.time = Duration::from_mins(number),
                "--nodes" => plan.nodes = small(),
                "--upstreams" => plan.upstreams = small(),
                "--keys" => plan.keys = number,
                "--slot-seconds" => plan.slot_seconds = number,
                "--seed" => seed = number,
                _ => panic!("unknown option {name}\n{USAGE}"),
            }
        }
        if plan.upstreams == 0 {
            plan.upstreams = plan.nodes;
        }
        assert!(plan.upstreams >= plan.nodes, "each node needs an upstream\n{USAGE}");
        Self { plan, seed }
    }
}

fn main() -> ExitCode {
    let Options { plan, seed } = Options::parse(std::env::args().skip(1));
    let mut folder = tempfile::tempdir().expect("a temporary folder");
    // Kept after a failure: the logs of all processes are in it.
    folder.disable_cleanup(true);
    println!(
        "soak: {:?}, {} nodes, {} upstreams, {} keys, slots of {} s, seed {seed}, in {}",
        plan.time,
        plan.nodes,
        plan.upstreams,
        plan.keys,
        plan.slot_seconds,
        folder.path().display()
    );
    let begin = Instant::now();
    let mut stage = Stage::set(folder.path(), &plan);
    let mut judge = Judge::begin(&stage);
    println!("{:6.0} s  finalizing, the soak begins at slot {}", begin.elapsed().as_secs_f64(), judge.first_slot());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let soaking = Instant::now();
    let mut bag = Vec::new();
    while soaking.elapsed() < plan.time {
        // After the first quarter the second signer is left alone, so that there is one to be watched for long.
        let signers = if soaking.elapsed() < plan.time / 4 { Signers::Any } else { Signers::SecondStays };
        let fault = Fault::draw(&mut bag, &mut random, stage.nodes(), signers);
        let from = judge.wait(&stage, 1);
        judge.hear(During::Rest);
        stage.apply(fault);
        judge.wait(&stage, fault.slots());
        stage.mend(fault);
        judge.hear(During::Fault(fault));
        let to = judge.wait(&stage, REST_SLOTS);
        judge.hear(During::After(fault));
        judge.look(&stage, fault, from..=to);
        println!("{:6.0} s  slots {from} to {to}: {fault:?}; {}", begin.elapsed().as_secs_f64(), judge.line(&stage));
    }
    let held = judge.verdict(&stage);
    folder.disable_cleanup(!held);
    if !held {
        stage.keep(folder.path());
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
