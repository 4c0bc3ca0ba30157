//! One client's WebSocket connection: calls are answered as over HTTP, subscriptions by [`super::subscriptions`].

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::jsonrpc::{Call, Fault, Incoming};
use super::method::MethodKind;
use super::metrics::CallEnd;
use super::pool::ExecutionPool;
use super::subscriptions::{self, Command};
use crate::tasks::Stopping;

/// Calls of one client in progress at once; it is not read from while there are more.
const IN_FLIGHT: usize = 64;
/// Texts that wait to be sent to one client; one that reads more slowly is let go.
const OUTGOING: usize = 4_096;
/// How often the client is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);
/// A client that has sent nothing for this long, not even an answer to a ping, is gone.
const SILENCE: Duration = Duration::from_secs(100);
/// Longest time for one text to be taken by the client's connection.
const SEND: Duration = Duration::from_secs(10);

/// Bounds of messages from a client.
pub(super) fn config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(max_message)).max_frame_size(Some(max_message))
}

/// Talks to a client until either side ends it.
pub(super) async fn talk<S>(socket: WebSocketStream<S>, pool: Arc<ExecutionPool>, mut stopping: Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    pool.metrics.websockets.inc();
    let (mut sink, mut stream) = socket.split();
    let (out, mut outgoing) = mpsc::channel::<String>(OUTGOING);
    let (commands, worker_commands) = mpsc::channel(IN_FLIGHT);
    let mut worker = pin!(subscriptions::run(Arc::clone(&pool), worker_commands, out));
    let mut answers = FuturesUnordered::new();
    let mut pings = tokio::time::interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let end = loop {
        let text = tokio::select! {
            () = stopping.begun() => break Some((CloseCode::Away, "this server stops")),
            // Ends only when the client does not take what it subscribed to.
            () = &mut worker => break Some((CloseCode::Policy, "too slow for its subscriptions")),
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE {
                    break None;
                }
                Outgoing::Ping
            }
            Some(text) = outgoing.recv() => Outgoing::Text(text),
            Some(answer) = answers.next(), if !answers.is_empty() => match answer {
                Some(text) => Outgoing::Text(text),
                None => continue,
            },
            message = stream.next(), if answers.len() < IN_FLIGHT => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => match sort(&pool, text.as_bytes()) {
                        Sorted::Calls => {
                            let pool = Arc::clone(&pool);
                            answers.push(async move { pool.answer(text.as_bytes()).await });
                            continue;
                        }
                        Sorted::Command(command) => {
                            // The worker only goes away together with this loop.
                            let _ = commands.send(command).await;
                            continue;
                        }
                        Sorted::Refused(text) => Outgoing::Text(text),
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    Some(Ok(Message::Binary(_))) => break Some((CloseCode::Unsupported, "JSON-RPC is text")),
                    Some(Ok(Message::Close(_))) | None => break None,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a WebSocket connection broke");
                        break None;
                    }
                }
            }
        };
        let message = match text {
            Outgoing::Text(text) => Message::Text(Utf8Bytes::from(text)),
            Outgoing::Ping => Message::Ping(hyper::body::Bytes::new()),
        };
        if !matches!(tokio::time::timeout(SEND, sink.send(message)).await, Ok(Ok(()))) {
            break None;
        }
    };
    if let Some((code, reason)) = end {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        // Whoever is gone need not be told.
        let _ = tokio::time::timeout(SEND, sink.send(Message::Close(Some(frame)))).await;
    }
    pool.metrics.websockets.dec();
}

enum Outgoing {
    Text(String),
    Ping,
}

enum Sorted {
    /// Answered as over HTTP.
    Calls,
    Command(Command),
    /// Answered here.
    Refused(String),
}

/// Picks out what needs this connection.
fn sort(pool: &ExecutionPool, message: &[u8]) -> Sorted {
    let Ok(Incoming::One(Ok(call))) = Incoming::parse(message, pool.config.max_batch) else { return Sorted::Calls };
    let kind = pool.config.methods.judge(&call.method);
    let Call { id, params, .. } = &call;
    let command = match kind {
        Some(MethodKind::Subscribe) => {
            params.clone().map(|params| Command::Subscribe { id: id.clone(), params }).ok_or("what to subscribe to")
        }
        Some(MethodKind::Unsubscribe) => {
            call.first_text().map(|own| Command::Unsubscribe { id: id.clone(), own }).ok_or("a subscription's id")
        }
        None | Some(MethodKind::Read | MethodKind::Broadcast | MethodKind::NewFilter | MethodKind::UseFilter) => {
            return Sorted::Calls;
        }
    };
    match command {
        Ok(command) => Sorted::Command(command),
        Err(missing) => {
            pool.metrics.call(kind, CallEnd::Refused);
            Sorted::Refused(Fault::new(-32602, format!("the first parameter must be {missing}")).answer(id.as_deref()))
        }
    }
}
