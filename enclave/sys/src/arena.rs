//! A slab arena for 32-byte secrets: 128 to a 4 KiB page, so 100 000 keys take 3.2 MB of locked memory.
//!
//! Guarantees: a [`Slot`] is the only way to its 32 bytes and two live slots never overlap; a slot is
//! zeroed before its place is given to another; pages are never unmapped, so a slot stays valid as
//! long as it lives. Bookkeeping is kept outside the secret pages.
//!
//! Pages emptied by dropped slots stay mapped (and zero) for the next ones.

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use zeroize::Zeroize;

use crate::error::SysError;
use crate::pages::{LockFailure, LockStatus, Protect, Region, page_size, protect};

/// Bytes in a slot.
pub(crate) const SLOT_LEN: usize = 32;

/// Hands out slots and larger regions, and remembers whether all of them could be locked.
pub(crate) struct Arena {
    pages: Mutex<Pages>,
    protect: Protect,
    first_failure: OnceLock<LockFailure>,
}

/// The pages, and which of them have room.
struct Pages {
    all: Vec<Page>,
    /// Indices into `all` of the pages with at least one free slot, each once.
    with_room: Vec<usize>,
}

/// One page and a bit per slot: 1 is taken.
struct Page {
    region: Region,
    taken: Vec<u128>,
}

/// The arena of the process. Never dropped.
pub(crate) static PROCESS_ARENA: Arena = Arena::new(protect);

impl Arena {
    /// An empty arena. Pages are mapped when first needed.
    pub(crate) const fn new(protect: Protect) -> Self {
        Self {
            pages: Mutex::new(Pages { all: Vec::new(), with_room: Vec::new() }),
            protect,
            first_failure: OnceLock::new(),
        }
    }

    /// A zeroed slot of its own.
    pub(crate) fn slot(&'static self) -> Result<Slot, SysError> {
        let mut pages = self.pages();
        if pages.with_room.is_empty() {
            let region = self.region(page_size())?;
            pages.add(region);
        }
        let place = pages.take().ok_or_else(|| SysError::Map(std::io::Error::other("a fresh page has no room")))?;
        Ok(Slot { arena: self, place })
    }

    /// A region of its own, at least `len` bytes long, for secrets that do not fit a slot.
    pub(crate) fn region(&self, len: usize) -> Result<Region, SysError> {
        let (region, failure) = Region::map(len, self.protect)?;
        if let Some(failure) = failure {
            // Err means that an earlier failure is already recorded; the first one is reported.
            let _ = self.first_failure.set(failure);
        }
        Ok(region)
    }

    /// Whether everything handed out so far is locked. Maps a first page if there is none, so that
    /// the answer is meaningful before the first secret.
    pub(crate) fn status(&'static self) -> LockStatus {
        if self.pages().all.is_empty() {
            // Too little memory even for one page surfaces with the first secret, which cannot
            // exist without its slot.
            drop(self.slot());
        }
        match self.first_failure.get() {
            None => LockStatus::Locked,
            Some(reason) => LockStatus::Unlocked { reason: *reason },
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // Nothing below panics while it holds the lock, so a poisoned one is still consistent.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn add(&mut self, region: Region) {
        let words = region.len() / SLOT_LEN / 128;
        self.with_room.push(self.all.len());
        self.all.push(Page { region, taken: vec![0; words] });
    }

    /// Takes a free slot of the last page with room.
    fn take(&mut self) -> Option<Place> {
        let index = *self.with_room.last()?;
        let page = self.all.get_mut(index)?;
        let slot = page.take_bit()?;
        if page.is_full() {
            self.with_room.pop();
        }
        // SAFETY: a page has len / 32 bits, `slot` is one of them, so slot * 32 + 32 <= len and the
        // offset stays inside the region.
        let bytes = unsafe { page.region.data().add(slot * SLOT_LEN) };
        Some(Place { bytes: bytes.cast(), page: index, slot })
    }

    fn give_back(&mut self, page_index: usize, slot: usize) {
        let Some(page) = self.all.get_mut(page_index) else {
            return;
        };
        let was_full = page.is_full();
        if let Some(word) = page.taken.get_mut(slot / 128) {
            *word &= !(1 << (slot % 128));
        }
        if was_full {
            self.with_room.push(page_index);
        }
    }
}

impl Page {
    fn take_bit(&mut self) -> Option<usize> {
        for (index, word) in self.taken.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            if bit < u128::BITS {
                *word |= 1 << bit;
                return Some(index * 128 + bit as usize);
            }
        }
        None
    }

