//! Every row of the routing table: how many of three healthy nodes are asked, and what the client gets.

use holdfast_beacon::route::table::{Endpoint, Semantic};
use holdfast_beacon::route::{BulkAccess, RoutingConfig, UnknownRoutes};
use holdfast_beacon::{Upstream, UpstreamConfig, UpstreamName};

use crate::attestation::{data_json, payload_json};
use crate::produce::block_json;
use crate::scripted::{Answer, Chain, HttpAnswer, ScriptedNode, event_stream, request};
use crate::stage::{ALIKE, Setting, Stage, message};

/// A path of the row and, if it has one, a body.
pub fn example(endpoint: Endpoint, chain: &Chain, slot: u64) -> (String, &'static str) {
    let root = chain.block_root(slot, 0);
    let path = endpoint.patterns()[0]
        .replace("{state_id}", "finalized")
        .replace("{block_id}", "finalized")
        .replace("{epoch}", &(slot / chain.slots_per_epoch).to_string())
        .replace("{slot}", &slot.to_string())
        .replace("{root}", &root)
        .replace("{any}", "1")
        .replace('*', "bootstrap/1");
    let query = match endpoint {
        Endpoint::AttestationData | Endpoint::PayloadAttestationData => format!("?slot={slot}&committee_index=0"),
        Endpoint::AggregateAttestation => format!("?slot={slot}&attestation_data_root={root}&committee_index=0"),
        Endpoint::SyncContribution => format!("?slot={slot}&subcommittee_index=2&beacon_block_root={root}"),
        Endpoint::ProduceV2 | Endpoint::ProduceBlinded | Endpoint::ProduceV3 => "?randao_reveal=0x00".to_owned(),
        Endpoint::ProduceV4 => "?randao_reveal=0x00&include_payload=false".to_owned(),
        Endpoint::Events => "?topics=head".to_owned(),
        _ => String::new(),
    };
    let body = match endpoint {
        Endpoint::CommitteeSubscriptions => {
            r#"[{"validator_index":"1","committee_index":"2","committees_at_slot":"4","slot":"99999","is_aggregator":true}]"#
        }
        Endpoint::SyncSubscriptions => {
            r#"[{"validator_index":"1","sync_committee_indices":["5"],"until_epoch":"99999"}]"#
        }
        Endpoint::PrepareProposer => {
            r#"[{"validator_index":"1","fee_recipient":"0xabababababababababababababababababababab"}]"#
        }
        _ if endpoint.method() == "POST" => r#"["1"]"#,
        _ => "",
    };
    (path + &query, body)
}

