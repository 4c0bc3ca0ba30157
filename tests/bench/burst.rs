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

/// Open connections.
pub(crate) struct Load {
    connections: Vec<Option<TcpStream>>,
}

impl Load {
    /// Opens one connection per key.
    pub(crate) async fn connect(address: SocketAddr, keys: &[TestKey]) -> Self {
        let mut connections = Vec::with_capacity(keys.len());
        for _ in keys {
            let stream = TcpStream::connect(address).await.expect("the server accepts");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            connections.push(Some(stream));
        }
        Self { connections }
    }

    /// Serialises a burst's requests before its instant.
    #[expect(clippy::unused_self, reason = "a burst belongs to its connections")]
    pub(crate) fn prepare(&self, keys: &[TestKey], epoch: u64, roots: Roots) -> Vec<Vec<u8>> {
        keys.iter()
            .zip(0_u64..)
            .map(|(key, index)| {
                let seed = match roots {
                    Roots::Same => 1,
                    Roots::Distinct => index,
                };
                let (body, _) = CHAIN.attestation(epoch * SLOTS_PER_EPOCH, epoch - 1, epoch, seed);
                let body = body.to_string();
                format!(
                    "POST /api/v1/eth2/sign/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    key.public,
                    body.len()
                )
                .into_bytes()
            })
            .collect()
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
                    stream.write_all(&request).await.expect("the request is sent");
                    let mut buffer = [0_u8; 1024];
                    let mut length = 0;
                    while !complete(&buffer[..length]) {
                        let read = stream.read(&mut buffer[length..]).await.expect("the answer is read");
                        assert!(read > 0, "the server closed the connection");
                        length += read;
                    }
                    let elapsed = start.elapsed();
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    assert!(text.starts_with("HTTP/1.1 200"), "refused: {text}");
                    (stream, elapsed)
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
