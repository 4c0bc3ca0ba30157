//! What the boots of an enclave need: machines, images, conversations with the vault inside, and messages to sign.

pub(crate) mod chain;
pub(crate) mod image;
pub(crate) mod keys;
pub(crate) mod line;
pub(crate) mod machine;
pub(crate) mod place;
pub(crate) mod relay;

use std::time::{Duration, Instant};

/// Anything waited for comes within this.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
