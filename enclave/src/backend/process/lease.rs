//! Leases of the vault behind a [`ProcessBackend`]: what it asks witnesses, what they granted, what it leaves behind.
//!
//! Guarantees: everything here is only carried. Nothing that is done or not done here makes the vault sign in an epoch
//! that it does not hold.

use holdfast_domain::Epoch;
use holdfast_vault_proto::{Answer, Request};
pub use holdfast_vault_proto::{LeaseNews, LeaseReport};

use super::ProcessBackend;
use crate::error::SignError;

/// What a vault leaves behind when it gives its lease back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The requests for the witnesses, in their order.
    pub requests: Vec<Vec<u8>>,
    /// The checkpoint, in pages.
    pub pages: Vec<Vec<u8>>,
}

/// Each of these blocks until the vault answers: not on an async thread. Their errors are [`SignError::VaultDown`] without
/// a vault, and [`SignError::Lease`] if it does not carry out what is asked.
impl ProcessBackend {
    /// Requests for epochs up to this one, one for each witness.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn ask_lease(&self, until: Epoch, versions: Vec<u64>) -> Result<Vec<Vec<u8>>, SignError> {
        match self.ask(&Request::AskLease { until, versions })? {
            Answer::Requests { requests, .. } => Ok(requests),
            _ => Err(SignError::VaultDown),
        }
    }

    /// Takes what witnesses granted.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn take_lease(&self, grants: Vec<Vec<u8>>) -> Result<LeaseReport, SignError> {
        match self.ask(&Request::TakeLease(grants))? {
            Answer::Lease(report) => Ok(report),
            _ => Err(SignError::VaultDown),
        }
    }

    /// Gives the lease back: from now on this vault signs no block and no attestation.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn release_lease(&self, versions: Vec<u64>) -> Result<Released, SignError> {
        let Answer::Requests { requests, pages: count, .. } = self.ask(&Request::ReleaseLease { versions })? else {
            return Err(SignError::VaultDown);
        };
        let fetch = |index| match self.ask(&Request::FetchPage(index))? {
            Answer::Page(page) => Ok(page),
            _ => Err(SignError::VaultDown),
        };
        Ok(Released { requests, pages: (0..count).map(fetch).collect::<Result<_, _>>()? })
    }

    /// Gives the vault the checkpoint of an earlier one; it is used with the next grants, if witnesses confirm it.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn offer_checkpoint(&self, pages: Vec<Vec<u8>>) -> Result<(), SignError> {
        for page in pages {
            self.ask(&Request::OfferPage(page))?;
        }
        Ok(())
    }

    fn ask(&self, request: &Request) -> Result<Answer, SignError> {
        match self.0.shared.link()?.ask(request)? {
            Answer::Failed(failure) => Err(SignError::Lease(failure.as_str())),
            answer => Ok(answer),
        }
    }
}
