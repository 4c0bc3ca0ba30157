//! Errors in the validator client's log, sorted by what they say and by what was broken when they were written.

use std::collections::BTreeMap;

use holdfast_tests::client_log::ClientLog;

use crate::faults::Fault;

/// What was broken when an error was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum During {
    /// Before anything was: the chain and its client start.
    Start,
    /// Nothing: the slot before the next fault.
    Rest,
    /// From the moment it was broken until it was mended.
    Fault(Fault),
    /// In the slots after that.
    After(Fault),
}

/// Errors of one kind.
#[derive(Default)]
struct Kind {
    during: BTreeMap<During, u64>,
    /// The first one, whole.
    example: String,
}

/// All errors, by kind.
#[derive(Default)]
pub(crate) struct Causes(BTreeMap<String, Kind>);

impl Causes {
    /// Takes what the client has written since the last time.
    pub(crate) fn take(&mut self, log: &mut ClientLog, during: During) {
        for line in log.take_errors() {
            let said = line.split_once(" error: ").map_or(line.as_str(), |(_, said)| said);
            let kind = self.0.entry(kind(said)).or_default();
            *kind.during.entry(during).or_default() += 1;
            if kind.example.is_empty() {
                said.clone_into(&mut kind.example);
            }
        }
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.values().flat_map(|kind| kind.during.values()).sum()
    }

    pub(crate) fn print(&self) {
        println!("  errors in the client's log: {}", self.count());
        for (name, kind) in &self.0 {
            println!("  | {} x {name}", kind.during.values().sum::<u64>());
            for (during, count) in &kind.during {
                println!("  |     {count} x {during:?}");
            }
            println!("  |     first: {}", kind.example.chars().take(400).collect::<String>());
        }
    }
}

/// What a message says without its numbers, roots and addresses.
fn kind(said: &str) -> String {
    let mut kind = String::new();
    for word in said.split_whitespace() {
        let (name, value) = word.split_once('=').map_or(("", word), |(name, value)| (name, value));
        let varies = value.bytes().any(|byte| byte.is_ascii_digit());
        if !kind.is_empty() {
            kind.push(' ');
        }
        match (name, varies) {
            (_, false) => kind.push_str(word),
            ("", true) => kind.push('#'),
            (name, true) => kind.push_str(&format!("{name}=#")),
        }
    }
    // The rest names inner errors, which differ by node.
    kind.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn the_same_error_of_other_slots_is_one_kind() {
        let first =
            kind("Error publishing attestations slot=17, index=0x3 - Timeout after 2000 ms at http://127.0.0.1:99");
        let second =
            kind("Error publishing attestations slot=18, index=0x1 - Timeout after 400 ms at http://127.0.0.1:7");
        assert_eq!(first, second);
        assert_eq!(first, "Error publishing attestations slot=# index=# - Timeout after # ms at #");
        assert_ne!(first, kind("Error signing attestation slot=17"));
    }
}
