//! What commands about the journal print.

use holdfast_audit::Filter;
use holdfast_audit::checkpoint::SignedCheckpoint;
use holdfast_audit::forms::Form;
use holdfast_audit::verify::{Broken, Verified};
use holdfast_domain::UnixMillis;
use holdfast_slashing_db::journal::{Batch, Record};
use serde_json::json;

use super::super::{Context, Failure};
use crate::anchors::State;
use crate::outcome::chain;

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

/// The records of a batch that a filter selects, a line each.
pub(super) fn lines(batch: &Batch, filter: &Filter, context: &Context) -> Vec<String> {
    if context.output.is_json() {
        let mut rows = String::new();
        Form::Ocsf.write(&batch.header, &batch.records, filter, &mut rows);
        return rows.lines().map(|row| format!("{row}\n")).collect();
    }
    let selected = |index, record: &Record| filter.selects(&batch.header, index, record);
    let records = batch.records.iter().zip(0_u64..).filter(|(record, index)| selected(*index, record));
    records.map(|(record, index)| line(batch, index, record)).collect()
}

fn line(batch: &Batch, index: u64, record: &Record) -> String {
    let (time, seq) = (batch.header.time.rfc3339_millis(), batch.header.seq);
    match record {
        Record::Request(entry) => {
            let (kind, result, reason) =
                (entry.subject.kind().as_str(), entry.outcome.result(), entry.outcome.reason());
            let (key, by) = (entry.key, plain(entry.caller.as_str()));
            format!("{time} {seq}/{index} {result} {kind} {key} {} {reason} by {by}\n", numbers(record))
        }
        Record::Event(event) => {
            let key = event.key().map_or_else(String::new, |key| format!(" {key}"));
            let (by, about) = (plain(event.caller().as_str()), event.what());
            // A checkpoint's text is for verifiers; `holdfast audit checkpoint` prints it.
            let detail = if SignedCheckpoint::of_event(event).is_some() { "signed" } else { event.why() };
            format!("{time} {seq}/{index} {}{key} {about} {detail} by {by}\n", event.kind().as_str())
        }
    }
}

fn numbers(record: &Record) -> String {
    use holdfast_domain::Subject;
    use holdfast_domain::message::Dating;
    let Record::Request(entry) = record else { return String::new() };
    match entry.subject {
        Subject::Block { slot } | Subject::Unslashable { dating: Dating::Slot(slot), .. } => format!("slot {slot}"),
        Subject::Attestation { slot, source, target } => format!("slot {slot} source {source} target {target}"),
        Subject::Unslashable { dating: Dating::Epoch(epoch), .. } => format!("epoch {epoch}"),
        Subject::Unslashable { dating: Dating::Undated, .. } => "-".to_owned(),
    }
}

/// A caller's name without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
