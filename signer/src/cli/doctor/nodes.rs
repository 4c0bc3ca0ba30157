//! The consensus clients the switcher stands in front of: whether each answers, and for the right chain.

use std::sync::Arc;
use std::time::Duration;

use holdfast_beacon::{EndpointClass, ExpectedNetwork, Genesis, Upstream, UpstreamRequest};
use holdfast_domain::Network;
use hyper::http::uri::PathAndQuery;

use super::Finding;
use crate::config::Config;
use crate::outcome::chain;
use crate::switcher::{consensus, expected_by_signer};

/// Longest time for a node's answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Far more than a genesis takes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A finding for each node, where the switcher is on.
pub(super) async fn consensus_nodes(config: &Config, network: Option<&Network>) -> Vec<Finding> {
    if !config.switcher.enabled {
        return Vec::new();
    }
    let expected = network.map(expected_by_signer);
    let mut findings = Vec::new();
    for entry in config.consensus_nodes() {
        let upstream = match consensus(&entry) {
            Ok(upstream) => upstream,
            Err(error) => {
                findings.push(Finding::fail("beacon", chain(&error), "correct it in the configuration"));
                continue;
            }
        };
        let name = upstream.name.to_string();
        // Certificates and headers are looked at before anything is sent.
        let upstream = match Upstream::standalone(upstream) {
            Ok(upstream) => upstream,
            Err(error) => {
                let evidence = format!("{name}: {}", chain(&error));
                findings.push(Finding::fail("beacon", evidence, "correct it in the configuration"));
                continue;
            }
        };
        findings.push(match genesis(&upstream).await {
            Ok(genesis) => judge(&name, &genesis, expected.as_ref()),
            Err(problem) => Finding::warn(
                "beacon",
                format!("{name}: {problem}"),
                "check its address, its credentials and that it runs; the switcher takes it in when it answers",
            ),
        });
    }
    findings
}

/// Asks as the switcher does, with the node's credentials and certificates.
async fn genesis(upstream: &Arc<Upstream>) -> Result<Genesis, String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        data: Genesis,
    }
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    let path = PathAndQuery::from_static("/eth/v1/beacon/genesis");
    let request = UpstreamRequest::get_json(path, EndpointClass::NodeInfo);
    let answer = upstream.call(request, deadline).await.map_err(|error| chain(&error))?;
    let status = answer.status;
    let answer = answer.collect(MAX_ANSWER_BYTES, deadline).await.map_err(|error| chain(&error))?;
    if !status.is_success() {
        return Err(format!("answered {status} to the question for its genesis"));
    }
    let answer: Answer =
        serde_json::from_slice(&answer.body).map_err(|_| "its genesis is not what the Beacon API says".to_owned())?;
    Ok(answer.data)
}

fn judge(name: &str, genesis: &Genesis, expected: Option<&ExpectedNetwork>) -> Finding {
    let root = genesis.genesis_validators_root;
    let wrong = expected.and_then(|expected| expected.genesis_validators_root).is_some_and(|expected| expected != root);
    if wrong {
        return Finding::fail(
            "beacon",
            format!("{name} is on another chain, with genesis validators root {root}"),
            "take it out, or name its network with --network",
        );
    }
    Finding::fine("beacon", format!("{name} answers, genesis validators root {root}"))
}

#[cfg(test)]
mod tests {
    use holdfast_domain::GenesisValidatorsRoot;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_node_of_another_chain_fails() {
        let network = Network::builtin("hoodi").unwrap();
        let expected = expected_by_signer(&network);
        let mut genesis = Genesis {
            genesis_time_seconds: 1,
            genesis_validators_root: network.genesis_validators_root.unwrap(),
            genesis_fork_version: network.genesis_fork_version(),
        };
        assert_eq!(judge("a", &genesis, Some(&expected)).verdict, Verdict::Fine);
        assert_eq!(judge("a", &genesis, None).verdict, Verdict::Fine);
        genesis.genesis_validators_root = GenesisValidatorsRoot([9; 32]);
        assert_eq!(judge("a", &genesis, Some(&expected)).verdict, Verdict::Fail);
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_is_a_warning_without_its_password() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut config = Config::default();
        assert!(consensus_nodes(&config, None).await.is_empty());
        config.switcher.enabled = true;
        config.network.beacon = vec![format!("http://u:hunter2@{address}").parse().unwrap()];
        let findings = consensus_nodes(&config, None).await;
        assert_eq!((findings.len(), findings[0].verdict), (1, Verdict::Warn));
        assert!(!findings[0].line().contains("hunter2"), "{}", findings[0].line());
    }
}
