//! Every option of Web3Signer's consensus half, and what it is here.
//!
//! Guarantees: options are looked up by their names without dashes; one that is not here is unknown, not ignored.

/// What an option is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// This setting of Holdfast, as section and key.
    Mapped(&'static str),
    /// Read by the migration itself: keys, passwords, the database.
    Migration,
    /// Nothing has to be done, because of this.
    Nothing(&'static str),
    /// Nothing here is the same; this is what to do.
    NoEquivalent(&'static str),
}

use Meaning::{Mapped, Migration, NoEquivalent, Nothing};

const POOL: Meaning = Nothing("reads and writes share few connections here, which need no tuning");
const PRUNING: Meaning = Nothing("protection is a watermark per key here, which does not grow");
const LOADING: Meaning = Nothing("keys are decrypted once, when they are imported, not at each start");
const PUSH: Meaning = NoEquivalent("metrics are not pushed; let Prometheus scrape metrics.listen");
const PROXY: Meaning = NoEquivalent("the Commit-Boost API is not served; keep a Web3Signer for proxy keys alone");
const FORK: Meaning = NoEquivalent("set --network to the path of the network's config.yaml, which has its forks");

/// Options before the subcommand.
const ROOT: &[(&str, Meaning)] = &[
    ("config-file", Migration),
    ("data-path", Migration),
    ("key-config-path", Migration),
    ("key-store-path", Migration),
    ("key-store-config-file-max-size", LOADING),
    ("logging", Mapped("telemetry.log")),
    ("logging-format", NoEquivalent("choose telemetry.format by hand")),
    ("http-listen-host", Mapped("http.listen")),
    ("http-listen-port", Mapped("http.listen")),
    ("http-host-allowlist", Mapped("http.allowed_hosts")),
    ("http-cors-origins", NoEquivalent("no browser may use the signing API; put a proxy in front if one must")),
    ("idle-connection-timeout-seconds", Nothing("connections stay open longer than clients keep them")),
    ("access-logs-enabled", Nothing("every request is in the journal")),
    ("vertx-worker-pool-size", Nothing("threads follow the processors")),
    ("metrics-enabled", Nothing("metrics are always served")),
    ("metrics-host", Mapped("metrics.listen")),
    ("metrics-port", Mapped("metrics.listen")),
    ("metrics-category", Nothing("all metrics are served")),
    ("metrics-host-allowlist", NoEquivalent("set metrics.tls and callers if the metrics listener is not on loopback")),
    ("metrics-push-enabled", PUSH),
    ("metrics-push-host", PUSH),
    ("metrics-push-port", PUSH),
    ("metrics-push-interval", PUSH),
    ("metrics-push-prometheus-job", PUSH),
    ("reload-timeout", LOADING),
    ("signer-load-timeout", LOADING),
    ("signer-load-batch-size", LOADING),
    ("signer-load-sequential-threshold", LOADING),
    ("signer-load-parallel", LOADING),
    ("tls-keystore-file", Mapped("http.tls.pkcs12")),
    ("tls-keystore-password-file", Mapped("http.tls.pkcs12_password_file")),
    (
        "tls-allow-any-client",
        NoEquivalent("name callers, or set http.allow_unauthenticated if nothing else is on that network"),
    ),
    ("tls-known-clients-file", Mapped("http.tls.known_clients")),
    ("tls-allow-ca-clients", NoEquivalent("set http.tls.client_ca to the PEM file of the clients' authority")),
];

/// Options after `eth2`; in the file they begin with `eth2.`.
const ETH2: &[(&str, Meaning)] = &[
    ("network", Mapped("network.name")),
    ("slashing-protection-enabled", Migration),
    ("slashing-protection-db-url", Migration),
    ("slashing-protection-db-username", Migration),
    ("slashing-protection-db-password", Migration),
    ("slashing-protection-db-pool-configuration-file", POOL),
    ("slashing-protection-pruning-db-pool-configuration-file", POOL),
    ("slashing-protection-pruning-enabled", PRUNING),
    ("slashing-protection-pruning-epochs-to-keep", PRUNING),
    ("slashing-protection-pruning-slots-per-epoch", PRUNING),
    ("slashing-protection-pruning-interval", PRUNING),
    ("slashing-protection-pruning-at-boot-enabled", PRUNING),
    ("slashing-protection-db-health-check-timeout-milliseconds", Nothing("the database is watched always")),
    ("slashing-protection-db-health-check-interval-milliseconds", Nothing("the database is watched always")),
    ("Xslashing-protection-db-connection-pool-enabled", POOL),
    ("keystores-path", Migration),
    ("keystores-passwords-path", Migration),
    ("keystores-password-file", Migration),
    ("azure-vault-enabled", Migration),
    ("azure-vault-auth-mode", Migration),
    ("azure-vault-name", Migration),
    ("azure-client-id", Migration),
    ("azure-tenant-id", Migration),
    ("azure-client-secret", Migration),
    ("azure-response-timeout", Migration),
    ("azure-tags", Migration),
    ("aws-secrets-enabled", Migration),
    ("aws-secrets-auth-mode", Migration),
    ("aws-secrets-access-key-id", Migration),
    ("aws-secrets-secret-access-key", Migration),
    ("aws-secrets-region", Migration),
    ("aws-secrets-prefixes-filter", Migration),
    ("aws-secrets-tag", Migration),
    ("aws-endpoint-override", Migration),
    ("aws-connection-cache-size", Nothing("secrets are read once, when keys move")),
    ("gcp-secrets-enabled", Migration),
    ("gcp-project-id", Migration),
    ("gcp-secrets-filter", Migration),
    ("key-manager-api-enabled", Mapped("keymanager.enabled")),
    ("enable-key-manager-api", Mapped("keymanager.enabled")),
    ("commit-boost-api-enabled", PROXY),
    ("proxy-keystores-path", PROXY),
    ("proxy-keystores-password-file", PROXY),
    ("Xsigning-ext-enabled", NoEquivalent("proof-of-validation messages are not signed")),
    ("Xkey-manager-skip-keystore-storage", Nothing("keys are sealed, never written in clear")),
    ("Xnetwork-altair-fork-epoch", FORK),
    ("Xnetwork-bellatrix-fork-epoch", FORK),
    ("Xnetwork-capella-fork-epoch", FORK),
    ("Xnetwork-deneb-fork-epoch", FORK),
    ("Xnetwork-electra-fork-epoch", FORK),
    ("Xnetwork-fulu-fork-epoch", FORK),
    ("Xnetwork-gloas-fork-epoch", FORK),
    ("Xtrusted-setup", Nothing("blobs are not looked at")),
];

/// The option of that name and what it is here, or `None` if Web3Signer has none. Names carry no dashes in front;
/// where an option has two, the usual one is given back.
pub fn known(name: &str) -> Option<(&'static str, Meaning)> {
    let name = match name {
        "key-store-path" => "key-config-path",
        "enable-key-manager-api" => "key-manager-api-enabled",
        "l" => "logging",
        other => other,
    };
    ROOT.iter().chain(ETH2).find(|(known, _)| *known == name).copied()
}

/// The same for a variable of the environment: `WEB3SIGNER_…` or `WEB3SIGNER_ETH2_…`.
pub(super) fn known_variable(variable: &str) -> Option<(&'static str, Meaning)> {
    let rest = variable.strip_prefix("WEB3SIGNER_")?;
    let same = |(name, _): &&(&str, Meaning), rest: &str| name.replace('-', "_").eq_ignore_ascii_case(rest);
    let found = match rest.strip_prefix("ETH2_") {
        Some(rest) => ETH2.iter().find(|entry| same(entry, rest)),
        None => ROOT.iter().find(|entry| same(entry, rest)),
    };
    found.and_then(|(name, _)| known(name))
}

/// The same for a name in the file, where options of the subcommand begin with `eth2.`.
pub(super) fn known_in_file(name: &str) -> Option<(&'static str, Meaning)> {
    let (list, name) = name.strip_prefix("eth2.").map_or((ROOT, name), |name| (ETH2, name));
    list.iter().find(|(known, _)| *known == name).and_then(|(name, _)| known(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_is_there_once_and_found_by_all_its_names() {
        let mut names: Vec<&str> = ROOT.iter().chain(ETH2).map(|(name, _)| *name).collect();
        for (list, prefix, variable) in [(ROOT, "", "WEB3SIGNER_"), (ETH2, "eth2.", "WEB3SIGNER_ETH2_")] {
            for (name, _) in list {
                let found = known(name);
                assert!(found.is_some());
                assert_eq!(known_in_file(&format!("{prefix}{name}")), found);
                assert_eq!(known_variable(&format!("{variable}{}", name.replace('-', "_").to_uppercase())), found);
            }
        }
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_name_in_the_wrong_place_is_unknown() {
        for name in ["network", "eth2.http-listen-port", "eth1.chain-id", ""] {
            assert_eq!(known_in_file(name), None, "{name}");
        }
        assert_eq!(known_variable("WEB3SIGNER_NETWORK"), None);
        assert_eq!(known_variable("HOME"), None);
    }
}
