//! A signer that knows its callers: TLS with client certificates and a list of revoked ones, a policy, and two places
//! that keep its checkpoints, one of which nobody answers for.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast_tests::documented;
use holdfast_tests::harness::Server;
use holdfast_tests::postgres::free_port;
use holdfast_tests::world::World;

/// What the only caller may do.
const POLICY: &str = "[[policy]]\neffect = \"allow\"\ncallers = [\"vc-1\"]\noperations = [\"list\"]\n";

/// Beginnings of the names of what this signer has and the one of [`crate::stage`] has not.
const AREAS: [&str; 4] =
    ["holdfast_tls_", "holdfast_authentication_failures_", "holdfast_policy_denials_", "holdfast_audit_anchor"];

/// Whether a number is one that only this signer shows.
pub fn has(name: &str) -> bool {
    AREAS.iter().any(|area| name.starts_with(area))
}

/// The signer and the files of its TLS.
pub struct Guarded {
    /// The signer.
    pub server: Server,
    world: World,
    files: PathBuf,
}

impl Guarded {
    /// Starts it, with the files that docs/tls.md makes.
    pub fn new() -> Self {
        let world = World::new(1);
        let files = world.path().join("tls");
        std::fs::create_dir(&files).unwrap();
        for block in ["server", "client", "revocations"] {
            documented::run("docs/tls.md", block, &files);
        }
        let text = |path: PathBuf| path.display().to_string();
        let config = world.path().join("policy.toml");
        std::fs::write(&config, POLICY).unwrap();
        let settings = [
            ("HTTP_TLS_CERTIFICATE", text(files.join("tls.pem"))),
            ("HTTP_TLS_KEY", text(files.join("tls.key"))),
            ("HTTP_TLS_CLIENT_CA", text(files.join("clients-ca.pem"))),
            ("HTTP_TLS_CRL", text(files.join("clients-crl.pem"))),
            ("AUDIT_CHECKPOINT_FILE", text(world.path().join("checkpoints"))),
            ("AUDIT_WEBHOOK_URL", format!("http://127.0.0.1:{}/", free_port())),
        ];
        let builder = world.server().global("--config").global(text(config));
        let named = settings.into_iter().map(|(name, value)| (format!("HOLDFAST_{name}"), value));
        let server = named.fold(builder, |builder, (name, value)| builder.env(name, value)).start();
        server.wait_ready();
        Self { server, world, files }
    }

    /// Somebody knocks until the handle is dropped: without a certificate, with a wrong token, with a wish that the
    /// policy denies.
    pub fn hostility(&self) -> Hostility {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, files, port) = (Arc::clone(&stop), self.files.clone(), self.server.http_addr().port());
        let thread = std::thread::spawn(move || {
            let own = ["--cert", "vc-1.pem", "--key", "vc-1.key"];
            let attempts: [(&[&str], &str, &str); 3] = [
                (&[], "/upcheck", "000"),
                (&["--user", "vc-1:wrong"], "/api/v1/eth2/publicKeys", "401"),
                (&["--request", "POST"], "/reload", "403"),
            ];
            while !stopping.load(Ordering::Relaxed) {
                for (arguments, path, expected) in attempts {
                    let certificate = if expected == "000" { &[][..] } else { &own[..] };
                    let output = Command::new("curl")
                        .args(["--silent", "--max-time", "20", "--cacert", "ca.pem", "--output", "/dev/null"])
                        .args(["--write-out", "%{http_code}"])
                        .args(certificate)
                        .args(arguments)
                        .arg(format!("https://localhost:{port}{path}"))
                        .current_dir(&files)
                        .stderr(Stdio::null())
                        .output()
                        .expect("curl starts: install the package curl");
                    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{path}");
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Hostility { stop, thread: Some(thread) }
    }

    /// Replaces the certificate and the callers by what cannot be read; what was there stays in use.
    pub fn spoil_files(&self) {
        std::fs::write(self.files.join("tls.pem"), "no certificate").unwrap();
        std::fs::write(self.world.data_dir().join("callers.toml"), "callers = 7").unwrap();
    }
}

/// Somebody who knocks; stops when this is dropped.
pub struct Hostility {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Hostility {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "an attempt was answered otherwise");
        }
    }
}
