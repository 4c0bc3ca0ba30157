//! The parts of the page as HTML, made once for all viewers: the first state is sent with the page, later ones over the
//! stream, and a browser without scripts sees the first.
//!
//! Guarantee: whatever did not come from this file is escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use holdfast_beacon::execution::{ExecutionStatus, NodeStatus};
use holdfast_beacon::{ClassStatus, DecisionStatus, StatusDocument, UpstreamStatus};
use holdfast_domain::UnixMillis;

use super::document::{Document, KindState, Level, PartState, SignerState, UnsignedState};
use super::keys::KeyView;
use super::numbers::CHART_SECONDS;
use crate::clock::lasting;

/// Size of the chart in its own units.
const CHART: (f64, f64) = (300.0, 60.0);
/// Said where there are no keys.
pub(super) const NO_KEYS: &str = "There are no keys yet.";

/// Text that is safe between tags and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Milliseconds for people.
pub(super) fn millis(time: f64) -> String {
    match time {
        time if time < 1.0 => format!("{time:.2} ms"),
        time if time < 10.0 => format!("{time:.1} ms"),
        time if time < 10_000.0 => format!("{time:.0} ms"),
        time => format!("{:.1} s", time / 1_000.0),
    }
}

/// How long before `now`, both in milliseconds since 1970.
pub(super) fn ago(now: u64, then: u64) -> String {
    format!("{} ago", lasting(now.saturating_sub(then) / 1_000))
}

/// A count with its thousands apart, by a space that does not break.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// A number of a table, or a dash.
fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "<span class=\"none\">–</span>".to_owned(), show)
}

/// A state as a word with its mark; the mark alone never says anything that the word does not.
fn badge(level: Level, word: &str) -> String {
    format!("<span class=\"badge {}\">{}</span>", level.as_str(), escape(word))
}

/// A table with a caption for those who hear it.
fn table(caption: &str, heads: &[(&str, bool)], rows: &[String], empty: &str) -> String {
    if rows.is_empty() {
        return format!("<p class=\"empty\">{empty}</p>");
    }
    let mut html = format!("<table><caption class=\"sr\">{caption}</caption><thead><tr>");
    for (head, number) in heads {
        let class = if *number { " class=\"n\"" } else { "" };
        let _ = write!(html, "<th scope=\"col\"{class}>{head}</th>");
    }
    html.push_str("</tr></thead><tbody>");
    html.push_str(&rows.concat());
    html.push_str("</tbody></table>");
    html
}

/// The state of everything in a sentence: it changes only when something did.
pub(super) fn summary(document: &Document) -> String {
    let worse: Vec<String> = document
        .states
        .iter()
        .filter(|state| state.level >= Level::Warn)
        .map(|state| format!("{}: {}", state.part, state.word.to_lowercase()))
        .collect();
    if worse.is_empty() { "All is well".to_owned() } else { worse.join("; ") }
}

/// Where and since when, for the head of the page.
pub(super) fn place(document: &Document) -> String {
    let network = document.network.as_deref().unwrap_or("switcher alone");
    let up = lasting(document.uptime_seconds);
    let slot = document.slot.map_or_else(String::new, |slot| format!(" · slot {}", grouped(slot)));
    format!("{} · version {} · up {up}{slot}", escape(network), document.version)
}

/// Every part of the page that changes, by the id of its element.
pub(super) fn all(document: &Document) -> BTreeMap<&'static str, String> {
    let now = document.at_unix_millis;
    let mut parts = BTreeMap::from([("states", states(&document.states)), ("place", place(document))]);
    let clock = UnixMillis(now).rfc3339();
    parts.insert("updated", format!("<time datetime=\"{clock}\">{} UTC</time>", clock.get(11..19).unwrap_or_default()));
    if let Some(signer) = &document.signer {
        parts.insert("alarm", alarm(signer));
        parts.insert("rate", rate(signer));
        parts.insert("kinds", kinds(&signer.signing.kinds));
        parts.insert("unsigned", unsigned(&signer.unsigned));
        parts.insert("keys", keys(&signer.keys.first, NO_KEYS));
        parts.insert("keys-note", keys_note(signer, now));
        if !signer.database.instances.is_empty() {
            parts.insert("instances", instances(signer, now));
        }
    }
    if let Some(switcher) = &document.switcher {
        parts.insert("nodes", nodes(switcher));
        parts.insert("decisions", decisions(&switcher.decisions, document.execution.as_ref(), now));
    }
    if let Some(execution) = &document.execution {
        parts.insert("execution", execution_nodes(&execution.nodes));
    }
    parts
}

