//! Web3Signer's settings from its file, its environment and its command line.
//!
//! Guarantees: precedence is Web3Signer's; a name it would not start with is refused here, too; values are secret
//! texts, because some are passwords.

use std::collections::BTreeMap;

use holdfast_secret::SecretText;

use super::table::{Meaning, known, known_in_file, known_variable};
use crate::yaml::{YamlError, documents};

/// Settings that are maps, as the file has them.
const TAGS: [&str; 2] = ["eth2.aws-secrets-tag", "eth2.azure-tags"];

/// Where Web3Signer gets its settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// The text of the file given with `--config-file`.
    pub file: Option<&'a str>,
    /// Names and values of its environment. Those that do not begin with `WEB3SIGNER_` are passed over.
    pub environment: &'a [(String, SecretText)],
    /// Its command line, with or without `web3signer` in front.
    pub arguments: &'a [String],
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the file, at this line (from 1).
    File(usize),
    /// In the environment.
    Environment,
    /// On the command line.
    Arguments,
}

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its values: several for a list, none if it is named without one, as a switch may be.
    pub values: Vec<SecretText>,
    /// Where it was given.
    pub origin: Origin,
    /// What it is here.
    pub meaning: Meaning,
}

/// All settings in force, by the name of the option without dashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, Setting>);

/// Why settings are not understood. No variant holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file is not understood.
    #[error("the configuration file is not understood")]
    File(#[source] YamlError),
    /// The file has more than one document.
    #[error("the configuration file has several documents (lines of ---); keep the one that Web3Signer runs with")]
    Documents,
    /// The file has a name that Web3Signer has not.
    #[error(
        "line {line} of the configuration file: Web3Signer has no setting of this name ({name}); it would not start with it"
    )]
    UnknownInFile {
        /// Where.
        line: usize,
        /// The name.
        name: String,
    },
    /// The command line has an option that Web3Signer has not.
    #[error("argument {position}: Web3Signer's consensus half has no such option or argument; check the command line")]
    UnknownArgument {
        /// Which argument, counted from 1. It is not shown: it may be the value of an option.
        position: usize,
    },
    /// An option without its value.
    #[error("--{name} needs a value")]
    NoValue {
        /// The option.
        name: &'static str,
    },
    /// An option given twice.
    #[error("--{name} is given twice; keep the one that holds")]
    Twice {
        /// The option.
        name: &'static str,
    },
    /// A value that is no good.
    #[error("{name} is not {what}; correct it")]
    NotA {
        /// The option.
        name: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// A value that is neither true nor false.
    #[error("{name} is neither true nor false")]
    NotABoolean {
        /// The option.
        name: &'static str,
    },
}

/// Reads the settings in force.
///
/// # Errors
/// [`SettingsError`].
pub fn read(sources: Sources<'_>) -> Result<Settings, SettingsError> {
    let mut settings = Settings::default();
    if let Some(text) = sources.file {
        settings.file(text)?;
    }
    for (name, value) in sources.environment {
        if let Some((name, meaning)) = known_variable(name) {
            let values = vec![value.clone()];
            settings.0.insert(name, Setting { values, origin: Origin::Environment, meaning });
        }
    }
    settings.arguments(sources.arguments)?;
    Ok(settings)
}

impl Settings {
    /// One setting, by the name of its option without dashes.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// Its one value; `None` if it is not set, or a list of several.
    pub fn text(&self, name: &str) -> Option<&SecretText> {
        match self.get(name)?.values.as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    /// A switch; named without a value it is on.
    ///
    /// # Errors
    /// [`SettingsError::NotABoolean`].
    pub fn switch(&self, name: &'static str, default: bool) -> Result<bool, SettingsError> {
        let Some(setting) = self.get(name) else { return Ok(default) };
        match setting.values.as_slice() {
            [] => Ok(true),
            [value] if value.expose().eq_ignore_ascii_case("true") => Ok(true),
            [value] if value.expose().eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(SettingsError::NotABoolean { name }),
        }
    }

    /// All of them, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.0.iter().map(|(name, setting)| (*name, setting))
    }

    fn file(&mut self, text: &str) -> Result<(), SettingsError> {
        let documents = documents(text).map_err(SettingsError::File)?;
        if documents.len() > 1 {
            return Err(SettingsError::Documents);
        }
        for mut entry in documents.into_iter().flatten() {
            // Tags may be written as a map.
            for list in TAGS {
                let Some(tag) = entry.name.strip_prefix(list).and_then(|rest| rest.strip_prefix('.')) else { continue };
                let value = entry.texts.first().map_or("", SecretText::expose);
                entry.texts = vec![SecretText::new(format!("{tag}={value}"))];
                list.clone_into(&mut entry.name);
                break;
            }
            let Some((name, meaning)) = known_in_file(&entry.name) else {
                return Err(SettingsError::UnknownInFile { line: entry.line, name: entry.name });
            };
            let origin = Origin::File(entry.line);
            if TAGS.contains(&entry.name.as_str())
                && let Some(setting) = self.0.get_mut(name)
            {
                setting.values.extend(entry.texts);
                continue;
            }
            if self.0.insert(name, Setting { values: entry.texts, origin, meaning }).is_some() {
                return Err(SettingsError::Twice { name });
            }
        }
        Ok(())
    }

