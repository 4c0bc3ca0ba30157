//! Measurements on the real binary and the real stores, each against a named baseline of the same run.
//!
//! All requests of a burst are due in one instant, each on a keep-alive connection of its own, and
//! latency counts from that instant, so a slow server cannot slow the load down. Times and CPU are compared
//! with plain `blst` signatures made in the same run, between the bursts, on as many threads
//! as there are cores, or with one instance alone; the ratio is what holds across machines.
#![allow(clippy::cast_precision_loss, reason = "counts and nanoseconds far below 2^52")]

mod access;
mod audit;
mod burst;
mod epochs;
mod idle;
mod instances;
mod measure;
mod page;
mod providers;
mod scale;
mod slots;
mod start;
mod switcher;
mod vault;

const USAGE: &str = "bench [slots] [--keys N] [--bursts N] [--start-keys N]   slot bursts on SQLite, and a start\n\
    bench instances [--keys N] [--bursts N] [--seconds N] [--instances N]     signers on one PostgreSQL, at 0, 1 and 5 ms\n\
    bench scale [--keys N]                              100,000 keys in one database, SQLite and PostgreSQL\n\
    bench idle [--few N] [--many N] [--rest SECONDS]              memory at rest with 100 and 100,000 keys, starts, size of the program\n\
    bench page [--keys N] [--viewers N] [--bursts N] [--seconds N]     the status page with 10,000 keys and 100 viewers, beside signatures
    bench access [--keys N] [--bursts N]                CPU of policy (1,000 rules, 10,000 keys) and journal, against a signature
\
    bench epochs [--keys N] [--epochs N]                size of the database, with journal retention, on both\n\
    bench audit [--records N]                           exporting a journal and verifying the export, against hashing alone\n\
    bench vault [--keys N] [--bursts N] [--singles N]    what a vault process adds to a signature, and verifying many at once\n\
    bench providers [--keys N]                          a start, with each provider of the data key\n\
    bench switcher [--rounds N] [--requests N] [--rate N] [--megabytes N] [--streams N] [--events N] [--nodes N] [--seconds N]\n\
    \u{20}                                                   latency, CPU, big answers, event streams, probes, against nginx and HAProxy";

/// Numbers given on the command line, by name.
struct Options(std::collections::BTreeMap<String, u64>);

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>, known: &[&str]) -> Self {
        let mut options = std::collections::BTreeMap::new();
        while let Some(name) = arguments.next() {
            let plain = name.trim_start_matches("--");
            assert!(name.starts_with("--") && known.contains(&plain), "unknown option {name}\n{USAGE}");
            let text = arguments.next().unwrap_or_else(|| panic!("{name} needs a number"));
            options.insert(plain.to_owned(), text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number")));
        }
        Self(options)
    }

    fn get(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(default)
    }
}

fn switcher_plan(arguments: impl Iterator<Item = String>) -> switcher::Plan {
    let names = ["rounds", "requests", "rate", "megabytes", "streams", "events", "nodes", "seconds"];
    let options = Options::parse(arguments, &names);
    let count = |name, default| usize::try_from(options.get(name, default)).expect("a small number");
    switcher::Plan {
        rounds: options.get("rounds", 10),
        requests: options.get("requests", 400),
        rate: options.get("rate", 500),
        megabytes: options.get("megabytes", 100),
        streams: count("streams", 1_000),
        events: options.get("events", 20),
        nodes: count("nodes", 24),
        seconds: options.get("seconds", 36),
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq("vault-process").is_some() {
        return vault::process(arguments.next().and_then(|parent| parent.parse().ok()).expect("a process"));
    }
    let command = arguments.next_if(|first| !first.starts_with("--")).unwrap_or_else(|| "slots".to_owned());
    println!("bench {command}, {} cores", measure::cores());
    match command.as_str() {
        "slots" => {
            let options = Options::parse(arguments, &["keys", "bursts", "start-keys"]);
            slots::measure(options.get("keys", 1_000), options.get("bursts", 20));
            start::measure(options.get("start-keys", 10_000));
        }
        "instances" => {
            let options = Options::parse(arguments, &["keys", "bursts", "seconds", "instances"]);
            instances::measure(&instances::Plan {
                keys: options.get("keys", 1_000),
                bursts: options.get("bursts", 8),
                seconds: options.get("seconds", 4),
                instances: usize::try_from(options.get("instances", 3)).expect("a small number"),
            });
        }
        "access" => {
            let options = Options::parse(arguments, &["keys", "bursts"]);
            access::measure(options.get("keys", 1_000), options.get("bursts", 20));
        }
        "page" => {
            let options = Options::parse(arguments, &["keys", "viewers", "bursts", "seconds"]);
            page::measure(&page::Plan {
                keys: options.get("keys", 10_000),
                viewers: usize::try_from(options.get("viewers", 100)).expect("a small number"),
                bursts: options.get("bursts", 20),
                seconds: options.get("seconds", 20),
            });
        }
        "scale" => scale::measure(Options::parse(arguments, &["keys"]).get("keys", 100_000)),
        "idle" => {
            let options = Options::parse(arguments, &["few", "many", "rest"]);
            let rest = std::time::Duration::from_secs(options.get("rest", 3));
            idle::measure(options.get("few", 100), options.get("many", 100_000), rest);
        }
        "epochs" => {
            let options = Options::parse(arguments, &["keys", "epochs"]);
            epochs::measure(options.get("keys", 64), options.get("epochs", 10_000));
        }
        "audit" => audit::measure(Options::parse(arguments, &["records"]).get("records", 1_000_000)),
        "providers" => providers::measure(Options::parse(arguments, &["keys"]).get("keys", 10_000)),
        "vault" => {
            let options = Options::parse(arguments, &["keys", "bursts", "singles"]);
            vault::measure(options.get("keys", 1_000), options.get("bursts", 10).max(1), options.get("singles", 2_000));
        }
        "switcher" => switcher::measure(&switcher_plan(arguments)),
        _ => panic!("unknown measurement {command}\n{USAGE}"),
    }
}
