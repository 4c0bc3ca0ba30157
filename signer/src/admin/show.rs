//! How keys are shown, for people and for programs.

use holdfast_domain::UnixMillis;
use holdfast_wire::admin::v1::{Key, KeyOrigin, KeyState};
use serde_json::{Value, json};

use crate::clock::rfc3339;

/// Lower-case word of a state.
pub(crate) fn state(key: &Key) -> &'static str {
    match key.state() {
        KeyState::Enabled => "enabled",
        KeyState::Disabled => "disabled",
        KeyState::Tombstoned => "tombstoned",
        KeyState::Unspecified => "unknown",
    }
}

fn origin(key: &Key) -> Option<&'static str> {
    match key.origin() {
        KeyOrigin::Imported => Some("imported"),
        KeyOrigin::Generated => Some("generated"),
        KeyOrigin::Unspecified => None,
    }
}

/// A key as programs see it.
pub(crate) fn key_json(key: &Key, provider: Option<&str>) -> Value {
    let marks = key.watermarks.unwrap_or_default();
    let held = origin(key);
    json!({
        "pubkey": key.pubkey,
        "state": state(key),
        "block_slot": marks.block_slot,
        "source_epoch": marks.source_epoch,
        "target_epoch": marks.target_epoch,
        "origin": held,
        "provider": provider.filter(|_| held.is_some() && key.state() != KeyState::Tombstoned),
        "label": key.label,
        "labels": key.labels,
        // A key known only by its history was never brought in by anybody.
        "created": held.map(|_| rfc3339(UnixMillis(key.created_unix_millis))),
        "created_by": held.map(|_| key.created_by.as_str()),
        "changed": held.map(|_| rfc3339(UnixMillis(key.changed_unix_millis))),
        "changed_by": held.map(|_| key.changed_by.as_str()),
    })
}

/// Watermarks in columns; a dash where there is none.
pub(crate) fn key_line(key: &Key) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let marks = key.watermarks.unwrap_or_default();
    format!(
        "{} {:<10} {:>10} {:>8} {:>8}",
        key.pubkey,
        state(key),
        number(marks.block_slot),
        number(marks.source_epoch),
        number(marks.target_epoch),
    )
}

/// The same, and when its state was last changed and by whom; dashes for a key nobody brought in.
pub(crate) fn listed(key: &Key) -> String {
    match origin(key) {
        Some(_) => {
            let labels = key.labels.join(",");
            let (line, changed) = (key_line(key), rfc3339(UnixMillis(key.changed_unix_millis)));
            format!("{line} {changed} {:<14} {labels}", key.changed_by).trim_end().to_owned()
        }
        None => format!("{} {:<20} -", key_line(key), "-"),
    }
}

/// The heading over [`key_line`].
pub(crate) fn key_heading() -> String {
    format!("{:<98} {:<10} {:>10} {:>8} {:>8}", "PUBLIC KEY", "STATE", "BLOCK SLOT", "SOURCE", "TARGET")
}
