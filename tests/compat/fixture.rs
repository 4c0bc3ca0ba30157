//! A data directory with the first sixteen interop keys, on a network described by a vector.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use holdfast_tests::harness::{Server, holdfast_ok};
use holdfast_tests::keys::TestKey;
use tempfile::TempDir;

/// Number of interop keys imported.
pub(crate) const KEYS: u64 = 16;

/// Keystores of the interop keys, written once per test process.
pub(crate) fn keystores() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let keys = folder.path().join("keys");
            std::fs::create_dir(&keys).expect("folder for keystores");
            for index in 0..KEYS {
                TestKey::interop(index).write_keystore(&keys, "correct horse");
            }
            std::fs::write(folder.path().join("password.txt"), "correct horse\n").expect("password file");
            folder
        })
        .path()
}

/// How to tell the binary which network it is on.
#[derive(Clone)]
pub(crate) struct NetworkArgs(pub(crate) Vec<String>);

impl NetworkArgs {
    /// A built-in network.
    pub(crate) fn builtin(name: &str) -> Self {
        Self(vec!["--network".to_owned(), name.to_owned()])
    }

    /// A custom configuration file with its genesis.
    pub(crate) fn custom(file: &Path, genesis_validators_root: &str, genesis_time: u64) -> Self {
        Self(vec![
            "--network".to_owned(),
            file.display().to_string(),
            "--genesis-validators-root".to_owned(),
            genesis_validators_root.to_owned(),
            "--genesis-time".to_owned(),
            genesis_time.to_string(),
        ])
    }
}

/// A started server over a fresh database.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    _folder: TempDir,
}

impl Fixture {
    /// Imports the interop keys as never signed and starts a server.
    pub(crate) fn start(network: &NetworkArgs) -> Self {
        Self::start_with(network, "in-process")
    }

    /// The same with this `signing.backend`.
    pub(crate) fn start_with(network: &NetworkArgs, backend: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data_dir: PathBuf = folder.path().join("data");
        let mut arguments = vec!["--data-dir".to_owned(), data_dir.display().to_string()];
        arguments.extend(network.0.clone());
        let mut import = arguments.clone();
        import.extend(["--json", "keys", "import", "--watermark", "never-signed", "--from"].map(str::to_owned));
        import.push(keystores().join("keys").display().to_string());
        import.push("--password-file".to_owned());
        import.push(keystores().join("password.txt").display().to_string());
        holdfast_ok(&import);
        let mut builder = Server::builder();
        for argument in arguments {
            builder = builder.global(argument);
        }
        let server = builder.env("HOLDFAST_SIGNING_BACKEND", backend).start();
        server.wait_ready();
        Self { server, _folder: folder }
    }
}
