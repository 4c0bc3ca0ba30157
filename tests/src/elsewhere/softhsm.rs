//! A token of SoftHSM, a hardware module in software, in a folder of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user PIN of the token.
pub const PIN: &str = "123456";
/// Label of the token.
pub const TOKEN: &str = "signer";
/// Label of the key in it.
pub const KEY: &str = "holdfast";

/// A token with one AES key.
pub struct SoftHsm {
    folder: tempfile::TempDir,
}

impl SoftHsm {
    /// Makes one; panics with what to install if SoftHSM is missing.
    pub fn new() -> Self {
        let hsm = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::create_dir(hsm.tokens()).expect("a folder for tokens");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            hsm.tokens().display()
        );
        std::fs::write(hsm.configuration(), text).expect("its configuration");
        hsm.util(&["--init-token", "--free", "--label", TOKEN, "--so-pin", "87654321", "--pin", PIN]);
        hsm.import_key(KEY, &[0x5a; 32], "01");
        hsm.write_pin(PIN);
        hsm
    }

    /// Puts an AES key into the token.
    pub fn import_key(&self, label: &str, key: &[u8; 32], id: &str) {
        let path = self.folder.path().join("key.bin");
        std::fs::write(&path, key).expect("a key file");
        let path = path.display().to_string();
        self.util(&["--import", &path, "--aes", "--token", TOKEN, "--label", label, "--id", id, "--pin", PIN]);
    }

    /// Writes the PIN file.
    pub fn write_pin(&self, pin: &str) {
        std::fs::write(self.pin_file(), format!("{pin}\n")).expect("the PIN file");
        std::fs::set_permissions(self.pin_file(), std::fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    /// The PIN file.
    pub fn pin_file(&self) -> PathBuf {
        self.folder.path().join("pin")
    }

    /// Where tokens are kept: moved away, the token is gone.
    pub fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// Its configuration file, for the environment variable `SOFTHSM2_CONF`.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    fn util(&self, arguments: &[&str]) {
        let output = Command::new("softhsm2-util")
            .args(arguments)
            .env("SOFTHSM2_CONF", self.configuration())
            .output()
            .expect("softhsm2-util starts: install softhsm2");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "softhsm2-util {arguments:?}: {said}");
    }
}

impl Default for SoftHsm {
    fn default() -> Self {
        Self::new()
    }
}

/// The module; panics with what to install.
pub fn module() -> PathBuf {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ];
    let found = places.iter().map(Path::new).find(|path| path.is_file());
    found.expect("libsofthsm2.so: install softhsm2").to_owned()
}

/// A module in front of SoftHSM's, compiled into a folder: while the file in the variable `CROWDED_FILE` exists, it has no
/// session left. `CROWDED_MODULE` names the real module. SoftHSM itself has no limit that could be reached.
pub fn crowded_module(folder: &Path) -> PathBuf {
    let library = folder.join("crowded.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/elsewhere/crowded.c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .output()
        .expect("a C compiler is installed as `cc`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}
