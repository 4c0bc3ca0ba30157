//! Runs moto, an implementation of AWS services by other people, so that the real client library speaks to a server
//! that was not written for it. `./test` installs it; state is in memory.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::http::once;

/// The version `./test` installs, into the user's cache.
const VERSION: &str = "5.2.5";
/// How long it may take to start.
const LIMIT: Duration = Duration::from_mins(1);

/// A running moto.
pub struct Moto {
    child: Child,
    address: SocketAddr,
}

fn program() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    let path = std::env::var_os("HOLDFAST_MOTO_SERVER")
        .map_or_else(|| cache.join(format!("holdfast-moto-{VERSION}/bin/moto_server")), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: ./test installs it, or name another in HOLDFAST_MOTO_SERVER",
        path.display()
    );
    path
}

impl Moto {
    /// Starts one.
    pub fn start() -> Self {
        let program = program();
        // It cannot be told to take any port and say which: of a port that somebody else takes meanwhile, the next.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
            let mut child = Command::new(&program)
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("moto starts");
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let end = Instant::now() + LIMIT;
            while child.try_wait().expect("moto can be waited for").is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self { child, address };
                }
                assert!(Instant::now() < end, "moto does not listen after {LIMIT:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("moto ended right after its start, ten times")
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One call of KMS; the answer.
    pub fn call(&self, operation: &str, body: &serde_json::Value) -> serde_json::Value {
        self.ask("kms", &format!("TrentService.{operation}"), body)
    }

    fn ask(&self, service: &str, target: &str, body: &serde_json::Value) -> serde_json::Value {
        let headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", target)];
        let text = self.post(service, "/", &headers, &body.to_string());
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn post(&self, service: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let credential = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let headers = [headers, &[("Authorization", credential.as_str())]].concat();
        let answer = once(self.address, "POST", path, &headers, body.as_bytes()).expect("moto answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// Puts a secret into Secrets Manager, with tags.
    pub fn create_secret(&self, name: &str, value: &str, tags: &[(&str, &str)]) {
        let tags: Vec<_> = tags.iter().map(|(key, value)| serde_json::json!({ "Key": key, "Value": value })).collect();
        let body = serde_json::json!({ "Name": name, "SecretString": value, "Tags": tags });
        self.ask("secretsmanager", "secretsmanager.CreateSecret", &body);
    }

    /// From now on only who may do something does it, with signatures that are checked. Returns identifier and secret of an
    /// access key that may do anything with secrets.
    pub fn demand_signatures(&self) -> (String, String) {
        let policy =
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"secretsmanager:*","Resource":"*"}]}"#;
        let policy: String = policy.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let iam = |action: &str| {
            let form = [("Content-Type", "application/x-www-form-urlencoded")];
            self.post("iam", "/", &form, &format!("Version=2010-05-08&UserName=mover&Action={action}"))
        };
        iam("CreateUser");
        let made = iam("CreateAccessKey");
        iam(&format!("PutUserPolicy&PolicyName=secrets&PolicyDocument={policy}"));
        self.post("moto", "/moto-api/reset-auth", &[("Content-Type", "text/plain")], "0");
        let element = |name: &str| {
            let (_, rest) = made.split_once(&format!("<{name}>")).expect("the access key");
            rest.split('<').next().expect("a value").to_owned()
        };
        (element("AccessKeyId"), element("SecretAccessKey"))
    }

    /// Makes a symmetric key and returns its ARN.
    pub fn create_key(&self) -> String {
        let made = self.call("CreateKey", &serde_json::json!({}));
        made["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
