//! A fake of Azure Key Vault, of the instance metadata service and of the login for applications, written from their API
//! reference. Nothing of Microsoft's runs in these tests.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::server::{Mood, Request, Server};

/// The tenant, the application and its secret.
pub const APPLICATION: (&str, &str, &str) = ("tenant-1", "app-1", "secret&1");
/// The federated token that logs the application in as well.
pub const FEDERATED: &str = "federated.jwt";
const TOKEN: &str = "eyJ.good";

struct State {
    url: String,
    key: String,
    version: u32,
    enabled: bool,
    permitted: bool,
    /// Version and plaintext, in base64.
    made: Vec<(u32, String)>,
    secrets: Vec<Secret>,
}

struct Secret {
    name: String,
    value: String,
    tags: Value,
    enabled: bool,
}

/// Secrets on one page of the list.
const PAGE: usize = 2;

/// A running fake.
pub struct Azure {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Azure {
    /// Starts one with this key.
    pub fn start(key: &str) -> Self {
        let state = State {
            url: String::new(),
            key: key.to_owned(),
            version: 1,
            enabled: true,
            permitted: true,
            made: Vec::new(),
            secrets: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let handler = move |request: &Request| answer(&mut shared.lock().expect("state"), request);
        let server = Server::start("application/json", Arc::new(handler));
        state.lock().expect("state").url = server.url();
        Self { server, state }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The address of a key in it.
    pub fn key(&self, name: &str) -> String {
        format!("{}/keys/{name}", self.url())
    }

    /// Changes how it behaves.
    pub fn set_mood(&self, mood: Mood) {
        self.server.set_mood(mood);
    }

    /// Switches the key on or off.
    pub fn set_enabled(&self, enabled: bool) {
        self.state.lock().expect("state").enabled = enabled;
    }

    /// Grants or withdraws the use of keys.
    pub fn set_permitted(&self, permitted: bool) {
        self.state.lock().expect("state").permitted = permitted;
    }

    /// Puts a secret into it.
    pub fn set_secret(&self, name: &str, value: &str, tags: Value, enabled: bool) {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.state.lock().expect("state").secrets.push(Secret { name, value, tags, enabled });
    }

    /// Makes a new version of the key the current one.
    pub fn rotate(&self) {
        self.state.lock().expect("state").version += 1;
    }
}

fn error(status: u16, code: &str, inner: &str) -> (u16, Value) {
    (status, json!({ "error": { "code": code, "message": format!("fake: {code}"), "innererror": { "code": inner } } }))
}

fn token() -> (u16, Value) {
    (200, json!({ "access_token": TOKEN, "token_type": "Bearer" }))
}

fn log_in(form: &str) -> (u16, Value) {
    let has = |field: &str| form.split('&').any(|one| one == field);
    let application = has(&format!("client_id={}", APPLICATION.1)) && has("grant_type=client_credentials");
    let secret = has(&format!("client_secret={}", APPLICATION.2.replace('&', "%26")));
    let federated = has(&format!("client_assertion={FEDERATED}"))
        && has("client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer");
    let scope = has("scope=https%3A%2F%2Fvault.azure.net%2F.default");
    if application && scope && (secret || federated) {
        token()
    } else {
        (401, json!({ "error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret" }))
    }
}

fn id(state: &State, secret: &Secret) -> String {
    format!("{}/secrets/{}", state.url, secret.name)
}

/// A page of the list, and where the next one is.
fn list(state: &State, query: &str) -> (u16, Value) {
    let skip = query.split("skiptoken=").nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let page = state.secrets.iter().skip(skip).take(PAGE);
    let value: Vec<Value> = page
        .map(|secret| {
            json!({ "id": id(state, secret), "tags": secret.tags, "attributes": { "enabled": secret.enabled } })
        })
        .collect();
    let more = skip + PAGE < state.secrets.len();
    let next = more.then(|| format!("{}/secrets?api-version=7.4&skiptoken={}", state.url, skip + PAGE));
    (200, json!({ "value": value, "nextLink": next }))
}

fn answer(state: &mut State, request: &Request) -> (u16, Value) {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    if path == "/metadata/identity/oauth2/token" {
        let right = request.header("metadata") == "true" && query.contains("resource=https://vault.azure.net");
        return if right { token() } else { (400, json!({ "error_description": "Identity not found" })) };
    }
    if path == format!("/{}/oauth2/v2.0/token", APPLICATION.0) {
        return log_in(&String::from_utf8_lossy(&request.body));
    }
    if request.header("authorization") != format!("Bearer {TOKEN}") || !query.contains("api-version=") {
        return error(401, "Unauthorized", "");
    }
    if !state.permitted {
        return error(403, "Forbidden", "ForbiddenByPolicy");
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let (name, version, operation) = match parts.as_slice() {
        ["secrets"] if request.method == "GET" => return list(state, query),
        ["secrets", name] if request.method == "GET" => {
            let found = state.secrets.iter().find(|secret| secret.name == *name);
            return match found {
                Some(secret) if secret.enabled => (200, json!({ "value": secret.value, "id": id(state, secret) })),
                Some(_) => error(403, "Forbidden", "SecretDisabled"),
                None => error(404, "SecretNotFound", ""),
            };
        }
        ["keys", name, operation] => (*name, state.version, *operation),
        ["keys", name, version, operation] => (*name, version.parse().unwrap_or(0), *operation),
        _ => return error(404, "NotFound", ""),
    };
    if name != state.key || version == 0 || version > state.version {
        return error(404, "KeyNotFound", "");
    }
    if !state.enabled {
        return error(403, "Forbidden", "KeyDisabled");
    }
    let body = request.json();
    if body["alg"] != "RSA-OAEP-256" {
        return error(400, "BadParameter", "");
    }
    let (value, kid) = (body["value"].as_str().unwrap_or_default(), format!("{}/keys/{name}/{version}", state.url));
    match operation {
        "wrapkey" => {
            let ciphertext = format!("{:08}", state.made.len());
            state.made.push((version, value.to_owned()));
            (200, json!({ "kid": kid, "value": ciphertext }))
        }
        "unwrapkey" => match value.parse::<usize>().ok().and_then(|number| state.made.get(number)) {
            Some((by, plain)) if *by == version => (200, json!({ "kid": kid, "value": plain })),
            _ => error(400, "BadParameter", ""),
        },
        _ => error(404, "NotFound", ""),
    }
}
