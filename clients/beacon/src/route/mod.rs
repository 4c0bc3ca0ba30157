//! What a request means, and what is done about it: the routing table and one file per semantic.
//!
//! Why it exists: each endpoint of the Beacon API has its own right answer when nodes disagree. What it
//! guarantees: which nodes are asked is decided by the endpoint alone, through the table; the pure parts (votes,
//! merges, weights) know no network; whatever goes wrong, the client gets an answer of the Beacon API's form.

pub mod attestation;
mod best;
pub mod block;
mod bulk;
mod capability;
mod config;
mod duty;
mod fan;
mod hedge;
mod judge;
pub mod liveness;
pub mod merge;
mod middleware;
pub mod path;
mod pinned;
mod produce;
mod producers;
mod publish;
mod reads;
pub mod request;
mod submit;
mod synthetic;
pub mod table;
mod union;
pub mod vote;
mod voting;
pub mod weigh;

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::sync::Semaphore;

pub use config::{BulkAccess, LivenessRequired, NoQuorum, PayloadInclusion, RoutingConfig, UnknownRoutes};

use self::capability::Capabilities;
use self::duty::DutyChoices;
use self::pinned::PinnedAnswers;
use self::producers::Producers;
use self::request::{ClientAnswer, ClientBody, ClientRequest};
use self::table::{Endpoint, Matched, NoMatch, Semantic, find};
use self::voting::VotedAnswers;
use crate::events::EventHub;
use crate::pool::Pool;
use crate::prepare::Preparations;
use crate::upstream::Upstream;

/// While no network is known: as on mainnet.
const SLOT_IF_UNKNOWN: Duration = Duration::from_secs(12);

/// One endpoint in front of many nodes.
pub struct Switcher {
    pool: Arc<Pool>,
    config: RoutingConfig,
    events: Arc<EventHub>,
    preparations: Arc<Preparations>,
    pinned: PinnedAnswers,
    voted: VotedAnswers,
    duties: DutyChoices,
    producers: Producers,
    capabilities: Capabilities,
    bulk: Arc<Semaphore>,
    /// Of a distributed validator: the only one that can aggregate partial selections.
    middleware: Option<Arc<Upstream>>,
}

impl Switcher {
    /// Routes to the nodes of `pool`; background work goes to the pool's tasks. The pool should be started
    /// with [`crate::ReplayGate::Wait`], because this replays.
    pub fn start(pool: &Arc<Pool>, config: RoutingConfig) -> Arc<Self> {
        Self::start_beside(pool, config, None)
    }

    /// As [`Self::start`], with the middleware of a distributed validator beside the nodes, if there is one.
    pub fn start_beside(pool: &Arc<Pool>, config: RoutingConfig, middleware: Option<Arc<Upstream>>) -> Arc<Self> {
        Arc::new(Self {
            middleware,
            pool: Arc::clone(pool),
            events: EventHub::start(pool),
            preparations: Preparations::start(pool),
            pinned: PinnedAnswers::default(),
            voted: VotedAnswers::default(),
            duties: DutyChoices::default(),
            producers: Producers::default(),
            capabilities: Capabilities::default(),
            bulk: Arc::new(Semaphore::new(config.bulk_at_once.clamp(1, Semaphore::MAX_PERMITS))),
            config,
        })
    }

    /// The pool it routes to.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The merged events.
    pub fn events(&self) -> &Arc<EventHub> {
        &self.events
    }

    /// Remembered subscriptions.
    pub fn preparations(&self) -> &Arc<Preparations> {
        &self.preparations
    }

    /// Answers a request. Whatever happens, there is an answer.
    pub async fn answer(self: &Arc<Self>, request: ClientRequest) -> ClientAnswer {
        let head_only = request.method == Method::HEAD;
        let answer = match find(&request.method, request.path()) {
            Ok(matched) => self.route(matched, request).await,
            Err(NoMatch::Unknown { path }) => self.unknown(NoMatch::Unknown { path }, &request).await,
            Err(error @ NoMatch::Method { .. }) => {
                ClientAnswer::error(StatusCode::METHOD_NOT_ALLOWED, error.to_string())
            }
            Err(error @ NoMatch::Parameter { .. }) => ClientAnswer::error(StatusCode::BAD_REQUEST, error.to_string()),
        };
        if head_only { ClientAnswer { body: ClientBody::Whole(None), ..answer } } else { answer }
    }

