//! What a front adds to a single request, and the CPU time it spends on one.

use std::time::Duration;

use holdfast_tests::beacon_nodes::Nodes;

use super::Plan;
use super::client::{Client, get, post};
use super::front::Front;

/// What the switcher's pass-through may add over nginx at the median and the 99th percentile, in milliseconds.
const TARGET: (f64, f64) = (0.3, 1.0);

/// Left after a round for what the switcher still does: submissions go on when the client has its answer.
const SETTLE: Duration = Duration::from_millis(20);

/// Attestations in one submission.
const ATTESTATIONS: u64 = 8;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    PassThrough,
    Vote,
    SameVote,
    Submit,
}

impl Kind {
    const ALL: [Self; 4] = [Self::PassThrough, Self::Vote, Self::SameVote, Self::Submit];

    const fn name(self) -> &'static str {
        match self {
            Self::PassThrough => "pass-through read",
            Self::Vote => "attestation data, new vote",
            Self::SameVote => "attestation data, same slot",
            Self::Submit => "POST attestations",
        }
    }

    /// The request with this number.
    fn request(self, nodes: &Nodes, number: u64) -> Vec<u8> {
        match self {
            Self::PassThrough => get("/eth/v1/beacon/states/head/finality_checkpoints"),
            // Another committee is another vote, as before Electra.
            Self::Vote => get(&attestation_data(nodes, number)),
            Self::SameVote => get(&attestation_data(nodes, 0)),
            Self::Submit => post("/eth/v2/beacon/pool/attestations", &attestations(nodes.slot(), number)),
        }
    }
}

/// The path of attestation data of the present slot.
pub(super) fn attestation_data(nodes: &Nodes, committee: u64) -> String {
    format!("/eth/v1/validator/attestation_data?slot={}&committee_index={committee}", nodes.slot())
}

fn attestations(slot: u64, number: u64) -> String {
    let root = format!("0x{}", "4b".repeat(32));
    let epoch = slot / 32;
    let one = |index: u64| {
        serde_json::json!({
            "committee_index": "0", "attester_index": (number * ATTESTATIONS + index).to_string(),
            "data": {
                "slot": slot.to_string(), "index": "0", "beacon_block_root": root,
                "source": { "epoch": (epoch - 1).to_string(), "root": root },
                "target": { "epoch": epoch.to_string(), "root": root },
            },
            "signature": format!("0x{}", "5a".repeat(96)),
        })
    };
    serde_json::Value::Array((0..ATTESTATIONS).map(one).collect()).to_string()
}

/// Times of one front, in milliseconds.
#[derive(Default)]
pub(super) struct Times {
    all: Vec<f64>,
    /// Of each round: the median and the 99th percentile.
    rounds: Vec<(f64, f64)>,
    cpu: Duration,
}

impl Times {
    /// Adds a round.
    pub(super) fn add(&mut self, times: &[Duration], cpu: Duration) {
        let mut round: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        self.rounds.push((quantile(&mut round, 0.5), quantile(&mut round, 0.99)));
        self.all.extend(round);
        self.cpu += cpu;
    }

    pub(super) fn at(&mut self, share: f64) -> f64 {
        quantile(&mut self.all, share)
    }

    /// Microseconds of CPU for one request.
    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.all.len() as f64
    }
}

/// The value that this share stays at or below.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the list")]
    let index = ((values.len() - 1) as f64 * share).round() as usize;
    values[index]
}

/// Prints latency and CPU of every kind of request.
pub(super) fn measure(plan: &Plan, nodes: &Nodes, fronts: &[Front]) {
    for kind in Kind::ALL {
        let mut clients: Vec<Client> = fronts.iter().map(|front| Client::connect(front.address)).collect();
        let mut times: Vec<Times> = fronts.iter().map(|_| Times::default()).collect();
        let mut number = 0;
        for round in 0..=plan.rounds {
            for turn in 0..fronts.len() {
                // Each is first in turn, so that none always follows the same other one.
                let at = (turn + usize::try_from(round).expect("few rounds")) % fronts.len();
                let requests: Vec<Vec<u8>> =
                    (number..number + plan.requests).map(|number| kind.request(nodes, number)).collect();
                number += plan.requests;
                let before = fronts[at].cpu();
                let took = clients[at].run(&requests, plan.rate);
                std::thread::sleep(SETTLE);
                // The first round warms up.
                if round > 0 {
                    times[at].add(&took, fronts[at].cpu().saturating_sub(before));
                }
            }
        }
        print(kind, fronts, &mut times);
    }
}

fn print(kind: Kind, fronts: &[Front], times: &mut [Times]) {
    let (direct50, direct99) = (times[0].at(0.5), times[0].at(0.99));
    let nginx_cpu =
        fronts.iter().zip(&*times).find(|(front, _)| front.name == "nginx").map_or(0.0, |(_, t)| t.cpu_each());
    for (front, times) in fronts.iter().zip(&mut *times) {
        let (p50, p99) = (times.at(0.5), times.at(0.99));
        print!("{:<28} {:<9} p50 {p50:.3} ms, p99 {p99:.3} ms", kind.name(), front.name);
        if front.is_process() {
            print!(
                "; over direct p50 {:+.3} ms, p99 {:+.3} ms; {:.1} us CPU per request, {:.2} of nginx",
                p50 - direct50,
                p99 - direct99,
                times.cpu_each(),
                times.cpu_each() / nginx_cpu
            );
        }
        println!();
    }
    let at = |name: &str| fronts.iter().position(|front| front.name == name).expect("a front");
    let (switcher, nginx) = (at("switcher"), at("nginx"));
    let (p50, p99) = (times[switcher].at(0.5) - times[nginx].at(0.5), times[switcher].at(0.99) - times[nginx].at(0.99));
    let pairs = times[switcher].rounds.iter().zip(&times[nginx].rounds);
    let (mut medians, mut tails): (Vec<f64>, Vec<f64>) = pairs.map(|(a, b)| (a.0 - b.0, a.1 - b.1)).unzip();
    print!(
        "{:<28} switcher - nginx: p50 {p50:+.3} ms, p99 {p99:+.3} ms; median of rounds: p50 {:+.3} ms, p99 {:+.3} ms",
        kind.name(),
        quantile(&mut medians, 0.5),
        quantile(&mut tails, 0.5)
    );
    if kind == Kind::PassThrough {
        print!(" (target +{} ms, +{} ms)", TARGET.0, TARGET.1);
    }
    println!();
}
