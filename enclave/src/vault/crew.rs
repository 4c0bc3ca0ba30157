//! The threads that sign in a vault, and the one place that writes answers.
//!
//! Guarantees: only what was [`Approved`] is signed; block proposals go first; each distinct root is hashed once; the
//! queue is bounded, and when it is full nothing more is read until there is room; an answer is written once all
//! of its signatures are made, as one piece.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use holdfast_vault_proto::{Answer, Failure, FrameError, Refusal};

use super::core::Approved;
use crate::backend::Urgency;
use crate::backend::cache::HashCache;
use crate::backend::queue::Queues;
use crate::metrics::Metrics;

/// Most signatures a thread takes at once, as in the local backend.
const CHUNK: usize = 4;
/// Signatures that may wait in each queue.
const QUEUE: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
/// Roots kept hashed.
const ROOTS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// The threads and what they share.
pub(super) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    work: Mutex<Work>,
    /// There is work, or there will be no more.
    arrived: Condvar,
    /// There is room again.
    room: Condvar,
    cache: HashCache,
    metrics: Metrics,
    threads: NonZeroUsize,
    out: Mutex<Box<dyn Write + Send>>,
}

struct Work {
    queues: Queues<Task>,
    ended: bool,
}

/// One signature to make.
struct Task {
    approved: Approved,
    batch: Arc<Batch>,
    place: usize,
}

/// The signatures of one request.
struct Batch {
    number: u64,
    outcomes: Mutex<Vec<Result<[u8; 96], Refusal>>>,
    left: AtomicUsize,
}

impl Crew {
    /// Starts the threads, and waits until they run.
    ///
    /// # Errors
    /// [`std::io::Error`] if the system refuses one.
    pub(super) fn start(threads: NonZeroUsize, out: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            work: Mutex::new(Work { queues: Queues::new(QUEUE), ended: false }),
            arrived: Condvar::new(),
            room: Condvar::new(),
            cache: HashCache::new(ROOTS),
            metrics: Metrics::new(),
            threads,
            out: Mutex::new(out),
        });
        let mut crew = Self { shared, threads: Vec::with_capacity(threads.get()) };
        let (ready, begun) = mpsc::channel();
        for index in 0..threads.get() {
            let (shared, ready) = (Arc::clone(&crew.shared), ready.clone());
            let thread = thread::Builder::new().name(format!("vault-{index}")).spawn(move || {
                // The main thread waits for it.
                let _ = ready.send(());
                drop(ready);
                while shared.serve() {}
            })?;
            crew.threads.push(thread);
        }
        drop(ready);
        // A thread that is still being set up asks for system calls that are given up next.
        while begun.recv().is_ok() {}
        Ok(crew)
    }

    /// Writes an answer.
    ///
    /// # Errors
    /// [`FrameError::Io`] if the connection broke.
    pub(super) fn answer(&self, number: u64, answer: &Answer) -> Result<(), FrameError> {
        self.shared.answer(number, answer)
    }

    /// Signs what was approved; the answer follows. Blocks while the queue is full.
    ///
    /// # Errors
    /// [`FrameError::Io`] if there was nothing to sign and the connection broke.
    pub(super) fn sign(&self, number: u64, judged: Vec<Result<Approved, Refusal>>) -> Result<(), FrameError> {
        let mut tasks = Vec::new();
        let mut outcomes = Vec::with_capacity(judged.len());
        for (place, outcome) in judged.into_iter().enumerate() {
            match outcome {
                Ok(approved) => {
                    tasks.push((place, approved));
                    // Overwritten before the answer is written.
                    outcomes.push(Ok([0; 96]));
                }
                Err(refusal) => outcomes.push(Err(refusal)),
            }
        }
        if tasks.is_empty() {
            return self.answer(number, &Answer::Signed(outcomes));
        }
        let left = AtomicUsize::new(tasks.len());
        let batch = Arc::new(Batch { number, outcomes: Mutex::new(outcomes), left });
        let mut work = self.shared.work();
        for (place, approved) in tasks {
            let urgency = if approved.is_block() { Urgency::Block } else { Urgency::Normal };
            let mut task = Task { approved, batch: Arc::clone(&batch), place };
            while let Err(refused) = work.queues.push(urgency, task) {
                task = refused;
                work = self.shared.room.wait(work).unwrap_or_else(PoisonError::into_inner);
            }
            self.shared.arrived.notify_one();
        }
        Ok(())
    }

    /// Finishes what was taken and ends the threads.
    pub(super) fn finish(&mut self) {
        self.shared.work().ended = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of one of them has ended the process already.
            drop(thread.join());
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, number: u64, answer: &Answer) -> Result<(), FrameError> {
        let frame = answer.frame(number).or_else(|| Answer::Failed(Failure::Internal).frame(number));
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        frame.map_or(Ok(()), |frame| frame.write(&mut *out))
    }

    /// Waits for work and does a chunk of it. False when there will be no more.
    fn serve(&self) -> bool {
        let mut work = self.work();
        let chunk = loop {
            if let Some(chunk) = work.queues.take(CHUNK, self.threads) {
                break chunk;
            }
            if work.ended {
                return false;
            }
            work = self.arrived.wait(work).unwrap_or_else(PoisonError::into_inner);
        };
        drop(work);
        self.room.notify_all();
        for task in chunk {
            self.make(task);
        }
        true
    }

    fn make(&self, Task { approved, batch, place }: Task) {
        let point = self.cache.point(approved.root(), &self.metrics);
        let signature = approved.secret().scalar().sign(&point);
        drop(approved);
        let mut outcomes = batch.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = outcomes.get_mut(place) {
            *outcome = Ok(signature);
        }
        // Under the lock, so that whoever takes the last one sees all of them.
        if batch.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let outcomes = std::mem::take(&mut *outcomes);
            // A broken connection ends the vault where it is read.
            drop(self.answer(batch.number, &Answer::Signed(outcomes)));
        }
    }
}
