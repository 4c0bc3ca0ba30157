//! Requests: what is to be done, said in a text that people read and sign.
//!
//! ```text
//! Holdfast approval request, version 1
//!
//! id        6f0c…                    128 random bits; each is used once
//! act       export
//! made      2026-11-29T00:40:00Z
//! expires   2026-11-30T00:40:00Z
//! asked-by  cli:uid=1000
//! network   mainnet
//! genesis   0x4b36…                  genesis validators root
//! database  9a40…                    the instance the act is for
//! policy    1f77…                    digest of the approvers in force
//!
//! What is to be done:
//!   Export 2 keys as keystores (EIP-2335) …
//! ```
//!
//! Guarantees: a request is read only if it is written exactly like this, so what people read is what is compared with the
//! act; no character of it can hide or reorder others on a screen.

use core::fmt::{self, Write as _};

use holdfast_domain::root::parse_hex;
use holdfast_domain::{GenesisValidatorsRoot, UnixMillis};
use sha2::{Digest as _, Sha256};

use crate::act::Act;
use crate::policy::{PolicyDigest, Seconds};
use crate::signature::{Approval, ApprovalError};

const HEAD: &str = "Holdfast approval request, version 1";
const WHAT: &str = "What is to be done:";
/// What begins each line of the payload.
const INDENT: &str = "  ";
/// Longest request: 100,000 keys, one a line, have room.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// A request's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub [u8; 16]);

/// SHA-256 of a request's bytes, or of a payload's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

macro_rules! hex_fmt {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
hex_fmt!(RequestId, Digest);

/// Where the act takes place: nowhere else is the request worth anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Name of the network, for people.
    pub network: String,
    /// Its genesis validators root.
    pub genesis_validators_root: GenesisValidatorsRoot,
    /// The instance of the database.
    pub instance: [u8; 16],
}

/// What exactly is to be done, in lines for people. Two acts with the same lines are the same act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(Vec<String>);

impl Payload {
    /// Takes lines. Every character outside printable ASCII is written as its number, so that what is shown is all there is.
    pub fn new<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Self {
        let plain = |line: S| {
            let mut kept = String::with_capacity(line.as_ref().len());
            for character in line.as_ref().chars() {
                match character {
                    ' '..='~' if character != '\\' => kept.push(character),
                    other => kept.extend(other.escape_unicode()),
                }
            }
            kept.trim_end().to_owned()
        };
        Self(lines.into_iter().map(plain).filter(|line| !line.is_empty()).collect())
    }

    /// The lines.
    pub fn lines(&self) -> &[String] {
        &self.0
    }

    /// What stands for all of it.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for line in &self.0 {
            hash.update(line.as_bytes());
            hash.update(b"\n");
        }
        Digest(hash.finalize().into())
    }
}

/// A request for approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// What kind of act.
    pub act: Act,
    /// When it was made; whole seconds.
    pub made: UnixMillis,
    /// From when on it is worth nothing; whole seconds.
    pub expires: UnixMillis,
    /// Who asks.
    pub asked_by: String,
    /// Where.
    pub scope: Scope,
    /// The approvers in force.
    pub policy: PolicyDigest,
    /// What exactly.
    pub payload: Payload,
}

/// Why a text is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too long.
    #[error("longer than a request may be ({MAX_REQUEST_BYTES} bytes)")]
    TooLong,
    /// Something else, or changed.
    #[error("not an approval request as `holdfast` writes it; if it was one, somebody or some program changed it")]
    Form,
    /// What follows the request is no approval.
    #[error("the request is followed by something that is no approval")]
    Tail(#[source] ApprovalError),
}

impl Request {
    /// A request that lives for `lifetime` from `now` on.
    pub fn new(
        id: RequestId,
        (act, payload): (Act, Payload),
        (now, lifetime): (UnixMillis, Seconds),
        asked_by: &str,
        scope: Scope,
        policy: PolicyDigest,
    ) -> Self {
        let seconds = now.0 / 1_000;
        let made = UnixMillis(seconds.saturating_mul(1_000));
        let expires = UnixMillis(seconds.saturating_add(lifetime.0).saturating_mul(1_000));
        let asked_by = Payload::new([asked_by]).0.pop().unwrap_or_else(|| "nobody".to_owned());
        Self { id, act, made, expires, asked_by, scope, policy, payload }
    }

    /// The text that is shown, signed and compared.
    pub fn to_text(&self) -> String {
        let head = [
            ("id", self.id.to_string()),
            ("act", self.act.to_string()),
            ("made", self.made.rfc3339()),
            ("expires", self.expires.rfc3339()),
            ("asked-by", self.asked_by.clone()),
            ("network", self.scope.network.clone()),
            ("genesis", self.scope.genesis_validators_root.to_string()),
            ("database", hex::encode(self.scope.instance)),
            ("policy", self.policy.to_string()),
        ];
        // Writing to a text cannot fail.
        let mut text = format!("{HEAD}\n\n");
        for (name, value) in head {
            let _ = writeln!(text, "{name:<9} {value}");
        }
        let _ = writeln!(text, "\n{WHAT}");
        for line in self.payload.lines() {
            let _ = writeln!(text, "{INDENT}{line}");
        }
        text
    }

    /// What stands for all of it.
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.to_text().as_bytes()).into())
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`Malformed`] unless it is written as [`Self::to_text`] writes it.
    pub fn from_text(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_REQUEST_BYTES {
            return Err(Malformed::TooLong);
        }
        Self::parse(text).filter(|read| read.to_text() == text).ok_or(Malformed::Form)
    }

    /// Whether a text means to be a request, with or without approvals behind it.
    pub fn begins(text: &str) -> bool {
        text.starts_with(HEAD)
    }

    /// Reads a request and the approvals behind it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn with_approvals(text: &str) -> Result<(Self, Vec<Approval>), Malformed> {
        let Some((request, tail)) = Approval::begins_at(text).and_then(|place| text.split_at_checked(place)) else {
            return Ok((Self::from_text(text)?, Vec::new()));
        };
        Ok((Self::from_text(request)?, Approval::all_from(tail).map_err(Malformed::Tail)?))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        (lines.next()? == HEAD && lines.next()?.is_empty()).then_some(())?;
        let mut value = |name: &str| lines.next()?.strip_prefix(&format!("{name:<9} ")).map(str::to_owned);
        let time = |text: String| UnixMillis::from_rfc3339(&text);
        let id = RequestId(parse_hex(&value("id")?)?);
        let act = value("act")?.parse().ok()?;
        let (made, expires) = (time(value("made")?)?, time(value("expires")?)?);
        let (asked_by, network) = (value("asked-by")?, value("network")?);
        let genesis_validators_root = GenesisValidatorsRoot(parse_hex(&value("genesis")?)?);
        let instance = parse_hex(&value("database")?)?;
        let policy = PolicyDigest(parse_hex(&value("policy")?)?);
        (lines.next()?.is_empty() && lines.next()? == WHAT).then_some(())?;
        let payload: Option<Vec<String>> = lines.map(|line| line.strip_prefix(INDENT).map(str::to_owned)).collect();
        let payload = payload?;
        let plain = |text: &String| !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        ([&asked_by, &network].into_iter().chain(&payload).all(plain)).then_some(())?;
        let scope = Scope { network, genesis_validators_root, instance };
        Some(Self { id, act, made, expires, asked_by, scope, policy, payload: Payload(payload) })
    }
}
