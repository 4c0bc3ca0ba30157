//! Scripted execution clients, over HTTP and WebSocket, and a pool in front of them.
#![allow(unreachable_pub, clippy::missing_panics_doc, reason = "test support")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use holdfast_beacon::execution::{
    ExecutionConfig, ExecutionMetrics, ExecutionNodeConfig, ExecutionPool, MethodPolicy, ServerBounds, serve,
};
use holdfast_beacon::{Policy, Tasks, UpstreamConfig};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::scripted::{Answer, Chain, PATIENCE, ScriptedNode, request};

/// A member `result` with this JSON.
pub fn raw(result: &str) -> String {
    format!(r#""result":{result}"#)
}

/// A node in sync at block 100 of chain 1 that answers everything else by `reply`: a member `result` or `error`.
/// What `reply` says to a probe's method overrides that if it has the right form.
pub async fn http_node(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> ScriptedNode {
    let node = ScriptedNode::start("execution", "x", &Chain::aged(10)).await;
    node.script("POST /", move |seen| {
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
    });
    node
}

/// A node of the pool without WebSocket.
pub fn node_config(node: &ScriptedNode) -> ExecutionNodeConfig {
    ExecutionNodeConfig { upstream: UpstreamConfig::from_url(&node.url()).unwrap(), websocket: None }
}

/// A pool that has asked its nodes once.
pub async fn pool(nodes: Vec<ExecutionNodeConfig>, balance: Policy) -> Arc<ExecutionPool> {
    let config = ExecutionConfig {
        nodes,
        methods: MethodPolicy::new(["eth_*", "net_*", "web3_*"]).unwrap(),
        balance,
        max_lag: 3,
        timeout: Duration::from_secs(5),
        max_batch: 10,
        max_body: 64 * 1024,
    };
    let pool = ExecutionPool::start(config, ExecutionMetrics::default(), &Tasks::new()).unwrap();
    tokio::time::timeout(PATIENCE, pool.probed()).await.unwrap();
    pool
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
    serve(listener, pool, ServerBounds { max_connections: 64 }, &tasks);
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

#[derive(Clone)]
enum Order {
    Notify(String),
    Close,
}

/// A WebSocket server that accepts every subscription under the id 0x1.
pub struct EventNode {
    address: SocketAddr,
    orders: broadcast::Sender<Order>,
    subscribed: tokio::sync::Mutex<mpsc::UnboundedReceiver<Value>>,
}

impl EventNode {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = broadcast::channel(16).0;
        let (sender, subscribed) = mpsc::unbounded_channel();
        let make = orders.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut orders, sender) = (make.subscribe(), sender.clone());
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                loop {
                    tokio::select! {
                        message = socket.next() => {
                            let Some(Ok(Message::Text(text))) = message else { break };
                            let call: Value = serde_json::from_str(&text).unwrap();
                            let answer = json!({ "jsonrpc": "2.0", "id": call["id"], "result": "0x1" });
                            socket.send(Message::text(answer.to_string())).await.unwrap();
                            if call["method"] == "eth_subscribe" {
                                sender.send(call["params"].clone()).unwrap();
                            }
                        }
                        order = orders.recv() => match order.unwrap() {
                            Order::Notify(result) => {
                                let text = format!(
                                    r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":"0x1","result":{result}}}}}"#
                                );
                                socket.send(Message::text(text)).await.unwrap();
                            }
                            // Drops the listener, too.
                            Order::Close => return,
                        }
                    }
                }
            }
        });
        Self { address, orders, subscribed: tokio::sync::Mutex::new(subscribed) }
    }

    /// A node of the pool whose WebSocket API this is.
    pub fn beside(&self, node: &ScriptedNode) -> ExecutionNodeConfig {
        let websocket = Some(format!("ws://{}", self.address).parse().unwrap());
        ExecutionNodeConfig { websocket, ..node_config(node) }
    }

    /// What the next subscription is to.
    pub async fn subscribed(&self) -> Value {
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
