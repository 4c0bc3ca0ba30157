//! Proves: whatever was sent before SIGTERM is answered, wherever it was at that moment, and the process then ends
//! by itself with 0; readiness goes at once, and a configured delay goes on serving meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_tests::harness::Server;
use holdfast_tests::http::{Client, Response, once};
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROUNDS: u64 = 50;
/// Clients that send one request after the other, each with a key of its own.
const BUSY: u64 = 4;
/// Requests written last before SIGTERM: half of them on connections that were idle, half on new ones.
const LAST: u64 = 96;

/// Asks for a later vote with each number, so every answer should be a signature.
fn send_vote(client: &mut Client, key: &TestKey, number: u64) -> std::io::Result<()> {
    let target = 1_000 + number;
    let (body, _) = CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, 0);
    send(client, key, &body)
}

fn send(client: &mut Client, key: &TestKey, body: &serde_json::Value) -> std::io::Result<()> {
    let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
    client.send("POST", &format!("/api/v1/eth2/sign/{}", key.public), &headers, body.to_string().as_bytes())
}

fn closes(response: &Response) -> bool {
    response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// What became of the requests of one round.
#[derive(Default)]
struct Tally {
    /// Written before SIGTERM and answered after it.
    in_flight: u64,
    /// Answered in all.
    answered: u64,
    /// Written after SIGTERM on a connection that ended: for the client to send elsewhere.
    turned_away: u64,
    /// Written before SIGTERM and not answered 200.
    lost: Vec<String>,
}

impl Tally {
    fn take(&mut self, outcome: std::io::Result<Response>, sent_before: bool, told: bool) -> Option<Response> {
        match outcome {
            Ok(response) if response.status == 200 => {
                self.answered += 1;
                self.in_flight += u64::from(sent_before && told);
                return Some(response);
            }
            Ok(response) => self.lost.push(format!("{}: {}", response.status, response.text())),
            Err(error) if sent_before => self.lost.push(error.to_string()),
            Err(_) => self.turned_away += 1,
        }
        None
    }
}

/// Sends until nobody listens any more, reconnecting when told to.
fn busy(address: SocketAddr, key: &TestKey, number: &mut u64, told: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while let Ok(mut client) = Client::connect(address) {
        loop {
            *number += 1;
            let sent = send_vote(&mut client, key, *number);
            let sent_before = !told.load(Ordering::SeqCst);
            let outcome = sent.and_then(|()| client.receive());
            match tally.take(outcome, sent_before, told.load(Ordering::SeqCst)) {
                Some(response) if closes(&response) => break,
                Some(_) => {}
                None => return tally,
            }
        }
    }
    tally
}

fn round(world: &World, numbers: &mut [u64], rng: &mut ChaCha8Rng) -> Tally {
    let server = world.server().start();
    server.wait_ready();
    let (address, told) = (server.http_addr(), AtomicBool::new(false));
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = numbers
            .iter_mut()
            .zip(&world.keys)
            .map(|(number, key)| {
                let told = &told;
                scope.spawn(move || busy(address, key, number, told))
            })
            .collect();
        let mut idle: Vec<Client> = (0..LAST / 2).map(|_| server.client()).collect();
        for client in &mut idle {
            assert_eq!(client.request("GET", "/upcheck", &[], b"").expect("the server answers").status, 200);
        }
        // The moment: after so many questions of ours, while the others go on.
        for _ in 0..rng.random_range(0..300) {
            assert_eq!(server.get("/upcheck").status, 200);
        }
        let mut last = Vec::new();
        for number in 0..LAST {
            // Of both sorts in turn.
            let kept = if number % 2 == 0 { idle.pop() } else { None };
            let mut client = kept.unwrap_or_else(|| server.client());
            send(&mut client, &world.keys[0], &CHAIN.randao(number).0).expect("the server takes it");
            last.push(client);
        }
        told.store(true, Ordering::SeqCst);
        server.terminate();
        for client in &mut last {
            let outcome = client.receive();
            if let Some(response) = tally.take(outcome, true, true) {
                assert!(closes(&response) || client.receive().is_err(), "the connection outlived the shutdown");
            }
        }
        for client in clients {
            let other = client.join().expect("a client ends");
            tally.in_flight += other.in_flight;
            tally.answered += other.answered;
            tally.turned_away += other.turned_away;
            tally.lost.extend(other.lost);
        }
    });
    let (status, log) = server.wait();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("\"cut_off\":0"), "{log}");
    tally
}

#[test]
fn what_was_sent_before_sigterm_is_answered() {
    let seed = std::env::var("HOLDFAST_SEED").map_or(21, |text| text.parse().expect("HOLDFAST_SEED is a number"));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(BUSY);
    let mut numbers = vec![0; world.keys.len()];
    let mut total = Tally::default();
    for number in 0..ROUNDS {
        let tally = round(&world, &mut numbers, &mut rng);
        assert!(tally.lost.is_empty(), "seed {seed}, round {number}: lost {:?}", tally.lost);
        total.in_flight += tally.in_flight;
        total.answered += tally.answered;
        total.turned_away += tally.turned_away;
    }
    println!(
        "drain: seed {seed}, {ROUNDS} stops, {} requests in flight at SIGTERM, all answered 200; {} answered in all, {} sent \
         later found no listener",
        total.in_flight, total.answered, total.turned_away
    );
    assert!(total.in_flight >= ROUNDS * LAST, "only {} requests were in flight", total.in_flight);
}

#[test]
fn a_delay_serves_on_while_unready() {
    let world = World::new(1);
    // Longer than the test: it is cut short by the second signal.
    let server = world.server().env("HOLDFAST_HTTP_SHUTDOWN_DELAY_SECONDS", "600").start();
    server.wait_ready();
    let mut kept = server.client();
    assert_eq!(kept.request("GET", "/upcheck", &[], b"").expect("an answer").header("connection"), None);
    server.terminate();
    let unready = loop {
        let probe = once(server.metrics_addr(), "GET", "/readyz", &[], b"").expect("the probe is answered to the end");
        if probe.status != 200 {
            break probe;
        }
    };
    assert_eq!((unready.status, unready.text().contains("shutting down")), (503, true), "{}", unready.text());
    send_vote(&mut kept, &world.keys[0], 1).expect("the connection is still served");
    let answer = kept.receive().expect("an answer");
    assert!(answer.status == 200 && closes(&answer), "{answer:?}");
    let mut new = server.client();
    send_vote(&mut new, &world.keys[0], 2).expect("new connections are taken");
    let answer = new.receive().expect("an answer");
    assert!(answer.status == 200 && closes(&answer), "{answer:?}");
    server.terminate();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "a second signal ends at once\n{log}");
    let again: Server = world.server().start();
    again.wait_ready();
    let (status, log) = again.stop();
    assert!(status.success(), "{log}");
}
