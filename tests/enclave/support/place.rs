//! Where `tests/enclave/prepare` puts what it builds, and where the guest is built.

use std::path::{Path, PathBuf};

use holdfast_tests::harness::workspace;

/// The version of what is prepared; `tests/enclave/prepare` names it too.
const CACHE: &str = "holdfast-enclave-1";

/// A file that was prepared. `tier` is the argument of the script that does it.
pub(crate) fn prepared(path: &str, tier: &str) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    let path = cache.join(CACHE).join(path);
    assert!(path.exists(), "{} is missing: run tests/enclave/prepare {tier}", path.display());
    path
}

/// The guest as `cargo build -p holdfast-guest` leaves it, or as tests/enclave/full builds it.
pub(crate) fn guest(static_release: bool) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let (path, how) = if static_release {
        ("x86_64-unknown-linux-gnu/release/holdfast-vault-guest", "run tests/enclave/full")
    } else {
        ("debug/holdfast-vault-guest", "run `cargo build -p holdfast-guest`")
    };
    let path = target.join(path);
    assert!(path.is_file(), "{} is missing: {how}", path.display());
    path
}

/// A file without its debug information, which a machine would have to hold in memory.
pub(crate) fn stripped(program: &Path) -> Vec<u8> {
    let to = tempfile::NamedTempFile::new().unwrap();
    let done = std::process::Command::new("strip").arg("-o").arg(to.path()).arg(program).status();
    let done = done.expect("strip is missing: install the package binutils");
    assert!(done.success(), "strip {}: {done}", program.display());
    std::fs::read(to.path()).unwrap()
}
