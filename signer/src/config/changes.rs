//! What differs between two configurations, setting by setting, as they print: secrets are never shown.

use toml::{Table, Value};

use super::Config;

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its name, as `section.key`.
    pub(crate) setting: String,
    /// Its value before; "-" if it had none.
    pub(crate) old: String,
    /// Its value now; "-" if it has none.
    pub(crate) new: String,
}

impl Config {
    /// Every setting that prints differently in `new`, by name. Two values that differ in what is secret only are the
    /// same here, as they print the same.
    ///
    /// # Errors
    /// A value that TOML has no form for, which is a bug.
    pub(crate) fn changes(&self, new: &Self) -> Result<Vec<Change>, toml::ser::Error> {
        let mut found = Vec::new();
        compare("", &Table::try_from(self)?, &Table::try_from(new)?, &mut found);
        Ok(found)
    }
}

fn compare(within: &str, old: &Table, new: &Table, found: &mut Vec<Change>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let setting = if within.is_empty() { key.clone() } else { format!("{within}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => compare(&setting, old, new, found),
            (old, new) if old != new => {
                let shown = |value: Option<&Value>| value.map_or_else(|| "-".to_owned(), Value::to_string);
                found.push(Change { setting, old: shown(old), new: shown(new) });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what differs is named with both values, and no secret among them.
    use super::*;

    #[test]
    fn every_change_is_named_with_both_values() {
        let mut new = Config::default();
        assert_eq!(Config::default().changes(&new).unwrap(), []);
        new.telemetry.log = "debug".to_owned();
        new.http.tls.certificate = Some("/c".into());
        let changes = Config::default().changes(&new).unwrap();
        let told: Vec<_> =
            changes.iter().map(|one| (one.setting.as_str(), one.old.as_str(), one.new.as_str())).collect();
        assert_eq!(told, [("http.tls.certificate", "-", "\"/c\""), ("telemetry.log", "\"info\"", "\"debug\"")]);
        let back = new.changes(&Config::default()).unwrap();
        assert_eq!((back[0].old.as_str(), back[0].new.as_str()), ("\"/c\"", "-"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut new = Config::default();
        new.network.beacon = vec!["http://u:hunter2@node:5052/?k=hunter2".parse().unwrap()];
        let changes = Config::default().changes(&new).unwrap();
        assert_eq!(changes[0].setting, "network.beacon");
        assert!(changes[0].new.contains("node:5052") && !format!("{changes:?}").contains("hunter2"), "{changes:?}");
    }
}