    fn is_full(&self) -> bool {
        self.taken.iter().all(|word| *word == u128::MAX)
    }
}

/// Where a slot is.
struct Place {
    bytes: NonNull<[u8; SLOT_LEN]>,
    page: usize,
    slot: usize,
}

/// Exclusive use of 32 bytes of the arena. Zero when handed out and zeroed when dropped.
pub(crate) struct Slot {
    arena: &'static Arena,
    place: Place,
}

// SAFETY: a slot is the only owner of its 32 bytes, which are ordinary memory that lives as long as
// the process; the arena it returns to is behind a mutex.
unsafe impl Send for Slot {}
// SAFETY: through a shared slot the bytes can only be read; writing needs `&mut`.
unsafe impl Sync for Slot {}

impl Slot {
    /// The secret bytes.
    pub(crate) fn bytes(&self) -> &[u8; SLOT_LEN] {
        // SAFETY: the place is mapped, initialised and 1-aligned, its page is never unmapped, and
        // the arena gives it to one slot at a time; `&self` excludes writers.
        unsafe { self.place.bytes.as_ref() }
    }

    /// The secret bytes, to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; SLOT_LEN] {
        // SAFETY: as in `bytes`; `&mut self` excludes every other reference.
        unsafe { self.place.bytes.as_mut() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        let (page, slot) = (self.place.page, self.place.slot);
        self.arena.pages().give_back(page, slot);
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: slots do not overlap, are zeroed on drop, are reused, survive many threads, and
    //! lock failures are remembered. Arenas are leaked, as the one of the process is never dropped.

    use std::collections::{BTreeMap, BTreeSet};
    use std::ptr;

    use proptest::prelude::*;

    use super::*;

    fn leaked(protect: Protect) -> &'static Arena {
        Box::leak(Box::new(Arena::new(protect)))
    }

    /// For tests that leak many pages: they leave the limit on locked memory to the others.
    #[expect(clippy::unnecessary_wraps, reason = "has the type of `protect`")]
    fn unprotected(_: NonNull<u8>, _: usize) -> Result<(), LockFailure> {
        Ok(())
    }

    fn fill(slot: &mut Slot, value: u8) {
        slot.bytes_mut().fill(value);
    }

    fn address(slot: &Slot) -> usize {
        slot.bytes().as_ptr() as usize
    }

    #[test]
    fn a_dropped_slot_leaves_zeroes() {
        let arena = leaked(protect);
        let mut slot = arena.slot().unwrap();
        fill(&mut slot, 0x5a);
        let place: *const [u8; SLOT_LEN] = slot.bytes();
        // SAFETY: the slot is alive, so its bytes are mapped and initialised.
        let before = unsafe { ptr::read_volatile(place) };
        assert_eq!(before, [0x5a; SLOT_LEN]);
        drop(slot);
        // SAFETY: pages are never unmapped, so the place is readable after its slot is gone, and no
        // other thread knows this arena.
        let after = unsafe { ptr::read_volatile(place) };
        assert_eq!(after, [0; SLOT_LEN]);
    }

