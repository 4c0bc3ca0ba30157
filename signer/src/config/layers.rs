//! From layers to one [`Config`]: flag over environment over file over default.
//!
//! Each layer is checked by itself before it is laid over the others, so that a message names the
//! place where the mistake was made.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::catalog::{Catalog, Kind, Section, nearest};
use super::data::DEFAULT_DATA_DIR;
use super::{Config, ConfigError, DEFAULT_CONFIG_FILE, policy};

/// All variables start with this.
const PREFIX: &str = "HOLDFAST_";

/// Names the configuration file, as `--config` does.
const CONFIG_VARIABLE: &str = "HOLDFAST_CONFIG";

/// The environment, read once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process that start with `HOLDFAST_` and are not empty.
    pub(crate) fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, OsString::into_string(value).ok()?)))
            .collect()
    }

    /// Whether it says where the data directory is.
    pub(crate) fn names_data_dir(&self) -> bool {
        self.0.contains_key("HOLDFAST_DATA_DIR")
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty()).collect())
    }
}

/// A setting given as a flag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FlagValue {
    /// The flag, for messages: `--http-listen`.
    pub(crate) flag: &'static str,
    /// Section of the setting it sets.
    pub(crate) section: &'static str,
    /// Key of the setting it sets.
    pub(crate) key: &'static str,
    /// Its value.
    pub(crate) value: Value,
}

/// What the layers are made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    /// The file named with `--config`. Without it `./holdfast.toml` is read if it is there.
    pub(crate) file: Option<PathBuf>,
    /// The file that is read if neither is there, and this one is.
    pub(crate) system: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: Environment,
    /// The flags.
    pub(crate) flags: Vec<FlagValue>,
}

/// Reads, checks and merges all layers.
///
/// # Errors
/// [`ConfigError`] naming the layer and place of the first mistake.
pub(crate) fn load(layers: &Layers) -> Result<Config, ConfigError> {
    let catalog = Catalog::new();
    let (mut merged, rules, file) = file_layer(layers, &catalog)?;
    for (name, text) in &layers.environment.0 {
        if let Some((section, key, value)) = variable(name, text, &catalog)? {
            set(&mut merged, &section, &key, value, || format!("environment variable {name}"))?;
        }
    }
    for flag in &layers.flags {
        set(&mut merged, flag.section, flag.key, flag.value.clone(), || flag.flag.to_owned())?;
    }
    let mut config = Config::deserialize(merged)
        .map_err(|error| ConfigError::Value { origin: "configuration".to_owned(), problem: error.to_string() })?;
    config.file = file;
    for (rule, line) in config.policy.iter_mut().zip(rules) {
        rule.line = line;
    }
    config.check()?;
    Ok(config)
}

/// The file that was named.
fn named(layers: &Layers) -> Option<PathBuf> {
    layers.file.clone().or_else(|| layers.environment.0.get(CONFIG_VARIABLE).map(PathBuf::from))
}

/// The file that is read, and what to call it in messages: the one named, else the usual one, else the system's if only
/// that is there.
pub(crate) fn place_of_file(layers: &Layers) -> PathBuf {
    named(layers).unwrap_or_else(|| {
        let of_system = layers.system.as_ref().filter(|system| !is_begun(Path::new(".")) && system.exists());
        of_system.cloned().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG_FILE))
    })
}

/// Whether somebody began in this directory: with a file, or with a signer that needs none.
fn is_begun(here: &Path) -> bool {
    here.join(DEFAULT_CONFIG_FILE).exists() || here.join(DEFAULT_DATA_DIR).exists()
}

/// The settings of the file, the lines where the rules of the policy begin, and the file if there is one.
fn file_layer(layers: &Layers, catalog: &Catalog) -> Result<(Table, Vec<usize>, Option<PathBuf>), ConfigError> {
    let path = place_of_file(layers);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let (table, rules) = parse_file(&path, &text, catalog)?;
            Ok((table, rules, Some(path)))
        }
        Err(error) if named(layers).is_none() && error.kind() == ErrorKind::NotFound => {
            Ok((Table::new(), Vec::new(), None))
        }
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

