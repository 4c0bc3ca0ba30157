//! One, two and three signers on one PostgreSQL, under the same clients and keys, with time added to each round
//! trip to the database.
//!
//! Everything shares the same cores, so several signers cannot be faster than one here; what shows is what
//! sharing a database costs, and that latency follows the round trip and not the number of signers.

use std::time::Duration;

use holdfast_tests::harness::Server;
use holdfast_tests::postgres::{Cluster, Disk};
use holdfast_tests::proxy::Proxy;
use holdfast_tests::world::World;

use crate::burst::{Load, Roots, publics, runtime};
use crate::measure::{Latencies, PlainSign, cpu_of};

/// Milliseconds added to a round trip.
const DELAYS: [u64; 3] = [0, 1, 5];

/// How much to measure.
pub(crate) struct Plan {
    pub(crate) keys: u64,
    pub(crate) bursts: u64,
    /// Of throughput, for each number of signers and each delay.
    pub(crate) seconds: u64,
    pub(crate) instances: usize,
}

struct Measured {
    latencies: Latencies,
    per_second: f64,
}

/// Prints latency and throughput against one instance, and p99 against plain signatures.
pub(crate) fn measure(plan: &Plan) {
    let cluster = Cluster::builder().disk(Disk::Temporary).start();
    let proxy = Proxy::start(cluster.addr());
    let world = World::with_database(&cluster.url_at(proxy.addr()), plan.keys);
    let mut folders = vec![world.data_dir()];
    folders.extend((1..plan.instances).map(|number| world.second_data_dir(&format!("instance-{number}"))));
    let servers: Vec<Server> = folders.iter().map(|folder| world.server_in(folder).start()).collect();
    servers.iter().for_each(Server::wait_ready);
    let keys = publics(&world.keys);
    let mut plain = PlainSign::default();
    let mut epoch = 1_000;
    for delay in DELAYS {
        proxy.set_one_way_delay(Duration::from_micros(delay * 500));
        let mut one = None;
        for count in 1..=plan.instances {
            let mut measured = run(plan, &servers[..count], &keys, &mut plain, &mut epoch);
            let alone = one.get_or_insert((measured.latencies.at(0.99), measured.per_second));
            let name = format!("{count} on PostgreSQL, +{delay} ms");
            println!(
                "{name:<26} {:>8.0} signatures/s, {:.2} of one instance; p99 {:.2} of one instance",
                measured.per_second,
                measured.per_second / alone.1,
                measured.latencies.at(0.99) / alone.0
            );
            measured.latencies.print(&name, &plain, 0.65);
        }
    }
    for server in servers {
        let (status, log) = server.stop();
        assert!(status.success(), "a server ended with {status}\n{log}");
    }
}

fn run(plan: &Plan, servers: &[Server], keys: &[String], plain: &mut PlainSign, epoch: &mut u64) -> Measured {
    let runtime = runtime();
    let addresses: Vec<_> = servers.iter().map(Server::http_addr).collect();
    let mut load = runtime.block_on(Load::connect(&addresses, keys));
    let cpu = || servers.iter().map(|server| cpu_of(server.pid())).sum::<Duration>();
    let mut latencies = Latencies::default();
    for round in 0..=plan.bursts {
        plain.run(100);
        *epoch += 1;
        let requests = load.prepare(*epoch, Roots::Same);
        let before = cpu();
        let times = runtime.block_on(load.fire(requests));
        std::thread::sleep(Duration::from_millis(20));
        if round > 0 {
            latencies.add(times, cpu().saturating_sub(before));
        }
    }
    let time = Duration::from_secs(plan.seconds);
    let (answers, next) = runtime.block_on(load.pour(*epoch + 1, time));
    *epoch = next;
    Measured { latencies, per_second: answers as f64 / time.as_secs_f64() }
}
