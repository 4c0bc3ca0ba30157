//! Proved here: the definition is consistent, every flag reaches its setting, and no secret is repeated.

use clap::CommandFactory;

use super::*;
use crate::config::{Catalog, load};

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_sets_a_known_setting() {
    let cli = Cli::try_parse_from([
        "holdfast",
        "serve",
        "--data-dir",
        "/d",
        "--network",
        "hoodi",
        "--genesis-validators-root",
        &format!("0x{}", "ab".repeat(32)),
        "--genesis-time",
        "5",
        "--beacon",
        "http://a:1",
        "--beacon",
        "http://b:2",
        "--database",
        "sqlite:/d/x.db",
        "--http-listen",
        "127.0.0.1:7",
        "--metrics-listen",
        "127.0.0.1:8",
        "--switcher-listen",
        "127.0.0.1:9",
        "--no-signer",
    ])
    .unwrap();
    let layers = cli.layers(Environment::default());
    let catalog = Catalog::new();
    assert_eq!(layers.flags.len(), 11);
    for flag in &layers.flags {
        assert!(catalog.entries().any(|entry| entry.section == flag.section && entry.key == flag.key), "{flag:?}");
    }
    let config = load(&layers).unwrap();
    assert_eq!(config.http.listen.port(), 7);
    assert_eq!(config.network.beacon.len(), 2);
    assert!(config.switcher.enabled);
    assert_eq!(config.switcher.listen.port(), 9);
    assert_eq!(config.consensus_nodes().len(), 2);
    assert_eq!(config.data_dir(), std::path::Path::new("/d"));
}

#[test]
fn a_password_in_a_refused_address_is_not_repeated() {
    for (flag, value) in [("--database", "mysql://u:hunter2@h/db"), ("--beacon", "ftp://u:hunter2@h")] {
        let cli = Cli::try_parse_from(["holdfast", "doctor", flag, value]).unwrap();
        let error = load(&cli.layers(Environment::default())).unwrap_err().to_string();
        assert!(error.starts_with(flag) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_wrong_network_flag_names_the_flag() {
    let cli = Cli::try_parse_from(["holdfast", "doctor", "--network", "hodi"]).unwrap();
    let error = load(&cli.layers(Environment::default())).unwrap_err().to_string();
    assert!(error.starts_with("--network: unknown network \"hodi\"; did you mean hoodi?"), "{error}");
}

#[test]
fn global_options_may_stand_anywhere() {
    for line in [["holdfast", "--json", "keys", "list"], ["holdfast", "keys", "list", "--json"]] {
        assert!(Cli::try_parse_from(line).unwrap().global.json);
    }
}

#[test]
fn a_password_cannot_be_an_argument() {
    assert!(Cli::try_parse_from(["holdfast", "keys", "import", "--from", "x", "--password", "p"]).is_err());
}

#[test]
fn a_yaml_given_to_migrate_web3signer_is_the_old_signers_and_a_toml_is_ours() {
    let parsed = |line: &[&str]| Cli::try_parse_from(line).unwrap();
    let old = parsed(&["holdfast", "migrate", "web3signer", "--config", "w.yaml", "--plan"]);
    assert_eq!(old.old_config(), Some(Path::new("w.yaml")));
    assert_eq!(old.layers(Environment::default()).file, None);
    let own = parsed(&["holdfast", "migrate", "web3signer", "--config", "h.toml", "--config-file", "w.yaml"]);
    assert_eq!((own.old_config(), own.layers(Environment::default()).file), (None, Some("h.toml".into())));
    // Everywhere else --config is ours, whatever its name.
    let other = parsed(&["holdfast", "doctor", "--config", "w.yaml"]);
    assert_eq!(other.layers(Environment::default()).file, Some("w.yaml".into()));
    // What stands behind -- is Web3Signer's, even where the names are the same.
    let line = parsed(&[
        "holdfast",
        "migrate",
        "web3signer",
        "--",
        "web3signer",
        "--config-file=x",
        "eth2",
        "--network=hoodi",
    ]);
    assert_eq!(line.global.network, None);
    let Command::Migrate(MigrateCommand::Web3signer(args)) = line.command else { panic!("another command") };
    assert_eq!(args.arguments.len(), 4);
    assert!(Cli::try_parse_from(["holdfast", "migrate", "web3signer", "--plan", "--move", "3"]).is_err());
}
