//! `holdfast audit`: the journal for people who do not trust its owner.
//!
//! Guarantees: nothing here disturbs a running server, or changes the database but for the record of an export; an
//! export that was interrupted has no last line and does not verify, and goes on with `--resume`.

mod anchors;
mod read;
mod record;
mod show;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use holdfast_audit::Filter;
use holdfast_audit::checkpoint::SignedCheckpoint;
use holdfast_audit::export::{ExportError, Exported, Progress, export};
use holdfast_audit::forms::Form;
use holdfast_audit::verify::{consistent, resume_export, verify_export, verify_journal};
use holdfast_domain::Clock as _;
use holdfast_slashing_db::journal::{Batch, Head, JournalError};
use serde_json::json;

use super::args::{
    AuditCommand, AuditConsistencyArgs, AuditExportArgs, AuditFormat, AuditProveArgs, AuditSelection, AuditTailArgs,
    AuditVerifyArgs, Moment,
};
use super::output::print;
use super::{Context, Exit, Failure};
use crate::clock::SystemClock;
use read::{Journal, Subject};

/// The name that stands for standard output.
const STANDARD: &str = "-";
/// How often a followed journal is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Runs one of the commands.
pub(super) fn run(command: &AuditCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Export(args) => export_command(args, context),
        AuditCommand::Verify(args) => verify_command(args, context),
        AuditCommand::Consistency(args) => consistency_command(args, context),
        AuditCommand::Prove(args) => prove_command(args, context),
        AuditCommand::Tail(args) => tail_command(args, context),
        AuditCommand::Checkpoint(args) => {
            let journal = Journal::open(&context.config, args.instance)?;
            let mut last = None;
            for batch in journal.reader {
                let batch = batch.map_err(|error| Failure::new(Exit::Refused, error))?;
                last = batch.events().filter_map(SignedCheckpoint::of_event).filter_map(Result::ok).last().or(last);
            }
            let last = last.ok_or_else(|| {
                let text =
                    "the journal holds no checkpoint yet; `holdfast serve` signs one every audit.checkpoint_minutes";
                Failure::message(Exit::Refused, text)
            })?;
            print(&last.to_note())?;
            show::kept(&crate::anchors::state(&context.config), last.checkpoint.head.seq, context);
            Ok(Exit::Done)
        }
        AuditCommand::Key => {
            let path = context.config.checkpoint_public_key();
            let key = std::fs::read_to_string(&path).map_err(|error| {
                let text = format!(
                    "there is no checkpoint key at {}; `holdfast serve` makes it at the first start with keys",
                    path.display()
                );
                Failure::new(Exit::Refused, anyhow::Error::new(error).context(text))
            })?;
            print(&key)?;
            Ok(Exit::Done)
        }
    }
}

/// The filter that a selection means now.
fn filter(selection: &AuditSelection) -> Filter {
    let now = SystemClock.now();
    let time = |moment: Option<Moment>| moment.map(|moment| moment.time(now).rfc3339_millis());
    Filter {
        from: time(selection.since),
        to: time(selection.until),
        keys: selection.keys.iter().map(ToString::to_string).collect(),
        by: selection.callers.iter().cloned().collect(),
        ops: selection.operations.iter().cloned().collect(),
        results: selection.results.iter().cloned().collect(),
        only: None,
    }
}

/// Stops at what was the end when it began, so that an export of a busy journal ends.
fn until(
    batches: impl Iterator<Item = Result<Batch, JournalError>>,
    last: u64,
) -> impl Iterator<Item = Result<Batch, JournalError>> {
    batches.take_while(move |batch| batch.as_ref().map_or(true, |batch| batch.header.seq <= last))
}

