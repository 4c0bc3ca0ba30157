//! `holdfast migrate web3signer` where keys are in secret stores: moto's Secrets Manager, which checks signatures, and fakes
//! of HashiCorp Vault and Azure Key Vault. What is fetched moves like keys in files; what is not is named, and stays.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast_tests::elsewhere::azure::{APPLICATION, Azure};
use holdfast_tests::elsewhere::moto::Moto;
use holdfast_tests::elsewhere::server::Mood;
use holdfast_tests::elsewhere::transit::{KUBERNETES, TOKEN, Transit};
use holdfast_tests::finished::Finished;
use holdfast_tests::harness::command;
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::free_port;
use holdfast_tests::world::{CHAIN, World};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::web3signer::{histories, served};
use crate::web3signer_db::Database;

/// A world, and a Web3Signer whose database knows the first of three keys, and whose key files lie in `w3s`.
pub(crate) struct Stage {
    pub(crate) world: World,
    database: Database,
    pub(crate) keys: Vec<TestKey>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let (world, mut database) = (World::new(0), Database::new());
        let keys: Vec<TestKey> = (0..3).map(TestKey::interop).collect();
        for (key, signed) in keys.iter().zip(&histories()) {
            database.add(&key.public, true, signed);
        }
        std::fs::create_dir_all(world.path().join("w3s")).expect("the folder is made");
        Self { world, database, keys }
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.world.path().join("w3s").join(name), text).expect("the file is written");
    }

    pub(crate) fn secret(&self, index: usize) -> String {
        hex::encode(self.keys[index].secret.to_bytes())
    }

    /// `migrate web3signer` with the key files and these arguments.
    fn migrate(&self, rest: &[&str]) -> Finished {
        self.migrate_in(&[], rest)
    }

    /// The same with variables of the environment.
    pub(crate) fn migrate_in(&self, environment: &[(&str, &str)], rest: &[&str]) -> Finished {
        let (dir, db) = (self.world.path().join("w3s").display().to_string(), self.database.url());
        let start = ["--json", "migrate", "web3signer", "--key-config", &dir, "--db", &db];
        let arguments = self.world.with(&[&start[..], rest].concat());
        let output = command().args(arguments).envs(environment.iter().copied()).output().expect("the binary starts");
        let finished = Finished::from(output);
        for index in 0..self.keys.len() {
            assert!(!finished.text().contains(&self.secret(index)), "a key was shown");
        }
        finished
    }

    /// What becomes of a key, and where it was found.
    pub(crate) fn plan(lines: &[Value], key: &TestKey) -> (String, String) {
        let line = lines.iter().find(|line| line["pubkey"] == key.public.as_str() && line["plan"].is_string());
        let line = line.unwrap_or_else(|| panic!("no line for {}: {lines:?}", key.public));
        let text = |name: &str| line[name].as_str().expect("a text").to_owned();
        (text("plan"), text("file"))
    }

    pub(crate) fn totals(lines: &[Value]) -> (u64, u64) {
        let totals = &lines.iter().find(|line| line["from"] == "web3signer").expect("totals")["totals"];
        (totals["move"].as_u64().expect("a number"), totals["behind"].as_u64().expect("a number"))
    }
}

fn vault_file(url: &str, path: &str, more: &str) -> String {
    let (host, port) = url.trim_start_matches("http://").split_once(':').expect("host and port");
    format!("type: hashicorp\nserverHost: {host}\nserverPort: {port}\nkeyPath: {path}\n{more}")
}

