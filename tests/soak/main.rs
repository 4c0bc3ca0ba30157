//! A soak: signers, switcher, PostgreSQL and a real Lodestar chain run for as long as asked while things break by a seed,
//! and a verdict is printed.
//!
//! Why it exists: a leak, a slow drift or a fault that meets another one show only with time. What it runs: two signers
//! on one PostgreSQL behind nginx with the documented configuration, a switcher as a process of its own with any number of
//! upstreams (each a TCP proxy to one of the real nodes, so each has a network of its own), and one real validator client.
//! What it judges, all the time: no contradiction is ever signed (asked for by the soak itself, which knows what is
//! slashable from the specification alone), nothing slashable is on the chain, no duty is missed outside of the faults
//! that no signer can bridge, memory stays, and the metrics go on.
//!
//!     cargo run --release -p holdfast-tests --bin soak -- --minutes 60 --upstreams 6 --keys 32 --seed 1
//!
//! Ends with 0 only if the verdict is "held". The same seed gives the same faults in the same order.
#![allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]

#[path = "../e2e/balancer.rs"]
mod balancer;
mod faults;
mod judge;
mod stage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use faults::Fault;
use judge::Judge;
use stage::Stage;

const USAGE: &str = "soak [--minutes N] [--nodes N] [--upstreams N] [--keys N (8 to 256)] [--seed S]";

/// Slots between the end of a fault and the next one.
const REST_SLOTS: u64 = 3;

/// What was asked for.
struct Options {
    minutes: u64,
    nodes: usize,
    upstreams: usize,
    keys: u64,
    seed: u64,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self { minutes: 15, nodes: 3, upstreams: 6, keys: 32, seed: 1 };
        while let Some(name) = arguments.next() {
            let text = arguments.next().unwrap_or_else(|| panic!("{name} needs a number\n{USAGE}"));
            let number: u64 = text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number\n{USAGE}"));
            let small = || usize::try_from(number).expect("a small number");
            match name.as_str() {
                "--minutes" => options.minutes = number,
                "--nodes" => options.nodes = small(),
                "--upstreams" => options.upstreams = small(),
                "--keys" => options.keys = number,
                "--seed" => options.seed = number,
                _ => panic!("unknown option {name}\n{USAGE}"),
            }
        }
        assert!(options.upstreams >= options.nodes, "each node needs an upstream\n{USAGE}");
        options
    }
}

fn main() -> ExitCode {
    let options = Options::parse(std::env::args().skip(1));
    let mut folder = tempfile::tempdir().expect("a temporary folder");
    // Kept after a failure: the logs of all processes are in it.
    folder.disable_cleanup(true);
    println!(
        "soak: {} minutes, {} nodes, {} upstreams, {} keys, seed {}, in {}",
        options.minutes,
        options.nodes,
        options.upstreams,
        options.keys,
        options.seed,
        folder.path().display()
    );
    let begin = Instant::now();
    let mut stage = Stage::set(folder.path(), options.nodes, options.upstreams, options.keys);
    let mut judge = Judge::begin(&stage);
    println!("{:6.0} s  finalizing, the soak begins at slot {}", begin.elapsed().as_secs_f64(), judge.first_slot());
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut bag = Vec::new();
    while Instant::now() < end {
        let fault = Fault::draw(&mut bag, &mut random, &stage);
        let from = stage.wait_slots(1);
        stage.apply(fault);
        stage.wait_slots(fault.slots());
        stage.mend(fault);
        let to = stage.wait_slots(REST_SLOTS);
        judge.look(&stage, fault, from..=to);
        println!("{:6.0} s  slots {from} to {to}: {fault:?}; {}", begin.elapsed().as_secs_f64(), judge.line());
    }
    let held = judge.verdict(&stage);
    folder.disable_cleanup(!held);
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