fn export_command(args: &AuditExportArgs, context: &Context) -> Result<Exit, Failure> {
    let filter = filter(&args.selection);
    let journal = Journal::open(&context.config, args.journal.instance)?;
    if args.format != AuditFormat::Jsonl && args.resume {
        return Err(Failure::message(Exit::Usage, "--resume goes on with --format jsonl only"));
    }
    let recorded = record::export(&journal, args.format, &filter, context);
    if args.format != AuditFormat::Jsonl {
        return export_form(args, journal, &filter, (recorded, context));
    }
    let (exported, path) = if args.to == Path::new(STANDARD) {
        let out = BufWriter::new(io::stdout().lock());
        (write_export(journal, None, &filter, out)?, None)
    } else {
        (export_to_file(args, journal, &filter)?, Some(&args.to))
    };
    say_exported(exported, path.map(std::path::PathBuf::as_path), recorded, context)?;
    Ok(Exit::Done)
}

/// A new private file. One that is there may be the only evidence of what a journal was, so it is never written over.
fn new_file(path: &Path, otherwise: &str) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{} is there already; {otherwise}", path.display()),
            _ => format!("cannot write {}", path.display()),
        };
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
    })
}

fn export_to_file(args: &AuditExportArgs, journal: Journal, filter: &Filter) -> Result<Exported, Failure> {
    let failed = |error: io::Error| {
        let text = format!("cannot write {}", args.to.display());
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
    };
    if !args.resume {
        let file = new_file(&args.to, "go on with it with --resume, or write another file")?;
        let exported = write_export(journal, None, filter, BufWriter::new(&file))?;
        file.sync_all().map_err(failed)?;
        return Ok(exported);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(&args.to).map_err(failed)?;
    let (progress, kept) = resume_export(BufReader::new(&file)).map_err(|broken| {
        let text = format!("{} cannot be gone on with; write a new file", args.to.display());
        Failure::new(Exit::Refused, anyhow::Error::new(broken).context(text))
    })?;
    if progress.instance() != journal.instance {
        let text = format!(
            "{} is an export of instance {}, not of {}",
            args.to.display(),
            progress.instance(),
            journal.instance
        );
        return Err(Failure::message(Exit::Usage, text));
    }
    file.set_len(kept).and_then(|()| file.seek(SeekFrom::Start(kept))).map_err(failed)?;
    let exported = write_export(journal, Some(progress), filter, BufWriter::new(&file))?;
    file.sync_all().map_err(failed)?;
    Ok(exported)
}

fn write_export(
    journal: Journal,
    progress: Option<Progress>,
    filter: &Filter,
    out: impl Write,
) -> Result<Exported, Failure> {
    let Journal { reader, instance, last } = journal;
    let progress = progress.unwrap_or_else(|| Progress::begin(instance, reader.head()));
    let mut before = reader.head();
    let mut batches = until(reader, last).peekable();
    // An export that is gone on with must be of this very chain.
    while before.seq < progress.head().seq {
        match batches.next() {
            Some(Ok(batch)) => before = batch.header.as_head(),
            Some(Err(error)) => return Err(Failure::new(Exit::Refused, error)),
            None => break,
        }
    }
    if before != progress.head() {
        let text = format!(
            "the file ends with batch {}, which is not in this journal: it is of another database, or this one was \
             brought back from a backup; write a new file",
            progress.head().seq
        );
        return Err(Failure::message(Exit::Refused, text));
    }
    export(batches, progress, filter, out).map_err(|error| {
        let exit = if matches!(error, ExportError::Journal(_)) { Exit::Refused } else { Exit::Unreachable };
        Failure::new(exit, error)
    })
}

fn say_exported(exported: Exported, path: Option<&Path>, recorded: bool, context: &Context) -> Result<(), Failure> {
    let Exported { head, batches, records, shown } = exported;
    let text = format!("exported: {shown} of {records} records, in {batches} batches up to batch {}", head.seq);
    match path {
        None => context.output.note(text),
        Some(path) => context.output.result(
            text,
            &json!({
                "file": path.display().to_string(), "batches": batches, "records": records, "shown": shown,
                "head": head.seq, "hash": head.hash.to_string(), "recorded": recorded,
            }),
        )?,
    }
    Ok(())
}

/// Writes rows for other programs; all of a file or none.
fn export_form(
    args: &AuditExportArgs,
    journal: Journal,
    filter: &Filter,
    (recorded, context): (bool, &Context),
) -> Result<Exit, Failure> {
    let form = match args.format {
        AuditFormat::Csv => Form::Csv,
        AuditFormat::Cef => Form::Cef,
        AuditFormat::Ocsf | AuditFormat::Jsonl => Form::Ocsf,
    };
    let Journal { reader, instance: _, last } = journal;
    let mut written = Exported { head: reader.head(), batches: 0, records: 0, shown: 0 };
    let mut problem = None;
    let rows = |out: &mut dyn Write| -> io::Result<()> {
        let mut text = String::new();
        if !form.heading().is_empty() {
            writeln!(out, "{}", form.heading())?;
        }
        for batch in until(reader, last) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    problem = Some(error);
                    return Err(io::Error::other("the journal cannot be read to its end"));
                }
            };
            text.clear();
            let shown = form.write(&batch.header, &batch.records, filter, &mut text);
            out.write_all(text.as_bytes())?;
            written = Exported {
                head: batch.header.as_head(),
                batches: written.batches.saturating_add(1),
                records: written.records.saturating_add(batch.header.count),
                shown: written.shown.saturating_add(shown),
            };
        }
        out.flush()
    };
    let to_stdout = args.to == Path::new(STANDARD);
    let result = if to_stdout {
        rows(&mut BufWriter::new(io::stdout().lock())).map_err(anyhow::Error::new)
    } else {
        use holdfast_enclave::durable::{Existing, stream_private_file};
        stream_private_file(&args.to, Existing::Replace, |file| rows(&mut BufWriter::new(file)))
            .map_err(anyhow::Error::new)
    };
    match (problem, result) {
        (Some(error), _) => Err(Failure::new(Exit::Refused, error)),
        (None, Err(error)) => Err(Failure::new(Exit::Usage, error)),
        (None, Ok(())) => {
            say_exported(written, (!to_stdout).then_some(args.to.as_path()), recorded, context)?;
            Ok(Exit::Done)
        }
    }
}

