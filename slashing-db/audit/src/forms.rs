//! Forms for other programs: a table, and the two events formats that security tools read.
//!
//! None of them proves anything; each row carries the batch and the place of its record, with which
//! `holdfast audit prove` shows any single one.
//!
//! Guarantees: one row is one line; every text of a caller is escaped as its format wants it, so that nobody can add
//! rows or fields.

use std::fmt::Write as _;

use holdfast_domain::Subject;
use holdfast_domain::message::Dating;
use holdfast_slashing_db::journal::{BatchHeader, Outcome, Record};
use serde_json::json;

use crate::Filter;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Comma-separated values (RFC 4180), with a heading.
    Csv,
    /// ArcSight Common Event Format, version 0.
    Cef,
    /// Open Cybersecurity Schema Framework 1.3, class 6003 "API Activity", a JSON object to a line.
    Ocsf,
}

const CSV_HEADING: &str =
    "time,instance,batch,index,operation,key,slot,source,target,epoch,signing_root,result,reason,caller,about,detail";

/// What every form shows of a record.
struct Row<'a> {
    operation: &'a str,
    key: Option<String>,
    /// Slot, source, target, epoch.
    numbers: [Option<u64>; 4],
    root: Option<String>,
    result: &'static str,
    reason: &'static str,
    caller: &'a str,
    about: &'a str,
    detail: &'a str,
}

impl<'a> Row<'a> {
    fn of(record: &'a Record) -> Self {
        match record {
            Record::Request(entry) => Self {
                operation: entry.subject.kind().as_str(),
                key: Some(entry.key.to_string()),
                numbers: numbers(&entry.subject),
                root: Some(entry.root.to_string()),
                result: entry.outcome.result(),
                reason: entry.outcome.reason(),
                caller: entry.caller.as_str(),
                about: "",
                detail: "",
            },
            Record::Event(event) => Self {
                operation: event.kind().as_str(),
                key: event.key().map(ToString::to_string),
                numbers: [None; 4],
                root: None,
                result: "recorded",
                reason: "",
                caller: event.caller().as_str(),
                about: event.what(),
                detail: event.why(),
            },
        }
    }
}

fn numbers(subject: &Subject) -> [Option<u64>; 4] {
    match *subject {
        Subject::Block { slot } => [Some(slot.0), None, None, None],
        Subject::Attestation { slot, source, target } => [Some(slot.0), Some(source.0), Some(target.0), None],
        Subject::Unslashable { kind: _, dating } => match dating {
            Dating::Undated => [None; 4],
            Dating::Slot(slot) => [Some(slot.0), None, None, None],
            Dating::Epoch(epoch) => [None, None, None, Some(epoch.0)],
        },
    }
}

impl Form {
    /// What comes before the first row.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Csv => CSV_HEADING,
            Self::Cef | Self::Ocsf => "",
        }
    }

    /// Appends the rows of those records of a batch that the filter selects; says how many.
    pub fn write(self, header: &BatchHeader, records: &[Record], filter: &Filter, out: &mut String) -> u64 {
        let mut rows = 0_u64;
        for (record, index) in records.iter().zip(0_u64..) {
            if filter.spans(header.time) && filter.takes(header.seq, index, record) {
                let row = Row::of(record);
                match self {
                    Self::Csv => csv(header, index, &row, out),
                    Self::Cef => cef(header, index, &row, record, out),
                    Self::Ocsf => ocsf(header, index, &row, record, out),
                }
                rows = rows.saturating_add(1);
            }
        }
        rows
    }
}

fn csv(header: &BatchHeader, index: u64, row: &Row<'_>, out: &mut String) {
    let shown = |number: &Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let numbers = row.numbers.iter().map(shown).collect::<Vec<_>>().join(",");
    let (time, instance, batch) = (header.time.rfc3339_millis(), header.instance, header.seq);
    let (key, root) = (row.key.as_deref().unwrap_or(""), row.root.as_deref().unwrap_or(""));
    let (operation, result, reason) = (row.operation, row.result, row.reason);
    // A String takes everything that is written to it.
    let _ = write!(out, "{time},{instance},{batch},{index},{operation},{key},{numbers},{root},{result},{reason}");
    for text in [row.caller, row.about, row.detail] {
        out.push(',');
        csv_text(text, out);
    }
    out.push('\n');
}

