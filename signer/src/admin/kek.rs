//! `holdfast.admin.v1.Kek`: what protects the data key that seals every stored key.

use std::sync::Arc;

use holdfast_access::AdminArea;
use holdfast_enclave::provider::Checked;
use holdfast_wire::admin::v1::kek_server::Kek;
use holdfast_wire::admin::v1::{
    KekStatusRequest, NewDataKey, Report, RotateKekRequest, RotateKekResponse, SealedShare,
};
use holdfast_wire::admin::{Reason, refusal};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tonic::{Request, Response, Status};

use super::desk::Desk;
use super::gate::{Act, Gate, custody_status};
use crate::clock::rfc3339;
use crate::config::{Config, ProviderSettings};
use crate::custody::{Caller, Custody, CustodyError, Terminal};
use crate::outcome::{Exit, chain};

/// Longest settings, in bytes.
const MAX_SETTINGS: usize = 64 * 1024;

/// Answers about key-encryption keys.
pub(crate) struct KekService(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl Kek for KekService {
    async fn status(&self, request: Request<KekStatusRequest>) -> Result<Response<Report>, Status> {
        let who = Gate::caller(&request)?;
        self.0.gate.may_read(&who, AdminArea::Kek)?;
        let config = self.0.config.clone();
        let report = self.0.with_custody(move |custody| Handle::current().block_on(status(custody, &config))).await;
        Ok(Response::new(report.map_err(|error| custody_status(&error))?))
    }

    async fn rotate(&self, request: Request<RotateKekRequest>) -> Result<Response<RotateKekResponse>, Status> {
        let who = Gate::caller(&request)?;
        let RotateKekRequest { settings_toml, data_key } = request.into_inner();
        let wrap = settings(&self.0.config, &settings_toml)?;
        let names = names(&wrap);
        let what = if data_key { "a new data key" } else { "the same data key" };
        let act =
            Act::new(AdminArea::Kek, "admin.kek.rotated").about("kek").detail(format!("{what}, protected by {names}"));
        let desk = Arc::clone(&self.0);
        let work = async move {
            let open = desk.config.clone();
            desk.with_custody(move |custody| {
                // A server asks providers elsewhere through a helper; here an operator asks for just that.
                let caller = std::mem::replace(&mut custody.caller, Caller::Command);
                let rotated = Handle::current().block_on(rotate(custody, &open, &wrap, data_key));
                custody.caller = caller;
                if custody.caller == Caller::Server {
                    custody.forget_data_key();
                }
                rotated
            })
            .await
        };
        let rotated = Box::pin(self.0.gate.act(&who, act, work)).await?;
        Ok(Response::new(RotateKekResponse { provider: names, ..rotated }))
    }
}

/// The names of the configured providers, as recorded.
pub(crate) fn names(config: &Config) -> String {
    config.keys.provider.0.iter().map(|provider| provider.as_str()).collect::<Vec<_>>().join(",")
}

/// The configuration with these settings instead of its own about providers.
fn settings(config: &Config, text: &str) -> Result<Config, Status> {
    if text.is_empty() {
        return Ok(config.clone());
    }
    if text.len() > MAX_SETTINGS {
        return Err(refusal(Reason::InvalidArgument, "settings_toml is longer than 64 KiB"));
    }
    let wanted = ProviderSettings::parse(text)
        .map_err(|error| refusal(Reason::InvalidArgument, format!("settings_toml: {error}")))?;
    Ok(wanted.laid_over(config))
}

async fn rotate(
    custody: &mut Custody,
    open: &Config,
    wrap: &Config,
    data_key: bool,
) -> Result<RotateKekResponse, Status> {
    let nothing = || {
        let text = "there is no data key yet, so there is nothing to rotate: `holdfast kek init` makes one";
        refusal(Reason::Refused, text)
    };
    let failed = |error: CustodyError| custody_status(&error);
    let before = custody.record().await.map_err(failed)?.ok_or_else(nothing)?.provider;
    let mut answer = RotateKekResponse { provider_before: before, ..RotateKekResponse::default() };
    if data_key {
        let new = custody.replace_data_key(open, wrap, |_, _| {}).await.map_err(failed)?.ok_or_else(nothing)?;
        answer.opened_by = new.opened_by;
        answer.protected_by = new.protected_by;
        answer.data_key = Some(NewDataKey {
            number: new.now.0,
            number_before: new.before.0,
            keys: u64::try_from(new.keys).unwrap_or(u64::MAX),
        });
    } else {
        let rotated = custody.rotate(open, wrap).await.map_err(failed)?.ok_or_else(nothing)?;
        answer.opened_by = rotated.opened_by;
        answer.protected_by = rotated.now;
    }
    if let Some(shares) = custody.share_set().await.map_err(failed)? {
        answer.shares = shares
            .people()
            .into_iter()
            .map(|share| SealedShare { number: share.number.into(), holder: share.label, sealed: share.sealed })
            .collect();
    }
    Ok(answer)
}

async fn status(custody: &mut Custody, config: &Config) -> Result<Report, CustodyError> {
    let Some(record) = custody.record().await? else {
        return Ok(Report {
            text: "No data key yet: `holdfast kek init`, or the first `holdfast keys import`, makes one.".to_owned(),
            document_json: json!({ "provider": null, "opens": false }).to_string(),
            exit_code: Exit::Done.code().into(),
        });
    };
    let checked = custody.check_providers(config).await;
    // A passphrase is only asked for where nothing else opens the data key.
    let others_open = checked.as_ref().is_ok_and(|checked| checked.iter().any(|member| member.result.is_ok()));
    let asking = custody.terminal;
    if others_open {
        custody.terminal = Terminal::Leave;
    }
    let opened = custody.open_data_key(config).await;
    custody.terminal = asking;
    let members = checked.unwrap_or_default();
    let failing = members.iter().filter(|member| member.result.is_err()).count();
    let (id, since, provider) = (record.id.0, rfc3339(record.stored), record.provider);
    let (text, exit, protected_by, reason) = match &opened {
        Ok(()) => {
            let by = custody.protected_by.clone().unwrap_or_default();
            let exit = if failing == 0 { Exit::Done } else { Exit::Refused };
            (format!("Data key {id}, protected since {since} by: {by}. It opens."), exit, Some(by), None)
        }
        Err(error) => {
            let reason = chain(error);
            let text =
                format!("Data key {id}, protected since {since} by provider {provider}. It does not open: {reason}");
            (text, error.exit(), None, Some(reason))
        }
    };
    if custody.caller == Caller::Server {
        custody.forget_data_key();
    }
    let mut lines = vec![text];
    if members.len() > 1 {
        lines.extend(members.iter().map(member_line));
    }
    let document = json!({
        "provider": provider,
        "data_key": id,
        "since": since,
        "opens": opened.is_ok(),
        "protected_by": protected_by,
        "reason": reason,
        "providers": members.iter().map(member_json).collect::<Vec<_>>(),
    });
    Ok(Report { text: lines.join("\n"), document_json: document.to_string(), exit_code: exit.code().into() })
}

fn member_line(member: &Checked) -> String {
    let name =
        member.key.as_ref().map_or_else(|| member.provider.to_string(), |key| format!("{} {key}", member.provider));
    match &member.result {
        Ok(_) => format!("  {name}: opens it"),
        Err(error) => format!("  {name}: does not open it: {}", chain(error)),
    }
}

fn member_json(member: &Checked) -> Value {
    let error = member.result.as_ref().err();
    json!({
        "provider": member.provider.name(),
        "key": member.key,
        "opens": error.is_none(),
        "failure": error.map(holdfast_enclave::ProviderError::word),
        "reason": error.map(|error| chain(error)),
    })
}
