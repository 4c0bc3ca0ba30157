//! `holdfast.admin.v1.Slashing`: what keys have signed.

use std::sync::Arc;

use holdfast_access::AdminArea;
use holdfast_approvals::Act as Danger;
use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_slashing_db::interchange::{Interchange, read};
use holdfast_slashing_db::journal::{JournalError, Reader};
use holdfast_slashing_db::{CallerId, ImportMode, InstanceInfo, KeyState, ServerInfo, Then, Withdraw};
use holdfast_wire::admin::v1::import_histories_request::Part;
use holdfast_wire::admin::v1::slashing_server::Slashing;
use holdfast_wire::admin::v1::{
    ExportHistoriesRequest, ExportHistoriesResponse, ExportedHistories, FenceRequest, FenceResponse,
    ImportHistoriesOptions, ImportHistoriesRequest, ImportHistoriesResponse, Report, SlashingStatusRequest,
    export_histories_response,
};
use holdfast_wire::admin::{Reason, refusal};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{self, Collected};
use super::danger::{self, Carried, Remarks};
use super::desk::Desk;
use super::gate::{Act, Gate, custody_status, record_status};
use super::import::next;
use super::pipe::{self, PieceReader, PieceWriter};
use super::show::{key_heading, key_json, key_line};
use crate::clock::rfc3339;
use crate::custody;
use crate::exchange::write_file;
use crate::outcome::{Exit, chain};
use crate::rollback;

/// Changes in one message.
const PAGE: usize = 1_000;