#[test]
fn from_hashicorp_vault_and_what_it_does_not_give_is_named() {
    let (stage, vault) = (Stage::new(), Transit::start(&[]));
    vault.set_secret("validators/0", &json!({ "value": format!("0x{}", stage.secret(0)) }));
    vault.set_secret_at("kv1/one", json!({ "bls": stage.secret(1), "value": "not this" }));
    vault.set_secret("two", &json!({ "value": format!("{}\n", stage.secret(2)) }));
    vault.set_secret("odd", &json!({ "value": "hunter2" }));
    let url = vault.url();
    let token = format!("token: {TOKEN}\n");
    stage.put("0.yaml", &vault_file(&url, "/v1/secret/data/validators/0", &token));
    let other = vault_file(&url, "/v1/kv1/one", &format!("{token}keyName: bls\n"));
    stage.put("more.yaml", &format!("{other}---\n{}", vault_file(&url, "/v1/secret/data/none", &token)));
    stage.put("odd.yaml", &vault_file(&url, "/v1/secret/data/odd", &token));
    let pod =
        format!("authMethod: KUBERNETES\nkubernetesRole: {}\nkubernetesServiceAccountTokenPath: pod\n", KUBERNETES.0);
    stage.put("pod.yaml", &vault_file(&url, "/v1/secret/data/two", &pod));
    stage.put("pod", KUBERNETES.1);
    let plan = stage.migrate(&["--plan"]);
    let plan = plan.expect(1, &["has no such secret", "vault kv get -field=value secret/none", "is no key"]);
    assert!(!plan.text().contains("hunter2") && !plan.text().contains(TOKEN));
    let lines = plan.lines();
    assert_eq!(Stage::totals(&lines), (3, 2));
    for (key, file) in stage.keys.iter().zip(["0.yaml", "more.yaml", "pod.yaml"]) {
        let (fate, place) = Stage::plan(&lines, key);
        assert!(fate == "comes" && Path::new(&place).ends_with(file), "{fate} {place}");
    }
    // A token that is no longer one, and a server that is away: nothing moves of what nobody saw in the plan.
    vault.revoke_tokens();
    let denied = stage.migrate(&["--plan"]).expect(1, &["does not let these credentials read it"]);
    // The pod logs in anew.
    assert_eq!(Stage::totals(&denied.lines()), (1, 4));
    stage.migrate(&["--move", "3"]).expect(1, &["--move says 3, and the plan says 1"]);
    vault.set_mood(Mood::Away);
    let away = stage.migrate(&["--plan"]).expect(1, &["cannot be reached from here", &url]);
    assert_eq!(Stage::totals(&away.lines()), (0, 5));
    assert!(!stage.world.data_dir().exists(), "nothing was changed");
    vault.set_mood(Mood::Works);
    std::fs::remove_file(stage.world.path().join("w3s/odd.yaml")).expect("the file is there");
    let moved = ["--move", "1", "--watermark", "interchange", "--confirm", "old-signer-stopped,keys-removed"];
    stage.migrate(&moved).expect(1, &["enabled"]);
    let server = served(&stage.world);
    assert_eq!(server.sign(&stage.keys[2].public, &CHAIN.block(30_000_000, 1).0).status, 200);
    assert_eq!(server.sign(&stage.keys[2].public, &CHAIN.block(3, 1).0).status, 412);
}

/// A vault over TLS: openssl gives out one answer, as it lies in a file.
struct OverTls {
    child: Child,
    dir: PathBuf,
    port: u16,
    fingerprint: String,
}

impl OverTls {
    fn start(dir: PathBuf, path: &str, body: &str) -> Self {
        let file = dir.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder is made");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
        std::fs::write(file, format!("{head} {}\r\n\r\n{body}", body.len())).expect("the answer is written");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let text = BASE64.encode(made.cert.der());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("text")).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        std::fs::write(dir.join("ca.pem"), pem).expect("written");
        std::fs::write(dir.join("key.der"), made.signing_key.serialize_der()).expect("written");
        let fingerprint = hex::encode_upper(Sha256::digest(made.cert.der()));
        let port = free_port();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-HTTP", "-accept", &port.to_string(), "-cert", "ca.pem"])
            .args(["-key", "key.der", "-keyform", "DER"])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts: install the package openssl");
        let server = Self { child, dir, port, fingerprint };
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "openssl does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for OverTls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_vault_over_tls_is_who_an_authority_or_its_fingerprint_says() {
    let stage = Stage::new();
    let body = json!({ "data": { "data": { "value": stage.secret(0) }, "metadata": { "version": 1 } } }).to_string();
    let vault = OverTls::start(stage.world.path().join("tls"), "/v1/secret/data/k", &body);
    let url = format!("http://localhost:{}", vault.port);
    let file = |more: &str| {
        let more = format!("tlsEnabled: true\ntoken: s.x\n{more}");
        stage.put("k.yaml", &vault_file(&url, "/v1/secret/data/k", &more));
    };
    let found = |more: &[&str], code: i32, words: &[&str]| {
        let planned = stage.migrate(&[&["--plan"], more].concat()).expect(code, words);
        Stage::totals(&planned.lines())
    };
    file("");
    assert_eq!(found(&[], 1, &["cannot be reached from here", "certificate"]), (0, 1));
    let ca = vault.dir.join("ca.pem").display().to_string();
    assert_eq!(found(&["--vault-ca", &ca], 0, &[]), (1, 0));
    file("tlsKnownServersPath: known\n");
    assert_eq!(found(&[], 1, &["the known servers in"]), (0, 1));
    let pairs: Vec<&str> =
        vault.fingerprint.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("text")).collect();
    let (port, known) = (vault.port, pairs.join(":"));
    stage.put("known", &format!("# servers\nlocalhost:{port} {known}\n"));
    assert_eq!(found(&[], 0, &[]), (1, 0));
    // Of another server, or of another certificate.
    stage.put("known", &format!("localhost:1 {known}\nlocalhost:{port} {}\n", "00".repeat(32)));
    assert_eq!(found(&[], 1, &["cannot be reached from here", "certificate"]), (0, 1));
}

