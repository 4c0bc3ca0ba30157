//! A fake of the transit and key-value engines of HashiCorp Vault and OpenBao with the token, AppRole and Kubernetes logins, written
//! from their API documents. No real server runs in these tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::server::{Mood, Request, Server};

/// A token that may use the key.
pub const TOKEN: &str = "s.good-token";
/// A token that is valid and may do nothing here.
pub const POWERLESS_TOKEN: &str = "s.powerless-token";
/// The role of the AppRole login, and its secret id.
pub const APPROLE: (&str, &str) = ("role-id-1", "secret-id-1");
/// The role of the Kubernetes login, and the service account's token.
pub const KUBERNETES: (&str, &str) = ("holdfast", "pod.jwt.token");

struct Ciphertext {
    key: String,
    associated_data: String,
    plaintext: String,
}

struct State {
    /// Keys by name, with the oldest version that still decrypts.
    keys: BTreeMap<String, u64>,
    made: Vec<Ciphertext>,
    /// Paths and statuses of all requests.
    calls: Vec<(String, u16)>,
    sealed: bool,
    /// The namespace every request must name; empty for none.
    namespace: String,
    tokens: Vec<String>,
    /// Seconds that tokens have left, of an hour, if they can be renewed.
    left: Option<u64>,
    /// What the key-value engines hold, by path.
    secrets: BTreeMap<String, Value>,
}

