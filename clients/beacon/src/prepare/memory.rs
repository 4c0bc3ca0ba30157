//! What validator clients have told, for as long as a node would remember it.
//!
//! Why it exists: a node that restarts has forgotten its validators' subnets and fee recipients, and the
//! validator client will not tell it again before the next epoch: aggregates are missed, and a block pays the
//! zero address. What it guarantees: items are kept by what they are about, the latest wins; each is forgotten
//! when it has no more effect; memory is bounded.

use std::collections::{BTreeMap, HashMap};

use holdfast_domain::root::parse_hex;
use holdfast_domain::{Epoch, Slot};
use hyper::HeaderMap;
use hyper::body::Bytes;
use serde_json::Value;

use crate::route::attestation::Form;
use crate::route::block::FeeRecipient;

/// Items of one kind kept at most; beyond it the ones told longest ago are forgotten.
const MAX_ITEMS: usize = 200_000;

/// Epochs after the last telling until an item that names no end is forgotten. Clients tell every epoch, and
/// nodes forget preparations after two.
const FORGOTTEN_AFTER_EPOCHS: u64 = 2;

/// What is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Subnets of committees, until their slot.
    CommitteeSubscriptions,
    /// Subnets of sync committees, until an epoch.
    SyncSubscriptions,
    /// Fee recipients.
    Proposers,
    /// Signed preferences (Gloas).
    Preferences,
    /// Signed registrations with builders.
    Registrations,
}

impl Kind {
    /// Every kind, in the order of replay: what a block needs comes first.
    pub const ALL: [Self; 5] = [
        Self::Proposers,
        Self::Preferences,
        Self::CommitteeSubscriptions,
        Self::SyncSubscriptions,
        Self::Registrations,
    ];

    /// Where it is sent.
    pub const fn path(self) -> &'static str {
        match self {
            Self::CommitteeSubscriptions => "/eth/v1/validator/beacon_committee_subscriptions",
            Self::SyncSubscriptions => "/eth/v1/validator/sync_committee_subscriptions",
            Self::Proposers => "/eth/v1/validator/prepare_beacon_proposer",
            Self::Preferences => "/eth/v1/validator/proposer_preferences",
            Self::Registrations => "/eth/v1/validator/register_validator",
        }
    }
}

/// A body as it was sent, where its items cannot be read (SSZ).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque {
    /// `Content-Type`, `Eth-Consensus-Version`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// When an item is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// After this slot.
    Slot(Slot),
    /// After this epoch.
    Epoch(Epoch),
}

#[derive(Debug)]
struct Item {
    value: Value,
    until: Until,
    told: u64,
}

#[derive(Debug, Default)]
struct Shelf {
    items: HashMap<String, Item>,
    opaque: Vec<(Opaque, Epoch)>,
    /// Headers of the last body that was read: `Eth-Consensus-Version` belongs to its items.
    headers: HeaderMap,
}

/// Everything remembered.
#[derive(Debug, Default)]
pub struct Memory {
    shelves: BTreeMap<Kind, Shelf>,
    told: u64,
}

/// Opaque bodies kept at most.
const MAX_OPAQUE: usize = 256;

