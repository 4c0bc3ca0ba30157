//! Proves: the checked-in gRPC code, and the description of it that reflection serves, are what their definitions generate.

use std::path::Path;

use prost::Message as _;

const DEFINITIONS: [&str; 10] = [
    "admin/v1/approvals.proto",
    "admin/v1/audit.proto",
    "admin/v1/configuration.proto",
    "admin/v1/kek.proto",
    "admin/v1/keys.proto",
    "admin/v1/policy.proto",
    "admin/v1/report.proto",
    "admin/v1/slashing.proto",
    "admin/v1/status.proto",
    "admin/v1/switcher.proto",
];

#[test]
fn the_admin_api_s_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    let definitions = protox::compile(DEFINITIONS, [root]).unwrap();
    let mut described = definitions.clone();
    for file in &mut described.file {
        // Comments are in the definitions; a description carries none.
        file.source_code_info = None;
    }
    #[allow(clippy::disallowed_methods, reason = "a file of a test, gone with it")]
    std::fs::write(fresh.path().join("holdfast.admin.v1.bin"), described.encode_to_vec()).unwrap();
    tonic_prost_build::configure().build_transport(false).out_dir(fresh.path()).compile_fds(definitions).unwrap();
    let read = |path: &Path| std::fs::read(path).unwrap_or_default();
    for name in ["holdfast.admin.v1.rs", "holdfast.admin.v1.bin"] {
        let (kept, made) = (root.join("src/admin/generated").join(name), fresh.path().join(name));
        if read(&kept) != read(&made) {
            // Where to take the new one from: tests do not write into the source tree.
            let path = fresh.keep();
            panic!("{} is out of date: copy {} over it", kept.display(), path.join(name).display());
        }
    }
}
