//! `holdfast.admin.v1.Switcher`: live control of the switcher and of the execution pool.

use std::num::NonZeroU16;
use std::sync::Arc;

use holdfast_access::AdminArea;
use holdfast_beacon::execution::{BadWebSocketUrl, ExecutionNodeConfig, ExecutionPool};
use holdfast_beacon::{
    Auth, PoolError, PriorityTier, Resolve, Role as NodeRole, Roles, TlsOptions, UpstreamConfig, UpstreamName, Weight,
};
use holdfast_wire::admin::v1::switcher_server::Switcher;
use holdfast_wire::admin::v1::{
    AddExecutionRequest, AddRequest, BasicAuth, ChangeResponse, PreferRequest, Role, StatusRequest, StatusResponse,
    UpstreamRequest,
};
use holdfast_wire::admin::{Reason, refusal};
use tonic::{Request, Response, Status};

use super::gate::{Act, Gate};
use crate::callers::Principal;
use crate::outcome::chain;
use crate::switcher::Running;

/// Answers for a running switcher.
pub(crate) struct SwitcherService {
    /// The switcher.
    pub(super) running: Arc<Running>,
    /// The door before it.
    pub(super) gate: Gate,
}

type Changed = Result<Response<ChangeResponse>, Status>;

fn changed(message: String) -> Response<ChangeResponse> {
    Response::new(ChangeResponse { message })
}

fn refused(error: &PoolError) -> Status {
    let text = chain(error);
    match error {
        PoolError::Unknown(_) => refusal(Reason::NotFound, text),
        PoolError::Last(_) | PoolError::Upstream { .. } => refusal(Reason::Refused, text),
        _ => refusal(Reason::InvalidArgument, text),
    }
}

#[tonic::async_trait]
impl Switcher for SwitcherService {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.gate.may_read(&*Gate::caller(&request)?, AdminArea::Switcher)?;
        let document = self.running.status();
        let document_json = serde_json::to_string(&document).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(StatusResponse { document_json }))
    }

    async fn add(&self, request: Request<AddRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let config = upstream(&request.into_inner())?;
        let name = config.name.clone();
        let act = act("admin.switcher.added", "consensus", name.as_str());
        self.change(&who, &act, || self.running.pool.add(config)).await?;
        Ok(changed(format!("added {name}; it serves once it has been found fit")))
    }

    async fn remove(&self, request: Request<UpstreamRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let UpstreamRequest { name } = request.into_inner();
        let act = act("admin.switcher.removed", "consensus", &name);
        self.change(&who, &act, || self.running.pool.remove(&name)).await?;
        Ok(changed(format!("removed {name}; requests in progress are finished")))
    }

    async fn drain(&self, request: Request<UpstreamRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let UpstreamRequest { name } = request.into_inner();
        let act = act("admin.switcher.drained", "consensus", &name);
        self.change(&who, &act, || self.running.pool.drain(&name)).await?;
        Ok(changed(format!("draining {name}: it is asked nothing new")))
    }

    async fn undrain(&self, request: Request<UpstreamRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let UpstreamRequest { name } = request.into_inner();
        let act = act("admin.switcher.undrained", "consensus", &name);
        self.change(&who, &act, || self.running.pool.undrain(&name)).await?;
        Ok(changed(format!("{name} is used again once it has been told what it missed")))
    }

    async fn prefer(&self, request: Request<PreferRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let PreferRequest { name } = request.into_inner();
        let act = act("admin.switcher.preferred", "consensus", name.as_deref().unwrap_or_default());
        self.change(&who, &act, || self.running.pool.prefer(name.as_deref())).await?;
        Ok(changed(match name {
            Some(name) => format!("{name} comes first among nodes as healthy as it is"),
            None => "no node is preferred".to_owned(),
        }))
    }

    async fn add_execution(&self, request: Request<AddExecutionRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let config = execution(request.into_inner())?;
        let name = config.upstream.name.clone();
        let pool = self.pool()?;
        let act = act("admin.switcher.added", "execution", name.as_str());
        self.change(&who, &act, || pool.add(config)).await?;
        Ok(changed(format!("added {name} to the execution pool; it serves once it has answered and is fit")))
    }

    async fn remove_execution(&self, request: Request<UpstreamRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let UpstreamRequest { name } = request.into_inner();
        let pool = self.pool()?;
        let act = act("admin.switcher.removed", "execution", &name);
        self.change(&who, &act, || pool.remove(&name)).await?;
        Ok(changed(format!("removed {name} from the execution pool; requests in progress are finished")))
    }

    async fn drain_execution(&self, request: Request<UpstreamRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let UpstreamRequest { name } = request.into_inner();
        let pool = self.pool()?;
        let act = act("admin.switcher.drained", "execution", &name);
        self.change(&who, &act, || pool.drain(&name)).await?;
        Ok(changed(format!("draining {name}: it is asked nothing new")))
    }

    async fn undrain_execution(&self, request: Request<UpstreamRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let UpstreamRequest { name } = request.into_inner();
        let pool = self.pool()?;
        let act = act("admin.switcher.undrained", "execution", &name);
        self.change(&who, &act, || pool.undrain(&name)).await?;
        Ok(changed(format!("{name} is used again")))
    }

    async fn prefer_execution(&self, request: Request<PreferRequest>) -> Changed {
        let who = Gate::caller(&request)?;
        let PreferRequest { name } = request.into_inner();
        let pool = self.pool()?;
        let act = act("admin.switcher.preferred", "execution", name.as_deref().unwrap_or_default());
        self.change(&who, &act, || pool.prefer(name.as_deref())).await?;
        Ok(changed(match name {
            Some(name) => format!("{name} comes first among execution clients as healthy as it is"),
            None => "no execution client is preferred".to_owned(),
        }))
    }
}

