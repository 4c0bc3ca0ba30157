//! What probing costs: 24 nodes asked each second, and the CPU time of the thread that asks.
//!
//! `cargo run --release -p holdfast-beacon --example probe_cost [SECONDS]` prints one line. The nodes run on
//! threads of their own, which are not counted. Promised: under 2 % of a core.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement, not part of the program")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails is seen at once")]

#[path = "../tests/scripted/mod.rs"]
mod scripted;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_beacon::{Environment, HealthTier, Metrics, NoSink, Pool, PoolConfig, Tasks, UpstreamConfig};
use holdfast_domain::{Clock, UnixMillis};
use scripted::{Chain, ScriptedNode};

const NODES: usize = 24;

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        UnixMillis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Nanoseconds this thread has run.
fn on_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

fn main() {
    let seconds: u64 = std::env::args().nth(1).map_or(24, |text| text.parse().expect("a number of seconds"));
    let (urls, others) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let chain = Chain::aged(1000);
            let mut nodes = Vec::new();
            for number in 0..NODES {
                nodes.push(ScriptedNode::start(&format!("n{number}"), "Lighthouse/v8", &chain).await);
            }
            urls.send(nodes.iter().map(ScriptedNode::url).collect::<Vec<_>>()).expect("somebody listens");
            std::future::pending::<()>().await;
        });
    });
    let urls = others.recv().expect("the nodes are up");
    let upstreams = urls.iter().map(|url| UpstreamConfig::from_url(url).unwrap()).collect();
    let config = PoolConfig { upstreams, ..PoolConfig::default() };
    let environment = Environment {
        clock: Arc::new(SystemClock),
        sink: Arc::new(NoSink),
        metrics: Metrics::default(),
        tasks: Tasks::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let pool = Pool::start(config, environment).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let good = pool.view().nodes().iter().filter(|node| node.health.tier == HealthTier::Good).count();
        assert_eq!(good, NODES, "all nodes are good");
        let (began, before) = (Instant::now(), on_cpu());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let busy = Duration::from_nanos(on_cpu() - before);
        let share = 100.0 * busy.as_secs_f64() / began.elapsed().as_secs_f64();
        println!("{NODES} nodes probed each second for {seconds} s: {busy:?} of CPU time, {share:.2} % of a core");
    });
}