fn verify_command(args: &AuditVerifyArgs, context: &Context) -> Result<Exit, Failure> {
    let mut trust = read::trust(&args.checkpoint_key, &args.checkpoint)?;
    for place in &args.anchor {
        trust.checkpoints.extend(anchors::fetch(place, context)?);
    }
    if let Some(moment) = args.as_of {
        let until = moment.time(SystemClock.now());
        trust.checkpoints.retain(|signed| signed.checkpoint.time <= until);
    }
    let (mut sound, mut of_these) = (true, 0_usize);
    for subject in read::subjects(args, context)? {
        let (name, result) = match subject {
            Subject::Export { name, file } => (name, verify_export(BufReader::with_capacity(1 << 20, file), &trust)),
            Subject::Journal { name, instance, reader } => {
                let after = reader.head();
                (name, verify_journal(reader, instance, after, &trust))
            }
        };
        match result {
            Ok(verified) => {
                let of_this = |signed: &&SignedCheckpoint| signed.checkpoint.instance == verified.instance;
                let kept = trust.checkpoints.iter().filter(of_this).count();
                of_these = of_these.saturating_add(kept);
                show::verified(&name, &verified, (!trust.keys.is_empty(), kept), context)?;
            }
            Err(broken) => {
                sound = false;
                show::broken(&name, &broken, context)?;
            }
        }
    }
    let asked = !args.anchor.is_empty() || !args.checkpoint.is_empty();
    if sound && asked && of_these == 0 {
        let text = "none of the checkpoints that were given is of this journal, so they show nothing about it; is it \
                    another signer's, or is --as-of too early?";
        return Err(Failure::message(Exit::Refused, text));
    }
    Ok(if sound { Exit::Done } else { Exit::Refused })
}

