//! What policy and journal cost for each signature, in CPU of the server.
//!
//! Two comparisons in one run, in turn:
//!
//! - *Policy.* The same binary with 1,000 rules over 10,000 keys, against itself without rules. The rules name groups,
//!   patterns and single keys, and the deciding rule is the last one.
//! - *Journal.* It cannot be switched off, and should not be. So the same guard records events in commits as large as a
//!   burst: an event writes a journal record and nothing else, no watermark and no permit. Its whole cost counts as the
//!   journal's, with the transaction and the queues that a request without a journal would need as well, so that the
//!   number is an upper bound.
//!
//! Both are given as shares of what a signature costs the server without rules.

use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::{Clock, GenesisValidatorsRoot, PublicKey, SlotClock, UnixMillis};
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_slashing_db::{BindOptions, CallerId, SlashingDb, StoreOptions};
use holdfast_tests::harness::Server;
use holdfast_tests::world::World;

use crate::burst::{Load, Roots, publics, runtime};
use crate::measure::{PlainSign, cpu_of};

/// Keys that the rules name; of these the world has as many as sign.
const NAMED_KEYS: u64 = 10_000;
const RULES: u64 = 1_000;

/// Rules and groups over [`NAMED_KEYS`] keys; the last rule allows what the bench asks for.
fn policy(world: &World) -> String {
    let mut text = String::new();
    let own: Vec<String> = world.keys.iter().map(|key| key.public.clone()).collect();
    let others =
        (own.len() as u64..NAMED_KEYS).map(|number| format!("0x{}", hex::encode([number.to_be_bytes(); 6].concat())));
    let keys: Vec<String> = own.into_iter().chain(others).collect();
    for (number, part) in keys.chunks(500).enumerate() {
        let file = world.path().join(format!("group-{number}.txt"));
        std::fs::write(&file, part.join("\n")).expect("a group of keys");
        text.push_str(&format!("[[groups]]\nname = \"g{number}\"\nfile = \"{}\"\n", file.display()));
    }
    let groups = keys.chunks(500).len() as u64;
    for number in 1..RULES {
        let (group, effect) = (number % groups, if number % 10 == 0 { "deny" } else { "allow" });
        let callers = if number % 3 == 0 { format!("vc-{number}-*") } else { format!("vc-{number}") };
        let key = &keys[usize::try_from(number * 7 % NAMED_KEYS).expect("small")];
        text.push_str(&format!(
            "[[policy]]\neffect = \"{effect}\"\ncallers = [\"{callers}\"]\ngroups = [\"g{group}\"]\nkeys = [\"{key}\"]\n\
             operations = [\"duties\", \"list\"]\n"
        ));
    }
    let all: Vec<String> = (0..groups).map(|number| format!("\"g{number}\"")).collect();
    text.push_str(&format!(
        "[[policy]]\nname = \"bench\"\neffect = \"allow\"\ncallers = [\"http\"]\ngroups = [{}]\noperations = [\"duties\"]\n",
        all.join(", ")
    ));
    text
}

struct Side {
    server: Server,
    load: Load,
    cpu: Vec<f64>,
}

/// Bursts at a signer with rules and at one without, in turn; then events alone.
pub(crate) fn measure(keys: u64, bursts: u64) {
    let runtime = runtime();
    let (open, ruled) = (World::new(keys), World::new(keys));
    let config = ruled.path().join("holdfast.toml");
    std::fs::write(&config, policy(&ruled)).expect("a configuration");
    let mut plain = PlainSign::default();
    let side = |world: &World, server: Server| {
        server.wait_ready();
        let load = runtime.block_on(Load::connect(&[server.http_addr()], &publics(&world.keys)));
        Side { server, load, cpu: Vec::new() }
    };
    let mut sides =
        [side(&open, open.server().start()), side(&ruled, ruled.server().global("--config").global(&config).start())];
    let rules = sides[1].server.get_metrics("/metrics").text();
    assert!(rules.contains(&format!("holdfast_policy_rules {RULES}")), "the rules are in force");
    let mut epoch = 1_000;
    for round in 0..=bursts {
        plain.run(100);
        for side in &mut sides {
            epoch += 1;
            let requests = side.load.prepare(epoch, Roots::Same);
            let before = cpu_of(side.server.pid());
            let times = runtime.block_on(side.load.fire(requests));
            // The server writes an answer before it has finished its accounting: let it settle.
            std::thread::sleep(Duration::from_millis(20));
            if round > 0 {
                let spent = cpu_of(side.server.pid()).saturating_sub(before);
                side.cpu.push(spent.as_secs_f64() / times.len() as f64);
            }
        }
    }
    let [without, with] = sides.map(|side| {
        let Side { server, load, mut cpu } = side;
        drop(load);
        let (status, log) = server.stop();
        assert!(status.success(), "the server ended with {status}\n{log}");
        // Half of the bursts took no more: what the machine did beside them is not in it.
        cpu.sort_by(f64::total_cmp);
        cpu[cpu.len() / 2]
    });
    let journal = runtime.block_on(events(keys, bursts));
    let micros = |seconds: f64| seconds * 1e6;
    println!("plain blst sign         {:>8.2} us CPU", micros(plain.per_signature()));
    println!("signature, no rules     {:>8.2} us CPU of the server (baseline)", micros(without));
    println!("signature, {RULES} rules, {NAMED_KEYS} keys {:>8.2} us CPU", micros(with));
    let (policy, journal_share) = (with / without - 1.0, journal / without);
    println!("policy                  {:>8.2} us, {:+.1} % of the baseline", micros(with - without), policy * 100.0);
    println!("journal, upper bound    {:>8.2} us, {:+.1} % of the baseline", micros(journal), journal_share * 100.0);
    println!("policy and journal: {:.1} % of a signature (target 5)", (policy.max(0.0) + journal_share) * 100.0);
}

struct Still;

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_700_000_000_000)
    }
}

/// CPU seconds of this process for one event, in commits of as many events as a burst has signatures.
async fn events(in_a_burst: u64, bursts: u64) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let slots = SlotClock {
        genesis: UnixMillis(1_600_000_000_000),
        slot_millis: 12_000.try_into().expect("not zero"),
        slots_per_epoch: 32.try_into().expect("not zero"),
    };
    let db = SlashingDb::open(&StoreOptions { path: folder.path().join("events.db") }).expect("a database");
    let guard = db.bind(BindOptions::new(GenesisValidatorsRoot([7; 32]), slots, Arc::new(Still))).expect("a guard");
    let (caller, kind) = (CallerId::new("http"), EventKind::new("bench.request"));
    let mut spent = Vec::new();
    for round in 0..=bursts {
        let before = cpu_of(std::process::id());
        let answers: Vec<_> = (0..in_a_burst)
            .map(|number| {
                let key = PublicKey::from_bytes([(number % 251) as u8; 48]);
                let event = Event::new(Still.now(), &caller, kind.clone()).of_key(key).about("attestation");
                guard.record(event)
            })
            .collect();
        for answer in answers {
            answer.await.expect("recorded");
        }
        if round > 0 {
            spent.push(cpu_of(std::process::id()).saturating_sub(before).as_secs_f64() / in_a_burst as f64);
        }
    }
    guard.shutdown().await;
    spent.sort_by(f64::total_cmp);
    spent[spent.len() / 2]
}
