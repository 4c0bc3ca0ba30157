//! Proves: a rolling upgrade as the documentation prints it (`docs/runbooks/upgrade.md`, `docs/rolling-restart.md`,
//! `docs/install.md`, `docs/nginx.conf`). Two machines, each with the installer's files in a root of its own, share one
//! PostgreSQL behind the documented nginx. Under a load shaped like slots no request is without its signature while both
//! are upgraded, one is killed, and both go back; the check before an upgrade names what a start would change.
//!
//! The next version is another archive whose binary has other bytes, so it can be told which one runs; that a newer schema
//! comes in under older signers is `tests/database/upgrade.rs`. This test stands in for `sudo` (it runs the command) and
//! for systemd (it runs the installed unit's command line).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::documented::{printed, shell_output};
use holdfast_tests::finished::run;
use holdfast_tests::http::Client;
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::{Cluster, free_port};
use holdfast_tests::world::{CHAIN, GENESIS_TIME, GENESIS_VALIDATORS_ROOT, SLOTS_PER_EPOCH, World};
use rustix::process::{Pid, Signal, kill_process};

use crate::balancer::Balancer;
use crate::deploy::packages::release;

const UPGRADE: &str = "docs/runbooks/upgrade.md";
const ROLLING: &str = "docs/rolling-restart.md";
/// Where the unit and the documentation have the configuration.
const CONFIG: &str = "/etc/holdfast/holdfast.toml";
/// Anything waited for comes within this.
const LIMIT: Duration = Duration::from_mins(1);

