//! Logging in with a file of credentials. A service account's statement, signed with its RSA key, is exchanged for a token
//! of an hour (RFC 7523; Google's "OAuth 2.0 for Server to Server Applications"); so is the refresh token that `gcloud`
//! keeps for a person (RFC 6749, section 6).
//!
//! Guarantees: a file that is open to others is refused; nothing of a file is shown but the names of its fields.

use std::fmt::Display;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use holdfast_enclave::durable;
use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use holdfast_secret::SecretText;
use hyper::Method;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::token_in;
use crate::http::{Body, Client};

/// Seconds a statement is good for, the longest that is accepted.
const LIFE: u64 = 3600;
/// Where a person's refresh token is exchanged if their file names no other place, as it usually does not.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// Kinds of files that Google's libraries read, and this does not.
const OTHER_KINDS: [&str; 4] =
    ["external_account", "external_account_authorized_user", "gdch_service_account", "impersonated_service_account"];

/// Who logs in, as a file says.
pub(crate) struct Credentials {
    login: Login,
    /// The project whose quota requests count for, if it is another than the account's.
    pub(crate) quota_project: Option<String>,
}

enum Login {
    Account(Account),
    Person(Person),
}

struct Account {
    email: String,
    id: String,
    token_uri: String,
    key: RsaKeyPair,
}

struct Person {
    id: String,
    secret: SecretText,
    refresh: SecretText,
    token_uri: String,
}

impl Credentials {
    /// Those of a service account's key file.
    ///
    /// # Errors
    /// [`ServiceFailure::Credentials`] if the file is none, or is open to others.
    pub(super) fn of_account(path: &Path) -> Result<Self, ServiceError> {
        let file = File::read(path)?;
        Ok(Self { login: Login::Account(file.account()?), quota_project: file.text("quota_project_id") })
    }

    /// Application default credentials: of a service account, or of a person who logged in.
    ///
    /// # Errors
    /// [`ServiceFailure::Credentials`] likewise, or if the file is of another kind.
    pub(crate) fn read(path: &Path) -> Result<Self, ServiceError> {
        let file = File::read(path)?;
        let kind = file.text("type").unwrap_or_default();
        let login = match kind.as_str() {
            "service_account" => Login::Account(file.account()?),
            "authorized_user" => Login::Person(file.person()?),
            kind => {
                let what = if OTHER_KINDS.contains(&kind) { kind } else { "no kind that is known" };
                return Err(file.unusable(format!(
                    "its \"type\" is {what}, which is not read here; name the key file of a service account with \
                     GOOGLE_APPLICATION_CREDENTIALS, or log in with `gcloud auth application-default login`"
                )));
            }
        };
        Ok(Self { login, quota_project: file.text("quota_project_id") })
    }

    /// A token for this scope. A person's has the scopes that they logged in for.
    ///
    /// # Errors
    /// [`ServiceError`]; refused credentials are [`ServiceFailure::Credentials`].
    pub(crate) async fn token(&self, client: &Client, scope: &str) -> Result<SecretText, ServiceError> {
        let answer = match &self.login {
            Login::Account(account) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the statement carries the time of day; the helper process has no clock"
                )]
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let statement = account.statement(now, scope)?;
                let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                let form = [grant, ("assertion", statement.expose())];
                client.send(Method::POST, &account.token_uri, &[], Body::Form(&form)).await?
            }
            Login::Person(person) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", person.id.as_str()),
                    ("client_secret", person.secret.expose()),
                    ("refresh_token", person.refresh.expose()),
                ];
                client.send(Method::POST, &person.token_uri, &[], Body::Form(&form)).await?
            }
        };
        // Refused also if this machine's clock is wrong, as the server then says.
        token_in(&answer)
    }
}

