//! Imports that protect keys less than the default: what people approve of them.
//!
//! Guarantees: with approvals, only keys that the request names come in, each where the request says that its protection
//! begins. A keystore that does not say whose it is comes in with nobody's approval.

use holdfast_approvals::{Act, Payload};
use holdfast_domain::PublicKey;
use holdfast_slashing_db::{EntryWatermark, Floor};

use super::super::approvals::{self, Pending};
use super::super::args::{ImportArgs, WatermarkArg};
use super::super::{Context, Failure};
use super::discover::Candidate;
use super::entry::Entries;
use crate::custody::Custody;

/// Said of a keystore without a public key.
pub(super) const NAMELESS: &str = "the keystore does not name its key, and only keys that are named can be approved; import it without --replace-tombstone and \
     with --watermark now";

/// Looks whether the import may happen. Needs nothing of the default one.
///
/// # Errors
/// [`Failure`]; if people must approve, the request was written.
pub(super) async fn examine(
    args: &ImportArgs,
    candidates: &[Candidate],
    entries: &Entries,
    custody: &Custody,
    context: &Context,
) -> Result<Pending, Failure> {
    let mut acts = Vec::new();
    if args.replace_tombstone {
        acts.push(Act::ReplaceTombstone);
    }
    if args.watermark != WatermarkArg::Now {
        acts.push(Act::LowerProtection);
    }
    if candidates.is_empty() {
        acts.clear();
    }
    let payload = payload(args, candidates, entries);
    approvals::examine(&acts, &payload, &args.approval, custody, context).await
}

fn payload(args: &ImportArgs, candidates: &[Candidate], entries: &Entries) -> Payload {
    let mut keys: Vec<PublicKey> = candidates.iter().filter_map(|candidate| candidate.claimed).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut lines = vec![format!("Import {} keys.", keys.len())];
    if args.replace_tombstone {
        lines.push("Those of them that were deleted here come back.".to_owned());
    }
    lines.push(
        match args.watermark {
            WatermarkArg::Now => "Protection begins at the present.",
            WatermarkArg::NeverSigned => {
                "Protection begins from nothing: they are said to have signed nothing, anywhere."
            }
            WatermarkArg::Interchange => {
                "Protection begins at what a file says that they have signed, and at nothing above it."
            }
        }
        .to_owned(),
    );
    lines.extend(keys.iter().map(|key| match entries.of(key) {
        Some(EntryWatermark::AtLeast(floor) | EntryWatermark::NowAnd(floor)) => format!("key {key} {}", said(&floor)),
        Some(EntryWatermark::Now | EntryWatermark::NeverSigned) | None => format!("key {key}"),
    }));
    Payload::new(lines)
}

/// A floor in words.
pub(in crate::cli) fn said(floor: &Floor) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let (slot, source, target) =
        (floor.block.map(|slot| slot.0), floor.source.map(|epoch| epoch.0), floor.target.map(|epoch| epoch.0));
    format!("slot {} source {} target {}", number(slot), number(source), number(target))
}
