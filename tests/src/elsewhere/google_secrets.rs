//! A fake of Google Secret Manager, of its token endpoint and of the metadata server, written from their API reference.
//! Nothing of Google's runs in these tests.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::gcp::log_in;
use super::server::{Mood, Request, Server};

/// The project, by its identifier and by its number, which the names of secrets have.
pub const PROJECT: (&str, &str) = ("keys-of-hoodi", "417000");
/// The identifier, secret and refresh token of a person who logged in, and the project whose quota their requests need.
pub const PERSON: (&str, &str, &str, &str) = ("app.apps.example", "GOCSPX-hunter2&", "1//hunter2+/=", "quota-p");
/// What a token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Tokens of a service account, of the person, and of the machine.
const TOKENS: [&str; 3] = ["ya29.account-hunter2", "ya29.person-hunter2", "ya29.machine-hunter2"];
/// Secrets on one page of the list.
const PAGE: usize = 2;

struct Secret {
    name: String,
    value: Vec<u8>,
    /// Names and values.
    labels: Vec<(String, String)>,
    state: Version,
}

/// How the newest version of a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// It can be read.
    Enabled,
    /// It is switched off.
    Disabled,
    /// It comes with the checksum of something else.
    Damaged,
}

struct State {
    secrets: Vec<Secret>,
    permitted: bool,
    /// The public key of the service account, as a PEM file, if it may log in.
    account: Option<PathBuf>,
    /// Whether the machine has an account.
    machine: bool,
    /// Answers that gave a token out.
    logins: usize,
    /// Pages of lists that were given out.
    pages: usize,
}

/// A running fake.
pub struct GoogleSecrets {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl GoogleSecrets {
    /// Starts one, in which nobody but the person can log in.
    pub fn start() -> Self {
        let state = State { secrets: Vec::new(), permitted: true, account: None, machine: false, logins: 0, pages: 0 };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let handler = move |request: &Request| answer(&mut shared.lock().expect("state"), request);
        Self { server: Server::start("application/json", Arc::new(handler)), state }
    }

    /// Where it listens: the API, the token endpoint at `/token`, and the metadata server.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes how it behaves.
    pub fn set_mood(&self, mood: Mood) {
        self.server.set_mood(mood);
    }

    /// Puts a secret into it.
    pub fn set_secret(&self, name: &str, value: &[u8], labels: &[(&str, &str)], state: Version) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let secret = Secret { name: name.to_owned(), value: value.to_vec(), labels, state };
        self.state.lock().expect("state").secrets.push(secret);
    }

    /// Grants or withdraws the reading of secrets.
    pub fn set_permitted(&self, permitted: bool) {
        self.state.lock().expect("state").permitted = permitted;
    }

    /// Accepts statements signed with the key whose public half is in this PEM file.
    pub fn set_account(&self, public_key: Option<PathBuf>) {
        self.state.lock().expect("state").account = public_key;
    }

    /// Gives the machine an account, or takes it away.
    pub fn set_machine(&self, has_one: bool) {
        self.state.lock().expect("state").machine = has_one;
    }

    /// How many tokens and how many pages of lists were given out since the last time.
    pub fn take_counts(&self) -> (usize, usize) {
        let mut state = self.state.lock().expect("state");
        let counts = (state.logins, state.pages);
        (state.logins, state.pages) = (0, 0);
        counts
    }
}

fn error(code: u16, status: &str, message: &str) -> (u16, Value) {
    (code, json!({ "error": { "code": code, "status": status, "message": message } }))
}

