//! A slow judge that shares no code with the rules: it keeps every released signature for ever and says
//! whether any two of them are slashable together. Also the minimal strategy of EIP-3076, computed from
//! the whole history each time, to show that the rules refuse nothing it allows.

/// What a signature says, as the chain would judge it. `root` is the 32 signed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Block { slot: u64, root: [u8; 32] },
    Vote { source: u64, target: u64, root: [u8; 32] },
}

/// Whether two signatures of one validator get it slashed (consensus specification,
/// `process_proposer_slashing` and `is_slashable_attestation_data`).
pub fn slashable(one: &Said, other: &Said) -> bool {
    match (one, other) {
        (Said::Block { slot: a, root: left }, Said::Block { slot: b, root: right }) => a == b && left != right,
        (Said::Vote { source: s1, target: t1, root: left }, Said::Vote { source: s2, target: t2, root: right }) => {
            let double_vote = t1 == t2 && left != right;
            let first_surrounds = s1 < s2 && t2 < t1;
            let second_surrounds = s2 < s1 && t1 < t2;
            double_vote || first_surrounds || second_surrounds
        }
        (Said::Block { .. }, Said::Vote { .. }) | (Said::Vote { .. }, Said::Block { .. }) => false,
    }
}

/// Whether `new` is slashable together with anything in `history`, or is no valid vote at all.
pub fn must_not_be_released(history: &[Said], new: &Said) -> bool {
    let absurd = matches!(new, Said::Vote { source, target, .. } if source > target);
    absurd || history.iter().any(|old| slashable(old, new))
}

/// EIP-3076's minimal strategy with re-signing of the last message, from the history of released signatures.
pub fn minimal_allows(history: &[Said], new: &Said) -> bool {
    match *new {
        Said::Block { slot, .. } => {
            let last = history.iter().rfind(|said| matches!(said, Said::Block { .. }));
            let highest = history.iter().filter_map(|said| match said {
                Said::Block { slot, .. } => Some(*slot),
                Said::Vote { .. } => None,
            });
            last == Some(new) || highest.max().is_none_or(|highest| slot > highest)
        }
        Said::Vote { source, target, .. } => {
            let last = history.iter().rfind(|said| matches!(said, Said::Vote { .. }));
            let votes = || {
                history.iter().filter_map(|said| match said {
                    Said::Vote { source, target, .. } => Some((*source, *target)),
                    Said::Block { .. } => None,
                })
            };
            let above_source = votes().map(|vote| vote.0).max().is_none_or(|highest| source >= highest);
            let above_target = votes().map(|vote| vote.1).max().is_none_or(|highest| target > highest);
            source <= target && (last == Some(new) || (above_source && above_target))
        }
    }
}
