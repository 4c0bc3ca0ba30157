//! Everything that runs, and how it is broken and mended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::client_log::ClientLog;
use holdfast_tests::devnet::{Network, NodeDatabase, Size};
use holdfast_tests::harness::{Builder, Server, holdfast_ok};
use holdfast_tests::postgres::{Cluster, Disk, Stop};
use holdfast_tests::proxy::Proxy;
use holdfast_tests::world::copy_private;

use crate::balancer::Balancer;
use crate::faults::Fault;
use crate::votes::Times;
use crate::watch::Watch;

/// The epoch that must be finalized before anything breaks.
const FINALIZED_BEFORE: u64 = 1;
/// Limit of the wait for it, in slots, and what the start of the nodes may take besides.
const FINALITY_SLOTS: u64 = 48;
const START_SECONDS: u64 = 240;
/// A fault of nodes strikes one in so many.
const ONE_IN: usize = 4;
/// By how much the processes of the chain may outlive the soak: its start, its verdict, and what is late.
const OVERTIME: Duration = Duration::from_hours(1);
/// Of a slow node, each way.
const SLOW: Duration = Duration::from_millis(300);
/// Of a far database, each way.
const FAR: Duration = Duration::from_millis(20);

/// One signer, its settings and its server.
struct Signer {
    builder: Builder,
    server: Option<Server>,
}

/// All processes. Dropping it ends them.
pub(crate) struct Stage {
    signers: [Signer; 2],
    switcher: Server,
    client_log: PathBuf,
    /// One for each upstream; the upstream of node `i` are those with `index % nodes == i`.
    upstreams: Vec<Proxy>,
    database_proxy: Proxy,
    cluster: Cluster,
    balancer: Balancer,
    network: Network,
    watch: Watch,
    /// The nodes that the fault of the moment strikes.
    struck: Vec<usize>,
    /// Those of them that answer nothing.
    down: Vec<usize>,
}

/// How large the stage is.
pub(crate) struct Plan {
    /// Real beacon nodes.
    pub(crate) nodes: usize,
    /// Addresses the switcher is given, at least one for each node.
    pub(crate) upstreams: usize,
    /// Validators, each with a key.
    pub(crate) keys: u64,
    /// Length of a slot.
    pub(crate) slot_seconds: u64,
    /// How long things break.
    pub(crate) time: Duration,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have UTF-8 names")
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("the tool prints addresses")
}

impl Stage {
    /// Starts everything and waits until the chain finalizes.
    pub(crate) fn set(folder: &Path, plan: &Plan) -> Self {
        let nodes = plan.nodes;
        let cluster = Cluster::builder().disk(Disk::Temporary).start();
        let database_proxy = Proxy::start(cluster.addr());
        let url = cluster.url_at(database_proxy.addr());
        let size =
            Size { nodes, validators: plan.keys, slot_seconds: plan.slot_seconds, lifetime: plan.time + OVERTIME };
        let network = Network::start_sized(folder.join("network"), size);
        let data = [folder.join("first"), folder.join("second")];
        let options = |data: &Path| {
            let mut options =
                vec!["--data-dir".to_owned(), text(data).to_owned(), "--database".to_owned(), url.clone()];
            options.extend(network.holdfast_options());
            options
        };
        let mut import = options(&data[0]);
        let (from, password) = (text(network.keystores()), text(network.password_file()));
        let words = ["keys", "import", "--from", from, "--password-file", password, "--watermark", "never-signed"];
        import.extend(words.map(str::to_owned));
        holdfast_ok(&import);
        copy_private(&data[0].join("kek"), &data[1].join("kek"));
        let signers = data.each_ref().map(|data| {
            let builder = options(data).into_iter().fold(Server::builder(), Builder::global);
            let server = builder.start();
            server.wait_ready();
            Signer { builder: builder.http_port(server.http_addr().port()), server: Some(server) }
        });
        let balancer = Balancer::start(folder, signers.each_ref().map(|signer| signer.server().http_addr()));
        let proxies: Vec<Proxy> =
            (0..plan.upstreams).map(|index| Proxy::start(address(&network.beacons()[index % nodes]))).collect();
        let builder = network.holdfast_options().iter().fold(Server::builder(), Builder::global);
        let builder = builder.data_dir(&folder.join("switcher"));
        let builder = proxies
            .iter()
            .fold(builder, |builder, proxy| builder.global("--beacon").global(format!("http://{}", proxy.addr())));
        // The mock engine of the nodes is an execution client, too, so that its pool is at work.
        let switcher = builder
            .arg("--no-signer")
            .arg("--switcher-listen")
            .arg("127.0.0.1:0")
            // It says then what it gave out to be voted for, and when.
            .env("HOLDFAST_TELEMETRY_LOG", "info,holdfast_beacon::route=debug")
            .env("HOLDFAST_EXECUTION_ENABLED", "true")
            .env("HOLDFAST_EXECUTION_LISTEN", "127.0.0.1:0")
            .env("HOLDFAST_EXECUTION_UPSTREAM", network.engine())
            .start();
        let beacon = format!("http://{}", switcher.switcher_addr());
        let client_log = network.start_validators_on("vc", balancer.address(), &beacon);
        let watch = Watch::start(&scraped(&signers, &switcher));
        network.wait_finalized(FINALIZED_BEFORE, START_SECONDS + FINALITY_SLOTS * plan.slot_seconds);
        Self {
            signers,
            switcher,
            client_log,
            upstreams: proxies,
            database_proxy,
            cluster,
            balancer,
            network,
            watch,
            struck: Vec::new(),
            down: Vec::new(),
        }
    }

