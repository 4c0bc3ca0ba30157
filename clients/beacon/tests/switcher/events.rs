//! The event stream: merged, once each, through deaths and silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use holdfast_beacon::{Eligibility, EndpointClass};

use crate::scripted::{Answer, Chain, Sync, event_stream, get};
use crate::stage::{ALIKE, Setting, Stage, eventually, head_event as head, message};

const ROUTE: &str = "GET /eth/v1/events";

async fn listening(stage: &Stage) {
    for node in &stage.nodes {
        node.wait_streams(1).await;
    }
}

#[tokio::test]
async fn each_event_is_told_once_by_whoever_is_first() {
    let stage = Setting::of(&ALIKE).stage().await;
    listening(&stage).await;
    let chain = stage.nodes[0].chain().clone();
    // The present head was told when the stage was set up.
    let slot = chain.slot() + 1;
    let mut client = event_stream(stage.address, "head,voluntary_exit").await;
    for node in &stage.nodes {
        node.wait_streams(2).await;
        node.event("head", &head(&chain, slot, 0));
    }
    stage.node("b").event("voluntary_exit", r#"{"message":1}"#);
    assert_eq!(client.next().await, Some(("head".to_owned(), head(&chain, slot, 0))));
    assert_eq!(client.next().await, Some(("voluntary_exit".to_owned(), r#"{"message":1}"#.to_owned())));
    stage.node("c").event("head", &head(&chain, slot + 1, 0));
    assert_eq!(client.next().await.unwrap().1, head(&chain, slot + 1, 0), "no repetition in between");
    // The topic beyond the core is given up with its last client.
    drop(client);
    for node in &stage.nodes {
        node.event("voluntary_exit", r#"{"message":2}"#);
    }
    listening(&stage).await;
}

/// Lists are understood by some clients only; Prysm, Caplin and Lodestar 1.5 take one for a topic that they do not know.
#[tokio::test]
async fn nodes_are_asked_for_each_topic_by_itself() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    listening(&stage).await;
    let asked = stage.node("a").wait_seen(ROUTE, 1).await;
    let query = asked.first().map(|seen| seen.query.as_str());
    assert_eq!(query, Some("topics=head&topics=block&topics=chain_reorg&topics=finalized_checkpoint"));
}

#[tokio::test]
async fn a_stream_survives_the_death_of_its_nodes() {
    let mut stage = Setting::of(&ALIKE[..2]).stage().await;
    listening(&stage).await;
    let chain = stage.nodes[0].chain().clone();
    // The present head was told when the stage was set up.
    let slot = chain.slot() + 1;
    let mut client = event_stream(stage.address, "head").await;
    stage.node_mut("a").kill().await;
    stage.node("b").event("head", &head(&chain, slot, 0));
    assert_eq!(client.next().await.unwrap().1, head(&chain, slot, 0));
    stage.node_mut("b").kill().await;
    stage.node_mut("a").revive().await;
    stage.node("a").wait_streams(1).await;
    stage.until("a", EndpointClass::HotRead, Eligibility::Yes).await;
    stage.node("a").event("head", &head(&chain, slot + 1, 0));
    assert_eq!(client.next().await.unwrap().1, head(&chain, slot + 1, 0));
}

#[tokio::test]
async fn heads_of_optimistic_nodes_are_not_told() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    listening(&stage).await;
    let chain = stage.nodes[0].chain().clone();
    // The present head was told when the stage was set up.
    let slot = chain.slot() + 1;
    stage.node("a").set_sync(Sync { is_optimistic: true, ..Sync::default() });
    eventually("a leads no more", || stage.eligibility("a", EndpointClass::HotRead) != Eligibility::Yes).await;
    let mut client = event_stream(stage.address, "head").await;
    stage.node("a").event("head", &head(&chain, slot, 5));
    stage.node("b").event("head", &head(&chain, slot, 0));
    assert_eq!(client.next().await.unwrap().1, head(&chain, slot, 0));
}

#[tokio::test]
async fn pieces_of_a_record_are_put_together() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    listening(&stage).await;
    let mut client = event_stream(stage.address, "head").await;
    let chain = stage.nodes[0].chain().clone();
    let record = format!("event: head\r\ndata: {}\r\n\r\n: keep-alive\r\n\r\n", head(&chain, 5, 0));
    for piece in record.as_bytes().chunks(7) {
        // A node's own line endings and any cut.
        stage.node("a").raw_event(std::str::from_utf8(piece).unwrap());
    }
    assert_eq!(client.next().await.unwrap().1, head(&chain, 5, 0));
}

#[tokio::test]
async fn topics_that_do_not_exist_or_nobody_offers_are_refused() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    for query in ["?topics=nonsense", "?topics=head,nonsense", ""] {
        let answer = get(stage.address, &format!("/eth/v1/events{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        message(&answer);
    }
    for node in &stage.nodes {
        node.script(ROUTE, |seen| {
            if seen.query.contains("fast_confirmation") {
                Answer::error(400, "unknown topic")
            } else {
                Answer::events()
            }
        });
    }
    let answer = get(stage.address, "/eth/v1/events?topics=head,fast_confirmation").await;
    assert_eq!(answer.status, 400);
    assert!(message(&answer).contains("fast_confirmation"));
}

#[tokio::test]
async fn clients_that_come_again_and_again_leave_one_listener_per_topic() {
    let chain = Chain { seconds_per_slot: 1, ..Chain::aged(12_000) };
    let stage = Setting { chain, ..Setting::of(&ALIKE[..1]) }.stage().await;
    let chain = stage.nodes[0].chain().clone();
    let (ready, refused, opened) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (is_ready, counts_refused, counts_opened) = (Arc::clone(&ready), Arc::clone(&refused), Arc::clone(&opened));
    stage.node("a").script(ROUTE, move |seen| {
        if !seen.query.contains("voluntary_exit") {
            return Answer::events();
        }
        if is_ready.load(Ordering::SeqCst) {
            counts_opened.fetch_add(1, Ordering::SeqCst);
            Answer::events()
        } else {
            counts_refused.fetch_add(1, Ordering::SeqCst);
            Answer::error(503, "starting")
        }
    });
    // Each leaves while the topic is about to be tried again.
    for _ in 0..5 {
        let before = refused.load(Ordering::SeqCst);
        let client = event_stream(stage.address, "voluntary_exit").await;
        eventually("it is tried for this client", || refused.load(Ordering::SeqCst) > before).await;
        drop(client);
        eventually("it has left", || stage.switcher.events().clients() == 0).await;
    }
    ready.store(true, Ordering::SeqCst);
    let client = event_stream(stage.address, "voluntary_exit").await;
    eventually("the topic is open", || opened.load(Ordering::SeqCst) > 0).await;
    let slot = chain.slot();
    eventually("whoever slept is awake", || chain.slot() > slot + 1).await;
    assert_eq!(opened.load(Ordering::SeqCst), 1, "nobody else listens");
    // Given up with its last client, and there again for the next. Without a byte the core's stream would be opened anew just now.
    stage.node("a").raw_event(": alive\n\n");
    stage.node("a").wait_streams(2).await;
    drop(client);
    stage.node("a").wait_streams(1).await;
    let _client = event_stream(stage.address, "voluntary_exit").await;
    eventually("the topic is open", || opened.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn a_silent_stream_is_opened_again() {
    // lighthouse#8741, lodestar#6180: the stream is open, and nothing comes.
    let chain = Chain { seconds_per_slot: 1, ..Chain::aged(12_000) };
    let stage = Setting { chain, ..Setting::of(&ALIKE[..1]) }.stage().await;
    stage.node("a").wait_seen(ROUTE, 1).await;
    stage.node("a").wait_seen(ROUTE, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_all_get_the_event() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    listening(&stage).await;
    let chain = stage.nodes[0].chain().clone();
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(event_stream(stage.address, "head").await);
    }
    assert_eq!(stage.switcher.events().clients(), 1000);
    assert_eq!((stage.node("a").open_streams(), stage.node("b").open_streams()), (1, 1), "nodes see one stream each");
    stage.node("a").event("head", &head(&chain, chain.slot() + 1, 0));
    for client in &mut clients {
        assert_eq!(client.next().await.unwrap().0, "head");
    }
    drop(clients);
    eventually("clients that left are forgotten", || stage.switcher.events().clients() == 0).await;
}
