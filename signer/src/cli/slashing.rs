//! `holdfast slashing status` and `fence`: what protection knows, and the way out of a freeze.

use holdfast_wire::admin::v1::{FenceRequest, SlashingStatusRequest};
use serde_json::json;

use super::args::{FenceArgs, SlashingStatusArgs};
use super::reach::{Need, failure, reach, say};
use super::{Context, Exit, Failure};

/// Prints the watermarks of every key, deleted ones too, and where the journal ends; on request verifies the whole
/// journal, and fails if that fails. While protection is frozen it says why, and ends with the exit code for that.
pub(super) async fn status(args: &SlashingStatusArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let report = reached.admin.slashing().status(SlashingStatusRequest { verify: args.verify }).await;
    let output = reached.output;
    reached.close().await;
    say(&report.map_err(failure)?.into_inner(), output)
}

/// Fences keys at the present. All keys, if none is named; that ends a freeze.
pub(super) async fn fence(args: &FenceArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let pubkeys = args.keys.iter().map(ToString::to_string).collect();
    let fenced = reached.admin.slashing().fence(FenceRequest { pubkeys }).await;
    let output = reached.output;
    reached.close().await;
    let fenced = fenced.map_err(failure)?.into_inner();
    let place = match (fenced.block_slot, fenced.target_epoch) {
        (Some(slot), Some(target)) => {
            format!("blocks sign above slot {slot}, attestations above target epoch {target}")
        }
        (_, _) => "the chain has not begun, so there is nothing to be behind of".to_owned(),
    };
    let state = if fenced.frozen {
        "Protection stays frozen for the other keys; `holdfast slashing fence` without --key fences all."
    } else {
        "Protection is not frozen."
    };
    output.result(
        format!("fenced {} keys: {place}. {state}", fenced.fenced),
        &json!({
            "fenced": fenced.fenced, "block_slot": fenced.block_slot, "target_epoch": fenced.target_epoch,
            "state": if fenced.frozen { "frozen" } else { "serving" },
        }),
    )?;
    Ok(Exit::Done)
}
