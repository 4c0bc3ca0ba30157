//! Network files as they are found in the wild, and the mistakes people make in them.

use super::*;

const MINIMUM: &str = "PRESET_BASE: mainnet\nGENESIS_FORK_VERSION: 0x00000064\nSLOT_DURATION_MS: 5000\n";

fn with(lines: &str) -> Result<Network, NetworkError> {
    Network::from_config_yaml(&format!("{MINIMUM}{lines}"))
}

fn message(result: Result<Network, NetworkError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn every_builtin_name_is_built() {
    for name in Network::BUILTIN_NAMES {
        let network = Network::builtin(name).unwrap();
        assert_eq!(network.name, name);
        assert!(network.slot_clock().is_some());
        assert_eq!(network.fork_named_by(network.genesis_fork_version()), Some(ForkName::Phase0));
        assert_eq!(network.fork_at(Epoch(2_000_000)), ForkName::Fulu);
        assert_eq!(network.fork_at(Epoch(u64::MAX)), ForkName::Fulu);
    }
    assert_eq!(Network::builtin("Mainnet"), None);
    assert_eq!(Network::builtin("goerli"), None);
}

#[test]
fn forks_start_at_their_epoch() {
    let mainnet = Network::builtin("mainnet").unwrap();
    assert_eq!(mainnet.fork_at(Epoch(0)), ForkName::Phase0);
    assert_eq!(mainnet.fork_at(Epoch(74_239)), ForkName::Phase0);
    assert_eq!(mainnet.fork_at(Epoch(74_240)), ForkName::Altair);
    assert_eq!(mainnet.fork(ForkName::Gloas).unwrap().epoch, None);
    assert_eq!(mainnet.fork_named_by(ForkVersion([3, 0, 0, 0])), Some(ForkName::Capella));
    assert_eq!(mainnet.fork_named_by(ForkVersion([9, 0, 0, 0])), None);
    // Four forks share epoch 0: the youngest is in force.
    assert_eq!(Network::builtin("hoodi").unwrap().fork_at(Epoch(0)), ForkName::Deneb);
    assert_eq!(Network::builtin("holesky").unwrap().fork(ForkName::Gloas), None);
}

#[test]
fn the_smallest_file() {
    let network = with("").unwrap();
    assert_eq!(network.name, "custom");
    assert_eq!(network.preset, Preset::MAINNET);
    // A reader that makes numbers of scalars loses the leading zeros.
    assert_eq!(network.genesis_fork_version(), ForkVersion([0, 0, 0, 0x64]));
    assert_eq!(network.slot_millis.get(), 5000);
    assert_eq!((network.genesis_time, network.slot_clock()), (None, None));
    assert_eq!(network.genesis_validators_root, None);
    assert_eq!(network.forks.len(), 1);
    assert_eq!(network.fork(ForkName::Altair), None);
}

#[test]
fn comments_quotes_lists_and_unknown_keys() {
    let network = Network::from_config_yaml(
        "# A network\n---\nPRESET_BASE: 'gnosis'\nCONFIG_NAME: \"test net\"\nGENESIS_FORK_VERSION: '0x01017000' # first\n\
         MIN_GENESIS_TIME: 1695902100\nGENESIS_DELAY: 300\nSECONDS_PER_SLOT: 12\nSLOT_DURATION_MS: 12000\n\
         TERMINAL_TOTAL_DIFFICULTY: 8626000000000000000000058750000000000000000000\n\
         DEPOSIT_CONTRACT_ADDRESS: 0x4242424242424242424242424242424242424242\n\
         ALTAIR_FORK_VERSION: 0x02017000\nALTAIR_FORK_EPOCH: '18446744073709551615'   # not yet\n\
         BLOB_SCHEDULE:\n  - EPOCH: 52480\n    MAX_BLOBS_PER_BLOCK: 15\n  - {EPOCH: 54016, MAX_BLOBS_PER_BLOCK: [1, 21]}\n\
         EMPTY:\nSOMETHING_NEW: {nested: {PRESET_BASE: minimal}}\nHEZE_FORK_VERSION: 0x09000000\n",
    )
    .unwrap();
    assert_eq!(network.name, "test net");
    assert_eq!(network.preset, Preset::GNOSIS);
    assert_eq!(network.genesis_time, Some(UnixMillis(1_695_902_400_000)));
    let altair = ScheduledFork { name: ForkName::Altair, version: ForkVersion([2, 1, 0x70, 0]), epoch: None };
    assert_eq!(network.fork(ForkName::Altair), Some(&altair));
    assert_eq!(network.fork_at(Epoch(u64::MAX)), ForkName::Phase0);
}

#[test]
fn files_written_on_windows() {
    let text = format!("\u{feff}{}", MINIMUM.replace('\n', "\r\n"));
    assert_eq!(Network::from_config_yaml(&text).unwrap(), with("").unwrap());
}

#[test]
fn explicit_preset_keys_win() {
    let network = with("SLOTS_PER_EPOCH: 6\nMAX_COMMITTEES_PER_SLOT: 4\nSYNC_COMMITTEE_SIZE: 32\n").unwrap();
    let slots_per_epoch = NonZeroU64::new(6).unwrap();
    assert_eq!(network.preset, Preset { slots_per_epoch, max_committees_per_slot: 4, sync_committee_size: 32 });
}

#[test]
fn slot_durations() {
    let file = |lines: &str| {
        Network::from_config_yaml(&format!("PRESET_BASE: minimal\nGENESIS_FORK_VERSION: 0x0000006f\n{lines}"))
    };
    assert_eq!(file("SECONDS_PER_SLOT: 6\n").unwrap().slot_millis.get(), 6000);
    assert_eq!(file("SLOT_DURATION_MS: 6500\n").unwrap().slot_millis.get(), 6500);
    assert!(message(file("")).starts_with("SLOT_DURATION_MS is missing"));
    assert_eq!(
        message(file("SLOT_DURATION_MS: 6000\nSECONDS_PER_SLOT: 12\n")),
        "SLOT_DURATION_MS is 6000 but SECONDS_PER_SLOT makes 12000 ms: make them agree or remove one from the network file"
    );
    assert!(message(file("SLOT_DURATION_MS: 0\n")).starts_with("SLOT_DURATION_MS is \"0\""));
    assert!(message(file("SECONDS_PER_SLOT: 18446744073709551615\n")).starts_with("SECONDS_PER_SLOT is"));
}

#[test]
fn errors_name_the_key() {
    for (lines, expected) in [
        ("ALTAIR_FORK_VERSION: 0x01000064\n", "ALTAIR_FORK_EPOCH is missing"),
        ("ALTAIR_FORK_EPOCH: 1\n", "ALTAIR_FORK_VERSION is missing"),
        ("ALTAIR_FORK_VERSION: 0x64\nALTAIR_FORK_EPOCH: 1\n", "ALTAIR_FORK_VERSION is \"0x64\""),
        ("ALTAIR_FORK_VERSION: 10000042\nALTAIR_FORK_EPOCH: 1\n", "ALTAIR_FORK_VERSION is \"10000042\""),
        ("ALTAIR_FORK_VERSION: 0x01000064\nALTAIR_FORK_EPOCH: -1\n", "ALTAIR_FORK_EPOCH is \"-1\""),
        ("ALTAIR_FORK_VERSION: 0x01000064\nALTAIR_FORK_EPOCH: 1e3\n", "ALTAIR_FORK_EPOCH is \"1e3\""),
        ("ALTAIR_FORK_VERSION: 0x01000064\nALTAIR_FORK_EPOCH:\n", "ALTAIR_FORK_EPOCH is \"\""),
        ("MIN_GENESIS_TIME: soon\n", "MIN_GENESIS_TIME is \"soon\""),
        ("SLOTS_PER_EPOCH: 0\n", "SLOTS_PER_EPOCH is \"0\""),
        ("SYNC_COMMITTEE_SIZE: 30\n", "SYNC_COMMITTEE_SIZE is \"30\""),
        ("MAX_COMMITTEES_PER_SLOT: 99999999\n", "MAX_COMMITTEES_PER_SLOT is \"99999999\""),
        ("PRESET_BASE: minimal\n", "line 4 of the network file gives PRESET_BASE a second value"),
        ("BELLATRIX_FORK_VERSION: 0x02000064\nBELLATRIX_FORK_EPOCH: 1\n", "BELLATRIX cannot follow PHASE0"),
    ] {
        let text = message(with(lines));
        assert!(text.starts_with(expected), "{lines:?} gave {text:?}");
    }
    assert!(
        message(Network::from_config_yaml("GENESIS_FORK_VERSION: 0x00000000\n")).starts_with("PRESET_BASE is missing")
    );
    let unknown = Network::from_config_yaml("PRESET_BASE: mainet\nGENESIS_FORK_VERSION: 0x00000000\n");
    assert_eq!(message(unknown), "PRESET_BASE is \"mainet\" in the network file: expected mainnet, minimal or gnosis");
}

#[test]
fn forks_keep_their_order() {
    let forks = |altair: &str, bellatrix: &str| {
        with(&format!(
            "ALTAIR_FORK_VERSION: 0x01000064\nALTAIR_FORK_EPOCH: {altair}\n\
             BELLATRIX_FORK_VERSION: 0x02000064\nBELLATRIX_FORK_EPOCH: {bellatrix}\n"
        ))
    };
    assert!(forks("5", "5").is_ok());
    assert!(forks("5", "18446744073709551615").is_ok());
    assert!(message(forks("5", "4")).starts_with("BELLATRIX cannot follow ALTAIR"));
    assert!(message(forks("18446744073709551615", "4")).starts_with("BELLATRIX cannot follow ALTAIR"));
    let row = |name| ScheduledFork { name, version: ForkVersion([1; 4]), epoch: None };
    for rows in [
        vec![row(ForkName::Phase0)],
        vec![row(ForkName::Altair), row(ForkName::Altair)],
        vec![row(ForkName::Altair); 9],
    ] {
        assert!(ForkSchedule::new(ForkVersion([0; 4]), &rows).is_err());
    }
}

#[test]
fn what_is_not_a_network_file() {
    for text in ["", "# nothing\n", "a: 1\n---\nb: 2\n"] {
        assert!(matches!(Network::from_config_yaml(text), Err(NetworkError::Documents(_))), "{text:?}");
    }
    for text in ["- a\n- b\n", "just text", "? [a, b]\n: c\n", "a: &x 1\n*x : 2\n"] {
        assert!(matches!(Network::from_config_yaml(text), Err(NetworkError::NotAMap { .. })), "{text:?}");
    }
    for text in ["a: [1, 2\n", "\"a: 1\n", "a: 1\n b: 2\n"] {
        assert!(matches!(Network::from_config_yaml(text), Err(NetworkError::Yaml(_))), "{text:?}");
    }
    // Anchors and aliases are fine where nothing is read.
    assert!(with("ONE: &x [1, 2]\nTWO: *x\n").is_ok());
}

proptest::proptest! {
    #[test]
    fn any_text_ends(text: String, keys in "[A-Z_:\\-\\[\\]{}&*'\" \n0-9x]{0,200}") {
        let _ = Network::from_config_yaml(&text);
        proptest::prop_assert!(Network::from_config_yaml(&keys).is_err());
    }
}
