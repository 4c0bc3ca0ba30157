//! What can go wrong with a key service, in the words all of them share, and whether another attempt helps.

use core::fmt;
use core::str::FromStr;
use std::error::Error;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceFailure {
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// It has too much to do, or a fault of its own.
    Busy,
    /// There are no credentials, or they have expired.
    Credentials,
    /// The credentials are good, and do not permit this.
    Denied,
    /// The key is there and switched off, or waits for its deletion.
    KeyDisabled,
    /// There is no such key.
    KeyMissing,
    /// It was encrypted with another key than the configured one.
    WrongKey,
    /// The ciphertext was changed, or belongs to another network or data key.
    Rejected,
    /// It was sealed in another state of the machine than the present one.
    Measurement,
    /// It cannot be used as it is configured.
    Unusable,
    /// An answer that is none.
    Protocol,
}

/// Whether a failure goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Perhaps within seconds.
    Soon,
    /// Perhaps, once something outside has happened: new credentials were issued.
    Later,
    /// Not before an operator does something.
    Never,
}

impl ServiceFailure {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Unreachable,
        Self::TimedOut,
        Self::Busy,
        Self::Credentials,
        Self::Denied,
        Self::KeyDisabled,
        Self::KeyMissing,
        Self::WrongKey,
        Self::Rejected,
        Self::Measurement,
        Self::Unusable,
        Self::Protocol,
    ];

    /// A stable word for metrics and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Busy => "busy",
            Self::Credentials => "credentials",
            Self::Denied => "denied",
            Self::KeyDisabled => "key_disabled",
            Self::KeyMissing => "key_missing",
            Self::WrongKey => "wrong_key",
            Self::Rejected => "rejected",
            Self::Measurement => "measurement",
            Self::Unusable => "unusable",
            Self::Protocol => "protocol",
        }
    }

    /// Whether another attempt helps.
    pub const fn recovery(self) -> Recovery {
        match self {
            Self::Unreachable | Self::TimedOut | Self::Busy => Recovery::Soon,
            Self::Credentials => Recovery::Later,
            Self::Denied
            | Self::KeyDisabled
            | Self::KeyMissing
            | Self::WrongKey
            | Self::Rejected
            | Self::Measurement
            | Self::Unusable
            | Self::Protocol => Recovery::Never,
        }
    }

    /// What happened and what to do, to follow the name of the key.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "cannot be reached: check the network, the address and the service",
            Self::TimedOut => "did not answer in time: check the network and the service, or allow more time",
            Self::Busy => "is overloaded or has a fault of its own: try again later",
            Self::Credentials => "got no valid credentials: renew them, or check where they are looked for",
            Self::Denied => "may not be used with these credentials: mend the key's policy or take other credentials",
            Self::KeyDisabled => "is disabled or about to be deleted: enable it again, or cancel its deletion",
            Self::KeyMissing => "does not exist there: check its name, the region and the account",
            Self::WrongKey => {
                "is another key than the one the data key was wrapped with: configure that one, or rewrap the data key with `holdfast kek rotate`"
            }
            Self::Rejected => {
                "refuses the wrapped data key as changed, or as made for another network: restore the database from a backup"
            }
            Self::Measurement => {
                "opens only in the state the machine was in when the data key was wrapped: start what was started then, or open it with another provider and run `holdfast kek rotate`"
            }
            Self::Unusable => "cannot be used as it is configured",
            Self::Protocol => "gave an answer that makes no sense: check that the address is the service's",
        }
    }
}

impl fmt::Display for ServiceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ServiceFailure {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|failure| failure.as_str() == text).ok_or(())
    }
}

/// A key service did not do what it was asked.
#[derive(Debug)]
pub struct ServiceError {
    /// What kind of failure it was.
    pub failure: ServiceFailure,
    /// What the service or its library said. Never holds a secret.
    pub source: Box<dyn Error + Send + Sync>,
}

impl ServiceError {
    /// A failure and what was said about it.
    pub fn new(failure: ServiceFailure, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { failure, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_differ() {
        for failure in ServiceFailure::ALL {
            assert_eq!(failure.as_str().parse(), Ok(failure));
            assert!(!failure.advice().is_empty());
        }
        assert_eq!("fine".parse::<ServiceFailure>(), Err(()));
    }
}
