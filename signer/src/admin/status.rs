//! `holdfast.admin.v1.Status`: the state of the process.

use std::sync::Arc;

use holdfast_access::AdminArea;
use holdfast_wire::admin::v1::status_server::Status as StatusApi;
use holdfast_wire::admin::v1::{GetStatusRequest, ReloadRequest, ReloadResponse, Report};
use holdfast_wire::admin::{Reason, refusal};
use tokio::runtime::Handle;
use tonic::{Request, Response, Status};

use super::desk::Desk;
use super::gate::{Act, Gate, custody_status};
use crate::glance;
use crate::loader::Reload;

/// Answers about the process.
pub(crate) struct StatusService(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl StatusApi for StatusService {
    async fn get(&self, request: Request<GetStatusRequest>) -> Result<Response<Report>, Status> {
        let who = Gate::caller(&request)?;
        self.0.gate.may_read(&who, AdminArea::Status)?;
        let config = self.0.config.clone();
        // The database is looked at on this thread.
        let looking = tokio::task::spawn_blocking(move || Handle::current().block_on(glance::report(&config)));
        let report = looking.await.map_err(|error| refusal(Reason::Internal, error.to_string()))?;
        Ok(Response::new(report.map_err(|error| custody_status(&error))?))
    }

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        let who = Gate::caller(&request)?;
        let Some(loader) = self.0.loader().cloned() else {
            return Err(refusal(Reason::Refused, "no server is running, so no keys are loaded"));
        };
        let act = Act::new(AdminArea::Status, "admin.reload").about("keys");
        let reload = self.0.gate.act(&who, act, async move { Ok(loader.reload()) }).await?;
        Ok(Response::new(ReloadResponse { already_running: reload == Reload::AlreadyRunning }))
    }
}
