//! One row per validator: what is read of it, and the history it stands for.
//!
//! The server adds up, because a database holds hundreds of rows for each key and only their extremes count.
//! Lowest values are read as well: a number below zero anywhere means a damaged database.

use holdfast_domain::{Epoch, PublicKey, Slot};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::Fault;
use crate::interchange::{History, Rows, ValidatorFloor};

/// Numbers travel as text, because `numeric(20)` holds more than 64 bits.
pub(super) const DECLARE: &str = "DECLARE histories NO SCROLL CURSOR FOR \
     SELECT v.id::bigint, v.public_key, v.enabled, w.slot::text, w.source_epoch::text, w.target_epoch::text, \
     coalesce(b.signed, 0), b.lowest::text, b.slot::text, \
     coalesce(a.signed, 0), a.lowest::text, a.source::text, a.target::text \
     FROM validators v LEFT JOIN low_watermarks w ON w.validator_id = v.id \
     LEFT JOIN (SELECT validator_id, count(*) AS signed, min(slot) AS lowest, max(slot) AS slot \
     FROM signed_blocks GROUP BY validator_id) b ON b.validator_id = v.id \
     LEFT JOIN (SELECT validator_id, count(*) AS signed, least(min(source_epoch), min(target_epoch)) AS lowest, \
     max(source_epoch) AS source, max(target_epoch) AS target \
     FROM signed_attestations GROUP BY validator_id) a ON a.validator_id = v.id";

/// Reads the next part.
pub(super) const FETCH: &str = "FETCH 5000 FROM histories";

/// A row as stored.
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) enabled: bool,
    key: Vec<u8>,
    low_slot: Option<String>,
    low_source: Option<String>,
    low_target: Option<String>,
    blocks: i64,
    lowest_slot: Option<String>,
    slot: Option<String>,
    attestations: i64,
    lowest_epoch: Option<String>,
    source: Option<String>,
    target: Option<String>,
}

pub(super) fn stored(row: &PgRow) -> sqlx::Result<Stored> {
    Ok(Stored {
        id: row.try_get(0)?,
        key: row.try_get(1)?,
        enabled: row.try_get(2)?,
        low_slot: row.try_get(3)?,
        low_source: row.try_get(4)?,
        low_target: row.try_get(5)?,
        blocks: row.try_get(6)?,
        lowest_slot: row.try_get(7)?,
        slot: row.try_get(8)?,
        attestations: row.try_get(9)?,
        lowest_epoch: row.try_get(10)?,
        source: row.try_get(11)?,
        target: row.try_get(12)?,
    })
}

/// Reads an unsigned number of 64 bits.
pub(super) fn number(name: &'static str, text: &str) -> Result<u64, Fault> {
    text.parse().map_err(|_| Fault::Number { name, found: text.to_owned() })
}

impl Stored {
    /// The key and everything its rows say.
    pub(super) fn history(&self) -> Result<(PublicKey, History), Fault> {
        let key = <[u8; 48]>::try_from(self.key.as_slice()).map_err(|_| Fault::Length { expected: 48 })?;
        let read = |name, text: &Option<String>| text.as_deref().map(|text| number(name, text)).transpose();
        read("slot", &self.lowest_slot)?;
        read("epoch", &self.lowest_epoch)?;
        let mut floor = ValidatorFloor::default();
        let slots = [read("low_watermarks.slot", &self.low_slot)?, read("signed_blocks.slot", &self.slot)?];
        for slot in slots.into_iter().flatten() {
            floor.add_block(Slot(slot));
        }
        let low = (
            read("low_watermarks.source_epoch", &self.low_source)?,
            read("low_watermarks.target_epoch", &self.low_target)?,
        );
        let signed = (
            read("signed_attestations.source_epoch", &self.source)?,
            read("signed_attestations.target_epoch", &self.target)?,
        );
        for epochs in [low, signed] {
            // One epoch alone would be a damaged row; taken as both, it only adds strictness.
            if let (Some(source), Some(target)) = (epochs.0.or(epochs.1), epochs.1.or(epochs.0)) {
                floor.add_attestation(Epoch(source), Epoch(target));
            }
        }
        let count = |rows: i64| u64::try_from(rows).unwrap_or(0);
        let rows = Rows { blocks: count(self.blocks), attestations: count(self.attestations) };
        Ok((PublicKey::from_bytes(key), History { floor, rows }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Stored {
        Stored {
            id: 1,
            enabled: true,
            key: vec![7; 48],
            low_slot: Some("10".to_owned()),
            low_source: Some("3".to_owned()),
            low_target: Some("5".to_owned()),
            blocks: 2,
            lowest_slot: Some("8".to_owned()),
            slot: Some("9".to_owned()),
            attestations: 1,
            lowest_epoch: Some("4".to_owned()),
            source: Some("4".to_owned()),
            target: Some("4".to_owned()),
        }
    }

    #[test]
    fn every_number_is_the_highest_of_watermark_and_rows() {
        let (key, history) = row().history().unwrap();
        assert_eq!(key, PublicKey::from_bytes([7; 48]));
        let epochs = history.floor.attestation.map(|own| (own.source.0, own.target.0));
        assert_eq!((history.floor.block, epochs), (Some(Slot(10)), Some((4, 5))));
        assert_eq!(history.rows, Rows { blocks: 2, attestations: 1 });
    }

    #[test]
    fn a_validator_that_signed_nothing_has_an_empty_history() {
        let nothing = Stored {
            low_slot: None,
            low_source: None,
            low_target: None,
            lowest_slot: None,
            slot: None,
            lowest_epoch: None,
            source: None,
            target: None,
            ..row()
        };
        assert_eq!(nothing.history().unwrap().1.floor, ValidatorFloor::default());
    }

    #[test]
    fn numbers_that_cannot_be_and_keys_of_another_length_are_faults() {
        let bad = [
            Stored { lowest_slot: Some("-1".to_owned()), ..row() },
            Stored { target: Some("18446744073709551616".to_owned()), ..row() },
            Stored { lowest_epoch: Some("NaN".to_owned()), ..row() },
            Stored { low_slot: Some("-5".to_owned()), ..row() },
            Stored { key: vec![7; 47], ..row() },
        ];
        for stored in bad {
            assert!(stored.history().is_err());
        }
    }
}