/// A running fake.
pub struct Transit {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Transit {
    /// Starts one with these keys, mounted at `transit`.
    pub fn start(keys: &[&str]) -> Self {
        let state = Arc::new(Mutex::new(State {
            keys: keys.iter().map(|key| ((*key).to_owned(), 1)).collect(),
            made: Vec::new(),
            calls: Vec::new(),
            sealed: false,
            namespace: String::new(),
            tokens: vec![TOKEN.to_owned()],
            left: None,
            secrets: BTreeMap::new(),
        }));
        let shared = Arc::clone(&state);
        let handler = move |request: &Request| {
            let mut state = shared.lock().expect("state");
            let (status, body) = answer(&mut state, request);
            state.calls.push((request.path.clone(), status));
            (status, body)
        };
        Self { server: Server::start("application/json", Arc::new(handler)), state }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes how it behaves.
    pub fn set_mood(&self, mood: Mood) {
        self.server.set_mood(mood);
    }

    /// Seals or unseals it.
    pub fn set_sealed(&self, sealed: bool) {
        self.state.lock().expect("state").sealed = sealed;
    }

    /// Raises or lowers the oldest version of a key that still decrypts; ciphertexts here are of version 1.
    pub fn set_min_decryption_version(&self, key: &str, version: u64) {
        self.state.lock().expect("state").keys.insert(key.to_owned(), version);
    }

    /// Deletes a key.
    pub fn delete(&self, key: &str) {
        self.state.lock().expect("state").keys.remove(key);
    }

    /// Demands a namespace.
    pub fn set_namespace(&self, namespace: &str) {
        namespace.clone_into(&mut self.state.lock().expect("state").namespace);
    }

    /// Makes tokens renewable, with this many seconds left of an hour.
    pub fn set_left(&self, seconds: u64) {
        self.state.lock().expect("state").left = Some(seconds);
    }

    /// Puts a secret into an engine of the second version, mounted at `secret`.
    pub fn set_secret(&self, name: &str, data: &Value) {
        let wrapped = json!({ "data": data, "metadata": { "version": 1, "destroyed": false } });
        self.set_secret_at(&format!("secret/data/{name}"), wrapped);
    }

    /// Puts what an engine of the first version holds at a path.
    pub fn set_secret_at(&self, path: &str, data: Value) {
        self.state.lock().expect("state").secrets.insert(path.to_owned(), data);
    }

    /// Revokes every token there is.
    pub fn revoke_tokens(&self) {
        self.state.lock().expect("state").tokens.clear();
    }

    /// Paths and statuses of all requests.
    pub fn calls(&self) -> Vec<(String, u16)> {
        self.state.lock().expect("state").calls.clone()
    }
}

fn errors(status: u16, text: &str) -> (u16, Value) {
    (status, json!({ "errors": [text] }))
}

fn answer(state: &mut State, request: &Request) -> (u16, Value) {
    if state.sealed {
        return errors(503, "Vault is sealed");
    }
    if request.header("x-vault-request") != "true" {
        return errors(412, "missing 'X-Vault-Request' header");
    }
    if request.header("x-vault-namespace") != state.namespace {
        return errors(404, "no handler for route");
    }
    let body = request.json();
    let path = request.path.strip_prefix("/v1/").unwrap_or_default();
    let logged_in = |state: &mut State| {
        let token = format!("s.session-{}", state.calls.len());
        state.tokens.push(token.clone());
        (200, json!({ "auth": { "client_token": token, "lease_duration": 60 } }))
    };
    match path {
        "auth/approle/login" => {
            let right = body["role_id"] == APPROLE.0 && body["secret_id"] == APPROLE.1;
            return if right { logged_in(state) } else { errors(400, "invalid role or secret ID") };
        }
        "auth/kubernetes/login" => {
            let right = body["role"] == KUBERNETES.0 && body["jwt"] == KUBERNETES.1;
            return if right { logged_in(state) } else { errors(403, "permission denied") };
        }
        _ => {}
    }
    let token = request.header("x-vault-token");
    if path == "auth/token/lookup-self" {
        let known = token == POWERLESS_TOKEN || state.tokens.iter().any(|one| one == token);
        let about = json!({ "data": { "renewable": state.left.is_some(), "ttl": state.left, "creation_ttl": 3600 } });
        return if known { (200, about) } else { errors(403, "permission denied") };
    }
    if !state.tokens.iter().any(|one| one == token) {
        return errors(403, "1 error occurred:\n\t* permission denied\n\n");
    }
    if path == "auth/token/renew-self" {
        state.left = state.left.map(|_| 3600);
        return (200, json!({ "auth": { "client_token": token, "lease_duration": 3600 } }));
    }
    if request.method == "GET" {
        return match state.secrets.get(path) {
            Some(data) => (200, json!({ "data": data, "lease_duration": 0 })),
            None => (404, json!({ "errors": [] })),
        };
    }
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["transit", "encrypt", key] => encrypt(state, key, &body),
        ["transit", "decrypt", key] => decrypt(state, key, &body),
        _ => errors(404, "no handler for route"),
    }
}

fn encrypt(state: &mut State, key: &str, body: &Value) -> (u16, Value) {
    if !state.keys.contains_key(key) {
        return errors(400, "encryption key not found");
    }
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let ciphertext = format!("vault:v1:{}", state.made.len());
    let (associated_data, plaintext) = (text("associated_data"), text("plaintext"));
    state.made.push(Ciphertext { key: key.to_owned(), associated_data, plaintext });
    (200, json!({ "data": { "ciphertext": ciphertext, "key_version": 1 } }))
}

fn decrypt(state: &State, key: &str, body: &Value) -> (u16, Value) {
    let Some(oldest) = state.keys.get(key) else { return errors(400, "encryption key not found") };
    let Some(number) = body["ciphertext"].as_str().and_then(|text| text.strip_prefix("vault:v1:")) else {
        return errors(400, "invalid ciphertext: no prefix");
    };
    if *oldest > 1 {
        return errors(400, "ciphertext or signature version is disallowed by policy (too old)");
    }
    let made = number.parse::<usize>().ok().and_then(|number| state.made.get(number));
    match made {
        Some(made) if made.key == key && body["associated_data"] == made.associated_data => {
            (200, json!({ "data": { "plaintext": made.plaintext } }))
        }
        _ => errors(400, "cipher: message authentication failed"),
    }
}
