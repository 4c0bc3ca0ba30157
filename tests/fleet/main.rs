//! Two signers on one real PostgreSQL under the same clients and keys, while the server is killed and started
//! again: the auditor sees every released signature of both and accepts no slashable pair.
//!
//! `HOLDFAST_SEED` replays a run, `HOLDFAST_FLEET_REQUESTS` makes a longer one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_tests::auditor::Auditor;
use holdfast_tests::harness::Server;
use holdfast_tests::keys::verifies;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::workload::{ClientPlan, Report, run};
use holdfast_tests::world::World;

const REQUESTS: u64 = 12_000;
const CLIENTS: u64 = 8;
const KEYS: u64 = 16;
const KILLS: u64 = 3;

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A second data directory with the same key-encryption key, as a second machine of an operator has it.
fn second_data_dir(world: &World) -> PathBuf {
    let dir = world.path().join("second");
    copy_private(&world.data_dir().join("kek"), &dir.join("kek"));
    dir
}

fn copy_private(from: &Path, to: &Path) {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).expect("a private folder");
    for entry in std::fs::read_dir(from).expect("the provider's folder") {
        let entry = entry.expect("an entry");
        let copy = to.join(entry.file_name());
        std::fs::copy(entry.path(), &copy).expect("the key file is copied");
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    }
}

fn start_second(world: &World) -> Server {
    let dir = second_data_dir(world).display().to_string();
    let first = world.data_dir().display().to_string();
    let arguments =
        world.arguments().into_iter().map(|argument| if argument == first { dir.clone() } else { argument });
    let server = arguments.fold(Server::builder(), holdfast_tests::harness::Builder::global).start();
    server.wait_ready();
    server
}

#[test]
fn two_signers_on_one_database_release_nothing_slashable_while_it_is_killed() {
    let requests = number_from_environment("HOLDFAST_FLEET_REQUESTS", REQUESTS);
    let seed = number_from_environment("HOLDFAST_SEED", 14);
    println!("fleet: seed {seed}, {requests} requests, {CLIENTS} clients, 2 signers, {KILLS} kills of PostgreSQL");
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), KEYS);
    let first = world.server().start();
    first.wait_ready();
    let second = start_second(&world);
    let (tick, stop) = (AtomicU64::new(400), AtomicBool::new(false));
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let address = if client % 2 == 0 { first.http_addr() } else { second.http_addr() };
                let (keys, tick, stop) = (&world.keys, &tick, &stop);
                let seed = seed.wrapping_mul(1_000).wrapping_add(client);
                let requests = requests.div_ceil(CLIENTS);
                scope.spawn(move || run(&ClientPlan { address, keys, seed, requests, tick, pace: 60, stop }))
            })
            .collect();
        for kill in 1..=KILLS {
            // Requests that are refused while the server is away count too, so this always comes.
            while tick.load(Ordering::Relaxed) < 400 + kill * requests / (KILLS + 2) {
                std::thread::yield_now();
            }
            cluster.kill9();
            cluster.start_again();
        }
        for client in clients {
            report.absorb(client.join().expect("a client ends"));
        }
    });
    assert!(!report.broken, "a connection broke:\n{}\n{}", first.log(), second.log());
    let mut auditor = Auditor::default();
    for released in &report.released {
        if let Some(signed) = released.signed {
            auditor
                .release(&released.key, signed, released.root)
                .unwrap_or_else(|pair| panic!("seed {seed}: slashable pair {pair:?}"));
        }
    }
    for released in report.released.iter().step_by(7) {
        assert!(verifies(&released.key, &released.root, &released.signature), "{released:?} does not verify");
    }
    let statuses: Vec<u16> =
        report.statuses.keys().copied().filter(|status| ![200, 412, 503].contains(status)).collect();
    assert!(statuses.is_empty(), "statuses {:?}, reasons {:?}", report.statuses, report.reasons);
    assert!(auditor.released() > 500, "only {} slashable messages were released", auditor.released());
    for server in [&first, &second] {
        server.wait_ready();
        let (body, _) = holdfast_tests::world::CHAIN.randao(7);
        assert_eq!(server.sign(&world.keys[0].public, &body).status, 200, "not served again:\n{}", server.log());
    }
    println!(
        "fleet: {} answers {:?}, {} slashable messages released, refusals {:?}",
        report.answers(),
        report.statuses,
        auditor.released(),
        report.reasons
    );
}
