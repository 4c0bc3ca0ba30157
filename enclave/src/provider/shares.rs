//! A guard split among several holders, of whom some number must come together: people, each with a key of their own, and
//! other providers.
//!
//! Why it exists: with any other provider, one account, one machine or one person opens the data key. Here nobody does alone.
//!
//! Guarantees: a share is known by its set and its fingerprint, so that one of another set, a changed one and one that is
//! there already are told apart before anything is combined; shares that were brought are in locked memory, are forgotten
//! after a while, and are wiped when they have been used; none is ever printed. What comes out must fit the authenticated
//! seal of the [envelope](super).
//!
//! Kept in the wrapped data key, nothing of it secret:
//!
//! ```text
//! version 1 | threshold 1 | count 1 | set 8
//!   | for each share: point 1 | fingerprint 8 | holder 1 (0 a person, 1 a provider) | label (length 1) | sealed share (length 2)
//! ```

use std::sync::Arc;

use holdfast_enclave_sys::LockedBytes;
use zeroize::Zeroizing;

use super::envelope::{Envelope, count, counted, counted_long, seal_with};
use super::{Provider, ProviderKind, WrapContext, Wrapped};
use crate::aead::{self, FINGERPRINT_LEN, Fingerprint, SECRET_LEN};
use crate::error::{ProviderError, SecretError};
use crate::secret::{self, DataKey};
use crate::shamir::{self, Share, Split};

mod collected;
mod text;

pub use collected::{Collected, Progress, ShareError};
pub use text::BroughtShare;

const VERSION: u8 = 1;

/// Whoever can be sent a secret that only they can read: a public key of a person.
pub trait Recipient: Send + Sync {
    /// The public key, or the beginning of it, as it is shown.
    fn label(&self) -> &str;

    /// Encrypts to them.
    ///
    /// # Errors
    ///
    /// [`ProviderError`].
    fn encrypt(&self, text: &[u8]) -> Result<Vec<u8>, ProviderError>;
}

/// The private key of a [`Recipient`].
pub trait Identity: Send + Sync {
    /// Decrypts what was encrypted to them; `None` if it was to somebody else.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] if the private key cannot be used.
    fn decrypt(&self, ciphertext: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, ProviderError>;
}

/// Who gets a share.
pub enum Holder {
    /// A person.
    Person(Box<dyn Recipient>),
    /// A provider, which is asked without anybody doing anything.
    Provider(Box<dyn Provider>),
}

/// A split guard as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSet {
    threshold: u8,
    set: Fingerprint,
    shares: Vec<SealedShare>,
}

/// One share as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SealedShare {
    point: u8,
    fingerprint: Fingerprint,
    person: bool,
    label: String,
    sealed: Vec<u8>,
}

/// A share of a person, for display and for opening elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonShare {
    /// Its number, from 1.
    pub number: u8,
    /// Whose it is: a public key.
    pub label: String,
    /// Encrypted to that key.
    pub sealed: Vec<u8>,
}

impl ShareSet {
    /// The split guard in a wrapped data key; `None` if that was wrapped otherwise.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] if it is damaged.
    pub fn of(wrapped: &Wrapped) -> Result<Option<Self>, ProviderError> {
        let envelope = Envelope::parse(wrapped.as_bytes())?;
        if envelope.provider != ProviderKind::Shares {
            return Ok(None);
        }
        let (_, rest) = counted(envelope.parameters)?;
        let (encoded, rest) = counted_long(rest)?;
        if rest.is_empty() { Self::decode(encoded).map(Some) } else { Err(ProviderError::Malformed) }
    }

    /// How many shares open it.
    pub fn threshold(&self) -> usize {
        usize::from(self.threshold)
    }

    /// "2 of 3", for people.
    pub fn name(&self) -> String {
        format!("{} of {}", self.threshold, self.shares.len())
    }

    /// The providers that hold a share, each once.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] if a share is damaged.
    pub fn kinds(&self) -> Result<Vec<ProviderKind>, ProviderError> {
        let mut kinds = Vec::new();
        for share in self.shares.iter().filter(|share| !share.person) {
            let kind = Wrapped::from_bytes(share.sealed.clone()).provider()?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(kinds)
    }

    /// The shares of people.
    pub fn people(&self) -> Vec<PersonShare> {
        let people = self.shares.iter().filter(|share| share.person);
        people
            .map(|share| PersonShare { number: share.point, label: share.label.clone(), sealed: share.sealed.clone() })
            .collect()
    }

    /// All holders in words, in the order of their numbers.
    pub fn holders(&self) -> Vec<String> {
        self.shares.iter().map(|share| format!("{} ({})", share.point, share.label)).collect()
    }

    fn encode(&self) -> Result<Vec<u8>, ProviderError> {
        let shares = u8::try_from(self.shares.len()).map_err(|_| ProviderError::Malformed)?;
        let mut out = vec![VERSION, self.threshold, shares];
        out.extend_from_slice(&self.set);
        for share in &self.shares {
            out.push(share.point);
            out.extend_from_slice(&share.fingerprint);
            out.push(u8::from(!share.person));
            count(&mut out, share.label.as_bytes())?;
            let length = u16::try_from(share.sealed.len()).map_err(|_| ProviderError::Malformed)?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&share.sealed);
        }
        Ok(out)
    }

