//! Rules about files: module headers, size, unsafe code, the lock file, paths of one machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest source file; past it a file is two things.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// Tracked files, as paths relative to the root. Falls back to nothing: without git there is no repository to check.
fn tracked() -> Vec<String> {
    let output = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output().expect("git is installed");
    assert!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<String> = String::from_utf8(output.stdout)
        .expect("file names are UTF-8")
        .split('\0')
        .filter(|name| !name.is_empty() && root().join(name).is_file())
        .map(str::to_owned)
        .collect();
    assert!(files.len() > 20, "git lists only {} files: not the repository", files.len());
    files
}

fn sources() -> Vec<(String, String)> {
    tracked()
        .into_iter()
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "rs"))
        .map(|name| {
            let text = std::fs::read_to_string(root().join(&name)).expect("source is readable UTF-8");
            (name, text)
        })
        .collect()
}

#[test]
fn every_module_opens_with_why_it_exists() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !name.contains("/compile_fail/") && !name.contains("/generated/"))
        .filter(|(_, text)| {
            !text
                .lines()
                .find(|line| !line.trim().is_empty())
                .is_some_and(|line| line.starts_with("//!") || line.starts_with("#![doc"))
        })
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "these files do not open with //! and a reason: {silent:?}");
}

#[test]
fn files_fit_in_the_head() {
    let long: Vec<(String, usize)> = sources()
        .into_iter()
        .filter(|(name, _)| !name.contains("/generated/"))
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "longer than {MAX_LINES} lines: {long:?}");
}

#[test]
fn unsafe_code_lives_in_one_crate() {
    let keyword = concat!("uns", "afe ");
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("enclave/sys/") && !name.starts_with("tests/tidy/"))
        .filter(|(_, text)| {
            text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                code.contains(&format!("{keyword}{{"))
                    || code.contains(&format!("{keyword}fn"))
                    || code.contains(&format!("{keyword}impl"))
            })
        })
        .map(|(name, _)| name)
        .collect();
    assert!(found.is_empty(), "unsafe code outside enclave/sys: {found:?}");
    for (name, text) in tracked()
        .into_iter()
        .filter(|name| name.ends_with("Cargo.toml") && name != "Cargo.toml" && name != "enclave/sys/Cargo.toml")
        .map(|name| (name.clone(), std::fs::read_to_string(root().join(&name)).expect("manifest is readable")))
    {
        let forbids = text.contains("[lints]\nworkspace = true") || text.contains("unsafe_code = \"forbid\"");
        assert!(forbids, "{name} does not forbid unsafe code");
    }
}

#[test]
fn lock_file_names_only_the_standard_registry() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed");
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        assert_eq!(line, "source = \"registry+https://github.com/rust-lang/crates.io-index\"");
    }
    for name in tracked().into_iter().filter(|name| name.ends_with("package-lock.json")) {
        let text = std::fs::read_to_string(root().join(&name)).expect("lock file is readable");
        assert!(!text.contains("\"resolved\""), "{name} names download addresses: strip them");
    }
}

#[test]
fn no_path_of_one_machine_is_committed() {
    let root_path = root().display().to_string();
    for name in tracked() {
        let Ok(text) = std::fs::read_to_string(root().join(&name)) else { continue };
        assert!(!text.contains(&format!("{root_path}/")), "{name} contains the path of this checkout");
        for home in [concat!("/ro", "ot/"), concat!("/ho", "me/")] {
            assert!(!text.contains(home), "{name} contains {home}: a path of one machine");
        }
    }
}

#[test]
fn tests_never_skip_silently() {
    let ignore = concat!("#[ign", "ore");
    let skipped: Vec<String> =
        sources().into_iter().filter(|(_, text)| text.contains(ignore)).map(|(name, _)| name).collect();
    assert!(skipped.is_empty(), "ignored tests: {skipped:?}");
}
