//! Configuration mistakes: unknown keys, values, networks, and contradictions.

use holdfast_tests::world::World;

use holdfast_tests::finished::{Finished, SERVE, run};

fn arguments(list: &[&str]) -> Vec<String> {
    list.iter().map(|&argument| argument.to_owned()).collect()
}

/// `serve` with these options before it.
fn serving(options: &[&str]) -> Vec<String> {
    arguments(&[options, &SERVE].concat())
}

#[test]
fn an_unknown_key_is_an_error_that_suggests_the_near_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("holdfast.toml");
    std::fs::write(&file, "[http]\nlistn = \"127.0.0.1:9000\"\n").expect("config file");
    let file = file.display().to_string();
    run(&arguments(&["--config", &file, "config", "validate"])).expect(2, &["listn", "listen"]);
    let mut command = holdfast_tests::harness::command();
    command.env("HOLDFAST_HTTP_LISTN", "127.0.0.1:9000").args(["config", "validate"]);
    Finished::from(command.output().expect("the binary starts")).expect(2, &["HOLDFAST_HTTP_LISTEN"]);
}

#[test]
fn the_example_is_valid_and_flags_win_over_environment_over_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let example = run(&arguments(&["config", "example"])).expect(0, &["[http]"]);
    let file = folder.path().join("holdfast.toml");
    std::fs::write(&file, &example.stdout).expect("config file");
    let path = file.display().to_string();
    run(&arguments(&["--config", &path, "config", "validate"])).expect(0, &[]);
    run(&arguments(&["config", "schema"])).expect(0, &["properties"]);

    std::fs::write(&file, "[network]\nname = \"sepolia\"\n").expect("config file");
    let show = |environment: Option<&str>, flag: Option<&str>| {
        let mut command = holdfast_tests::harness::command();
        command.args(["--config", &path]);
        if let Some(value) = environment {
            command.env("HOLDFAST_NETWORK_NAME", value);
        }
        if let Some(value) = flag {
            command.args(["--network", value]);
        }
        command.args(["config", "validate"]);
        Finished::from(command.output().expect("the binary starts"))
    };
    show(None, None).expect(0, &["sepolia"]);
    show(Some("hoodi"), None).expect(0, &["hoodi"]);
    show(Some("hoodi"), Some("gnosis")).expect(0, &["gnosis"]);
}

#[test]
fn an_unknown_network_lists_the_known_ones() {
    let world = World::new(0);
    let data = world.data_dir().display().to_string();
    run(&serving(&["--data-dir", &data, "--network", "mainet"])).expect(2, &["mainet", "mainnet"]);
    run(&serving(&["--data-dir", &data, "--network", "./missing.yaml"])).expect(2, &["missing.yaml"]);
}

#[test]
fn a_custom_network_needs_its_genesis_and_says_how() {
    let world = World::new(0);
    let data = world.data_dir().display().to_string();
    let file = world.path().join("config.yaml").display().to_string();
    run(&serving(&["--data-dir", &data, "--network", &file])).expect(2, &["--genesis-validators-root", "--beacon"]);
}

#[test]
fn a_database_of_another_network_is_refused() {
    let world = World::new(1);
    let data = world.data_dir().display().to_string();
    run(&serving(&["--data-dir", &data, "--network", "mainnet"])).expect(2, &["genesis"]);
    run(&arguments(&["--data-dir", &data, "--network", "mainnet", "keys", "list"])).expect(2, &["genesis"]);
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_option() {
    run(&arguments(&["serve", "--http-lisen", "127.0.0.1:9000"])).expect(2, &["--http-listen"]);
    run(&arguments(&["keys", "import"])).expect(2, &["--from"]);
    run(&arguments(&["connect", "lighthose"])).expect(2, &["lighthouse"]);
}

#[test]
fn every_command_explains_itself() {
    for command in ["quickstart", "serve", "keys", "slashing", "kek", "doctor", "connect", "config", "completions"] {
        run(&arguments(&[command, "--help"])).expect(0, &["Usage"]);
    }
    run(&arguments(&["version"])).expect(0, &["holdfast"]);
    for shell in ["bash", "zsh", "fish"] {
        run(&arguments(&["completions", shell])).expect(0, &["holdfast"]);
    }
}

#[test]
fn connect_prints_the_settings_of_every_client() {
    let world = World::new(2);
    for (client, phrase) in [
        ("lighthouse", "web3signer"),
        ("prysm", "--validators-external-signer-url"),
        ("teku", "--validators-external-signer-url"),
        ("nimbus", "--web3-signer-url"),
        ("lodestar", "--externalSigner.url"),
        ("grandine", "--web3signer-urls"),
        ("vero", "--remote-signer-url"),
    ] {
        run(&world.with(&["connect", client])).expect(0, &[phrase, "127.0.0.1:9000"]);
    }
}