#[test]
fn from_aws_secrets_manager_one_by_one_and_all_that_a_filter_lets_through() {
    let (stage, moto) = (Stage::new(), Moto::start());
    moto.create_secret("single/0", &stage.secret(0), &[]);
    let both = format!("{}\n0x{}\n", stage.secret(1), stage.secret(2));
    moto.create_secret("keys/many", &both, &[("network", "hoodi")]);
    moto.create_secret("keys/untagged", "hunter2", &[]);
    moto.create_secret("other/tagged", "hunter2", &[("network", "hoodi")]);
    let (id, secret) = moto.demand_signatures();
    let file = |name: &str, secret: &str| {
        format!(
            "type: aws-secret\nregion: eu-west-1\naccessKeyId: {id}\nsecretAccessKey: {secret}\nsecretName: {name}\n\
             endpointOverride: {}\n",
            moto.url()
        )
    };
    stage.put("0.yaml", &file("single/0", &secret));
    stage.put("none.yaml", &file("single/none", &secret));
    stage.put("wrong.yaml", &file("single/0", "wrong"));
    let (endpoint, of) = (format!("--aws-endpoint-override={}", moto.url()), |name: &str, value: &str| {
        format!("--aws-secrets-{name}={value}")
    });
    let line = [
        "eth2".to_owned(),
        "--aws-secrets-enabled".to_owned(),
        of("region", "eu-west-1"),
        of("access-key-id", &id),
        of("secret-access-key", &secret),
        of("prefixes-filter", "keys/,more/"),
        of("tag", "network=hoodi"),
        endpoint,
    ];
    let line: Vec<&str> = ["--plan", "--"].into_iter().chain(line.iter().map(String::as_str)).collect();
    let plan = stage.migrate(&line).expect(1, &["has no such secret", "takes no such credentials"]);
    assert!(!plan.text().contains(&secret) && !plan.text().contains("hunter2"));
    let lines = plan.lines();
    assert_eq!(Stage::totals(&lines), (3, 2));
    assert!(Stage::plan(&lines, &stage.keys[0]).1.ends_with("0.yaml"));
    for key in &stage.keys[1..] {
        let place = ("comes".to_owned(), "AWS Secrets Manager: keys/many".to_owned());
        assert_eq!(Stage::plan(&lines, key), place);
    }
    // The settings' own credentials are no good: the store is named, with the command that lists it.
    let wrong: Vec<String> = line
        .iter()
        .map(|one| if one.contains("secret-access-key") { of("secret-access-key", "x") } else { (*one).to_owned() })
        .collect();
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    let told = stage.migrate(&wrong).expect(1, &["--aws-secrets-enabled", "aws secretsmanager list-secrets"]);
    assert_eq!(Stage::totals(&told.lines()), (1, 3));
    let none = ["--plan", "--", "eth2", "--aws-secrets-enabled", "--aws-secrets-region=eu-west-1"];
    stage.migrate(&none).expect(2, &["aws-secrets-secret-access-key needs a value"]);
}

#[test]
fn from_azure_key_vault_one_by_one_and_all_that_a_filter_lets_through() {
    let (stage, azure) = (Stage::new(), Azure::start("unused"));
    azure.set_secret("one", &stage.secret(0), json!({}), true);
    azure.set_secret("many", &format!("{}\r\n{}", stage.secret(1), stage.secret(2)), json!({ "net": "hoodi" }), true);
    azure.set_secret("elsewhere", "hunter2", json!({ "net": "mainnet" }), true);
    azure.set_secret("off", "hunter2", json!({ "net": "hoodi", "x": "y" }), false);
    let (tenant, client, secret) = APPLICATION;
    let file = |name: &str| {
        format!(
            "type: azure-secret\nvaultName: keys\nsecretName: {name}\ntenantId: {tenant}\nclientId: {client}\n\
             clientSecret: '{secret}'\n"
        )
    };
    stage.put("one.yaml", &file("one"));
    let url = azure.url();
    let config = stage.world.path().join("holdfast.toml");
    std::fs::write(&config, format!("[azure]\nlogin_address = \"{url}\"\n")).expect("the configuration");
    let config = config.display().to_string();
    let (tenant, client, secret) = (
        format!("--azure-tenant-id={tenant}"),
        format!("--azure-client-id={client}"),
        format!("--azure-client-secret={secret}"),
    );
    let plan = |more: &[&str]| {
        let start = ["--config", &config, "--azure-address", &url, "--plan"];
        stage.migrate(&[&start[..], more].concat())
    };
    let all = ["--", "eth2", "--azure-vault-enabled", "--azure-vault-name=keys", "--azure-tags=net=hoodi"];
    let all = [&all[..], &[&tenant, &client, &secret]].concat();
    let found = plan(&all).expect(1, &["has it switched off", "az keyvault secret show --vault-name keys --name off"]);
    assert!(!found.text().contains("hunter2") && !found.text().contains("secret&1"));
    let lines = found.lines();
    assert_eq!(Stage::totals(&lines), (3, 1));
    assert_eq!(Stage::plan(&lines, &stage.keys[1]).1, "Azure Key Vault: many");
    azure.set_permitted(false);
    let denied = plan(&all).expect(1, &["does not let these credentials read it", "--azure-vault-enabled"]);
    assert_eq!(Stage::totals(&denied.lines()), (0, 2));
    // Without a switch, and with the identity of the machine.
    azure.set_permitted(true);
    let identity = "type: azure-secret\nvaultName: keys\nsecretName: many\nauthenticationMode: \
                    SYSTEM_ASSIGNED_MANAGED_IDENTITY\n";
    stage.put("two.yaml", identity);
    let lines = plan(&[]).expect(1, &["line 1 of the secret is no key"]).lines();
    assert_eq!(Stage::totals(&lines), (1, 1));
}
