//! A test network, a data directory with keys, and a server on it: the stage for crash tests,
//! simulation and benchmark.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::auditor::Chain;
use crate::harness::{Builder, Server, holdfast_ok};
use crate::keys::TestKey;

/// Genesis time of the test network, in seconds: long ago, so that there are epochs enough to sign in.
pub const GENESIS_TIME: u64 = 1_600_000_000;
/// Fork version in force on the test network.
pub const VERSION: [u8; 4] = [0x04, 0, 0, 0x77];
/// Genesis validators root of the test network.
pub const GENESIS_VALIDATORS_ROOT: [u8; 32] = [0x77; 32];
/// Length of a slot, where a test is not in a hurry.
const SLOT_SECONDS: u64 = 6;
/// Slots per epoch of the test network (minimal preset).
pub const SLOTS_PER_EPOCH: u64 = 8;

/// The chain the test clients sign for.
pub const CHAIN: Chain = Chain { version: VERSION, genesis_validators_root: GENESIS_VALIDATORS_ROOT };

/// A folder with a network file, keystores and a data directory.
pub struct World {
    folder: TempDir,
    /// `--database`, if it is not the file in the data directory.
    database: Option<String>,
    /// Genesis in seconds.
    genesis_time: u64,
    /// Keys imported, by interop index.
    pub keys: Vec<TestKey>,
}

impl World {
    /// A world in a temporary folder whose data directory holds `keys` never-signed interop keys.
    pub fn new(keys: u64) -> Self {
        Self::within(tempfile::tempdir().expect("a temporary folder"), keys)
    }

    /// A world in a given folder.
    pub fn within(folder: TempDir, keys: u64) -> Self {
        Self::on(None, folder, keys, (SLOT_SECONDS, GENESIS_TIME))
    }

    /// A world with slots of this many seconds, counted from this second.
    pub fn with_slots(seconds: u64, genesis_time: u64, keys: u64) -> Self {
        Self::on(None, tempfile::tempdir().expect("a temporary folder"), keys, (seconds, genesis_time))
    }

    /// A world whose slots are so short that tests can wait for an epoch.
    pub fn in_a_hurry(keys: u64) -> Self {
        Self::with_slots(1, GENESIS_TIME, keys)
    }

    /// A world whose database is the one of this URL, which must be empty.
    pub fn with_database(url: &str, keys: u64) -> Self {
        Self::on(
            Some(url.to_owned()),
            tempfile::tempdir().expect("a temporary folder"),
            keys,
            (SLOT_SECONDS, GENESIS_TIME),
        )
    }

    fn on(database: Option<String>, folder: TempDir, keys: u64, (slot, genesis_time): (u64, u64)) -> Self {
        let mut text = format!("PRESET_BASE: minimal\nCONFIG_NAME: testnet\nSECONDS_PER_SLOT: {slot}\n");
        for (number, fork) in ["GENESIS", "ALTAIR", "BELLATRIX", "CAPELLA", "DENEB"].iter().enumerate() {
            text.push_str(&format!("{fork}_FORK_VERSION: 0x0{number}000077\n"));
            if number > 0 {
                text.push_str(&format!("{fork}_FORK_EPOCH: 0\n"));
            }
        }
        std::fs::write(folder.path().join("config.yaml"), text).expect("network file");
        let keystores = folder.path().join("keys");
        std::fs::create_dir(&keystores).expect("folder for keystores");
        std::fs::write(folder.path().join("password.txt"), "correct horse").expect("password file");
        let keys: Vec<TestKey> = (0..keys).map(TestKey::interop).collect();
        for key in &keys {
            key.write_keystore(&keystores, "correct horse");
        }
        let world = Self { folder, database, genesis_time, keys };
        if !world.keys.is_empty() {
            world.import(&["--watermark", "never-signed"]);
        }
        world
    }

    /// The folder everything is in.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Global arguments: data directory and network.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = [
            "--data-dir".to_owned(),
            self.data_dir().display().to_string(),
            "--network".to_owned(),
            self.folder.path().join("config.yaml").display().to_string(),
            "--genesis-validators-root".to_owned(),
            format!("0x{}", hex::encode(GENESIS_VALIDATORS_ROOT)),
            "--genesis-time".to_owned(),
            self.genesis_time.to_string(),
        ]
        .to_vec();
        if let Some(url) = &self.database {
            arguments.extend(["--database".to_owned(), url.clone()]);
        }
        arguments
    }

    /// Another data directory for the same database, with the same key-encryption key, as a second machine of an
    /// operator has it.
    pub fn second_data_dir(&self, name: &str) -> PathBuf {
        let dir = self.folder.path().join(name);
        copy_private(&self.data_dir().join("kek"), &dir.join("kek"));
        dir
    }

    /// [`World::arguments`] with another data directory.
    pub fn arguments_in(&self, data_dir: &Path) -> Vec<String> {
        let own = self.data_dir().display().to_string();
        let other = data_dir.display().to_string();
        self.arguments().into_iter().map(|argument| if argument == own { other.clone() } else { argument }).collect()
    }

    /// `holdfast <global arguments> <rest>`.
    pub fn with(&self, rest: &[&str]) -> Vec<String> {
        let mut arguments = self.arguments();
        arguments.extend(rest.iter().map(|&argument| argument.to_owned()));
        arguments
    }

    /// Arguments that import this world's keystores.
    pub fn import_arguments(&self, extra: &[&str]) -> Vec<String> {
        let keys = self.folder.path().join("keys").display().to_string();
        let password = self.folder.path().join("password.txt").display().to_string();
        let mut arguments = self.with(&["--json", "keys", "import", "--from", &keys, "--password-file", &password]);
        arguments.extend(extra.iter().map(|&argument| argument.to_owned()));
        arguments
    }

    /// Imports this world's keystores.
    pub fn import(&self, extra: &[&str]) {
        holdfast_ok(&self.import_arguments(extra));
    }

    /// A server on this world.
    pub fn server(&self) -> Builder {
        self.server_in(&self.data_dir())
    }

    /// A server on this world with another data directory.
    pub fn server_in(&self, data_dir: &Path) -> Builder {
        self.arguments_in(data_dir).into_iter().fold(Server::builder(), Builder::global)
    }
}

/// Copies the files of a folder into a new one that only this user may enter.
pub fn copy_private(from: &Path, to: &Path) {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).expect("a private folder");
    for entry in std::fs::read_dir(from).expect("the provider's folder") {
        let entry = entry.expect("an entry");
        let copy = to.join(entry.file_name());
        std::fs::copy(entry.path(), &copy).expect("the key file is copied");
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    }
}
