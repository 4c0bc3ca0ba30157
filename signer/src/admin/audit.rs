//! `holdfast.admin.v1.Audit`: the journal as evidence.
//!
//! Guarantees: nothing is locked and nobody is held up: the journal is read beside the signer, one batch in memory at a
//! time, as fast as the other end takes it.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use holdfast_access::AdminArea;
use holdfast_audit::Filter;
use holdfast_audit::checkpoint::SignedCheckpoint;
use holdfast_audit::export::{Exported, Progress, export, exported_event};
use holdfast_audit::forms::Form;
use holdfast_domain::UnixMillis;
use holdfast_slashing_db::journal::{Batch, Hash, Head, InstanceId};
use holdfast_wire::admin::v1::audit_server::Audit;
use holdfast_wire::admin::v1::export_audit_response::Part;
use holdfast_wire::admin::v1::{
    AuditCheckpointRequest, AuditCheckpointResponse, AuditFilter, AuditFormat, AuditProgress, ExportAuditRequest,
    ExportAuditResponse, ExportedAudit, ProveAuditRequest, TailAuditRequest, TailAuditResponse,
};
use holdfast_wire::admin::{Reason, refusal};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::gate::{Gate, custody_status};
use super::lines;
use super::pipe::{self, PieceWriter};
use crate::callers::Principal;
use crate::config::Config;
use crate::journals::{Journal, JournalsError};
use crate::outcome::chain;

/// How often a followed journal is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Records of the past that `tail` shows at most.
const MAX_LINES: usize = 10_000;
/// Values of one kind in a filter at most.
const MAX_SELECTED: usize = 1_000;

/// Answers about the journal.
pub(crate) struct AuditService {
    /// Where it is.
    pub(super) config: Arc<Config>,
    /// The door before it.
    pub(super) gate: Gate,
    /// Whose journal is written here, in which exports are recorded; `None` where it is only read.
    pub(super) instance: Option<InstanceId>,
}

type Pieces = mpsc::Sender<Result<ExportAuditResponse, Status>>;

#[tonic::async_trait]
impl Audit for AuditService {
    type ExportStream = ReceiverStream<Result<ExportAuditResponse, Status>>;
    type TailStream = ReceiverStream<Result<TailAuditResponse, Status>>;
    type ProveStream = ReceiverStream<Result<ExportAuditResponse, Status>>;

    async fn export(&self, request: Request<ExportAuditRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let who = Gate::caller(&request)?;
        self.may_read(&request)?;
        let request = request.into_inner();
        let filter = selection(request.filter.clone().unwrap_or_default())?;
        let instance = instance(request.instance.as_deref())?;
        let (gate, own) = (self.gate.clone(), self.instance);
        Ok(self.stream(move |config, pieces| {
            let journal = open(&config, instance)?;
            let not_recorded = record(&gate, &who, own, &journal, (request.format(), &filter));
            let exported = write(journal, &request, &filter, pieces)?;
            Ok((exported, not_recorded))
        }))
    }

    async fn tail(&self, request: Request<TailAuditRequest>) -> Result<Response<Self::TailStream>, Status> {
        self.may_read(&request)?;
        let request = request.into_inner();
        let filter = selection(request.filter.clone().unwrap_or_default())?;
        let instance = instance(request.instance.as_deref())?;
        let (sender, stream) = mpsc::channel(pipe::WAITING);
        let config = Arc::clone(&self.config);
        let leaving = self.gate.tasks().clone();
        // It ends when nobody receives any more, or the process stops.
        drop(tokio::task::spawn_blocking(move || {
            let gone = || leaving.is_leaving() || sender.is_closed();
            let send = |lines: Vec<String>| sender.blocking_send(Ok(TailAuditResponse { lines })).is_ok();
            if let Err(status) = tail(&config, &request, &filter, instance, send, gone) {
                drop(sender.blocking_send(Err(status)));
            }
        }));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn prove(&self, request: Request<ProveAuditRequest>) -> Result<Response<Self::ProveStream>, Status> {
        self.may_read(&request)?;
        let ProveAuditRequest { batch, index, instance: named } = request.into_inner();
        let instance = instance(named.as_deref())?;
        Ok(self.stream(move |config, pieces| Ok((prove(&config, (batch, index), instance, pieces)?, String::new()))))
    }

    async fn checkpoint(
        &self,
        request: Request<AuditCheckpointRequest>,
    ) -> Result<Response<AuditCheckpointResponse>, Status> {
        self.may_read(&request)?;
        let instance = instance(request.into_inner().instance.as_deref())?;
        let config = Arc::clone(&self.config);
        let work = tokio::task::spawn_blocking(move || last_checkpoint(&config, instance));
        let note = work.await.map_err(|error| refusal(Reason::Internal, error.to_string()))??;
        Ok(Response::new(AuditCheckpointResponse { note }))
    }
}

impl AuditService {
    fn may_read<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let who = Gate::caller(request)?;
        self.gate.may_read(&who, AdminArea::Audit)
    }