    /// Leaves the logs of everything in this folder, below the names of the processes.
    pub(crate) fn keep(&mut self, folder: &Path) {
        self.network.keep();
        for (name, server) in self.servers() {
            let file = folder.join(format!("{name}.log"));
            std::fs::write(&file, server.log()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }

    /// Real nodes.
    pub(crate) fn nodes(&self) -> usize {
        self.network.beacons().len()
    }

    /// The chain.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Log of the validator client.
    pub(crate) fn client_log(&self) -> &Path {
        &self.client_log
    }

    /// When votes and blocks were made, up to this slot.
    pub(crate) fn times(&self, last_slot: u64) -> Times {
        let (client, network) = (ClientLog::from_start(&self.client_log), &self.network);
        Times::read(&client, &self.switcher.log(), network.genesis_time(), network.slot_seconds(), last_slot)
    }

    /// Where the validator client signs.
    pub(crate) fn signing(&self) -> SocketAddr {
        self.balancer.address()
    }

    /// What nginx passed on so far.
    pub(crate) fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The Prometheus beside it.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The processes of Holdfast by name.
    pub(crate) fn servers(&self) -> [(&'static str, &Server); 3] {
        [("signer 1", self.signers[0].server()), ("signer 2", self.signers[1].server()), ("switcher", &self.switcher)]
    }

    /// Waits for the next slot of the clock, then for the end of its duties; the slot of the clock.
    pub(crate) fn wait_slot(&self) -> u64 {
        // A node that is not down. A head of slot 0 is always there: this waits for the clock alone.
        let node = (0..self.nodes()).find(|node| !self.down.contains(node)).expect("not all nodes are down");
        self.network.wait_head_at(node + 1, 0, 0.95).clock_slot
    }

    fn name(node: usize) -> String {
        format!("beacon{}", node + 1)
    }

    /// The node behind the switcher's first choice and those after it, a quarter of all.
    fn choose(&self) -> Vec<usize> {
        let document = self.switcher.get_metrics("/status.json").json();
        let first = document["switcher"]["serving"]["duty"][0].as_str().unwrap_or_default();
        let first = self.upstreams.iter().position(|proxy| proxy.addr().to_string() == first).unwrap_or_default();
        (0..self.nodes().div_ceil(ONE_IN)).map(|next| (first + next) % self.nodes()).collect()
    }

    /// Breaks something.
    pub(crate) fn apply(&mut self, fault: Fault) {
        self.struck = self.choose();
        if fault.takes_nodes_down() {
            self.down.clone_from(&self.struck);
        }
        match fault {
            Fault::Nothing => {}
            Fault::SignerKilled(index) => {
                let signer = &mut self.signers[index];
                signer.server.take().expect("the server runs").kill9();
                signer.server = Some(signer.builder.start());
            }
            Fault::SignerRestarted(index) => {
                let signer = &mut self.signers[index];
                let (ended, log) = signer.server.take().expect("the server runs").stop();
                assert!(ended.success(), "the signer ended with {ended}:\n{log}");
                signer.server = Some(signer.builder.start());
            }
            Fault::NodesHung => self.signal("pause"),
            Fault::NodesKilled => self.signal("kill"),
            Fault::NodesSlow => self.delay(SLOW),
            Fault::DatabaseFar => self.database_proxy.set_one_way_delay(FAR),
            Fault::DatabaseRestarted => {
                self.cluster.stop(Stop::Fast);
                self.cluster.start_again();
            }
        }
        if matches!(fault, Fault::SignerKilled(_) | Fault::SignerRestarted(_)) {
            self.watch.retarget(&scraped(&self.signers, &self.switcher));
        }
    }

    /// Mends what [`Self::apply`] broke, and waits until the signers serve.
    pub(crate) fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::NodesHung => {
                self.signal("resume");
                // Their peers have given them up, and there is no discovery on this network.
                for node in &self.struck {
                    self.network.reconnect(node + 1);
                }
            }
            Fault::NodesKilled => {
                for node in &self.struck {
                    self.network.restart(node + 1, NodeDatabase::Kept);
                }
            }
            Fault::NodesSlow => self.delay(Duration::ZERO),
            Fault::DatabaseFar => self.database_proxy.set_one_way_delay(Duration::ZERO),
            Fault::Nothing | Fault::SignerKilled(_) | Fault::SignerRestarted(_) | Fault::DatabaseRestarted => {}
        }
        self.down.clear();
        for signer in &self.signers {
            signer.server().wait_ready();
        }
    }

    fn signal(&self, action: &str) {
        for node in &self.struck {
            self.network.signal(&Self::name(*node), action);
        }
    }

    fn delay(&self, delay: Duration) {
        for (index, proxy) in self.upstreams.iter().enumerate() {
            if self.struck.contains(&(index % self.nodes())) {
                proxy.set_one_way_delay(delay);
            }
        }
    }
}

/// What Prometheus scrapes, by name.
fn scraped(signers: &[Signer; 2], switcher: &Server) -> [(String, SocketAddr); 3] {
    let [first, second] = signers.each_ref().map(|signer| signer.server().metrics_addr());
    [("signer-1", first), ("signer-2", second), ("switcher", switcher.metrics_addr())]
        .map(|(name, address)| (name.to_owned(), address))
}

impl Signer {
    fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }
}
