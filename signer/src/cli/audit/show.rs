//! What commands about the journal print.

use holdfast_audit::verify::{Broken, HandedOver, Verified};
use holdfast_domain::UnixMillis;
use serde_json::json;

use super::super::{Context, Exit, Failure};
use crate::anchors::State;
use crate::outcome::chain;

/// One journal goes on above another.
pub(super) fn handed_over(handed: &HandedOver, context: &Context) -> Result<Exit, Failure> {
    let HandedOver { old, new, keys, taken } = handed;
    context.output.result(
        format!(
            "handed over: instance {} signed blocks and votes with {keys} keys, instance {} goes on with {taken} of them, and \
             signed nothing at or below what was signed",
            old.instance, new.instance
        ),
        &json!({
            "handed_over": true, "from": old.instance.to_string(), "to": new.instance.to_string(), "keys": keys,
            "taken": taken, "old_head": old.head.seq, "new_head": new.head.seq,
        }),
    )?;
    Ok(Exit::Done)
}

/// Says what was verified, and how far.
///
/// `kept`: how many checkpoints that were kept elsewhere are of this journal.
pub(super) fn verified(
    name: &str,
    verified: &Verified,
    (with_keys, kept): (bool, usize),
    context: &Context,
) -> Result<(), Failure> {
    let Verified { instance, after, head, batches, records, signed, refused, others, checkpoints, .. } = verified;
    let times = match (verified.first, verified.last) {
        (Some(first), Some(last)) => format!(", written {} to {}", first.rfc3339(), last.rfc3339()),
        _ => String::new(),
    };
    let beginning = match after.seq {
        0 => "from the very first".to_owned(),
        seq => format!("after batch {seq}, hash {}", after.hash),
    };
    let shown = signed.saturating_add(*refused).saturating_add(*others);
    let mut lines = vec![
        format!("{name}: verified"),
        format!("  instance     {instance}"),
        format!("  batches      {batches}, {beginning}{times}"),
        format!("  records      {records}; shown here: {shown} ({signed} signed, {refused} refused, {others} others)"),
        format!("  ends with    batch {}, hash {}", head.seq, head.hash),
    ];
    let signatures = match (&verified.signed_to, with_keys) {
        (Some(signed), _) => format!(
            "{checkpoints} checkpoints in order; all up to batch {} is signed, at {}; {} batches after it are not yet",
            signed.head.seq,
            signed.time.rfc3339(),
            verified.unsigned()
        ),
        (None, true) => {
            "no checkpoint signs any of it: whoever could write the database could have written all of it".to_owned()
        }
        (None, false) => format!(
            "not verified: give the public key with --checkpoint-key, or the {checkpoints} checkpoints prove nothing"
        ),
    };
    lines.push(format!("  signatures   {signatures}"));
    if kept > 0 {
        lines.push(format!(
            "  elsewhere    {kept} checkpoints kept elsewhere are of this journal, and it contradicts none"
        ));
    }
    if !verified.filter.is_empty() {
        lines.push("  a selection: what is left out is proved to be there, not what it says".to_owned());
    }
    context.output.result(
        lines.join("\n"),
        &json!({
            "name": name, "verified": true, "instance": instance.to_string(), "after": after.seq,
            "head": head.seq, "hash": head.hash.to_string(), "batches": batches, "records": records,
            "signed": signed, "refused": refused, "others": others, "checkpoints": checkpoints,
            "signed_to": verified.signed_to.map(|signed| json!({
                "batch": signed.head.seq, "time": signed.time.rfc3339(),
            })),
            "unsigned_batches": verified.unsigned(), "kept_elsewhere": kept,
            "first": verified.first.map(UnixMillis::rfc3339_millis),
            "last": verified.last.map(UnixMillis::rfc3339_millis),
            "filter": (!verified.filter.is_empty()).then_some(&verified.filter),
        }),
    )
}

/// Says who keeps checkpoints, and how far each is.
pub(super) fn kept(state: &State, last: u64, context: &Context) {
    for (kind, kept) in state {
        let behind = match last.saturating_sub(kept.batch) {
            0 => "this one".to_owned(),
            _ if kept.batch == 0 => "none yet".to_owned(),
            behind => format!("that of batch {}, {behind} batches before this one", kept.batch),
        };
        let error = kept.error.as_ref().map_or_else(String::new, |error| format!("; it fails: {error}"));
        context.output.note(format!("{kind}: {} keeps {behind}{error}", kept.place));
    }
}

/// Says where the first bad place is.
pub(super) fn broken(name: &str, broken: &Broken, context: &Context) -> Result<(), Failure> {
    let text = chain(broken);
    context.output.result(
        format!("{name}: NOT in order: {text}"),
        &json!({ "name": name, "verified": false, "line": broken.line, "batch": broken.batch, "problem": text }),
    )
}
