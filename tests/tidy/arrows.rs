//! Dependency arrows of ARCHITECTURE.md, read from cargo metadata. A new arrow is a decision: it
//! goes into this table and into ARCHITECTURE.md together.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Crate, and the workspace crates its shipped code may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("holdfast-domain", &[]),
    ("holdfast-wire", &["holdfast-domain"]),
    ("holdfast-vault-proto", &["holdfast-domain"]),
    ("holdfast-secret", &[]),
    ("holdfast-slashing-db", &["holdfast-domain", "holdfast-secret"]),
    ("holdfast-audit", &["holdfast-domain", "holdfast-slashing-db"]),
    ("holdfast-enclave-sys", &[]),
    ("eth2_keystore", &[]),
    ("holdfast-witness", &["holdfast-domain", "holdfast-slashing-db"]),
    (
        "holdfast-enclave",
        &[
            "eth2_keystore",
            "holdfast-domain",
            "holdfast-enclave-sys",
            "holdfast-slashing-db",
            "holdfast-vault-proto",
            "holdfast-witness",
        ],
    ),
    (
        "holdfast-guest",
        &["holdfast-domain", "holdfast-enclave", "holdfast-enclave-sys", "holdfast-nitro", "holdfast-vault-proto"],
    ),
    ("holdfast-providers", &["holdfast-enclave", "holdfast-nitro", "holdfast-secret"]),
    ("holdfast-nitro", &[]),
    ("holdfast-traces", &["holdfast-domain"]),
    ("holdfast-beacon", &["holdfast-domain", "holdfast-secret", "holdfast-traces"]),
    ("holdfast-access", &["holdfast-domain"]),
    ("holdfast-approvals", &["holdfast-domain"]),
    ("holdfast-anchors", &["holdfast-domain", "holdfast-secret"]),
    ("holdfast-migrate", &["holdfast-secret"]),
    (
        "holdfast",
        &[
            "eth2_keystore",
            "holdfast-access",
            "holdfast-approvals",
            "holdfast-anchors",
            "holdfast-audit",
            "holdfast-beacon",
            "holdfast-domain",
            "holdfast-enclave",
            "holdfast-migrate",
            "holdfast-nitro",
            "holdfast-providers",
            "holdfast-secret",
            "holdfast-slashing-db",
            "holdfast-traces",
            "holdfast-wire",
            "holdfast-witness",
        ],
    ),
    (
        "holdfast-tests",
        &[
            "eth2_keystore",
            "holdfast-audit",
            "holdfast-domain",
            "holdfast-enclave",
            "holdfast-enclave-sys",
            "holdfast-nitro",
            "holdfast-slashing-db",
            "holdfast-traces",
            "holdfast-wire",
        ],
    ),
];

/// Crates that must stay out of a place, with the reason.
const FORBIDDEN: [(&str, &[&str], &str); 7] = [
    (
        "holdfast-domain",
        &["tokio", "serde", "rusqlite", "hyper", "blst"],
        "the vocabulary has no I/O, no async, no serialisation and no keys",
    ),
    (
        "holdfast-vault-proto",
        &["tokio", "hyper", "blst", "rusqlite", "tonic"],
        "what a vault reads is parsed without I/O, keys or a service framework",
    ),
    ("holdfast-slashing-db", &["blst", "hyper", "axum", "eth2_keystore"], "protection never sees a secret key or HTTP"),
    ("holdfast-enclave", &["rusqlite", "sqlx", "hyper", "axum"], "custody links no database driver and no transport"),
    (
        "holdfast-nitro",
        &["tokio", "hyper", "blst", "rusqlite", "aws-sdk-kms"],
        "parsers of hostile bytes have no I/O, no SDK and no keys of validators",
    ),
    (
        "holdfast-guest",
        &["tokio", "hyper", "rusqlite", "rustls", "aws-sdk-kms"],
        "whatever is in an enclave is measured and trusted: no network, no service framework",
    ),
    ("holdfast-beacon", &["blst", "rusqlite"], "talking to beacon nodes needs neither keys nor the database"),
];

fn shipped_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in the workspace");
    metadata
        .packages
        .iter()
        .map(|package| {
            let dependencies = package
                .dependencies
                .iter()
                .filter(|dependency| matches!(dependency.kind, DependencyKind::Normal | DependencyKind::Build))
                .map(|dependency| dependency.name.clone())
                .collect();
            (package.name.to_string(), dependencies)
        })
        .collect()
}

#[test]
fn arrows_between_crates_are_the_ones_decided() {
    let actual = shipped_dependencies();
    let members: BTreeSet<&str> = actual.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, listed, "a crate was added or removed: decide its arrows in tests/tidy/arrows.rs");
    for (name, allowed) in ARROWS {
        for dependency in &actual[*name] {
            if members.contains(dependency.as_str()) {
                assert!(
                    allowed.contains(&dependency.as_str()),
                    "{name} may not use {dependency}: see the crate map in ARCHITECTURE.md"
                );
            }
        }
    }
}

#[test]
fn crates_stay_out_of_places_they_must_not_know() {
    let actual = shipped_dependencies();
    for (name, forbidden, reason) in FORBIDDEN {
        for banned in forbidden {
            let direct = actual[name].contains(*banned);
            let optional_store = name == "holdfast-slashing-db" && *banned == "rusqlite";
            assert!(!direct || optional_store, "{name} depends on {banned}: {reason}");
        }
    }
}

#[test]
fn enclave_takes_the_slashing_database_without_a_store() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in the workspace");
    let enclave = metadata.packages.iter().find(|package| *package.name == "holdfast-enclave").expect("enclave exists");
    let arrow = enclave
        .dependencies
        .iter()
        .find(|dependency| dependency.name == "holdfast-slashing-db" && dependency.kind == DependencyKind::Normal)
        .expect("enclave receives permits from slashing-db");
    assert!(!arrow.uses_default_features, "enclave must link no database driver");
    assert!(arrow.features.is_empty(), "enclave must link no database driver, found {:?}", arrow.features);
}