/// Keys: two attest in each slot, all of them sign something that is not slashable.
const KEYS: u64 = 16;
/// A slot of the load. Its duties come as on mainnet: the block at its begin, votes after a third, the rest after two.
const SLOT: Duration = Duration::from_millis(300);
/// Validator clients, each with its share of the keys and a connection of its own.
const CLIENTS: u64 = 4;
/// Slots that pass at least after each thing that is done to a signer.
const SLOTS_AFTER: u64 = 2;

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How far clients are, and whether they are to end.
#[derive(Default)]
struct Load {
    slot: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    /// One client's duties, slot by slot, until told to stop; its answers by status, 0 for none.
    fn client(&self, address: SocketAddr, keys: &[TestKey], number: u64, begin: Instant) -> BTreeMap<u16, u64> {
        let mut client = Client::connect(address).expect("nginx accepts connections");
        let mut statuses = BTreeMap::new();
        let own = |index: &u64| index % CLIENTS == number;
        for passed in 0_u32.. {
            let slot = 80_000 + u64::from(passed);
            let (epoch, proposer) = (slot / SLOTS_PER_EPOCH, slot % KEYS);
            let committee = (0..KEYS).filter(|index| index % SLOTS_PER_EPOCH == slot % SLOTS_PER_EPOCH);
            let duties: [(u32, Vec<u64>); 3] =
                [(0, vec![proposer]), (1, committee.collect()), (2, (0..KEYS).collect())];
            for (third, of_keys) in duties {
                let due = begin + SLOT * passed + SLOT * third / 3;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                for index in of_keys.into_iter().filter(own) {
                    let (body, _) = match third {
                        0 => CHAIN.block(slot, slot),
                        1 => CHAIN.attestation(slot, epoch - 1, epoch, slot),
                        _ => CHAIN.randao(slot),
                    };
                    let path = format!("/api/v1/eth2/sign/{}", keys[usize::try_from(index).expect("few")].public);
                    let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
                    let answer = client.request("POST", &path, &headers, body.to_string().as_bytes());
                    *statuses.entry(answer.as_ref().map_or(0, |answer| answer.status)).or_default() += 1;
                    if answer.map_or(true, |answer| answer.header("connection") == Some("close")) {
                        client = Client::connect(address).expect("nginx accepts connections");
                    }
                }
            }
            self.slot.fetch_max(u64::from(passed) + 1, Ordering::Relaxed);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        statuses
    }

    /// Waits until the load has gone on for some slots.
    fn goes_on(&self) {
        let before = self.slot.load(Ordering::Relaxed);
        wait_until("the load goes on", || self.slot.load(Ordering::Relaxed) >= before + SLOTS_AFTER);
    }
}

/// Ends the load when the scope is left in any way.
struct Ends<'a>(&'a Load);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// A download of a version: archive, checksums and `install.sh` in a folder; `more` is added to the binary's bytes.
fn download(folder: &Path, more: &[u8]) {
    std::fs::create_dir(folder).expect("a folder");
    let name = format!("holdfast-{}-linux-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let archive = release().join(format!("{name}.tar.gz"));
    std::fs::copy(release().join("install.sh"), folder.join("install.sh")).expect("the installer");
    shell_output(Command::new("tar").arg("-xzf").arg(&archive).current_dir(folder));
    let binary = std::fs::OpenOptions::new().append(true).open(folder.join(&name).join("holdfast"));
    binary.and_then(|mut file| file.write_all(more)).expect("the binary can be written");
    let pack = format!("tar -cf - {name} | gzip -1 >{name}.tar.gz && rm -r {name} && sha256sum *.tar.gz >SHA256SUMS");
    shell_output(Command::new("bash").args(["-euc", &pack]).current_dir(folder));
}

/// A machine with an installed signer.
struct Machine {
    /// Its `/`.
    root: PathBuf,
    http: SocketAddr,
    server: Option<Child>,
}

impl Machine {
    /// A machine on which nothing is installed.
    fn new(root: PathBuf) -> Self {
        let tools = root.join("tools");
        std::fs::create_dir_all(root.join("etc")).expect("a root");
        std::fs::create_dir(root.join("opt")).expect("a folder");
        std::fs::create_dir(&tools).expect("a folder");
        std::fs::write(tools.join("sudo"), "#!/bin/sh\n[ \"$1\" != -u ] || shift 2\nexec \"$@\"\n").expect("a script");
        std::fs::set_permissions(tools.join("sudo"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        Self { root, http: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), server: None }
    }

    /// A path of the documentation, on this machine.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A printed command in a folder. What it names in `/etc` and `/opt` is this machine's.
    fn command(&self, folder: &Path, line: &str) -> Command {
        println!("$ {line}");
        let root = self.root.display();
        let line =
            line.replace("/etc/holdfast", &format!("{root}/etc/holdfast")).replace("/opt/", &format!("{root}/opt/"));
        let path = std::env::var("PATH").expect("a path");
        let path = format!("{}:{}:{path}", self.at("tools").display(), self.at("usr/local/bin").display());
        let mut command = Command::new("bash");
        command.args(["-euc", &line]).current_dir(folder).env("PATH", path).env_remove("HOLDFAST_BIN");
        command
    }

    #[track_caller]
    fn types(&self, folder: &Path, line: &str) -> String {
        shell_output(&mut self.command(folder, line))
    }

    /// Installs or upgrades with what lies in a folder.
    fn installs(&self, version: &Path) -> String {
        let line = printed("docs/install.md", "sudo sh install.sh --from");
        self.types(version, &format!("{line} --root {}", self.root.display()))
    }

    /// Puts chain, database and addresses where the documentation says.
    fn configure(&self, world: &World, data: &Path, url: &str) {
        let file = self.at(CONFIG);
        let installed = std::fs::read_to_string(&file).expect("the installed configuration");
        let chain = format!(
            "name = \"{}\"\ngenesis_validators_root = \"0x{}\"\ngenesis_time = {GENESIS_TIME}",
            world.path().join("config.yaml").display(),
            hex::encode(GENESIS_VALIDATORS_ROOT)
        );
        let own =
            installed.replace("name = \"mainnet\"", &chain).replace("/var/lib/holdfast", &data.display().to_string());
        assert!(own.contains(&chain) && own.contains(&data.display().to_string()), "{installed}");
        let more = format!(
            "\n[database]\nurl = \"{url}\"\n\n[http]\nlisten = \"{}\"\n\n[metrics]\nlisten = \"127.0.0.1:0\"\n",
            self.http
        );
        std::fs::write(&file, own + &more).expect("the configuration");
    }

    /// As systemd starts the installed unit; comes back when the signer can sign.
    fn starts(&mut self) {
        let unit = std::fs::read_to_string(self.at("etc/systemd/system/holdfast.service")).expect("the unit");
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command line");
        let mut words = line.split_whitespace().map(|word| match word.strip_prefix('/') {
            Some(path) => self.at(path).into_os_string(),
            None => word.into(),
        });
        let log = std::fs::File::options().create(true).append(true).open(self.at("log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        let mut command = Command::new(words.next().expect("a program"));
        let child = command.args(words).current_dir(&self.root).stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.server = Some(child.expect("the signer starts"));
        let ready = printed(ROLLING, "holdfast status --ready");
        // The configuration of the folder that a command is given in.
        let folder = self.at("etc/holdfast");
        wait_until("the signer is ready", || {
            self.command(&folder, &ready).output().expect("bash starts").status.success()
        });
    }

    fn server(&mut self) -> &mut Child {
        self.server.as_mut().expect("it runs")
    }

    /// `sudo systemctl restart holdfast`.
    fn restarts(&mut self) {
        for document in [UPGRADE, ROLLING] {
            assert_eq!(printed(document, "sudo systemctl restart"), "sudo systemctl restart holdfast");
        }
        println!("$ sudo systemctl restart holdfast");
        kill_process(Pid::from_child(self.server()), Signal::TERM).expect("SIGTERM is delivered");
        let ended = self.server().wait().expect("it ends");
        let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
        assert!(ended.success(), "the signer ended with {ended}:\n{log}");
        self.starts();
    }

    /// Length of the binary that runs, which tells the versions apart.
    fn runs(&mut self) -> u64 {
        std::fs::metadata(format!("/proc/{}/exe", self.server().id())).expect("a running binary").size()
    }

    /// The runbook's steps 3 to 5 on this machine.
    fn upgrades(&mut self, version: &Path, load: &Load) {
        let before = self.runs();
        for line in ["sudo mkdir /opt", "sudo tar -xzf"] {
            self.types(version, &printed(UPGRADE, line));
        }
        let new = "sudo -u holdfast /opt/holdfast-new/holdfast --config";
        self.types(version, &printed(UPGRADE, &format!("{new} {CONFIG} config validate")));
        let changes = self.types(version, &printed(UPGRADE, &format!("{new} {CONFIG} slashing migrate")));
        assert!(changes.contains("up to date"), "{changes}");
        self.types(version, &printed(UPGRADE, "sudo rm -r /opt"));
        let said = self.installs(version);
        assert!(said.contains("kept ") && said.contains("holdfast.toml"), "{said}");
        assert_eq!(self.runs(), before, "the running version signs on");
        load.goes_on();
        self.restarts();
        assert_ne!(self.runs(), before, "the installed version runs");
        let status = self.types(&self.at("etc/holdfast"), &printed(UPGRADE, "holdfast status"));
        assert!(status.contains(env!("CARGO_PKG_VERSION")), "{status}");
        load.goes_on();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.server.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_rolling_upgrade_and_the_way_back_cost_no_signature() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), KEYS);
    let (old, new) = (world.path().join("old"), world.path().join("new"));
    download(&old, b"");
    download(&new, b"another build");
    let data = [world.data_dir(), world.second_data_dir("second")];
    let mut machines = ["a", "b"].map(|name| Machine::new(world.path().join(name)));
    for (machine, data) in machines.iter_mut().zip(&data) {
        machine.installs(&old);
        machine.configure(&world, data, &cluster.url());
        machine.starts();
    }
    let balancer = Balancer::start(world.path(), [machines[0].http, machines[1].http]);
    let (load, begin) = (Load::default(), Instant::now());
    let statuses = std::thread::scope(|scope| {
        let ends = Ends(&load);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (load, keys, address) = (&load, &world.keys, balancer.address());
                scope.spawn(move || load.client(address, keys, number, begin))
            })
            .collect();
        load.goes_on();
        for machine in &mut machines {
            machine.upgrades(&new, &load);
        }
        // A signer that dies, and how the other one shows it.
        let [first, second] = &mut machines;
        second.server().kill().expect("SIGKILL is delivered");
        second.server().wait().expect("it is reaped");
        let look = printed(ROLLING, "holdfast status");
        let look = look.trim_end_matches(" --ready");
        wait_until("it is shown as away", || first.types(&first.at("etc/holdfast"), look).contains("away"));
        load.goes_on();
        second.starts();
        load.goes_on();
        for machine in &mut machines {
            machine.upgrades(&old, &load);
        }
        drop(ends);
        let mut all: BTreeMap<u16, u64> = BTreeMap::new();
        for (status, count) in clients.into_iter().flat_map(|client| client.join().expect("a client ends")) {
            *all.entry(status).or_default() += count;
        }
        all
    });
    let passed = balancer.passed();
    let moved = passed.iter().filter(|one| one.answers.len() > 1).count();
    println!(
        "rolling upgrade: {} slots, answers {statuses:?}, {moved} sent on to the other signer by nginx, {:?}",
        load.slot.load(Ordering::Relaxed),
        begin.elapsed()
    );
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "requests without a signature: {passed:?}");
    run(&world.with(&["slashing", "status", "--verify"])).expect(0, &["verified"]);
}

