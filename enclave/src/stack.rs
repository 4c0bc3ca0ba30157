//! Overwriting what finished calls left on the stack.
//!
//! Why it exists: a value that is moved leaves its bytes where it was, and an expanded AES key begins with the key itself.
//! Wiping on drop reaches the last place only. A search of a server's memory found four copies of a data key on the
//! stack of a thread of the runtime's pool, long after the key was dropped; `tests/providers/memory.rs` repeats it.
//!
//! What it guarantees: bytes of the area below the caller's frame are overwritten before it returns. What it cannot: reach
//! what lies deeper than the area, or what a register or a signal frame held.

use zeroize::Zeroize as _;

/// Covers the frames of one encryption.
const SMALL: usize = 8 * 1024;
/// Covers the frames of opening a data key and everything sealed under it. Threads have 2 MiB.
const LARGE: usize = 256 * 1024;

/// Does what handles a key in frames of its own, and overwrites them. The buffer of a hash function, for example, still has
/// what was hashed last: a search of a vault's memory found data keys in the unused parts of values that were made in the
/// same place later (`enclave/tests/process/memory.rs`, where the compiler lays frames out so).
pub(crate) fn apart<T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn called<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    let done = called(work);
    scrub_small();
    done
}

/// Overwrites the frames of finished calls of the cipher.
#[inline(never)]
pub(crate) fn scrub_small() {
    let mut area = [0_u8; SMALL];
    area.zeroize();
    core::hint::black_box(&mut area);
}

/// Overwrites the frames of finished calls that handled a data key. Call it on the thread they ran on, from the frame
/// that called them or one above.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what it is for")]
pub fn scrub() {
    let mut area = [0_u8; LARGE];
    area.zeroize();
    core::hint::black_box(&mut area);
}
