//! A world in which every setting that can hold a secret, or name a file with one, does.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_tests::elsewhere::server::{Request, Server as Fake};
use holdfast_tests::elsewhere::transit::{TOKEN, Transit};
use holdfast_tests::finished::Finished;
use holdfast_tests::harness::{Builder, command};
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::World;
use serde_json::json;

use super::search::Secret;

/// A mnemonic of the specification's test vectors, whose words in this order are nowhere else.
const MNEMONIC: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";

/// A world full of secrets.
pub(super) struct Planted {
    pub(super) world: World,
    /// The first is in custody from the beginning, the second comes through the Keymanager API.
    pub(super) keys: Vec<TestKey>,
    pub(super) token: String,
    pub(super) keystore_password: String,
    /// Processes that a server has below it.
    pub(super) children: usize,
    environment: Vec<(String, String)>,
    texts: Vec<(&'static str, String)>,
    transit: Option<Transit>,
    called: Arc<AtomicUsize>,
    /// Answers as webhook, bucket and node.
    fake: Fake,
}

impl Planted {
    /// Whose data key is protected by a passphrase; keys in this process.
    pub(super) fn with_passphrase(format: &str) -> Self {
        let mut planted = Self::new(format, "passphrase");
        let path = planted.secret("passphrase", "pl4nted passphrase of a data key");
        planted.set("HOLDFAST_KEYS_PASSPHRASE_FILE", &path);
        planted
    }

    /// Whose data key is protected by a transit engine; keys in a vault process.
    pub(super) fn with_transit(format: &str) -> Self {
        let transit = Transit::start(&["holdfast"]);
        let mut planted = Self::new(format, "vault-transit");
        let path = planted.secret("transit-token", TOKEN);
        planted.set("HOLDFAST_TRANSIT_SECRET_FILE", &path);
        planted.set("HOLDFAST_TRANSIT_ADDRESS", &transit.url());
        planted.set("HOLDFAST_TRANSIT_KEY", "holdfast");
        planted.set("HOLDFAST_SIGNING_BACKEND", "process");
        planted.transit = Some(transit);
        planted.children = 1;
        planted
    }

    fn new(format: &str, provider: &str) -> Self {
        let called = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&called);
        let fake = Fake::start(
            "application/json",
            Arc::new(move |request: &Request| {
                let hook = request.path.starts_with("/h00k");
                counter.fetch_add(usize::from(hook), Ordering::SeqCst);
                (if hook || request.method == "PUT" { 200 } else { 500 }, json!({}))
            }),
        );
        let world = World::new(0);
        std::fs::create_dir(world.path().join("secrets")).expect("a folder");
        std::fs::create_dir(world.path().join("keystores")).expect("a folder");
        let keystore_password = "pl4nted keystore passw0rd".to_owned();
        let keys = vec![TestKey::interop(0), TestKey::interop(1)];
        keys[0].write_keystore(&world.path().join("keystores"), &keystore_password);
        let token = "pl4nted-t0ken-of-the-keymanager-0123456789abcdef".to_owned();
        let mut planted = Self {
            world,
            keys,
            token: token.clone(),
            keystore_password: keystore_password.clone(),
            children: 0,
            environment: Vec::new(),
            texts: Vec::new(),
            transit: None,
            called,
            fake,
        };
        planted.secret("keystore-password", &keystore_password);
        planted.secret("wrong-password", "another pl4nted passw0rd");
        planted.secret("mnemonic", MNEMONIC);
        planted.secret("broken-mnemonic", &MNEMONIC.replace("yellow", "sausage"));
        let token = planted.secret("keymanager-token", &token);
        let hook_token = planted.secret("webhook-token", "pl4nted-t0ken-of-the-webhook");
        let hmac = planted.secret("webhook-hmac", "pl4nted-hmac-of-the-webhook");
        let node_token = planted.secret("node-token", "pl4nted-t0ken-of-the-node");
        let config = planted.config(&hook_token, &hmac, &token, &node_token);
        std::fs::write(planted.world.path().join("holdfast.toml"), config).expect("a configuration");
        let config = planted.path("holdfast.toml");
        for (name, value) in [
            ("HOLDFAST_CONFIG", config.as_str()),
            ("HOLDFAST_KEYS_PROVIDER", provider),
            ("HOLDFAST_KEYS_KDF_MEMORY_MIB", "64"),
            ("HOLDFAST_TELEMETRY_LOG", "trace"),
            ("HOLDFAST_TELEMETRY_FORMAT", format),
            ("AWS_ACCESS_KEY_ID", "AKIDPLANTED"),
            ("AWS_SECRET_ACCESS_KEY", "pl4nted/s3cret/access/key/of/aws"),
            ("AWS_SESSION_TOKEN", "pl4nted/sess1on/token/of/aws"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ] {
            planted.set(name, value);
        }
        planted.texts.push(("access key", "pl4nted/s3cret/access/key/of/aws".to_owned()));
        planted.texts.push(("session token", "pl4nted/sess1on/token/of/aws".to_owned()));
        planted
    }

