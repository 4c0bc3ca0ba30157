//! What a failed command said.

use std::process::Output;

use holdfast_tests::harness::holdfast;

/// A finished command.
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Both streams.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Asserts the exit code and that every phrase is in the output.
    #[track_caller]
    pub(crate) fn expect(self, code: i32, phrases: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}", self.text());
        for phrase in phrases {
            assert!(self.text().contains(phrase), "no {phrase:?} in:\n{}", self.text());
        }
        self
    }

    /// Standard output as JSON lines.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
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

/// Runs the binary.
pub(crate) fn run(arguments: &[String]) -> Finished {
    holdfast(arguments).into()
}
