//! A fake of Google Cloud KMS and of the metadata server, written from their API reference. Nothing of Google's runs in
//! these tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::server::{Mood, Request, Server};

/// The token the metadata server gives out.
const TOKEN: &str = "ya29.good";
/// What a token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";

/// The state of the only version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// It works.
    Enabled,
    /// Switched off.
    Disabled,
}

struct State {
    keys: Vec<(String, Version)>,
    /// Key, additional authenticated data and plaintext, both in base64.
    made: Vec<(String, String, String)>,
    /// Whether the machine's account may use keys.
    permitted: bool,
    /// Whether tokens given out before are still good.
    token: String,
    /// The public key of the service account, as a PEM file, if there is one.
    account: Option<PathBuf>,
}

/// The service account that may log in with a key.
pub const ACCOUNT: &str = "signer@p.iam.gserviceaccount.com";

/// A running fake.
pub struct Gcp {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Gcp {
    /// Starts one with these keys, by resource name.
    pub fn start(keys: &[&str]) -> Self {
        let keys = keys.iter().map(|key| ((*key).to_owned(), Version::Enabled)).collect();
        let token = TOKEN.to_owned();
        let state = Arc::new(Mutex::new(State { keys, made: Vec::new(), permitted: true, token, account: None }));
        let shared = Arc::clone(&state);
        let handler = move |request: &Request| answer(&mut shared.lock().expect("state"), request);
        Self { server: Server::start("application/json", Arc::new(handler)), state }
    }

    /// Where it listens: the API, and the metadata server.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes how it behaves.
    pub fn set_mood(&self, mood: Mood) {
        self.server.set_mood(mood);
    }

    /// Changes the state of a key's only version.
    pub fn set_version(&self, key: &str, to: Version) {
        let mut state = self.state.lock().expect("state");
        state.keys.iter_mut().filter(|(name, _)| name == key).for_each(|(_, version)| *version = to);
    }

    /// Grants or withdraws the use of keys.
    pub fn set_permitted(&self, permitted: bool) {
        self.state.lock().expect("state").permitted = permitted;
    }

    /// Accepts statements signed with the key whose public half is in this PEM file.
    pub fn set_account(&self, public_key: Option<PathBuf>) {
        self.state.lock().expect("state").account = public_key;
    }

    /// Accepts only another token than the one given out.
    pub fn revoke_tokens(&self) {
        "ya29.other".clone_into(&mut self.state.lock().expect("state").token);
    }
}

fn error(code: u16, status: &str, message: &str) -> (u16, Value) {
    (code, json!({ "error": { "code": code, "status": status, "message": message } }))
}

/// The token endpoint, for statements of [`ACCOUNT`]: gives `token` out for one that says this scope and is signed with
/// the account's key, which openssl checks.
pub(super) fn log_in(account: Option<&Path>, body: &[u8], scope: &str, token: &str) -> (u16, Value) {
    let refused = |why: &str| (400, json!({ "error": "invalid_grant", "error_description": why }));
    let form = String::from_utf8_lossy(body).into_owned();
    let field =
        |name: &str| form.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap_or_default();
    if field("grant_type") != "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer" {
        return refused("unsupported grant type");
    }
    let parts: Vec<&str> = field("assertion").split('.').collect();
    let (Some(account), [header, claims, signature]) = (account, parts.as_slice()) else {
        return refused("Invalid JWT Signature.");
    };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let said: Value = serde_json::from_slice(&decoded(claims)).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (from, until) = (said["iat"].as_u64().unwrap_or(0), said["exp"].as_u64().unwrap_or(0));
    if said["iss"] != ACCOUNT || !said["aud"].as_str().is_some_and(|aud| aud.ends_with("/token")) {
        return refused("Invalid JWT: wrong issuer or audience.");
    }
    if from > now + 60 || until < now || until > from + 3600 || said["scope"] != scope {
        return refused("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (text, sealed) = (folder.path().join("text"), folder.path().join("signature"));
    std::fs::write(&text, format!("{header}.{claims}")).expect("a file");
    std::fs::write(&sealed, decoded(signature)).expect("a file");
    let mut verify = Command::new("openssl");
    verify.args(["dgst", "-sha256", "-verify"]).arg(account).arg("-signature").arg(sealed).arg(text);
    let output = verify.output().expect("openssl starts: install openssl");
    if !output.status.success() {
        return refused("Invalid JWT Signature.");
    }
    (200, json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" }))
}

/// Makes an RSA key with openssl; the private half in PEM, and the file of the public half.
pub fn rsa_key(folder: &Path, name: &str) -> (String, PathBuf) {
    let (private, public) = (folder.join(name), folder.join(format!("{name}.pub")));
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().expect("openssl starts: install openssl");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let (at, to) = (private.display().to_string(), public.display().to_string());
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &at]);
    openssl(&["pkey", "-in", &at, "-pubout", "-out", &to]);
    (std::fs::read_to_string(private).expect("the key"), public)
}

/// The key file of [`ACCOUNT`] with this private key, which logs in at this server.
pub fn key_file(private: &str, server: &str) -> Value {
    json!({
        "type": "service_account", "private_key_id": "k1", "private_key": private, "client_email": ACCOUNT,
        "token_uri": format!("{server}/token"),
    })
}

fn answer(state: &mut State, request: &Request) -> (u16, Value) {
    if request.path.starts_with("/computeMetadata/") {
        let right = request.header("metadata-flavor") == "Google";
        let token = json!({ "access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer" });
        return if right { (200, token) } else { (403, Value::Null) };
    }
    if request.path == "/token" {
        return log_in(state.account.as_deref(), &request.body, SCOPE, TOKEN);
    }
    if request.header("authorization") != format!("Bearer {}", state.token) {
        return error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
    }
    if !state.permitted {
        return error(403, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied");
    }
    let named = request.path.strip_prefix("/v1/").and_then(|path| path.split_once(':'));
    let Some((key, operation)) = named else { return error(404, "NOT_FOUND", "no such method") };
    match state.keys.iter().find(|(name, _)| name == key) {
        None => return error(404, "NOT_FOUND", &format!("CryptoKey {key} not found.")),
        Some((_, Version::Disabled)) => {
            return error(400, "FAILED_PRECONDITION", "the version is not enabled, current state is: DISABLED.");
        }
        Some((_, Version::Enabled)) => {}
    }
    let body = request.json();
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let bound = text("additionalAuthenticatedData");
    match operation {
        "encrypt" => {
            // Base64 of bytes that stand for the number of the ciphertext.
            let ciphertext = format!("{:08}", state.made.len());
            state.made.push((key.to_owned(), bound, text("plaintext")));
            (200, json!({ "name": format!("{key}/cryptoKeyVersions/1"), "ciphertext": ciphertext }))
        }
        "decrypt" => {
            let made = text("ciphertext").parse::<usize>().ok().and_then(|number| state.made.get(number));
            match made {
                Some((owner, data, plaintext)) if owner == key && *data == bound => {
                    (200, json!({ "plaintext": plaintext }))
                }
                _ => error(400, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid."),
            }
        }
        _ => error(404, "NOT_FOUND", "no such method"),
    }
}