/// What is about to be done to a node, as journaled.
fn act(kind: &'static str, pool: &str, name: &str) -> Act {
    Act::new(AdminArea::Switcher, kind).about(format!("upstream/{pool}/{name}"))
}

impl SwitcherService {
    /// Has a change admitted, and makes it.
    async fn change(
        &self,
        who: &Principal,
        act: &Act,
        work: impl FnOnce() -> Result<(), PoolError> + Send,
    ) -> Result<(), Status> {
        self.gate.admit(who, act).await?;
        let done = work().map_err(|error| refused(&error));
        if let Err(status) = &done {
            self.gate.failed(who, act, status).await;
        }
        done
    }

    fn pool(&self) -> Result<&Arc<ExecutionPool>, Status> {
        self.running.execution().ok_or_else(|| {
            refusal(Reason::Configuration, "the execution pool is off; set execution.enabled = true and start again")
        })
    }
}

/// A further execution client.
fn execution(request: AddExecutionRequest) -> Result<ExecutionNodeConfig, Status> {
    let AddExecutionRequest { node, websocket_url } = request;
    let node = node.ok_or_else(|| refusal(Reason::InvalidArgument, "the node is missing"))?;
    if !node.roles.is_empty() || node.each_address {
        return Err(refusal(Reason::InvalidArgument, "roles and each_address are not for execution clients"));
    }
    let websocket = websocket_url.map(|url| url.parse()).transpose();
    let websocket = websocket.map_err(|error: BadWebSocketUrl| refusal(Reason::InvalidArgument, error.to_string()))?;
    Ok(ExecutionNodeConfig { upstream: upstream(&node)?, websocket })
}

