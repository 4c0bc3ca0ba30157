//! From `exec` to the first signature with many sealed keys.

use std::time::Instant;

use holdfast_tests::harness::holdfast_ok;
use holdfast_tests::http::once;
use holdfast_tests::world::{CHAIN, World};

/// Generates `keys` sealed keys, then times a start.
pub(crate) fn measure(keys: u64) {
    let world = World::new(0);
    holdfast_ok(&world.with(&["--quiet", "keys", "generate", "--count", &keys.to_string()]));
    let mut seconds = Vec::new();
    for _ in 0..3 {
        let begin = Instant::now();
        let server = world.server().start();
        server.wait_ready();
        let list = server.get("/api/v1/eth2/publicKeys").json();
        let key = list[0].as_str().expect("a key").to_owned();
        let body = CHAIN.randao(5).0.to_string();
        let response = once(
            server.http_addr(),
            "POST",
            &format!("/api/v1/eth2/sign/{key}"),
            &[("Accept", "application/json")],
            body.as_bytes(),
        )
        .expect("an answer");
        assert_eq!(response.status, 200, "{}", response.text());
        seconds.push(begin.elapsed().as_secs_f64());
        assert_eq!(list.as_array().map_or(0, Vec::len) as u64, keys, "every key is served");
        server.kill9();
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "start with {keys} sealed keys {:>6.2} s from exec to the first signature (median of 3; target 2)",
        seconds[1]
    );
}
