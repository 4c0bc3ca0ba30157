//! A certificate authority and a server certificate for one test cluster, made by the openssl program.
//!
//! The server certificate is a leaf of its own: strict clients refuse an authority's certificate
//! as that of a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::{Programs, run};

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
";

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