fn given(token: &str) -> (u16, Value) {
    (200, json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" }))
}

/// Names and values of a form or a query.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescaped(name), unescaped(value))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.extend(hex::decode(digits).expect("two hexadecimal digits after %"));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn field<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

/// CRC-32C, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}

/// Both grants of the token endpoint.
fn log_in_as(state: &State, body: &[u8]) -> (u16, Value) {
    let form = pairs(&String::from_utf8_lossy(body));
    if field(&form, "grant_type") != "refresh_token" {
        return log_in(state.account.as_deref(), body, SCOPE, TOKENS[0]);
    }
    let shown = (field(&form, "client_id"), field(&form, "client_secret"), field(&form, "refresh_token"));
    if shown == (PERSON.0, PERSON.1, PERSON.2) {
        given(TOKENS[1])
    } else {
        let why = "Token has been expired or revoked.";
        (400, json!({ "error": "invalid_grant", "error_description": why }))
    }
}

/// A page of the secrets that have the label which the filter `labels.NAME=VALUE` names, or of all.
fn list(state: &mut State, query: &str) -> (u16, Value) {
    let query = pairs(query);
    let filter = field(&query, "filter");
    let wanted = filter.strip_prefix("labels.").and_then(|rest| rest.split_once('='));
    if wanted.is_none() && !filter.is_empty() {
        return error(400, "INVALID_ARGUMENT", "Invalid filter.");
    }
    let has = |secret: &&Secret| {
        let same = |(name, value): (&str, &str)| secret.labels.iter().any(|(n, v)| n == name && v == value);
        wanted.is_none_or(same)
    };
    // A token goes with its filter, and has letters that a query cannot have.
    let skip = match field(&query, "pageToken") {
        "" => 0,
        token => match token.strip_prefix(&format!("&{filter}+/=")).and_then(|number| number.parse().ok()) {
            Some(skip) => skip,
            None => return error(400, "INVALID_ARGUMENT", "The page token is invalid."),
        },
    };
    let asked: usize = field(&query, "pageSize").parse().unwrap_or(0);
    assert!((1..=25_000).contains(&asked), "a size of pages");
    let found: Vec<&Secret> = state.secrets.iter().filter(has).collect();
    let on_page = found.iter().skip(skip).take(PAGE);
    let secrets: Vec<Value> = on_page
        .map(|secret| {
            let labels: Value = secret.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({ "name": resource(&secret.name), "labels": labels, "replication": { "automatic": {} } })
        })
        .collect();
    // Fields that are empty are left out.
    let mut page = json!({});
    if !secrets.is_empty() {
        page["secrets"] = secrets.into();
        page["totalSize"] = found.len().into();
    }
    if skip + PAGE < found.len() {
        page["nextPageToken"] = format!("&{filter}+/={}", skip + PAGE).into();
    }
    state.pages += 1;
    (200, page)
}

fn resource(name: &str) -> String {
    format!("projects/{}/secrets/{name}", PROJECT.1)
}

/// The newest version of a secret.
fn access(state: &State, name: &str) -> (u16, Value) {
    let Some(secret) = state.secrets.iter().find(|secret| secret.name == name) else {
        return error(404, "NOT_FOUND", &format!("Secret [{}] not found or has no versions.", resource(name)));
    };
    let version = format!("{}/versions/3", resource(name));
    if secret.state == Version::Disabled {
        return error(400, "FAILED_PRECONDITION", &format!("Secret Version [{version}] is in DISABLED state."));
    }
    let sum = checksum(&secret.value) ^ u32::from(secret.state == Version::Damaged);
    (
        200,
        json!({
            "name": version, "payload": { "data": BASE64.encode(&secret.value), "dataCrc32c": sum.to_string() },
        }),
    )
}

fn answer(state: &mut State, request: &Request) -> (u16, Value) {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    if path == "/computeMetadata/v1/instance/service-accounts/default/token" {
        let right = request.header("metadata-flavor") == "Google";
        let told = if right && state.machine { given(TOKENS[2]) } else { (404, Value::Null) };
        state.logins += usize::from(told.0 == 200);
        return told;
    }
    if path == "/token" {
        let told = log_in_as(state, &request.body);
        state.logins += usize::from(told.0 == 200);
        return told;
    }
    let Some(who) = TOKENS.iter().position(|token| request.header("authorization") == format!("Bearer {token}")) else {
        return error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
    };
    // A person's requests need a project that pays; an account has one of its own.
    let pays = request.header("x-goog-user-project");
    if (who == 1 && pays != PERSON.3) || (who != 1 && !pays.is_empty()) {
        return error(403, "PERMISSION_DENIED", "The secretmanager.googleapis.com API requires a quota project.");
    }
    if !state.permitted {
        return error(403, "PERMISSION_DENIED", "Permission 'secretmanager.secrets.list' denied");
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["v1", "projects", project, "secrets"] if request.method == "GET" && *project == PROJECT.0 => {
            list(state, query)
        }
        ["v1", "projects", project, "secrets", name, "versions", "latest:access"]
            if request.method == "GET" && *project == PROJECT.1 =>
        {
            access(state, name)
        }
        _ => error(404, "NOT_FOUND", "no such method"),
    }
}
