//! Which service answers a request: one map from the name in the path, for sockets and for commands that have the
//! database open themselves.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use holdfast_slashing_db::journal::InstanceId;
use holdfast_wire::admin::DESCRIPTION;
use holdfast_wire::admin::v1::approvals_server::ApprovalsServer;
use holdfast_wire::admin::v1::audit_server::AuditServer;
use holdfast_wire::admin::v1::configuration_server::ConfigurationServer;
use holdfast_wire::admin::v1::kek_server::KekServer;
use holdfast_wire::admin::v1::keys_server::KeysServer;
use holdfast_wire::admin::v1::policy_server::PolicyServer;
use holdfast_wire::admin::v1::slashing_server::SlashingServer;
use holdfast_wire::admin::v1::status_server::StatusServer;
use holdfast_wire::admin::v1::switcher_server::SwitcherServer;
use holdfast_wire::admin::{Reason, refusal};
use hyper::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::approvals::ApprovalsService;
use super::audit::AuditService;
use super::configuration::ConfigurationService;
use super::desk::Desk;
use super::gate::Gate;
use super::kek::KekService;
use super::keys::KeysService;
use super::policy::{self, PolicyService};
use super::slashing::SlashingService;
use super::status::StatusService;
use super::switcher::SwitcherService;
use crate::config::Config;
use crate::reload::Reloads;
use crate::switcher::Running;

/// Longest message: a keystore, a page of histories, or a piece of a file.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// How long the answer to a call may take to begin, and for a call with one answer, to be there.
const CALL_LIMIT: Duration = Duration::from_mins(5);

/// An answer to come.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

type Handler = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// The services there are.
#[derive(Clone, Default)]
pub(crate) struct Routes(BTreeMap<&'static str, Handler>);

impl Routes {
    /// The services of a desk.
    pub(crate) fn of_desk(desk: &Arc<Desk>) -> Self {
        let mut routes = Self::default();
        routes.add_audit(Arc::new(desk.config.clone()), desk.gate.clone(), Some(desk.instance));
        routes.add(KeysServer::new(KeysService(Arc::clone(desk))).max_decoding_message_size(MAX_MESSAGE_BYTES));
        routes.add(SlashingServer::new(SlashingService(Arc::clone(desk))).max_decoding_message_size(MAX_MESSAGE_BYTES));
        routes.add(KekServer::new(KekService(Arc::clone(desk))).max_decoding_message_size(MAX_MESSAGE_BYTES));
        routes
            .add(ApprovalsServer::new(ApprovalsService(Arc::clone(desk))).max_decoding_message_size(MAX_MESSAGE_BYTES));
        routes.add_policy(PolicyService::of_desk(desk));
        routes.add(StatusServer::new(StatusService(Arc::clone(desk))).max_decoding_message_size(MAX_MESSAGE_BYTES));
        routes
    }

    /// The one service that needs no open database.
    pub(crate) fn of_journal(config: Arc<Config>, gate: Gate) -> Self {
        let mut routes = Self::default();
        routes.add_audit(config, gate, None);
        routes
    }

    /// The policy alone, of the configuration at a place, with the rules given in its place if wanted.
    pub(crate) fn of_policy(config: Arc<Config>, (place, given): (PathBuf, bool), gate: Gate) -> Self {
        let mut routes = Self::default();
        routes.add_policy(PolicyService::of_configuration(config, (place, given), gate));
        routes
    }

    fn add_policy(&mut self, service: PolicyService) {
        // Rules may be longer than other messages, and a request for approvals that shows them half as long again.
        let most = policy::MAX_RULES_BYTES.saturating_mul(3).saturating_add(MAX_MESSAGE_BYTES);
        self.add(PolicyServer::new(service).max_decoding_message_size(most));
    }

    fn add_audit(&mut self, config: Arc<Config>, gate: Gate, instance: Option<InstanceId>) {
        let service = AuditService { config, gate, instance };
        self.add(AuditServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES));
    }

    /// The switcher, too.
    pub(crate) fn with_switcher(mut self, running: Arc<Running>, gate: Gate) -> Self {
        let service = SwitcherService { running, gate };
        self.add(SwitcherServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES));
        self
    }

    /// The configuration of a process that runs, too.
    pub(crate) fn with_reloads(mut self, reloads: Arc<Reloads>) -> Self {
        self.add(ConfigurationServer::new(ConfigurationService(reloads)).max_decoding_message_size(MAX_MESSAGE_BYTES));
        self
    }

    /// Health, and descriptions of the services that are there.
    pub(crate) fn with_standard(mut self) -> (Self, tonic_health::server::HealthReporter) {
        let (reporter, health) = tonic_health::server::health_reporter();
        self.add(health);
        let described = || {
            let mut builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTION)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            for name in self.0.keys() {
                builder = builder.with_service_name(*name);
            }
            builder.with_service_name("grpc.reflection.v1.ServerReflection")
        };
        let (v1, alpha) = (described().build_v1(), described().build_v1alpha());
        match (v1, alpha) {
            (Ok(v1), Ok(alpha)) => {
                self.add(v1);
                self.add(alpha);
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "services are not described: report this as a bug");
            }
        }
        (self, reporter)
    }

    fn add<S>(&mut self, service: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let handler = move |request| -> Answer { Box::pin(service.clone().call(request)) };
        self.0.insert(S::NAME, Arc::new(handler));
    }

    /// The answer of the service in the path.
    pub(super) fn call(&self, request: Request<Body>) -> Answer {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(name, _)| name);
        let Some(handler) = name.and_then(|name| self.0.get(name)) else {
            let shown: String = path.chars().take(100).collect();
            let text = format!("this process has no service for {shown}");
            let status = tonic::Status::unimplemented(text);
            return Box::pin(std::future::ready(Ok(status.into_http())));
        };
        let answer = handler(request);
        Box::pin(async move {
            let late = || refusal(Reason::Unavailable, "the answer took too long; ask again what was done");
            tokio::time::timeout(CALL_LIMIT, answer).await.unwrap_or_else(|_| Ok(late().into_http()))
        })
    }
}