    fn arguments(&mut self, arguments: &[String]) -> Result<(), SettingsError> {
        let mut rest = arguments.iter().zip(1_usize..).peekable();
        let mut seen = Vec::new();
        while let Some((argument, position)) = rest.next() {
            let unknown = SettingsError::UnknownArgument { position };
            // A program's name may have a path; what it runs is its consensus half.
            if argument == "eth2" || (position == 1 && argument.ends_with("web3signer")) {
                continue;
            }
            let option =
                argument.strip_prefix("--").or_else(|| argument.strip_prefix('-').filter(|name| name.starts_with('l')));
            let option = option.ok_or_else(|| unknown.clone())?;
            let (name, inline) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
            let (name, meaning) = known(name).ok_or(unknown)?;
            if seen.contains(&name) {
                return Err(SettingsError::Twice { name });
            }
            seen.push(name);
            let value = match inline {
                Some(value) => Some(value),
                None => rest.next_if(|(next, _)| takes(name, next)).map(|(value, _)| value.as_str()),
            };
            if value.is_none() && !is_switch(name) {
                return Err(SettingsError::NoValue { name });
            }
            let values = value.into_iter().map(SecretText::new).collect();
            self.0.insert(name, Setting { values, origin: Origin::Arguments, meaning });
        }
        Ok(())
    }
}

/// Whether the argument after an option is its value.
fn takes(name: &str, next: &str) -> bool {
    if is_switch(name) {
        return next.eq_ignore_ascii_case("true") || next.eq_ignore_ascii_case("false");
    }
    // A value may begin with a dash, such as a password; an option's name may not be one.
    let option = next.strip_prefix("--").map(|option| option.split_once('=').map_or(option, |(name, _)| name));
    option.and_then(known).is_none()
}

/// Whether an option stands for true when it has no value.
fn is_switch(name: &str) -> bool {
    name.ends_with("-enabled")
        || matches!(name, "tls-allow-any-client" | "tls-allow-ca-clients" | "signer-load-parallel")
        || name == "Xkey-manager-skip-keystore-storage"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arguments(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let file = "http-listen-port: 1\nmetrics-port: 1\neth2.network: hoodi\neth2:\n  slashing-protection-db-password: hunter2\n";
        let environment = [
            ("WEB3SIGNER_HTTP_LISTEN_PORT".to_owned(), SecretText::new("2")),
            ("WEB3SIGNER_METRICS_PORT".to_owned(), SecretText::new("2")),
            ("PATH".to_owned(), SecretText::new("/bin")),
        ];
        let arguments = arguments("/opt/web3signer --http-listen-port=3 eth2 --key-manager-api-enabled --enable-x");
        let sources = Sources { file: Some(file), environment: &environment, arguments: &arguments[..4] };
        let settings = read(sources).unwrap();
        let text = |name| settings.text(name).map(SecretText::expose);
        assert_eq!(text("http-listen-port"), Some("3"));
        assert_eq!(text("metrics-port"), Some("2"));
        assert_eq!(text("network"), Some("hoodi"));
        assert_eq!(settings.switch("key-manager-api-enabled", false), Ok(true));
        assert_eq!(settings.switch("slashing-protection-enabled", true), Ok(true));
        assert_eq!(settings.get("network").map(|one| &one.origin), Some(&Origin::File(3)));
        assert_eq!(settings.iter().count(), 5);
        assert!(!format!("{settings:?}").contains("hunter2"));
        let all = Sources { arguments: &arguments, ..sources };
        assert_eq!(read(all), Err(SettingsError::UnknownArgument { position: 5 }));
    }

    #[test]
    fn what_web3signer_would_not_start_with_is_refused() {
        let file = |text| read(Sources { file: Some(text), ..Sources::default() });
        assert_eq!(file("a: 1\n"), Err(SettingsError::UnknownInFile { line: 1, name: "a".to_owned() }));
        assert_eq!(file("logging: a\n---\nlogging: b\n"), Err(SettingsError::Documents));
        let twice = Err(SettingsError::Twice { name: "key-config-path" });
        assert_eq!(file("key-config-path: a\nkey-store-path: b\n"), twice);
        let line = |text| read(Sources { arguments: &arguments(text), ..Sources::default() });
        assert_eq!(line("--key-config-path a --key-store-path b"), twice);
        assert_eq!(line("eth2 --network --keystores-path=a"), Err(SettingsError::NoValue { name: "network" }));
        assert_eq!(line("eth1 --chain-id 1"), Err(SettingsError::UnknownArgument { position: 1 }));
        let odd = file("eth2.slashing-protection-enabled: maybe\n").unwrap();
        let name = "slashing-protection-enabled";
        assert_eq!(odd.switch(name, true), Err(SettingsError::NotABoolean { name }));
    }

    #[test]
    fn a_switch_takes_only_true_or_false_and_a_password_may_begin_with_a_dash() {
        let line = "--metrics-enabled false eth2 --slashing-protection-db-password --hunter2 --network=hoodi";
        let settings = read(Sources { arguments: &arguments(line), ..Sources::default() }).unwrap();
        assert_eq!(settings.switch("metrics-enabled", true), Ok(false));
        assert_eq!(settings.text("slashing-protection-db-password").map(SecretText::expose), Some("--hunter2"));
        assert_eq!(settings.text("network").map(SecretText::expose), Some("hoodi"));
    }

    proptest! {
        #[test]
        fn any_command_line_is_read_or_refused(
            arguments in prop::collection::vec("\\PC{0,12}|--(network|metrics-enabled|l|logging)(=x)?|eth2|-l", 0..8),
        ) {
            let _ = read(Sources { arguments: &arguments, ..Sources::default() });
        }

        #[test]
        fn the_order_of_options_does_not_matter(swap in any::<bool>(), port in 1_u16..) {
            let (a, b) = (format!("--http-listen-port={port}"), "--network=hoodi".to_owned());
            let arguments = if swap { [b, a] } else { [a, b] };
            let settings = read(Sources { arguments: &arguments, ..Sources::default() }).unwrap();
            let text = settings.text("http-listen-port").map(|text| text.expose().to_owned());
            prop_assert_eq!(text, Some(port.to_string()));
        }
    }
}
