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

/// The command that begins so, as the document prints it in a block or within a line, without a comment behind it.
#[track_caller]
pub fn printed(document: &str, begins: &str) -> String {
    let text =
        std::fs::read_to_string(workspace().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let of_line = |line: &str| line.trim().split("  #").next().unwrap_or_default().trim().to_owned();
    let of_text = || text.split('`').skip(1).step_by(2).map(of_line).find(|code| code.starts_with(begins));
    let found = text.lines().map(of_line).find(|line| line.starts_with(begins)).or_else(of_text);
    found.unwrap_or_else(|| panic!("{document} prints no command that begins with {begins:?}"))
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
