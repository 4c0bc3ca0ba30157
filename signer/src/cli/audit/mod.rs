//! `holdfast audit`: the journal for people who do not trust its owner.
//!
//! Guarantees: nothing here disturbs a running server, or changes the database but for the record of an export; an
//! export that was interrupted has no last line and does not verify, and goes on with `--resume`.

mod anchors;
mod read;
mod record;
mod show;
mod take;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use holdfast_audit::checkpoint::SignedCheckpoint;
use holdfast_audit::verify::{Inconsistent, consistent, handed_over, verify_export, verify_journal};
use holdfast_domain::Clock as _;
use holdfast_slashing_db::journal::InstanceId;
use holdfast_wire::admin::v1::{
    AuditCheckpointRequest, AuditFilter, AuditFormat, ExportAuditRequest, ExportedAudit, ProveAuditRequest,
    TailAuditRequest,
};
use serde_json::json;

use super::args::{
    AuditCommand, AuditConsistencyArgs, AuditExportArgs, AuditFormat as AuditFormatArg, AuditProveArgs, AuditSelection,
    AuditTailArgs, AuditVerifyArgs, Moment,
};
use super::output::print;
use super::reach::{Need, failure, reach};
use super::{Context, Exit, Failure, Output, block_on};
use crate::admin::Place;
use crate::clock::SystemClock;
use read::Subject;
use take::{Left, Taken};

/// The name that stands for standard output.
const STANDARD: &str = "-";

