//! One era from nothing to its last audit, and the run over all eras of both stages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::{Cluster, Disk, free_port};
use holdfast_tests::proxy::Proxy;
use holdfast_tests::shim::Shim;
use holdfast_tests::world::World;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::chains::Chains;
use crate::clock::SimClock;
use crate::instance::Instance;
use crate::ledger::Ledger;
use crate::on_postgres::OnPostgres;
use crate::on_sqlite::{Mounted, OnSqlite};
use crate::plan::{EraPlan, Policy};
use crate::stage::{Cast, Stage};
use crate::totals::Totals;
use crate::traffic::{Door, Traffic};

const KEYS: u64 = 16;
const CLIENTS_ON_POSTGRES: u64 = 12;
const CLIENTS_ON_SQLITE: u64 = 8;
const SIGNERS: usize = 3;
/// New signatures of blocks and attestations that must come between two faults.
const SIGNED_BETWEEN: u64 = 5;

/// Runs an era on PostgreSQL; findings are returned.
pub(crate) fn postgres_era(plan: &EraPlan, totals: &Totals) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    open_to_all(folder.path());
    let shim = Shim::compile(folder.path());
    let control = Arc::new(shim.control(&folder.path().join("postgres.page")));
    // Small, so that it can be filled; with enough of the log kept for a replica that was away.
    let mut builder = Cluster::builder().disk(Disk::Small(256)).setting("wal_keep_size", "64MB");
    for (name, value) in control.environment() {
        builder = builder.env(&name, &value);
    }
    let cluster = builder.start();
    let replica = Some(cluster.replica());
    let proxy = Proxy::start(cluster.addr());
    let clock = SimClock::default();
    let world = World::with_database(&cluster.url_at(proxy.addr()), KEYS);
    let mut instances: Vec<Instance> =
        (0..SIGNERS).map(|number| signer(&world, number, &shim, &clock, plan.policy)).collect();
    let ledger = Ledger::new(&world.keys);
    let doors = instances.iter().map(door).collect();
    let traffic = Traffic::new(&world.keys, &clock, &ledger, totals, doors);
    for instance in &mut instances {
        if let Err(finding) = instance.start(&traffic) {
            traffic.find(finding);
        }
    }
    let stage = OnPostgres { cast: cast(plan, &traffic, instances, &world.keys), cluster, replica, proxy, control };
    live(plan, &traffic, stage, CLIENTS_ON_POSTGRES)
}

/// Runs an era on SQLite; findings are returned.
pub(crate) fn sqlite_era(plan: &EraPlan, totals: &Totals) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mounted = Mounted::new(folder.path());
    let disk = folder.path().to_owned();
    let shim = Shim::compile(&disk);
    let clock = SimClock::default();
    let world = World::within(folder, KEYS);
    let first = signer(&world, 0, &shim, &clock, Policy::Freeze);
    let mut copy = signer(&world, 1, &shim, &clock, Policy::Freeze);
    let ledger = Ledger::new(&world.keys);
    let doors: Vec<Door> = [&first, &copy].into_iter().map(door).collect();
    doors[1].open.store(false, std::sync::atomic::Ordering::SeqCst);
    let traffic = Traffic::new(&world.keys, &clock, &ledger, totals, doors);
    let mut instances = vec![first];
    copy.policy = Policy::Freeze;
    if let Err(finding) = instances[0].start(&traffic) {
        traffic.find(finding);
    }
    let stage = OnSqlite { cast: cast(plan, &traffic, instances, &world.keys), copy, disk };
    let findings = live(plan, &traffic, stage, CLIENTS_ON_SQLITE);
    drop(mounted);
    findings
}

fn cast<'a>(plan: &'a EraPlan, traffic: &'a Traffic<'a>, instances: Vec<Instance>, keys: &[TestKey]) -> Cast<'a> {
    Cast { plan, traffic, instances, chains: Chains::new(keys), rng: ChaCha8Rng::seed_from_u64(plan.seed) }
}

fn door(instance: &Instance) -> Door {
    Door { address: instance.address(), open: AtomicBool::new(true) }
}

/// A signer of this world; the first has the world's data directory, others one with a copy of its key-encryption key.
fn signer(world: &World, number: usize, shim: &Shim, clock: &SimClock, policy: Policy) -> Instance {
    let control = Arc::new(shim.control(&world.path().join(format!("signer-{number}.page"))));
    let mut arguments = world.arguments();
    if number > 0 {
        let dir = world.path().join(format!("data-{number}"));
        private_folder(&dir);
        crate::instance::copy_folder(&world.data_dir().join("kek"), &dir.join("kek"));
        arguments[1] = dir.display().to_string();
    }
    let face = clock.add(Arc::clone(&control));
    Instance::new(arguments, control, face, free_port(), policy)
}

fn private_folder(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path).expect("a private folder");
}

/// PostgreSQL runs under another account, and loads the shim from here.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Ends the clients when the faults end, in whatever way.
struct StopsClients<'a>(&'a Traffic<'a>);

impl Drop for StopsClients<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Clients and faults until the plan is through, then the last audit.
fn live(plan: &EraPlan, traffic: &Traffic<'_>, mut stage: impl Stage, clients: u64) -> Vec<String> {
    std::thread::scope(|scope| {
        let _stops = StopsClients(traffic);
        for client in 0..clients {
            scope.spawn(move || traffic.live(plan.seed.wrapping_add(client + 1)));
        }
        for (number, kind) in plan.faults.iter().enumerate() {
            let step = format!(
                "{} era {} (seed {}) fault {}/{} {}",
                plan.stage,
                plan.number,
                plan.seed,
                number + 1,
                plan.faults.len(),
                kind.name()
            );
            let begun = std::time::Instant::now();
            let went = traffic.progress(plan.requests_between, SIGNED_BETWEEN);
            println!("sim: {step} after {} answers", traffic.mark().answers);
            let hurt_at = std::time::Instant::now();
            if let Err(finding) = went.and_then(|()| stage.hurt(*kind)) {
                traffic.find(format!("{step}: {finding}\n{}", stage.logs()));
                break;
            }
            if std::env::var_os("HOLDFAST_SIM_TIMES").is_some() {
                println!("sim: {step} waited {:?}, took {:?}", hurt_at - begun, hurt_at.elapsed());
            }
            traffic.totals.add(|counts| *counts.faults.entry((plan.stage, *kind)).or_default() += 1);
        }
        if !traffic.failed()
            && let Err(finding) = traffic.progress(plan.requests_between, SIGNED_BETWEEN)
        {
            traffic.find(format!("{} era {}, at its end: {finding}\n{}", plan.stage, plan.number, stage.logs()));
        }
    });
    if !traffic.failed() {
        let ended = stage.end().and_then(|()| traffic.ledger.settle());
        if let Err(finding) = ended {
            traffic.find(format!("{} era {} (seed {}), last audit: {finding}", plan.stage, plan.number, plan.seed));
        }
    }
    let (verified, slashable) = traffic.ledger.counts();
    traffic.totals.add(|counts| {
        counts.verified += verified;
        counts.slashable += slashable;
        counts.eras += 1;
    });
    traffic.findings()
}
