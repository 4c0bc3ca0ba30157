//! A client that keeps a connection over TLS open.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::stage::Stage;

/// A connection.
pub struct TlsClient(StreamOwned<ClientConnection, TcpStream>);

impl TlsClient {
    /// What connections are made with: the stage's authority, and perhaps the client's certificate.
    pub fn config(stage: &Stage, certificate: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(stage.file("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::pem_file_iter(stage.file(&format!("{name}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(stage.file(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        })
    }

    /// Connects, and does the handshake.
    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::clone(config), name).expect("a connection");
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(stream))
    }

    /// The server's certificate.
    pub fn server_certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().expect("it showed one")[0].to_vec()
    }

    /// Sends a request and reads the answer: its status and body.
    pub fn request(&mut self, method: &str, path: &str, more: &str, body: &str) -> std::io::Result<(u16, String)> {
        self.request_of("localhost", method, path, more, body)
    }

    /// The same, of a server by this name.
    pub fn request_of(
        &mut self,
        host: &str,
        method: &str,
        path: &str,
        more: &str,
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{more}\r\n");
        self.0.write_all(format!("{head}{body}").as_bytes())?;
        let head = self.until("\r\n\r\n")?.to_lowercase();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = if head.contains("transfer-encoding: chunked") {
            self.chunks()?
        } else {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            self.exactly(length)?
        };
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    #[allow(dead_code, reason = "only the tests of the switcher do")]
    /// Asks for a stream of events; what comes is read with [`Self::until`].
    pub fn stream(&mut self, path: &str) -> std::io::Result<()> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        self.0.write_all(head.as_bytes())?;
        let head = self.until("\r\n\r\n")?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Ok(())
    }

    /// Reads until these words have come, and returns all up to them.
    pub fn until(&mut self, words: &str) -> std::io::Result<String> {
        let (mut read, mut byte) = (Vec::new(), [0]);
        while !read.ends_with(words.as_bytes()) {
            if self.0.read(&mut byte)? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, String::from_utf8_lossy(&read).into_owned()));
            }
            read.extend_from_slice(&byte);
        }
        Ok(String::from_utf8_lossy(&read).into_owned())
    }

    fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.until("\r\n")?;
            let size =
                usize::from_str_radix(size.trim(), 16).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            body.extend(self.exactly(size)?);
            self.until("\r\n")?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}
