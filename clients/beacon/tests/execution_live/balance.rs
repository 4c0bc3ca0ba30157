//! Turns among execution clients, through real sockets.
//!
//! Counts are exact or bounded far from the limit; no time is asserted.

use std::num::NonZeroU16;
use std::time::Duration;

use holdfast_beacon::{Policy, Weight};

use super::call;
use super::execution_nodes::{ask, http_node, named, node_config, pool, raw, replies, serving, times_called};

#[tokio::test]
async fn weights_of_three_to_one_share_three_to_one() {
    let (a, b) = (http_node(|_| raw("\"a\"")).await, http_node(|_| raw("\"b\"")).await);
    let mut heavy = named("a", &a);
    heavy.upstream.weight = Weight(NonZeroU16::new(3).unwrap());
    let server = serving(pool(vec![heavy, node_config(&b)], Policy::Weighted).await).await;
    for _ in 0..200 {
        ask(server.address, &call("eth_call")).await;
    }
    let shares = (times_called(&a, "eth_call"), times_called(&b, "eth_call"));
    assert_eq!(shares, (150, 50));
}

#[tokio::test]
async fn a_node_slowed_by_300_ms_gets_little_of_dynamic_turns() {
    let (fast, slow) = (http_node(|_| raw("\"fast\"")).await, http_node(|_| raw("\"slow\"")).await);
    slow.script("POST /", |seen| replies(seen, &|_: &str| raw("\"slow\"")).after(Duration::from_millis(300)));
    let server = serving(pool(vec![named("fast", &fast), named("slow", &slow)], Policy::Dynamic).await).await;
    for _ in 0..200 {
        ask(server.address, &call("eth_call")).await;
    }
    let shares = (times_called(&fast, "eth_call"), times_called(&slow, "eth_call"));
    assert!(shares.1 * 100 < 15 * 200, "{shares:?}");
    assert_eq!(shares.0 + shares.1, 200);
}

#[tokio::test]
async fn a_node_behind_a_path_is_asked_at_that_path() {
    let node = http_node(|_| raw("\"x\"")).await;
    node.script("POST /v3/key", |seen| replies(seen, &|_: &str| raw("\"keyed\"")));
    let mut config = named("x", &node);
    config.upstream.url = format!("{}/v3/key", node.url()).parse().unwrap();
    let server = serving(pool(vec![config], Policy::BestFirst).await).await;
    assert_eq!(ask(server.address, &call("eth_call")).await["result"], "keyed");
}
