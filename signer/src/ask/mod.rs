//! Asking a running server over HTTP, for commands that cannot ask it in another way: with TLS where its listeners speak
//! it, as a caller where they ask who comes.
//!
//! Guarantees: over TLS nothing is said before the server has proved who it is; a token goes to a server that has, or to
//! this machine; every exchange ends within a bounded time.

mod error;
mod listener;
mod tls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use holdfast_secret::SecretText;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

pub(crate) use error::AskError;
pub(crate) use listener::{How, Listener};

/// From connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Room for the list of a hundred thousand keys.
const MAX_ANSWER_BYTES: u64 = 32 * 1024 * 1024;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

/// A listener of a server, and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    /// The name given to the server; without it, the address.
    host: Option<String>,
    tls: Option<Tls>,
    /// What the header `Authorization` says.
    authorization: Option<SecretText>,
}

/// TLS on this side.
#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    /// Whether a certificate is shown if the server asks for one.
    shows: bool,
}

impl Target {
    /// Where it is, as it is reached from here.
    pub(crate) fn address(&self) -> SocketAddr {
        reachable(self.address)
    }

    /// Whether it is spoken to with TLS.
    pub(crate) const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// A listener without TLS that asks nobody who comes.
    #[cfg(test)]
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, host: None, tls: None, authorization: None }
    }

    /// A request, in one piece of memory from the start: a growing one would leave copies of a token behind.
    fn request(&self, method: &str, path: &str, rest: &str) -> Zeroizing<Vec<u8>> {
        let name = self.host.clone().unwrap_or_else(|| self.address().ip().to_string());
        let head = format!("{method} {path} HTTP/1.0\r\nHost: {name}\r\nAccept: application/json\r\n");
        let authorization = self.authorization.as_ref().map(|text| ["Authorization: ", text.expose(), "\r\n"]);
        let parts = || [head.as_str()].into_iter().chain(authorization.into_iter().flatten()).chain([rest]);
        let mut request = Zeroizing::new(Vec::with_capacity(parts().map(str::len).sum()));
        parts().for_each(|part| request.extend_from_slice(part.as_bytes()));
        request
    }
}

/// `GET` over HTTP/1.0: one request, and the answer ends with the connection.
///
/// # Errors
/// [`AskError`]: nobody answers, one side does not accept the other, or what answers is not an HTTP server.
pub(crate) async fn get(target: &Target, path: &str) -> Result<Answer, AskError> {
    exchange(target, &target.request("GET", path, "\r\n")).await
}

/// `POST` of JSON over HTTP/1.0, in the same way.
///
/// # Errors
/// As [`get`].
pub(crate) async fn post(target: &Target, path: &str, body: &str) -> Result<Answer, AskError> {
    let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    exchange(target, &target.request("POST", path, &rest)).await
}

async fn exchange(target: &Target, request: &[u8]) -> Result<Answer, AskError> {
    let address = target.address();
    let exchange = async {
        let stream = TcpStream::connect(address).await.map_err(|source| AskError::NoAnswer { address, source })?;
        let Some(tls) = &target.tls else {
            return talk(stream, request).await.map_err(|source| AskError::Broken { address, source });
        };
        let handshake = tls.connector.connect(tls.name.clone(), stream).await;
        let stream = handshake.map_err(|error| AskError::of_tls(error, address, tls.shows))?;
        // With TLS 1.3 this side is refused only after its own handshake, so what is read first tells.
        talk(stream, request).await.map_err(|error| AskError::of_tls(error, address, tls.shows))
    };
    let late = |_| AskError::Late { address };
    let answer = tokio::time::timeout(TIMEOUT, exchange).await.map_err(late)??;
    parse(answer).ok_or(AskError::NotHttp { address })
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let sent = async { stream.write_all(request).await.and(stream.flush().await) }.await;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await;
    match (sent, read) {
        // A server that is told over by its process ends without a farewell of TLS.
        (_, Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
        // What the server said of it tells more than that it took no more.
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Ok(()), Ok(_)) => Ok(answer),
    }
}

/// The answer; `None` if it is none, or was cut short.
fn parse(answer: Vec<u8>) -> Option<Answer> {
    let text = String::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|length| body.len() < length) {
        return None;
    }
    Some(Answer { status, body: body.to_owned() })
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
    //! Proves: where is asked, and what is taken for an answer. With TLS: `tests/access/commands.rs`.
    use super::*;

    #[test]
    fn a_server_on_every_address_is_asked_on_this_one() {
        for (listens, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.1.2.3:4", "10.1.2.3:4")] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn answers_are_whole_or_none() {
        let read = |text: &str| parse(text.as_bytes().to_vec()).map(|answer| (answer.status, answer.body));
        assert_eq!(read("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), Some((200, "ok".to_owned())));
        assert_eq!(read("HTTP/1.1 401 Unauthorized\r\n\r\n"), Some((401, String::new())));
        for bad in [
            "",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok",
            "220 mail\r\n\r\n",
            "HTTP/1.0 200",
            "HTTP/1.0 x y\r\n\r\n",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
