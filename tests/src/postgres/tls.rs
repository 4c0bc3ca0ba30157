//! A certificate authority and a server certificate for one test cluster, made by the openssl program.
//!
//! The server certificate is a leaf of its own: strict clients refuse an authority's certificate
//! as that of a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::{Programs, run};
use super::{Cluster, SERVICE};

const CONFIGURATION: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = Holdfast test
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
";

/// Files of a client's certificate.
pub struct ClientCertificate {
    /// The certificate, signed by the cluster's authority.
    pub certificate: PathBuf,
    /// Its key, which only the user who runs the tests may read.
    pub key: PathBuf,
}

/// Files of the certificates.
pub(super) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes new ones in a new folder.
    pub(super) fn make(folder: &Path, programs: &Programs) -> Self {
        std::fs::create_dir(folder).expect("the certificate folder is new");
        std::fs::write(folder.join("openssl.cnf"), CONFIGURATION).expect("the folder is writable");
        let openssl = |line: &str| run(Command::new("openssl").args(line.split_whitespace()).current_dir(folder));
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf";
        openssl(&format!(
            "req -x509 {key} -extensions authority -days 7 -subj /CN=Holdfast-test-CA -keyout ca.key -out ca.crt"
        ));
        openssl(&format!("req -new {key} -subj /CN=localhost -keyout server.key -out server.csr"));
        openssl(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 7 \
             -extfile openssl.cnf -extensions server -out server.crt",
        );
        let made = Self { folder: folder.to_path_buf() };
        for path in [folder.to_path_buf(), made.key(), made.certificate(), made.authority()] {
            programs.own(&path);
        }
        made
    }

    /// The same certificates for a second server, so that clients need not care which one answers.
    pub(super) fn copy_to(&self, folder: &Path) -> Self {
        run(Command::new("cp").arg("-a").args([&self.folder, &folder.to_path_buf()]));
        Self { folder: folder.to_path_buf() }
    }

    /// A certificate for a role.
    fn make_client(&self, role: &str) -> ClientCertificate {
        let openssl = |line: &str| run(Command::new("openssl").args(line.split_whitespace()).current_dir(&self.folder));
        openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf -subj /CN={role} \
             -keyout client.key -out client.csr"
        ));
        openssl(
            "x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 7 \
             -extfile openssl.cnf -extensions client -out client.crt",
        );
        ClientCertificate { certificate: self.folder.join("client.crt"), key: self.folder.join("client.key") }
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("server.crt")
    }
    pub(super) fn key(&self) -> PathBuf {
        self.folder.join("server.key")
    }
}

impl Cluster {
    /// From now on the server shows a certificate of its authority that is for this host name only.
    pub fn show_certificate_for(&self, host: &str) {
        let certificates = self.certificates.as_ref().expect("the cluster has TLS");
        let configuration = CONFIGURATION.replace("DNS:localhost, IP:127.0.0.1", &format!("DNS:{host}"));
        std::fs::write(certificates.folder.join("other.cnf"), configuration).expect("the folder is writable");
        let line = "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 7 \
             -extfile other.cnf -extensions server -out server.crt";
        run(Command::new("openssl").args(line.split_whitespace()).current_dir(&certificates.folder));
        self.programs.own(&certificates.certificate());
        // Any change of settings makes the server read its certificate again.
        self.set("log_min_messages", "warning");
    }

    /// From now on TLS clients need a certificate of this cluster's authority as well as their password. Returns one
    /// for the service's role.
    pub fn demand_client_certificates(&self) -> ClientCertificate {
        let certificates = self.certificates.as_ref().expect("the cluster has TLS");
        let client = certificates.make_client(SERVICE);
        let rules = self.data().join("pg_hba.conf");
        let text = std::fs::read_to_string(&rules).expect("initdb wrote it");
        let strict = text.lines().map(|line| {
            let tls = line.starts_with("hostssl ");
            if tls { format!("{line} clientcert=verify-ca") } else { line.to_owned() }
        });
        std::fs::write(&rules, strict.collect::<Vec<_>>().join("\n") + "\n").expect("the file is writable");
        self.set("ssl_ca_file", &certificates.authority().display().to_string());
        client
    }
}
