//! One bounded HTTP/1.1 GET: bounded in time, and in the length of the answer.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONNECTION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::BeaconError;

/// From connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Far more than any answer read here needs.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    /// What stands before every path, without a slash at its end.
    prefix: String,
}

impl Endpoint {
    /// Reads `http://host[:port][/prefix]`.
    pub(crate) fn parse(url: &str) -> Result<Self, BeaconError> {
        let uri: Uri = url.parse().map_err(|_| BeaconError::Address)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(BeaconError::HttpsUnsupported),
            _ => return Err(BeaconError::Address),
        }
        let authority = uri.authority().ok_or(BeaconError::Address)?;
        if authority.as_str().contains('@') {
            return Err(BeaconError::CredentialsUnsupported);
        }
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(80),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Asks for `path` and returns the body of a 200 answer.
    pub(crate) async fn get(&self, path: &'static str) -> Result<Bytes, BeaconError> {
        tokio::time::timeout(TIMEOUT, self.exchange(path)).await.unwrap_or(Err(BeaconError::Timeout(TIMEOUT)))
    }

    async fn exchange(&self, path: &'static str) -> Result<Bytes, BeaconError> {
        // The socket functions want an IPv6 address without the brackets it has in a URL.
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.port)).await.map_err(BeaconError::Connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(BeaconError::Exchange)?;
        let request = Request::get(format!("{}{path}", self.prefix))
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|_| BeaconError::Address)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(BeaconError::Exchange)?;
            match response.status() {
                StatusCode::OK => Limited::new(response.into_body(), MAX_BODY_BYTES)
                    .collect()
                    .await
                    .map(http_body_util::Collected::to_bytes)
                    .map_err(|error| body_error(error, path)),
                status => Err(BeaconError::Status { status: status.as_u16(), path }),
            }
        };
        // The connection has to be driven while the answer is awaited; whatever ends it shows up
        // in the answer, too.
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            result = &mut answer => result,
            _ = connection => answer.await,
        }
    }
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>, path: &'static str) -> BeaconError {
    if error.is::<LengthLimitError>() {
        return BeaconError::TooLong { path, limit: MAX_BODY_BYTES };
    }
    match error.downcast::<hyper::Error>() {
        Ok(error) => BeaconError::Exchange(*error),
        Err(error) => BeaconError::Connect(std::io::Error::other(error)),
    }
}
