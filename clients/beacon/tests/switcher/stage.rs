//! A pool of scripted nodes with a switcher in front of it.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_beacon::route::{RoutingConfig, Switcher};
use holdfast_beacon::server::{ServerBounds, serve};
use holdfast_beacon::{
    Balancing, DecisionKind, Eligibility, EndpointClass, Environment, HysteresisPolicy, Metrics, NoSink, NodeView,
    Policy, Pool, PoolConfig, Probing, ReplayGate, Role, Roles, Tasks, Upstream, UpstreamConfig, UpstreamName, Weight,
};
use holdfast_domain::{Clock, UnixMillis};
use tokio::net::TcpListener;

use crate::scripted::{Chain, HttpAnswer, PATIENCE, ScriptedNode, Seen, get, request};

pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> UnixMillis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixMillis(u64::try_from(now.as_millis()).unwrap())
    }
}

/// How a stage is set up.
pub struct Setting {
    pub chain: Chain,
    /// Versions; one node each, called a, b, c, …
    pub versions: Vec<&'static str>,
    pub routing: RoutingConfig,
    pub bounds: ServerBounds,
    /// Names of the nodes that have the role `builder`.
    pub builders: Vec<&'static str>,
    pub balance: Policy,
    /// Weights of the nodes, in their order; 1 where none is given.
    pub weights: Vec<u16>,
    /// Nodes that may be used for one thing only.
    pub only: Vec<(&'static str, Role)>,
    /// A node that is back is trusted at once unless a test is about that.
    pub hysteresis: HysteresisPolicy,
    /// Of a distributed validator.
    pub middleware: Option<Arc<Upstream>>,
}

impl Setting {
    /// `versions` as nodes of a young chain.
    pub fn of(versions: &[&'static str]) -> Self {
        Self {
            chain: Chain::aged(1000),
            versions: versions.to_vec(),
            routing: RoutingConfig::default(),
            bounds: ServerBounds::default(),
            builders: Vec::new(),
            balance: Policy::BestFirst,
            weights: Vec::new(),
            only: Vec::new(),
            hysteresis: HysteresisPolicy { good_slots: 0, most_good_slots: 0, forget_after: 128 },
            middleware: None,
        }
    }

    pub async fn stage(self) -> Stage {
        Stage::new(self).await
    }
}

/// Three nodes of one client.
pub const ALIKE: [&str; 3] = ["Lodestar/v1.40.0", "Lodestar/v1.40.0", "Lodestar/v1.40.0"];

pub struct Stage {
    pub nodes: Vec<ScriptedNode>,
    pub switcher: Arc<Switcher>,
    pub address: std::net::SocketAddr,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

impl Stage {
    pub async fn new(setting: Setting) -> Self {
        let mut nodes = Vec::new();
        for (name, version) in NAMES.iter().zip(&setting.versions) {
            nodes.push(ScriptedNode::start(name, version, &setting.chain).await);
        }
        Self::with_nodes(setting, nodes).await
    }

    /// As [`Self::new`], with nodes prepared before the pool sees them.
    pub async fn with_nodes(setting: Setting, nodes: Vec<ScriptedNode>) -> Self {
        let upstreams = nodes
            .iter()
            .enumerate()
            .map(|(place, node)| {
                let mut config =
                    UpstreamConfig::new(UpstreamName::new(node.name()).unwrap(), node.url().parse().unwrap());
                if setting.builders.contains(&node.name()) {
                    config.roles = config.roles.with(Role::Builder);
                }
                if let Some(weight) = setting.weights.get(place) {
                    config.weight = Weight(NonZeroU16::new(*weight).unwrap());
                }
                if let Some((_, role)) = setting.only.iter().find(|(name, _)| *name == node.name()) {
                    config.roles = Roles::NONE.with(*role);
                }
                config
            })
            .collect();
        let config = PoolConfig {
            upstreams,
            probing: Probing {
                interval: Duration::from_millis(100),
                peers_every: Duration::from_millis(500),
                ..Probing::default()
            },
            hysteresis: setting.hysteresis,
            balancing: Balancing { default: setting.balance, ..Balancing::default() },
            replay: ReplayGate::Wait,
            ..PoolConfig::default()
        };
        let tasks = Tasks::new();
        let environment = Environment {
            clock: Arc::new(WallClock),
            sink: Arc::new(NoSink),
            metrics: Metrics::default(),
            tasks: tasks.clone(),
            tracer: holdfast_traces::Tracer::off(),
        };
        let pool = Pool::start(config, environment).await.unwrap();
        let switcher = Switcher::start_beside(&pool, setting.routing, setting.middleware);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, None, Arc::clone(&switcher), setting.bounds, &tasks);
        let stage = Self { nodes, switcher, address };
        stage.settled().await;
        stage
    }