/// Answers about slashing protection.
pub(crate) struct SlashingService(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl Slashing for SlashingService {
    type ImportStream = ReceiverStream<Result<ImportHistoriesResponse, Status>>;
    type ExportStream = ReceiverStream<Result<ExportHistoriesResponse, Status>>;

    async fn status(&self, request: Request<SlashingStatusRequest>) -> Result<Response<Report>, Status> {
        let who = Gate::caller(&request)?;
        self.0.gate.may_read(&who, AdminArea::Slashing)?;
        Ok(Response::new(status(&self.0, request.into_inner().verify).await?))
    }

    async fn import(
        &self,
        request: Request<Streaming<ImportHistoriesRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let who = Gate::caller(&request)?;
        let mut parts = request.into_inner();
        let first = next(&mut parts).await?.and_then(|message| message.part);
        let Some(Part::Options(options)) = first else {
            return Err(refusal(Reason::MessageOrder, "the first message of an import holds its options"));
        };
        let (histories, beside) = histories(&self.0, &options, parts).await?;
        let by = match &options.source {
            Some(source) => CallerId::new(&format!("{} from {source}", who.id().as_str())),
            None => who.id().clone(),
        };
        let report = if options.dry_run {
            self.0.gate.may_read(&who, AdminArea::Slashing)?;
            self.0.guard.import(histories, ImportMode::DryRun, &by).await.map_err(record_status)?
        } else {
            let from = options.source.as_deref().unwrap_or("an interchange");
            let act = Act::new(AdminArea::Slashing, "admin.slashing.imported")
                .about("slashing/import")
                .detail(format!("{} validators from {from}", histories.len()));
            let acts: &[Danger] = if options.incomplete { &[Danger::LowerProtection] } else { &[] };
            if self.0.needs(acts, who.id()).await?.is_some() {
                self.0.gate.may_write(&who, AdminArea::Slashing, &[])?;
            }
            let payload = danger::of_histories(&histories, options.source.as_deref(), &beside.remarks);
            let cleared = self.0.may(acts, &payload, beside.carried.read()?.as_ref(), who.id()).await?;
            let desk = Arc::clone(&self.0);
            let work = async move {
                let _cleared = cleared;
                desk.guard.import(histories, ImportMode::Commit, &by).await.map_err(record_status)
            };
            self.0.gate.act(&who, act, work).await?
        };
        let (pages, stream) = mpsc::channel(pipe::WAITING);
        self.0.gate.tasks().spawn(async move {
            for page in report.validators.chunks(PAGE) {
                let changes = page.iter().map(convert::change).collect();
                // Whoever asked may have gone.
                if pages.send(Ok(ImportHistoriesResponse { changes })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn export(&self, request: Request<ExportHistoriesRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let who = Gate::caller(&request)?;
        let ExportHistoriesRequest { pubkeys, disable } = request.into_inner();
        let keys = convert::keys(&pubkeys)?;
        let some = (!keys.is_empty()).then(|| keys.clone());
        let exported = if disable {
            let act = Act::new(AdminArea::Slashing, "admin.slashing.exported").about("slashing/export").of_keys(&keys);
            let (desk, by) = (Arc::clone(&self.0), who.id().clone());
            let act = act.detail("exported and switched off");
            let work =
                async move { desk.guard.export(some, Then::Stop(Withdraw::Disable), &by).await.map_err(record_status) };
            self.0.gate.act(&who, act, work).await?
        } else {
            self.0.gate.may_read(&who, AdminArea::Slashing)?;
            self.0.guard.export(some, Then::Keep, who.id()).await.map_err(record_status)?
        };
        let known = |key: &PublicKey| exported.binary_search_by_key(key, |one| one.key).is_ok();
        let unknown = keys.iter().filter(|key| !known(key)).map(ToString::to_string).collect();
        let could_sign = exported.iter().filter(|one| disable && one.had_secret && one.before == KeyState::Enabled);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let summary =
            ExportedHistories { exported: count(exported.len()), disabled: count(could_sign.count()), unknown };
        let (pieces, stream) = mpsc::channel(pipe::WAITING);
        let network = self.0.root;
        let message = |part| Ok(ExportHistoriesResponse { part: Some(part) });
        // It ends when nobody receives any more.
        drop(tokio::task::spawn_blocking(move || {
            use export_histories_response::Part;
            if pieces.blocking_send(message(Part::Exported(summary))).is_err() {
                return;
            }
            let out = PieceWriter::new(|piece| pieces.blocking_send(message(Part::File(piece))).is_ok());
            if let Err(error) = write_file(out, network, &exported) {
                drop(pieces.blocking_send(Err(refusal(Reason::Internal, error.to_string()))));
            }
        }));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fence(&self, request: Request<FenceRequest>) -> Result<Response<FenceResponse>, Status> {
        let who = Gate::caller(&request)?;
        let keys = convert::keys(&request.into_inner().pubkeys)?;
        for key in &keys {
            if self.0.guard.key_info(key).await.map_err(record_status)?.is_none() {
                let text = format!("{key} is not registered here; nothing was fenced");
                return Err(refusal(Reason::UnknownKey, text));
            }
        }
        let act = Act::new(AdminArea::Slashing, "admin.slashing.fenced").about("slashing/fence").of_keys(&keys);
        let (desk, by, some) = (Arc::clone(&self.0), who.id().clone(), (!keys.is_empty()).then_some(keys));
        let work = async move { desk.guard.fence(some, &by).await.map_err(record_status) };
        let fenced = self.0.gate.act(&who, act, work).await?;
        let high = self.0.guard.high_watermarks().await.map_err(record_status)?;
        Ok(Response::new(FenceResponse {
            fenced,
            block_slot: high.block.map(|slot| slot.0),
            target_epoch: high.target.map(|epoch| epoch.0),
            frozen: rollback::suspicion(&self.0.guard).is_some(),
        }))
    }
}

/// What comes in beside histories.
#[derive(Default)]
struct Beside {
    carried: Carried,
    remarks: Remarks,
}

/// Reads what comes in to its end.
async fn histories(
    desk: &Desk,
    options: &ImportHistoriesOptions,
    mut parts: Streaming<ImportHistoriesRequest>,
) -> Result<(Interchange, Beside), Status> {
    let (mut collected, mut beside) = (Collected::default(), Beside::default());
    let mut file = None;
    let mut listed = false;
    while let Some(message) = next(&mut parts).await? {
        match message.part {
            Some(Part::File(piece)) if piece.is_empty() => {}
            Some(Part::File(piece)) if !listed => {
                let (sender, _) = file.get_or_insert_with(|| {
                    let ((sender, reader), network) = (PieceReader::new(), desk.root);
                    (sender, tokio::task::spawn_blocking(move || read(reader, network)))
                });
                // A reader that gave up says why below.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            Some(Part::Histories(histories)) if file.is_none() => {
                listed = true;
                for history in &histories.histories {
                    collected.add(history)?;
                }
            }
            Some(Part::Approval(piece)) => beside.carried.add(&piece)?,
            Some(Part::Remarks(remarks)) => beside.remarks.add(remarks.lines)?,
            Some(Part::Options(_) | Part::File(_) | Part::Histories(_)) | None => {
                let text = "after the options comes a file, or histories, and not both";
                return Err(refusal(Reason::MessageOrder, text));
            }
        }
    }
    if let Some((sender, reading)) = file {
        // A reader that gave up says why.
        drop(sender.send(Vec::new()).await);
        let read = reading.await.map_err(|error| refusal(Reason::Internal, error.to_string()))?;
        let interchange = read.map_err(|error| {
            refusal(
                Reason::InvalidArgument,
                format!("the file cannot be taken in: {}; nothing was imported", chain(&error)),
            )
        });
        return Ok((interchange?, beside));
    }
    let root = match &options.genesis_validators_root {
        None => {
            return Err(refusal(
                Reason::InvalidArgument,
                "histories need genesis_validators_root, the chain they are of",
            ));
        }
        Some(text) => holdfast_domain::root::parse_hex(text.strip_prefix("0x").unwrap_or(text))
            .map(GenesisValidatorsRoot)
            .ok_or_else(|| {
                refusal(Reason::InvalidArgument, "genesis_validators_root is 0x and 64 hexadecimal digits")
            })?,
    };
    let interchange = Interchange::new(root, collected.validators).with_switched_off(collected.switched_off);
    Ok((interchange, beside))
}

async fn status(desk: &Desk, verify: bool) -> Result<Report, Status> {
    let guard = &desk.guard;
    let keys: Vec<_> = guard.list().await.map_err(record_status)?.iter().map(convert::key_message).collect();
    let high = guard.high_watermarks().await.map_err(record_status)?;
    let provider = desk.provider().await.map_err(record_status)?;
    let suspicion = rollback::suspicion(guard);
    let instances = guard.instances().await.map_err(record_status)?;
    let server = guard.server().await.map_err(record_status)?;
    let head = guard.journal_head().await.map_err(record_status)?;
    let verified = if verify { Some(verified(desk).await?) } else { None };
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let (slot, source, target) =
        (high.block.map(|slot| slot.0), high.source.map(|epoch| epoch.0), high.target.map(|epoch| epoch.0));
    let mut lines = suspicion.as_ref().map_or_else(Vec::new, |found| rollback::explain(found, &rfc3339(found.since)));
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.extend([
        format!("network                  {}", desk.network),
        format!("genesis validators root  {}", desk.root),
        format!("instance                 {}", desk.instance),
        match verified {
            Some(entries) => format!("journal                  {entries} entries, verified"),
            None => "journal                  not verified; --verify reads all of it".to_owned(),
        },
        format!("journal head             batch {}, hash {}", head.seq, head.hash),
        format!(
            "highest                  block slot {}, source {}, target {}",
            number(slot),
            number(source),
            number(target)
        ),
    ]);
    lines.extend(server.iter().map(server_line));
    lines.extend(instances.iter().map(|instance| {
        let (id, head, seen) = (instance.id, instance.head.seq, rfc3339(instance.last_seen));
        let suspects = instance.suspects.map(|since| format!(", suspects the database since {}", rfc3339(since)));
        format!(
            "shared with              {id} on {}, {}, batch {head}, last seen {seen}{}",
            instance.host,
            instance.version,
            suspects.unwrap_or_default()
        )
    }));
    lines.extend([String::new(), key_heading()]);
    lines.extend(keys.iter().map(key_line));
    let document = json!({
        "network": desk.network,
        "genesis_validators_root": desk.root.to_string(),
        "instance": desk.instance.to_string(),
        "journal": {
            "seq": head.seq, "hash": head.hash.to_string(), "entries": verified, "verified": verified.is_some(),
        },
        "server": server.as_ref().map(|server| json!({
            "version": server.version, "synchronous_standbys": server.synchronous_standbys,
        })),
        "instances": instances.iter().map(instance_json).collect::<Vec<_>>(),
        "highest": { "block_slot": slot, "source_epoch": source, "target_epoch": target },
        "state": if suspicion.is_some() { "frozen" } else { "serving" },
        "frozen": suspicion.as_ref().map(rollback::as_json),
        "keys": keys.iter().map(|key| key_json(key, provider.as_deref())).collect::<Vec<_>>(),
    });
    let exit = if suspicion.is_some() { Exit::Frozen } else { Exit::Done };
    Ok(Report { text: lines.join("\n"), document_json: document.to_string(), exit_code: exit.code().into() })
}

/// Reads the whole journal and verifies each batch on the way: what is shown is proved, not believed.
async fn verified(desk: &Desk) -> Result<u64, Status> {
    let (config, instance) = (desk.config.clone(), desk.instance);
    let work = tokio::task::spawn_blocking(move || {
        let reader = custody::open_journal(&config, instance).map_err(|error| custody_status(&error))?;
        let unsound = |error: JournalError| refusal(Reason::Refused, chain(&error));
        let mut reader: Reader = reader.map_err(unsound)?;
        let mut entries = 0_u64;
        for batch in reader.by_ref() {
            entries = entries.saturating_add(batch.map_err(unsound)?.header.count);
        }
        Ok(entries)
    });
    work.await.map_err(|error| refusal(Reason::Internal, error.to_string()))?
}

fn server_line(server: &ServerInfo) -> String {
    let standbys = server.synchronous_standbys.as_deref().map_or_else(
        || "commits wait for no standby, so a fail-over may lose some and freezes the signers".to_owned(),
        |standbys| format!("commits wait for the standbys {standbys}"),
    );
    format!("server                   PostgreSQL {}, {standbys}", server.version)
}

fn instance_json(instance: &InstanceInfo) -> Value {
    json!({
        "id": instance.id.to_string(),
        "host": instance.host,
        "version": instance.version,
        "started": rfc3339(instance.started),
        "last_seen": rfc3339(instance.last_seen),
        "journal": { "seq": instance.head.seq, "hash": instance.head.hash.to_string() },
        "suspects_since": instance.suspects.map(rfc3339),
    })
}
