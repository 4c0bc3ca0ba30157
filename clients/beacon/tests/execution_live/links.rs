//! Nodes' WebSocket APIs over TLS, with credentials, and when they are not as they should be.

use std::time::Duration;

use holdfast_beacon::execution::{ExecutionNodeConfig, ExecutionPool};
use holdfast_beacon::{Auth, Policy, TlsOptions, TrustRoots};
use serde_json::json;
use tokio::net::TcpListener;

use super::certificates::Certificates;
use super::execution_nodes::{EventNode, client, exchange, http_node, named, next_text, pool, raw, serving, until};
use super::subscribe;

/// A node whose WebSocket API is at `url` and is judged by `authority`.
async fn node(url: &str, authority: &[u8]) -> (super::scripted::ScriptedNode, ExecutionNodeConfig) {
    let http = http_node(|_| raw("\"0x1\"")).await;
    let mut config = named("x", &http);
    config.websocket = Some(url.parse().unwrap());
    config.upstream.tls = TlsOptions { roots: TrustRoots::OwnOnly, own_ca_pem: authority.to_vec() };
    (http, config)
}

async fn websocket_error(pool: &ExecutionPool) -> String {
    until(pool, "x", |node| node.websocket_error.is_some()).await.websocket_error.unwrap()
}

#[tokio::test]
async fn subscriptions_run_over_tls_with_the_node_s_credentials() {
    let certificates = Certificates::make();
    let events = EventNode::start_tls(certificates.acceptor()).await;
    let url = format!("wss://u:pw@localhost:{}/key", events.port());
    let (_http, config) = node(&url, &certificates.authority).await;
    let mut with_token = config.clone();
    with_token.upstream.auth = Some(Auth::Bearer(holdfast_secret::SecretText::new("tok")));
    for (config, authorization) in [(config, "Basic dTpwdw=="), (with_token, "Bearer tok")] {
        let pool = pool(vec![config], Policy::BestFirst).await;
        let server = serving(std::sync::Arc::clone(&pool)).await;
        let mut socket = client(server.address).await;
        let id = exchange(&mut socket, &subscribe(1)).await["result"].clone();
        assert!(id.is_string(), "{id}");
        let subscription = events.subscription().await;
        assert_eq!(subscription.params, json!(["newHeads"]));
        assert_eq!(subscription.authorization.as_deref(), Some(authorization));
        events.notify("\"block\"");
        let told = next_text(&mut socket).await;
        assert_eq!((&told["params"]["subscription"], &told["params"]["result"]), (&id, &json!("block")));
        let status = until(&pool, "x", |node| node.health == "healthy").await;
        assert_eq!(status.websocket_error, None);
        assert_eq!(status.websocket_url.unwrap(), format!("wss://localhost:{}/key", events.port()), "no password");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_and_nothing_is_sent() {
    let (certificates, others) = (Certificates::make(), Certificates::make());
    let events = EventNode::start_tls(certificates.acceptor()).await;
    let (_http, config) = node(&format!("wss://localhost:{}", events.port()), &others.authority).await;
    let strange_authority = pool(vec![config], Policy::BestFirst).await;
    let said = websocket_error(&strange_authority).await;
    assert!(said.contains("certificate of the WebSocket API is not accepted") && said.contains("ca_file"), "{said}");
    assert!(said.contains("invalid peer certificate"), "{said}");

    let (_http, config) = node(&format!("wss://127.0.0.1:{}", events.port()), &certificates.authority).await;
    let strange_name = pool(vec![config], Policy::BestFirst).await;
    let said = websocket_error(&strange_name).await;
    assert!(said.contains("certificate of the WebSocket API is not accepted"), "another name: {said}");

    let server = serving(strange_authority).await;
    let refused = exchange(&mut client(server.address).await, &subscribe(1)).await;
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("no execution client with a WebSocket API can be reached"), "{message}");
}

#[tokio::test]
async fn what_does_not_speak_as_it_should_is_told_and_another_node_serves() {
    let certificates = Certificates::make();
    let plain = EventNode::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (silent.local_addr().unwrap().port(), silent);
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let web = http_node(|_| raw("\"0x1\"")).await;
    web.answer("GET /", super::scripted::Answer::status(401));
    for (url, words) in [
        (format!("wss://localhost:{}", plain.port()), "does not speak TLS"),
        (format!("ws://localhost:{}", silent.0), "within 2 s"),
        (format!("wss://localhost:{}", silent.0), "within 2 s"),
        (format!("wss://localhost:{closed}"), "no connection to the WebSocket API"),
        (format!("ws://{}", web.address()), "answered 401 to the WebSocket handshake; check the user"),
    ] {
        let (_http, config) = node(&url, &certificates.authority).await;
        let good_http = http_node(|_| raw("\"0x1\"")).await;
        let good_events = EventNode::start().await;
        let good = good_events.next_to(named("good", &good_http));
        let pool = pool(vec![config, good], Policy::BestFirst).await;
        let said = websocket_error(&pool).await;
        assert!(said.contains(words), "{url}: {said}");
        let server = serving(pool).await;
        let mut socket = client(server.address).await;
        assert!(exchange(&mut socket, &subscribe(1)).await["result"].is_string(), "{url}");
        let took = tokio::time::timeout(Duration::from_secs(20), good_events.subscribed()).await.unwrap();
        assert_eq!(took, json!(["newHeads"]), "{url}");
    }
}