    /// Runs `work` on a thread that may wait; what it sends is the answer.
    fn stream(
        &self,
        work: impl FnOnce(Arc<Config>, &Pieces) -> Result<(Exported, String), Status> + Send + 'static,
    ) -> Response<ReceiverStream<Result<ExportAuditResponse, Status>>> {
        let (pieces, stream) = mpsc::channel(pipe::WAITING);
        let config = Arc::clone(&self.config);
        // It ends when nobody receives any more.
        drop(tokio::task::spawn_blocking(move || {
            let last = work(config, &pieces).map(|(exported, not_recorded)| {
                let Exported { head, batches, records, shown } = exported;
                let hash = head.hash.0.to_vec();
                let exported = ExportedAudit { batch: head.seq, hash, batches, records, shown, not_recorded };
                ExportAuditResponse { part: Some(Part::Exported(exported)) }
            });
            drop(pieces.blocking_send(last));
        }));
        Response::new(ReceiverStream::new(stream))
    }
}

fn writer(pieces: &Pieces) -> impl Write + '_ {
    PieceWriter::new(|piece| pieces.blocking_send(Ok(ExportAuditResponse { part: Some(Part::File(piece)) })).is_ok())
}

/// The status of a journal that cannot be read.
fn unreadable(error: &JournalsError) -> Status {
    use holdfast_slashing_db::journal::JournalError;
    match error {
        JournalsError::Custody(error) => custody_status(error),
        JournalsError::Config(_) => refusal(Reason::Configuration, chain(error)),
        JournalsError::Journal(JournalError::Open { .. }) => refusal(Reason::Unavailable, chain(error)),
        JournalsError::Journal(_) => refusal(Reason::Refused, chain(error)),
        JournalsError::Several(_) | JournalsError::None => refusal(Reason::InvalidArgument, chain(error)),
    }
}

/// A journal, read beside whoever writes it. Blocks.
pub(super) fn open(config: &Config, instance: Option<InstanceId>) -> Result<Journal, Status> {
    Journal::open(config, instance).map_err(|error| unreadable(&error))
}

