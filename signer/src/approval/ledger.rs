//! What the journal says of requests for approvals, put together again.
//!
//! Guarantees: memory is bounded, however many requests there were; a use whose request is not in the journal any more is
//! shown all the same.

use std::collections::{HashMap, VecDeque};

use holdfast_approvals::Request;
use holdfast_domain::UnixMillis;
use holdfast_slashing_db::journal::Event;

/// What stands before a request's number in what an event is about.
pub(super) const ABOUT: &str = "approval/";
/// Requests that are kept; of more, the newest.
const MOST: usize = 10_000;

/// What the journal keeps of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A word for the act.
    pub(crate) act: String,
    /// SHA-256 of what is to be done, in hexadecimal digits.
    pub(crate) payload: String,
    /// RFC 3339.
    pub(crate) expires: String,
    /// The first line of what is to be done.
    pub(crate) summary: String,
}

impl Asked {
    /// What is kept of this request.
    pub(super) fn of(request: &Request) -> Self {
        Self {
            act: request.act.to_string(),
            payload: request.payload.digest().to_string(),
            expires: request.expires.rfc3339(),
            summary: request.payload.lines().first().cloned().unwrap_or_default(),
        }
    }

    /// As it stands in the event.
    pub(super) fn detail(&self) -> String {
        let Self { act, payload, expires, summary } = self;
        format!("{act}; payload sha256 {payload}; expires {expires}; {summary}")
    }

    fn parse(detail: &str) -> Option<Self> {
        let mut parts = detail.splitn(4, "; ");
        let mut next = |before: &str| parts.next()?.strip_prefix(before).map(str::to_owned);
        let (act, payload, expires) = (next("")?, next("payload sha256 ")?, next("expires ")?);
        Some(Self { act, payload, expires, summary: next("")? })
    }
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its number.
    pub(crate) id: String,
    /// What it was for.
    pub(crate) asked: Asked,
    /// When it was made.
    pub(crate) at: UnixMillis,
    /// Who asked.
    pub(crate) by: String,
    /// Who approved, once it was used.
    pub(crate) given: Vec<String>,
    /// When it was used up.
    pub(crate) used: Option<UnixMillis>,
    /// How often it was brought and refused.
    pub(crate) refused: u64,
    /// Why, the last time.
    pub(crate) last_refusal: Option<String>,
}

impl Known {
    /// Whether its time is over.
    pub(crate) fn expired(&self, now: UnixMillis) -> bool {
        UnixMillis::from_rfc3339(&self.asked.expires).is_none_or(|expires| expires <= now)
    }
}

/// Requests, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: VecDeque<Known>,
    /// How many were let go.
    gone: usize,
    /// Where each is, counted from the first there ever was.
    places: HashMap<String, usize>,
}

impl Ledger {
    /// Takes an event in, in the journal's order.
    pub(crate) fn take(&mut self, event: &Event) {
        let Some(id) = event.what().strip_prefix(ABOUT) else { return };
        match event.kind().as_str() {
            "approvals.requested" => {
                if let Some(asked) = Asked::parse(event.why()) {
                    self.add(id, asked, event);
                }
            }
            "approvals.given" => self.of(id, event, |known| known.given.push(event.why().to_owned())),
            "approvals.used" => self.of(id, event, |known| known.used = Some(event.happened_at())),
            "approvals.refused" => self.of(id, event, |known| {
                known.refused = known.refused.saturating_add(1);
                known.last_refusal = Some(event.why().to_owned());
            }),
            _ => {}
        }
    }

    /// All there are.
    pub(crate) fn into_known(self) -> impl Iterator<Item = Known> {
        self.known.into_iter()
    }