    #[test]
    fn slots_are_packed_apart_and_reused() {
        let arena = leaked(unprotected);
        let per_page = page_size() / SLOT_LEN;
        let mut slots: Vec<Slot> = (0..3 * per_page).map(|_| arena.slot().unwrap()).collect();
        assert_eq!(arena.pages().all.len(), 3, "one page per {per_page} slots");
        let addresses: BTreeSet<usize> = slots.iter().map(address).collect();
        assert_eq!(addresses.len(), slots.len());
        for pair in addresses.iter().collect::<Vec<_>>().windows(2) {
            assert!(pair[1] - pair[0] >= SLOT_LEN);
        }

        let freed: BTreeSet<usize> = slots.drain(10..200).map(|slot| address(&slot)).collect();
        let again: Vec<Slot> = (0..freed.len()).map(|_| arena.slot().unwrap()).collect();
        assert_eq!(again.iter().map(address).collect::<BTreeSet<_>>(), freed);
        assert!(again.iter().all(|slot| *slot.bytes() == [0; SLOT_LEN]));
        assert_eq!(arena.pages().all.len(), 3, "no new page while there was room");
    }

    #[test]
    fn many_threads_never_share_a_slot() {
        let arena = leaked(unprotected);
        std::thread::scope(|scope| {
            for thread in 1..=8_u8 {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..2_000_usize {
                        let mut slot = arena.slot().unwrap();
                        assert_eq!(*slot.bytes(), [0; SLOT_LEN]);
                        fill(&mut slot, thread);
                        held.push(slot);
                        if round % 3 == 0 {
                            let gone = held.swap_remove(round % held.len());
                            assert_eq!(*gone.bytes(), [thread; SLOT_LEN]);
                        }
                    }
                    assert!(held.iter().all(|slot| *slot.bytes() == [thread; SLOT_LEN]));
                });
            }
        });
        let pages = arena.pages();
        assert!(pages.all.iter().all(|page| page.taken.iter().all(|word| *word == 0)));
        assert_eq!(pages.with_room.len(), pages.all.len());
    }

    #[test]
    fn the_first_lock_failure_is_remembered_and_slots_still_work() {
        let reason = LockFailure::MemlockLimit { limit_bytes: 42 };
        let arena = leaked(|_, _| Err(LockFailure::MemlockLimit { limit_bytes: 42 }));
        assert_eq!(arena.status(), LockStatus::Unlocked { reason });
        let mut slot = arena.slot().unwrap();
        fill(&mut slot, 9);
        assert_eq!(*slot.bytes(), [9; SLOT_LEN]);
        assert_eq!(arena.status(), LockStatus::Unlocked { reason });
    }

    #[test]
    fn status_answers_before_the_first_secret() {
        let arena = leaked(protect);
        assert_eq!(arena.status(), LockStatus::Locked);
        assert_eq!(arena.pages().all.len(), 1, "it had to try a page");
    }

    proptest! {
        /// Any order of taking and dropping: contents stay put, and bookkeeping matches.
        #[test]
        fn any_history_keeps_contents(steps in proptest::collection::vec(any::<(bool, u16)>(), 1..600)) {
            let arena = leaked(unprotected);
            let mut held: BTreeMap<u32, Slot> = BTreeMap::new();
            let mut next = 0_u32;
            for (take, pick) in steps {
                if take || held.is_empty() {
                    let mut slot = arena.slot().unwrap();
                    slot.bytes_mut()[..4].copy_from_slice(&next.to_be_bytes());
                    held.insert(next, slot);
                    next += 1;
                } else {
                    let key = *held.keys().nth(usize::from(pick) % held.len()).unwrap();
                    held.remove(&key);
                }
                for (key, slot) in &held {
                    prop_assert_eq!(&slot.bytes()[..4], &key.to_be_bytes());
                }
            }
            let taken: u32 = arena.pages().all.iter()
                .flat_map(|page| &page.taken).map(|word| word.count_ones()).sum();
            prop_assert_eq!(usize::try_from(taken).unwrap(), held.len());
        }
    }
}
