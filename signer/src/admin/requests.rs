//! The texts of requests for approvals that were made here lately.
//!
//! Why it exists: whoever asked for an act fetches what people must sign; it is too long for the head of an answer. The
//! journal keeps who asked for what, and a digest. What it guarantees: memory is bounded, and the oldest go first.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use holdfast_approvals::{MAX_REQUEST_BYTES, Request};
use holdfast_slashing_db::CallerId;

/// Texts that are kept.
const MOST: usize = 64;
/// Bytes of all of them.
const MOST_BYTES: usize = 2 * MAX_REQUEST_BYTES;

/// A request that was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    id: String,
    /// What people read and sign.
    pub(super) text: String,
    /// Who asked.
    pub(super) by: CallerId,
}

/// What is kept.
#[derive(Default)]
pub(super) struct Requests(Mutex<VecDeque<Made>>);

impl Requests {
    /// Keeps the text of a request, in place of the oldest ones.
    pub(super) fn keep(&self, request: &Request, by: &CallerId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(Made { id: request.id.to_string(), text: request.to_text(), by: by.clone() });
        let bytes = |all: &VecDeque<Made>| all.iter().map(|made| made.text.len()).fold(0, usize::saturating_add);
        while all.len() > MOST || bytes(&all) > MOST_BYTES {
            all.pop_front();
        }
    }

    /// The request with this number.
    pub(super) fn find(&self, id: &str) -> Option<Made> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|made| made.id == id).cloned()
    }
}

#[cfg(test)]
mod tests {
    //! Proves: the newest requests are found, and no more than the bounds are kept.
    use holdfast_approvals::{Act, Payload, PolicyDigest, RequestId, Scope, Seconds};
    use holdfast_domain::{GenesisValidatorsRoot, UnixMillis};

    use super::*;

    fn request(number: u8, lines: usize) -> Request {
        let scope = Scope {
            network: "x".to_owned(),
            genesis_validators_root: GenesisValidatorsRoot([0; 32]),
            instance: [0; 16],
        };
        let payload = Payload::new(std::iter::repeat_n("x".repeat(1_000), lines));
        let times = (UnixMillis(0), Seconds(60));
        Request::new(RequestId([number; 16]), (Act::Export, payload), times, "x", scope, PolicyDigest([0; 32]))
    }

    #[test]
    fn the_newest_are_found() {
        let (requests, by) = (Requests::default(), CallerId::new("x"));
        for number in 0..=64 {
            requests.keep(&request(number, 1), &by);
        }
        let found = |number: u8| requests.find(&request(number, 0).id.to_string());
        assert_eq!((found(0), found(1).map(|made| made.text)), (None, Some(request(1, 1).to_text())));
        // Two long ones fill the place of all.
        requests.keep(&request(100, 16_000), &by);
        requests.keep(&request(101, 16_000), &by);
        requests.keep(&request(102, 16_000), &by);
        assert!(found(64).is_none() && found(100).is_none() && found(101).is_some() && found(102).is_some());
    }
}
