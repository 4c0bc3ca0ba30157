//! `POST /api/v1/eth2/sign`: one message, many keys, one result per key in order.
//!
//! Shape of the open proposal to the remote signing API (pull request 29):
//! `{identifiers: [..], signing_request: {..}}`. Only types that many keys sign alike are taken.
//! Every identifier gets its own result, so a text that names no key fails alone, and a key that
//! is named twice is answered twice: the second signature is over the same root, which no rule
//! forbids.

use core::fmt;

use holdfast_domain::{Network, PublicKey};
use serde::Deserializer;
use serde::de::Visitor;

use crate::error::{Excerpt, WireError};
use crate::json::{self, Expected, Trail, Wire, read_list};
use crate::members::Members;
use crate::web3signer::SignRequest;
use crate::web3signer::kind::{Kind, MEMBERS};

/// Most identifiers of one batch. The largest operators hold about this many keys in one signer;
/// ten times as many would let one request occupy the signer for a slot.
pub const MAX_BATCH_IDENTIFIERS: usize = 100_000;

/// A request to sign one message with many keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRequest {
    /// Which keys, in the order the results are wanted; not empty, possibly with repetitions.
    pub identifiers: Vec<Result<PublicKey, BadIdentifier>>,
    /// What they sign.
    pub request: SignRequest,
}

/// An identifier that is no public key; fails alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("identifier {0} is not a BLS public key: expected 96 hexadecimal digits, with or without 0x")]
pub struct BadIdentifier(pub Excerpt);

impl BatchRequest {
    /// Reads the body of a batch.
    ///
    /// # Errors
    /// [`WireError`] naming the member; errors of the message as from [`SignRequest::parse`], with
    /// paths that start at `signing_request`.
    pub fn parse(body: &[u8], network: &Network) -> Result<Self, WireError> {
        let members = Members::of_body(body, &["identifiers", "signing_request"])?;
        let member = |name: &'static str, expected: &'static str| {
            members.get(name)?.ok_or_else(|| WireError::Missing { path: name.to_owned(), expected: expected.into() })
        };
        let signing_request = member("signing_request", "the message to sign, as in a request for one key")?;
        let identifiers = member("identifiers", "the public keys that are to sign it")?;
        let inner = Members::of_member(signing_request, "signing_request", &MEMBERS)?;
        let request = batchable(&inner, network).map_err(|error| error.within("signing_request"))?;
        let Identifiers(identifiers) = json::read(identifiers, "identifiers")?;
        Ok(Self { identifiers, request })
    }
}

fn batchable(members: &Members<'_, { MEMBERS.len() }>, network: &Network) -> Result<SignRequest, WireError> {
    let kind = Kind::of(members)?;
    if !kind.in_batches() {
        return Err(WireError::UnsupportedType {
            name: kind.as_str(),
            instead: "it differs for every key, send one request for each key to /api/v1/eth2/sign/{identifier}",
        });
    }
    SignRequest::read(kind, members, network)
}

struct Identifiers(Vec<Result<PublicKey, BadIdentifier>>);

struct Identifier(Result<PublicKey, BadIdentifier>);

impl Wire for Identifiers {
    fn expected() -> Expected {
        format!("a list of 1 to {MAX_BATCH_IDENTIFIERS} public keys").into()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
        let list: Vec<Identifier> = read_list(input, trail, MAX_BATCH_IDENTIFIERS)?;
        if list.is_empty() {
            return Err(trail.reject(Self::expected(), None));
        }
        Ok(Self(list.into_iter().map(|identifier| identifier.0).collect()))
    }
}

impl Wire for Identifier {
    fn expected() -> Expected {
        "a string (a BLS public key)".into()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, _: &mut Trail) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Identifier;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Identifier, E> {
                Ok(Identifier(text.parse().map_err(|_| BadIdentifier(Excerpt::of(text)))))
            }
        }

        input.deserialize_str(Text)
    }
}