/// Runs one of the commands.
pub(super) fn run(command: &AuditCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Export(args) => block_on(export_command(args, context)),
        AuditCommand::Verify(args) => verify_command(args, context),
        AuditCommand::Consistency(args) => consistency_command(args, context),
        AuditCommand::Prove(args) => block_on(prove_command(args, context)),
        AuditCommand::Tail(args) => block_on(tail_command(args, context)),
        AuditCommand::Checkpoint(args) => {
            let note = block_on(last_checkpoint(args.instance, context))?;
            print(&note)?;
            if let Ok(signed) = SignedCheckpoint::from_note(&note) {
                show::kept(&crate::anchors::state(&context.config), signed.checkpoint.head.seq, context);
            }
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

async fn last_checkpoint(instance: Option<InstanceId>, context: &Context) -> Result<String, Failure> {
    let reached = reach(context, Need::Journal).await?;
    let request = AuditCheckpointRequest { instance: instance.map(|id| id.to_string()) };
    Ok(reached.admin.audit().checkpoint(request).await.map_err(failure)?.into_inner().note)
}

/// The filter that a selection means now.
fn filter(selection: &AuditSelection) -> AuditFilter {
    let now = SystemClock.now();
    let time = |moment: Option<Moment>| moment.map(|moment| moment.time(now).0);
    AuditFilter {
        from_unix_millis: time(selection.since),
        until_unix_millis: time(selection.until),
        pubkeys: selection.keys.iter().map(ToString::to_string).collect(),
        callers: selection.callers.clone(),
        operations: selection.operations.clone(),
        results: selection.results.clone(),
    }
}

async fn export_command(args: &AuditExportArgs, context: &Context) -> Result<Exit, Failure> {
    let format = match args.format {
        AuditFormatArg::Jsonl => AuditFormat::Jsonl,
        AuditFormatArg::Csv => AuditFormat::Csv,
        AuditFormatArg::Cef => AuditFormat::Cef,
        AuditFormatArg::Ocsf => AuditFormat::Ocsf,
    };
    if args.resume && format != AuditFormat::Jsonl {
        return Err(Failure::message(Exit::Usage, "--resume goes on with --format jsonl only"));
    }
    let left = if args.resume { Some(Left::open(&args.to)?) } else { None };
    let reached = reach(context, Need::Journal).await?;
    let request = ExportAuditRequest {
        format: format.into(),
        filter: Some(filter(&args.selection)),
        // A file that is gone on with says whose journal it is of.
        instance: left.as_ref().map(Left::instance).or(args.journal.instance).map(|id| id.to_string()),
        after: left.as_ref().and_then(Left::as_message),
    };
    if let (Some(left), Some(named)) = (&left, args.journal.instance)
        && left.instance() != named
    {
        let text = format!("{} is an export of instance {}, not of {named}", args.to.display(), left.instance());
        return Err(Failure::message(Exit::Usage, text));
    }
    let instance = request.instance.clone();
    let stream = reached.admin.audit().export(request).await.map_err(failure)?.into_inner();
    let file = Taken::first(stream).await?;
    // A server has recorded it; else nobody has yet.
    let not_recorded = match &reached.admin.place {
        Place::Server(_) => None,
        Place::Database(_) => Some(record::export(instance, format, &args.selection, context).await),
    };
    let (mut exported, path) = if args.to == Path::new(STANDARD) {
        (file.write(BufWriter::new(io::stdout().lock())).await?, None)
    } else if let Some(left) = left {
        (left.go_on(file, &args.to).await?, Some(args.to.as_path()))
    } else if format == AuditFormat::Jsonl {
        let out = new_file(&args.to, "go on with it with --resume, or write another file")?;
        (file.write_synced(&out, &args.to).await?, Some(args.to.as_path()))
    } else {
        (file.write_whole(args.to.clone()).await?, Some(args.to.as_path()))
    };
    if let Some(not_recorded) = not_recorded {
        exported.not_recorded = not_recorded;
    }
    if !exported.not_recorded.is_empty() {
        context.output.note(format!("This export is not recorded in the journal: {}", exported.not_recorded));
    }
    say_exported(&exported, path, reached.output)?;
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

fn say_exported(exported: &ExportedAudit, path: Option<&Path>, output: Output) -> Result<(), Failure> {
    let ExportedAudit { batch, hash, batches, records, shown, not_recorded } = exported;
    let text = format!("exported: {shown} of {records} records, in {batches} batches up to batch {batch}");
    match path {
        None => output.note(text),
        Some(path) => output.result(
            text,
            &json!({
                "file": path.display().to_string(), "batches": batches, "records": records, "shown": shown,
                "head": batch, "hash": hex::encode(hash), "recorded": not_recorded.is_empty(),
            }),
        )?,
    }
    Ok(())
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
    let both = match consistent(open(&args.old)?, open(&args.new)?, &trust) {
        Ok(both) => both,
        // Keys move from one signer to another.
        Err(Inconsistent::OtherJournal { .. }) => {
            let handed = handed_over(open(&args.old)?, open(&args.new)?, &trust);
            let handed = handed.map_err(|error| Failure::new(Exit::Refused, error))?;
            return show::handed_over(&handed, context);
        }
        Err(error) => return Err(Failure::new(Exit::Refused, error)),
    };
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

async fn prove_command(args: &AuditProveArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Journal).await?;
    let instance = args.journal.instance.map(|id| id.to_string());
    let request = ProveAuditRequest { batch: args.batch, index: args.index, instance };
    let stream = reached.admin.audit().prove(request).await.map_err(failure)?.into_inner();
    let proof = Taken::first(stream).await?;
    let (exported, path) = if args.to == Path::new(STANDARD) {
        (proof.write(io::stdout().lock()).await?, None)
    } else {
        let out = new_file(&args.to, "write another file")?;
        (proof.write_synced(&out, &args.to).await?, Some(args.to.as_path()))
    };
    say_exported(&exported, path, reached.output)?;
    if exported.batch == args.batch {
        context.output.note("No checkpoint signs this record yet: prove it again after the next one.");
    }
    Ok(Exit::Done)
}

async fn tail_command(args: &AuditTailArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Journal).await?;
    let request = TailAuditRequest {
        filter: Some(filter(&args.selection)),
        instance: args.journal.instance.map(|id| id.to_string()),
        lines: u32::try_from(args.lines).unwrap_or(u32::MAX),
        follow: args.follow,
        ocsf: context.output.is_json(),
    };
    let mut stream = reached.admin.audit().tail(request).await.map_err(failure)?.into_inner();
    while let Some(page) = stream.message().await.map_err(failure)? {
        for line in page.lines {
            print(&line)?;
        }
    }
    Ok(Exit::Done)
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
