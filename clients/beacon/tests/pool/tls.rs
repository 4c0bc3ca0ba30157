//! `https`: an upstream is trusted by its own authority or not at all.
//!
//! The certificates are made for each run by the openssl program and are valid for `localhost`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use holdfast_beacon::{
    CallError, CollectedAnswer, EndpointClass, TrustRoots, Upstream, UpstreamConfig, UpstreamRequest,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

const CONFIGURATION: &str = "\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
";

/// An authority and a server's certificate with its key, as PEM.
struct Certificates {
    authority: Vec<u8>,
    server: Vec<u8>,
    key: Vec<u8>,
}

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("openssl.cnf"), CONFIGURATION).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf";
        openssl(
            folder,
            &format!("req -x509 {key} -extensions authority -days 7 -subj /CN=ca -keyout ca.key -out ca.crt"),
        );
        openssl(folder, &format!("req -new {key} -subj /CN=localhost -keyout server.key -out server.csr"));
        openssl(
            folder,
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 7 \
             -extfile openssl.cnf -extensions server -out server.crt",
        );
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        Self { authority: read("ca.crt"), server: read("server.crt"), key: read("server.key") }
    }
}

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split_whitespace()).current_dir(folder).output();
    let output = output.expect("the openssl program is installed");
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Serves one answer per connection over TLS.
async fn server(certificates: &Certificates) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(&certificates.server).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&certificates.key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust us breaks off here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    port
}

async fn call(url: &str, roots: TrustRoots, ca: &[u8]) -> Result<CollectedAnswer, CallError> {
    let mut config = UpstreamConfig::from_url(url).unwrap();
    config.tls.roots = roots;
    config.tls.own_ca_pem = ca.to_vec();
    let upstream = Upstream::standalone(config).unwrap();
    let request = UpstreamRequest::get_json("/".parse().unwrap(), EndpointClass::Read);
    let deadline = Instant::now() + Duration::from_secs(10);
    upstream.call(request, deadline).await?.collect(100, deadline).await
}

#[tokio::test]
async fn only_a_trusted_authority_and_the_right_name_are_accepted() {
    let certificates = Certificates::make();
    let ca: &[u8] = &certificates.authority;
    let port = server(&certificates).await;
    let url = format!("https://localhost:{port}");
    assert_eq!(call(&url, TrustRoots::OwnOnly, ca).await.unwrap().body, "ok");
    assert_eq!(call(&url, TrustRoots::Mozilla, ca).await.unwrap().body, "ok", "beside the public ones");
    let refused = |result: Result<CollectedAnswer, CallError>| matches!(result, Err(CallError::Connect(_)));
    assert!(refused(call(&url, TrustRoots::Mozilla, b"").await), "no public authority vouches for it");
    assert!(refused(call(&format!("https://127.0.0.1:{port}"), TrustRoots::OwnOnly, ca).await), "another name");
    assert!(call(&format!("http://localhost:{port}"), TrustRoots::Mozilla, b"").await.is_err(), "plain HTTP");
}
