//! The subscriptions of one client's connection, kept alive across nodes.
//!
//! Why it exists: a subscription lives in one node, and clients rarely notice that it has gone silent. What it
//! guarantees: the client's ids stay valid for as long as its connection; when the node breaks, stops
//! answering its probes or falls behind, everything is subscribed again at another one. What happened in
//! between is not repeated: like after any reconnect, a client that must not miss a block reads the head.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::dispatch::text;
use super::filters::fresh_id;
use super::jsonrpc::{Fault, Reply};
use super::link::{CONNECT, NodeSocket};
use super::method::MethodKind;
use super::node::Node;
use super::pool::ExecutionPool;

/// Wait before the nodes are tried again after none would do.
const RETRY: Duration = Duration::from_secs(1);
/// Subscriptions of one connection.
const MOST: usize = 1_000;

/// What a client wants of its subscriptions.
pub(super) enum Command {
    Subscribe { id: Option<Box<RawValue>>, params: Box<RawValue> },
    Unsubscribe { id: Option<Box<RawValue>>, own: String },
}

struct Wanted {
    own: String,
    params: Box<RawValue>,
    call: ClientCall,
}

/// The client's call for a subscription.
enum ClientCall {
    /// Not answered yet; without an id it wants no answer.
    Open(Option<Box<RawValue>>),
    Answered,
}

impl ClientCall {
    /// The id to answer, if there is still something to answer.
    fn take(&mut self) -> Option<Box<RawValue>> {
        match std::mem::replace(self, Self::Answered) {
            Self::Open(id) => id,
            Self::Answered => None,
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Open(_) => true,
            Self::Answered => false,
        }
    }
}

/// A connection to a node.
struct Link {
    node: Arc<Node>,
    socket: NodeSocket,
    next_id: u64,
    /// Calls on their way, by id, with the subscription they are for.
    pending: HashMap<u64, String>,
    /// The node's ids, as JSON, and ours.
    names: HashMap<String, String>,
}

struct Worker {
    pool: Arc<ExecutionPool>,
    out: mpsc::Sender<String>,
    wanted: Vec<Wanted>,
    link: Option<Link>,
}

/// The client does not take what it is sent.
struct TooSlow;

/// What a node sends: an answer or a notification.
#[derive(Deserialize)]
struct FromNode {
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<Box<RawValue>>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Option<Notification>,
}

#[derive(Deserialize)]
struct Notification {
    subscription: Box<RawValue>,
    result: Box<RawValue>,
}

/// Serves one connection's subscriptions. Completes when the client does not take its texts.
pub(super) async fn run(pool: Arc<ExecutionPool>, mut commands: mpsc::Receiver<Command>, out: mpsc::Sender<String>) {
    let mut changes = pool.view.subscribe();
    let mut worker = Worker { pool, out, wanted: Vec::new(), link: None };
    loop {
        if worker.link.is_none() && !worker.wanted.is_empty() {
            worker.link = worker.connect().await;
            if worker.link.is_none() && worker.nobody().is_err() {
                break;
            }
        }
        let retry = worker.link.is_none() && !worker.wanted.is_empty();
        let went = tokio::select! {
            command = commands.recv() => match command {
                Some(command) => worker.command(command).await,
                None => break,
            },
            message = receive(&mut worker.link), if worker.link.is_some() => worker.message(message),
            _ = changes.changed() => {
                worker.leave_a_bad_node();
                Ok(())
            }
            () = tokio::time::sleep(RETRY), if retry => Ok(()),
        };
        if went.is_err() {
            break;
        }
    }
    let left = i64::try_from(worker.wanted.len()).unwrap_or(0);
    worker.pool.metrics.subscriptions.dec_by(left);
}

async fn receive(link: &mut Option<Link>) -> Option<String> {
    loop {
        match link.as_mut()?.socket.next().await? {
            Ok(Message::Text(text)) => return Some(text.to_string()),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Ok(Message::Binary(_) | Message::Close(_)) | Err(_) => return None,
        }
    }
}

impl Worker {
    fn send(&self, text: String) -> Result<(), TooSlow> {
        self.out.try_send(text).map_err(|_| TooSlow)
    }

    fn answer(&self, id: Option<&RawValue>, kind: MethodKind, outcome: Result<Reply, Fault>) -> Result<(), TooSlow> {
        self.pool.account(Some(kind), &outcome);
        let Some(id) = id else { return Ok(()) };
        self.send(match outcome {
            Ok(reply) => reply.answer(id),
            Err(fault) => fault.answer(Some(id)),
        })
    }

    /// Connects to the best node that can be connected to, and subscribes to everything wanted.
    async fn connect(&self) -> Option<Link> {
        for node in self.pool.readers() {
            let Some(socket) = node.open().await else { continue };
            let mut link = Link { node, socket, next_id: 0, pending: HashMap::new(), names: HashMap::new() };
            let mut whole = true;
            for wanted in &self.wanted {
                whole = whole && link.subscribe(wanted).await.is_some();
            }
            if whole {
                return Some(link);
            }
        }
        None
    }