    pub fn pool(&self) -> &Arc<Pool> {
        self.switcher.pool()
    }

    pub fn node(&self, name: &str) -> &ScriptedNode {
        self.nodes.iter().find(|node| node.name() == name).unwrap()
    }

    pub fn node_mut(&mut self, name: &str) -> &mut ScriptedNode {
        self.nodes.iter_mut().find(|node| node.name() == name).unwrap()
    }

    pub fn view(&self, name: &str) -> Arc<NodeView> {
        let view = self.pool().view();
        view.nodes().iter().find(|node| node.upstream.name().as_str() == name).cloned().unwrap()
    }

    pub fn eligibility(&self, name: &str, class: EndpointClass) -> Eligibility {
        self.view(name).eligibility(class)
    }

    /// Waits until every node is taken in and listened to, and has told its head.
    async fn settled(&self) {
        eventually("the nodes are taken in", || self.pool().view().nodes().iter().all(|node| node.version.is_some()))
            .await;
        for node in &self.nodes {
            node.wait_streams(1).await;
            node.event("head", &head_event(node.chain(), node.chain().slot(), 0));
        }
        eventually("the nodes' heads are known", || {
            self.pool().view().nodes().iter().all(|node| node.head.is_some_and(|head| head.root.is_some()))
        })
        .await;
    }

    /// Waits until the pool thinks so of a node.
    pub async fn until(&self, name: &str, class: EndpointClass, eligibility: Eligibility) {
        eventually(&format!("{name} is {eligibility:?} for {}", class.as_str()), || {
            self.eligibility(name, class) == eligibility
        })
        .await;
    }

    pub async fn get(&self, path: &str) -> HttpAnswer {
        get(self.address, path).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> HttpAnswer {
        request(self.address, "GET", path, &[("accept", accept)], b"").await
    }

    pub async fn post(&self, path: &str, body: &str) -> HttpAnswer {
        let headers = [("content-type", "application/json"), ("eth-consensus-version", "fulu")];
        request(self.address, "POST", path, &headers, body.as_bytes()).await
    }

    /// A request in the background, so that the test can look at the nodes meanwhile.
    pub fn background(&self, method: &'static str, path: &str, body: &str) -> tokio::task::JoinHandle<HttpAnswer> {
        let (address, path, body) = (self.address, path.to_owned(), body.to_owned());
        tokio::spawn(async move {
            let headers = [("content-type", "application/json"), ("accept", "application/json")];
            request(address, method, &path, &headers, body.as_bytes()).await
        })
    }

    /// How many times each node saw a route, in the nodes' order.
    pub fn counts(&self, route: &str) -> Vec<usize> {
        self.nodes.iter().map(|node| node.seen(route).len()).collect()
    }

    pub fn seen(&self, name: &str, route: &str) -> Vec<Seen> {
        self.node(name).seen(route)
    }

    /// Waits until some node saw `route`, and names it.
    pub async fn first_to_see(&self, route: &str) -> &ScriptedNode {
        eventually(&format!("some node sees {route}"), || self.counts(route).iter().any(|count| *count > 0)).await;
        self.nodes.iter().find(|node| !node.seen(route).is_empty()).unwrap()
    }

    pub fn decided(&self, kind: DecisionKind) -> Vec<String> {
        let last = self.pool().last_decisions();
        last.into_iter().filter(|(_, decision)| decision.kind == kind).map(|(_, decision)| decision.reason).collect()
    }
}

/// Waits for something that must happen, and says what did not.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, met).await.is_ok(), "not in time: {what}");
}

/// What a `head` event says.
pub fn head_event(chain: &Chain, slot: u64, fork: u8) -> String {
    serde_json::json!({
        "slot": slot.to_string(), "block": chain.block_root(slot, fork), "state": chain.block_root(slot, 0xee),
        "epoch_transition": false, "execution_optimistic": false,
    })
    .to_string()
}

/// The message of an error in the Beacon API's form; checks the form.
pub fn message(answer: &HttpAnswer) -> String {
    let json = answer.json();
    assert_eq!(json["code"], answer.status, "{json}");
    json["message"].as_str().unwrap_or_else(|| panic!("no message in {json}")).to_owned()
}