/// A further node.
fn upstream(request: &AddRequest) -> Result<UpstreamConfig, Status> {
    let invalid = |error: &(dyn std::error::Error + 'static)| refusal(Reason::InvalidArgument, chain(error));
    let mut config = UpstreamConfig::from_url(&request.url).map_err(|error| invalid(&error))?;
    if let Some(name) = &request.name {
        config.name = UpstreamName::new(name.clone()).map_err(|error| invalid(&error))?;
    }
    if let Some(weight) = request.weight {
        let weight = u16::try_from(weight).ok().and_then(NonZeroU16::new);
        config.weight = Weight(weight.ok_or_else(|| refusal(Reason::InvalidArgument, "a weight is from 1 to 65535"))?);
    }
    config.tier = PriorityTier(
        u8::try_from(request.tier).map_err(|_| refusal(Reason::InvalidArgument, "a tier is from 0 to 255"))?,
    );
    if !request.roles.is_empty() {
        let roles: Option<Roles> = request.roles().map(role).collect();
        config.roles = roles.ok_or_else(|| refusal(Reason::InvalidArgument, "a role is missing its name"))?;
    }
    config.auth = match (&request.basic_auth, &request.bearer_token) {
        (Some(_), Some(_)) => return Err(refusal(Reason::InvalidArgument, "give a password or a token, not both")),
        (Some(BasicAuth { user, password }), None) => {
            Some(Auth::Basic { user: user.clone(), password: holdfast_secret::SecretText::new(password.clone()) })
        }
        (None, Some(token)) => Some(Auth::Bearer(holdfast_secret::SecretText::new(token.clone()))),
        (None, None) => None,
    };
    if let Some(pem) = &request.ca_pem {
        config.tls = TlsOptions { own_ca_pem: pem.clone().into_bytes(), ..TlsOptions::default() };
    }
    if request.each_address {
        config.resolve = Resolve::EachAddress;
    }
    Ok(config)
}

fn role(role: Role) -> Option<NodeRole> {
    match role {
        Role::Unspecified => None,
        Role::Attestation => Some(NodeRole::Attestation),
        Role::Proposal => Some(NodeRole::Proposal),
        Role::Sync => Some(NodeRole::Sync),
        Role::Submit => Some(NodeRole::Submit),
        Role::Builder => Some(NodeRole::Builder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_to_add_is_checked() {
        let good = AddRequest {
            url: "http://u:hunter2@node:5052".to_owned(),
            weight: Some(2),
            tier: 1,
            roles: vec![Role::Submit.into()],
            ..AddRequest::default()
        };
        let config = upstream(&good).unwrap();
        assert_eq!((config.name.as_str(), config.weight.0.get(), config.tier.0), ("node:5052", 2, 1));
        assert!(config.roles.contains(NodeRole::Submit) && !config.roles.contains(NodeRole::Proposal));
        for bad in [
            AddRequest { url: "node hunter2".to_owned(), ..good.clone() },
            AddRequest { name: Some("a b".to_owned()), ..good.clone() },
            AddRequest { weight: Some(0), ..good.clone() },
            AddRequest { tier: 256, ..good.clone() },
            AddRequest { roles: vec![Role::Unspecified.into()], ..good.clone() },
            AddRequest { basic_auth: Some(basic("u")), bearer_token: Some("hunter2".to_owned()), ..good },
        ] {
            let refused = upstream(&bad).unwrap_err();
            assert!(!refused.message().contains("hunter2"), "{refused:?}");
        }
    }

    fn basic(user: &str) -> BasicAuth {
        BasicAuth { user: user.to_owned(), password: "hunter2".to_owned() }
    }

    #[test]
    fn credentials_certificates_and_names_with_several_addresses_arrive() {
        let request = AddRequest { url: "https://node".to_owned(), ..AddRequest::default() };
        let config =
            upstream(&AddRequest { basic_auth: Some(basic("u")), each_address: true, ..request.clone() }).unwrap();
        assert!(matches!(&config.auth, Some(Auth::Basic { user, .. }) if user == "u"));
        assert_eq!(config.resolve, Resolve::EachAddress);
        let ca_pem = Some("certificate".to_owned());
        let config = upstream(&AddRequest { bearer_token: Some("t".to_owned()), ca_pem, ..request }).unwrap();
        assert!(matches!(config.auth, Some(Auth::Bearer(_))));
        assert_eq!(config.tls.own_ca_pem, b"certificate");
    }

    #[test]
    fn an_execution_client_to_add_is_checked() {
        let node = AddRequest { url: "http://node:8545".to_owned(), ..AddRequest::default() };
        let good = AddExecutionRequest { node: Some(node.clone()), websocket_url: Some("wss://node:8546".to_owned()) };
        let config = execution(good.clone()).unwrap();
        assert_eq!(config.upstream.name.as_str(), "node:8545");
        assert_eq!(config.websocket.unwrap().to_string(), "wss://node:8546/");
        for bad in [
            AddExecutionRequest { node: None, ..good.clone() },
            AddExecutionRequest { websocket_url: Some("http://u:hunter2@node".to_owned()), ..good.clone() },
            AddExecutionRequest { node: Some(AddRequest { each_address: true, ..node.clone() }), ..good.clone() },
            AddExecutionRequest { node: Some(AddRequest { roles: vec![Role::Submit.into()], ..node }), ..good },
        ] {
            let refused = execution(bad).unwrap_err();
            assert!(!refused.message().contains("hunter2"), "{refused:?}");
        }
    }
}
