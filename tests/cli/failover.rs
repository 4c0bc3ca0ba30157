//! Proves: the failover of consensus clients as docs/switcher.md and docs/monitoring.md print it. A client that asks the
//! whole time sees no error when the node in use dies, is drained, or comes back, and every printed way to watch it
//! (`switcher status`, `top`, metrics) shows what happened.
//!
//! The nodes are scripted, and each is behind a TCP proxy, by which it dies; real nodes do the same in `tests/real_nodes`.
//! A signer that dies is in `upgrade.rs`, and of a pair with a witness in `tests/witness`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::beacon_nodes::Nodes;
use holdfast_tests::documented::{printed, shell_output};
use holdfast_tests::http::Client;
use holdfast_tests::proxy::{Listening, Proxy};
use serde_json::Value;

use crate::journeys::Machine;

const SWITCHER: &str = "docs/switcher.md";
const MONITORING: &str = "docs/monitoring.md";
/// Anything waited for comes within this: a node that comes back has to prove itself first.
const LIMIT: Duration = Duration::from_mins(1);
/// Between two requests of the client.
const PAUSE: Duration = Duration::from_millis(10);
/// Answers after each thing that is done to a node.
const ANSWERS_AFTER: u64 = 40;

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A validator client that asks for attestation data, one request after the other.
#[derive(Default)]
struct Asking {
    answers: AtomicU64,
    stop: AtomicBool,
}

impl Asking {
    /// Asks until told to stop; answers by status, 0 for none.
    fn run(&self, nodes: &Nodes, port: u16) -> BTreeMap<u16, u64> {
        let mut client = Client::connect(([127, 0, 0, 1], port).into()).expect("the switcher listens");
        let mut statuses = BTreeMap::new();
        while !self.stop.load(Ordering::Relaxed) {
            let path = format!("/eth/v1/validator/attestation_data?slot={}&committee_index=0", nodes.slot());
            let answer = client.request("GET", &path, &[], b"").map_or(0, |answer| answer.status);
            *statuses.entry(answer).or_default() += 1;
            self.answers.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
        statuses
    }

    fn goes_on(&self) {
        let before = self.answers.load(Ordering::Relaxed);
        wait_until("the client goes on", || self.answers.load(Ordering::Relaxed) >= before + ANSWERS_AFTER);
    }
}

/// Ends the client when the scope is left in any way.
struct Ends<'a>(&'a Asking);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// The document of a printed command.
fn document(machine: &Machine, line: &str) -> Value {
    let line = line.replacen("holdfast", "holdfast --json", 1);
    let said = shell_output(&mut machine.command(&line));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
}

/// Name of the node that serves duties first.
fn in_use(machine: &Machine) -> String {
    let status = document(machine, &printed(SWITCHER, "holdfast switcher status"));
    status["switcher"]["serving"]["duty"][0].as_str().unwrap_or_else(|| panic!("nobody serves: {status}")).to_owned()
}

/// What `switcher status` says of a node's health.
fn health(machine: &Machine, name: &str) -> String {
    let status = document(machine, &printed(SWITCHER, "holdfast switcher status"));
    let nodes = status["switcher"]["upstreams"].as_array().expect("nodes");
    let node = nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}"));
    node["health"].as_str().expect("a word").to_owned()
}

fn kill(node: &Proxy) {
    node.set_listening(Listening::Refuse);
    node.cut_all();
}

#[test]
fn a_client_notices_nothing_of_nodes_that_fail_and_whoever_watches_sees_it() {
    let nodes = Nodes::start(2, 1_000);
    let proxies: Vec<Proxy> = nodes.addresses().iter().map(|address| Proxy::start(*address)).collect();
    let names: Vec<String> = proxies.iter().map(|proxy| proxy.addr().to_string()).collect();
    let own = |line: &str| line.replace("a:5052", &names[0]).replace("b:5052", &names[1]);
    // Of mainnet, which stands for the network that the nodes are on.
    let mut machine = Machine::of("mainnet");
    let ready = format!("curl --fail --silent http://127.0.0.1:{}/readyz", machine.ports[1]);
    machine.serves_until(&own(&printed(SWITCHER, "holdfast serve --no-signer")), &ready);
    let types = |machine: &Machine, line: &str| shell_output(&mut machine.command(line));
    let metrics = |machine: &Machine| {
        let address = format!("http://127.0.0.1:{}/metrics", machine.ports[1]);
        types(machine, &format!("curl --fail --silent {address}"))
    };
    wait_until("both nodes are good", || names.iter().all(|name| health(&machine, name) == "good"));

    let asking = Asking::default();
    let statuses = std::thread::scope(|scope| {
        let ends = Ends(&asking);
        let client = scope.spawn(|| asking.run(&nodes, machine.ports[2]));
        asking.goes_on();

        // The node in use dies, and comes back.
        let first = in_use(&machine);
        let at = names.iter().position(|name| *name == first).expect("the name is the address");
        let other = &names[1 - at];
        kill(&proxies[at]);
        asking.goes_on();
        wait_until("the other one serves", || in_use(&machine) == *other);
        wait_until("it shows", || health(&machine, &first) != "good");
        for text in [
            types(&machine, &printed(SWITCHER, "holdfast switcher status")),
            types(&machine, &printed(MONITORING, "holdfast top --once")),
            metrics(&machine),
        ] {
            println!("{}", text.lines().filter(|line| line.contains(&first)).take(2).collect::<Vec<_>>().join("\n"));
            assert!(text.contains(&first), "{first} is not in:\n{text}");
        }
        proxies[at].heal();
        // Not among the good ones at once: first it proves itself for some slots.
        wait_until("it is taken in again", || ["joining", "good"].contains(&health(&machine, &first).as_str()));

        // By hand: it serves again when the other one is drained.
        let drain = printed(SWITCHER, "holdfast switcher drain");
        types(&machine, &drain.replace("a:5052", other));
        wait_until("the drained one serves no longer", || in_use(&machine) == first);
        asking.goes_on();
        types(&machine, &format!("holdfast switcher undrain {other}"));
        let prefer = printed(SWITCHER, "holdfast switcher prefer");
        types(&machine, &prefer.replace("b:5052", other));
        asking.goes_on();
        drop(ends);
        client.join().expect("the client ends")
    });
    println!("failover of nodes: answers {statuses:?}");
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "the client saw errors");
    let counted = metrics(&machine);
    for kind in ["drained", "undrained", "preferred"] {
        let series = format!("holdfast_switcher_decisions_total{{kind=\"{kind}\"}} 1");
        assert!(counted.contains(&series), "no {series} in:\n{counted}");
    }
    machine.stops();
}
