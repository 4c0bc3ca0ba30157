//! The list of everything that can be set, made from the schema of [`Config`]: names, types and
//! documentation for the example file, for environment variables and for suggestions.

use schemars::{Schema, generate::SchemaSettings};
use serde_json::Value;

use super::Config;

/// How the text of an environment variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// true or false.
    Flag,
    /// A list of texts, separated by commas.
    List,
    /// A list of whole numbers, separated by commas.
    Numbers,
    /// A table of texts by name: in tables only, which no variable can set.
    Table,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Section of the file.
    pub(crate) section: String,
    /// Key in the section.
    pub(crate) key: String,
    /// The sentence that documents it.
    pub(crate) doc: String,
    /// Type.
    pub(crate) kind: Kind,
    /// The words it may be, if they are few.
    pub(crate) choices: Vec<String>,
    /// What each table of the list may hold, where it may be a list of tables.
    pub(crate) tables: Vec<Entry>,
}

impl Entry {
    /// The name of the environment variable.
    pub(crate) fn variable(&self) -> String {
        let section = self.section.replace('.', "_").to_ascii_uppercase();
        format!("HOLDFAST_{section}_{}", self.key.to_ascii_uppercase())
    }
}

/// One section of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// Its name: `http`, or `http.tls` for one within another.
    pub(crate) name: String,
    /// The sentence that documents it.
    pub(crate) doc: String,
    /// Whether there can be several, as `[[callers]]`.
    pub(crate) repeats: bool,
    /// Its settings, by name.
    pub(crate) entries: Vec<Entry>,
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Catalog {
    /// The sections, by name.
    pub(crate) sections: Vec<Section>,
}

/// The JSON schema of the configuration file, with no references inside.
pub(super) fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>()
}

impl Catalog {
    /// Reads the schema.
    pub(crate) fn new() -> Self {
        let schema = schema();
        let mut sections = Vec::new();
        for (name, section) in properties(schema.as_value()) {
            add(&mut sections, name, section);
        }
        Self { sections }
    }

    /// A section by name.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The setting an environment variable stands for.
    pub(crate) fn variable(&self, name: &str) -> Option<&Entry> {
        self.entries().find(|entry| entry.variable() == name)
    }

    /// All settings that stand once in a configuration.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.sections.iter().filter(|section| !section.repeats).flat_map(|section| &section.entries)
    }
}

/// Adds a section, and after it those within it.
fn add(sections: &mut Vec<Section>, name: &str, schema: &Value) {
    let items = schema.get("items");
    let repeats = items.is_some();
    let (within, entries): (Vec<_>, Vec<_>) =
        properties(items.unwrap_or(schema)).partition(|(_, value)| value.get("properties").is_some());
    let entries = entries.into_iter().map(|(key, value)| entry(name, key, value)).collect();
    sections.push(Section { name: name.to_owned(), doc: doc(schema), repeats, entries });
    for (key, value) in within {
        add(sections, &format!("{name}.{key}"), value);
    }
}

fn entry(section: &str, key: &str, schema: &Value) -> Entry {
    let within = format!("{section}.{key}");
    let alternatives = schema.pointer("/items/anyOf").and_then(Value::as_array).into_iter().flatten();
    let tables = alternatives.flat_map(properties).map(|(key, value)| entry(&within, key, value)).collect();
    Entry {
        section: section.to_owned(),
        key: key.to_owned(),
        doc: doc(schema),
        kind: kind(schema),
        choices: choices(schema),
        tables,
    }
}