impl Account {
    /// The statement that this account made at this time, in seconds of Unix time.
    fn statement(&self, now: u64, scope: &str) -> Result<SecretText, ServiceError> {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.id });
        let claims = json!({
            "iss": self.email, "scope": scope, "aud": self.token_uri, "iat": now, "exp": now.saturating_add(LIFE),
        });
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let done = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        done.map_err(|error| {
            ServiceError::new(ServiceFailure::Unusable, format!("the account's key does not sign: {error}"))
        })?;
        Ok(SecretText::new(format!("{signed}.{}", BASE64.encode(signature))))
    }
}

/// A file of credentials, by name of field.
struct File<'a> {
    path: &'a Path,
    fields: Value,
}

impl<'a> File<'a> {
    fn read(path: &'a Path) -> Result<Self, ServiceError> {
        durable::check_private_permissions(path).map_err(|error| unusable(path, error))?;
        let text = Zeroizing::new(std::fs::read(path).map_err(|error| unusable(path, error))?);
        // Of what the parser says, only the place: it could quote.
        let fields = serde_json::from_slice(&text).map_err(|error| {
            unusable(path, format!("it is no JSON (line {}, column {})", error.line(), error.column()))
        })?;
        Ok(Self { path, fields })
    }

    fn unusable(&self, why: impl Display) -> ServiceError {
        unusable(self.path, why)
    }

    /// A field that is a text and not empty.
    fn text(&self, name: &str) -> Option<String> {
        self.fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn need(&self, name: &str, what: &str) -> Result<String, ServiceError> {
        self.text(name).ok_or_else(|| self.unusable(format!("it has no {name:?}; {what}")))
    }

    fn account(&self) -> Result<Account, ServiceError> {
        let need = |name| self.need(name, "is it of a service account?");
        let pem = Zeroizing::new(need("private_key")?);
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| self.unusable("its private_key is no PKCS #8 key in PEM"))?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|error| self.unusable(format!("its private_key cannot be used: {error}")))?;
        let id = self.text("private_key_id").unwrap_or_default();
        Ok(Account { email: need("client_email")?, id, token_uri: need("token_uri")?, key })
    }

    fn person(&self) -> Result<Person, ServiceError> {
        let need = |name| self.need(name, "log in again with `gcloud auth application-default login`");
        Ok(Person {
            id: need("client_id")?,
            secret: SecretText::new(need("client_secret")?),
            refresh: SecretText::new(need("refresh_token")?),
            token_uri: self.text("token_uri").unwrap_or_else(|| TOKEN_URI.to_owned()),
        })
    }
}

fn unusable(path: &Path, why: impl Display) -> ServiceError {
    ServiceError::new(ServiceFailure::Credentials, format!("the key file {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What comes of a file with this text: the project for its quota, or the words about it.
    fn of(text: &str, mode: u32) -> Result<Option<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.json");
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        match Credentials::read(&path) {
            Ok(read) => Ok(read.quota_project),
            Err(error) => {
                assert_eq!(error.failure, ServiceFailure::Credentials);
                Err(error.source.to_string())
            }
        }
    }

    #[test]
    fn a_person_is_read_and_what_is_lacking_or_another_kind_is_named() {
        let person = |more: Value| {
            let mut file = json!({ "type": "authorized_user", "client_id": "c", "client_secret": "hunter2" });
            file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of(&file.to_string(), 0o600)
        };
        assert_eq!(person(json!({ "refresh_token": "1//hunter2" })), Ok(None));
        let quota = json!({ "refresh_token": "1//hunter2", "quota_project_id": "q" });
        assert_eq!(person(quota.clone()), Ok(Some("q".to_owned())));
        for (lacking, words) in [
            (person(json!({ "refresh_token": "" })), "it has no \"refresh_token\"; log in again"),
            (person(json!({ "type": "external_account" })), "its \"type\" is external_account"),
            (person(json!({ "type": "hunter2" })), "its \"type\" is no kind that is known"),
            (person(json!({ "type": "service_account" })), "it has no \"private_key\""),
            (of("hunter2", 0o600), "it is no JSON (line 1"),
            (of(&quota.to_string(), 0o644), "chmod 600"),
        ] {
            let said = lacking.unwrap_err();
            assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
        }
    }
}
