//! What each setting in force is here, and the configuration file that follows from all of them.
//!
//! Guarantees: every setting has its line; of the values only those are shown that are settings here, none of which is
//! a secret. What is written is TOML whatever the values are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use holdfast_secret::SecretText;

use super::settings::{Origin, Setting, Settings, SettingsError};
use super::table::Meaning;

/// Networks that both know by name.
const NETWORKS: [&str; 6] = ["mainnet", "sepolia", "holesky", "hoodi", "gnosis", "chiado"];

/// Where Web3Signer listens if nothing says otherwise.
const DEFAULT_HOST: &str = "127.0.0.1";
const HTTP_PORT: &str = "9000";
const METRICS_PORT: &str = "9001";

/// What one setting is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Becomes {
    /// This setting, with this value in TOML.
    Setting {
        /// Section and key.
        setting: &'static str,
        /// The value, quoted if it is a text.
        value: String,
    },
    /// Read by the migration itself.
    Migration,
    /// Nothing has to be done, because of this.
    Nothing(&'static str),
    /// Nothing here is the same; this is what to do.
    ByHand(&'static str),
}

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its option, without dashes.
    pub name: &'static str,
    /// Where it was given.
    pub origin: Origin,
    /// What it is here.
    pub becomes: Becomes,
}

/// All settings, translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// One line each, in order of name.
    pub lines: Vec<Line>,
    /// A configuration file; what has to be done by hand stands in it as comments.
    pub toml: String,
}

/// Translates the settings in force.
///
/// # Errors
/// [`SettingsError::NotABoolean`].
pub fn translate(settings: &Settings) -> Result<Translation, SettingsError> {
    let mut lines = Vec::new();
    for (name, setting) in settings.iter() {
        lines.push(Line { name, origin: setting.origin.clone(), becomes: becomes(name, setting, settings)? });
    }
    let toml = render(&lines);
    Ok(Translation { lines, toml })
}

fn becomes(name: &'static str, setting: &Setting, settings: &Settings) -> Result<Becomes, SettingsError> {
    let here = match setting.meaning {
        Meaning::Mapped(here) => here,
        Meaning::Migration => return Ok(Becomes::Migration),
        Meaning::Nothing(why) => return Ok(Becomes::Nothing(why)),
        // A switch that is off asks for nothing.
        Meaning::NoEquivalent(_) if off(setting) => return Ok(Becomes::Nothing("it is switched off there")),
        Meaning::NoEquivalent(what) => return Ok(Becomes::ByHand(what)),
    };
    let text = settings.text(name).map_or("", SecretText::expose);
    let value = match here {
        "http.listen" => listen(settings, ["http-listen-host", "http-listen-port"], HTTP_PORT),
        "metrics.listen" => listen(settings, ["metrics-host", "metrics-port"], METRICS_PORT),
        "http.allowed_hosts" => Ok(hosts(setting)),
        "telemetry.log" => level(text).map(quoted),
        "keymanager.enabled" => Ok(settings.switch(name, false)?.to_string()),
        "network.name" => network(text),
        _ if text.is_empty() => Err("it has no value there; set it by hand"),
        _ => Ok(quoted(text)),
    };
    Ok(match value {
        Ok(value) => Becomes::Setting { setting: here, value },
        Err(what) => Becomes::ByHand(what),
    })
}

fn off(setting: &Setting) -> bool {
    matches!(setting.values.as_slice(), [value] if value.expose().eq_ignore_ascii_case("false"))
}

fn listen(settings: &Settings, [host, port]: [&str; 2], default_port: &str) -> Result<String, &'static str> {
    let text = |name, default| settings.text(name).map_or(default, SecretText::expose).to_owned();
    let (host, port) = (text(host, DEFAULT_HOST), text(port, default_port));
    let ip = if host == "localhost" { Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { host.trim().parse::<IpAddr>() };
    match (ip, port.trim().parse::<u16>()) {
        (Ok(ip), Ok(port)) => Ok(quoted(&std::net::SocketAddr::new(ip, port).to_string())),
        (Err(_), _) => Err("it listens on a name there; give the address and port by hand, such as 0.0.0.0:9000"),
        (_, Err(_)) => Err("its port is no number; give the address and port by hand, such as 0.0.0.0:9000"),
    }
}

/// Names of hosts, in a list or joined by commas. Web3Signer has words for all and for none.
fn hosts(setting: &Setting) -> String {
    let names = setting.values.iter().flat_map(|value| value.expose().split(',')).map(str::trim);
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("none")).collect();
    if names.iter().any(|name| *name == "*" || name.eq_ignore_ascii_case("all")) {
        return "[\"*\"]".to_owned();
    }
    let list: Vec<String> = names.into_iter().map(quoted).collect();
    format!("[{}]", list.join(", "))
}

fn level(text: &str) -> Result<&'static str, &'static str> {
    Ok(match text.to_ascii_uppercase().as_str() {
        "OFF" | "FATAL" | "ERROR" => "error",
        "WARN" => "warn",
        "INFO" => "info",
        "DEBUG" => "debug",
        "TRACE" | "ALL" => "trace",
        _ => return Err("a level that is not known; choose telemetry.log by hand"),
    })
}

