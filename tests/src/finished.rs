//! What a command of the binary ended with, and what it said.

use std::ffi::OsStr;
use std::process::Output;

use serde_json::Value;

use crate::harness::holdfast;

/// `serve` on ports nobody has. A test that forgets one of them takes the usual port, which another test, or a signer
/// of the machine's owner, may hold at that moment.
pub const SERVE: [&str; 5] = ["serve", "--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];

/// Runs the binary to its end.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Finished {
    holdfast(arguments).into()
}

/// A finished command.
pub struct Finished {
    /// Exit code.
    pub code: i32,
    /// Results.
    pub stdout: String,
    /// Talk and errors.
    pub stderr: String,
}

impl Finished {
    /// Both streams.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Asserts the exit code and that every phrase is in the output.
    #[track_caller]
    pub fn expect(self, code: i32, phrases: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}", self.text());
        for phrase in phrases {
            assert!(self.text().contains(phrase), "no {phrase:?} in:\n{}", self.text());
        }
        self
    }

    /// Standard output as JSON lines.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("not ended by a signal"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
