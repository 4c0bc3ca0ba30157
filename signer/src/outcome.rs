//! How a process ends and how an error reads. Below everything that fails, so that custody and the
//! pipeline can say so without knowing the command line.

use std::process::ExitCode;

/// How a process ended. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All done.
    Done,
    /// Done in part, or refused; the details were printed.
    Refused,
    /// Wrong usage or configuration.
    Usage,
    /// A server, database or key provider could not be reached.
    Unreachable,
    /// Protection froze signing.
    Frozen,
    /// A bug in this program.
    Bug,
}

impl Exit {
    /// The number the process exits with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Frozen => 4,
            Self::Bug => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error and all its causes, joined by colons.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::ConfigError;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let all = [Exit::Done, Exit::Refused, Exit::Usage, Exit::Unreachable, Exit::Frozen, Exit::Bug];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 70]);
    }

    #[test]
    fn causes_are_told_once() {
        let inner = io::Error::other("disk on fire");
        let error = ConfigError::Read { path: "x".into(), source: inner };
        let text = chain(&error);
        assert!(text.ends_with(": disk on fire") && text.matches("fire").count() == 1, "{text}");
    }
}