fn number(value: &Value, name: &str) -> Option<u64> {
    match value.get(name)? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What an item is about, and until when it has an effect. `None`: not such an item.
fn describe(kind: Kind, value: &Value, now: Epoch) -> Option<(String, Until)> {
    let lasting = Until::Epoch(Epoch(now.0.saturating_add(FORGOTTEN_AFTER_EPOCHS)));
    Some(match kind {
        Kind::CommitteeSubscriptions => {
            let slot = number(value, "slot")?;
            let key = format!("{} {slot} {}", text(value, "validator_index")?, text(value, "committee_index")?);
            (key, Until::Slot(Slot(slot)))
        }
        Kind::SyncSubscriptions => {
            (text(value, "validator_index")?, Until::Epoch(Epoch(number(value, "until_epoch")?)))
        }
        Kind::Proposers => (text(value, "validator_index")?, lasting),
        Kind::Preferences => {
            let message = value.get("message").unwrap_or(value);
            let slot = text(message, "proposal_slot").or_else(|| text(message, "slot")).unwrap_or_default();
            (format!("{} {slot}", text(message, "validator_index")?), lasting)
        }
        Kind::Registrations => (text(value.get("message").unwrap_or(value), "pubkey")?, lasting),
    })
}

impl Memory {
    /// Remembers a body. Items that cannot be read are left out: the nodes judge them.
    pub fn tell(&mut self, kind: Kind, form: Form, headers: &HeaderMap, body: &Bytes, now: Epoch) {
        self.told = self.told.saturating_add(1);
        let told = self.told;
        let shelf = self.shelves.entry(kind).or_default();
        match form {
            Form::Ssz => {
                let opaque = Opaque { headers: headers.clone(), body: body.clone() };
                shelf.opaque.retain(|(known, _)| *known != opaque);
                if shelf.opaque.len() >= MAX_OPAQUE {
                    shelf.opaque.remove(0);
                }
                shelf.opaque.push((opaque, Epoch(now.0.saturating_add(FORGOTTEN_AFTER_EPOCHS))));
            }
            Form::Json => {
                let Ok(values) = serde_json::from_slice::<Vec<Value>>(body) else { return };
                shelf.headers.clone_from(headers);
                for value in values {
                    if let Some((key, until)) = describe(kind, &value, now) {
                        shelf.items.insert(key, Item { value, until, told });
                    }
                }
                shelf.bound();
            }
        }
    }

    /// Forgets what has no more effect.
    pub fn forget(&mut self, slot: Slot, epoch: Epoch) {
        for shelf in self.shelves.values_mut() {
            shelf.items.retain(|_, item| match item.until {
                Until::Slot(until) => until >= slot,
                Until::Epoch(until) => until >= epoch,
            });
            shelf.opaque.retain(|(_, until)| *until >= epoch);
        }
    }

    /// What to send to a node that has forgotten this kind: whole bodies.
    pub fn recall(&self, kind: Kind) -> Vec<Opaque> {
        let Some(shelf) = self.shelves.get(&kind) else { return Vec::new() };
        let mut bodies: Vec<Opaque> = shelf.opaque.iter().map(|(opaque, _)| opaque.clone()).collect();
        let values: Vec<&Value> = shelf.items.values().map(|item| &item.value).collect();
        for part in values.chunks(BODY_ITEMS) {
            if let Ok(body) = serde_json::to_vec(part) {
                bodies.push(Opaque { headers: shelf.headers.clone(), body: body.into() });
            }
        }
        bodies
    }

    /// How many items and bodies are remembered.
    pub fn len(&self, kind: Kind) -> usize {
        self.shelves.get(&kind).map_or(0, |shelf| shelf.items.len().saturating_add(shelf.opaque.len()))
    }

    /// Whether nothing of this kind is remembered.
    pub fn is_empty(&self, kind: Kind) -> bool {
        self.len(kind) == 0
    }

    /// Whom a validator wants to be paid, if it said so here.
    pub fn fee_recipient(&self, validator: u64) -> Option<FeeRecipient> {
        let item = self.shelves.get(&Kind::Proposers)?.items.get(&validator.to_string())?;
        parse_hex(item.value.get("fee_recipient")?.as_str()?).map(FeeRecipient)
    }
}

/// Items in one body of a replay.
const BODY_ITEMS: usize = 5_000;

impl Shelf {
    fn bound(&mut self) {
        if self.items.len() <= MAX_ITEMS {
            return;
        }
        let mut ages: Vec<u64> = self.items.values().map(|item| item.told).collect();
        ages.sort_unstable();
        let excess = self.items.len().saturating_sub(MAX_ITEMS);
        if let Some(oldest_kept) = ages.get(excess) {
            let oldest_kept = *oldest_kept;
            self.items.retain(|_, item| item.told >= oldest_kept);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: the latest telling wins, items end when they should, bounds hold, SSZ is kept as it came.
    use super::*;

    fn tell(memory: &mut Memory, kind: Kind, body: &str, epoch: u64) {
        memory.tell(kind, Form::Json, &HeaderMap::new(), &Bytes::from(body.to_owned()), Epoch(epoch));
    }

    fn recalled(memory: &Memory, kind: Kind) -> Vec<Value> {
        memory.recall(kind).iter().flat_map(|body| serde_json::from_slice::<Vec<Value>>(&body.body).unwrap()).collect()
    }

    #[test]
    fn the_latest_fee_recipient_counts_and_is_forgotten_when_the_client_is_gone() {
        let mut memory = Memory::default();
        let prepare = |fee: &str| format!(r#"[{{"validator_index":"3","fee_recipient":"0x{}"}}]"#, fee.repeat(20));
        tell(&mut memory, Kind::Proposers, &prepare("aa"), 10);
        tell(&mut memory, Kind::Proposers, &prepare("bb"), 11);
        assert_eq!(memory.fee_recipient(3), Some(FeeRecipient([0xbb; 20])));
        assert_eq!(recalled(&memory, Kind::Proposers).len(), 1);
        memory.forget(Slot(13 * 32), Epoch(13));
        assert_eq!(memory.len(Kind::Proposers), 1);
        memory.forget(Slot(14 * 32), Epoch(14));
        assert!(memory.is_empty(Kind::Proposers));
        assert_eq!(memory.fee_recipient(3), None);
    }

    #[test]
    fn subscriptions_end_with_their_slot_and_epoch() {
        let mut memory = Memory::default();
        let committee = |slot: u64| {
            format!(
                r#"[{{"validator_index":"1","committee_index":"2","committees_at_slot":"4","slot":"{slot}","is_aggregator":true}}]"#
            )
        };
        tell(&mut memory, Kind::CommitteeSubscriptions, &committee(100), 3);
        tell(&mut memory, Kind::CommitteeSubscriptions, &committee(101), 3);
        tell(
            &mut memory,
            Kind::SyncSubscriptions,
            r#"[{"validator_index":"1","sync_committee_indices":["5"],"until_epoch":"7"}]"#,
            3,
        );
        memory.forget(Slot(101), Epoch(3));
        assert_eq!(recalled(&memory, Kind::CommitteeSubscriptions)[0]["slot"], "101");
        memory.forget(Slot(256), Epoch(8));
        assert!(memory.is_empty(Kind::CommitteeSubscriptions) && memory.is_empty(Kind::SyncSubscriptions));
    }

    #[test]
    fn ssz_bodies_are_kept_as_they_came_once() {
        let mut memory = Memory::default();
        let mut headers = HeaderMap::new();
        headers.insert("eth-consensus-version", "gloas".parse().unwrap());
        for _ in 0..3 {
            memory.tell(Kind::Preferences, Form::Ssz, &headers, &Bytes::from_static(b"\x01\x02"), Epoch(1));
        }
        let bodies = memory.recall(Kind::Preferences);
        assert_eq!(bodies, [Opaque { headers, body: Bytes::from_static(b"\x01\x02") }]);
        memory.forget(Slot(128), Epoch(4));
        assert!(memory.recall(Kind::Preferences).is_empty());
    }

    #[test]
    fn garbage_is_not_remembered() {
        let mut memory = Memory::default();
        for body in ["", "{}", "[1,2]", r#"[{"slot":"x"}]"#] {
            tell(&mut memory, Kind::CommitteeSubscriptions, body, 1);
        }
        assert!(memory.is_empty(Kind::CommitteeSubscriptions));
    }
}
