//! A fake of AWS KMS, written from its API reference: `Encrypt` and `Decrypt` over JSON 1.1 with key states, aliases,
//! encryption context and the error codes of the real service.
//!
//! With a [`RecipientPolicy`] it is a key that only enclaves may decrypt with, and answers them in the real shape.
//!
//! Unlike the emulators there are, it refuses what the real service refuses: a disabled key, a key that waits for its
//! deletion, another key than the one a ciphertext was made with. It does not check signatures; access keys that start
//! with EXPIRED, UNKNOWN or DENIED are treated as such.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::recipient::RecipientPolicy;
use super::server::{Mood, Request, Server};

/// State of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It works.
    Enabled,
    /// Switched off.
    Disabled,
    /// About to be deleted.
    PendingDeletion,
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `Encrypt` or `Decrypt`.
    pub operation: String,
    /// The key it named.
    pub key: String,
    /// Its encryption context.
    pub context: BTreeMap<String, String>,
    /// The error it got; empty for none.
    pub error: String,
}

struct Ciphertext {
    key: usize,
    context: BTreeMap<String, String>,
    plaintext: Vec<u8>,
}

#[derive(Default)]
struct State {
    /// Keys by alias, with their state.
    keys: Vec<(String, KeyState)>,
    made: Vec<Ciphertext>,
    calls: Vec<Call>,
    /// Answers everything so, if set.
    broken: Option<&'static str>,
    /// Which enclaves may decrypt, if none but enclaves may.
    recipients: Option<RecipientPolicy>,
}

/// A running fake.
pub struct Kms {
    server: Server,
    state: Arc<Mutex<State>>,
}

/// The code of an error.
type Code = &'static str;

impl Kms {
    /// Starts one with these keys, as `alias/NAME`.
    pub fn start(aliases: &[&str]) -> Self {
        let keys = aliases.iter().map(|alias| ((*alias).to_owned(), KeyState::Enabled)).collect();
        let state = Arc::new(Mutex::new(State { keys, ..State::default() }));
        let shared = Arc::clone(&state);
        let handler = move |request: &Request| answer(&mut shared.lock().expect("state"), request);
        Self { server: Server::start("application/x-amz-json-1.1", Arc::new(handler)), state }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes how it behaves.
    pub fn set_mood(&self, mood: Mood) {
        self.server.set_mood(mood);
    }

    /// Changes the state of a key.
    pub fn set_state(&self, alias: &str, to: KeyState) {
        let mut state = self.state.lock().expect("state");
        state.keys.iter_mut().filter(|(name, _)| name == alias).for_each(|(_, state)| *state = to);
    }

    /// Answers every call with this error from now on, or no longer.
    pub fn break_with(&self, code: Option<&'static str>) {
        self.state.lock().expect("state").broken = code;
    }

    /// From now on only enclaves may decrypt, and only these: the part of a key policy that
    /// `kms:RecipientAttestation` is about.
    pub fn only_for(&self, recipients: RecipientPolicy) {
        self.state.lock().expect("state").recipients = Some(recipients);
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().expect("state").calls.clone()
    }

    /// What was encrypted so far.
    pub fn plaintexts(&self) -> Vec<Vec<u8>> {
        self.state.lock().expect("state").made.iter().map(|made| made.plaintext.clone()).collect()
    }

    /// How many calls of an operation there were.
    pub fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|call| call.operation == operation).count()
    }

    /// The ARN of a key, which names it as its alias does.
    pub fn arn(&self, alias: &str) -> String {
        let state = self.state.lock().expect("state");
        arn(state.keys.iter().position(|(name, _)| name == alias).expect("a known alias"))
    }
}

fn arn(key: usize) -> String {
    format!("arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-{key:012}")
}

