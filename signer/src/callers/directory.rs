//! Which proof belongs to which caller.
//!
//! Guarantees: a proof names at most one caller; comparing tokens takes the same time whether they are right, wrong or
//! of a name nobody has; a certificate whose subject an authority vouches for never takes the name of a caller that
//! does not list it.

use std::collections::HashMap;
use std::sync::Arc;

use holdfast_access::{Builtin, Caller, CallerName, Means};
use holdfast_domain::UnixMillis;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::Principal;
use crate::config::{CallerEntry, Fingerprint, TokenHash};
use crate::tls::{ClientCertificate, Voucher};

/// The callers that are configured.
#[derive(Default)]
pub(crate) struct Directory {
    by_fingerprint: HashMap<Fingerprint, Arc<Principal>>,
    by_subject: HashMap<String, Arc<Principal>>,
    by_uid: HashMap<u32, Arc<Principal>>,
    by_name: HashMap<CallerName, Basic>,
    bearers: Vec<(TokenHash, Arc<Principal>)>,
}

struct Basic {
    tokens: Vec<TokenHash>,
    principal: Arc<Principal>,
}

impl Directory {
    /// Of these callers.
    ///
    /// # Errors
    /// What is wrong with a name.
    pub(super) fn new<'a>(entries: impl Iterator<Item = &'a CallerEntry>) -> Result<Self, String> {
        let mut directory = Self::default();
        for entry in entries {
            let name = entry.caller_name()?;
            let by = |means| Arc::new(Principal::new(Caller::new(name.clone(), means)));
            let certificate = by(Means::Certificate);
            let of_certificate = |_: &_| Arc::clone(&certificate);
            let fingerprints = entry.certificate_fingerprints.iter().map(|one| (*one, of_certificate(one)));
            directory.by_fingerprint.extend(fingerprints);
            let subjects = &entry.certificate_subjects;
            directory.by_subject.extend(subjects.iter().map(|one| (one.clone(), Arc::clone(&certificate))));
            let uid = by(Means::UnixPeer);
            directory.by_uid.extend(entry.unix_uids.iter().map(|one| (*one, Arc::clone(&uid))));
            let bearer = by(Means::Bearer);
            directory.bearers.extend(entry.bearer_token_sha256.iter().map(|one| (*one, Arc::clone(&bearer))));
            let basic = Basic { tokens: entry.basic_token_sha256.clone(), principal: by(Means::Basic) };
            directory.by_name.insert(name, basic);
        }
        Ok(directory)
    }

    /// Whether nobody is configured.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many are.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Who has this name and token. A name nobody has takes as long as a wrong token.
    pub(super) fn basic(&self, name: &[u8], token: &[u8], now: UnixMillis) -> Option<Arc<Principal>> {
        let given: [u8; 32] = Sha256::digest(token).into();
        let name = std::str::from_utf8(name).ok().and_then(|name| CallerName::new(name).ok());
        let known = name.and_then(|name| self.by_name.get(&name));
        // No token has this hash: nobody knows what it is the hash of.
        let nobodys = [TokenHash::of(&given)];
        let tokens = known.map(|known| known.tokens.as_slice()).filter(|tokens| !tokens.is_empty());
        let mut right = Choice::from(0);
        for token in tokens.unwrap_or(&nobodys) {
            right |= token.hash().ct_eq(&given) & valid(token, now);
        }
        known.filter(|_| bool::from(right)).map(|known| Arc::clone(&known.principal))
    }

    /// Who has this bearer token. All are compared, always.
    pub(super) fn bearer(&self, token: &[u8], now: UnixMillis) -> Option<Arc<Principal>> {
        let given: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for (hash, principal) in &self.bearers {
            if bool::from(hash.hash().ct_eq(&given) & valid(hash, now)) {
                found = Some(principal);
            }
        }
        found.map(Arc::clone)
    }

    /// Whose process this user's is.
    pub(super) fn unix(&self, uid: u32) -> Option<Arc<Principal>> {
        self.by_uid.get(&uid).map(Arc::clone)
    }

    /// Whose certificate this is: by its fingerprint, by a name an authority vouches for, and else by its common name.
    /// `None` if it is nobody's here.
    pub(super) fn certificate(&self, certificate: &ClientCertificate) -> Option<Arc<Principal>> {
        if let Some(principal) = self.by_fingerprint.get(&certificate.fingerprint) {
            return Some(Arc::clone(principal));
        }
        // What a certificate says of itself counts only as far as somebody vouches for it.
        let vouched: &[String] = match certificate.voucher {
            Voucher::Authority => &certificate.names,
            // Of a known client, the common name stands in the file.
            Voucher::KnownClient => certificate.common_name.as_slice(),
            Voucher::Fingerprint => return None,
        };
        if let Some(principal) = vouched.iter().find_map(|name| self.by_subject.get(name)) {
            return Some(Arc::clone(principal));
        }
        let own = certificate.common_name.as_deref().and_then(|name| CallerName::new(name).ok());
        let taken = |name: &CallerName| {
            self.by_name.contains_key(name) || Builtin::ALL.iter().any(|builtin| builtin.as_str() == name.as_str())
        };
        match own {
            // It would pass for a caller that does not list it.
            Some(name) if taken(&name) => None,
            Some(name) => Some(Arc::new(Principal::new(Caller::new(name, Means::Certificate)))),
            None => {
                let name = CallerName::new(&format!("certificate-{}", certificate.fingerprint.short())).ok()?;
                Some(Arc::new(Principal::new(Caller::new(name, Means::Certificate))))
            }
        }
    }

    /// Whether a caller lists this certificate by its fingerprint.
    pub(super) fn lists(&self, fingerprint: &Fingerprint) -> bool {
        self.by_fingerprint.contains_key(fingerprint)
    }

    /// Whether any caller has a certificate by fingerprint.
    pub(super) fn lists_any(&self) -> bool {
        !self.by_fingerprint.is_empty()
    }
}

