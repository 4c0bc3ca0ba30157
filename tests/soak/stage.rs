//! Everything that runs, and how it is broken and mended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::devnet::{Network, NodeDatabase};
use holdfast_tests::harness::{Builder, Server, holdfast_ok};
use holdfast_tests::postgres::{Cluster, Disk, Stop};
use holdfast_tests::proxy::Proxy;
use holdfast_tests::world::copy_private;

use crate::balancer::Balancer;
use crate::faults::Fault;

/// The epoch that must be finalized before anything breaks.
const FINALIZED_BEFORE: u64 = 1;
/// Limit of the wait for it.
const FINALITY_SECONDS: u64 = 180;
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
    /// The node that hangs or is killed.
    down: Option<usize>,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have UTF-8 names")
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("the tool prints addresses")
}

impl Stage {
    /// Starts everything and waits until the chain finalizes.
    pub(crate) fn set(folder: &Path, nodes: usize, upstreams: usize, keys: u64) -> Self {
        let cluster = Cluster::builder().disk(Disk::Temporary).start();
        let database_proxy = Proxy::start(cluster.addr());
        let url = cluster.url_at(database_proxy.addr());
        let network = Network::start_sized(folder.join("network"), nodes, keys);
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
            (0..upstreams).map(|index| Proxy::start(address(&network.beacons()[index % nodes]))).collect();
        let builder = network.holdfast_options().iter().fold(Server::builder(), Builder::global);
        let builder = builder.data_dir(&folder.join("switcher"));
        let builder = proxies
            .iter()
            .fold(builder, |builder, proxy| builder.global("--beacon").global(format!("http://{}", proxy.addr())));
        let switcher = builder.arg("--no-signer").arg("--switcher-listen").arg("127.0.0.1:0").start();
        let beacon = format!("http://{}", switcher.switcher_addr());
        let client_log = network.start_validators_on("vc", balancer.address(), &beacon);
        network.wait_finalized(FINALIZED_BEFORE, FINALITY_SECONDS);
        Self {
            signers,
            switcher,
            client_log,
            upstreams: proxies,
            database_proxy,
            cluster,
            balancer,
            network,
            down: None,
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

    /// Where the validator client signs.
    pub(crate) fn signing(&self) -> SocketAddr {
        self.balancer.address()
    }

    /// What nginx passed on so far.
    pub(crate) fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The processes of Holdfast by name.
    pub(crate) fn servers(&self) -> [(&'static str, &Server); 3] {
        [("signer 1", self.signers[0].server()), ("signer 2", self.signers[1].server()), ("switcher", &self.switcher)]
    }

    /// Waits for so many slots of the clock, then for the end of their duties; the slot of the clock.
    pub(crate) fn wait_slots(&self, slots: u64) -> u64 {
        // The first node that is not down, counted from 1. A head of slot 0 is always there: this waits for the clock alone.
        let node = 1 + usize::from(self.down == Some(0));
        (0..slots).map(|_| self.network.wait_head_at(node, 0, 0.95).clock_slot).last().unwrap_or_default()
    }

    fn name(node: usize) -> String {
        format!("beacon{}", node + 1)
    }

    /// Breaks something.
    pub(crate) fn apply(&mut self, fault: Fault) {
        if let Fault::NodeHung(node) | Fault::NodeKilled(node) = fault {
            self.down = Some(node);
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
            Fault::NodeHung(node) => self.network.signal(&Self::name(node), "pause"),
            Fault::NodeKilled(node) => self.network.signal(&Self::name(node), "kill"),
            Fault::NodeSlow(node) => self.delay(node, SLOW),
            Fault::DatabaseFar => self.database_proxy.set_one_way_delay(FAR),
            Fault::DatabaseRestarted => {
                self.cluster.stop(Stop::Fast);
                self.cluster.start_again();
            }
        }
    }

    /// Mends what [`Self::apply`] broke, and waits until the signers serve.
    pub(crate) fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::NodeHung(node) => self.network.signal(&Self::name(node), "resume"),
            Fault::NodeKilled(node) => self.network.restart(node + 1, NodeDatabase::Kept),
            Fault::NodeSlow(node) => self.delay(node, Duration::ZERO),
            Fault::DatabaseFar => self.database_proxy.set_one_way_delay(Duration::ZERO),
            Fault::Nothing | Fault::SignerKilled(_) | Fault::SignerRestarted(_) | Fault::DatabaseRestarted => {}
        }
        self.down = None;
        for signer in &self.signers {
            signer.server().wait_ready();
        }
    }

    fn delay(&self, node: usize, delay: Duration) {
        for proxy in self.upstreams.iter().skip(node).step_by(self.nodes()) {
            proxy.set_one_way_delay(delay);
        }
    }
}

impl Signer {
    fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }
}
