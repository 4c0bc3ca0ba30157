//! What a command prints and how it ends: results on standard output, talk and errors on standard
//! error, all of it as JSON with `--json`, and one exit code from the list in [`crate::outcome`].

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use crate::config::ConfigError;
use crate::custody::CustodyError;
use crate::outcome::{Exit, chain};
use crate::policy::SourceError;

/// A command that could not go on: an error and how the process exits because of it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// An error with its exit code.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// An error that is only a message.
    pub(crate) fn message(exit: Exit, message: impl Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{message}") }
    }

    /// How the process exits.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// The error and its causes in one sentence.
    pub(crate) fn text(&self) -> String {
        chain(self.error.as_ref())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Beacon { .. } => Exit::Unreachable,
            ConfigError::Read { .. }
            | ConfigError::KeyList { .. }
            | ConfigError::File { .. }
            | ConfigError::Unknown { .. }
            | ConfigError::Value { .. }
            | ConfigError::Setting { .. }
            | ConfigError::NotLoopback { .. }
            | ConfigError::NetworkFile { .. }
            | ConfigError::NetworkContent { .. }
            | ConfigError::Contradiction { .. }
            | ConfigError::UnknownGenesis { .. } => Exit::Usage,
        };
        Self::new(exit, error)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Configuration(error) => Self::from(error),
            SourceError::Given(error) => Self::new(Exit::Usage, error),
        }
    }
}

impl From<CustodyError> for Failure {
    fn from(error: CustodyError) -> Self {
        let exit = error.exit();
        match error {
            CustodyError::Config(error) => Self::from(error),
            error => Self::new(exit, error),
        }
    }
}

/// Standard output that went away, as when piped into `head`, is not a failure of ours.
fn ignore_closed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(Failure::new(Exit::Refused, anyhow::Error::new(error).context("cannot write to standard output")))
        }
        Ok(()) => Ok(()),
    }
}

/// Prints `text` as it is on standard output.
///
/// # Errors
/// If standard output cannot be written.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    ignore_closed(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Whether results are for people or programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON value per line.
    Json,
}

/// Whether talk that is not a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// Print it on standard error.
    Notes,
    /// Do not.
    Quiet,
}

/// Where a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// For people or programs.
    pub(crate) format: Format,
    /// With or without talk.
    pub(crate) talk: Talk,
    /// Who did it, of commands that a running server can do: a member `through` of each result for programs.
    pub(crate) through: Option<&'static str>,
}

impl Output {
    /// Whether results are JSON.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether a progress bar makes sense: notes are wanted, for people, on a terminal.
    pub(crate) fn has_bar(self) -> bool {
        self.format == Format::Text && self.talk == Talk::Notes && io::stderr().is_terminal()
    }

    /// Prints a result: `text` for people (nothing if empty), `value` for programs.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn result(self, text: impl Display, value: &Value) -> Result<(), Failure> {
        let line = match self.format {
            Format::Text => text.to_string(),
            Format::Json => match (value, self.through) {
                (Value::Object(members), Some(through)) => {
                    let mut members = members.clone();
                    members.insert("through".to_owned(), through.into());
                    Value::Object(members).to_string()
                }
                (value, _) => value.to_string(),
            },
        };
        if line.is_empty() { Ok(()) } else { print(&format!("{}\n", line.trim_end_matches('\n'))) }
    }

    /// Says something on standard error that is not a result. Silent with `--quiet` and `--json`.
    pub(crate) fn note(self, text: impl Display) {
        if self.talk == Talk::Notes && self.format == Format::Text {
            // Nobody to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Prints why the command could not go on, on standard error.
    pub(crate) fn failure(self, failure: &Failure) {
        let line = match self.format {
            Format::Text => format!("error: {}", failure.text()),
            Format::Json => {
                json!({ "error": { "message": failure.text(), "exit_code": failure.exit().code() } }).to_string()
            }
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_errors_are_usage_errors() {
        let error = ConfigError::Setting { key: "a.b", problem: "is wrong".to_owned() };
        let failure = Failure::from(error);
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(failure.text(), "a.b is wrong");
    }
}
