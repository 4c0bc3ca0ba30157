//! Files, commands and requests that these tests share.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use holdfast_tests::finished::{self, Finished};
use holdfast_tests::harness::Server;
use holdfast_tests::http::{Response, once};
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{GENESIS_VALIDATORS_ROOT, World};
use serde_json::{Value, json};

/// The PostgreSQL server of this test program, started with its first test.
pub(crate) fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

/// The address of a new, empty database on it.
pub(crate) fn empty_database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("holdfast_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    cluster().create_database(&name);
    cluster().url_for(cluster().addr(), &name)
}

/// `holdfast --json <world's arguments> <rest>`
pub(crate) fn run(world: &World, rest: &[&str]) -> Finished {
    let mut arguments = world.with(&["--json"]);
    arguments.extend(rest.iter().map(|&argument| argument.to_owned()));
    finished::run(&arguments)
}

/// The world's genesis validators root as text.
pub(crate) fn chain() -> String {
    format!("0x{}", hex::encode(GENESIS_VALIDATORS_ROOT))
}

/// An interchange file for the world's chain.
pub(crate) fn file(data: &Value) -> Value {
    json!({ "metadata": { "interchange_format_version": "5", "genesis_validators_root": chain() }, "data": data })
}

/// One validator with one block and one attestation.
pub(crate) fn entry(key: &str, slot: u64, source: u64, target: u64) -> Value {
    json!({
        "pubkey": key,
        "signed_blocks": [{ "slot": slot.to_string() }],
        "signed_attestations": [{ "source_epoch": source.to_string(), "target_epoch": target.to_string() }],
    })
}

/// Writes a text into the world's folder.
pub(crate) fn write(world: &World, name: &str, text: &str) -> String {
    let path: PathBuf = world.path().join(name);
    std::fs::write(&path, text).expect("the file is written");
    path.display().to_string()
}

/// What the database says about every key.
pub(crate) fn keys(world: &World) -> Value {
    let listed = run(world, &["slashing", "status"]).expect(0, &[]);
    listed.lines()[0]["keys"].clone()
}

/// Block slot, source and target of one key.
pub(crate) fn marks(world: &World, key: &str) -> (Option<u64>, Option<u64>, Option<u64>) {
    let all = keys(world);
    let one = all.as_array().expect("a list").iter().find(|one| one["pubkey"] == key).expect("the key is known");
    (one["block_slot"].as_u64(), one["source_epoch"].as_u64(), one["target_epoch"].as_u64())
}

/// A world without keys whose key folder holds the keystore of interop key `index`.
pub(crate) fn world_with_keystore(index: u64) -> (World, TestKey) {
    let world = World::new(0);
    let key = TestKey::interop(index);
    key.write_keystore(&world.path().join("keys"), "correct horse");
    (world, key)
}

/// A client of the Keymanager API.
pub(crate) struct Manager<'a> {
    server: &'a Server,
    token: String,
}

impl<'a> Manager<'a> {
    /// With the token from the data directory.
    pub(crate) fn new(world: &World, server: &'a Server) -> Self {
        let path = world.data_dir().join("keymanager-token");
        Self { server, token: std::fs::read_to_string(path).expect("the token is there").trim().to_owned() }
    }

    /// A request with the token.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Response {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        once(self.server.http_addr(), method, path, &headers, body.as_bytes()).expect("the server answers")
    }

    /// Imports keystores with their passwords.
    pub(crate) fn import(&self, keystores: &[(&str, &str)], protection: Option<&Value>) -> Response {
        let (keystores, passwords): (Vec<_>, Vec<_>) = keystores.iter().copied().unzip();
        let mut body = json!({ "keystores": keystores, "passwords": passwords });
        if let Some(protection) = protection {
            body["slashing_protection"] = protection.to_string().into();
        }
        self.send("POST", "/eth/v1/keystores", &body.to_string())
    }

    /// Deletes keys.
    pub(crate) fn delete(&self, keys: &[&str]) -> Response {
        self.send("DELETE", "/eth/v1/keystores", &json!({ "pubkeys": keys }).to_string())
    }

    /// Public keys listed.
    pub(crate) fn list(&self) -> Vec<String> {
        let listed = self.send("GET", "/eth/v1/keystores", "");
        assert_eq!(listed.status, 200, "{}", listed.text());
        let listed = listed.json();
        let data = listed["data"].as_array().expect("a list");
        data.iter().map(|one| one["validating_pubkey"].as_str().expect("a key").to_owned()).collect()
    }
}

/// The statuses of an answer, in order.
pub(crate) fn statuses(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let data = answer["data"].as_array().expect("a list");
    data.iter().map(|one| one["status"].as_str().expect("a status").to_owned()).collect()
}