/// Parses the file's text; `path` is for messages.
fn parse_file(path: &Path, text: &str, catalog: &Catalog) -> Result<(Table, Vec<usize>), ConfigError> {
    let at = |offset: usize, problem: String| ConfigError::File {
        path: path.to_owned(),
        line: line_of(text, offset),
        problem,
    };
    let broken = |error: &toml::de::Error| at(error.span().map_or(0, |span| span.start), error.message().to_owned());
    let document = DeTable::parse(text).map_err(|error| broken(&error))?;
    unknown_keys(path, text, document.get_ref(), catalog)?;
    let config = toml::from_str::<Config>(text).map_err(|error| broken(&error))?;
    if let Some((offset, problem)) = policy::problem_in(document.get_ref(), &config) {
        return Err(at(offset, problem));
    }
    let rules = policy::places(document.get_ref()).into_iter().map(|offset| line_of(text, offset)).collect();
    Ok((text.parse::<Table>().map_err(|error| broken(&error))?, rules))
}

fn unknown_keys(path: &Path, text: &str, document: &DeTable<'_>, catalog: &Catalog) -> Result<(), ConfigError> {
    let unknown = |offset: usize, what, name: &str, near: Option<String>| ConfigError::Unknown {
        place: format!("{}:{}", path.display(), line_of(text, offset)),
        what,
        name: name.to_owned(),
        near,
    };
    for (name, body) in document {
        let Some(section) = catalog.section(name.get_ref()) else {
            let is_table = matches!(body.get_ref(), DeValue::Table(_));
            let near = if is_table {
                nearest(name.get_ref(), catalog.sections.iter().map(|section| section.name.as_str())).map(str::to_owned)
            } else {
                nearest_entry(name.get_ref(), catalog)
            };
            let what = if is_table { "section" } else { "key" };
            return Err(unknown(name.span().start, what, name.get_ref(), near));
        };
        if let Some((offset, full, near)) = unknown_in(section, body.get_ref(), catalog) {
            return Err(unknown(offset, "key", &full, near));
        }
    }
    Ok(())
}

/// The first unknown key of a section, of one within it, or of one of several: where it is, its full name, and what
/// was probably meant.
pub(super) fn unknown_in(
    section: &Section,
    body: &DeValue<'_>,
    catalog: &Catalog,
) -> Option<(usize, String, Option<String>)> {
    let body = match body {
        DeValue::Table(body) => body,
        DeValue::Array(all) if section.repeats => {
            return all.iter().find_map(|one| unknown_in(section, one.get_ref(), catalog));
        }
        // The type is wrong, which is told with it.
        _ => return None,
    };
    body.iter().find_map(|(key, value)| {
        let full = format!("{}.{}", section.name, key.get_ref());
        if let Some(within) = catalog.section(&full) {
            return unknown_in(within, value.get_ref(), catalog);
        }
        if section.entries.iter().any(|entry| entry.key == *key.get_ref()) {
            return None;
        }
        let near = nearest(key.get_ref(), section.entries.iter().map(|entry| entry.key.as_str()))
            .map(|near| format!("{}.{near}", section.name))
            .or_else(|| nearest_entry(key.get_ref(), catalog));
        Some((key.span().start, full, near))
    })
}

/// The setting in any section whose key is nearest to `name`.
fn nearest_entry(name: &str, catalog: &Catalog) -> Option<String> {
    let key = nearest(name, catalog.entries().map(|entry| entry.key.as_str()))?;
    catalog.entries().find(|entry| entry.key == key).map(|entry| format!("{}.{}", entry.section, entry.key))
}

