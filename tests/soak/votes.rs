//! Which votes the chain's blocks carry, and of those that none carries, when they were made and when the block was there.
//!
//! Why it exists: a vote that was published and is in no block has earned nothing, which no log of the client shows. What
//! is nobody's fault is told apart by times only: a vote is due a third into its slot, with or without the block of the slot.
//! Made then, before an epoch's first block, it has the head of the epoch before, and the Lodestar that runs here puts no such
//! vote into its blocks: it takes the shuffling of the head's epoch for that of the target's (ChainSafe/lodestar#7651).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use holdfast_tests::client_log::{ClientLog, in_quarter_hour};
use holdfast_tests::devnet::ChainStatus;

use crate::judge::SLOTS_PER_EPOCH;

/// What the switcher says when it gives out what is to be voted for.
const GIVEN_OUT: &str = "attestation data given out";
/// In shorter slots a block may be late by what Lodestar itself takes: half a second for a payload it has not prepared.
const SHORTEST_JUDGED: u64 = 6;
const QUARTER_HOUR: u64 = 15 * 60 * 1000;

/// When things happened, in milliseconds after the slot's begin.
pub(crate) struct Times {
    slot_seconds: u64,
    /// Last time data to be voted for was given out, by slot.
    given: BTreeMap<u64, u64>,
    /// When the block was published, by slot.
    blocks: BTreeMap<u64, u64>,
    /// How many votes were published, by slot.
    votes: BTreeMap<u64, u64>,
}

impl Times {
    /// From the logs of the client and the switcher.
    pub(crate) fn read(client: &ClientLog, switcher: &str, genesis: u64, slot_seconds: u64, last_slot: u64) -> Self {
        // Clocks of logs have no time zone; all of them differ by whole quarters of an hour.
        let after = |slot: u64, at: u64| {
            let begin = (genesis + slot * slot_seconds) * 1000 % QUARTER_HOUR;
            (at + QUARTER_HOUR - begin) % QUARTER_HOUR
        };
        let given = switcher.lines().filter(|line| line.contains(GIVEN_OUT)).filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let (slot, (_, clock)) = (line["fields"]["slot"].as_u64()?, line["timestamp"].as_str()?.split_once('T')?);
            Some((slot, after(slot, in_quarter_hour(clock)?)))
        });
        let published = client.published(0..=last_slot);
        let blocks = published.iter().filter_map(|(slot, published)| Some((*slot, after(*slot, published.block_at?))));
        let votes = published.iter().map(|(slot, published)| (*slot, published.attestations)).collect();
        Self { slot_seconds, given: given.collect(), blocks: blocks.collect(), votes }
    }

    const fn due(&self) -> u64 {
        self.slot_seconds * 1000 / 3
    }

    fn is_late(&self, slot: u64) -> bool {
        self.blocks.get(&slot).is_some_and(|at| *at > self.due())
    }

    /// Whether the votes of this slot were made when due, before its block, and the chain here drops those.
    fn is_nobodys_fault(&self, slot: u64) -> bool {
        let first = slot.is_multiple_of(SLOTS_PER_EPOCH);
        first && self.is_late(slot) && self.given.get(&slot).is_some_and(|at| *at >= self.due())
    }

    /// How many votes of this slot were published and are not among those in blocks.
    fn lost(&self, slot: u64, in_blocks: u64) -> u64 {
        self.votes.get(&slot).copied().unwrap_or_default().saturating_sub(in_blocks)
    }

    fn told(&self, slot: u64) -> String {
        let at =
            |times: &BTreeMap<u64, u64>| times.get(&slot).map_or_else(|| "never".to_owned(), |at| format!("{at} ms"));
        format!("given out at {}, block published at {}", at(&self.given), at(&self.blocks))
    }
}

