//! The reference of every setting as Markdown, made from the catalog and from the lists the reload goes by, so that it
//! says what the program does.

use core::fmt::Write as _;

use toml::{Table, Value};

use super::Config;
use super::catalog::{Catalog, Entry, Kind, Section};
use super::live::{Counts, counts};

/// What stands above the sections.
const HEAD: &str = "# Configuration

Every setting, made by `holdfast config reference`; a test compares. `holdfast config example` prints the same as a file to begin with, `holdfast config schema` as a
JSON schema for editors, `holdfast config validate` what is in force.

A flag beats an environment variable, which beats the file (`--config FILE`, else `holdfast.toml` in the current directory, else `/etc/holdfast/holdfast.toml` if it is there, unless a data directory is named or `holdfast-data` is in the current directory). What is unknown in any of them is an error that names the nearest known
setting. In the environment a list is separated by commas. Secrets are never settings: a setting names the file that holds one, mode 0600.

*Takes effect* says when a running server takes another value: with `holdfast reload` ([how](admin.md#the-configuration-while-all-is-served)), or with a restart. Commands read the configuration each time they run. Files of
TLS that a setting names are read again by themselves when they change.

Sections:";

/// The whole page.
pub(crate) fn markdown() -> String {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let catalog = Catalog::new();
    let mut text = HEAD.to_owned();
    for (number, section) in catalog.sections.iter().enumerate() {
        let title = title(section);
        let anchor: String = title.chars().filter(char::is_ascii_alphanumeric).collect();
        let _ = write!(text, "{} [`{title}`](#{anchor})", if number == 0 { "" } else { "," });
    }
    text.push_str(".\n");
    for section in &catalog.sections {
        let _ = write!(text, "\n## {}\n\n{}\n", title(section), cell(&section.doc));
        let values = section.name.split('.').try_fold(&defaults, |table, name| table.get(name)?.as_table());
        if !section.entries.is_empty() {
            table(&mut text, &section.entries, values, !section.repeats);
        }
        for entry in section.entries.iter().filter(|entry| !entry.tables.is_empty()) {
            let _ = write!(text, "\nEach `[[{}.{}]]`:\n", entry.section, entry.key);
            table(&mut text, &entry.tables, None, false);
        }
    }
    text
}

fn title(section: &Section) -> String {
    if section.repeats { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) }
}

/// The table of some settings. `alone`: they stand once, so that a variable can set them.
fn table(text: &mut String, entries: &[Entry], defaults: Option<&Table>, alone: bool) {
    let (names, line) = if alone { (" environment |", "---|") } else { ("", "") };
    let _ = write!(text, "\n| setting | value | default |{names} takes effect | |\n|---|---|---|{line}---|---|\n");
    for entry in entries {
        let variable = if alone { format!(" `{}` |", entry.variable()) } else { String::new() };
        let when = match counts(&format!("{}.{}", entry.section, entry.key)) {
            Counts::AtOnce => "at once",
            Counts::AfterReload => "reload",
            Counts::AfterRestart => "restart",
        };
        let default = default(defaults.and_then(|values| values.get(&entry.key)));
        let (key, value, doc) = (&entry.key, value(entry), cell(&entry.doc));
        let _ = writeln!(text, "| `{key}` | {value} | {default} |{variable} {when} | {doc} |");
    }
}

fn default(value: Option<&Value>) -> String {
    value.map(|value| format!("`{value}`")).unwrap_or_default()
}

/// What may be set.
fn value(entry: &Entry) -> String {
    let words = entry.choices.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
    match (entry.kind, words.is_empty()) {
        (Kind::List, false) => format!("list of {words}"),
        (_, false) => words,
        (Kind::Text, true) => "text".to_owned(),
        (Kind::Number, true) => "number".to_owned(),
        (Kind::Flag, true) => "`true`, `false`".to_owned(),
        (Kind::List, true) if entry.tables.is_empty() => "list".to_owned(),
        (Kind::List, true) => "list of addresses, or tables".to_owned(),
        (Kind::Numbers, true) => "list of numbers".to_owned(),
        (Kind::Table, true) => "table".to_owned(),
    }
}

/// Text as it can stand in a table: outside of code nothing is taken for markup.
fn cell(text: &str) -> String {
    let mut found = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index > 0 {
            found.push('`');
        }
        let part = part.replace('|', "\\|");
        if index % 2 == 1 {
            found.push_str(&part);
        } else {
            found.push_str(&part.replace('*', "\\*").replace('<', "&lt;").replace('[', "\\["));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    //! Proves: the committed page is what the program says, and nothing is left out of it.
    use super::*;

    #[test]
    fn the_committed_reference_is_current() {
        assert_eq!(
            include_str!("../../../docs/configuration.md"),
            markdown(),
            "run: holdfast config reference > docs/configuration.md"
        );
    }

    #[test]
    fn every_setting_has_a_row_with_its_variable() {
        let text = markdown();
        for section in &Catalog::new().sections {
            let (_, rest) = text.split_once(&format!("\n## {}\n", title(section))).unwrap();
            let rows = rest.split("\n## ").next().unwrap();
            for entry in &section.entries {
                let row = rows.lines().find(|line| line.starts_with(&format!("| `{}` |", entry.key))).unwrap();
                let named = row.contains(&format!("`{}`", entry.variable()));
                assert_eq!(named, !section.repeats, "{row}");
            }
        }
    }

    #[test]
    fn rows_say_values_default_and_when_they_count() {
        let text = markdown();
        let row = |begins: &str| text.lines().find(|line| line.starts_with(begins)).unwrap().to_owned();
        let check = row("| `cross_check` |");
        let said =
            "`\"off\"`, `\"observe\"`, `\"enforce\"` | `\"observe\"` | `HOLDFAST_SWITCHER_CROSS_CHECK` | restart |";
        assert!(check.contains(said), "{check}");
        assert!(row("| `log` |").contains("| `HOLDFAST_TELEMETRY_LOG` | reload |"));
        assert!(row("| `server` |").contains("| at once |"));
        assert!(row("| `each_address` |").contains("| `true`, `false` |  | reload |"));
    }

    #[test]
    fn markup_is_shown_and_not_obeyed() {
        assert_eq!(cell("a <b> | c* `x|y*<z>` [[d]]"), "a &lt;b> \\| c\\* `x\\|y*<z>` \\[\\[d]]");
    }
}