/// A field; quoted where it must be, and never one that a spreadsheet takes for a formula.
fn csv_text(text: &str, out: &mut String) {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !text.contains(['"', ',', '\n', '\r']) {
        out.push_str(text);
        return;
    }
    out.push('"');
    if formula {
        out.push('\'');
    }
    for character in text.chars() {
        match character {
            '"' => out.push_str("\"\""),
            '\n' | '\r' => out.push(' '),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// How grave it is, from 0 to 10 in CEF's scale.
fn severity(record: &Record) -> u8 {
    match record {
        Record::Request(entry) => match entry.outcome {
            Outcome::Approved(_) => 1,
            Outcome::Fenced => 5,
            Outcome::Denied(holdfast_slashing_db::Denial::Slashable(_)) => 9,
            Outcome::Denied(_) => 6,
        },
        Record::Event(_) => 3,
    }
}

fn cef(header: &BatchHeader, index: u64, row: &Row<'_>, record: &Record, out: &mut String) {
    let name = format!("{} {}", row.operation, row.result);
    let _ = write!(
        out,
        "CEF:0|Holdfast|holdfast|{}|{}|{name}|{}|",
        env!("CARGO_PKG_VERSION"),
        row.operation,
        severity(record)
    );
    let _ = write!(out, "rt={} outcome={}", header.time.0, row.result);
    let _ = write!(
        out,
        " cs1Label=instance cs1={} cn1Label=batch cn1={} cn2Label=index cn2={index}",
        header.instance, header.seq
    );
    let words = [
        ("suser", row.caller),
        ("reason", row.reason),
        ("duid", row.key.as_deref().unwrap_or("")),
        ("fileHash", row.root.as_deref().unwrap_or("")),
        ("request", row.about),
        ("msg", row.detail),
    ];
    for (name, text) in words.into_iter().filter(|(_, text)| !text.is_empty()) {
        let _ = write!(out, " {name}=");
        for character in text.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '=' => out.push_str("\\="),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                other => out.push(other),
            }
        }
    }
    for (name, number) in ["slot", "source", "target", "epoch"].iter().zip(row.numbers) {
        if let Some(number) = number {
            let _ = write!(out, " holdfast{name}={number}");
        }
    }
    out.push('\n');
}

fn ocsf(header: &BatchHeader, index: u64, row: &Row<'_>, record: &Record, out: &mut String) {
    let refused = matches!(record, Record::Request(entry) if matches!(entry.outcome, Outcome::Denied(_)));
    let (status_id, status) = if refused { (2, "Failure") } else { (1, "Success") };
    let severity_id = match severity(record) {
        0..=3 => 1,
        4..=6 => 3,
        _ => 4,
    };
    let [slot, source, target, epoch] = row.numbers;
    let value = json!({
        "activity_id": 99, "activity_name": row.operation, "category_uid": 6, "class_uid": 6003, "type_uid": 600_399,
        "time": header.time.0, "severity_id": severity_id, "status_id": status_id, "status": status,
        "status_detail": row.reason,
        "metadata": {
            "version": "1.3.0", "log_name": "journal", "uid": format!("{}/{}/{index}", header.instance, header.seq),
            "product": { "name": "holdfast", "vendor_name": "Holdfast", "version": env!("CARGO_PKG_VERSION") },
        },
        "api": { "operation": row.operation },
        "actor": { "user": { "name": row.caller } },
        "resources": row.key.as_ref().map(|key| vec![json!({ "type": "validator key", "uid": key })]).unwrap_or_default(),
        "src_endpoint": { "name": row.caller },
        "unmapped": {
            "slot": slot, "source": source, "target": target, "epoch": epoch, "signing_root": row.root,
            "result": row.result, "about": row.about, "detail": row.detail,
        },
    });
    let _ = writeln!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use holdfast_domain::{Epoch, ObservedRoot, PublicKey, Slot, UnixMillis};
    use holdfast_slashing_db::CallerId;
    use holdfast_slashing_db::journal::{Entry, Event, EventKind, Hash, InstanceId};

    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            instance: InstanceId([1; 16]),
            seq: 7,
            time: UnixMillis(1_700_000_000_123),
            prev_hash: Hash::ZERO,
            merkle_root: Hash::ZERO,
            count: 2,
            hash: Hash::ZERO,
        }
    }

    fn records(caller: &str) -> Vec<Record> {
        let entry = Entry {
            caller: CallerId::new(caller),
            key: PublicKey::from_bytes([2; 48]),
            subject: Subject::Attestation { slot: Slot(9), source: Epoch(1), target: Epoch(2) },
            root: ObservedRoot::new([3; 32]),
            outcome: Outcome::from_code(21).unwrap(),
        };
        let event = Event::new(UnixMillis(5), &CallerId::new("op"), EventKind::new("policy.changed")).about("policy/7");
        vec![Record::Request(entry), Record::Event(event)]
    }

    fn written(form: Form, caller: &str) -> String {
        let mut out = String::new();
        assert_eq!(form.write(&header(), &records(caller), &Filter::default(), &mut out), 2);
        out
    }

    #[test]
    fn a_row_is_a_line_whatever_a_caller_calls_itself() {
        let hostile = "=cmd|'/c calc'!A1\",x\nCEF:0|evil|\r\nrt=1 outcome=signed \\";
        for form in [Form::Csv, Form::Cef, Form::Ocsf] {
            let out = written(form, hostile);
            assert_eq!(out.lines().count(), 2, "{form:?}\n{out}");
        }
        assert!(
            written(Form::Csv, hostile).contains(",\"'=cmd|'/c calc'!A1\"\",x CEF:0|evil|  rt=1 outcome=signed \\\"")
        );
        assert!(
            written(Form::Cef, hostile)
                .contains("suser=\\=cmd|'/c calc'!A1\",x\\nCEF:0|evil|\\r\\nrt\\=1 outcome\\=signed \\\\ reason=")
        );
    }

    #[test]
    fn rows_have_the_columns_of_the_heading() {
        let out = written(Form::Csv, "vc-1");
        let columns = Form::Csv.heading().split(',').count();
        assert!(out.lines().all(|line| line.split(',').count() == columns), "{out}");
        let expected = format!(
            "2023-11-14T22:13:20.123Z,{},7,0,attestation,0x{},9,1,2,,0x{},refused,double_vote,vc-1,,",
            "01".repeat(16),
            "02".repeat(48),
            "03".repeat(32)
        );
        assert_eq!(out.lines().next(), Some(expected.as_str()));
        let ocsf: serde_json::Value =
            serde_json::from_str(written(Form::Ocsf, "vc-1").lines().next().unwrap()).unwrap();
        assert_eq!(
            (&ocsf["class_uid"], &ocsf["status"], &ocsf["unmapped"]["target"]),
            (&json!(6003), &json!("Failure"), &json!(2))
        );
    }
}