    fn decode(bytes: &[u8]) -> Result<Self, ProviderError> {
        let malformed = || ProviderError::Malformed;
        let ([version, threshold, count], rest) = bytes.split_first_chunk().ok_or_else(malformed)?;
        if *version != VERSION || Split::new(*threshold, *count).is_none() {
            return Err(malformed());
        }
        let (set, mut rest) = rest.split_first_chunk::<FINGERPRINT_LEN>().ok_or_else(malformed)?;
        let mut shares: Vec<SealedShare> = Vec::new();
        for _ in 0..*count {
            let (point, after) = rest.split_first().ok_or_else(malformed)?;
            let (fingerprint, after) = after.split_first_chunk().ok_or_else(malformed)?;
            let (holder, after) = after.split_first().ok_or_else(malformed)?;
            let (label, after) = counted(after)?;
            let (sealed, after) = counted_long(after)?;
            if *holder > 1 || *point == 0 || shares.iter().any(|share| share.point == *point) {
                return Err(malformed());
            }
            shares.push(SealedShare {
                point: *point,
                fingerprint: *fingerprint,
                person: *holder == 0,
                label: String::from_utf8(label.to_vec()).map_err(|_| malformed())?,
                sealed: sealed.to_vec(),
            });
            rest = after;
        }
        if rest.is_empty() { Ok(Self { threshold: *threshold, set: *set, shares }) } else { Err(malformed()) }
    }

    fn share(&self, point: u8) -> Option<&SealedShare> {
        self.shares.iter().find(|share| share.point == point)
    }
}

fn fingerprint(value: &LockedBytes) -> Fingerprint {
    aead::fingerprint(b"holdfast share of a guard", value)
}

/// Splits and joins guards.
pub struct Shares {
    /// To wrap: who gets shares, and how many of them are needed.
    holders: Vec<Holder>,
    threshold: u8,
    /// To open: those who may hold a share and need nobody.
    providers: Vec<Box<dyn Provider>>,
    identities: Vec<Box<dyn Identity>>,
    collected: Arc<Collected>,
}

impl Shares {
    /// Wraps for these holders, any `threshold` of whom open it.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Split`] unless 2 ≤ threshold ≤ holders ≤ 16.
    pub fn among(holders: Vec<Holder>, threshold: u8) -> Result<Self, ProviderError> {
        let shares = u8::try_from(holders.len()).unwrap_or(u8::MAX);
        if Split::new(threshold, shares).is_none() {
            return Err(ProviderError::Split { threshold, holders: holders.len() });
        }
        let collected = Arc::new(Collected::default());
        Ok(Self { holders, threshold, providers: Vec::new(), identities: Vec::new(), collected })
    }

    /// Opens with shares of these providers, shares that these identities decrypt, and those that were brought.
    pub fn from_holders(
        providers: Vec<Box<dyn Provider>>,
        identities: Vec<Box<dyn Identity>>,
        collected: Arc<Collected>,
    ) -> Self {
        Self { holders: Vec::new(), threshold: 0, providers, identities, collected }
    }

    fn seal_share(
        holder: &Holder,
        set: Fingerprint,
        share: &Share,
        context: &WrapContext,
    ) -> Result<SealedShare, ProviderError> {
        let (person, label, sealed) = match holder {
            Holder::Person(recipient) => {
                let text = text::write(set, share);
                (true, recipient.label().to_owned(), recipient.encrypt(&text)?)
            }
            Holder::Provider(provider) => {
                // A share is 32 bytes like a data key, so every provider can hold one.
                let mut value = share.value.expose(|value| Zeroizing::new(value.to_vec()));
                let carried = DataKey::take(&mut value)?;
                let wrapped = provider.wrap(&carried, context)?;
                if !provider.unwrap(&wrapped, context)?.matches(&carried) {
                    return Err(ProviderError::Damaged);
                }
                (false, provider.describe(), wrapped.as_bytes().to_vec())
            }
        };
        Ok(SealedShare { point: share.point, fingerprint: fingerprint(&share.value), person, label, sealed })
    }

