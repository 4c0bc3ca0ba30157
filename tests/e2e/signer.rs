//! Holdfast on the network's keys: its data directory, its records, and what it says about its own answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use holdfast_tests::harness::{Builder, Server, holdfast_ok};
use serde_json::Value;

use holdfast_tests::devnet::Network;

/// Block slot, source epoch and target epoch of a key; `None` before the first signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Highest block slot signed.
    pub(crate) block: Option<u64>,
    /// Highest source epoch signed.
    pub(crate) source: Option<u64>,
    /// Highest target epoch signed.
    pub(crate) target: Option<u64>,
}

/// By public key.
pub(crate) type Watermarks = BTreeMap<String, Watermark>;

/// A data directory and the options that go with it.
pub(crate) struct Signer {
    folder: PathBuf,
    options: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Signer {
    /// One in a folder that need not exist; `more` are global options.
    pub(crate) fn new(folder: PathBuf, network: &Network, more: &[&str]) -> Self {
        let mut options = network.holdfast_options();
        options.extend(more.iter().map(|&option| option.to_owned()));
        Self { folder, options, environment: Vec::new() }
    }

    /// Its servers speak TLS with these files.
    pub(crate) fn over_tls(mut self, certificate: &Path, key: &Path) -> Self {
        for (name, file) in [("CERTIFICATE", certificate), ("KEY", key)] {
            self.environment.push((format!("HOLDFAST_HTTP_TLS_{name}"), file.display().to_string()));
        }
        self
    }

    /// Its data directory.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Imports the network's keys.
    pub(crate) fn import(&self, network: &Network, watermark: &[&str]) {
        let (keystores, password) = (network.keystores().to_str().unwrap(), network.password_file().to_str().unwrap());
        let mut command = vec!["keys", "import", "--from", keystores, "--password-file", password];
        command.extend(watermark);
        self.run(&command);
    }

    /// Runs a command on it.
    pub(crate) fn run(&self, command: &[&str]) -> Vec<u8> {
        let mut arguments = vec!["--data-dir", self.folder.to_str().unwrap(), "--json"];
        arguments.extend(self.options.iter().map(String::as_str));
        arguments.extend(command);
        holdfast_ok(&arguments).stdout
    }

    /// Starts a server on a port; 0 takes a free one.
    pub(crate) fn serve(&self, port: u16) -> Server {
        let builder = self.options.iter().fold(Server::builder().data_dir(&self.folder), Builder::global);
        let builder = self.environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        let server = builder.http_port(port).start();
        server.wait_ready();
        server
    }

    /// The record, read while no server runs.
    pub(crate) fn watermarks(&self) -> Watermarks {
        let status: Value = serde_json::from_slice(&self.run(&["slashing", "status"])).expect("status is JSON");
        let keys = status["keys"].as_array().unwrap_or_else(|| panic!("no keys in {status}"));
        keys.iter().map(|entry| (entry["pubkey"].as_str().expect("pubkey").to_owned(), watermark(entry))).collect()
    }
}

fn watermark(entry: &Value) -> Watermark {
    let number = |name: &str| match &entry[name] {
        Value::Null => None,
        Value::String(text) => Some(text.parse().expect("a number")),
        other => Some(other.as_u64().unwrap_or_else(|| panic!("{name} is {other}"))),
    };
    Watermark { block: number("block_slot"), source: number("source_epoch"), target: number("target_epoch") }
}

/// Passes `new` on after a check that no record moved back.
pub(crate) fn later(old: &Watermarks, new: Watermarks) -> Watermarks {
    for (key, before) in old {
        let after = new.get(key).unwrap_or_else(|| panic!("{key} is no longer recorded"));
        assert!(
            after.block >= before.block && after.source >= before.source && after.target >= before.target,
            "the record of {key} moved back: {before:?} to {after:?}"
        );
    }
    new
}

/// What a server says about its answers to signing requests. Adds up over restarts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    /// Signatures given.
    pub(crate) signed: u64,
    /// Of these, how many within [`SOON`] from the moment the request was read.
    pub(crate) soon: u64,
    /// Other answers, by reason.
    pub(crate) unsigned: BTreeMap<String, u64>,
}

/// The bucket of the histogram that is looked at, in seconds: a quarter of these tests' slots, a twenty-fourth of mainnet's.
pub(crate) const SOON: &str = "0.5";

impl Answers {
    /// Adds what a server has counted since its start.
    pub(crate) fn add(&mut self, server: &Server) {
        let metrics = server.get_metrics("/metrics").text();
        for line in metrics.lines() {
            let Some((series, Ok(count))) = line.rsplit_once(' ').map(|(series, value)| (series, value.parse::<u64>()))
            else {
                continue;
            };
            let label =
                |name: &str| series.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next());
            if series.starts_with("holdfast_signing_requests_total{") {
                match label("result") {
                    Some("signed") => self.signed += count,
                    _ => *self.unsigned.entry(label("reason").unwrap_or("?").to_owned()).or_default() += count,
                }
            } else if series.starts_with("holdfast_signing_stage_seconds_bucket{")
                && label("stage") == Some("total")
                && label("le") == Some(SOON)
            {
                self.soon += count;
            }
        }
        self.unsigned.retain(|_, count| *count > 0);
    }

    /// Nearly every signature came soon: the part of "in time" that is Holdfast's own, whatever the rest of a busy
    /// machine makes of it.
    pub(crate) fn assert_soon(&self) {
        println!(
            "Holdfast's own answers: {} signatures, {} within {SOON} s; others: {:?}",
            self.signed, self.soon, self.unsigned
        );
        assert!(self.signed > 0 && self.soon * 100 >= self.signed * 99, "Holdfast answers late: {self:?}");
    }
}