    fn config(&mut self, hook_token: &str, hmac: &str, token: &str, node_token: &str) -> String {
        let fake = self.fake.url();
        let host = fake.strip_prefix("http://").expect("an address").to_owned();
        let hook = "h00k/pl4nted-path-of-the-webhook";
        self.texts.push(("path of the webhook", "pl4nted-path-of-the-webhook".to_owned()));
        self.texts.push(("password of a node", "pl4nted-passw0rd-of-a-node".to_owned()));
        self.texts.push(("key of a node", "pl4nted-key-in-a-header".to_owned()));
        self.texts.push(("key in a path", "pl4nted-key-in-the-path-of-a-node".to_owned()));
        format!(
            "[network]\nbeacon = [\"http://user:pl4nted-passw0rd-of-a-node@{host}\"]\n\
             [switcher]\nenabled = true\nlisten = \"127.0.0.1:0\"\n\
             [[switcher.upstream]]\nurl = \"{fake}/pl4nted-key-in-the-path-of-a-node\"\nname = \"second\"\n\
             token_file = \"{node_token}\"\nheaders = {{ X-Key = \"pl4nted-key-in-a-header\" }}\n\
             [keymanager]\ntoken_file = \"{token}\"\n\
             [audit]\ncheckpoint_minutes = 1\nwebhook_url = \"{fake}/{hook}\"\nwebhook_token_file = \"{hook_token}\"\n\
             webhook_hmac_file = \"{hmac}\"\ns3_bucket = \"checkpoints\"\ns3_endpoint = \"{fake}\"\n\
             s3_region = \"eu-west-1\"\n"
        )
    }

    /// Puts a secret into a file that only this user may read; says where.
    fn secret(&mut self, name: &'static str, text: &str) -> String {
        let path = self.world.path().join("secrets").join(name);
        std::fs::write(&path, format!("{text}\n")).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        self.texts.push((name, text.to_owned()));
        path.display().to_string()
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A path in the world's folder.
    pub(super) fn path(&self, name: &str) -> String {
        self.world.path().join(name).display().to_string()
    }

    /// Everything that must not show.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let texts = self.texts.iter().map(|(name, text)| Secret::new(name, text.as_bytes()));
        let wrong = [("database password", "pl4nted-passw0rd-of-a-database"), ("bad value", "pl4nted-value")];
        let wrong = wrong.into_iter().map(|(name, text)| Secret::new(name, text.as_bytes()));
        let keys = self.keys.iter().map(|key| Secret::new("a validator's key", &key.secret.to_bytes()));
        texts.chain(wrong).chain(keys).collect()
    }

    /// The same without what the operator put into the environment of the server.
    pub(super) fn secrets_not_in_environment(&self) -> Vec<Secret> {
        let given = |text: &str| self.environment.iter().any(|(_, value)| value == text);
        let texts = self.texts.iter().filter(|(_, text)| !given(text));
        texts.map(|(name, text)| Secret::new(name, text.as_bytes())).collect()
    }

    /// Files that hold secrets because the operator put them there.
    pub(super) const INPUTS: [&str; 3] = ["/secrets", "/holdfast.toml", "/wrong.toml"];

