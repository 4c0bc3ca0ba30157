//! Scripted execution clients, over HTTP and WebSocket, and a pool in front of them.
#![allow(dead_code, reason = "each test program uses the part it needs")]
#![allow(unreachable_pub, clippy::missing_panics_doc, reason = "test support")]
#![allow(clippy::result_large_err, reason = "the type of a handshake's refusal is the library's")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use holdfast_beacon::execution::{
    ExecutionConfig, ExecutionEnvironment, ExecutionMetrics, ExecutionNodeConfig, ExecutionPool, MethodPolicy,
    NodeStatus, ServerBounds, serve,
};
use holdfast_beacon::{NoSink, Policy, Tasks, UpstreamConfig, UpstreamName};
use holdfast_domain::{Clock, UnixMillis};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server as handshake;

use crate::scripted::{Answer, Chain, PATIENCE, ScriptedNode, Seen, request};

/// A member `result` with this JSON.
pub fn raw(result: &str) -> String {
    format!(r#""result":{result}"#)
}

/// The answers of a node in sync at block 100 of chain 1 that answers everything else by `reply`: a member `result`
/// or `error`. What `reply` says to a probe's method overrides that if it has the right form.
pub fn replies(seen: &Seen, reply: &(impl Fn(&str) -> String + ?Sized)) -> Answer {
    let one = |call: &Value| {
        let method = call["method"].as_str().unwrap_or_default();
        let said = reply(method);
        let quantity = said.starts_with("\"result\":\"0x");
        let member = match method {
            "eth_chainId" if said != raw("\"0x5\"") => raw("\"0x1\""),
            "eth_syncing" if said != raw("{}") => raw("false"),
            "eth_blockNumber" if !(quantity && said == raw("\"0x1\"")) => raw("\"0x64\""),
            "eth_blockNumber" => raw("\"0x1\""),
            "net_peerCount" if said != raw("\"0x0\"") => raw("\"0x32\""),
            _ => said,
        };
        format!(r#"{{"jsonrpc":"2.0","id":{},{member}}}"#, call["id"])
    };
    Answer::json(match seen.json() {
        Value::Array(calls) => format!("[{}]", calls.iter().map(one).collect::<Vec<_>>().join(",")),
        call => one(&call),
    })
}

/// A node that answers as [`replies`] says.
pub async fn http_node(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> ScriptedNode {
    let node = ScriptedNode::start("execution", "x", &Chain::aged(10)).await;
    node.script("POST /", move |seen| replies(seen, &reply));
    node
}

/// How often a node was asked for a method.
pub fn times_called(node: &ScriptedNode, method: &str) -> usize {
    node.seen("POST /").iter().filter(|seen| seen.text().contains(method)).count()
}

/// A node of the pool without WebSocket.
pub fn node_config(node: &ScriptedNode) -> ExecutionNodeConfig {
    ExecutionNodeConfig { upstream: UpstreamConfig::from_url(&node.url()).unwrap(), websocket: None }
}

/// A node of the pool with a name.
pub fn named(name: &str, node: &ScriptedNode) -> ExecutionNodeConfig {
    let mut config = node_config(node);
    config.upstream.name = UpstreamName::new(name).unwrap();
    config
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap())
    }
}

/// A pool that has asked its nodes once.
pub async fn pool(nodes: Vec<ExecutionNodeConfig>, balance: Policy) -> Arc<ExecutionPool> {
    measured(nodes, balance, ExecutionMetrics::default()).await
}

/// A pool that has asked its nodes once, with these numbers.
pub async fn measured(
    nodes: Vec<ExecutionNodeConfig>,
    balance: Policy,
    metrics: ExecutionMetrics,
) -> Arc<ExecutionPool> {
    let config = ExecutionConfig {
        nodes,
        methods: MethodPolicy::new(["eth_*", "net_*", "web3_*"]).unwrap(),
        balance,
        max_lag: 3,
        timeout: Duration::from_secs(5),
        max_batch: 10,
        max_body: 64 * 1024,
    };
    let environment =
        ExecutionEnvironment { clock: Arc::new(SystemClock), sink: Arc::new(NoSink), metrics, tasks: Tasks::new() };
    let pool = ExecutionPool::start(config, environment).unwrap();
    tokio::time::timeout(PATIENCE, pool.probed()).await.unwrap();
    pool
}

/// Waits for a state of a node.
pub async fn until(pool: &ExecutionPool, name: &str, wanted: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = pool.status();
        let node = status.nodes.iter().find(|node| node.name == name).cloned();
        match node {
            Some(node) if wanted(&node) => return node,
            _ => assert!(tokio::time::Instant::now() < give_up, "not seen of {name}: {status:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A pool that listens.
pub struct Serving {
    pub address: SocketAddr,
    pub tasks: Tasks,
}

/// Listens for a pool.
pub async fn serving(pool: Arc<ExecutionPool>) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    serve(listener, None, pool, ServerBounds { max_connections: 64 }, &tasks);
    Serving { address, tasks }
}

/// One call over HTTP.
pub async fn ask(address: SocketAddr, call: &Value) -> Value {
    let headers = [("content-type", "application/json")];
    request(address, "POST", "/", &headers, call.to_string().as_bytes()).await.json()
}

/// Waits until a node was asked for a method.
pub async fn wait_called(node: &ScriptedNode, method: &str) {
    let mut count = 1;
    while !node.seen("POST /").iter().any(|seen| seen.text().contains(method)) {
        count = node.wait_seen("POST /", count).await.len() + 1;
    }
}

/// The next text on a connection.
pub async fn next_text(socket: &mut WebSocketStream<TcpStream>) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a text in time").unwrap().unwrap();
        if let Message::Text(text) = message {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// A WebSocket connection of a client to a pool.
pub async fn client(address: SocketAddr) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(format!("ws://{address}/"), stream).await.unwrap().0
}

/// Sends a text and reads texts until one has its id.
pub async fn exchange(socket: &mut WebSocketStream<TcpStream>, text: &Value) -> Value {
    socket.send(Message::text(text.to_string())).await.unwrap();
    loop {
        let answer = next_text(socket).await;
        if answer["id"] == text["id"] {
            return answer;
        }
    }
}

#[derive(Clone)]
enum Order {
    Notify(String),
    Close,
}

/// What a client of an [`EventNode`] did.
pub struct Subscribed {
    /// To what it subscribed.
    pub params: Value,
    /// The `Authorization` of its handshake.
    pub authorization: Option<String>,
}

/// A WebSocket server that accepts every subscription under the id 0x1.
pub struct EventNode {
    address: SocketAddr,
    orders: broadcast::Sender<Order>,
    subscribed: tokio::sync::Mutex<mpsc::UnboundedReceiver<Subscribed>>,
}

impl EventNode {
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// One that speaks TLS.
    pub async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::listen(Some(acceptor)).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = broadcast::channel(16).0;
        let (sender, subscribed) = mpsc::unbounded_channel();
        let make = orders.clone();
        tokio::spawn(async move {
            let mut closing = make.subscribe();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    order = closing.recv() => match order.unwrap() {
                        Order::Notify(_) => continue,
                        // Nobody listens any more.
                        Order::Close => return,
                    },
                };
                let (orders, sender) = (make.subscribe(), sender.clone());
                match tls.clone() {
                    None => drop(tokio::spawn(event_connection(stream, orders, sender))),
                    Some(tls) => drop(tokio::spawn(async move {
                        // A client that does not trust us breaks off here.
                        let Ok(stream) = tls.accept(stream).await else { return };
                        event_connection(stream, orders, sender).await;
                    })),
                }
            }
        });
        Self { address, orders, subscribed: tokio::sync::Mutex::new(subscribed) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A node of the pool whose WebSocket API this is.
    pub fn beside(&self, node: &ScriptedNode) -> ExecutionNodeConfig {
        self.next_to(node_config(node))
    }

    /// The same for a node that has a name.
    pub fn next_to(&self, node: ExecutionNodeConfig) -> ExecutionNodeConfig {
        let websocket = Some(format!("ws://{}", self.address).parse().unwrap());
        ExecutionNodeConfig { websocket, ..node }
    }

    /// What the next subscription is to.
    pub async fn subscribed(&self) -> Value {
        self.subscription().await.params
    }

    /// The next subscription.
    pub async fn subscription(&self) -> Subscribed {
        tokio::time::timeout(PATIENCE, self.subscribed.lock().await.recv())
            .await
            .expect("a subscription in time")
            .unwrap()
    }

    pub fn notify(&self, result: &str) {
        assert!(self.orders.send(Order::Notify(result.to_owned())).is_ok());
    }

    pub fn close(&self) {
        assert!(self.orders.send(Order::Close).is_ok());
    }
}

async fn event_connection<S>(
    stream: S,
    mut orders: broadcast::Receiver<Order>,
    sender: mpsc::UnboundedSender<Subscribed>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut authorization = None;
    let look = |request: &handshake::Request, response: handshake::Response| {
        authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, look).await else { return };
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(Ok(Message::Text(text))) = message else { return };
                let call: Value = serde_json::from_str(&text).unwrap();
                let answer = json!({ "jsonrpc": "2.0", "id": call["id"], "result": "0x1" });
                socket.send(Message::text(answer.to_string())).await.unwrap();
                if call["method"] == "eth_subscribe" {
                    let params = call["params"].clone();
                    sender.send(Subscribed { params, authorization: authorization.clone() }).unwrap();
                }
            }
            order = orders.recv() => match order.unwrap() {
                Order::Notify(result) => {
                    let text = format!(
                        r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":"0x1","result":{result}}}}}"#
                    );
                    socket.send(Message::text(text)).await.unwrap();
                }
                Order::Close => return,
            }
        }
    }
}
