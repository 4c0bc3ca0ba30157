//! `[[callers]]`: who may ask, and how each proves it. The same entries stand in `callers.toml` of the data directory,
//! which `holdfast callers` writes.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeSet;

use holdfast_access::{Builtin, CallerName};
use holdfast_domain::UnixMillis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::as_text::as_text;

/// SHA-256 of a certificate in DER. Written as Web3Signer and `openssl x509 -fingerprint -sha256` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    pub(crate) fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The first 16 digits, for a name.
    pub(crate) fn short(&self) -> String {
        hex::encode(self.0.first_chunk::<8>().unwrap_or(&[0; 8]))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        digest(&text.replace(':', ""))
            .map(Self)
            .ok_or_else(|| "expected a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons".to_owned())
    }
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).ok().map(|()| bytes)
}

/// SHA-256 of a token, and until when it is accepted, if not for ever: `<64 digits>` or `<64 digits> until <time>`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash {
    hash: [u8; 32],
    until: Option<UnixMillis>,
}

impl TokenHash {
    /// Of a token, accepted for ever.
    pub(crate) fn of(token: &[u8]) -> Self {
        Self { hash: Sha256::digest(token).into(), until: None }
    }

    /// The hash.
    pub(crate) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Until when it is accepted.
    pub(crate) fn until(&self) -> Option<UnixMillis> {
        self.until
    }

    /// The same token, accepted until `time` at most.
    pub(crate) fn expiring(self, time: UnixMillis) -> Self {
        Self { until: Some(self.until.map_or(time, |until| until.min(time))), ..self }
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.hash))?;
        self.until.map_or(Ok(()), |until| write!(f, " until {}", until.rfc3339()))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, until) = match text.split_once(" until ") {
            Some((digits, until)) => (digits, Some(until)),
            None => (text, None),
        };
        let hash = digest(digits).ok_or(
            "expected the SHA-256 of a token (64 hexadecimal digits), as `holdfast callers add` writes it; the token \
             itself does not belong here",
        )?;
        let until = match until {
            None => None,
            Some(text) => Some(
                UnixMillis::from_rfc3339(text)
                    .ok_or_else(|| format!("{text:?} is no time such as 2026-12-01T00:00:00Z"))?,
            ),
        };
        Ok(Self { hash, until })
    }
}

as_text!(
    Fingerprint, "^([0-9a-fA-F]{2}:?){32}$";
    TokenHash, "^[0-9a-fA-F]{64}( until .+)?$"
);

/// A caller: its name, and what proves it. Several of a kind are accepted side by side, so that they can be exchanged one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallerEntry {
    /// Its name in policy, in the journal and in logs.
    pub(crate) name: String,
    /// SHA-256 fingerprints of its certificates (`openssl x509 -noout -fingerprint -sha256`), whoever signed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificate_fingerprints: Vec<Fingerprint>,
    /// Common names or alternative names (DNS, e-mail, URI, IP) of its certificates, which an authority in client_ca signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificate_subjects: Vec<String>,
    /// SHA-256 of its tokens for HTTP Basic authentication: in the client's URL as http://NAME:TOKEN@HOST. `holdfast callers add` makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) basic_token_sha256: Vec<TokenHash>,
    /// SHA-256 of its bearer tokens. `holdfast callers add` makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) bearer_token_sha256: Vec<TokenHash>,
    /// Numbers of the users whose processes are this caller on a Unix socket (http.listen_unix).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unix_uids: Vec<u32>,
}

impl CallerEntry {
    /// Its name, checked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn caller_name(&self) -> Result<CallerName, String> {
        let name = CallerName::new(&self.name).map_err(|error| format!("{:?} is no name: {error}", self.name))?;
        if Builtin::ALL.iter().any(|builtin| builtin.as_str() == name.as_str()) {
            return Err(format!("{name:?} is the name of a listener; choose another", name = self.name));
        }
        Ok(name)
    }
}

/// Checks callers together: good names, each once; no proof that would name two of them.
///
/// # Errors
/// What is wrong.
pub(crate) fn check_callers<'a>(callers: impl Iterator<Item = &'a CallerEntry>) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let mut proofs = BTreeSet::new();
    for caller in callers {
        caller.caller_name()?;
        if !names.insert(caller.name.as_str()) {
            return Err(format!("names {} twice; put everything that proves it into one entry", caller.name));
        }
        let fingerprints = caller.certificate_fingerprints.iter().map(|one| format!("fingerprint {one}"));
        let subjects = caller.certificate_subjects.iter().map(|one| format!("subject {one}"));
        let bearers = caller.bearer_token_sha256.iter().map(|one| format!("bearer token {}", hex::encode(one.hash())));
        let uids = caller.unix_uids.iter().map(|one| format!("user {one}"));
        // Of one caller the same twice does no harm.
        let own: BTreeSet<String> = fingerprints.chain(subjects).chain(bearers).chain(uids).collect();
        for proof in own {
            if proofs.contains(&proof) {
                return Err(format!(
                    "has {proof} for {} and for another caller; it can prove one name only",
                    caller.name
                ));
            }
            proofs.insert(proof);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Proves: how fingerprints and hashes are written, and which callers are refused.
    use super::*;

    #[test]
    fn fingerprints_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(plain.parse::<Fingerprint>(), colons.parse());
        assert_eq!(plain.parse::<Fingerprint>().unwrap().to_string(), colons);
        for bad in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hashes_may_end() {
        let hash = TokenHash::of(b"token");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let ending = hash.expiring(UnixMillis(1_700_000_000_000));
        assert_eq!(ending.to_string().parse(), Ok(ending));
        assert_eq!(ending.expiring(UnixMillis(1_800_000_000_000)), ending, "it never becomes valid for longer");
        for bad in ["token", "", &format!("{hash} until tomorrow"), &format!("{hash} ")] {
            assert!(bad.parse::<TokenHash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn callers_are_told_apart() {
        let caller = |name: &str| CallerEntry { name: name.to_owned(), ..CallerEntry::default() };
        let check = |callers: &[CallerEntry]| check_callers(callers.iter());
        assert_eq!(check(&[caller("a"), caller("b")]), Ok(()));
        assert!(check(&[caller("a"), caller("a")]).unwrap_err().contains("twice"));
        assert!(check(&[caller("a b")]).unwrap_err().contains("no name"));
        assert!(check(&[caller("keymanager")]).unwrap_err().contains("listener"));
        let mut twins = [caller("a"), caller("b")];
        for twin in &mut twins {
            twin.unix_uids = vec![7, 7];
        }
        assert!(check(&twins).unwrap_err().contains("user 7"));
        assert_eq!(check(&twins[..1]), Ok(()));
    }
}