    pub(super) fn webhook_was_called(&self) -> bool {
        self.called.load(Ordering::SeqCst) > 0
    }

    /// Runs a command of the binary to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, "HOLDFAST_NONE", "")
    }

    /// The same with one more variable.
    pub(super) fn run_with(&self, arguments: &[&str], name: &str, value: &str) -> Finished {
        let mut command = command();
        command.args(self.world.with(arguments)).envs(self.environment.iter().cloned()).env(name, value);
        command.output().expect("the binary starts").into()
    }

    /// The same with another configuration file.
    pub(super) fn run_with_file(&self, arguments: &[&str], text: &str) -> Finished {
        let path = self.path("wrong.toml");
        std::fs::write(&path, text).expect("a configuration");
        self.run_with(arguments, "HOLDFAST_CONFIG", &path)
    }

    /// A server.
    pub(super) fn server(&self) -> Builder {
        self.environment.iter().fold(self.world.server(), |builder, (name, value)| builder.env(name, value))
    }

    /// Settings that cannot work, with secrets in them: what, variable, value.
    pub(super) fn wrong_settings() -> Vec<(&'static str, String, String)> {
        let password = "pl4nted-passw0rd-of-a-database";
        let node = "pl4nted-passw0rd-of-a-node";
        [
            ("a database that is not there", "HOLDFAST_DATABASE_URL", format!("postgres://u:{password}@127.0.0.1:1/d")),
            (
                "a database with options",
                "HOLDFAST_DATABASE_URL",
                format!("postgres://127.0.0.1:1/d?password={password}"),
            ),
            ("an odd password", "HOLDFAST_DATABASE_URL", format!("postgres://u:/{password}?@127.0.0.1:1/d")),
            (
                "a password like a parameter",
                "HOLDFAST_DATABASE_URL",
                format!("postgres://u:x?{password}@127.0.0.1:1/d"),
            ),
            ("no database address", "HOLDFAST_DATABASE_URL", format!("postgre://u:{password}@127.0.0.1/d")),
            ("no address of a node", "HOLDFAST_NETWORK_BEACON", format!("htp://u:{node}@127.0.0.1:1")),
            ("a node that is not there", "HOLDFAST_NETWORK_BEACON", format!("http://u:{node}@127.0.0.1:1")),
            ("an address of a node that is none", "HOLDFAST_NETWORK_BEACON", format!("http://u:{node}@:x")),
            ("a password for a service", "HOLDFAST_TRANSIT_ADDRESS", format!("https://u:{password}@127.0.0.1:1")),
            ("a webhook with a password", "HOLDFAST_AUDIT_WEBHOOK_URL", format!("https://u:{node}@127.0.0.1:1/h00k")),
        ]
        .map(|(what, name, value)| (what, name.to_owned(), value))
        .to_vec()
    }

    /// Files that are none, with secrets in them.
    pub(super) fn wrong_files() -> Vec<(&'static str, String)> {
        let node = "[[switcher.upstream]]\nurl = \"http://127.0.0.1:1\"\n";
        [
            ("headers that are a text", format!("{node}headers = \"pl4nted-value\"\n")),
            ("a header that is a list", format!("{node}headers = {{ X-Key = [\"pl4nted-value\"] }}\n")),
            ("a text without its end", "[database]\nurl = \"postgres://u:pl4nted-value@h/d\n".to_owned()),
            ("an address that is a list", "[audit]\nwebhook_url = [\"https://h/pl4nted-value\"]\n".to_owned()),
            ("an address that is a table", "[network]\nbeacon = [{ url = \"http://u:pl4nted-value@h\" }]\n".to_owned()),
        ]
        .to_vec()
    }

    /// Has the data key open no longer.
    pub(super) fn take_away(&self) {
        if let Some(transit) = &self.transit {
            transit.revoke_tokens();
        } else {
            let path = self.world.path().join("secrets/passphrase");
            std::fs::write(path, "another pl4nted passphrase\n").expect("a file");
        }
    }
}
