//! A log collector: each note is one message of RFC 5424, over TCP or TLS with octet counting (RFC 6587, RFC 5425).
//!
//! The message is `<110>1 TIME HOST holdfast - checkpoint - holdfast-checkpoint instance=… batch=… note=BASE64`
//! (facility 13, log audit; severity 6). A collector does not acknowledge. What can be known is known: after the
//! message our side of the connection is closed, and the collector, having read all of it, closes its own. A reset
//! instead is an error, and the message is sent again.

use core::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast_domain::UnixMillis;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{AnchorError, Note, tls};

/// What comes before the note in a message.
const MARK: &str = "holdfast-checkpoint";
/// Priority: facility 13 (log audit) and severity 6 (informational).
const PRIORITY: u8 = 13 * 8 + 6;
/// How long a reset may be on its way.
const ROUND_TRIP: Duration = Duration::from_millis(300);
/// How long to wait for the collector to close its side: some never do.
const FAREWELL: Duration = Duration::from_secs(3);

/// Which collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogOptions {
    /// `tcp://host:port` or `tls://host:port`.
    pub address: String,
    /// Whom to trust instead of Mozilla's authorities.
    pub ca_file: Option<PathBuf>,
    /// The name of this machine in messages.
    pub host: String,
}

/// Sends notes to a collector.
pub struct SyslogAnchor {
    address: String,
    /// Host and port.
    authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    host: String,
}

impl SyslogAnchor {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// [`AnchorError::Setting`].
    pub fn new(options: SyslogOptions) -> Result<Self, AnchorError> {
        let wrong = || AnchorError::Setting {
            setting: "audit.syslog",
            problem: "must look like tls://host:6514 or tcp://host:601".to_owned(),
        };
        let (scheme, authority) = options.address.split_once("://").ok_or_else(wrong)?;
        let (name, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let odd = |letter: char| letter.is_whitespace() || "/@?#".contains(letter);
        if name.is_empty() || name.contains(odd) || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        let tls = match scheme {
            "tcp" => None,
            "tls" => {
                let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
                let config = tls::client_config("audit.syslog_ca_file", options.ca_file.as_deref())?;
                Some((Arc::new(config), ServerName::try_from(name).map_err(|_| wrong())?))
            }
            _ => return Err(wrong()),
        };
        let printable = |letter: &char| letter.is_ascii_graphic();
        let host: String = options.host.chars().filter(printable).take(255).collect();
        let host = if host.is_empty() { "-".to_owned() } else { host };
        Ok(Self { authority: authority.to_owned(), address: options.address, tls, host })
    }

    pub(crate) async fn keep(&self, note: &Note, now: UnixMillis) -> Result<(), AnchorError> {
        let message = self.message(note, now);
        let framed = format!("{} {message}", message.len());
        let lost = |error: std::io::Error| AnchorError::Unreachable(error.into());
        let mut tcp = TcpStream::connect(&self.authority).await.map_err(lost)?;
        match &self.tls {
            None => {
                say(&mut tcp, framed.as_bytes()).await.map_err(lost)?;
                // Who closed before it read anything answers what came later with a reset.
                tokio::time::sleep(ROUND_TRIP).await;
                tcp.take_error().map_err(lost)?.map_or(Ok(()), |error| Err(lost(error)))
            }
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), tcp).await.map_err(lost)?;
                say(stream, framed.as_bytes()).await.map_err(lost)
            }
        }
    }

    fn message(&self, note: &Note, now: UnixMillis) -> String {
        let time = now.rfc3339_millis();
        let encoded = BASE64.encode(&note.text);
        format!(
            "<{PRIORITY}>1 {time} {} holdfast - checkpoint - {MARK} instance={} batch={} note={encoded}",
            self.host, note.instance, note.batch
        )
    }
}

impl fmt::Display for SyslogAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Sends, closes our side, and waits until the other side closes its own.
async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, message: &[u8]) -> std::io::Result<()> {
    stream.write_all(message).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    let mut ignored = [0; 256];
    let closed = async {
        loop {
            match stream.read(&mut ignored).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // Who closes without a farewell of TLS has closed.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(FAREWELL, closed).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(address: &str) -> Result<SyslogAnchor, AnchorError> {
        SyslogAnchor::new(SyslogOptions { address: address.to_owned(), ca_file: None, host: "my host".to_owned() })
    }

    fn note() -> Note {
        Note { instance: "ab".repeat(16), batch: 7, text: "holdfast/x\n7\n".to_owned() }
    }

    #[test]
    fn a_message_is_one_of_rfc_5424() {
        let message = anchor("tcp://[::1]:601").unwrap().message(&note(), UnixMillis(1_500));
        let wanted = "<110>1 1970-01-01T00:00:01.500Z myhost holdfast - checkpoint - holdfast-checkpoint instance=";
        assert!(message.starts_with(wanted), "{message}");
        assert!(message.ends_with(" batch=7 note=aG9sZGZhc3QveAo3Cg=="), "{message}");
    }

    #[test]
    fn addresses_that_cannot_be_used_are_refused() {
        for address in ["", "host:601", "udp://host:514", "tcp://host", "tcp://:1", "tcp://u:p@host:1", "tls://a b:1"] {
            let Err(error) = anchor(address) else { panic!("{address:?} was taken") };
            assert!(error.to_string().contains("tls://host:6514"), "{error}");
        }
        assert!(anchor("tls://logs.example:6514").is_ok());
    }

    #[tokio::test]
    async fn who_resets_the_connection_has_not_taken_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let (anchor, note) = (anchor(&address).unwrap(), note());
        let (kept, text) = tokio::join!(anchor.keep(&note, UnixMillis(0)), async {
            let mut stream = listener.accept().await.unwrap().0;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        });
        kept.unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()));
        let (kept, ()) = tokio::join!(anchor.keep(&note, UnixMillis(0)), async {
            let stream = listener.accept().await.unwrap().0;
            // Closed before anything was read, whether it has come already or not.
            drop(stream);
        });
        assert!(matches!(kept, Err(AnchorError::Unreachable(_))), "{kept:?}");
    }
}
