//! Imports that protect keys less than the default: what people approve of them.
//!
//! Guarantees: with approvals, only keys that the request names come in, each where the request says that its protection
//! begins. A keystore that does not say whose it is comes in with nobody's approval.

use holdfast_approvals::{Act, Payload};
use holdfast_domain::PublicKey;
use holdfast_slashing_db::Floor;
use holdfast_slashing_db::interchange::Interchange;

use super::super::approvals::{self, Pending};
use super::super::args::{ImportArgs, WatermarkArg};
use super::super::{Context, Failure};
use super::discover::Candidate;
use crate::admin::Desk;

/// Said of a keystore without a public key.
pub(super) const NAMELESS: &str = "the keystore does not name its key, and only keys that are named can be approved; import it without --replace-tombstone and \
     with --watermark now";

/// Looks whether the import into a database that is open here may happen. Needs nothing of the default one.
///
/// # Errors
/// [`Failure`]; if people must approve, the request was written.
pub(super) async fn examine(
    args: &ImportArgs,
    candidates: &[Candidate],
    histories: Option<&Interchange>,
    desk: &Desk,
    context: &Context,
) -> Result<Option<Pending>, Failure> {
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
    let Some(gate) = desk.approvals().filter(|_| !acts.is_empty()) else { return Ok(None) };
    let payload = payload(args, candidates, histories);
    approvals::examine_at(gate.clone(), &acts, &payload, &args.approval, context).await.map(Some)
}

fn payload(args: &ImportArgs, candidates: &[Candidate], histories: Option<&Interchange>) -> Payload {
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
    lines.extend(keys.iter().map(|key| match histories.and_then(|histories| histories.get(key)) {
        Some(history) => format!("key {key} {}", said(&history.floor.into())),
        None => format!("key {key}"),
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
