//! `holdfast backup check`: whether a restored database is behind a fence, before a signer starts on it.
//!
//! For PostgreSQL, whose backups are made and restored with its own tools. A key is behind the fence of a moment when
//! its watermarks are at least that moment's: whatever was signed before it is then refused.

use holdfast_domain::{Epoch, Slot, UnixMillis};
use holdfast_slashing_db::{KeyInfo, KeyState};
use serde_json::json;

use super::super::args::BackupCheckArgs;
use super::super::keys::open_record;
use super::super::{Context, Exit, Failure};
use crate::clock::rfc3339;
use crate::custody::CustodyError;
use crate::rollback;

/// Looks at every key that has a secret.
pub(super) async fn run(args: &BackupCheckArgs, context: &Context) -> Result<Exit, Failure> {
    let restored = UnixMillis(u64::from(args.restored_at).saturating_mul(1_000));
    let custody = open_record(context).await?;
    let suspicion = rollback::suspicion(&custody.guard);
    let keys = custody.guard.list().await.map_err(CustodyError::from);
    let (now, clock) = (custody.clock.now(), custody.slot_clock);
    custody.guard.shutdown().await;
    if restored > now {
        return Err(Failure::message(
            Exit::Usage,
            "--restored-at is in the future; give seconds since 1970, as `date +%s`",
        ));
    }
    let held: Vec<KeyInfo> =
        keys?.into_iter().filter(|info| info.origin.is_some() && info.state != KeyState::Tombstoned).collect();
    let open: Vec<&KeyInfo> = match (clock.slot_at(restored), clock.epoch_at(restored)) {
        (Some(slot), Some(epoch)) => held.iter().filter(|info| !behind(info, slot, epoch)).collect(),
        // Before genesis nothing can have been signed.
        (_, _) => Vec::new(),
    };
    let fenced = suspicion.is_none() && open.is_empty();
    let mut lines = vec![if fenced {
        format!("fenced: all {} keys are behind {}", held.len(), rfc3339(restored))
    } else {
        format!(
            "NOT FENCED: {} of {} keys are not behind {}; run `holdfast slashing fence` before any signer starts",
            open.len(),
            held.len(),
            rfc3339(restored)
        )
    }];
    lines.extend(suspicion.iter().flat_map(|found| rollback::explain(found, &rfc3339(found.since))));
    lines.extend(open.iter().map(|info| format!("{} may sign what was signed before", info.key)));
    context.output.result(
        lines.join("\n"),
        &json!({
            "fenced": fenced, "keys": held.len(), "restored_at": rfc3339(restored),
            "frozen": suspicion.as_ref().map(rollback::as_json),
            "open": open.iter().map(|info| info.key.to_string()).collect::<Vec<_>>(),
        }),
    )?;
    Ok(match (fenced, suspicion.is_some()) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Frozen,
        (false, false) => Exit::Refused,
    })
}

/// Whether everything signed before a moment conflicts with what the key may still sign, or is the same.
fn behind(info: &KeyInfo, slot: Slot, epoch: Epoch) -> bool {
    let block = info.watermarks.block.as_ref().is_some_and(|mark| mark.slot >= slot);
    let source = Epoch(epoch.0.saturating_sub(1));
    let vote = info.watermarks.attestation.as_ref().is_some_and(|mark| mark.target >= epoch && mark.source >= source);
    block && vote
}

#[cfg(test)]
mod tests {
    //! Proved here: every mark must be there and at least the moment's.

    use holdfast_domain::PublicKey;
    use holdfast_slashing_db::{AttestationMark, BlockMark, CallerId, KeyOrigin, Watermarks};

    use super::*;

    fn info(block: Option<u64>, vote: Option<(u64, u64)>) -> KeyInfo {
        KeyInfo {
            key: PublicKey::from_bytes([1; 48]),
            state: KeyState::Enabled,
            watermarks: Watermarks {
                block: block.map(|slot| BlockMark { slot: Slot(slot), root: None }),
                attestation: vote.map(|(source, target)| AttestationMark {
                    source: Epoch(source),
                    target: Epoch(target),
                    root: None,
                }),
            },
            origin: Some(KeyOrigin::Imported),
            label: None,
            labels: holdfast_slashing_db::Labels::new(),
            created: UnixMillis(0),
            created_by: CallerId::new("a"),
            changed: UnixMillis(0),
            changed_by: CallerId::new("a"),
        }
    }

    #[test]
    fn all_marks_count() {
        let check = |block, vote| behind(&info(block, vote), Slot(80), Epoch(10));
        assert!(check(Some(80), Some((9, 10))));
        assert!(check(Some(81), Some((10, 11))));
        for (block, vote) in [
            (Some(79), Some((9, 10))),
            (Some(80), Some((8, 10))),
            (Some(80), Some((9, 9))),
            (None, Some((9, 10))),
            (Some(80), None),
        ] {
            assert!(!check(block, vote), "{block:?} {vote:?}");
        }
    }
}
