//! `holdfast.admin.v1.Keys`: keys in custody.

use std::sync::Arc;

use holdfast_access::AdminArea;
use holdfast_approvals::Act as Danger;
use holdfast_domain::PublicKey;
use holdfast_enclave::import::Imported;
use holdfast_slashing_db::{
    CallerId, EntryWatermark, KeyInfo, KeyOrigin, KeyState, Label, LabelChange, Labelled, Labels, Switch, Switched,
    Tombstone, Withdrawn,
};
use holdfast_wire::admin::v1::keys_server::Keys;
use holdfast_wire::admin::v1::{
    DeleteKeysRequest, DeleteKeysResponse, GenerateKeysRequest, GenerateKeysResponse, ImportKeysRequest,
    ImportKeysResponse, KeyResult, LabelKeysRequest, LabelKeysResponse, LabelledKey, ListKeysRequest, ListKeysResponse,
    ShowKeyRequest, ShowKeyResponse, SwitchKeysRequest, SwitchKeysResponse,
};
use holdfast_wire::admin::{Reason, refusal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert;
use super::danger::{self, Carried};
use super::desk::Desk;
use super::gate::{Act, Gate, admin_reason, custody_status, record_status};
use super::{import, pipe};
use crate::keymanager::{Incoming, Stored};
use crate::outcome::chain;

/// Keys in a page of a list.
const PAGE: usize = 500;
/// Keys made by one request at most.
const MAX_GENERATED: u32 = 1_000;

/// Said of a key that was switched on behind a fence.
const FENCED: &str = "it was fenced at the present, and signs from about the next epoch on";

/// Answers about keys.
pub(crate) struct KeysService(pub(super) Arc<Desk>);

/// What became of one key.
fn result(key: &PublicKey, outcome: Result<&str, (Reason, String)>) -> KeyResult {
    match outcome {
        Ok(word) => KeyResult { pubkey: key.to_string(), result: word.to_owned(), reason: None },
        Err((word, reason)) => {
            KeyResult { pubkey: key.to_string(), result: word.as_str().to_owned(), reason: Some(reason) }
        }
    }
}

impl KeysService {
    async fn switch(
        &self,
        request: Request<SwitchKeysRequest>,
        to: Switch,
    ) -> Result<Response<SwitchKeysResponse>, Status> {
        let who = Gate::caller(&request)?;
        let SwitchKeysRequest { pubkeys, without_fence } = request.into_inner();
        let keys = convert::some_keys(&pubkeys)?;
        let to = match to {
            // Without a fence there may be less protection than at the present: not without people who must approve that.
            Switch::Enable if without_fence && self.0.needs(&[Danger::LowerProtection], who.id()).await?.is_none() => {
                Switch::EnableUnfenced
            }
            to => to,
        };
        let (kind, detail) = match to {
            Switch::Enable => ("admin.key.enabled", "fenced at the present where it was off"),
            Switch::EnableUnfenced => ("admin.key.enabled", "without a fence"),
            Switch::Disable => ("admin.key.disabled", ""),
        };
        let act = Act::new(AdminArea::Keys, kind).of_keys(&keys).detail(detail);
        let (desk, by) = (Arc::clone(&self.0), who.id().clone());
        let keys = self
            .0
            .gate
            .act(&who, act, async move {
                let mut results = Vec::with_capacity(keys.len());
                for key in &keys {
                    results.push(switch_one(&desk, key, to, &by).await?);
                }
                Ok(results)
            })
            .await?;
        Ok(Response::new(SwitchKeysResponse { keys }))
    }
}

async fn switch_one(desk: &Desk, key: &PublicKey, to: Switch, by: &CallerId) -> Result<KeyResult, Status> {
    let known = desk.guard.key_info(key).await.map_err(record_status)?;
    if known.is_some_and(|info| info.origin.is_none()) {
        let reason = "only its history is known here; import the key itself first".to_owned();
        return Ok(result(key, Err((Reason::KeyWithoutSecret, reason))));
    }
    Ok(match desk.guard.switch(key, to, by).await {
        Ok(Switched::Plainly) => result(key, Ok("done")),
        Ok(Switched::Fenced) => KeyResult { reason: Some(FENCED.to_owned()), ..result(key, Ok("done")) },
        Err(error) => result(key, Err((admin_reason(&error), chain(&error)))),
    })
}

/// Refuses a change of labels that changes nothing, or contradicts itself.
fn check_change(change: &LabelChange) -> Result<(), Status> {
    if change.add.is_empty() && change.remove.is_empty() {
        return Err(refusal(Reason::InvalidArgument, "name a label to add or to remove"));
    }
    match change.add.intersection(&change.remove).next() {
        None => Ok(()),
        Some(both) => {
            let text = format!("the label {both} is to be added and removed; say which");
            Err(refusal(Reason::InvalidArgument, text))
        }
    }
}

/// What a change of labels would do.
async fn try_labels(desk: &Desk, keys: &[PublicKey], change: &LabelChange) -> Result<Vec<Labelled>, Status> {
    let mut tried = Vec::with_capacity(keys.len());
    for key in keys {
        tried.push(match desk.guard.key_info(key).await.map_err(record_status)? {
            None => Labelled::Unknown,
            Some(info) if info.state == KeyState::Tombstoned => Labelled::Deleted,
            Some(info) => match change.of(&info.labels) {
                None => Labelled::TooMany,
                Some(after) => Labelled::Done { before: info.labels, after },
            },
        });
    }
    Ok(tried)
}

fn labelled_key(key: &PublicKey, labelled: &Labelled) -> LabelledKey {
    let pubkey = key.to_string();
    let not_done = |word: Reason, reason: String| LabelledKey {
        pubkey: key.to_string(),
        result: word.as_str().to_owned(),
        reason: Some(reason),
        ..LabelledKey::default()
    };
    match labelled {
        Labelled::Done { before, after } => LabelledKey {
            pubkey,
            result: if before == after { "unchanged" } else { "done" }.to_owned(),
            reason: None,
            before: convert::label_texts(before),
            labels: convert::label_texts(after),
        },
        Labelled::Unknown => not_done(Reason::UnknownKey, "the key is not held here and never was".to_owned()),
        Labelled::Deleted => {
            not_done(Reason::KeyDeleted, "the key was deleted; what is deleted has no labels".to_owned())
        }
        Labelled::TooMany => {
            not_done(Reason::Refused, format!("a key has at most {} labels; remove some as well", Label::MAX_OF_KEY))
        }
    }
}

/// Deletes keys one after the other, where what they signed must not be handed on.
async fn erase(desk: &Desk, keys: &[PublicKey], by: &CallerId) -> Vec<KeyResult> {
    let mut results = Vec::with_capacity(keys.len());
    for key in keys {
        let erased = desk.erase(key, by).await.map(|before| match before {
            KeyState::Enabled | KeyState::Disabled => "done",
            KeyState::Tombstoned => "done_before",
        });
        results.push(result(key, erased.map_err(|error| (admin_reason(&error), chain(&error)))));
    }
    results
}

async fn delete(desk: &Desk, keys: Vec<PublicKey>, by: &CallerId) -> Result<DeleteKeysResponse, Status> {
    let gone = match desk.delete(keys.clone(), by).await {
        Ok(gone) => gone,
        Err(holdfast_slashing_db::AdminError::Suspect) => {
            return Ok(DeleteKeysResponse { keys: erase(desk, &keys, by).await, interchange_json: String::new() });
        }
        Err(error) => return Err(record_status(error)),
    };
    let mut results = Vec::with_capacity(keys.len());
    for key in &keys {
        let found: Option<&Withdrawn> = gone.iter().find(|one| one.key == *key);
        match found {
            Some(one) if one.before == KeyState::Tombstoned => results.push(result(key, Ok("done_before"))),
            Some(one) if one.had_secret => results.push(result(key, Ok("done"))),
            // Known by its history alone, or not at all.
            Some(_) | None => results.append(&mut erase(desk, std::slice::from_ref(key), by).await),
        }
    }
    let mut text = Vec::new();
    crate::exchange::write_file(&mut text, desk.root, &gone)
        .map_err(|error| refusal(Reason::Internal, error.to_string()))?;
    let interchange_json = String::from_utf8(text).map_err(|error| refusal(Reason::Internal, error.to_string()))?;
    Ok(DeleteKeysResponse { keys: results, interchange_json })
}

#[tonic::async_trait]
impl Keys for KeysService {
    type ListStream = ReceiverStream<Result<ListKeysResponse, Status>>;
    type ImportStream = ReceiverStream<Result<ImportKeysResponse, Status>>;

    async fn list(&self, request: Request<ListKeysRequest>) -> Result<Response<Self::ListStream>, Status> {
        let who = Gate::caller(&request)?;
        self.0.gate.may_read(&who, AdminArea::Keys)?;
        let mut keys = self.0.guard.list().await.map_err(record_status)?;
        let provider = self.0.provider().await.map_err(record_status)?;
        let deleted = keys.iter().filter(|info| info.state == KeyState::Tombstoned).count();
        let request = request.into_inner();
        let wanted = convert::labels(&request.labels)?;
        let shown = |info: &KeyInfo| request.deleted || info.state != KeyState::Tombstoned;
        keys.retain(|info| shown(info) && wanted.is_subset(&info.labels));
        let (pages, stream) = mpsc::channel(pipe::WAITING);
        self.0.gate.tasks().spawn(async move {
            let first =
                ListKeysResponse { keys: Vec::new(), provider, deleted: u64::try_from(deleted).unwrap_or(u64::MAX) };
            let rest = keys.chunks(PAGE).map(|page| ListKeysResponse {
                keys: page.iter().map(convert::key_message).collect(),
                ..ListKeysResponse::default()
            });
            for page in std::iter::once(first).chain(rest) {
                // Whoever asked may have gone.
                if pages.send(Ok(page)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn show(&self, request: Request<ShowKeyRequest>) -> Result<Response<ShowKeyResponse>, Status> {
        let who = Gate::caller(&request)?;
        self.0.gate.may_read(&who, AdminArea::Keys)?;
        let key = convert::key(&request.into_inner().pubkey)?;
        let info = self.0.guard.key_info(&key).await.map_err(record_status)?;
        let provider = self.0.provider().await.map_err(record_status)?;
        let info = info.ok_or_else(|| {
            let text =
                format!("the key {key} is not held here and never was; `holdfast keys list --all` shows what is");
            refusal(Reason::UnknownKey, text)
        })?;
        Ok(Response::new(ShowKeyResponse { key: Some(convert::key_message(&info)), provider }))
    }

    async fn import(
        &self,
        request: Request<Streaming<ImportKeysRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let who = Gate::caller(&request)?;
        let (answers, stream) = mpsc::channel(pipe::WAITING);
        let (desk, parts) = (Arc::clone(&self.0), request.into_inner());
        let mut stopping = self.0.gate.tasks().stopping();
        self.0.gate.tasks().spawn(async move {
            let ended = tokio::select! {
                ended = import::run(&desk, &who, parts, &answers) => ended,
                () = stopping.begun() => Err(refusal(Reason::Unavailable, "the process is stopping; import the rest again")),
            };
            if let Err(status) = ended {
                // Whoever asked may have gone.
                drop(answers.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn enable(&self, request: Request<SwitchKeysRequest>) -> Result<Response<SwitchKeysResponse>, Status> {
        self.switch(request, Switch::Enable).await
    }

    async fn disable(&self, request: Request<SwitchKeysRequest>) -> Result<Response<SwitchKeysResponse>, Status> {
        self.switch(request, Switch::Disable).await
    }

    async fn label(&self, request: Request<LabelKeysRequest>) -> Result<Response<LabelKeysResponse>, Status> {
        let who = Gate::caller(&request)?;
        let LabelKeysRequest { pubkeys, add, remove, dry_run, approval } = request.into_inner();
        let keys = convert::some_keys(&pubkeys)?;
        let change = LabelChange { add: convert::labels(&add)?, remove: convert::labels(&remove)? };
        check_change(&change)?;
        let desk = Arc::clone(&self.0);
        let labelled = if dry_run {
            self.0.gate.may_read(&who, AdminArea::Keys)?;
            try_labels(&desk, &keys, &change).await?
        } else {
            let mut act = Act::new(AdminArea::Keys, "admin.key.labelled").of_keys(&keys).detail(change.to_string());
            let cleared = if desk.changes_policy(&change) {
                act = act.also(AdminArea::Policy);
                self.0.gate.may_write(&who, AdminArea::Keys, &keys)?;
                self.0.gate.may_write(&who, AdminArea::Policy, &[])?;
                let mut carried = Carried::default();
                carried.add(&approval)?;
                let payload = danger::of_labels(&keys, &change);
                Some(desk.may(&[Danger::Policy], &payload, carried.read()?.as_ref(), who.id()).await?)
            } else {
                None
            };
            let (keys, by) = (keys.clone(), who.id().clone());
            let work = async move {
                let _cleared = cleared;
                desk.label(keys, change, &by).await.map_err(record_status)
            };
            self.0.gate.act(&who, act, work).await?
        };
        let keys = keys.iter().zip(&labelled).map(|(key, one)| labelled_key(key, one)).collect();
        Ok(Response::new(LabelKeysResponse { keys }))
    }

    async fn delete(&self, request: Request<DeleteKeysRequest>) -> Result<Response<DeleteKeysResponse>, Status> {
        let who = Gate::caller(&request)?;
        let keys = convert::some_keys(&request.into_inner().pubkeys)?;
        let act = Act::new(AdminArea::Keys, "admin.key.deleted").of_keys(&keys);
        let (desk, by) = (Arc::clone(&self.0), who.id().clone());
        let work = async move { delete(&desk, keys, &by).await };
        Ok(Response::new(self.0.gate.act(&who, act, work).await?))
    }

    async fn generate(&self, request: Request<GenerateKeysRequest>) -> Result<Response<GenerateKeysResponse>, Status> {
        let who = Gate::caller(&request)?;
        let count = request.into_inner().count;
        if count == 0 || count > MAX_GENERATED {
            return Err(refusal(
                Reason::InvalidArgument,
                format!("count is {count}: from 1 to {MAX_GENERATED} keys are made"),
            ));
        }
        let desk = Arc::clone(&self.0);
        let by = who.id().clone();
        let act = Act::new(AdminArea::Keys, "admin.key.generated").about("keys").detail(format!("{count} random keys"));
        let pubkeys = self.0.gate.act(&who, act, async move { Box::pin(make(&desk, count, &by)).await }).await?;
        Ok(Response::new(GenerateKeysResponse { pubkeys }))
    }
}

/// Makes random keys, in custody from birth.
async fn make(desk: &Desk, count: u32, by: &CallerId) -> Result<Vec<String>, Status> {
    let (data_key, made) = desk.generate(count).await.map_err(|error| custody_status(&error))?;
    let incoming = made.into_iter().map(|one| Incoming {
        key: Imported { public_key: one.key, sealed: one.sealed },
        entry: EntryWatermark::NeverSigned,
        origin: KeyOrigin::Generated,
        labels: Labels::new(),
    });
    let incoming: Vec<Incoming> = incoming.collect();
    let keys: Vec<PublicKey> = incoming.iter().map(|one| one.key.public_key).collect();
    let stored = desk.store(data_key, incoming, Tombstone::Refuse, by).await;
    let mut made = Vec::with_capacity(keys.len());
    for (key, stored) in keys.iter().zip(stored) {
        match stored {
            Stored::Imported | Stored::SwitchedOff | Stored::Duplicate => made.push(key.to_string()),
            Stored::Refused(error) => return Err(refusal(Reason::Refused, chain(&error))),
            Stored::Failed(reason) => return Err(refusal(Reason::Unavailable, reason)),
        }
    }
    Ok(made)
}