    fn add(&mut self, id: &str, asked: Asked, event: &Event) {
        self.places.insert(id.to_owned(), self.gone.saturating_add(self.known.len()));
        self.known.push_back(Known {
            id: id.to_owned(),
            asked,
            at: event.happened_at(),
            by: event.caller().as_str().to_owned(),
            given: Vec::new(),
            used: None,
            refused: 0,
            last_refusal: None,
        });
        if self.known.len() > MOST
            && let Some(oldest) = self.known.pop_front()
        {
            self.gone = self.gone.saturating_add(1);
            self.places.remove(&oldest.id);
        }
    }

    fn of(&mut self, id: &str, event: &Event, change: impl FnOnce(&mut Known)) {
        if !self.places.contains_key(id) {
            // Its request is in an older part of the journal, or was made by hand.
            let unknown = || "unknown".to_owned();
            let asked = Asked { act: unknown(), payload: unknown(), expires: unknown(), summary: String::new() };
            self.add(id, asked, event);
        }
        let place = self.places.get(id).and_then(|place| place.checked_sub(self.gone));
        if let Some(known) = place.and_then(|place| self.known.get_mut(place)) {
            change(known);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what is written about a request is read back; requests and what became of them find each other; memory is
    //! bounded.
    #![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

    use holdfast_slashing_db::CallerId;
    use holdfast_slashing_db::journal::EventKind;

    use super::*;

    fn asked(summary: &str) -> Asked {
        let text = |word: &str| word.to_owned();
        Asked {
            act: text("export"),
            payload: text("1f"),
            expires: text("2026-11-30T00:40:00Z"),
            summary: text(summary),
        }
    }

    fn event(at: u64, kind: &str, id: &str, detail: &str) -> Event {
        let event = Event::new(UnixMillis(at), &CallerId::new("uid/1 (unix)"), EventKind::new(kind));
        event.about(&format!("{ABOUT}{id}")).detail(detail)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for summary in ["Export 2 keys.", "", "a; b; payload sha256 x"] {
            assert_eq!(Asked::parse(&asked(summary).detail()), Some(asked(summary)));
        }
        assert_eq!(Asked::parse("export; something"), None);
    }

    #[test]
    fn requests_and_their_fate_find_each_other() {
        let mut ledger = Ledger::default();
        for (at, kind, id, detail) in [
            (1, "approvals.requested", "a", asked("first").detail().as_str()),
            (2, "approvals.requested", "b", asked("second").detail().as_str()),
            (3, "approvals.refused", "a", "too_few: 1 of 2"),
            (4, "approvals.given", "a", "alice SHA256:x"),
            (5, "approvals.used", "a", "export by 2 people"),
            (6, "approvals.used", "of before", "export by 2 people"),
            (7, "switcher.drained", "b", ""),
        ] {
            ledger.take(&event(at, kind, id, detail));
        }
        let known: Vec<Known> = ledger.into_known().collect();
        let told: Vec<_> = known.iter().map(|one| (one.id.as_str(), one.used, one.refused)).collect();
        assert_eq!(told, [("a", Some(UnixMillis(5)), 1), ("b", None, 0), ("of before", Some(UnixMillis(6)), 0)]);
        assert_eq!(
            (known[0].given.as_slice(), known[1].asked.summary.as_str()),
            (&["alice SHA256:x".to_owned()][..], "second")
        );
        let expires = UnixMillis::from_rfc3339("2026-11-30T00:40:00Z").map_or(0, |time| time.0);
        assert!(known[1].expired(UnixMillis(expires)) && !known[1].expired(UnixMillis(expires - 1)));
    }

    #[test]
    fn the_newest_are_kept() {
        let mut ledger = Ledger::default();
        for number in 0..MOST as u64 + 3 {
            ledger.take(&event(number, "approvals.requested", &number.to_string(), &asked("x").detail()));
        }
        ledger.take(&event(0, "approvals.used", "5", "x"));
        let known: Vec<Known> = ledger.into_known().collect();
        assert_eq!((known.len(), known[0].id.as_str(), known[2].used.is_some()), (MOST, "3", true));
    }
}
