//! Signing by leases: with witnesses, a vault signs blocks and attestations only in epochs that enough of them granted.
//!
//! Guarantees: of the vaults of a group at most one signs in an epoch (see `holdfast-witness` for when); before a vault
//! signs in a lease, its marks are above everything that an earlier holder may have signed, or are exactly those of the
//! holder before, from a checkpoint that enough witnesses say was its last; once it has given its lease back it signs
//! no block and no attestation any more.
//!
//! No vote from an epoch to itself is signed by lease: a fence at the last epoch of somebody else assumes that.
//!
//! The key that shows membership and the one that seals checkpoints are made from the data key, so whoever has none
//! can neither extend a lease nor give one back.

use hkdf::Hkdf;
use holdfast_domain::{Epoch, GenesisValidatorsRoot, SlotClock, Subject};
use holdfast_vault_proto::{Answer, Failure, LeaseNews, LeaseReport, Operation, Reason, Request};
use holdfast_witness::{Adopted, Holding, Offered, Pins, Run, SigningKey, VerifyingKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::checkpoint::{self, Binding, Incoming, Made};
use super::core::{Keys, Vault};
use super::rules::Marks;
use crate::secret::DataKey;
use crate::stack;

const MEMBER: &[u8] = b"holdfast witness member v1";
const STATE: &[u8] = b"holdfast vault state v1";

/// Leases of a vault, and what goes with them.
pub(super) struct Leasing {
    holding: Holding,
    binding: Binding,
    /// From the first data key.
    secrets: Option<Secrets>,
    incoming: Option<Incoming>,
    made: Option<Made>,
}

struct Secrets {
    member: SigningKey,
    state: DataKey,
}

impl Leasing {
    /// Of these witnesses, holding nothing.
    ///
    /// # Errors
    /// [`Failure::Internal`] without randomness.
    pub(super) fn new(pins: Pins, chain: GenesisValidatorsRoot) -> Result<Self, Failure> {
        let binding = Binding { chain, group: pins.group().clone() };
        let holding = Holding::new(pins, chain).map_err(|_| Failure::Internal)?;
        Ok(Self { holding, binding, secrets: None, incoming: None, made: None })
    }

    /// What is made from the data key.
    pub(super) fn learn(&mut self, data_key: &DataKey) -> Result<(), Failure> {
        if self.secrets.is_some() {
            return Ok(());
        }
        let (mut member, mut state) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        let derive = |key: &[u8]| {
            let expander = Hkdf::<Sha256>::new(Some(&self.binding.chain.0), key);
            expander.expand(MEMBER, member.as_mut_slice()).and_then(|()| expander.expand(STATE, state.as_mut_slice()))
        };
        let derived = stack::apart(|| data_key.bytes().expose(derive));
        derived.map_err(|_| Failure::Internal)?;
        let state = DataKey::take(state.as_mut_slice()).map_err(|_| Failure::Internal)?;
        self.secrets = Some(Secrets { member: SigningKey::from_seed(&member), state });
        Ok(())
    }

    /// The epoch up to which others may have signed, for keys that come in.
    pub(super) fn base(&self) -> Option<Epoch> {
        self.holding.base()
    }

    /// Whether this may be signed, as far as leases say.
    pub(super) fn allows(&self, subject: &Subject, slots: &SlotClock) -> Result<(), Reason> {
        let epoch = match *subject {
            Subject::Unslashable { .. } => return Ok(()),
            Subject::Block { slot } => slot.epoch(slots.slots_per_epoch),
            Subject::Attestation { source, target, .. } => {
                if source == target && target > Epoch(0) {
                    return Err(Reason::SourceNotBeforeTarget);
                }
                target
            }
        };
        if self.holding.covers(epoch) { Ok(()) } else { Err(Reason::NoLease) }
    }

    fn secrets(&self) -> Result<&Secrets, Failure> {
        self.secrets.as_ref().ok_or(Failure::NoKeys)
    }

    /// The checkpoint that came in whole.
    fn offered(&self) -> Option<Offered> {
        self.incoming.as_ref().and_then(Incoming::complete).map(|(seq, hash)| Offered { hash, seq })
    }

    fn ask(&mut self, until: Epoch, versions: &[u64]) -> Result<Answer, Failure> {
        let Some(secrets) = &self.secrets else { return Err(Failure::NoKeys) };
        let asked = self.holding.ask(&secrets.member, until, self.offered(), versions);
        let requests = asked.map_err(|_| Failure::Internal)?;
        Ok(Answer::Requests { operation: Operation::AskLease, requests, pages: 0 })
    }

    fn take(&mut self, grants: &[Vec<u8>], slots: &SlotClock, keys: &mut Keys) -> LeaseReport {
        let grants: Vec<&[u8]> = grants.iter().map(Vec::as_slice).collect();
        let Adopted { lease, good } = self.holding.adopt(&grants, self.offered());
        let mut resumed = 0_u64;
        let news = match lease {
            None => LeaseNews::Nothing,
            Some((_, Run::Continued)) => LeaseNews::Extended,
            Some((_, Run::Begun { after })) => {
                let others = Marks::behind(after, slots);
                for held in keys.values_mut() {
                    held.marks = held.marks.raised_to(others);
                }
                LeaseNews::Begun
            }
            Some((_, Run::Resumed { until })) => {
                let mut left = self.incoming.take().map(|incoming| incoming.marks).unwrap_or_default();
                let others = Marks::behind(until, slots);
                for (public_key, held) in keys.iter_mut() {
                    // This vault has signed nothing yet, so its marks are fences that the exact ones replace.
                    match left.remove(public_key).filter(|_| held.secret.is_some()) {
                        Some(exact) => {
                            held.marks = exact;
                            resumed = resumed.saturating_add(1);
                        }
                        None => held.marks = held.marks.raised_to(others),
                    }
                }
                LeaseNews::Resumed
            }
        };
        let held = self.holding.lease().map(|span| (span.after, span.until));
        LeaseReport { held, news, good: u32::try_from(good).unwrap_or(u32::MAX), resumed }
    }

    fn release(&mut self, versions: &[u64], keys: &Keys) -> Result<Answer, Failure> {
        if self.made.is_none() {
            if self.holding.lease().is_none() {
                return Err(Failure::NoLease);
            }
            let open = keys.iter().filter(|(_, held)| held.secret.is_some());
            let marks = open.map(|(public_key, held)| (public_key, held.marks));
            let name = (self.holding.next_seq(), *self.holding.holder().as_bytes());
            self.made = Some(checkpoint::seal(&self.secrets()?.state, &self.binding, name, marks)?);
        }
        let (Some(made), Some(secrets)) = (&self.made, &self.secrets) else { return Err(Failure::NoKeys) };
        let asked = self.holding.release(&secrets.member, made.seq, made.hash, versions);
        let requests = asked.map_err(|_| Failure::Internal)?;
        let pages = u32::try_from(made.pages.len()).unwrap_or(u32::MAX);
        Ok(Answer::Requests { operation: Operation::ReleaseLease, requests, pages })
    }

    fn page(&self, index: u32) -> Result<Answer, Failure> {
        let made = self.made.as_ref().ok_or(Failure::NoCheckpoint)?;
        let page = usize::try_from(index).ok().and_then(|index| made.pages.get(index));
        page.map(|page| Answer::Page(page.clone())).ok_or(Failure::NoCheckpoint)
    }

    fn offer(&mut self, page: &[u8]) -> Result<Answer, Failure> {
        let before = self.incoming.take();
        self.incoming = Some(Incoming::take(before, &self.secrets()?.state, &self.binding, page)?);
        Ok(Answer::Done(Operation::OfferPage))
    }
}

/// Carries out what concerns leases.
///
/// # Errors
/// [`Failure`]: nothing changed.
pub(super) fn carry_out(vault: &mut Vault, request: Request) -> Result<Answer, Failure> {
    let (chain, lease, keys) = vault.parts();
    let chain = chain.ok_or(Failure::NotPinned)?;
    if let Request::Witnesses { group, witnesses, quorum } = request {
        let pins = pins(&group, &witnesses, quorum).ok_or(Failure::UnfitWitnesses)?;
        return match lease {
            Some(known) if *known.holding.pins() == pins => Ok(Answer::Done(Operation::Witnesses)),
            // With a key open it may have signed without them.
            Some(_) => Err(Failure::OtherWitnesses),
            None if !keys.is_empty() => Err(Failure::OtherWitnesses),
            None => {
                *lease = Some(Leasing::new(pins, chain.genesis)?);
                Ok(Answer::Done(Operation::Witnesses))
            }
        };
    }
    let lease = lease.as_mut().ok_or(Failure::NoWitnesses)?;
    match request {
        Request::AskLease { until, versions } => lease.ask(until, &versions),
        Request::TakeLease(grants) => Ok(Answer::Lease(lease.take(&grants, &chain.slots, keys))),
        Request::ReleaseLease { versions } => lease.release(&versions, keys),
        Request::FetchPage(index) => lease.page(index),
        Request::OfferPage(page) => lease.offer(&page),
        _ => Err(Failure::Internal),
    }
}

/// Witnesses as they come in a request. `None` if they do not fit.
pub(super) fn pins(group: &str, witnesses: &[[u8; 32]], quorum: usize) -> Option<Pins> {
    let keys = witnesses.iter().map(|key| VerifyingKey::new(*key).ok()).collect::<Option<Vec<_>>>()?;
    Pins::new(group.parse().ok()?, keys, quorum).ok()
}

#[cfg(test)]
mod tests;