fn unsound(error: &(dyn std::error::Error + 'static)) -> Status {
    refusal(Reason::Refused, chain(error))
}

fn instance(named: Option<&str>) -> Result<Option<InstanceId>, Status> {
    let wrong = || refusal(Reason::InvalidArgument, "an instance has 32 hexadecimal digits");
    named.map(|text| holdfast_domain::root::parse_hex(text).map(InstanceId).ok_or_else(wrong)).transpose()
}

/// The filter that a message means.
///
/// # Errors
/// [`Status`] with [`Reason::InvalidArgument`].
pub(crate) fn selection(filter: AuditFilter) -> Result<Filter, Status> {
    let AuditFilter { from_unix_millis, until_unix_millis, pubkeys, callers, operations, results } = filter;
    let longest = [&pubkeys, &callers, &operations, &results].iter().map(|list| list.len()).max().unwrap_or(0);
    if longest > MAX_SELECTED {
        return Err(refusal(Reason::InvalidArgument, format!("a filter has at most {MAX_SELECTED} values of a kind")));
    }
    let keys = pubkeys.iter().map(|text| super::convert::key(text).map(|key| key.to_string()));
    let time = |millis: Option<u64>| millis.map(|millis| UnixMillis(millis).rfc3339_millis());
    Ok(Filter {
        from: time(from_unix_millis),
        to: time(until_unix_millis),
        keys: keys.collect::<Result<_, _>>()?,
        by: callers.into_iter().collect(),
        ops: operations.into_iter().collect(),
        results: results.into_iter().collect(),
        only: None,
    })
}

/// Records that these batches are about to be exported; else says why not. A record and no barrier: whoever may read the
/// database's files can copy them without this, and evidence of a signer that is in trouble must still come out of it.
fn record(
    gate: &Gate,
    who: &Principal,
    own: Option<InstanceId>,
    journal: &Journal,
    (format, filter): (AuditFormat, &Filter),
) -> String {
    let (Some(guard), Some(own)) = (gate.guard(), own) else { return "the journal is only read here".to_owned() };
    if own != journal.instance {
        return "it is the journal of another signer".to_owned();
    }
    let form = match format {
        AuditFormat::Jsonl => "jsonl",
        AuditFormat::Csv => "csv",
        AuditFormat::Cef => "cef",
        AuditFormat::Ocsf => "ocsf",
    };
    let range = (journal.reader.head().seq.saturating_add(1), journal.last);
    let event = exported_event(gate.clock().now(), who.id(), range, form, filter);
    match Handle::current().block_on(guard.record(event)) {
        Ok(_) => String::new(),
        Err(error) => chain(&error),
    }
}

fn write(journal: Journal, request: &ExportAuditRequest, filter: &Filter, pieces: &Pieces) -> Result<Exported, Status> {
    let form = match AuditFormat::try_from(request.format) {
        Ok(AuditFormat::Jsonl) => return write_proof(journal, request.after.as_ref(), filter, pieces),
        Ok(AuditFormat::Csv) => Form::Csv,
        Ok(AuditFormat::Cef) => Form::Cef,
        Ok(AuditFormat::Ocsf) => Form::Ocsf,
        Err(_) => return Err(refusal(Reason::InvalidArgument, format!("there is no format {}", request.format))),
    };
    if request.after.is_some() {
        return Err(refusal(Reason::InvalidArgument, "only the format JSONL can be gone on with"));
    }
    let gone = |error: std::io::Error| refusal(Reason::Refused, error.to_string());
    let mut written = Exported { head: journal.reader.head(), batches: 0, records: 0, shown: 0 };
    let mut out = writer(pieces);
    if !form.heading().is_empty() {
        writeln!(out, "{}", form.heading()).map_err(gone)?;
    }
    let mut text = String::new();
    for batch in journal.present() {
        let batch = batch.map_err(|error| unsound(&error))?;
        text.clear();
        let shown = form.write(&batch.header, &batch.records, filter, &mut text);
        out.write_all(text.as_bytes()).map_err(gone)?;
        written = Exported {
            head: batch.header.as_head(),
            batches: written.batches.saturating_add(1),
            records: written.records.saturating_add(batch.header.count),
            shown: written.shown.saturating_add(shown),
        };
    }
    out.flush().map_err(gone)?;
    Ok(written)
}

/// Writes a file that proves itself, or what follows one that was written.
fn write_proof(
    journal: Journal,
    after: Option<&AuditProgress>,
    filter: &Filter,
    pieces: &Pieces,
) -> Result<Exported, Status> {
    let (instance, mut before) = (journal.instance, journal.reader.head());
    let progress = match after {
        None => Progress::begin(instance, before),
        Some(after) if filter.is_empty() => progress(instance, after)?,
        Some(_) => return Err(refusal(Reason::InvalidArgument, "a selection cannot be gone on with")),
    };
    let mut batches = journal.present().peekable();
    // An export that is gone on with must be of this very chain.
    while before.seq < progress.head().seq {
        match batches.next() {
            Some(Ok(batch)) => before = batch.header.as_head(),
            Some(Err(error)) => return Err(unsound(&error)),
            None => break,
        }
    }
    if before != progress.head() {
        let text = format!(
            "the file ends with batch {}, which is not in this journal: it is of another database, or this one was \
             brought back from a backup; write a new file",
            progress.head().seq
        );
        return Err(refusal(Reason::Refused, text));
    }
    let mut out = writer(pieces);
    let exported = export(batches, progress, filter, &mut out).map_err(|error| unsound(&error))?;
    out.flush().map_err(|error| refusal(Reason::Refused, error.to_string()))?;
    Ok(exported)
}

fn progress(instance: InstanceId, after: &AuditProgress) -> Result<Progress, Status> {
    let wrong = |_| refusal(Reason::InvalidArgument, "a hash in `after` has not 32 bytes");
    let hash = |bytes: &[u8]| bytes.try_into().map(Hash).map_err(wrong);
    let head = Head { seq: after.batch, hash: hash(&after.hash)? };
    let written = Exported { head, batches: after.batches, records: after.records, shown: after.shown };
    Ok(Progress::resumed(instance, hash(&after.first)?, written))
}

fn prove(
    config: &Config,
    (wanted, index): (u64, u64),
    instance: Option<InstanceId>,
    pieces: &Pieces,
) -> Result<Exported, Status> {
    let journal = open(config, instance)?;
    let (instance, mut before) = (journal.instance, journal.reader.head());
    let mut batches = journal.present();
    let found = loop {
        match batches.next().transpose().map_err(|error| unsound(&error))? {
            Some(batch) if batch.header.seq < wanted => before = batch.header.as_head(),
            Some(batch) if batch.header.seq == wanted && index < batch.header.count => break batch,
            _ => {
                let text = format!("there is no record {index} in batch {wanted} of this journal");
                return Err(refusal(Reason::NotFound, text));
            }
        }
    };
    let until = UnixMillis(found.header.time.0.saturating_add(1)).rfc3339_millis();
    let filter = Filter { to: Some(until), only: Some((wanted, index)), ..Filter::default() };
    let batches = std::iter::once(Ok(found)).chain(batches);
    let mut out = writer(pieces);
    let exported = export(batches, Progress::begin(instance, before), &filter, &mut out);
    let exported = exported.map_err(|error| unsound(&error))?;
    out.flush().map_err(|error| refusal(Reason::Refused, error.to_string()))?;
    Ok(exported)
}

fn last_checkpoint(config: &Config, instance: Option<InstanceId>) -> Result<String, Status> {
    let mut last = None;
    for batch in open(config, instance)?.reader {
        let batch = batch.map_err(|error| unsound(&error))?;
        last = batch.events().filter_map(SignedCheckpoint::of_event).filter_map(Result::ok).last().or(last);
    }
    let none = || {
        let text = "the journal holds no checkpoint yet; `holdfast serve` signs one every audit.checkpoint_minutes";
        refusal(Reason::NotFound, text)
    };
    Ok(last.ok_or_else(none)?.to_note())
}

fn tail(
    config: &Config,
    request: &TailAuditRequest,
    filter: &Filter,
    instance: Option<InstanceId>,
    send: impl Fn(Vec<String>) -> bool,
    gone: impl Fn() -> bool,
) -> Result<(), Status> {
    let Journal { mut reader, instance: _, last } = open(config, instance)?;
    let most = usize::try_from(request.lines).unwrap_or(MAX_LINES).min(MAX_LINES);
    let shown = |batch: &Batch| lines::of(batch, filter, request.ocsf);
    let mut kept = std::collections::VecDeque::new();
    let mut head = Head::EMPTY;
    while head.seq < last && !gone() {
        let Some(batch) = reader.next() else { break };
        let batch = batch.map_err(|error| unsound(&error))?;
        head = batch.header.as_head();
        for line in shown(&batch) {
            kept.push_back(line);
            if kept.len() > most {
                kept.pop_front();
            }
        }
    }
    if !kept.is_empty() && !send(kept.into()) {
        return Ok(());
    }
    while request.follow && !gone() {
        match reader.next() {
            Some(batch) => {
                let lines = shown(&batch.map_err(|error| unsound(&error))?);
                if !lines.is_empty() && !send(lines) {
                    return Ok(());
                }
            }
            None => std::thread::sleep(LOOK_AGAIN),
        }
    }
    Ok(())
}
