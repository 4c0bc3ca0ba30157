//! Log lines by the Elastic Common Schema (ECS 8.11), for stacks that index them without a pipeline of their own.
//!
//! Guarantees: one JSON object per line; fields of the schema have its names, everything of ours is below `holdfast`, so
//! that no field of ours is ever taken for one of the schema's.

use std::fmt;

use holdfast_domain::{Clock as _, UnixMillis};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::SystemClock;

/// The version of the schema that is followed.
const SCHEMA: &str = "8.11.0";

/// Writes events so. Spans must be formatted by [`JsonFields`].
pub(super) struct Ecs;

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    own: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.own.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.put(field, text.into()) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { value.clone_into(&mut self.message) } else { self.put(field, value.into()) }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

impl<S> FormatEvent<S, JsonFields> for Ecs
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        for span in context.event_scope().into_iter().flatten() {
            let known = span.extensions();
            let Some(text) = known.get::<FormattedFields<JsonFields>>() else { continue };
            // The innermost span comes first, and its word counts.
            for (name, value) in serde_json::from_str::<Map<String, Value>>(&text.fields).unwrap_or_default() {
                fields.own.entry(name).or_insert(value);
            }
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        let (error, trace) = (fields.own.remove("error"), fields.own.remove("trace_id"));
        let mut line = json!({
            "@timestamp": timestamp(SystemClock.now()),
            "log.level": metadata.level().as_str().to_lowercase(),
            "message": fields.message,
            "ecs.version": SCHEMA,
            "log.logger": metadata.target(),
            "service.name": "holdfast",
            "service.version": env!("CARGO_PKG_VERSION"),
            "process.pid": std::process::id(),
        });
        if let Some(line) = line.as_object_mut() {
            let ours = [("error.message", error), ("trace.id", trace)];
            line.extend(ours.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        if let (false, Some(line)) = (fields.own.is_empty(), line.as_object_mut()) {
            line.insert("holdfast".to_owned(), Value::Object(fields.own));
        }
        writeln!(to, "{line}")
    }
}

/// To the millisecond.
fn timestamp(now: UnixMillis) -> String {
    let seconds = now.rfc3339();
    let millis = now.0.checked_rem(1_000).unwrap_or(0);
    format!("{}.{millis:03}Z", seconds.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    //! Proves: names of the schema, types of values, and what becomes of spans and errors.
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_follows_the_schema() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Ecs);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let span = tracing::info_span!("request", pubkey = "0xab", slot = 7u64);
            let _entered = span.enter();
            tracing::warn!(slot = 8u64, trace_id = "0af7", error = "it broke", signed = false, "not signed: {}", "why");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        for (name, value) in [
            ("log.level", json!("warn")),
            ("message", json!("not signed: why")),
            ("ecs.version", json!("8.11.0")),
            ("service.name", json!("holdfast")),
            ("error.message", json!("it broke")),
            ("trace.id", json!("0af7")),
            ("holdfast", json!({ "pubkey": "0xab", "slot": 8, "signed": false })),
        ] {
            assert_eq!(line[name], value, "{name} in {line}");
        }
        assert!(line["log.logger"].as_str().is_some_and(|logger| logger.starts_with("holdfast")), "{line}");
        assert!(line["@timestamp"].as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{line}");
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(timestamp(UnixMillis(1_600_000_000_007)), "2020-09-13T12:26:40.007Z");
    }
}
