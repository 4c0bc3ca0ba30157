//! Those who should not get in: slow handshakes, connections that say nothing, huge headers, guessed tokens. Blocks are
//! signed meanwhile, by clients that were there before and by those who come then.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::http::{Client, once};
use holdfast_tests::world::CHAIN;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::client::TlsClient;
use crate::stage::{Stage, metric, sign_path};

/// More than twice what http.max_connections is by default.
const IDLE: usize = 10_000;
/// A block is wanted within 4 s of its slot's beginning; this machine is busy.
const SOON: Duration = Duration::from_secs(3);

fn silent(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, Duration::from_secs(10)).expect("a connection")
}

#[test]
fn ten_thousand_silent_connections_and_slow_handshakes_keep_nobody_out() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the limit of open files rises");
    let stage = Stage::new(2);
    let settings = [("certificate", "tls.pem"), ("key", "tls.key"), ("client_ca", "clients-ca.pem")];
    let server = stage.server(&settings).start();
    server.wait_ready();
    let config = TlsClient::config(&stage, Some("vc-1"));
    let more = "Content-Type: application/json\r\n";
    let mut slot = 0;
    let mut sign = |connection: &mut TlsClient, key: usize| {
        slot += 1;
        let (block, _) = CHAIN.block(slot, 0);
        let path = sign_path(&stage.world.keys[key].public);
        let (status, body) = connection.request("POST", &path, more, &block.to_string()).expect("an answer");
        assert_eq!(status, 200, "{body}");
    };
    let mut early = TlsClient::connect(server.http_addr(), &config).expect("a handshake");
    sign(&mut early, 0);

    // Every third begins a handshake and goes no further.
    let mut all = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let mut stream = silent(server.http_addr());
        if number % 3 == 0 {
            // The server may have closed it already, to make room.
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1]);
        }
        all.push(stream);
        if number % 2_500 == 0 {
            sign(&mut early, 0);
        }
    }
    let start = Instant::now();
    sign(&mut early, 0);
    let mut late = TlsClient::connect(server.http_addr(), &config).expect("a handshake");
    sign(&mut late, 1);
    let took = start.elapsed();
    println!("with {} silent connections, a new client has a block signed after {took:?}", all.len());
    assert!(took < SOON, "{took:?}");
    assert!(metric(&server, "holdfast_http_connections") <= 4_100.0);
    drop(all);
    sign(&mut early, 0);
    sign(&mut late, 1);

    // A head that does not end is cut off, and so is no TLS at all.
    let head = format!("X-Long: {}\r\n", "a".repeat(1_000_000));
    let mut greedy = TlsClient::connect(server.http_addr(), &config).expect("a handshake");
    let answer = greedy.request("GET", "/upcheck", head.as_str(), "");
    assert!(answer.as_ref().map_or(true, |(status, _)| *status == 431), "{answer:?}");
    let mut plain = silent(server.http_addr());
    plain.write_all(b"GET /upcheck HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "no answer without TLS");
    sign(&mut late, 1);
    assert!(server.stop().0.success());
}

#[test]
fn guessed_tokens_are_slowed_down_and_the_right_one_is_not() {
    let world = holdfast_tests::world::World::new(1);
    let made = holdfast_tests::finished::run(&world.with(&["--json", "callers", "add", "vc-1", "--bearer"]));
    let made: serde_json::Value = serde_json::from_str(&made.expect(0, &[]).stdout).expect("JSON");
    let right = format!("Bearer {}", made["bearer_token"].as_str().expect("a token"));
    let server = world.server().start();
    server.wait_ready();
    let stop = AtomicBool::new(false);
    let address = server.http_addr();
    std::thread::scope(|scope| {
        for guesser in 0..8 {
            let stop = &stop;
            scope.spawn(move || {
                for guess in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let header = format!("Bearer guess-{guesser}-{guess}");
                    let answer = once(address, "GET", "/api/v1/eth2/publicKeys", &[("Authorization", &header)], b"");
                    let status = answer.expect("an answer").status;
                    assert!([401, 429].contains(&status), "{status}");
                }
            });
        }
        let mut client = Client::connect(address).expect("a connection");
        let path = sign_path(&world.keys[0].public);
        let begin = Instant::now();
        for slot in 1..=200 {
            let (block, _) = CHAIN.block(slot, 0);
            let headers = [("Authorization", right.as_str()), ("Content-Type", "application/json")];
            let answer = client.request("POST", &path, &headers, block.to_string().as_bytes()).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        println!("200 blocks in {:?} from the address of eight guessers", begin.elapsed());
        stop.store(true, Ordering::Relaxed);
    });
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("refused")).count();
    assert!(lines <= 6, "a flood is logged once, not {lines} times:\n{log}");
    assert!(log.contains("slowed down") && !log.contains("guess-"), "{log}");
    let series = "holdfast_authentication_failures_total{listener=\"http\",reason=\"credentials_wrong\"}";
    // Without delays they would have made thousands of guesses.
    let guesses = metric(&server, series);
    assert!((8.0..500.0).contains(&guesses), "{guesses}");
}