fn states(states: &[PartState]) -> String {
    states.iter().fold(String::new(), |mut html, state| {
        let _ = write!(
            html,
            "<li class=\"tile {level}\"><h3>{part}</h3><p class=\"word\">{word}</p><p class=\"detail\">{detail}</p></li>",
            level = state.level.as_str(),
            part = state.part,
            word = badge(state.level, &state.word),
            detail = escape(&state.detail)
        );
        html
    })
}

/// What to do about a freeze; nothing while there is none.
fn alarm(signer: &SignerState) -> String {
    let protection = &signer.protection;
    let Some(message) = &protection.message else { return String::new() };
    let remedy = match protection.state {
        "suspect" => {
            "Blocks and attestations are refused, except for keys that were fenced since. Make sure that no other signer \
             uses these keys, then run <code>holdfast slashing fence</code>."
        }
        _ => {
            "Nothing is signed. The log says more; the process ends, and its exit code says whether a restart may help."
        }
    };
    format!("<div class=\"alarm\"><h2>Protection is frozen: {}</h2><p>{remedy}</p></div>", escape(message))
}

fn rate(signer: &SignerState) -> String {
    let signing = &signer.signing;
    let highest = signing.chart.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    let (width, height) = CHART;
    let points = signing.chart.iter().fold(String::new(), |mut points, (before, rate)| {
        let x = (width - before / CHART_SECONDS * width).max(0.0);
        let y = height - 2.0 - rate.max(0.0) / highest * (height - 6.0);
        let _ = write!(points, "{}{x:.1},{y:.1}", if points.is_empty() { "" } else { " " });
        points
    });
    format!(
        "<dl class=\"figures\"><div><dt>per second, last minute</dt><dd>{per_second:.1}</dd></div>\
         <div><dt>in progress</dt><dd>{in_flight}</dd></div><div><dt>connections</dt><dd>{connections}</dd></div></dl>\
         <figure><svg viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" aria-hidden=\"true\" focusable=\"false\">\
         <line x1=\"0\" x2=\"{width}\" y1=\"{base}\" y2=\"{base}\"/><polyline points=\"{points}\"/></svg>\
         <figcaption>Signatures per second, last five minutes; highest {highest:.0}</figcaption></figure>",
        per_second = signing.per_second,
        in_flight = grouped(signing.in_flight),
        connections = grouped(signing.connections),
        base = height - 2.0,
    )
}

/// A word of the program as people write it.
fn spaced(word: &str) -> String {
    escape(&word.replace('_', " "))
}

fn kinds(kinds: &[KindState]) -> String {
    let rows: Vec<String> = kinds
        .iter()
        .map(|kind| {
            format!(
                "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{:.2}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td></tr>",
                spaced(&kind.kind),
                grouped(kind.signed),
                kind.per_second,
                or_dash(kind.p50_millis, millis),
                or_dash(kind.p99_millis, millis)
            )
        })
        .collect();
    let heads = [("Type", false), ("Signed", true), ("Per second", true), ("Median", true), ("p99", true)];
    table("Signatures by type of message", &heads, &rows, "Nothing has been signed since the start.")
}

fn unsigned(endings: &[UnsignedState]) -> String {
    let rows: Vec<String> = endings
        .iter()
        .map(|ending| {
            let level = match ending.result.as_str() {
                "failed" => Level::Bad,
                "refused" | "unavailable" => Level::Warn,
                _ => Level::Off,
            };
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                spaced(&ending.reason),
                badge(level, &ending.result),
                spaced(&ending.kind),
                grouped(ending.recent),
                grouped(ending.count)
            )
        })
        .collect();
    let heads = [("Reason", false), ("Result", false), ("Type", false), ("Last minute", true), ("Since start", true)];
    let empty = "Every request got its signature since the start.";
    table("Requests without a signature, by reason", &heads, &rows, empty)
}