fn valid(token: &TokenHash, now: UnixMillis) -> Choice {
    Choice::from(u8::from(token.until().is_none_or(|until| now < until)))
}

#[cfg(test)]
mod tests {
    //! Proves: which proof names whom, and which names nobody.
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn directory() -> Directory {
        let entry = |name: &str| CallerEntry { name: name.to_owned(), ..CallerEntry::default() };
        let old = TokenHash::of(b"old").expiring(UnixMillis(NOW.0 + 1_000));
        let callers = [
            CallerEntry {
                basic_token_sha256: vec![TokenHash::of(b"new"), old],
                certificate_fingerprints: vec![Fingerprint::of(b"der")],
                certificate_subjects: vec!["vc-1.example".to_owned()],
                ..entry("vc-1")
            },
            CallerEntry { bearer_token_sha256: vec![TokenHash::of(b"b")], unix_uids: vec![1001], ..entry("vc-2") },
        ];
        Directory::new(callers.iter()).unwrap()
    }

    fn shown(principal: Option<Arc<Principal>>) -> Option<String> {
        principal.map(|principal| principal.to_string())
    }

    #[test]
    fn tokens() {
        let directory = directory();
        let basic = |name: &str, token: &str, now| shown(directory.basic(name.as_bytes(), token.as_bytes(), now));
        assert_eq!(basic("vc-1", "new", NOW).as_deref(), Some("vc-1 (basic)"));
        assert_eq!(
            basic("vc-1", "old", NOW).as_deref(),
            Some("vc-1 (basic)"),
            "both are accepted while one is replaced"
        );
        assert_eq!(basic("vc-1", "old", UnixMillis(NOW.0 + 1_000)), None, "its time is over");
        for (name, token) in [("vc-1", "b"), ("vc-2", "new"), ("vc-2", "b"), ("vc-2", ""), ("vc-3", "new"), ("", "")] {
            assert_eq!(basic(name, token, NOW), None, "{name} {token}");
        }
        assert_eq!(shown(directory.bearer(b"b", NOW)).as_deref(), Some("vc-2 (bearer)"));
        assert_eq!(shown(directory.bearer(b"new", NOW)), None, "a token of one kind is none of the other");
        assert_eq!(shown(directory.unix(1001)).as_deref(), Some("vc-2 (unix)"));
        assert_eq!(shown(directory.unix(0)), None);
    }

    #[test]
    fn certificates() {
        let directory = directory();
        let whose = |der: &[u8], voucher, names: &[&str]| {
            shown(directory.certificate(&ClientCertificate {
                fingerprint: Fingerprint::of(der),
                common_name: names.first().map(|name| (*name).to_owned()),
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                voucher,
            }))
        };
        let vc_1 = Some("vc-1 (certificate)".to_owned());
        assert_eq!(whose(b"der", Voucher::Fingerprint, &["anything"]), vc_1);
        assert_eq!(whose(b"x", Voucher::Authority, &["x", "vc-1.example"]), vc_1);
        assert_eq!(whose(b"x", Voucher::KnownClient, &["vc-1.example"]), vc_1);
        let by_itself = whose(b"x", Voucher::KnownClient, &["x", "vc-1.example"]);
        assert_eq!(by_itself.as_deref(), Some("x (certificate)"), "nobody vouches for its other names");
        assert_eq!(whose(b"x", Voucher::Authority, &["monitor"]).as_deref(), Some("monitor (certificate)"));
        for taken in ["vc-1", "vc-2", "http", "keymanager"] {
            assert_eq!(whose(b"x", Voucher::Authority, &[taken]), None, "{taken} is somebody else");
        }
        assert_eq!(whose(b"x", Voucher::Fingerprint, &["monitor"]), None, "it is listed no more");
        for no_name in [&["a b"][..], &[]] {
            assert!(whose(b"x", Voucher::Authority, no_name).unwrap().starts_with("certificate-"));
        }
    }
}
