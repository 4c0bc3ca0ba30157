//! Request bodies. Errors name a place and never what stands there: it may be a password.

use holdfast_domain::PublicKey;
use holdfast_enclave::Passphrase;
use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

use super::error::KeymanagerError;
use crate::keymanager::Wanted;

/// What an import is asked to do.
pub(super) struct ImportBody {
    /// The keystores with their passwords.
    pub(super) wanted: Vec<Wanted>,
    /// An interchange file as text.
    pub(super) slashing_protection: Option<String>,
}

#[derive(Deserialize)]
struct ImportMembers {
    keystores: Vec<String>,
    passwords: Vec<String>,
    #[serde(default)]
    slashing_protection: Option<String>,
}

const IMPORT: &str = "{\"keystores\": [texts], \"passwords\": [texts], \"slashing_protection\": text, may be left out}; keystores and \
     slashing protection are JSON inside texts";
const PUBKEYS: &str = "{\"pubkeys\": [public keys, 0x and 96 digits each]}";
const REMOTE_KEYS: &str = "{\"remote_keys\": [{\"pubkey\": …, \"url\": …}]}";

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], expected: &'static str) -> Result<T, KeymanagerError> {
    serde_json::from_slice(bytes).map_err(|error| KeymanagerError::Malformed {
        line: error.line(),
        column: error.column(),
        expected,
    })
}

impl ImportBody {
    /// Reads a body. Passwords move into protected memory; the copies in the body itself go with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeymanagerError> {
        let ImportMembers { keystores, passwords, slashing_protection } = parse(bytes, IMPORT)?;
        let (found, given) = (keystores.len(), passwords.len());
        // All of them are taken over first: what is dropped here would not be wiped.
        let passwords = passwords.into_iter().map(Passphrase::new).collect::<Vec<_>>();
        if found != given {
            return Err(KeymanagerError::LengthsDiffer { keystores: found, passwords: given });
        }
        let passwords = passwords.into_iter().collect::<Result<Vec<_>, _>>().map_err(KeymanagerError::Password)?;
        let wanted =
            keystores.into_iter().zip(passwords).map(|(keystore, password)| Wanted { keystore, password }).collect();
        Ok(Self { wanted, slashing_protection })
    }
}

/// What a deletion is asked to do.
pub(super) struct DeleteBody;

impl DeleteBody {
    /// The keys, in order, repeated ones too.
    pub(super) fn parse(bytes: &[u8]) -> Result<Vec<PublicKey>, KeymanagerError> {
        #[derive(Deserialize)]
        struct Members {
            pubkeys: Vec<String>,
        }
        let Members { pubkeys } = parse(bytes, PUBKEYS)?;
        let each = |(index, text): (usize, &String)| {
            text.parse().map_err(|_| KeymanagerError::NotAKey { index, expected: PUBKEYS })
        };
        pubkeys.iter().enumerate().map(each).collect()
    }
}

/// Remote keys that somebody wants added or removed.
pub(super) struct RemoteKeysBody;

impl RemoteKeysBody {
    /// How many.
    pub(super) fn count(bytes: &[u8], method: &Method) -> Result<usize, KeymanagerError> {
        #[derive(Deserialize)]
        struct Added {
            remote_keys: Vec<Value>,
        }
        if *method == Method::POST {
            return Ok(parse::<Added>(bytes, REMOTE_KEYS)?.remote_keys.len());
        }
        Ok(DeleteBody::parse(bytes)?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::chain;

    #[test]
    fn errors_do_not_repeat_the_body() {
        for body in [
            "{\"keystores\": [], \"passwords\": \"hunter2\"}",
            "{\"keystores\": [], \"passwords\": [{\"hunter2\": 1}]}",
            "{\"keystores\": [\"{}\"], \"passwords\": [\"hunter2\", \"hunter2\"]}",
            "{\"passwords\": [\"hunter2\"]}",
            "\"hunter2\"",
            "hunter2",
            "{\"keystores\": [\"a\"], \"passwords\": [\"hunter2",
        ] {
            let Err(error) = ImportBody::parse(body.as_bytes()) else { panic!("accepted {body}") };
            let text = chain(&error);
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("passwords"), "{text}");
        }
    }

    #[test]
    fn bodies_are_read() {
        let body =
            ImportBody::parse(b"{\"keystores\": [\"k\"], \"passwords\": [\"p\"], \"slashing_protection\": null}");
        let body = body.ok().unwrap();
        assert_eq!((body.wanted.len(), body.slashing_protection), (1, None));
        assert_eq!(DeleteBody::parse(b"{\"pubkeys\": []}").ok().unwrap().len(), 0);
        assert!(DeleteBody::parse(b"{\"pubkeys\": [\"0x12\"]}").is_err());
        assert_eq!(RemoteKeysBody::count(b"{\"remote_keys\": [{\"pubkey\": \"x\"}]}", &Method::POST).ok(), Some(1));
    }
}