/// A table of keys; `empty` says why there are none.
pub(super) fn keys(keys: &[KeyView], empty: &str) -> String {
    let number = |value: Option<u64>| or_dash(value, grouped);
    let rows: Vec<String> = keys
        .iter()
        .map(|key| {
            let level = match key.state {
                "signing" => Level::Ok,
                "behind" => Level::Warn,
                "not_loaded" => Level::Bad,
                _ => Level::Off,
            };
            let label = key
                .label
                .as_deref()
                .map_or_else(String::new, |label| format!("<span class=\"label\">{}</span>", escape(label)));
            format!(
                "<tr><th scope=\"row\"><code>{}</code>{label}</th><td>{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td></tr>",
                escape(&key.pubkey),
                badge(level, key.state_word()),
                number(key.block_slot),
                number(key.target_epoch)
            )
        })
        .collect();
    let heads = [("Public key", false), ("State", false), ("Last block slot", true), ("Last target epoch", true)];
    table("Keys with the highest block slot and target epoch signed or fenced", &heads, &rows, empty)
}

fn keys_note(signer: &SignerState, now: u64) -> String {
    let keys = &signer.keys;
    let shown = keys.first.len();
    let mut note = match keys.total {
        None => "The keys have not been read from the database yet.".to_owned(),
        Some(total) if total > shown => format!("The first {shown} of {}.", grouped(u64::try_from(total).unwrap_or(0))),
        Some(_) => String::new(),
    };
    if let Some(at) = keys.read_unix_millis {
        let _ = write!(note, " Signed or fenced, as read {}.", ago(now, at));
    }
    note
}

fn instances(signer: &SignerState, now: u64) -> String {
    let rows: Vec<String> = signer
        .database
        .instances
        .iter()
        .map(|instance| {
            format!(
                "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
                escape(&instance.id),
                escape(&instance.host),
                escape(&instance.version),
                ago(now, instance.last_seen_unix_millis)
            )
        })
        .collect();
    let heads = [("Signer", false), ("Host", false), ("Version", false), ("Last commit", true)];
    table("Signers that share the database", &heads, &rows, "None.")
}

/// The slowest class of a node by its 90th percentile.
fn slowest(node: &UpstreamStatus) -> Option<f64> {
    let times = node.performance.values().filter_map(|class: &ClassStatus| class.p90_millis);
    times.reduce(f64::max)
}

fn nodes(status: &StatusDocument) -> String {
    let best = status.serving.get("attestation_data").and_then(|names| names.first());
    let rows: Vec<String> = status
        .upstreams
        .iter()
        .map(|node| {
            let level = match node.health {
                "good" => Level::Ok,
                "drained" => Level::Off,
                "impaired" | "joining" | "behind" => Level::Warn,
                _ => Level::Bad,
            };
            let why = node.last_error.as_deref().filter(|_| level == Level::Bad).unwrap_or(&node.because);
            let first = if best == Some(&node.name) { " <span class=\"label\">first choice</span>" } else { "" };
            format!(
                "<tr><th scope=\"row\">{}{first}</th><td>{}<span class=\"why\">{}</span></td><td>{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td></tr>",
                escape(&node.name),
                badge(level, &node.health.replace('_', " ")),
                escape(why),
                escape(node.version.as_deref().unwrap_or(node.client)),
                or_dash(node.head_slot, grouped),
                or_dash(slowest(node), millis)
            )
        })
        .collect();
    let heads = [("Node", false), ("Health", false), ("Client", false), ("Head slot", true), ("Slowest p90", true)];
    table("Consensus clients", &heads, &rows, "There are no consensus clients.")
}

