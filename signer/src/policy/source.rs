//! Where rules come from: the configuration, and what was given through the admin API in place of it (ADR 0038).
//!
//! Guarantees: everything is read and checked before anything is in force; rules that were given and cannot be used are an
//! error, never a reason to go back to those of the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use super::KeysOfLabels;
use super::kept::{self, Given, Kept, KeptError};
use crate::config::{Config, ConfigError, WrittenPolicy, compile_policy};

/// Which rules are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Those of the configuration.
    Configuration,
    /// Those given through the admin API.
    Given,
}

/// Rules with everything that is known of them.
#[derive(Debug, Clone)]
pub(crate) struct Rulebook {
    /// The rules.
    pub(crate) written: Arc<WrittenPolicy>,
    /// Where they come from.
    pub(crate) origin: Origin,
    /// Since when they are in force, or known, and by whom.
    pub(crate) given: Given,
    /// The text, of rules that were given.
    pub(crate) text: Option<Arc<str>>,
}

impl Rulebook {
    /// Rules of a configuration that was read by somebody.
    pub(crate) fn configured(written: WrittenPolicy, given: Given) -> Self {
        Self { written: Arc::new(written), origin: Origin::Configuration, given, text: None }
    }

    /// Rules that somebody gave.
    pub(crate) fn given(written: WrittenPolicy, text: &str, given: Given) -> Self {
        Self { written: Arc::new(written), origin: Origin::Given, given, text: Some(text.into()) }
    }

    /// The same rules where keys have these labels.
    pub(crate) fn with_labels(&self, labels: &KeysOfLabels) -> Self {
        Self { written: Arc::new(self.written.with_labels(labels.clone())), ..self.clone() }
    }

    /// Whether both say the same. Which labels keys have is no matter of rules.
    pub(crate) fn says_as(&self, written: &WrittenPolicy) -> bool {
        self.written.digest == written.digest
            && self.written.policy.directory().groups == written.policy.directory().groups
    }

    /// What to call them: how many, which, and if they are not the configuration's, that.
    pub(crate) fn said(&self) -> String {
        let whose = match self.origin {
            Origin::Configuration => "",
            Origin::Given => ", given through the admin API",
        };
        format!("{} rules (SHA-256 {}{whose})", self.written.count(), self.written.digest)
    }
}

/// Why rules cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// Those of the configuration are wrong.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// Those given through the admin API cannot be used.
    #[error(transparent)]
    Given(#[from] KeptError),
}

/// What a process puts in force when it starts.
#[derive(Debug)]
pub(crate) struct RuleSources {
    /// The rules of the configuration.
    pub(crate) configured: Rulebook,
    /// Those in place of it.
    pub(crate) given: Option<Rulebook>,
    /// Where the configuration was read, for messages.
    pub(crate) place: PathBuf,
    /// Where rules that are given are kept.
    pub(crate) file: PathBuf,
}

impl RuleSources {
    /// Reads all of it. `labels` are the keys that have each label; `at` says who reads, and when.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(crate) fn read(config: &Config, place: PathBuf, labels: KeysOfLabels, at: Given) -> Result<Self, SourceError> {
        let mut sources = Self::of_configuration(config, place, labels.clone(), at)?;
        let given = kept::read(&sources.file, labels)?;
        sources.given = given.map(|Kept { given, text, written }| Rulebook::given(written, &text, given));
        Ok(sources)
    }

    /// The configuration alone, whatever was given.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(crate) fn of_configuration(
        config: &Config,
        place: PathBuf,
        labels: KeysOfLabels,
        at: Given,
    ) -> Result<Self, ConfigError> {
        let configured = Rulebook::configured(compile_policy(config, labels)?, at);
        Ok(Self { configured, given: None, place, file: config.policy_file() })
    }

    /// The rules in force.
    pub(crate) fn in_force(&self) -> &Rulebook {
        self.given.as_ref().unwrap_or(&self.configured)
    }
}
