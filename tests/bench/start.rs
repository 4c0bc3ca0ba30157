//! From `exec` to the first signature with many sealed keys.

use std::time::Instant;

use holdfast_tests::harness::{Builder, Server, holdfast_ok};
use holdfast_tests::http::once;
use holdfast_tests::world::{CHAIN, World};

/// Generates `keys` sealed keys, then times a start.
pub(crate) fn measure(keys: u64) {
    let world = World::new(0);
    holdfast_ok(&world.with(&["--quiet", "keys", "generate", "--count", &keys.to_string()]));
    let mut seconds = Vec::new();
    for _ in 0..3 {
        let (server, taken, list) = first_signature(&world.server());
        assert_eq!(list.len() as u64, keys, "every key is served");
        seconds.push(taken);
        server.kill9();
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "start with {keys} sealed keys {:>6.2} s from exec to the first signature (median of 3; target 2)",
        seconds[1]
    );
}

/// Starts a server and asks it for a signature; returns it, the seconds that took, and its keys.
pub(crate) fn first_signature(settings: &Builder) -> (Server, f64, Vec<String>) {
    let begin = Instant::now();
    let server = settings.start();
    server.wait_ready();
    let list = server.get("/api/v1/eth2/publicKeys").json();
    let list: Vec<String> = serde_json::from_value(list).expect("a list of keys");
    let body = CHAIN.randao(5).0.to_string();
    let path = format!("/api/v1/eth2/sign/{}", list.first().expect("a key"));
    let response = once(server.http_addr(), "POST", &path, &[("Accept", "application/json")], body.as_bytes());
    let response = response.expect("an answer");
    assert_eq!(response.status, 200, "{}", response.text());
    (server, begin.elapsed().as_secs_f64(), list)
}
