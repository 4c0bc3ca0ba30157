//! The load: one keep-alive connection per key, all requests of a burst due at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Whether the keys of a burst sign one attestation or one each.
#[derive(Clone, Copy)]
pub(crate) enum Roots {
    /// One root for all keys, as since Electra.
    Same,
    /// A root for every key.
    Distinct,
}

/// The public keys of test keys.
pub(crate) fn publics(keys: &[TestKey]) -> Vec<String> {
    keys.iter().map(|key| key.public.clone()).collect()
}

/// One thread for all clients, so that they take no more of the machine than they must.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Open connections, one for each key.
pub(crate) struct Load {
    keys: Vec<String>,
    connections: Vec<Option<TcpStream>>,
}

/// The request of a key to attest to an epoch.
fn request(key: &str, epoch: u64, seed: u64) -> Vec<u8> {
    let (body, _) = CHAIN.attestation(epoch * SLOTS_PER_EPOCH, epoch - 1, epoch, seed);
    let body = body.to_string();
    format!(
        "POST /api/v1/eth2/sign/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends a request and reads the answer, which must be a signature.
async fn ask(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).await.expect("the request is sent");
    let mut buffer = [0_u8; 1024];
    let mut length = 0;
    while !complete(&buffer[..length]) {
        let read = stream.read(&mut buffer[length..]).await.expect("the answer is read");
        assert!(read > 0, "the server closed the connection");
        length += read;
    }
    let text = String::from_utf8_lossy(&buffer[..length]);
    assert!(text.starts_with("HTTP/1.1 200"), "refused: {text}");
}

impl Load {
    /// Opens one connection per key, to the addresses in turn.
    pub(crate) async fn connect(addresses: &[SocketAddr], keys: &[String]) -> Self {
        let mut connections = Vec::with_capacity(keys.len());
        for (_, address) in keys.iter().zip(addresses.iter().cycle()) {
            let stream = TcpStream::connect(address).await.expect("the server accepts");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            connections.push(Some(stream));
        }
        Self { keys: keys.to_vec(), connections }
    }

    /// Serialises a burst's requests before its instant.
    pub(crate) fn prepare(&self, epoch: u64, roots: Roots) -> Vec<Vec<u8>> {
        let seed = |index| match roots {
            Roots::Same => 1,
            Roots::Distinct => index,
        };
        self.keys.iter().zip(0_u64..).map(|(key, index)| request(key, epoch, seed(index))).collect()
    }

    /// Lets every key attest to one epoch after the other, from `epoch` on, each as soon as it has its answer. Returns
    /// how many answers came in `time`, and the first epoch nobody has attested to.
    pub(crate) async fn pour(&mut self, epoch: u64, time: Duration) -> (u64, u64) {
        let local = LocalSet::new();
        let end = Instant::now() + time;
        let clients = self.keys.iter().zip(&mut self.connections).map(|(key, slot)| {
            let (key, mut stream) = (key.clone(), slot.take().expect("a free connection"));
            local.spawn_local(async move {
                let mut next = epoch;
                while Instant::now() < end {
                    ask(&mut stream, &request(&key, next, 1)).await;
                    next += 1;
                }
                (stream, next - epoch)
            })
        });
        let clients: Vec<_> = clients.collect();
        let (mut answers, mut most) = (0, 0);
        local
            .run_until(async {
                for (client, slot) in clients.into_iter().zip(&mut self.connections) {
                    let (stream, count) = client.await.expect("a client ends");
                    *slot = Some(stream);
                    answers += count;
                    most = most.max(count);
                }
            })
            .await;
        (answers, epoch + most)
    }

    /// Fires all requests in one instant; returns each one's time from that instant to its answer.
    pub(crate) async fn fire(&mut self, requests: Vec<Vec<u8>>) -> Vec<Duration> {
        let local = LocalSet::new();
        let start = Instant::now();
        let tasks: Vec<_> = requests
            .into_iter()
            .zip(&mut self.connections)
            .map(|(request, slot)| {
                let mut stream = slot.take().expect("a free connection");
                local.spawn_local(async move {
                    ask(&mut stream, &request).await;
                    (stream, start.elapsed())
                })
            })
            .collect();
        local
            .run_until(async {
                let mut times = Vec::with_capacity(tasks.len());
                for (task, slot) in tasks.into_iter().zip(&mut self.connections) {
                    let (stream, elapsed) = task.await.expect("a request ends");
                    *slot = Some(stream);
                    times.push(elapsed);
                }
                times
            })
            .await
    }
}

/// Whether headers and the announced body are all there.
fn complete(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |value| value.trim().parse().expect("content length"));
    bytes.len() >= end + 4 + length
}