fn execution_nodes(nodes: &[NodeStatus]) -> String {
    let rows: Vec<String> = nodes
        .iter()
        .map(|node| {
            let level = match (node.drained, node.health) {
                (true, _) => Level::Off,
                (false, "healthy") => Level::Ok,
                (false, "lagging" | "syncing") => Level::Warn,
                _ => Level::Bad,
            };
            let why = node.last_error.as_deref().unwrap_or_default();
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}<span class=\"why\">{}</span></td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td></tr>",
                escape(&node.name),
                badge(level, if node.drained { "drained" } else { node.health }),
                escape(why),
                or_dash(node.head_block, grouped),
                or_dash(node.latency_ms, |time| format!("{time} ms"))
            )
        })
        .collect();
    let heads = [("Node", false), ("Health", false), ("Head block", true), ("Mean answer", true)];
    table("Execution clients", &heads, &rows, "There are no execution clients.")
}

/// Roots are shortened: nobody compares them by eye.
fn shortened(text: &str) -> String {
    let words = text.split(' ').map(|word| match (word.get(..10), word.strip_prefix("0x")) {
        (Some(head), Some(digits)) if digits.len() >= 64 => {
            let rest = digits.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
            format!("{head}…{rest}")
        }
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn decisions(consensus: &[DecisionStatus], execution: Option<&ExecutionStatus>, now: u64) -> String {
    let execution = execution.map_or(&[][..], |status| &status.decisions);
    let mut all: Vec<&DecisionStatus> = consensus.iter().chain(execution).collect();
    all.sort_by_key(|decision| std::cmp::Reverse(decision.at_unix_millis));
    if all.is_empty() {
        return "<p class=\"empty\">Nothing has been decided since the start.</p>".to_owned();
    }
    let mut html = "<ol class=\"log\">".to_owned();
    for decision in all.into_iter().take(20) {
        let time = UnixMillis(decision.at_unix_millis).rfc3339();
        let about = decision.upstream.as_deref().or(decision.class).unwrap_or("all nodes");
        let _ = write!(
            html,
            "<li><time datetime=\"{time}\" title=\"{time}\">{}</time> <strong>{}</strong> <span class=\"about\">{}</span> \
             <span class=\"why\">{}</span></li>",
            ago(now, decision.at_unix_millis),
            spaced(decision.kind),
            escape(about),
            escape(&shortened(&decision.reason))
        );
    }
    html.push_str("</ol>");
    html
}

#[cfg(test)]
mod tests {
    //! Proves: what came from outside cannot become markup, and numbers are written for people.
    use super::*;

    #[test]
    fn markup_of_others_is_text() {
        let key = KeyView {
            pubkey: "0xab".to_owned(),
            label: Some("<script>alert('x')</script> & \"co\"".to_owned()),
            state: "signing",
            block_slot: Some(1_234_567),
            source_epoch: None,
            target_epoch: None,
        };
        let html = keys(&[key], NO_KEYS);
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;co&quot;"), "{html}");
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("1\u{a0}234\u{a0}567"), "{html}");
        assert!(html.contains('–'), "{html}");
    }

    #[test]
    fn roots_are_shortened() {
        let root = "ab".repeat(32);
        let text = format!("source epoch 2 root 0x{root}, target 0x{root}: no");
        assert_eq!(shortened(&text), "source epoch 2 root 0xabababab…, target 0xabababab…: no");
        assert_eq!(shortened("0x12 é stays"), "0x12 é stays");
    }

    #[test]
    fn times_and_counts_are_short() {
        assert_eq!([0.5, 3.25, 42.0, 12_000.0].map(millis), ["0.50 ms", "3.2 ms", "42 ms", "12.0 s"]);
        let minute = 60_000;
        assert_eq!(
            [0, 5 * minute, 180 * minute, 5_000 * minute].map(|before| ago(5_000 * minute, 5_000 * minute - before)),
            ["0 s ago", "5 min ago", "3 h ago", "3 days ago"]
        );
        assert_eq!([7, 1_000, 12_345_678].map(grouped), ["7", "1\u{a0}000", "12\u{a0}345\u{a0}678"]);
    }
}