fn consistency_command(args: &AuditConsistencyArgs, context: &Context) -> Result<Exit, Failure> {
    let trust = read::trust(&args.checkpoint_key, &[])?;
    let open = |path: &Path| {
        File::open(path).map(|file| BufReader::with_capacity(1 << 20, file)).map_err(|error| {
            let text = format!("cannot read {}", path.display());
            Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
        })
    };
    let both =
        consistent(open(&args.old)?, open(&args.new)?, &trust).map_err(|error| Failure::new(Exit::Refused, error))?;
    let (old, new) = (&both.old, &both.new);
    let added = new.head.seq.saturating_sub(old.head.seq);
    context.output.result(
        format!(
            "consistent: all of {} up to batch {} is in {}, unchanged; {added} batches came after it",
            args.old.display(),
            old.head.seq,
            args.new.display()
        ),
        &json!({
            "consistent": true, "instance": new.instance.to_string(), "old_head": old.head.seq,
            "new_head": new.head.seq, "added": added,
            "signed_to": new.signed_to.map(|signed| signed.head.seq),
        }),
    )?;
    Ok(Exit::Done)
}

fn prove_command(args: &AuditProveArgs, context: &Context) -> Result<Exit, Failure> {
    let journal = Journal::open(&context.config, args.journal.instance)?;
    let Journal { reader, instance, last } = journal;
    let mut before = reader.head();
    let mut batches = until(reader, last);
    let found = loop {
        let batch = batches.next().transpose().map_err(|error| Failure::new(Exit::Refused, error))?;
        match batch {
            Some(batch) if batch.header.seq < args.batch => before = batch.header.as_head(),
            Some(batch) if batch.header.seq == args.batch && args.index < batch.header.count => break batch,
            _ => {
                let text = format!("there is no record {} in batch {} of this journal", args.index, args.batch);
                return Err(Failure::message(Exit::Refused, text));
            }
        }
    };
    let time = found.header.time;
    let filter = Filter {
        to: Some(holdfast_domain::UnixMillis(time.0.saturating_add(1)).rfc3339_millis()),
        only: Some((args.batch, args.index)),
        ..Filter::default()
    };
    let batches = std::iter::once(Ok(found)).chain(batches);
    let progress = Progress::begin(instance, before);
    let exported = if args.to == Path::new(STANDARD) {
        export(batches, progress, &filter, io::stdout().lock())
    } else {
        let file = new_file(&args.to, "write another file")?;
        export(batches, progress, &filter, BufWriter::new(file))
    };
    let exported = exported.map_err(|error| Failure::new(Exit::Refused, error))?;
    say_exported(exported, (args.to != Path::new(STANDARD)).then_some(args.to.as_path()), false, context)?;
    if exported.head.seq == args.batch {
        context.output.note("No checkpoint signs this record yet: prove it again after the next one.");
    }
    Ok(Exit::Done)
}

fn tail_command(args: &AuditTailArgs, context: &Context) -> Result<Exit, Failure> {
    let filter = filter(&args.selection);
    let Journal { mut reader, instance: _, last } = Journal::open(&context.config, args.journal.instance)?;
    let mut kept = std::collections::VecDeque::with_capacity(args.lines.min(4_096));
    let mut head = Head::EMPTY;
    while head.seq < last {
        let Some(batch) = reader.next() else { break };
        let batch = batch.map_err(|error| Failure::new(Exit::Refused, error))?;
        head = batch.header.as_head();
        for line in show::lines(&batch, &filter, context) {
            kept.push_back(line);
            if kept.len() > args.lines {
                kept.pop_front();
            }
        }
    }
    for line in kept {
        print(&line)?;
    }
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        match reader.next() {
            Some(batch) => {
                let batch = batch.map_err(|error| Failure::new(Exit::Refused, error))?;
                for line in show::lines(&batch, &filter, context) {
                    print(&line)?;
                }
            }
            None => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// Opens a file and says whether it begins like an SQLite database.
fn open_and_sniff(path: &Path) -> io::Result<(File, bool)> {
    let mut file = File::open(path)?;
    let mut beginning = [0; 16];
    let mut have = 0_usize;
    while let Some(rest) = beginning.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            read => have = have.saturating_add(read),
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok((file, beginning == *b"SQLite format 3\0"))
}
