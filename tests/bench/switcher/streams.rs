//! Very many event streams: how soon each client is told, what a stream costs in memory, and how many streams the nodes
//! have to hold open for them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use holdfast_tests::beacon_nodes::Nodes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::Plan;
use super::front::{Front, wait_until};
use super::latency::quantile;
use crate::burst::runtime;

/// Between two heads.
const EVENT_EVERY: Duration = Duration::from_millis(250);
/// How long it may take until all streams are open, or all clients are told.
const LIMIT: Duration = Duration::from_secs(30);
/// Streams that are being opened at a time.
const AT_ONCE: usize = 50;
/// Every so many streams, one asks for a topic beyond those every client asks for.
const EXTRA_TOPIC_EVERY: usize = 10;

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// By head, the moment it was told: how long after it each client was told, in milliseconds.
    by_head: HashMap<u64, Vec<f64>>,
    /// Streams that have brought something.
    open: usize,
    /// Streams that have ended.
    ended: usize,
    /// What was answered instead of a stream.
    refused: Option<String>,
}

/// Prints delivery times, memory per stream and the nodes' streams.
pub(super) fn measure(plan: &Plan, nodes: &Nodes, fronts: &[Front]) {
    for front in fronts {
        // The switcher's own, and none of clients that have left.
        wait_until("streams end with their clients", || nodes.streams().iter().all(|count| *count == 1));
        let before = front.memory();
        let mut held = runtime().block_on(LocalSet::new().run_until(hold(plan, nodes, front)));
        print!(
            "{:<28} {:<9} {} streams, {} heads, each told to all; p50 {:.2} ms, p99 {:.2} ms after the nodes sent it",
            "event streams",
            front.name,
            plan.streams,
            plan.events,
            quantile(&mut held.delays, 0.5),
            quantile(&mut held.delays, 0.99)
        );
        if front.is_process() {
            let each = held.memory.saturating_sub(before) as f64 / plan.streams as f64;
            print!("; {each:.1} KiB of memory per stream");
        }
        // The switcher's own are there in any case.
        let own = usize::from(!front.is_switcher());
        let streams: Vec<usize> = held.streams.iter().map(|count| count - own).collect();
        println!("; streams at the nodes {streams:?}");
        if front.is_switcher() {
            // The core topics, and the one beyond them: one stream each, however many clients there are.
            assert!(streams.iter().all(|count| *count == 2), "more than one stream per node and group of topics");
        }
    }
}

/// What holding the streams open showed.
struct Held {
    delays: Vec<f64>,
    /// At the nodes.
    streams: Vec<usize>,
    /// Of the front, in KiB.
    memory: u64,
}

async fn hold(plan: &Plan, nodes: &Nodes, front: &Front) -> Held {
    let seen = Rc::new(RefCell::new(Seen::default()));
    for number in 0..plan.streams {
        // Not all at once: queues of new connections are short everywhere.
        until("streams are open", &seen, |seen| seen.open + AT_ONCE > number).await;
        let stream = open(front.address, number).await;
        tokio::task::spawn_local(read(stream, nodes.started(), Rc::clone(&seen)));
    }
    until("every stream is open", &seen, |seen| seen.open == plan.streams).await;
    let mut told = Vec::new();
    for _ in 0..plan.events {
        tokio::time::sleep(EVENT_EVERY).await;
        told.push(nodes.tell_head());
    }
    let reached = |seen: &Seen, head| seen.by_head.get(head).is_some_and(|delays| delays.len() == plan.streams);
    until("every client is told of every head", &seen, |seen| told.iter().all(|head| reached(seen, head))).await;
    let seen = seen.borrow();
    let delays = told.iter().flat_map(|head| seen.by_head[head].iter().copied()).collect();
    Held { delays, streams: nodes.streams(), memory: front.memory() }
}

async fn until(what: &str, seen: &RefCell<Seen>, holds: impl Fn(&Seen) -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds(&seen.borrow()) {
        assert_eq!((seen.borrow().ended, &seen.borrow().refused), (0, &None), "streams have ended");
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}; {} are open", seen.borrow().open);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(address: SocketAddr, number: usize) -> TcpStream {
    let extra = if number.is_multiple_of(EXTRA_TOPIC_EVERY) { ",voluntary_exit" } else { "" };
    let request = format!(
        "GET /eth/v1/events?topics=head,block{extra} HTTP/1.1\r\nHost: beacon\r\nAccept: text/event-stream\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("a request is sent");
    stream
}

/// Reads a stream to its end and notes when heads come.
async fn read(mut stream: TcpStream, started: Instant, seen: Rc<RefCell<Seen>>) {
    let mut buffer: Vec<u8> = Vec::new();
    let (mut first, mut is_head) = (true, false);
    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        let now = started.elapsed();
        let mut begin = 0;
        while let Some(length) = buffer[begin..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&buffer[begin..begin + length]);
            begin += length + 1;
            if line.starts_with("HTTP/1.1 ") && !line.starts_with("HTTP/1.1 200") {
                seen.borrow_mut().refused = Some(line.trim().to_owned());
            } else if let Some(topic) = line.strip_prefix("event:") {
                is_head = topic.trim() == "head";
            } else if is_head && let Some(data) = line.strip_prefix("data:") {
                let sent = sent_at(data);
                let delay = now.saturating_sub(Duration::from_nanos(sent)).as_secs_f64() * 1e3;
                seen.borrow_mut().by_head.entry(sent).or_default().push(delay);
            } else if first && line.starts_with(':') {
                // The comment that every stream begins with.
                first = false;
                seen.borrow_mut().open += 1;
            }
        }
        buffer.drain(..begin);
    }
    seen.borrow_mut().ended += 1;
}

fn sent_at(data: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(data).expect("an event is JSON");
    value["sent_at"].as_str().and_then(|text| text.parse().ok()).expect("the nodes say when they sent it")
}