fn answer(state: &mut State, request: &Request) -> (u16, Value) {
    let operation = request.header("x-amz-target").strip_prefix("TrentService.").unwrap_or_default().to_owned();
    let body = request.json();
    let context: BTreeMap<String, String> =
        serde_json::from_value(body["EncryptionContext"].clone()).unwrap_or_default();
    let key = body["KeyId"].as_str().unwrap_or_default().to_owned();
    let done = permitted(state, request).and_then(|()| match operation.as_str() {
        "Encrypt" => encrypt(state, &key, &body, &context),
        "Decrypt" => decrypt(state, &key, &body, &context),
        _ => Err("UnknownOperationException"),
    });
    let error = done.as_ref().err().copied().unwrap_or_default().to_owned();
    state.calls.push(Call { operation, key, context, error });
    match done {
        Ok(value) => (200, value),
        Err(code @ ("KMSInternalException" | "KeyUnavailableException")) => (500, json!({ "__type": code })),
        Err(code) => (400, json!({ "__type": code, "message": format!("fake: {code}") })),
    }
}

fn permitted(state: &State, request: &Request) -> Result<(), Code> {
    if let Some(code) = state.broken {
        return Err(code);
    }
    let credential = request.header("authorization").split("Credential=").nth(1).unwrap_or_default();
    match credential {
        "" => Err("MissingAuthenticationToken"),
        key if key.starts_with("EXPIRED") => Err("ExpiredTokenException"),
        key if key.starts_with("UNKNOWN") => Err("UnrecognizedClientException"),
        key if key.starts_with("DENIED") => Err("AccessDeniedException"),
        _ => Ok(()),
    }
}

fn usable(state: &State, name: &str) -> Result<usize, Code> {
    let place = state.keys.iter().enumerate().position(|(place, (alias, _))| alias == name || arn(place) == name);
    let place = place.ok_or("NotFoundException")?;
    match state.keys[place].1 {
        KeyState::Enabled => Ok(place),
        KeyState::Disabled => Err("DisabledException"),
        KeyState::PendingDeletion => Err("KMSInvalidStateException"),
    }
}

fn blob(body: &Value, field: &str) -> Result<Vec<u8>, Code> {
    BASE64.decode(body[field].as_str().unwrap_or_default()).map_err(|_| "SerializationException")
}

fn encrypt(state: &mut State, key: &str, body: &Value, context: &BTreeMap<String, String>) -> Result<Value, Code> {
    let key = usable(state, key)?;
    let plaintext = blob(body, "Plaintext")?;
    // The blob of the real service says more, and is of no fixed length either.
    let handle = format!("fake ciphertext {} of {}", state.made.len(), arn(key));
    state.made.push(Ciphertext { key, context: context.clone(), plaintext });
    Ok(
        json!({ "KeyId": arn(key), "CiphertextBlob": BASE64.encode(handle), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT" }),
    )
}

fn decrypt(state: &State, key: &str, body: &Value, context: &BTreeMap<String, String>) -> Result<Value, Code> {
    let handle = String::from_utf8(blob(body, "CiphertextBlob")?).map_err(|_| "InvalidCiphertextException")?;
    let known = state
        .made
        .iter()
        .enumerate()
        .find(|(number, made)| handle == format!("fake ciphertext {number} of {}", arn(made.key)));
    let (_, made) = known.ok_or("InvalidCiphertextException")?;
    // Without a key the real service takes the one the ciphertext names: the client must not rely on that.
    let key = if key.is_empty() { return Err("ValidationException") } else { usable(state, key)? };
    if key != made.key {
        return Err("IncorrectKeyException");
    }
    if *context != made.context {
        return Err("InvalidCiphertextException");
    }
    let mut answer = json!({ "KeyId": arn(key), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT" });
    match (&body["Recipient"], &state.recipients) {
        (Value::Null, None) => answer["Plaintext"] = BASE64.encode(&made.plaintext).into(),
        (Value::Null, Some(_)) => return Err("AccessDeniedException"),
        (recipient, policy) => {
            if recipient["KeyEncryptionAlgorithm"] != "RSAES_OAEP_SHA_256" {
                return Err("ValidationException");
            }
            let document = blob(recipient, "AttestationDocument")?;
            let everybody = RecipientPolicy::default();
            let envelope = policy.as_ref().unwrap_or(&everybody).answer(&document, &made.plaintext)?;
            answer["CiphertextForRecipient"] = BASE64.encode(envelope).into();
        }
    }
    Ok(answer)
}
