//! Between what the record knows and the messages of the admin API.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::{Epoch, PublicKey, Slot};
use holdfast_slashing_db::interchange::{AttestationFloor, History, Rows, ValidatorFloor, ValidatorReport};
use holdfast_slashing_db::{KeyInfo, KeyOrigin, KeyState, Label, Labels, Watermarks};
use holdfast_wire::admin::v1;
use holdfast_wire::admin::{Reason, refusal};
use tonic::Status;

/// Keys named in one request at most.
const MAX_KEYS: usize = 10_000;

/// The public key in a field.
pub(crate) fn key(text: &str) -> Result<PublicKey, Status> {
    let shown: String = text.chars().take(100).collect();
    text.parse().map_err(|_| {
        refusal(Reason::InvalidArgument, format!("{shown:?} is no public key: expected 0x and 96 hexadecimal digits"))
    })
}

/// The public keys of a request, each once, in their order; at least one.
pub(crate) fn some_keys(texts: &[String]) -> Result<Vec<PublicKey>, Status> {
    let keys = keys(texts)?;
    if keys.is_empty() {
        return Err(refusal(Reason::InvalidArgument, "pubkeys is empty: name at least one key"));
    }
    Ok(keys)
}

/// The public keys of a request, each once, in their order.
pub(crate) fn keys(texts: &[String]) -> Result<Vec<PublicKey>, Status> {
    if texts.len() > MAX_KEYS {
        return Err(refusal(Reason::InvalidArgument, format!("name at most {MAX_KEYS} keys in one request")));
    }
    let mut seen = BTreeSet::new();
    let mut keys = Vec::with_capacity(texts.len());
    for text in texts {
        let key = key(text)?;
        if seen.insert(key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The labels of a request.
pub(crate) fn labels(texts: &[String]) -> Result<Labels, Status> {
    let one = |text: &String| {
        let shown: String = text.chars().take(Label::MAX_BYTES).collect();
        text.parse().map_err(|error| refusal(Reason::InvalidArgument, format!("the label {shown:?}: {error}")))
    };
    let labels: Labels = texts.iter().map(one).collect::<Result<_, Status>>()?;
    if labels.len() > Label::MAX_OF_KEY {
        let text = format!("name at most {} labels; a key has no more", Label::MAX_OF_KEY);
        return Err(refusal(Reason::InvalidArgument, text));
    }
    Ok(labels)
}

/// Labels as a message has them.
pub(crate) fn label_texts(labels: &Labels) -> Vec<String> {
    labels.iter().map(ToString::to_string).collect()
}

/// Watermarks as a message.
pub(crate) fn watermarks(marks: &Watermarks) -> v1::Watermarks {
    let attestation = marks.attestation.as_ref();
    v1::Watermarks {
        block_slot: marks.block.as_ref().map(|mark| mark.slot.0),
        source_epoch: attestation.map(|mark| mark.source.0),
        target_epoch: attestation.map(|mark| mark.target.0),
    }
}

/// A key as a message.
pub(crate) fn key_message(info: &KeyInfo) -> v1::Key {
    let held = info.origin.is_some();
    let by = |caller: &holdfast_slashing_db::CallerId| {
        if held { caller.as_str().to_owned() } else { String::new() }
    };
    let at = |time: holdfast_domain::UnixMillis| if held { time.0 } else { 0 };
    v1::Key {
        pubkey: info.key.to_string(),
        state: match info.state {
            KeyState::Enabled => v1::KeyState::Enabled,
            KeyState::Disabled => v1::KeyState::Disabled,
            KeyState::Tombstoned => v1::KeyState::Tombstoned,
        }
        .into(),
        watermarks: Some(watermarks(&info.watermarks)),
        origin: match info.origin {
            None => v1::KeyOrigin::Unspecified,
            Some(KeyOrigin::Imported) => v1::KeyOrigin::Imported,
            Some(KeyOrigin::Generated) => v1::KeyOrigin::Generated,
        }
        .into(),
        label: info.label.clone(),
        created_unix_millis: at(info.created),
        created_by: by(&info.created_by),
        changed_unix_millis: at(info.changed),
        changed_by: by(&info.changed_by),
        labels: label_texts(&info.labels),
    }
}

/// What an import does to one key.
pub(crate) fn change(report: &ValidatorReport) -> v1::HistoryChange {
    v1::HistoryChange {
        pubkey: report.key.to_string(),
        change: report.change.as_str().to_owned(),
        before: report.before.as_ref().map(watermarks),
        after: Some(watermarks(&report.after)),
        blocks: report.rows.blocks,
        attestations: report.rows.attestations,
        switched_off: report.switched_off.as_str().map(str::to_owned),
    }
}

/// A history as a message.
pub(crate) fn history_message(key: &PublicKey, history: &History, switched_off: bool) -> v1::History {
    let attestation = history.floor.attestation;
    v1::History {
        pubkey: key.to_string(),
        watermarks: Some(v1::Watermarks {
            block_slot: history.floor.block.map(|slot| slot.0),
            source_epoch: attestation.map(|own| own.source.0),
            target_epoch: attestation.map(|own| own.target.0),
        }),
        blocks: history.rows.blocks,
        attestations: history.rows.attestations,
        switched_off,
    }
}

/// Histories as they come in.
#[derive(Default)]
pub(crate) struct Collected {
    /// By key.
    pub(crate) validators: BTreeMap<PublicKey, History>,
    /// Keys that must not sign.
    pub(crate) switched_off: BTreeSet<PublicKey>,
}

impl Collected {
    /// Takes in one history; of one key, several add up.
    pub(crate) fn add(&mut self, message: &v1::History) -> Result<(), Status> {
        if self.validators.len() >= holdfast_slashing_db::interchange::MAX_VALIDATORS {
            return Err(refusal(Reason::InvalidArgument, "too many histories in one import"));
        }
        let key = key(&message.pubkey)?;
        let marks = message.watermarks.unwrap_or_default();
        let attestation = match (marks.source_epoch, marks.target_epoch) {
            (None, None) => None,
            (source, target) => Some(AttestationFloor {
                source: Epoch(source.unwrap_or_default()),
                target: Epoch(target.unwrap_or_default()),
            }),
        };
        let floor = ValidatorFloor { block: marks.block_slot.map(Slot), attestation };
        let rows = Rows { blocks: message.blocks, attestations: message.attestations };
        let known = self.validators.entry(key).or_default();
        known.floor.merge(&floor);
        known.rows.blocks = known.rows.blocks.saturating_add(rows.blocks);
        known.rows.attestations = known.rows.attestations.saturating_add(rows.attestations);
        if message.switched_off {
            self.switched_off.insert(key);
        }
        Ok(())
    }
}
