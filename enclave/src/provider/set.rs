//! One data key, wrapped by several providers: any one of them opens it, so that no one of them can lock its
//! owner out by being away.
//!
//! Guarantees: a set is stored whole or not at all; a new one is returned only after each of its members was
//! unwrapped again and gave the same data key. Somebody who can write the database can remove members, which
//! they could do with a single one as well, but not add any without one of the guarding keys.
//!
//! A set of one is stored as that member. Otherwise:
//!
//! ```text
//! 0x80 | count 1 | (length 2 | wrapped data key) for each member
//! ```

use super::envelope::counted_long;
use super::retry::Retry;
use super::{Provider, ProviderKind, Recovery, WrapContext, Wrapped};
use crate::error::{Failures, ProviderError};
use crate::secret::DataKey;

/// The first byte of a set of several: no version of a single wrapped key.
const SET: u8 = 0x80;

/// The wrappings of one data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedSet(Vec<Wrapped>);

/// A data key that was opened.
pub struct Opened {
    /// The data key.
    pub key: DataKey,
    /// Which provider opened it, in words.
    pub by: String,
    /// The other providers that were asked before and failed.
    pub failed: Vec<ProviderError>,
}

/// What became of unwrapping one member.
#[derive(Debug)]
pub struct Checked {
    /// Its provider.
    pub provider: ProviderKind,
    /// The guarding key, where the provider has several.
    pub key: Option<String>,
    /// Whether it unwraps, and how that is described, or why not.
    pub result: Result<String, ProviderError>,
}

impl WrappedSet {
    /// Most members of a set.
    pub const MAX: usize = 16;

    /// Reads stored bytes. Members are checked when they are used.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Malformed`] if it is cut short or has no members.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProviderError> {
        let Some(rest) = bytes.strip_prefix(&[SET]) else {
            return Ok(Self(vec![Wrapped::from_bytes(bytes.to_vec())]));
        };
        let (count, mut rest) = rest.split_first().ok_or(ProviderError::Malformed)?;
        let mut members = Vec::new();
        for _ in 0..*count {
            let (member, after) = counted_long(rest)?;
            members.push(Wrapped::from_bytes(member.to_vec()));
            rest = after;
        }
        if members.is_empty() || !rest.is_empty() { Err(ProviderError::Malformed) } else { Ok(Self(members)) }
    }

    /// The bytes to store.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Malformed`] if a member is absurdly long.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProviderError> {
        if let [only] = self.0.as_slice() {
            return Ok(only.as_bytes().to_vec());
        }
        let mut out = vec![SET, u8::try_from(self.0.len()).map_err(|_| ProviderError::Malformed)?];
        for member in &self.0 {
            let length = u16::try_from(member.as_bytes().len()).map_err(|_| ProviderError::Malformed)?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(member.as_bytes());
        }
        Ok(out)
    }

    /// The members.
    pub fn members(&self) -> &[Wrapped] {
        &self.0
    }

    /// The kinds of provider in it, each once.
    ///
    /// # Errors
    ///
    /// As [`Wrapped::provider`].
    pub fn kinds(&self) -> Result<Vec<ProviderKind>, ProviderError> {
        let mut kinds = Vec::new();
        for member in &self.0 {
            let kind = member.provider()?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(kinds)
    }

    /// Wraps a data key with each of these providers, and unwraps it again with each.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] of the first that fails; [`ProviderError::Damaged`] if one gave back another key.
    pub fn wrap(
        key: &DataKey,
        providers: &[Box<dyn Provider>],
        context: &WrapContext,
        retry: Retry,
    ) -> Result<Self, ProviderError> {
        if providers.is_empty() || providers.len() > Self::MAX {
            return Err(ProviderError::Count { count: providers.len(), max: Self::MAX });
        }
        let mut members = Vec::new();
        for provider in providers {
            let wrapped = retry.run(|| provider.wrap(key, context))?;
            let again = retry.run(|| provider.unwrap(&wrapped, context))?;
            if !again.matches(key) {
                return Err(ProviderError::Damaged);
            }
            members.push(wrapped);
        }
        Ok(Self(members))
    }

    /// Opens the data key with whichever provider can, in the order of the members. One that is out of reach is
    /// passed over, and asked again only when all have been asked.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] if none can.
    pub fn open(
        &self,
        providers: &[Box<dyn Provider>],
        context: &WrapContext,
        retry: Retry,
    ) -> Result<Opened, ProviderError> {
        let mut failed = Vec::new();
        let mut waiting = Vec::new();
        for member in &self.0 {
            match candidates(member, providers) {
                Ok(able) => waiting.extend(able.into_iter().map(|provider| (member, provider))),
                Err(error) => failed.push(error),
            }
        }
        let mut backoff = retry.backoff;
        for round in 1..=retry.attempts.get() {
            let mut again = Vec::new();
            for (member, provider) in waiting {
                match provider.unwrap(member, context) {
                    Ok(key) => return Ok(Opened { key, by: provider.describe(), failed }),
                    Err(error) if error.recovery() == Recovery::Soon && round < retry.attempts.get() => {
                        again.push((member, provider));
                    }
                    Err(error) => failed.push(error),
                }
            }
            waiting = again;
            if waiting.is_empty() {
                break;
            }
            std::thread::sleep(backoff.next_wait());
        }
        Err(match <[ProviderError; 1]>::try_from(failed) {
            Ok([only]) => only,
            Err(several) => ProviderError::NoneOpens { failures: Failures(several) },
        })
    }

    /// Unwraps every member once, to see that each provider still can. What they give out is dropped at once.
    pub fn check(&self, providers: &[Box<dyn Provider>], context: &WrapContext) -> Vec<Checked> {
        let check = |member: &Wrapped| -> Result<Checked, ProviderError> {
            let (provider, key) = (member.provider()?, member.key()?);
            let mut result = Err(ProviderError::NotConfigured { provider, key: key.clone() });
            for able in candidates(member, providers).unwrap_or_default() {
                result = able.unwrap(member, context).map(|_| able.describe());
                if result.is_ok() {
                    break;
                }
            }
            Ok(Checked { provider, key, result })
        };
        let unreadable = |error| Checked { provider: ProviderKind::File, key: None, result: Err(error) };
        self.0.iter().map(|member| check(member).unwrap_or_else(unreadable)).collect()
    }
}

/// Who may be able to unwrap a member: the provider with its key, else all of its kind, whose key may have been
/// given another name since.
pub(super) fn candidates<'a>(
    member: &Wrapped,
    providers: &'a [Box<dyn Provider>],
) -> Result<Vec<&'a dyn Provider>, ProviderError> {
    let (kind, key) = (member.provider()?, member.key()?);
    let of_kind = || providers.iter().map(AsRef::as_ref).filter(|provider| provider.kind() == kind);
    let named: Vec<_> = of_kind().filter(|provider| provider.key() == key.as_deref()).collect();
    let able = if named.is_empty() { of_kind().collect() } else { named };
    if able.is_empty() { Err(ProviderError::NotConfigured { provider: kind, key }) } else { Ok(able) }
}
