//! What differs between two configurations, setting by setting, as they print: secrets are never shown.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::Config;

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its name, as `section.key`; of an entry of a list `section.list[name]`, and `section.list[name].key`.
    pub(crate) setting: String,
    /// Its value before; "-" if it had none.
    pub(crate) old: String,
    /// Its value now; "-" if it has none.
    pub(crate) new: String,
}

impl Change {
    /// Whether it is of this section or setting, or within it.
    pub(crate) fn is_within(&self, setting: &str) -> bool {
        super::live::is_within(&self.setting, setting)
    }
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
            (old, new) if old == new => {}
            (old, new) => match (named(old), named(new)) {
                (Some(old), Some(new)) => compare_lists(&setting, &old, &new, found),
                _ => found.push(change(setting, old, new)),
            },
        }
    }
}

fn change(setting: String, old: Option<&Value>, new: Option<&Value>) -> Change {
    let shown = |value: Option<&Value>| value.map_or_else(|| "-".to_owned(), Value::to_string);
    Change { setting, old: shown(old), new: shown(new) }
}

/// A list of tables, each by its name, or by its address if it has none; a list that is not there has none. `None` for other
/// values, and where two have one name.
fn named(list: Option<&Value>) -> Option<Vec<(&str, &Table)>> {
    let Some(list) = list else { return Some(Vec::new()) };
    let all: Vec<_> = list.as_array()?.iter().map(name).collect::<Option<_>>()?;
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
    (names.len() == all.len()).then_some(all)
}

fn name(item: &Value) -> Option<(&str, &Table)> {
    let table = item.as_table()?;
    let name = table.get("name").or_else(|| table.get("url"))?;
    Some((name.as_str()?, table))
}

/// Entry by entry: what is gone, what is changed in those that stay, what is new, and another order.
fn compare_lists(setting: &str, old: &[(&str, &Table)], new: &[(&str, &Table)], found: &mut Vec<Change>) {
    let entry = |list: &[(&str, &Table)], name: &str| {
        list.iter().find(|(other, _)| *other == name).map(|(_, table)| Value::Table((*table).clone()))
    };
    let added = new.iter().filter(|(name, _)| entry(old, name).is_none());
    for (name, _) in old.iter().chain(added) {
        let one = format!("{setting}[{name}]");
        match (entry(old, name), entry(new, name)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => compare(&one, &old, &new, found),
            (old, new) => found.push(change(one, old.as_ref(), new.as_ref())),
        }
    }
    let order = |list: &[(&str, &Table)], other: &[(&str, &Table)]| -> Vec<Value> {
        let stays = list.iter().filter(|(name, _)| entry(other, name).is_some());
        stays.map(|(name, _)| Value::String((*name).to_owned())).collect()
    };
    let (before, after) = (Value::Array(order(old, new)), Value::Array(order(new, old)));
    if before != after {
        found.push(change(format!("{setting} (order)"), Some(&before), Some(&after)));
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

    #[test]
    fn lists_are_compared_by_name() {
        let callers =
            |text: &str| Config { callers: toml::from_str::<Config>(text).unwrap().callers, ..Config::default() };
        let entry = |name: &str, uid: u32| format!("[[callers]]\nname = \"{name}\"\nunix_uids = [{uid}]\n");
        let one = callers(&entry("a", 1));
        let told = |old: &Config, new: &Config| -> Vec<String> {
            let all = old.changes(new).unwrap();
            all.iter().map(|one| format!("{}: {} -> {}", one.setting, one.old, one.new)).collect()
        };
        let two = callers(&(entry("b", 2) + &entry("a", 3)));
        assert_eq!(
            told(&one, &two),
            ["callers[a].unix_uids: [1] -> [3]", "callers[b]: - -> { name = \"b\", unix_uids = [2] }"]
        );
        assert_eq!(
            told(&two, &callers(&(entry("a", 3) + &entry("b", 2)))),
            ["callers (order): [\"b\", \"a\"] -> [\"a\", \"b\"]"]
        );
        assert_eq!(told(&one, &Config::default()), ["callers[a]: { name = \"a\", unix_uids = [1] } -> -"]);
        let changes = one.changes(&two).unwrap();
        assert!(changes.iter().all(|one| one.is_within("callers") && !one.is_within("call")));
        // Rules need no name: they are shown as a whole.
        let rules = "[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\n";
        let rules = Config { policy: toml::from_str::<Config>(rules).unwrap().policy, ..Config::default() };
        assert_eq!(rules.changes(&Config::default()).unwrap().len(), 1);
    }
}