/// Prints what the blocks of these slots carry; findings. Late blocks are listed and not judged where the machine was `full`.
pub(crate) fn judge(status: &ChainStatus, slots: &RangeInclusive<u64>, times: &Times, full: bool) -> Vec<String> {
    let epochs = slots.start().div_ceil(SLOTS_PER_EPOCH)..slots.end() / SLOTS_PER_EPOCH;
    let complete = || status.attestations.iter().filter(|votes| votes.complete && epochs.contains(&votes.epoch));
    let (included, expected) = complete().fold((0, 0), |sum, votes| (sum.0 + votes.included, sum.1 + votes.expected));
    let missed: Vec<u64> = status.missed_slots.iter().filter(|slot| slots.contains(slot)).copied().collect();
    println!(
        "  chain: finalized epoch {}; {included} of {expected} votes are in blocks; slots without a block {missed:?}; sync committee {} of {} since genesis",
        status.finalized_epoch, status.sync_votes, status.sync_seats
    );
    println!(
        "  chain: {} double votes, {} slashed validators, {} proofs of offences",
        status.double_votes,
        status.slashed_validators,
        status.proposer_slashings + status.attester_slashings
    );
    let mut findings = Vec::new();
    let late: Vec<String> = slots
        .clone()
        .filter(|slot| times.is_late(*slot))
        .map(|slot| format!("{slot}: {} ms", times.blocks[&slot]))
        .collect();
    println!(
        "  blocks published after a third of their slot: {}",
        if late.is_empty() { "none".to_owned() } else { late.join(", ") }
    );
    if !late.is_empty() && !full && times.slot_seconds >= SHORTEST_JUDGED {
        findings.push(format!("blocks were late: {}", late.join(", ")));
    }
    for votes in complete().filter(|votes| votes.included < votes.expected) {
        let lost = votes.expected - votes.included;
        let first = votes.epoch * SLOTS_PER_EPOCH;
        let by_slot = (first..).zip(&votes.slots).map(|(slot, count)| (slot, times.lost(slot, *count)));
        let lacking: BTreeMap<u64, u64> = by_slot.filter(|(_, lost)| *lost > 0).collect();
        let told: Vec<String> = lacking.keys().map(|slot| format!("slot {slot}: {}", times.told(*slot))).collect();
        let told = format!(
            "{lost} votes of epoch {} are in no block (in blocks, by slot: {:?}; {})",
            votes.epoch,
            votes.slots,
            told.join("; ")
        );
        // Each of them is one of those, not only some.
        if lacking.values().sum::<u64>() == lost && lacking.keys().all(|slot| times.is_nobodys_fault(*slot)) {
            println!("  {told}: made when due, before an epoch's first block, which this Lodestar drops");
        } else {
            findings.push(told);
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(given: u64, block: u64) -> Times {
        let switcher = format!(
            r#"{{"timestamp":"2026-11-29T21:09:{given:06.3}Z","fields":{{"message":"{GIVEN_OUT}","slot":48}}}}"#,
            given = f64::from(u32::try_from(given).expect("small")) / 1000.0
        );
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let block = f64::from(u32::try_from(block).expect("small")) / 1000.0;
        // A clock an hour and three quarters ahead.
        let line = format!(
            "Nov-29 22:54:{block:06.3}[]    info: Published block slot=48, validator=0xaf\n\
             Nov-29 22:54:00.964[]    info: Published attestations slot=48, count=6\n"
        );
        std::fs::write(&log, line).expect("a log");
        // Slot 48 begins at 21:09:00 UTC.
        Times::read(&ClientLog::from_start(&log), &switcher, 1_795_986_444, 2, 60)
    }

    #[test]
    fn votes_are_nobodys_fault_when_made_in_time_before_a_late_first_block() {
        assert!(times(668, 814).is_nobodys_fault(48));
        assert!(!times(300, 814).is_nobodys_fault(48), "it was asked too early");
        assert!(!times(668, 500).is_nobodys_fault(48), "the block was there");
        assert!(!times(668, 814).is_nobodys_fault(49), "nothing is known of that slot");
        assert_eq!((times(668, 814).lost(48, 0), times(668, 814).lost(48, 5), times(668, 814).lost(49, 0)), (6, 1, 0));
        assert_eq!(times(668, 814).told(48), "given out at 668 ms, block published at 814 ms");
    }
}
