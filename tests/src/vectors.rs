//! Where shared test vectors are, if there are any.
//!
//! `HOLDFAST_VECTORS` names the folder; without it `../shared/vectors` beside the workspace is
//! used when it exists. The project's own vectors are committed beside the tests and always run.

use std::path::PathBuf;

use crate::harness::workspace;

/// The folder with shared vectors. `None` only if `HOLDFAST_VECTORS` is unset and the default folder is absent.
pub fn shared() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("HOLDFAST_VECTORS") {
        let folder = PathBuf::from(folder);
        let folder = if folder.is_relative() { workspace().join(folder) } else { folder };
        assert!(folder.is_dir(), "HOLDFAST_VECTORS names {}, which is no folder", folder.display());
        return Some(folder);
    }
    let default = workspace().join("../shared/vectors");
    default.is_dir().then_some(default)
}

/// All JSON files of a folder, parsed, in name order. Panics when one cannot be read: a missing vector is a failure.
pub fn json_files(folder: &std::path::Path) -> Vec<(String, serde_json::Value)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().expect("file name").to_string_lossy().into_owned(), value)
        })
        .collect()
}