    async fn route(self: &Arc<Self>, matched: Matched, request: ClientRequest) -> ClientAnswer {
        let endpoint = matched.endpoint;
        if let Some(refused) = refuse_form(endpoint, &request) {
            return refused;
        }
        match endpoint.semantic() {
            Semantic::Pinned => self.pinned_answer(endpoint, &request).await,
            Semantic::Hedged | Semantic::HedgedLate => self.read(&matched, request).await,
            Semantic::Freshest => self.freshest(&matched, request).await,
            Semantic::Duty => self.duty(&matched, request).await,
            Semantic::VoteAttestation => self.vote_attestation(endpoint, &request).await,
            Semantic::VotePayload => self.vote_payload(endpoint, &request).await,
            Semantic::BestAggregate | Semantic::BestContribution => self.best(endpoint, &request).await,
            Semantic::Produce => self.produce(&matched, request).await,
            Semantic::Broadcast => self.submit(endpoint, &request).await,
            Semantic::PublishBlock => self.publish_block(endpoint, &request).await,
            Semantic::PublishBlinded => self.publish_blinded(endpoint, &request).await,
            Semantic::PublishEnvelope => self.publish_envelope(endpoint, &request).await,
            Semantic::Producer => self.read_from_producer(&matched, &request).await,
            Semantic::BuilderPinned => self.builder(endpoint, &request).await,
            Semantic::Prepare => self.prepare(endpoint, &request).await,
            Semantic::Register => self.register(endpoint, &request).await,
            Semantic::Middleware => self.ask_middleware(endpoint, &request).await,
            Semantic::LivenessUnion => self.liveness(endpoint, &request).await,
            Semantic::Events => self.event_stream(&request).await,
            Semantic::Syncing => self.node_syncing(),
            Semantic::Health => self.node_health(&request),
            Semantic::Version => self.node_version(endpoint),
            Semantic::BestNode => self.best_node(endpoint.class(), &request).await,
            Semantic::Bulk => self.bulk(endpoint, &request).await,
        }
    }

    async fn event_stream(&self, request: &ClientRequest) -> ClientAnswer {
        match self.events.subscribe(request.query()).await {
            Ok(stream) => ClientAnswer::events(stream),
            Err(error) => ClientAnswer::error(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }

    /// Length of a slot.
    fn slot_length(&self) -> Duration {
        self.pool.network().map_or(SLOT_IF_UNKNOWN, |network| network.timing().slot())
    }
}

/// 415 for a body the endpoint never takes, before any node is bothered; 406 for an answer it never gives.
fn refuse_form(endpoint: Endpoint, request: &ClientRequest) -> Option<ClientAnswer> {
    use self::attestation::Form;
    if endpoint.method() == Method::POST {
        match request.form() {
            Some(Form::Json) => {}
            Some(Form::Ssz) if endpoint.ssz().in_request() => {}
            Some(Form::Ssz) => {
                let message = "this endpoint takes JSON only: send Content-Type: application/json";
                return Some(ClientAnswer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
            None => {
                let message =
                    "send Content-Type: application/json, or application/octet-stream where the Beacon API allows SSZ";
                return Some(ClientAnswer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
        }
    }
    let answers = match endpoint.semantic() {
        // Status codes and streams are no form.
        Semantic::Health | Semantic::Events => return None,
        Semantic::Pinned
        | Semantic::Hedged
        | Semantic::HedgedLate
        | Semantic::Freshest
        | Semantic::Duty
        | Semantic::VoteAttestation
        | Semantic::VotePayload
        | Semantic::BestAggregate
        | Semantic::BestContribution
        | Semantic::Produce
        | Semantic::Broadcast
        | Semantic::PublishBlock
        | Semantic::PublishBlinded
        | Semantic::PublishEnvelope
        | Semantic::Producer
        | Semantic::BuilderPinned
        | Semantic::Prepare
        | Semantic::Register
        | Semantic::Middleware
        | Semantic::LivenessUnion
        | Semantic::Syncing
        | Semantic::Version
        | Semantic::BestNode
        | Semantic::Bulk => endpoint.method() == Method::GET,
    };
    let acceptable = request.accepts(Form::Json) > 0 || (endpoint.ssz().in_answer() && request.accepts(Form::Ssz) > 0);
    (answers && !acceptable).then(|| {
        let message = "nothing in Accept is given here: send Accept: application/json";
        ClientAnswer::error(StatusCode::NOT_ACCEPTABLE, message)
    })
}