/// What a variable sets; `None` for one that is none of ours.
fn variable(name: &str, text: &str, catalog: &Catalog) -> Result<Option<(String, String, Value)>, ConfigError> {
    if name == CONFIG_VARIABLE {
        return Ok(None);
    }
    let Some(entry) = catalog.variable(name) else {
        let variables: Vec<String> = catalog.entries().map(super::catalog::Entry::variable).collect();
        let near = nearest(name, variables.iter().map(String::as_str));
        let ours = catalog.sections.iter().any(|section| {
            let section = section.name.to_ascii_uppercase();
            name.strip_prefix(PREFIX)
                .and_then(|rest| rest.strip_prefix(&section))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        });
        // Variables with another beginning belong to tests and tools, unless they differ from one of ours by a slip.
        let slip = near.is_some_and(|near| strsim::damerau_levenshtein(name, near) <= 2);
        if !ours && !slip {
            return Ok(None);
        }
        return Err(ConfigError::Unknown {
            place: "environment".to_owned(),
            what: "variable",
            name: name.to_owned(),
            near: near.map(str::to_owned),
        });
    };
    let value = match entry.kind {
        Kind::Text | Kind::Table => Value::String(text.to_owned()),
        Kind::Number => whole_number(name, text)?,
        Kind::Flag => Value::Boolean(text.trim().parse().map_err(|_| ConfigError::Value {
            origin: format!("environment variable {name}"),
            problem: format!("expected true or false, found {text:?}"),
        })?),
        Kind::List => Value::Array(items(text).map(|item| Value::String(item.to_owned())).collect()),
        Kind::Numbers => Value::Array(items(text).map(|item| whole_number(name, item)).collect::<Result<_, _>>()?),
    };
    Ok(Some((entry.section.clone(), entry.key.clone(), value)))
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn whole_number(name: &str, text: &str) -> Result<Value, ConfigError> {
    text.trim().parse().map(Value::Integer).map_err(|_| ConfigError::Value {
        origin: format!("environment variable {name}"),
        problem: format!("expected a whole number, found {text:?}"),
    })
}

/// Lays one value over `merged`, after checking it alone.
fn set(
    merged: &mut Table,
    section: &str,
    key: &str,
    value: Value,
    origin: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    let leaf = Table::from_iter([(key.to_owned(), value.clone())]);
    let within = |inner, name: &str| Table::from_iter([(name.to_owned(), Value::Table(inner))]);
    let alone = section.rsplit('.').fold(leaf, within);
    if let Err(error) = Config::deserialize(alone) {
        return Err(ConfigError::Value { origin: origin(), problem: error.message().to_owned() });
    }
    let mut body = merged;
    for name in section.split('.') {
        let next = body.entry(name.to_owned()).or_insert_with(|| Value::Table(Table::new()));
        // Anything else was refused when the file was read.
        let Value::Table(next) = next else { return Ok(()) };
        body = next;
    }
    body.insert(key.to_owned(), value);
    Ok(())
}

/// Line of a byte offset, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::num::NonZeroUsize;

    use super::*;
    use crate::config::NetworkChoice;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holdfast.toml");
        std::fs::File::create(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .unwrap();
        load(&Layers { file: Some(path), ..Layers::default() })
    }

    fn message(result: Result<Config, ConfigError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn without_layers_the_defaults_hold() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.toml");
        std::fs::File::create(&empty).unwrap();
        let config = load(&Layers { file: Some(empty.clone()), ..Layers::default() }).unwrap();
        assert_eq!(config, Config { file: Some(empty), ..Config::default() });
    }

    #[test]
    fn the_systems_file_is_read_where_no_other_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            path
        };
        let system = file("system.toml", "[signing]\nthreads = 3\n");
        let own = file("own.toml", "[signing]\nthreads = 5\n");
        // No test has a holdfast.toml in its working directory.
        let layers = Layers { system: Some(system.clone()), ..Layers::default() };
        let config = load(&layers).unwrap();
        assert_eq!((config.signing.threads.map(NonZeroUsize::get), config.file), (Some(3), Some(system.clone())));
        assert_eq!(place_of_file(&layers), system);
        let named = load(&Layers { file: Some(own.clone()), ..layers.clone() }).unwrap();
        assert_eq!((named.signing.threads.map(NonZeroUsize::get), named.file), (Some(5), Some(own)));
        let nowhere = Layers { system: Some(dir.path().join("nothing")), ..Layers::default() };
        assert_eq!(load(&nowhere).unwrap().file, None);
        assert_eq!(place_of_file(&nowhere), PathBuf::from(DEFAULT_CONFIG_FILE));
    }

    #[test]
    fn a_file_or_the_usual_data_directory_makes_a_place_ones_own() {
        let begun = [DEFAULT_CONFIG_FILE, DEFAULT_DATA_DIR].map(|name| {
            let here = tempfile::tempdir().unwrap();
            assert!(!is_begun(here.path()));
            std::fs::create_dir(here.path().join(name)).unwrap();
            is_begun(here.path())
        });
        assert_eq!(begun, [true, true]);
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::File::create(&path)
            .and_then(|mut file| {
                std::io::Write::write_all(
                    &mut file,
                    b"[http]\nlisten = \"127.0.0.1:1\"\nmax_requests = 7\n[metrics]\nlisten = \"127.0.0.1:2\"\n",
                )
            })
            .unwrap();
        let mut layers = Layers { file: Some(path), ..Layers::default() };
        assert_eq!(load(&layers).unwrap().http.listen.port(), 1);
        layers.environment =
            environment(&[("HOLDFAST_HTTP_LISTEN", "127.0.0.1:3"), ("HOLDFAST_HTTP_MAX_REQUESTS", "9")]);
        assert_eq!(load(&layers).unwrap().http.listen.port(), 3);
        layers.flags.push(FlagValue {
            flag: "--http-listen",
            section: "http",
            key: "listen",
            value: Value::String("127.0.0.1:4".to_owned()),
        });
        let config = load(&layers).unwrap();
        assert_eq!(config.http.listen.port(), 4);
        assert_eq!(config.http.max_requests.get(), 9);
        assert_eq!(config.metrics.listen.port(), 2);
        assert_eq!(config.signing, Config::default().signing);
    }

    #[test]
    fn an_unknown_key_is_an_error_with_line_and_suggestion() {
        let error = message(from_file("[http]\n\nlistn = \"127.0.0.1:9000\"\n"));
        assert!(error.contains("holdfast.toml:3") && error.contains("did you mean `http.listen`?"), "{error}");
        let error = message(from_file("[htp]\nlisten = \"127.0.0.1:9000\"\n"));
        assert!(error.contains("unknown section `htp`, did you mean `http`?"), "{error}");
        let error = message(from_file("listen = \"127.0.0.1:9000\"\n"));
        assert!(error.contains("unknown key `listen`") && error.contains(".listen`?"), "{error}");
        let error = message(from_file("[slashing]\nenabled = false\n"));
        assert!(error.contains("unknown key `slashing.enabled`"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_an_error_with_its_line() {
        let error = message(from_file("[http]\nmax_requests = 0\n"));
        assert!(error.contains("holdfast.toml:2"), "{error}");
        let error = message(from_file("[network]\nname = \"hodi\"\n"));
        assert!(error.contains(":2") && error.contains("did you mean hoodi?"), "{error}");
        let error = message(from_file("[http\n"));
        assert!(error.contains("holdfast.toml:1"), "{error}");
    }

    #[test]
    fn an_unknown_variable_is_an_error_with_a_suggestion() {
        for (name, near) in [
            ("HOLDFAST_HTTP_LISTN", "HOLDFAST_HTTP_LISTEN"),
            ("HOLDFAST_NETWORK", "HOLDFAST_NETWORK_NAME"),
            ("HOLDFAST_HTPP_LISTEN", "HOLDFAST_HTTP_LISTEN"),
        ] {
            let layers = Layers { environment: environment(&[(name, "x")]), ..Layers::default() };
            let error = message(load(&layers));
            assert!(error.contains(name) && error.contains(near), "{error}");
        }
    }

    #[test]
    fn variables_of_tests_and_empty_ones_are_left_alone() {
        let layers = Layers {
            environment: environment(&[
                ("HOLDFAST_VECTORS", "/x"),
                ("HOLDFAST_BIN", "/y"),
                ("HOLDFAST_HTTP_LISTEN", ""),
            ]),
            ..Layers::default()
        };
        assert_eq!(load(&layers).unwrap(), Config::default());
    }

    #[test]
    fn variables_are_parsed_by_type() {
        let layers = Layers {
            environment: environment(&[
                ("HOLDFAST_HTTP_ALLOWED_HOSTS", "a, b,"),
                ("HOLDFAST_NETWORK_NAME", "hoodi"),
                ("HOLDFAST_SIGNING_THREADS", "3"),
            ]),
            ..Layers::default()
        };
        let config = load(&layers).unwrap();
        assert_eq!(config.http.allowed_hosts, ["a", "b"]);
        assert_eq!(config.network.name, NetworkChoice::Builtin("hoodi"));
        assert_eq!(config.signing.threads.map(std::num::NonZeroUsize::get), Some(3));
        let layers = Layers { environment: environment(&[("HOLDFAST_SIGNING_THREADS", "many")]), ..Layers::default() };
        assert!(message(load(&layers)).contains("HOLDFAST_SIGNING_THREADS: expected a whole number"));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let layers = Layers { file: Some(PathBuf::from("/nonexistent/holdfast.toml")), ..Layers::default() };
        assert!(message(load(&layers)).contains("/nonexistent/holdfast.toml"));
    }

    #[test]
    fn a_listener_that_others_reach_needs_authentication() {
        let open = "[http]\nlisten = \"0.0.0.0:9000\"\n";
        let guarded = |text: &str| from_file(text).unwrap().check_signing_api(false);
        let error = guarded(open).unwrap_err().to_string();
        for part in ["no authentication", "127.0.0.1:9000", "holdfast callers add", "http.allow_unauthenticated = true"]
        {
            assert!(error.contains(part), "{error}");
        }
        let certificate = "[http.tls]\ncertificate = \"c\"\n";
        assert!(guarded(&format!("{open}{certificate}")).is_err(), "TLS hides, it does not say who asks");
        assert!(guarded(&format!("{open}allow_unauthenticated = true\n")).is_ok());
        assert!(from_file(open).unwrap().check_signing_api(true).is_ok(), "there are callers");
        assert!(guarded(&format!("{open}{certificate}client_ca = \"ca\"\n")).is_ok());
        let pool = "[switcher]\nenabled = true\nlisten = \"0.0.0.0:5052\"\nupstream = [\"http://n:1\"]\n";
        assert!(message(from_file(pool)).contains("switcher.tls"));
        assert!(from_file(&format!("{pool}[[callers]]\nname = \"vc-1\"\n")).is_err(), "callers are not asked there");
        let asked = "[switcher.tls]\ncertificate = \"c\"\nclient_ca = \"ca\"\n";
        assert!(from_file(&format!("{pool}{asked}")).is_ok());
        assert!(from_file(&format!("{pool}{asked}client_auth = \"optional\"\n")).is_err());
    }

    #[test]
    fn sections_within_sections() {
        let error = message(from_file("[http.tls]\n\ncertifcate = \"c\"\n"));
        assert!(error.contains("holdfast.toml:3") && error.contains("did you mean `http.tls.certificate`?"), "{error}");
        let error = message(from_file("[[callers]]\nname = \"a\"\nunix_uid = [1]\n"));
        assert!(error.contains(":3") && error.contains("did you mean `callers.unix_uids`?"), "{error}");
        let error = message(from_file("[[callers]]\nname = \"a b\"\n"));
        assert!(error.contains("callers") && error.contains("no name"), "{error}");
        let variables = [("HOLDFAST_HTTP_TLS_CERTIFICATE", "/c"), ("HOLDFAST_HTTP_TLS_MIN_VERSION", "1.3")];
        let config = load(&Layers { environment: environment(&variables), ..Layers::default() }).unwrap();
        assert_eq!(config.http.tls.certificate.as_deref(), Some(Path::new("/c")));
        assert_eq!(config.http.tls.min_version, crate::config::MinVersion::Tls13);
        let wrong = environment(&[("HOLDFAST_HTTP_TLS_MIN_VERSION", "1.1")]);
        let error = message(load(&Layers { environment: wrong, ..Layers::default() }));
        assert!(error.contains("HOLDFAST_HTTP_TLS_MIN_VERSION"), "{error}");
    }
}
