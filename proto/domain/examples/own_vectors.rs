//! Writes this crate's own signing vectors to standard output:
//! `cargo run -p holdfast-domain --example own_vectors > proto/domain/tests/own_vectors.json`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_imports,
    unreachable_pub,
    dead_code,
    reason = "shares modules with the tests"
)]

#[path = "../tests/it/containers.rs"]
mod containers;
#[path = "../tests/it/json.rs"]
mod json;
#[path = "../tests/it/oracle.rs"]
mod oracle;
#[path = "../tests/it/own.rs"]
mod own;
#[path = "../tests/it/random.rs"]
mod random;

fn main() -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // One case per line, so that a change shows which cases it touches.
    let cases: Vec<String> = own::generate().as_array().unwrap().iter().map(ToString::to_string).collect();
    writeln!(out, "[\n{}\n]", cases.join(",\n"))
}
