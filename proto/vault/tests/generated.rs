//! Proves: the checked-in code is what the definition of the protocol generates.

use std::path::Path;

#[test]
fn the_protocol_s_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    let definitions = protox::compile(["v1/vault.proto"], [root]).unwrap();
    prost_build::Config::new().out_dir(fresh.path()).compile_fds(definitions).unwrap();
    let name = "holdfast.vault.v1.rs";
    let (kept, made) = (root.join("src/generated").join(name), fresh.path().join(name));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    if read(&kept) != read(&made) {
        // Where to take the new one from: tests do not write into the source tree.
        let path = fresh.keep();
        panic!("{} is out of date: copy {} over it", kept.display(), path.join(name).display());
    }
}
