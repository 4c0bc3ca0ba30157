//! Records of the journal as lines: for `holdfast audit tail`.

use holdfast_audit::Filter;
use holdfast_audit::checkpoint::SignedCheckpoint;
use holdfast_audit::forms::Form;
use holdfast_slashing_db::journal::{Batch, Record};

/// The records of a batch that a filter selects, a line each.
pub(super) fn of(batch: &Batch, filter: &Filter, ocsf: bool) -> Vec<String> {
    if ocsf {
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