    /// No node can be had: whoever waits for an answer gets one, what runs is kept for later.
    fn nobody(&mut self) -> Result<(), TooSlow> {
        let (new, old): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.wanted).into_iter().partition(|wanted| wanted.call.is_open());
        self.wanted = old;
        for mut wanted in new {
            self.pool.metrics.subscriptions.dec();
            let fault = Fault::unavailable("no execution client with a WebSocket API can be reached now");
            self.answer(wanted.call.take().as_deref(), MethodKind::Subscribe, Err(fault))?;
        }
        Ok(())
    }

    fn lose_link(&mut self) {
        if self.link.take().is_some() {
            self.pool.metrics.subscriptions_moved(self.wanted.len());
        }
    }

    /// Leaves a node that was removed, or that may not be read from any more if another one is there.
    fn leave_a_bad_node(&mut self) {
        let Some(link) = &self.link else { return };
        if !self.pool.keeps_link(link.node.id()) {
            self.lose_link();
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), TooSlow> {
        match command {
            Command::Subscribe { id, params } => {
                if self.wanted.len() >= MOST {
                    let fault = Fault::new(-32005, "too many subscriptions; end some with eth_unsubscribe");
                    return self.answer(id.as_deref(), MethodKind::Subscribe, Err(fault));
                }
                let Some(own) = fresh_id() else {
                    let fault = Fault::unavailable("no random numbers; try again");
                    return self.answer(id.as_deref(), MethodKind::Subscribe, Err(fault));
                };
                // The news may not have come here yet.
                self.leave_a_bad_node();
                if self.link.as_ref().is_some_and(|link| self.pool.admitted(link.node.id()).is_none()) {
                    // What runs there runs on until another node can take over; nothing is added.
                    let fault = Fault::unavailable("the execution client with a WebSocket API is drained");
                    return self.answer(id.as_deref(), MethodKind::Subscribe, Err(fault));
                }
                let wanted = Wanted { own, params, call: ClientCall::Open(id) };
                let sent = match &mut self.link {
                    Some(link) => link.subscribe(&wanted).await,
                    None => Some(()),
                };
                self.wanted.push(wanted);
                self.pool.metrics.subscriptions.inc();
                if sent.is_none() {
                    self.lose_link();
                }
                Ok(())
            }
            Command::Unsubscribe { id, own } => {
                let before = self.wanted.len();
                self.wanted.retain(|wanted| wanted.own != own);
                if self.wanted.len() == before {
                    let fault = Fault::new(-32000, "subscription not found");
                    return self.answer(id.as_deref(), MethodKind::Unsubscribe, Err(fault));
                }
                self.pool.metrics.subscriptions.dec();
                let sent = match &mut self.link {
                    Some(link) => link.unsubscribe(&own).await,
                    None => Some(()),
                };
                if sent.is_none() {
                    self.lose_link();
                }
                let done = RawValue::from_string("true".to_owned()).map_err(|_| TooSlow)?;
                self.answer(id.as_deref(), MethodKind::Unsubscribe, Ok(Reply::Result(done)))
            }
        }
    }

    fn message(&mut self, message: Option<String>) -> Result<(), TooSlow> {
        let parsed = message.and_then(|text| serde_json::from_str::<FromNode>(&text).ok());
        let Some(message) = parsed else {
            self.lose_link();
            return Ok(());
        };
        if message.method.as_deref() == Some("eth_subscription") {
            return self.notification(message.params);
        }
        self.subscribed(message)
    }

    fn notification(&self, params: Option<Notification>) -> Result<(), TooSlow> {
        let Some(Notification { subscription, result }) = params else { return Ok(()) };
        let own = self.link.as_ref().and_then(|link| link.names.get(subscription.get()));
        // Nothing, if it was ended meanwhile.
        let Some(own) = own else { return Ok(()) };
        self.send(format!(
            r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":"{own}","result":{}}}}}"#,
            result.get()
        ))
    }

    /// A node answered to a call of [`Link::subscribe`].
    fn subscribed(&mut self, message: FromNode) -> Result<(), TooSlow> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Some(own) = message.id.and_then(|id| link.pending.remove(&id)) else { return Ok(()) };
        let Some(place) = self.wanted.iter().position(|wanted| wanted.own == own) else { return Ok(()) };
        if let Some(name) = message.result {
            link.names.insert(name.get().to_owned(), own.clone());
            let Some(wanted) = self.wanted.get_mut(place).filter(|wanted| wanted.call.is_open()) else {
                return Ok(());
            };
            let id = wanted.call.take();
            let outcome = text(&own).map(Reply::Result);
            return self.answer(id.as_deref(), MethodKind::Subscribe, outcome);
        }
        if self.wanted.get(place).is_some_and(|wanted| !wanted.call.is_open()) {
            // It ran at another node and this one does not have it.
            tracing::warn!("a node refused a subscription that ran at another one; trying the others");
            self.lose_link();
            return Ok(());
        }
        let mut refused = self.wanted.swap_remove(place);
        self.pool.metrics.subscriptions.dec();
        let outcome = match message.error {
            Some(raw) => Ok(Reply::Error { code: 0, raw }),
            None => Err(Fault::unavailable("the node did not answer as it should")),
        };
        self.answer(refused.call.take().as_deref(), MethodKind::Subscribe, outcome)
    }
}

impl Link {
    async fn call(&mut self, method: &str, params: &str) -> Option<u64> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let sent = tokio::time::timeout(CONNECT, self.socket.send(Message::Text(Utf8Bytes::from(text)))).await;
        matches!(sent, Ok(Ok(()))).then_some(id)
    }

    async fn subscribe(&mut self, wanted: &Wanted) -> Option<()> {
        let id = self.call("eth_subscribe", wanted.params.get()).await?;
        self.pending.insert(id, wanted.own.clone());
        Some(())
    }

    async fn unsubscribe(&mut self, own: &str) -> Option<()> {
        let name = self.names.iter().find(|(_, known)| *known == own).map(|(name, _)| name.clone());
        // Not answered yet: the node's notifications will find nobody.
        let Some(name) = name else { return Some(()) };
        self.names.remove(&name);
        self.call("eth_unsubscribe", &format!("[{name}]")).await.map(|_| ())
    }
}