#[test]
fn the_check_before_an_upgrade_names_what_a_start_would_change_in_an_older_file() {
    let world = World::new(1);
    let file = world.data_dir().join("holdfast.db");
    let check = ["slashing", "migrate", "--dry-run"];
    run(&world.with(&check)).expect(0, &["up to date"]);
    // As the version before labels left it.
    let change = |sql: &str| rusqlite::Connection::open(&file).expect("the database").execute_batch(sql).expect(sql);
    change(
        "DROP TRIGGER deleted_keys_have_no_labels; DROP TABLE key_labels; DELETE FROM schema_version WHERE version = 5;",
    );
    for _ in 0..2 {
        run(&world.with(&check)).expect(0, &["would apply schema version 5"]);
    }
    run(&world.with(&["status"])).expect(0, &["schema 4, this program knows 5", "1 enabled"]);
    let server = world.server().start();
    server.wait_ready();
    run(&world.with(&check)).expect(0, &["up to date"]);
    let (body, _) = CHAIN.attestation(800, 99, 100, 1);
    assert_eq!(server.sign(&world.keys[0].public, &body).status, 200);
    assert!(server.stop().0.success());
    // A version that this one does not know.
    change("INSERT INTO schema_version (version) VALUES (99)");
    run(&world.with(&check)).expect(3, &["schema version 99", "newer version"]);
}
