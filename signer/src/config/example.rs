//! The example file and the schema, both made from the catalog, so that they list what exists.

use core::fmt::Write as _;

use super::Config;
use super::catalog::{Catalog, Entry, Kind, Section, schema};

/// A complete `holdfast.toml` in which every setting stands at its default, each with its
/// documentation. Settings without a default stand in a comment.
pub(crate) fn example_toml() -> String {
    let defaults = toml::Table::try_from(Config::default()).unwrap_or_default();
    let mut text = String::from(
        "# Holdfast configuration. Every setting stands here at its default: delete what you do not change.\n\
         # A flag beats an environment variable (HOLDFAST_<SECTION>_<KEY>), which beats this file.\n",
    );
    for section in &Catalog::new().sections {
        if section.repeats {
            text.push_str(&several(section));
            continue;
        }
        let values = section.name.split('.').try_fold(&defaults, |table, name| table.get(name)?.as_table());
        let _ = write!(text, "\n# {}\n[{}]\n", section.doc, section.name);
        for entry in &section.entries {
            for line in wrap(&entry.doc, 108) {
                let _ = writeln!(text, "# {line}");
            }
            match values.and_then(|values| values.get(&entry.key)) {
                Some(value) => {
                    let _ = writeln!(text, "{} = {value}", entry.key);
                }
                None => {
                    let _ = writeln!(text, "# {} = {}", entry.key, sample(entry));
                }
            }
        }
    }
    text
}

/// A section that may stand there several times, and by default does not: all of it in comments.
fn several(section: &Section) -> String {
    let mut text = String::from("\n");
    for line in wrap(&section.doc, 108) {
        let _ = writeln!(text, "# {line}");
    }
    let _ = writeln!(text, "# [[{}]]", section.name);
    for entry in &section.entries {
        for line in wrap(&entry.doc, 108) {
            let _ = writeln!(text, "# # {line}");
        }
        let _ = writeln!(text, "# {} = {}", entry.key, sample(entry));
    }
    text
}

/// The JSON schema of the configuration file.
pub(crate) fn schema_json() -> String {
    let mut text = serde_json::to_string_pretty(schema().as_value()).unwrap_or_default();
    text.push('\n');
    text
}

