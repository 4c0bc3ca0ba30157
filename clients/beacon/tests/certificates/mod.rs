//! Certificates for tests, made for each run by the openssl program; the server's is valid for `localhost`.
#![allow(unreachable_pub, clippy::missing_panics_doc, clippy::disallowed_methods, reason = "test support")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
pub struct Certificates {
    pub authority: Vec<u8>,
    server: Vec<u8>,
    key: Vec<u8>,
}

impl Certificates {
    pub fn make() -> Self {
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

    /// A TLS server that shows the server's certificate.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = vec![CertificateDer::from_pem_slice(&self.server).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&self.key).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }
}

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split_whitespace()).current_dir(folder).output();
    let output = output.expect("the openssl program is installed");
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}