/// The words that a value, or each one of a list, may be.
fn choices(schema: &Value) -> Vec<String> {
    let list = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let consts = list("oneOf").filter_map(|one| word(one.get("const")?));
    let mut found: Vec<String> = consts.chain(list("enum").filter_map(word)).collect();
    if found.is_empty() {
        found = list("anyOf").chain(schema.get("items")).flat_map(choices).collect();
    }
    found
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn doc(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ")
}

fn kind(schema: &Value) -> Kind {
    let is = |word: &str| match schema.get("type") {
        Some(Value::String(name)) => name == word,
        Some(Value::Array(names)) => names.iter().any(|name| name == word),
        _ => false,
    };
    if is("object") {
        Kind::Table
    } else if is("integer") {
        Kind::Number
    } else if is("boolean") {
        Kind::Flag
    } else if is("array") {
        let items = schema.pointer("/items/type").and_then(Value::as_str);
        if items == Some("integer") { Kind::Numbers } else { Kind::List }
    } else {
        Kind::Text
    }
}

/// The candidate that was most probably meant, if any is near enough.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_and_section_is_documented() {
        let catalog = Catalog::new();
        assert!(catalog.sections.len() >= 9, "{catalog:?}");
        for section in &catalog.sections {
            assert!(section.doc.ends_with('.'), "section {} has no documentation", section.name);
            assert!(!section.name.contains('_'), "{} would make variables ambiguous", section.name);
            for entry in &section.entries {
                assert!(entry.doc.len() > 10, "{}.{} has no documentation", section.name, entry.key);
            }
        }
    }

    #[test]
    fn kinds_follow_the_types() {
        let catalog = Catalog::new();
        let kind = |name: &str| catalog.variable(name).map(|entry| entry.kind);
        assert_eq!(kind("HOLDFAST_HTTP_LISTEN"), Some(Kind::Text));
        assert_eq!(kind("HOLDFAST_HTTP_MAX_BODY_BYTES"), Some(Kind::Number));
        assert_eq!(kind("HOLDFAST_NETWORK_GENESIS_TIME"), Some(Kind::Number));
        assert_eq!(kind("HOLDFAST_SIGNING_THREADS"), Some(Kind::Number));
        assert_eq!(kind("HOLDFAST_HTTP_ALLOWED_HOSTS"), Some(Kind::List));
        assert_eq!(kind("HOLDFAST_NETWORK_BEACON"), Some(Kind::List));
        assert_eq!(kind("HOLDFAST_KEYMANAGER_ENABLED"), Some(Kind::Flag));
        assert_eq!(kind("HOLDFAST_DATABASE_URL"), Some(Kind::Text));
        assert_eq!(kind("HOLDFAST_KEYS_PROVIDER"), Some(Kind::List));
        assert_eq!(kind("HOLDFAST_TPM_PCRS"), Some(Kind::Numbers));
        assert_eq!(kind("HOLDFAST_POLICY_NAME"), None, "there are several");
        assert!(catalog.section("policy").is_some_and(|section| section.repeats && section.entries.len() == 10));
        assert_eq!(kind("HOLDFAST_HTTP_TLS_CERTIFICATE"), Some(Kind::Text));
        assert_eq!(kind("HOLDFAST_CALLERS_NAME"), None, "there are several");
        assert!(catalog.section("callers").is_some_and(|section| section.repeats && section.entries.len() == 6));
    }

    #[test]
    fn choices_and_tables_are_found() {
        let catalog = Catalog::new();
        let choices = |name: &str| catalog.variable(name).map(|entry| entry.choices.clone());
        assert_eq!(choices("HOLDFAST_SWITCHER_CROSS_CHECK").unwrap(), ["off", "observe", "enforce"]);
        assert!(choices("HOLDFAST_KEYS_PROVIDER").unwrap().contains(&"tpm".to_owned()));
        assert!(choices("HOLDFAST_DATABASE_URL").unwrap().is_empty());
        let upstream = catalog.variable("HOLDFAST_SWITCHER_UPSTREAM").unwrap();
        let roles = upstream.tables.iter().find(|entry| entry.key == "roles").unwrap();
        assert!(roles.section == "switcher.upstream" && roles.choices.contains(&"proposal".to_owned()), "{roles:?}");
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("listn", ["listen", "max_requests"]), Some("listen"));
        assert_eq!(nearest("zzz", ["listen", "max_requests"]), None);
    }
}
