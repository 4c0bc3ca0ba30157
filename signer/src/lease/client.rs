//! Carries a request to a witness and its answer back, over HTTP/1.0: one request, and the answer ends with the connection.
//!
//! The messages are signed at both ends, so nothing on the way can do more than lose them, and see which group signs. TLS
//! is for witnesses that strangers should not reach.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tls;
use crate::config::WitnessServer;

/// Longest answer: head and grant, or a refusal.
const MAX_ANSWER: u64 = 16 * 1024;

/// What a witness said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// A grant, to be verified by the vault.
    Granted(Vec<u8>),
    /// It refused.
    Refused {
        /// A stable word.
        reason: String,
        /// What to do.
        message: String,
        /// Version of its record.
        version: Option<u64>,
    },
    /// It did not answer, or not as a witness does.
    Silent(String),
}

/// How witnesses are spoken to with TLS.
#[derive(Clone)]
pub(super) struct Secure {
    /// What connections are made with; `None` if no witness is https.
    pub(super) client: Option<Arc<ClientConfig>>,
    /// Whether a certificate is shown where a witness asks for one.
    pub(super) shows: bool,
}

/// Asks one witness.
pub(super) async fn ask(server: &WitnessServer, secure: &Secure, request: &[u8], limit: Duration) -> Said {
    match tokio::time::timeout(limit, exchange(server, secure, request)).await {
        Ok(Ok(answer)) => read(&answer).unwrap_or_else(|| Said::Silent("what answers there is no witness".to_owned())),
        Ok(Err(problem)) => Said::Silent(problem),
        Err(_) => Said::Silent(format!("no answer within {} ms", limit.as_millis())),
    }
}

async fn exchange(server: &WitnessServer, secure: &Secure, request: &[u8]) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(server.authority.as_str()).await.map_err(|error| error.to_string())?;
    if !server.secure {
        return talk(server, stream, request).await.map_err(|error| error.to_string());
    }
    let Some(client) = secure.client.clone() else { return Err("its certificates cannot be used".to_owned()) };
    let problem = |error| tls::problem(&error, secure.shows);
    let stream = tls::connect(server, client, stream).await.map_err(problem)?;
    // With TLS 1.3 this side is refused only after its own handshake, so what is read first tells.
    talk(server, stream, request).await.map_err(problem)
}

async fn talk(
    server: &WitnessServer,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> std::io::Result<Vec<u8>> {
    let head = format!(
        "POST /v1/lease HTTP/1.0\r\nHost: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        server.authority,
        request.len()
    );
    let sent = async { stream.write_all(&[head.as_bytes(), request].concat()).await.and(stream.flush().await) }.await;
    let mut answer = Vec::new();
    // What the witness said of it tells more than that it took no more.
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    sent.map(|()| answer)
}

fn read(answer: &[u8]) -> Option<Said> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end)?;
    let (head, body) = (core::str::from_utf8(head).ok()?, body.get(4..)?);
    let status: u16 = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    if status == 200 {
        return Some(Said::Granted(body.to_vec()));
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(Said::Refused {
        reason: body.get("reason")?.as_str()?.to_owned(),
        message: body.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
        version: body.get("version").and_then(Value::as_u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_or_are_none() {
        let grant = b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\n\x00\r\n\xff";
        assert_eq!(read(grant), Some(Said::Granted(b"\x00\r\n\xff".to_vec())));
        let refusal = b"HTTP/1.1 409 Conflict\r\n\r\n{\"reason\":\"moved\",\"message\":\"again\",\"version\":7}";
        let expected = Said::Refused { reason: "moved".into(), message: "again".into(), version: Some(7) };
        assert_eq!(read(refusal), Some(expected));
        for other in [&b"HTTP/1.1 404 Not Found\r\n\r\n<html>"[..], b"SSH-2.0-x\r\n\r\n", b"", b"HTTP/1.1 x\r\n\r\n"] {
            assert_eq!(read(other), None);
        }
    }
}