fn network(text: &str) -> Result<String, &'static str> {
    let lower = text.to_ascii_lowercase();
    if NETWORKS.contains(&lower.as_str()) {
        Ok(quoted(&lower))
    } else if text.contains("://") {
        Err("a network at an address; save its config.yaml and set network.name to the path")
    } else if text.contains(['/', '.']) {
        Ok(quoted(text))
    } else {
        Err("a network that is not known by name here; set network.name to the path of its config.yaml")
    }
}

/// A text in TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => {
                // Writing to a text cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// Whether other machines reach an address, as it stands in TOML.
fn is_open(listen: &str) -> bool {
    listen.trim_matches('"').parse::<std::net::SocketAddr>().is_ok_and(|at| !at.ip().is_loopback())
}

fn render(lines: &[Line]) -> String {
    let mut sections: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    sections.entry("network").or_default().insert("name", "\"mainnet\"");
    for line in lines {
        if let Becomes::Setting { setting, value } = &line.becomes
            && let Some((section, key)) = setting.rsplit_once('.')
        {
            sections.entry(section).or_default().insert(key, value);
        }
    }
    let mut out = String::from(
        "# From Web3Signer's settings, by `holdfast migrate web3signer`. `holdfast config example` shows all settings.\n",
    );
    for (section, entries) in sections {
        let _ = write!(out, "\n[{section}]\n");
        for (key, value) in entries {
            if (section, key) == ("http", "listen") && is_open(value) {
                out.push_str(
                    "# Other machines reach this: name callers (`holdfast callers add`), or ask for certificates.\n",
                );
            }
            let _ = writeln!(out, "{key} = {value}");
        }
    }
    let by_hand = lines.iter().filter_map(|line| match line.becomes {
        Becomes::ByHand(what) => Some((line.name, what)),
        _ => None,
    });
    for (index, (name, what)) in by_hand.enumerate() {
        if index == 0 {
            out.push_str("\n# To do by hand:\n");
        }
        let _ = writeln!(out, "# {name}: {what}");
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::settings::{Sources, read};
    use super::*;

    fn of(line: &str) -> Translation {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        translate(&read(Sources { arguments: &arguments, ..Sources::default() }).unwrap()).unwrap()
    }

    fn parsed(translation: &Translation) -> toml::Table {
        translation.toml.parse().unwrap_or_else(|error| panic!("{error}\n{}", translation.toml))
    }

    #[test]
    fn settings_become_a_configuration_file() {
        let translation = of(
            "--http-listen-host=0.0.0.0 --http-host-allowlist=a,b --metrics-port 9 --logging WARN --tls-allow-any-client \
             --metrics-push-enabled=false eth2 --network=Hoodi --key-manager-api-enabled --slashing-protection-db-password x",
        );
        let table = parsed(&translation);
        assert_eq!(table["http"]["listen"].as_str(), Some("0.0.0.0:9000"));
        assert_eq!(table["http"]["allowed_hosts"].as_array().map(Vec::len), Some(2));
        assert_eq!(table["metrics"]["listen"].as_str(), Some("127.0.0.1:9"));
        assert_eq!(table["telemetry"]["log"].as_str(), Some("warn"));
        assert_eq!(table["network"]["name"].as_str(), Some("hoodi"));
        assert_eq!(table["keymanager"]["enabled"].as_bool(), Some(true));
        assert!(translation.toml.contains("holdfast callers add"), "{}", translation.toml);
        assert!(translation.toml.contains("# tls-allow-any-client: name callers"), "{}", translation.toml);
        let becomes = |name| translation.lines.iter().find(|line| line.name == name).map(|line| &line.becomes);
        assert_eq!(becomes("slashing-protection-db-password"), Some(&Becomes::Migration));
        assert_eq!(becomes("metrics-push-enabled"), Some(&Becomes::Nothing("it is switched off there")));
        assert_eq!(translation.lines.len(), 9);
    }

    #[test]
    fn what_cannot_be_translated_says_what_to_do() {
        for (line, name) in [
            ("--http-listen-host=signer", "http-listen-host"),
            ("--metrics-port=x", "metrics-port"),
            ("--logging=LOUD", "logging"),
            ("eth2 --network=lukso", "network"),
            ("eth2 --network=https://x/config.yaml", "network"),
        ] {
            let translation = of(line);
            let found = translation.lines.iter().find(|line| line.name == name).map(|line| &line.becomes);
            assert!(matches!(found, Some(Becomes::ByHand(_))), "{line}: {found:?}");
            assert_eq!(parsed(&translation)["network"]["name"].as_str(), Some("mainnet"));
        }
        assert_eq!(parsed(&of("--http-host-allowlist=all"))["http"]["allowed_hosts"][0].as_str(), Some("*"));
        assert_eq!(
            parsed(&of("--http-host-allowlist=none"))["http"]["allowed_hosts"].as_array().map(Vec::len),
            Some(0)
        );
        assert_eq!(parsed(&of("eth2 --network=/etc/c.yaml"))["network"]["name"].as_str(), Some("/etc/c.yaml"));
    }

    proptest! {
        #[test]
        fn any_value_is_toml(value in "\\PC{1,20}|[\"\\\\\u{0}\u{7f}\n]{1,5}") {
            let arguments = [format!("--tls-keystore-file={value}")];
            let translation = translate(&read(Sources { arguments: &arguments, ..Sources::default() }).unwrap()).unwrap();
            let table = parsed(&translation);
            prop_assert_eq!(table["http"]["tls"]["pkcs12"].as_str(), Some(value.as_str()));
        }
    }
}
