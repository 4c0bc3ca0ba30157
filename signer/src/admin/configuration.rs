//! `holdfast.admin.v1.Configuration`: what the process was told to do.

use std::sync::Arc;

use holdfast_access::AdminArea;
use holdfast_wire::admin::v1::configuration_server::Configuration;
use holdfast_wire::admin::v1::{ReloadConfigurationRequest, ReloadConfigurationResponse, SettingChange};
use holdfast_wire::admin::{Reason, refusal};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::gate::Gate;
use crate::config::Change;
use crate::reload::{Asker, Intent, Outcome, Reloads};

/// Answers about the configuration of a running process.
pub(crate) struct ConfigurationService(pub(super) Arc<Reloads>);

#[tonic::async_trait]
impl Configuration for ConfigurationService {
    async fn reload(
        &self,
        request: Request<ReloadConfigurationRequest>,
    ) -> Result<Response<ReloadConfigurationResponse>, Status> {
        let who = Gate::caller(&request)?;
        let gate = self.0.gate();
        let intent = if request.into_inner().dry_run { Intent::DryRun } else { Intent::TakeOver };
        // Before anything is read for it.
        match intent {
            Intent::DryRun => gate.may_read(&who, AdminArea::Status)?,
            Intent::TakeOver => gate.may_write(&who, AdminArea::Status, &[])?,
        }
        let (reply, answer) = oneshot::channel();
        let reloads = Arc::clone(&self.0);
        gate.tasks().spawn(async move {
            // Once begun it is done to its end, also if whoever asked has gone.
            drop(reply.send(reloads.reload(Asker::Administrator(who), intent).await));
        });
        let cut_off = |_| refusal(Reason::Unavailable, "the process is stopping; ask again what was done");
        let outcome = answer.await.map_err(cut_off)?.map_err(|error| error.status())?;
        Ok(Response::new(response(outcome)))
    }
}

fn response(outcome: Outcome) -> ReloadConfigurationResponse {
    let Outcome { changed, waiting, problems, digest } = outcome;
    let told = |changes: Vec<Change>| {
        changes.into_iter().map(|Change { setting, old, new }| SettingChange { setting, old, new }).collect()
    };
    ReloadConfigurationResponse {
        changed: told(changed),
        needs_restart: told(waiting),
        problems,
        configuration_sha256: digest,
    }
}
