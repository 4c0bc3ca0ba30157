//! Asking a running server over HTTP, for commands that cannot ask it in another way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// From connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Room for the list of a hundred thousand keys.
const MAX_ANSWER_BYTES: u64 = 32 * 1024 * 1024;

/// What came back.
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

/// `GET` over HTTP/1.0: one request, and the answer ends with the connection. `host` is the name given to the server;
/// without it, the address.
///
/// # Errors
/// Nobody answers, or what answers is not an HTTP server.
pub(crate) async fn get(address: SocketAddr, host: Option<&str>, path: &str) -> anyhow::Result<Answer> {
    let address = reachable(address);
    let name = host.map_or_else(|| address.ip().to_string(), str::to_owned);
    exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {name}\r\nAccept: application/json\r\n\r\n")).await
}

/// `POST` of JSON over HTTP/1.0, in the same way.
///
/// # Errors
/// As [`get`].
pub(super) async fn post(address: SocketAddr, path: &str, body: &str) -> anyhow::Result<Answer> {
    let address = reachable(address);
    let (name, length) = (address.ip(), body.len());
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {name}\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    exchange(address, &request).await
}

async fn exchange(address: SocketAddr, request: &str) -> anyhow::Result<Answer> {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(TIMEOUT, exchange).await??;
    let text = String::from_utf8(answer)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| anyhow::anyhow!("the answer is not HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| anyhow::anyhow!("the answer is not HTTP"))?;
    Ok(Answer { status, body: body.to_owned() })
}

/// Where a server that listens on every address of a machine is reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_asked_on_this_one() {
        for (listens, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.1.2.3:4", "10.1.2.3:4")] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