/// A value to show where there is no default.
fn sample(entry: &Entry) -> &'static str {
    match (entry.section.as_str(), entry.key.as_str(), entry.kind) {
        ("audit", "checkpoint_file", _) => "\"/mnt/elsewhere/checkpoints\"",
        ("audit", "s3_bucket", _) => "\"our-checkpoints\"",
        ("audit", "s3_endpoint", _) => "\"https://minio.example:9000\"",
        ("audit", "s3_lock_days", _) => "365",
        ("audit", "s3_prefix", _) => "\"holdfast/\"",
        ("audit", "syslog", _) => "\"tls://logs.example:6514\"",
        ("audit", "webhook_url", _) => "\"https://auditor.example/checkpoints\"",
        ("database", "url", _) => "\"sqlite:./holdfast-data/holdfast.db\"",
        ("database", "password_file", _) => "\"/run/secrets/holdfast-database-password\"",
        ("journal", "archive", _) => "\"./holdfast-data/journal\"",
        ("aws", "endpoint", _) => "\"https://vpce-….kms.eu-west-1.vpce.amazonaws.com\"",
        ("audit", "s3_region", _) | ("aws", "region", _) => "\"eu-west-1\"",
        ("enclave", "address", _) => "\"vsock:16:9002\"",
        ("enclave", "data_key_file", _) => "\"/etc/holdfast/enclave.key\"",
        ("enclave", "key", _) => "\"alias/holdfast-vault\"",
        ("azure", "key", _) => "\"https://vault-name.vault.azure.net/keys/holdfast\"",
        ("azure", "secret_file", _) => "\"/run/secrets/holdfast-azure-secret\"",
        ("gcp", "key", _) => "\"projects/p/locations/europe-west1/keyRings/signers/cryptoKeys/holdfast\"",
        ("gcp", "key_file", _) => "\"/run/secrets/holdfast-gcp-account.json\"",
        ("gcp", "token_file", _) => "\"/run/secrets/holdfast-gcp-token\"",
        ("otlp", "ca_file", _) => "\"/etc/holdfast/collector-ca.pem\"",
        ("otlp", "endpoint", _) => "\"http://127.0.0.1:4318\"",
        ("otlp", "headers_file", _) => "\"/run/secrets/holdfast-collector-headers\"",
        ("otlp", "service_instance", _) => "\"signer-1\"",
        ("pkcs11" | "transit", "key", _) => "\"holdfast\"",
        ("pkcs11", "module", _) => "\"/usr/lib/softhsm/libsofthsm2.so\"",
        ("pkcs11", "pin_file", _) => "\"/run/secrets/holdfast-pin\"",
        ("pkcs11", "token", _) => "\"signer\"",
        ("tpm", "owner_password_file", _) => "\"/run/secrets/holdfast-tpm-owner\"",
        ("tpm", "pin_file", _) => "\"/run/secrets/holdfast-tpm-pin\"",
        ("transit", "address", _) => "\"https://vault.example:8200\"",
        ("transit", "ca_file", _) => "\"/etc/holdfast/vault-ca.pem\"",
        ("transit", "secret_file", _) => "\"/run/secrets/holdfast-vault-token\"",
        ("keys", "passphrase_file", _) => "\"/run/secrets/holdfast-passphrase\"",
        ("network", "genesis_validators_root", _) => "\"0x…\"",
        ("network", "genesis_time", _) => "1606824023",
        ("keys", "kdf_memory_mib", _) => "1024",
        ("signing", "threads", _) => "4",
        ("signing", "vault_socket", _) => "\"/run/holdfast-vault/vault.sock\"",
        ("http", "workers", _) | ("witness", "quorum", _) => "2",
        ("witness", "group", _) => "\"validators-1\"",
        ("groups", "name", _) => "\"cluster-a\"",
        ("groups", "file", _) => "\"/etc/holdfast/cluster-a.txt\"",
        ("policy", "effect", _) => "\"allow\"",
        ("policy", "callers", _) => "[\"vc-*\"]",
        ("policy", "means", _) => "[\"certificate\"]",
        ("policy", "groups", _) => "[\"cluster-a\"]",
        ("policy", "labels", _) => "[\"region=eu\"]",
        ("policy", "name", _) => "\"duties\"",
        ("policy", "operations", _) => "[\"duties\", \"list\"]",
        ("policy", "per_second" | "burst", _) => "1000",
        ("groups" | "policy", "keys", _) => "[\"0x…\"]",
        ("callers", "name", _) => "\"vc-1\"",
        ("callers", "certificate_subjects", _) => "[\"vc-1.example\"]",
        ("callers", "unix_uids", _) => "[1001]",
        ("http", "listen_unix", _) => "\"/run/holdfast/http.sock\"",
        ("admin", "listen", _) => "\"0.0.0.0:9002\"",
        ("admin", "administrators", _) => "[\"alice\"]",
        ("ask", "metrics", _) => "\"https://signer.example:9001\"",
        ("ask", "name", _) => "\"signer.example\"",
        ("ask", "certificate", _) => "\"/etc/holdfast/operator.pem\"",
        ("ask", "key", _) => "\"/etc/holdfast/operator.key\"",
        ("ask", "token_file", _) => "\"/etc/holdfast/operator.token\"",
        ("remote", "server", _) => "\"https://signer.example:9002\"",
        ("ask" | "remote", "ca", _) => "\"/etc/holdfast/server-ca.pem\"",
        ("remote", "certificate", _) => "\"/etc/holdfast/alice.pem\"",
        ("remote", "key", _) => "\"/etc/holdfast/alice.key\"",
        ("witness", "ca", _) => "\"/etc/holdfast/witness-ca.pem\"",
        ("witness", "certificate", _) => "\"/etc/holdfast/signer.pem\"",
        (_, "certificate", _) => "\"/etc/holdfast/tls.pem\"",
        (_, "client_ca", _) => "\"/etc/holdfast/clients-ca.pem\"",
        (_, "crl", _) => "\"/etc/holdfast/clients-crl.pem\"",
        (_, "known_clients", _) => "\"/etc/holdfast/known-clients.txt\"",
        (_, "pkcs12", _) => "\"/etc/holdfast/tls.p12\"",
        (_, "pkcs12_password_file", _) => "\"/run/secrets/holdfast-tls-password\"",
        ("admin.tls" | "http.tls" | "metrics.tls" | "switcher.tls" | "execution.tls" | "witness.tls", "key", _) => {
            "\"/etc/holdfast/tls.key\""
        }
        ("witness", "key", _) => "\"/etc/holdfast/signer.key\"",
        (_, _, Kind::Text | Kind::Table) => "\"\"",
        (_, _, Kind::Number) => "1",
        (_, _, Kind::Flag) => "true",
        (_, _, Kind::List | Kind::Numbers) => "[]",
    }
}

/// Breaks a sentence into lines of at most `width` characters, at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len().saturating_add(word.len()) < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default() {
        let parsed: Config = toml::from_str(&example_toml()).unwrap();
        assert_eq!(parsed, Config::default());
    }

    #[test]
    fn the_example_names_every_setting() {
        let text = example_toml();
        for entry in Catalog::new().entries() {
            let named =
                text.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{} = ", entry.key)));
            assert!(named, "{}.{} is missing", entry.section, entry.key);
        }
    }

    #[test]
    fn the_committed_example_is_current() {
        assert_eq!(
            include_str!("../../../config.example.toml"),
            example_toml(),
            "run: holdfast config example > config.example.toml"
        );
    }

    #[test]
    fn the_schema_refuses_unknown_keys_everywhere() {
        let schema: serde_json::Value = serde_json::from_str(&schema_json()).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        for (name, section) in schema["properties"].as_object().unwrap() {
            // Of a section that may stand there several times, each one.
            let section = section.get("items").unwrap_or(section);
            assert_eq!(section["additionalProperties"], false, "{name}");
        }
    }
}
