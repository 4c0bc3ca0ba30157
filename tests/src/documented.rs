//! Runs shell lines of the documentation, so that what it says is what works.

use std::path::Path;
use std::process::Command;

use crate::harness::workspace;

/// Runs the shell lines that follow the comment `<!-- test: NAME -->` in a document, in a folder; panics with what they
/// said if they fail.
pub fn run(document: &str, name: &str, folder: &Path) {
    shell(&block(document, name, "sh"), folder);
}

/// The block in a language that follows the comment `<!-- test: NAME -->` in a document.
pub fn block(document: &str, name: &str, language: &str) -> String {
    let text =
        std::fs::read_to_string(workspace().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let marker = format!("<!-- test: {name} -->");
    let rest = text.split_once(&marker).unwrap_or_else(|| panic!("no {marker} in {document}")).1;
    let (_, rest) = rest.split_once(&format!("```{language}\n")).expect("a block");
    rest.split_once("```").expect("its end").0.to_owned()
}

/// Runs shell lines in a folder and returns what they print; panics with it if they fail.
pub fn shell(lines: &str, folder: &Path) -> String {
    shell_output(Command::new("bash").args(["-euc", lines]).current_dir(folder))
}

/// Runs a shell that is ready to start and returns what it prints; panics with it if it fails.
#[track_caller]
pub fn shell_output(command: &mut Command) -> String {
    let output = command.output().expect("bash starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
