//! `holdfast top`: what the status page shows, in a terminal, again and again.
//!
//! Guarantees: it asks the metrics listener and changes nothing; lines fit 80 columns; however it ends, the terminal is as
//! it was.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Stdout, Write as _};
use std::time::Duration;

use holdfast_domain::UnixMillis;
use serde_json::Value;

use super::args::TopArgs;
use super::serve::StopSignals;
use super::{Context, Exit, Failure, Format};
use crate::ask::{AskError, How, Listener, Target};
use crate::glance::{Found, metrics_listener};

/// Columns of a terminal that does not say how many it has, and of what is no terminal.
const COLUMNS: usize = 80;
/// Rows of a terminal that does not say how many it has.
const ROWS_UNKNOWN: usize = 24;
/// The most columns that are used: longer lines are harder to read, not easier.
const MOST_COLUMNS: usize = 120;
/// Rows of each list at most.
const ROWS: usize = 8;

/// Another screen, no cursor, no wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// All of that undone.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Looks once, or until told to stop.
pub(super) async fn run(args: &TopArgs, context: &Context) -> Result<Exit, Failure> {
    let target = match Target::named(&context.config).await.map_err(failed)? {
        Some(target) => target,
        None => here(context).await?,
    };
    let terminal = std::io::stdout().is_terminal();
    if args.once || (!terminal && context.output.format == Format::Text) {
        let document = ask(&target).await?;
        context.output.result(screen(&document, COLUMNS).join("\n"), &document)?;
        return Ok(Exit::Done);
    }
    let mut signals = StopSignals::new()?;
    let every = Duration::from_secs(args.every.get().into());
    let shown = (context.output.format == Format::Text).then(Screen::enter);
    loop {
        let document = ask(&target).await;
        match (&shown, document) {
            (Some(shown), Ok(document)) => shown.show(&screen(&document, columns())),
            (Some(shown), Err(failure)) => {
                shown.show(&[format!("no answer from {}: {}", target.address(), failure.text())]);
            }
            (None, Ok(document)) => context.output.result("", &document)?,
            (None, Err(failure)) => return Err(failure),
        }
        tokio::select! {
            _ = signals.next() => return Ok(Exit::Done),
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// The metrics listener of the server on this data directory.
async fn here(context: &Context) -> Result<Target, Failure> {
    // Files that cannot be used are no server that does not answer.
    How::of(Listener::Metrics, &context.config).map_err(failed)?;
    match metrics_listener(&context.config).await? {
        Found::Listener(target) => Ok(target),
        Found::Nothing(Some(problem)) => Err(Failure::message(Exit::Unreachable, problem)),
        Found::Nothing(None) => {
            let text =
                "no server answers for this data directory, nor on metrics.listen; start one with `holdfast serve`";
            Err(Failure::message(Exit::Unreachable, text))
        }
    }
}

async fn ask(target: &Target) -> Result<Value, Failure> {
    let body = target.fetch("/status.json").await.map_err(failed)?;
    serde_json::from_str(&body).map_err(|error| {
        let text = format!("{} gives no status: {error}; it may be an older version", target.address());
        Failure::message(Exit::Unreachable, text)
    })
}

fn failed(error: AskError) -> Failure {
    Failure::new(error.exit(), error)
}

/// The other screen of the terminal, until this is dropped.
struct Screen {
    stdout: Stdout,
}

impl Screen {
    fn enter() -> Self {
        let screen = Self { stdout: std::io::stdout() };
        screen.write(ENTER);
        screen
    }

    fn show(&self, lines: &[String]) {
        // A terminal may not know its size, and then says that it has none.
        let size = rustix::termios::tcgetwinsize(&self.stdout).ok().filter(|size| size.ws_row > 0);
        let rows = size.map_or(ROWS_UNKNOWN, |size| usize::from(size.ws_row));
        let shown = lines.get(..rows.saturating_sub(1)).unwrap_or(lines);
        // Each line is cleared to its end, and so is all below the last.
        self.write(&format!("\x1b[H{}\x1b[K\r\n\x1b[J", shown.join("\x1b[K\r\n")));
    }

    /// To standard output; nobody is to tell if that is closed.
    fn write(&self, text: &str) {
        let mut stdout = self.stdout.lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.write(LEAVE);
    }
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(COLUMNS, |size| usize::from(size.ws_col)).clamp(COLUMNS, MOST_COLUMNS)
}

/// One line of words in columns: width, and whether it ends there or begins. A word that is too long is cut.
fn line(cells: &[(&str, isize)]) -> String {
    let mut text = String::new();
    for (word, width) in cells {
        let room = width.unsigned_abs();
        // What came from elsewhere must not move the cursor.
        let clean: String = word.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let word = if clean.chars().count() > room {
            clean.chars().take(room.saturating_sub(1)).chain(['…']).collect()
        } else {
            clean
        };
        // Writing to a string does not fail.
        let _ = if *width < 0 { write!(text, "{word:>room$} ") } else { write!(text, "{word:<room$} ") };
    }
    text.trim_end().to_owned()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn number(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn decimal(value: &Value, path: &str, unit: &str) -> String {
    let number = value.pointer(path).and_then(Value::as_f64);
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.2}{unit}"))
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A document as lines of so many columns.
fn screen(document: &Value, columns: usize) -> Vec<String> {
    let wide = isize::try_from(columns).unwrap_or(80);
    let clock = UnixMillis(document["at_unix_millis"].as_u64().unwrap_or_default()).rfc3339();
    let network = document["network"].as_str().unwrap_or("switcher alone");
    let about = format!(
        "holdfast {} · {network} · slot {} · up {} min",
        text(document, "/version"),
        number(document, "/slot"),
        document["uptime_seconds"].as_u64().unwrap_or_default() / 60
    );
    let time = clock.get(11..).unwrap_or_default().replace('Z', " UTC");
    let mut lines = vec![line(&[(&about, wide.saturating_sub(14)), (&time, -13)]), String::new()];
    for state in list(document, "/states") {
        let level = match text(state, "/level") {
            "bad" => "BAD",
            "warn" => "WARN",
            other => other,
        };
        let (part, word, detail) = (text(state, "/part"), text(state, "/word"), text(state, "/detail"));
        lines.push(line(&[(part, 17), (level, 4), (word, 20), (detail, wide.saturating_sub(44))]));
    }
    if document["signer"].is_object() {
        signer(&document["signer"], wide, &mut lines);
    }
    nodes(document, wide, &mut lines);
    lines
}

/// Adds a heading and rows, if there are rows.
fn table(lines: &mut Vec<String>, head: &[(&str, isize)], rows: Vec<String>) {
    if !rows.is_empty() {
        lines.extend([String::new(), line(head)]);
        lines.extend(rows);
    }
}

fn signer(signer: &Value, wide: isize, lines: &mut Vec<String>) {
    let name = wide.saturating_sub(50);
    let rows = list(signer, "/signing/kinds").iter().take(ROWS).map(|kind| {
        line(&[
            (&text(kind, "/type").replace('_', " "), name),
            (&number(kind, "/signed"), -11),
            (&decimal(kind, "/per_second", ""), -10),
            (&decimal(kind, "/p50_millis", " ms"), -12),
            (&decimal(kind, "/p99_millis", " ms"), -12),
        ])
    });
    let head = [("SIGNED", name), ("total", -11), ("per second", -10), ("median", -12), ("p99", -12)];
    table(lines, &head, rows.collect());

    let rows = list(signer, "/unsigned").iter().take(ROWS).map(|ending| {
        line(&[
            (&text(ending, "/reason").replace('_', " "), wide.saturating_sub(52)),
            (text(ending, "/result"), 11),
            (&text(ending, "/type").replace('_', " "), 14),
            (&number(ending, "/recent"), -11),
            (&number(ending, "/count"), -11),
        ])
    });
    let head =
        [("NOT SIGNED", wide.saturating_sub(52)), ("result", 11), ("type", 14), ("last minute", -11), ("total", -11)];
    table(lines, &head, rows.collect());

    let rows = list(signer, "/keys/first").iter().take(ROWS).map(|key| {
        let name = key["label"].as_str().unwrap_or_else(|| text(key, "/pubkey"));
        line(&[
            (name, wide.saturating_sub(47)),
            (&text(key, "/state").replace('_', " "), 11),
            (&number(key, "/block_slot"), -15),
            (&number(key, "/target_epoch"), -17),
        ])
    });
    let keys = format!("KEYS ({})", number(signer, "/keys/total"));
    let head =
        [(keys.as_str(), wide.saturating_sub(47)), ("state", 11), ("last block slot", -15), ("last target epoch", -17)];
    table(lines, &head, rows.collect());
}

fn nodes(document: &Value, wide: isize, lines: &mut Vec<String>) {
    let head = [("NODE", wide.saturating_sub(50)), ("health", 12), ("client", 20), ("head", -14)];
    let rows = list(document, "/switcher/upstreams").iter().take(ROWS).map(|node| {
        let client = node["version"].as_str().unwrap_or_else(|| text(node, "/client"));
        let health = text(node, "/health").replace('_', " ");
        line(&[
            (text(node, "/name"), wide.saturating_sub(50)),
            (&health, 12),
            (client, 20),
            (&number(node, "/head_slot"), -14),
        ])
    });
    let execution = list(document, "/execution/nodes").iter().take(ROWS).map(|node| {
        let health = text(node, "/health").replace('_', " ");
        line(&[
            (text(node, "/name"), wide.saturating_sub(50)),
            (&health, 12),
            ("execution", 20),
            (&number(node, "/head_block"), -14),
        ])
    });
    table(lines, &head, rows.chain(execution).collect());
}

#[cfg(test)]
mod tests {
    //! Proves: lines fit, long words are cut, and nothing that came from elsewhere reaches the terminal as a command.
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_fit_and_hold_no_commands() {
        let document = json!({
            "version": "1.2.3", "network": "hoodi", "slot": 123_456_789, "uptime_seconds": 7_200, "at_unix_millis": 0,
            "states": [{ "part": "Consensus clients", "level": "bad", "word": "0 of 24 good", "detail": "x".repeat(300) }],
            "signer": {
                "signing": { "kinds": [{ "type": "sync_committee_contribution_and_proof", "signed": 123_456_789_012u64,
                    "per_second": 1234.5, "p50_millis": 0.25, "p99_millis": null }] },
                "unsigned": [{ "reason": "double_block", "result": "refused", "type": "block", "recent": 1, "count": 2 }],
                "keys": { "total": 1, "first": [{ "pubkey": format!("0x{}", "ab".repeat(48)),
                    "label": "\u{1b}]0;evil\u{7}name", "state": "not_loaded", "block_slot": 1, "target_epoch": null }] },
            },
            "switcher": { "upstreams": [{ "name": "n".repeat(90), "health": "far_behind", "client": "teku" }] },
        });
        for columns in [80, 120] {
            let lines = screen(&document, columns);
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:#?}");
            assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{lines:#?}");
            let all = lines.join("\n");
            for wanted in
                ["hoodi", "00:00:00 UTC", "BAD", "double block", "1234.50", "0.25 ms", "not loaded", "far behind"]
            {
                assert!(all.contains(wanted), "no {wanted} in\n{all}");
            }
        }
        assert_eq!(screen(&json!({}), 80).len(), 2, "a document of another version is no reason to fail");
    }
}
