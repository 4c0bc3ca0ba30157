//! The door for shares: while a server waits for people who hold shares of its data key's guard, they bring them here.
//!
//! Why a socket of its own: a share must not pass through an HTTP stack, whose buffers nobody wipes. Guarantees: the socket
//! is in the data directory, mode 0600, serves this process's user and root alone, and is there only while the server is
//! sealed; what is read is wiped after each request; no share is ever written to a log or sent back.
//!
//! ```text
//! request: one line: "status", "shares", or a share
//! answer:  one line of JSON
//! ```

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_enclave::provider::shares::{BroughtShare, Collected, Progress, ShareSet};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::admin::{AdminSocket, SocketError};
use crate::config::Config;
use crate::drain::Tasks;

/// Longest request.
const MAX_LINE: usize = 256;
/// Longest answer: encrypted shares of all holders.
const MAX_ANSWER: u64 = 1024 * 1024;
/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the socket of an instance is.
pub(crate) fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("unseal.sock")
}

/// What a sealed server waits for.
#[derive(Clone)]
pub(crate) struct Waiting {
    set: ShareSet,
    brought: Arc<Collected>,
}

impl Waiting {
    /// In words, for probes.
    pub(crate) fn describe(&self) -> String {
        let Progress { have, need } = self.brought.progress(&self.set);
        format!(
            "sealed: {have} shares of the data key were brought, {need} are needed; bring one with `holdfast kek unseal`"
        )
    }

    fn json(&self) -> Value {
        let Progress { have, need } = self.brought.progress(&self.set);
        json!({ "state": "sealed", "have": have, "need": need, "holders": self.set.holders() })
    }
}

/// An open door. Closed, and its socket removed, when dropped.
pub(crate) struct Door {
    waiting: Waiting,
    knocked: Arc<Notify>,
    _open: watch::Sender<()>,
}

impl Door {
    /// Opens it. Must be called inside the runtime.
    ///
    /// # Errors
    /// [`SocketError`] if there can be no socket.
    pub(crate) fn open(
        config: &Config,
        set: ShareSet,
        brought: Arc<Collected>,
        tasks: &Tasks,
    ) -> Result<Self, SocketError> {
        let socket = AdminSocket::bind(socket_path(config.data_dir()))?;
        info!(socket = %socket.path().display(), holders = ?set.holders(), needed = set.threshold(), "waiting for shares");
        let waiting = Waiting { set, brought };
        let (open, closed) = watch::channel(());
        let knocked = Arc::new(Notify::new());
        tasks.spawn(serve(socket, waiting.clone(), Arc::clone(&knocked), closed, tasks.clone()));
        Ok(Self { waiting, knocked, _open: open })
    }

    /// For which split guard.
    pub(crate) fn set(&self) -> &ShareSet {
        &self.waiting.set
    }

    /// What is waited for.
    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// Waits until somebody brought a share since this was last called.
    pub(crate) async fn knock(&self) {
        self.knocked.notified().await;
    }
}

async fn serve(
    socket: AdminSocket,
    waiting: Waiting,
    knocked: Arc<Notify>,
    mut closed: watch::Receiver<()>,
    tasks: Tasks,
) {
    let mut stopping = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.begun() => return,
            // Nothing is ever sent: it ends when the door is dropped.
            _ = closed.changed() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(Some(stream)) => {
                // One at a time: people are few, and each has a limit.
                if !matches!(tokio::time::timeout(LIMIT, answer(stream, &waiting, &knocked)).await, Ok(Ok(()))) {
                    warn!("a connection to the socket for shares ended early");
                }
            }
            Ok(None) => warn!("a connection to the socket for shares by another user was refused"),
            Err(error) => {
                warn!(%error, "cannot accept a connection to the socket for shares");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, waiting: &Waiting, knocked: &Notify) -> io::Result<()> {
    let mut buffer = Zeroizing::new([0; MAX_LINE]);
    let mut length = 0_usize;
    while !buffer.get(..length).unwrap_or_default().contains(&b'\n') {
        let free = buffer.get_mut(length..).filter(|free| !free.is_empty());
        let more = stream.read(free.ok_or(io::ErrorKind::FileTooLarge)?).await?;
        if more == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length = length.saturating_add(more);
    }
    let reply = reply(buffer.get(..length).unwrap_or_default().trim_ascii(), waiting);
    if reply.get("state").and_then(Value::as_str) == Some("accepted") {
        info!(state = %waiting.describe(), "a share was brought");
        knocked.notify_one();
    }
    stream.write_all(format!("{reply}\n").as_bytes()).await?;
    stream.shutdown().await
}

fn reply(line: &[u8], waiting: &Waiting) -> Value {
    match line {
        b"status" => waiting.json(),
        b"shares" => {
            let share = |share: holdfast_enclave::provider::shares::PersonShare| json!({ "number": share.number, "label": share.label, "sealed": hex::encode(share.sealed) });
            let mut reply = waiting.json();
            if let Some(reply) = reply.as_object_mut() {
                reply.insert("shares".to_owned(), waiting.set.people().into_iter().map(share).collect());
            }
            reply
        }
        line => {
            let Some(share) = BroughtShare::parse(line) else {
                return json!({ "state": "refused", "error": "this is no share: the line begins with holdfast-share-1" });
            };
            match waiting.brought.bring(share, &waiting.set) {
                Ok(Progress { have, need }) => json!({ "state": "accepted", "have": have, "need": need }),
                Err(error) => json!({ "state": "refused", "error": error.to_string() }),
            }
        }
    }
}

/// Sends one line to a sealed server, and takes its answer. Blocks.
///
/// # Errors
/// [`io::Error`] if no sealed server is there.
pub(crate) fn ask(data_dir: &Path, line: &[u8]) -> io::Result<Value> {
    let mut stream = BlockingStream::connect(socket_path(data_dir))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(line.trim_ascii())?;
    stream.write_all(b"\n")?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
