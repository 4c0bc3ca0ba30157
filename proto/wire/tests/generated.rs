//! Proves: the checked-in gRPC code is what its definitions generate.

use std::path::Path;

const DEFINITIONS: [&str; 1] = ["admin/v1/switcher.proto"];

#[test]
fn the_admin_api_s_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    let definitions = protox::compile(DEFINITIONS, [root]).unwrap();
    tonic_prost_build::configure().build_transport(false).out_dir(fresh.path()).compile_fds(definitions).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let name = "holdfast.admin.v1.rs";
    let (kept, made) = (root.join("src/admin/generated").join(name), fresh.path().join(name));
    if read(&kept) != read(&made) {
        // Where to take the new one from: tests do not write into the source tree.
        let path = fresh.keep();
        panic!("{} is out of date: copy {} over it", kept.display(), path.join(name).display());
    }
}
