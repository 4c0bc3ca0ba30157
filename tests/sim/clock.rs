//! The time of the test network: it moves with the requests of all clients, so that a fence costs no
//! waiting, and every signer has a clock of its own that can be wrong.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_tests::shim::Control;
use holdfast_tests::world::{GENESIS_TIME, SLOTS_PER_EPOCH};

/// Nanoseconds of a slot of the test network.
const SLOT_NANOS: i64 = 6_000_000_000;
/// Requests of all clients after which the next slot begins.
const REQUESTS_PER_SLOT: u64 = 20;

/// One signer's clock.
struct Face {
    control: Arc<Control>,
    wrong_by: i64,
}

/// The right time, and how wrong each signer has it.
#[derive(Default)]
pub(crate) struct SimClock {
    /// Right time minus the machine's, in nanoseconds.
    offset: AtomicI64,
    requests: AtomicU64,
    faces: Mutex<Vec<Face>>,
}

impl SimClock {
    /// Adds a signer's clock, which is right. Returns its number.
    pub(crate) fn add(&self, control: Arc<Control>) -> usize {
        let mut faces = self.faces.lock().unwrap_or_else(PoisonError::into_inner);
        control.set_clock_offset(self.offset.load(Ordering::SeqCst));
        faces.push(Face { control, wrong_by: 0 });
        faces.len() - 1
    }

    /// The slot by the right time.
    pub(crate) fn slot(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let now = i64::try_from(now).expect("before 2262") + self.offset.load(Ordering::SeqCst);
        let genesis = i64::try_from(GENESIS_TIME).expect("a time") * 1_000_000_000;
        u64::try_from((now - genesis) / SLOT_NANOS).expect("after genesis")
    }

    /// Counts a request; time moves with them.
    pub(crate) fn tick(&self) {
        if self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(REQUESTS_PER_SLOT) {
            self.advance(1);
        }
    }

    /// Lets slots pass for everybody.
    pub(crate) fn advance(&self, slots: u64) {
        let faces = self.faces.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = self.offset.load(Ordering::SeqCst) + i64::try_from(slots).expect("few") * SLOT_NANOS;
        // Signers first: a client never lives in a slot that a right clock does not know yet.
        for face in faces.iter() {
            face.control.set_clock_offset(offset + face.wrong_by);
        }
        self.offset.store(offset, Ordering::SeqCst);
    }

    /// Lets epochs pass for everybody.
    pub(crate) fn advance_epochs(&self, epochs: u64) {
        self.advance(epochs * SLOTS_PER_EPOCH);
    }

    /// Makes one signer's clock wrong by so many seconds; 0 puts it right.
    pub(crate) fn jump(&self, face: usize, seconds: i64) {
        let mut faces = self.faces.lock().unwrap_or_else(PoisonError::into_inner);
        faces[face].wrong_by = seconds * 1_000_000_000;
        faces[face].control.set_clock_offset(self.offset.load(Ordering::SeqCst) + faces[face].wrong_by);
    }
}