/// What a healthy node answers to the row.
fn good(endpoint: Endpoint, chain: &Chain, slot: u64) -> Answer {
    let root = chain.block_root(slot, 0);
    match endpoint {
        Endpoint::AttestationData => Answer::json(data_json(chain, slot, 0, 0)),
        Endpoint::PayloadAttestationData => Answer::json(payload_json(&root, slot, true)),
        Endpoint::AggregateAttestation => Answer::json(crate::submit::aggregate_json(chain, slot, "0x0b")),
        Endpoint::SyncContribution => Answer::json(crate::submit::contribution_json(slot, &root, "0x01")),
        Endpoint::ProduceV2 | Endpoint::ProduceBlinded | Endpoint::ProduceV3 | Endpoint::ProduceV4 => {
            block_json(chain, slot, "aa", 5)
        }
        Endpoint::Liveness => Answer::json(r#"{"data":[{"index":"1","is_live":false}]}"#),
        Endpoint::AttesterDuties | Endpoint::ProposerDutiesV1 | Endpoint::ProposerDutiesV2 | Endpoint::PtcDuties => {
            Answer::json(format!(r#"{{"dependent_root":"{root}","execution_optimistic":false,"data":[]}}"#))
        }
        _ => Answer::json(r#"{"data":{"of":"a node"}}"#).header("eth-consensus-version", "fulu"),
    }
}

/// How many of three nodes must see the row, at least and at most.
fn asked(endpoint: Endpoint) -> std::ops::RangeInclusive<usize> {
    match endpoint.semantic() {
        // The list of headers is the head's.
        Semantic::Freshest if endpoint == Endpoint::Headers => 3..=3,
        // The pool's own probes ask for genesis, spec and forks: only routes of the client's are counted.
        Semantic::Pinned
        | Semantic::Hedged
        | Semantic::HedgedLate
        | Semantic::Freshest
        | Semantic::BestNode
        | Semantic::Bulk => 1..=1,
        // One more is compared in the background, if there is a root to compare.
        Semantic::Duty if endpoint == Endpoint::SyncDuties => 1..=1,
        Semantic::Duty => 2..=2,
        Semantic::VoteAttestation | Semantic::VotePayload => 2..=3,
        Semantic::BestAggregate | Semantic::BestContribution => 3..=3,
        Semantic::Produce
        | Semantic::Broadcast
        | Semantic::PublishBlock
        | Semantic::Prepare
        | Semantic::LivenessUnion => 3..=3,
        // Only c has a builder, and nobody is known as the producer.
        Semantic::PublishBlinded | Semantic::BuilderPinned | Semantic::Register => 1..=1,
        // The rows before have had a block produced.
        Semantic::Producer | Semantic::PublishEnvelope => 1..=1,
        Semantic::Middleware | Semantic::Syncing | Semantic::Health | Semantic::Version => 0..=0,
        Semantic::Events => 3..=3,
    }
}

fn status(endpoint: Endpoint) -> u16 {
    match endpoint.semantic() {
        Semantic::Middleware => 501,
        _ => 200,
    }
}

async fn ask(stage: &Stage, endpoint: Endpoint, path: &str, body: &str) -> HttpAnswer {
    let headers =
        [("accept", "application/json"), ("content-type", "application/json"), ("eth-consensus-version", "fulu")];
    request(stage.address, endpoint.method().as_str(), path, &headers, body.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_reaches_the_nodes_it_should() {
    let routing = RoutingConfig { bulk: BulkAccess::Allow, ..RoutingConfig::default() };
    let stage = Setting { routing, builders: vec!["c"], ..Setting::of(&ALIKE) }.stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    // Probes ask for these, too.
    let probed = |endpoint| {
        matches!(
            endpoint,
            Endpoint::Genesis
                | Endpoint::Spec
                | Endpoint::ForkSchedule
                | Endpoint::DepositContract
                | Endpoint::NodeSyncing
                | Endpoint::NodeVersionV1
                | Endpoint::NodeHealth
                | Endpoint::Events
        )
    };
    for endpoint in Endpoint::ALL.iter().copied() {
        let (path, body) = example(endpoint, &chain, slot);
        let route = format!("{} {}", endpoint.method(), path.split('?').next().unwrap());
        if endpoint == Endpoint::Events {
            let stream = event_stream(stage.address, "head").await;
            for node in &stage.nodes {
                node.wait_streams(1).await;
            }
            drop(stream);
            continue;
        }
        if !probed(endpoint) {
            for node in &stage.nodes {
                node.answer(&route, good(endpoint, &chain, slot));
                node.clear_seen();
            }
        }
        let answer = ask(&stage, endpoint, &path, body).await;
        assert_eq!(answer.status, status(endpoint), "{endpoint:?}: {}", answer.text());
        if answer.status >= 400 {
            assert_eq!(answer.json()["code"], answer.status);
        }
        if !probed(endpoint) {
            let expected = asked(endpoint);
            crate::stage::eventually(
                &format!("{endpoint:?} reaches {expected:?} nodes, not {:?}", stage.counts(&route)),
                || {
                    let reached = stage.counts(&route).iter().filter(|count| **count > 0).count();
                    expected.contains(&reached)
                },
            )
            .await;
        }
    }
}

#[tokio::test]
async fn heavy_and_unknown_routes_are_refused_unless_allowed() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    for (path, status) in [
        ("/eth/v2/debug/beacon/states/head", 403),
        ("/eth/v1/beacon/blob_sidecars/head", 403),
        ("/lighthouse/health", 404),
        ("/eth/v1/keystores", 404),
        ("/eth/v1/beacon/light_client/..%2f..%2fx", 404),
    ] {
        let answer = stage.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(!crate::stage::message(&answer).is_empty());
        assert_eq!(stage.counts(&format!("GET {path}")), [0]);
    }
    let wrong_method = request(stage.address, "DELETE", "/eth/v1/beacon/genesis", &[], b"").await;
    assert_eq!(wrong_method.status, 405);
}

#[tokio::test]
async fn unknown_routes_go_to_the_best_node_if_the_operator_says_so() {
    let routing = RoutingConfig { unknown: UnknownRoutes::Pass, ..RoutingConfig::default() };
    let stage = Setting { routing, ..Setting::of(&ALIKE[..2]) }.stage().await;
    for node in &stage.nodes {
        node.answer("GET /lighthouse/health", Answer::json(r#"{"data":"healthy"}"#));
        node.answer("POST /teku/v1/thing", Answer::error(418, "teapot"));
    }
    let answer = stage.get("/lighthouse/health?x=1").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"data":"healthy"}"#));
    let best = stage.first_to_see("GET /lighthouse/health").await;
    assert_eq!(best.seen("GET /lighthouse/health")[0].query, "x=1");
    assert_eq!(stage.counts("GET /lighthouse/health").iter().sum::<usize>(), 1, "nobody else is asked");
    assert_eq!(stage.post("/teku/v1/thing", "{}").await.status, 418, "and its word is the answer");
    // What is in the table keeps its rules.
    assert_eq!(stage.get("/eth/v2/debug/beacon/states/head").await.status, 403);
}

#[tokio::test]
async fn selections_of_a_distributed_validator_go_to_its_middleware_and_to_nobody_else() {
    const PATH: &str = "/eth/v1/validator/beacon_committee_selections";
    let route = format!("POST {PATH}");
    let mut setting = Setting::of(&ALIKE[..2]);
    let middleware = ScriptedNode::start("charon", "charon/v1", &setting.chain).await;
    let config = UpstreamConfig::new(UpstreamName::new("charon").unwrap(), middleware.url().parse().unwrap());
    setting.middleware = Some(Upstream::standalone(config).unwrap());
    let stage = setting.stage().await;
    let whole = r#"{"data":[{"validator_index":"1","slot":"2","selection_proof":"0xaa"}]}"#;
    middleware.answer(&route, Answer::json(whole));
    let answer = stage.post(PATH, "[]").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, whole));
    middleware.answer(&route, Answer::json("not json"));
    assert_eq!(stage.post(PATH, "[]").await.status, 503);
    middleware.answer(&route, Answer::error(400, "bad proof"));
    let refused = stage.post(PATH, "[]").await;
    assert_eq!((refused.status, message(&refused).as_str()), (400, "bad proof"));
    assert_eq!(middleware.seen(&route).len(), 3);
    assert_eq!(stage.counts(&route), [0, 0], "no beacon node is asked");
}
