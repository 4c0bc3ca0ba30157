//! `holdfast.admin.v1.Switcher`: live control of the switcher.

use std::num::NonZeroU16;
use std::sync::Arc;

use holdfast_beacon::{PoolError, PriorityTier, Role as NodeRole, Roles, UpstreamConfig, UpstreamName, Weight};
use holdfast_wire::admin::v1::switcher_server::Switcher;
use holdfast_wire::admin::v1::{
    AddRequest, ChangeResponse, PreferRequest, Role, StatusRequest, StatusResponse, UpstreamRequest,
};
use tonic::{Request, Response, Status};

use crate::outcome::chain;
use crate::switcher::Running;

/// Answers for a running switcher.
pub(crate) struct SwitcherService(pub(crate) Arc<Running>);

type Changed = Result<Response<ChangeResponse>, Status>;

fn changed(message: String) -> Response<ChangeResponse> {
    Response::new(ChangeResponse { message })
}

fn refused(error: &PoolError) -> Status {
    let text = chain(error);
    match error {
        PoolError::Unknown(_) => Status::not_found(text),
        PoolError::Last(_) => Status::failed_precondition(text),
        _ => Status::invalid_argument(text),
    }
}

#[tonic::async_trait]
impl Switcher for SwitcherService {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let document = self.0.status();
        let document_json = serde_json::to_string(&document).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(StatusResponse { document_json }))
    }

    async fn add(&self, request: Request<AddRequest>) -> Changed {
        let config = upstream(&request.into_inner())?;
        let name = config.name.clone();
        self.0.pool.add(config).map_err(|error| refused(&error))?;
        Ok(changed(format!("added {name}; it serves once it has been found fit")))
    }

    async fn remove(&self, request: Request<UpstreamRequest>) -> Changed {
        let UpstreamRequest { name } = request.into_inner();
        self.0.pool.remove(&name).map_err(|error| refused(&error))?;
        Ok(changed(format!("removed {name}; requests in progress are finished")))
    }

    async fn drain(&self, request: Request<UpstreamRequest>) -> Changed {
        let UpstreamRequest { name } = request.into_inner();
        self.0.pool.drain(&name).map_err(|error| refused(&error))?;
        Ok(changed(format!("draining {name}: it is asked nothing new")))
    }

    async fn undrain(&self, request: Request<UpstreamRequest>) -> Changed {
        let UpstreamRequest { name } = request.into_inner();
        self.0.pool.undrain(&name).map_err(|error| refused(&error))?;
        Ok(changed(format!("{name} is used again once it has been told what it missed")))
    }

    async fn prefer(&self, request: Request<PreferRequest>) -> Changed {
        let PreferRequest { name } = request.into_inner();
        self.0.pool.prefer(name.as_deref()).map_err(|error| refused(&error))?;
        Ok(changed(match name {
            Some(name) => format!("{name} comes first among nodes as healthy as it is"),
            None => "no node is preferred".to_owned(),
        }))
    }
}

/// A further node.
fn upstream(request: &AddRequest) -> Result<UpstreamConfig, Status> {
    let invalid = |error: &(dyn std::error::Error + 'static)| Status::invalid_argument(chain(error));
    let mut config = UpstreamConfig::from_url(&request.url).map_err(|error| invalid(&error))?;
    if let Some(name) = &request.name {
        config.name = UpstreamName::new(name.clone()).map_err(|error| invalid(&error))?;
    }
    if let Some(weight) = request.weight {
        let weight = u16::try_from(weight).ok().and_then(NonZeroU16::new);
        config.weight = Weight(weight.ok_or_else(|| Status::invalid_argument("a weight is from 1 to 65535"))?);
    }
    config.tier =
        PriorityTier(u8::try_from(request.tier).map_err(|_| Status::invalid_argument("a tier is from 0 to 255"))?);
    if !request.roles.is_empty() {
        let roles: Option<Roles> = request.roles().map(role).collect();
        config.roles = roles.ok_or_else(|| Status::invalid_argument("a role is missing its name"))?;
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
            AddRequest { roles: vec![Role::Unspecified.into()], ..good },
        ] {
            let refused = upstream(&bad).unwrap_err();
            assert!(!refused.message().contains("hunter2"), "{refused:?}");
        }
    }
}
