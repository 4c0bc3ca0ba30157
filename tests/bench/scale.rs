//! Very many keys in one database: making them, a start, a slot's share of attestations, and histories out and in.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use holdfast_tests::harness::command;
use holdfast_tests::postgres::{Cluster, Disk};
use holdfast_tests::world::{SLOTS_PER_EPOCH, World};

use crate::burst::{Load, Roots, runtime};
use crate::measure::{Latencies, PlainSign, peak_memory};
use crate::start;

/// Slots in an epoch of mainnet: in each of them one of so many keys attests.
const SLOTS_OF_MAINNET: u64 = 32;
/// Bursts, after one that is not counted.
const BURSTS: u64 = 5;
/// What a start may take, in seconds, and the memory of a signer, in MiB.
const START_TARGET: f64 = 10.0;
const MEMORY_TARGET: f64 = 400.0;

/// What a command took.
struct Ran {
    seconds: f64,
    /// MiB.
    memory: f64,
}

/// Measures both stores.
pub(crate) fn measure(keys: u64) {
    let world = World::new(0);
    let second = World::new(0);
    measure_on("SQLite", keys, &world, &second);
    let cluster = Cluster::builder().disk(Disk::Temporary).start();
    cluster.create_database("second");
    let world = World::with_database(&cluster.url(), 0);
    let second = World::with_database(&cluster.url_for(cluster.addr(), "second"), 0);
    measure_on("PostgreSQL", keys, &world, &second);
}

fn measure_on(name: &str, keys: u64, world: &World, second: &World) {
    let made = run(&world.with(&["--quiet", "keys", "generate", "--count", &keys.to_string()]));
    println!("{name}: {keys} keys made   {:>8.1} s, peak memory {:.0} MiB", made.seconds, made.memory);
    let (server, seconds, list) = start::first_signature(&world.server());
    assert_eq!(list.len() as u64, keys, "every key is served");
    let memory = |server: &holdfast_tests::harness::Server| peak_memory(server.pid()).expect("the server runs");
    println!(
        "{name}: start              {seconds:>8.2} s from exec to the first signature (target {START_TARGET}), peak memory {:.0} MiB (target {MEMORY_TARGET})",
        memory(&server)
    );
    let share: Vec<String> =
        list.into_iter().take(usize::try_from(keys.div_ceil(SLOTS_OF_MAINNET)).expect("fits")).collect();
    let runtime = runtime();
    let mut load = runtime.block_on(Load::connect(&[server.http_addr()], &share));
    let (mut plain, mut latencies) = (PlainSign::default(), Latencies::default());
    for round in 0..=BURSTS {
        plain.run(300);
        let before = crate::measure::cpu_of(server.pid());
        let requests = load.prepare(1_000 + round * SLOTS_PER_EPOCH, Roots::Same);
        let times = runtime.block_on(load.fire(requests));
        std::thread::sleep(Duration::from_millis(20));
        if round > 0 {
            latencies.add(times, crate::measure::cpu_of(server.pid()).saturating_sub(before));
        }
    }
    latencies.print(&format!("{name}: burst of {}", share.len()), &plain, 0.65);
    println!("{name}: after the bursts   peak memory {:.0} MiB (target {MEMORY_TARGET})", memory(&server));
    drop(load);
    let (status, log) = server.stop();
    assert!(status.success(), "the server ended with {status}\n{log}");

    let file = world.path().join("history.json");
    let path = file.display().to_string();
    let exported = run(&world.with(&["--quiet", "slashing", "export", "--to", &path]));
    println!(
        "{name}: export             {:>8.2} s, peak memory {:.0} MiB, {:.1} MiB written",
        exported.seconds,
        exported.memory,
        mebibytes(&file)
    );
    for what in ["into an empty database", "again"] {
        let imported = run(&second.with(&["--quiet", "slashing", "import", "--from", &path]));
        println!("{name}: import {what:<22} {:>8.2} s, peak memory {:.0} MiB", imported.seconds, imported.memory);
    }
}

fn mebibytes(file: &Path) -> f64 {
    std::fs::metadata(file).expect("the file is there").len() as f64 / f64::from(1 << 20)
}

/// Runs the binary to its end, which must be a success, and watches its memory.
fn run(arguments: &[String]) -> Ran {
    let begin = Instant::now();
    let mut child =
        command().args(arguments).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("the binary starts");
    let mut memory = 0.0_f64;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the process can be waited for") {
            break status;
        }
        // The highest so far; what a process does in its last milliseconds hardly adds to it.
        memory = memory.max(peak_memory(child.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "holdfast {arguments:?} ended with {status}");
    Ran { seconds: begin.elapsed().as_secs_f64(), memory }
}
