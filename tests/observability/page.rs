//! The status page over HTTP: who may read it, what it says, how many may watch, and how it ends.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use holdfast_tests::http::once;
use serde_json::{Value, json};

use crate::stage::{SECRET, Stage, until};

/// A stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    /// Opens one; the status and the stream after the head.
    fn open(address: SocketAddr) -> (u16, Self) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /status/events HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "no answer: {head}");
        }
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        if status == 200 {
            assert!(head.to_lowercase().contains("content-type: text/event-stream"), "{head}");
            assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
        }
        (status, Self(reader))
    }

    /// The next state; `None` at the end.
    fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[test]
fn the_page_is_complete_private_and_without_secrets() {
    // More than one page of keys.
    let stage = Stage::new(120);
    let server = stage.server();
    let key = &stage.world.keys[0].public;
    assert_eq!(server.sign(key, &stage.fresh_attestation()).status, 200);
    let mut document = Value::Null;
    until("the keys and the signature are shown", || {
        document = server.get_metrics("/status.json").json();
        document["signer"]["keys"]["total"] == 120 && document["signer"]["signing"]["kinds"][0]["signed"] == 1
    });
    assert_eq!(document["schema"], "holdfast-status/v1");
    assert_eq!(document["signer"]["protection"]["state"], "serving");
    assert_eq!(document["signer"]["database"]["state"], "answering");
    assert_eq!(document["signer"]["keys"]["first"].as_array().map(Vec::len), Some(20));
    assert_eq!(document["switcher"]["upstreams"].as_array().map(Vec::len), Some(2));
    assert_eq!(document["execution"]["nodes"].as_array().map(Vec::len), Some(1));

    // Without scripts the page says all of it.
    let page = server.get_metrics("/").text();
    for wanted in
        ["<h2 id=\"h-kinds\">Signing</h2>", "attestation", "Lighthouse", "All keys", "120 loaded", "Ready", "Serving"]
    {
        assert!(page.contains(wanted), "no {wanted:?} in {page}");
    }
    let pages: Vec<Value> =
        (1..=3).map(|page| server.get_metrics(&format!("/status/keys.json?page={page}")).json()).collect();
    assert_eq!(pages[0]["keys"].as_array().map(Vec::len), Some(100));
    assert_eq!(pages[1]["keys"].as_array().map(Vec::len), Some(20));
    assert_eq!(pages[2]["page"], 2, "there is no third page");
    let listed = pages[..2].iter().flat_map(|page| page["keys"].as_array().unwrap());
    let listed: BTreeSet<&str> = listed.filter_map(|key| key["pubkey"].as_str()).collect();
    assert!(stage.world.keys.iter().all(|key| listed.contains(key.public.as_str())));
    assert!(server.get_metrics("/status/keys?page=2").text().contains("page 2 of 2"));
    // One key of many, by a part of it, as a form without scripts asks for it.
    let part = &stage.world.keys[77].public[60..80];
    let found = server.get_metrics(&format!("/status/keys.json?find=+{}+", part.to_uppercase())).json();
    assert_eq!((&found["total"], &found["pages"], &found["find"]), (&json!(1), &json!(1), &json!(part)), "{found}");
    assert_eq!(found["keys"][0]["pubkey"], stage.world.keys[77].public.as_str());
    let found = server.get_metrics("/status/keys?find=signing").text();
    assert!(found.contains("120 keys with") && found.contains("keys?find=signing&amp;page=2"), "{found}");
    assert!(server.get_metrics("/status/keys?find=nobody").text().contains("No key has this."));

    let paths =
        ["/", "/status", "/status.json", "/status/keys", "/status/keys.json", "/status/style.css", "/status/script.js"];
    for path in paths {
        let answer = server.get_metrics(path);
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{path}: {policy}");
        for (name, value) in
            [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("cache-control", "no-store")]
        {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        for secret in [SECRET, "correct horse", "user:", "password"] {
            assert!(!answer.text().contains(secret), "{secret} is in {path}");
        }
        let ask =
            |method: &str, headers: &[(&str, &str)]| once(server.metrics_addr(), method, path, headers, b"").unwrap();
        assert_eq!(ask("POST", &[]).status, 405, "{path}");
        assert_eq!(ask("GET", &[("Host", "evil.example")]).status, 403, "{path}");
        assert_eq!(ask("GET", &[("Origin", "https://evil.example")]).status, 403, "{path}");
    }
    assert_eq!(server.get_metrics("/status/").status, 404);
}

#[test]
fn viewers_share_one_state_are_bounded_and_are_sent_away_at_the_end() {
    let mut stage = Stage::new(1);
    let address = stage.server().metrics_addr();
    let key = stage.world.keys[0].public.clone();

    let (status, mut events) = Events::open(address);
    assert_eq!(status, 200);
    let first = events.next().expect("a state at once");
    assert!(first["sections"]["states"].as_str().is_some_and(|html| html.contains("Protection")), "{first}");
    assert_eq!(stage.server().sign(&key, &stage.fresh_attestation()).status, 200);
    let mut changes = 0;
    let seen = (0..5)
        .filter_map(|_| events.next())
        // What is as it was is not sent again.
        .inspect(|state| changes += u32::from(state["sections"]["alarm"].is_null()))
        .any(|state| state["sections"]["kinds"].as_str().is_some_and(|html| html.contains("attestation")));
    assert!(changes > 0, "viewers are sent what has changed");
    assert!(seen, "a signature shows within five states");

    // A crowd gets what one gets.
    let crowd: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn(move || {
                once(address, "GET", "/status.json", &[], b"").unwrap().json()["at_unix_millis"].as_u64().unwrap()
            })
        })
        .collect();
    let made: BTreeSet<u64> = crowd.into_iter().map(|one| one.join().unwrap()).collect();
    assert!(made.len() <= 3, "twenty viewers at once were shown {} states", made.len());

    let mut others: Vec<Events> = (0..127)
        .map(|_| Events::open(address))
        .map(|(status, events)| {
            assert_eq!(status, 200);
            events
        })
        .collect();
    let refused = once(address, "GET", "/status/events", &[], b"").unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "one stream too many");
    assert_eq!(refused.json()["reason"], "too_many_viewers");
    assert_eq!(stage.server().get_metrics("/readyz").status, 200, "probes and scrapers have room");
    assert_eq!(stage.server().get_metrics("/metrics").status, 200);
    // Who leaves makes room.
    others.pop();
    until("there is room again", || Events::open(address).0 == 200);

    let server = stage.server.take().unwrap();
    server.terminate();
    let mut last = None;
    while let Some(state) = events.next() {
        last = Some(state);
    }
    let summary = last.expect("a last state")["summary"].as_str().unwrap().to_owned();
    assert!(summary.contains("Signer: not ready"), "{summary}");
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
    assert!(!log.contains("cut off"), "{log}");
}
