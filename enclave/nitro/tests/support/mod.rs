//! Where published files are: documents and envelopes that AWS made, which are no part of this repository. Everything they
//! show about shapes is shown with files of our own making as well; they show that the shapes are the real ones.

use std::path::{Path, PathBuf};

/// Reads published files by name. `None` only if `HOLDFAST_VECTORS` is unset and the default folder is absent.
pub(crate) fn vectors() -> Option<impl Fn(&str) -> Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    #[allow(clippy::disallowed_methods, reason = "a test reads where its files are")]
    let named = std::env::var_os("HOLDFAST_VECTORS");
    let folder = match named {
        Some(folder) => {
            let folder = PathBuf::from(folder);
            let folder = if folder.is_relative() { root.join(folder) } else { folder };
            assert!(folder.is_dir(), "HOLDFAST_VECTORS names {}, which is no folder", folder.display());
            folder
        }
        None => root.join("../shared/vectors"),
    };
    folder.is_dir().then(|| {
        let folder = folder.join("nitro");
        move |name: &str| std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    })
}