    /// A share that can be had without anybody doing anything.
    fn unattended(&self, share: &SealedShare, context: &WrapContext) -> Result<Option<LockedBytes>, ProviderError> {
        if share.person {
            for identity in &self.identities {
                if let Some(text) = identity.decrypt(&share.sealed)? {
                    return Ok(text::read(&text)
                        .filter(|brought| brought.point == share.point)
                        .map(|brought| brought.value));
                }
            }
            return Ok(None);
        }
        let wrapped = Wrapped::from_bytes(share.sealed.clone());
        let mut failed = None;
        for provider in super::set::candidates(&wrapped, &self.providers)? {
            match provider.unwrap(&wrapped, context) {
                Ok(carried) => return copy(carried.bytes()).map(Some),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// As many shares as are needed, if they can be had; and why others cannot.
    fn gather(&self, set: &ShareSet, context: &WrapContext) -> Result<(Vec<Share>, Vec<ProviderError>), ProviderError> {
        let (mut shares, mut failed) = (Vec::new(), Vec::new());
        for sealed in &set.shares {
            if let Some(value) = self.collected.get(set.set, sealed.point)? {
                shares.push(Share { point: sealed.point, value });
            }
        }
        for sealed in &set.shares {
            if shares.len() >= set.threshold() {
                break;
            }
            if shares.iter().any(|share| share.point == sealed.point) {
                continue;
            }
            match self.unattended(sealed, context) {
                Ok(Some(value)) if fingerprint(&value) == sealed.fingerprint => {
                    shares.push(Share { point: sealed.point, value });
                }
                Ok(Some(_)) => failed.push(ProviderError::Damaged),
                Ok(None) => {}
                Err(error) => failed.push(error),
            }
        }
        shares.truncate(set.threshold());
        Ok((shares, failed))
    }
}

fn copy(bytes: &LockedBytes) -> Result<LockedBytes, ProviderError> {
    let mut copied = bytes.expose(|bytes| Zeroizing::new(bytes.to_vec()));
    LockedBytes::take(&mut copied).map_err(|error| SecretError::Memory(error).into())
}

impl Provider for Shares {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Shares
    }

    fn wrap(&self, key: &DataKey, context: &WrapContext) -> Result<Wrapped, ProviderError> {
        let shares = u8::try_from(self.holders.len()).unwrap_or(u8::MAX);
        let how = Split::new(self.threshold, shares)
            .ok_or(ProviderError::Split { threshold: self.threshold, holders: self.holders.len() })?;
        let guard = secret::random_bytes()?;
        let mut set = [0; FINGERPRINT_LEN];
        getrandom::fill(&mut set).map_err(ProviderError::Random)?;
        let split = shamir::split(&guard, how)?;
        let mut sealed = Vec::new();
        for (holder, share) in self.holders.iter().zip(&split) {
            sealed.push(Self::seal_share(holder, set, share, context)?);
        }
        let set = ShareSet { threshold: self.threshold, set, shares: sealed };
        let mut parameters = Vec::new();
        count(&mut parameters, set.name().as_bytes())?;
        let encoded = set.encode()?;
        let length = u16::try_from(encoded.len()).map_err(|_| ProviderError::Malformed)?;
        parameters.extend_from_slice(&length.to_be_bytes());
        parameters.extend_from_slice(&encoded);
        let wrapped = seal_with(&guard, self.kind(), &parameters, key, context)?;
        // Nobody can be asked for a person's share now. That the shares open what was wrapped is seen with these, which
        // are wiped with this.
        for share in split {
            self.collected.keep(set.set, share);
        }
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &WrapContext) -> Result<DataKey, ProviderError> {
        let envelope = Envelope::parse_own(wrapped, self.kind())?;
        envelope.check_network(context)?;
        let set = ShareSet::of(wrapped)?.ok_or(ProviderError::Malformed)?;
        let (shares, failed) = self.gather(&set, context)?;
        if shares.len() < set.threshold() {
            let failures = crate::error::Failures(failed);
            return Err(ProviderError::SharesMissing { have: shares.len(), need: set.threshold(), failures });
        }
        let guard = shamir::combine(&shares)?.ok_or(ProviderError::Malformed)?;
        let key = envelope.open(&guard, context)?;
        self.collected.forget();
        Ok(key)
    }

    fn describe(&self) -> String {
        match self.holders.len() {
            0 => "shares".to_owned(),
            holders => {
                let label = |holder: &Holder| match holder {
                    Holder::Person(recipient) => recipient.label().to_owned(),
                    Holder::Provider(provider) => provider.describe(),
                };
                let labels: Vec<_> = self.holders.iter().map(label).collect();
                format!("{} of {holders} shares, held by {}", self.threshold, labels.join(", "))
            }
        }
    }
}

const _: () = assert!(SECRET_LEN == 32, "shares are as long as data keys");

#[cfg(test)]
mod tests;
