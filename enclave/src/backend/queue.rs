//! The two bounded queues of the signing threads: block proposals, and everything else.
//!
//! Guarantees: while a proposal waits, nothing else is taken; within a queue the first to come is the
//! first served; neither queue grows beyond its capacity, and a full one does not fill the other.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use super::Urgency;

/// Work that waits.
pub(crate) struct Queues<T> {
    blocks: VecDeque<T>,
    others: VecDeque<T>,
    capacity: NonZeroUsize,
}

impl<T> Queues<T> {
    /// Two empty queues of this capacity each.
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self { blocks: VecDeque::new(), others: VecDeque::new(), capacity }
    }

    /// Adds work, or gives it back if its queue is full.
    pub(crate) fn push(&mut self, urgency: Urgency, work: T) -> Result<(), T> {
        let queue = match urgency {
            Urgency::Block => &mut self.blocks,
            Urgency::Normal => &mut self.others,
        };
        if queue.len() >= self.capacity.get() {
            return Err(work);
        }
        queue.push_back(work);
        Ok(())
    }

    /// Takes work of one queue: a fair share among `threads`, at most `most`. `None` if there is none.
    pub(crate) fn take(&mut self, most: usize, threads: NonZeroUsize) -> Option<Vec<T>> {
        let queue = if self.blocks.is_empty() { &mut self.others } else { &mut self.blocks };
        let count = queue.len().div_ceil(threads.get()).min(most);
        (count > 0).then(|| queue.drain(..count).collect())
    }

    /// Whether nothing waits.
    #[cfg(feature = "backend-process")]
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.others.is_empty()
    }

    /// Pieces of work waiting in this queue.
    pub(crate) fn waiting(&self, urgency: Urgency) -> usize {
        match urgency {
            Urgency::Block => self.blocks.len(),
            Urgency::Normal => self.others.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: order, chunks and bounds.

    use super::*;

    fn queues(capacity: usize) -> Queues<u32> {
        Queues::new(NonZeroUsize::new(capacity).unwrap())
    }

    #[test]
    fn blocks_go_first_and_order_is_kept() {
        let mut queues = queues(10);
        for work in [1, 2, 3] {
            queues.push(Urgency::Normal, work).unwrap();
        }
        for work in [11, 12] {
            queues.push(Urgency::Block, work).unwrap();
        }
        assert_eq!((queues.waiting(Urgency::Block), queues.waiting(Urgency::Normal)), (2, 3));
        assert_eq!(queues.take(1, NonZeroUsize::MIN), Some(vec![11]));
        assert_eq!(queues.take(4, NonZeroUsize::MIN), Some(vec![12]), "a chunk never mixes the two");
        assert_eq!(queues.take(2, NonZeroUsize::MIN), Some(vec![1, 2]));
        queues.push(Urgency::Block, 13).unwrap();
        assert_eq!(queues.take(4, NonZeroUsize::MIN), Some(vec![13]));
        assert_eq!(queues.take(4, NonZeroUsize::MIN), Some(vec![3]));
        assert_eq!(queues.take(4, NonZeroUsize::MIN), None);
    }

    #[test]
    fn a_full_queue_gives_work_back_and_leaves_the_other_alone() {
        let mut queues = queues(2);
        for work in [1, 2] {
            queues.push(Urgency::Normal, work).unwrap();
        }
        assert_eq!(queues.push(Urgency::Normal, 3), Err(3));
        assert_eq!(queues.push(Urgency::Block, 4), Ok(()));
        assert_eq!(queues.push(Urgency::Block, 5), Ok(()));
        assert_eq!(queues.push(Urgency::Block, 6), Err(6));
        assert_eq!(queues.take(1, NonZeroUsize::MIN), Some(vec![4]));
        assert_eq!(queues.push(Urgency::Block, 6), Ok(()));
    }

    #[test]
    fn a_chunk_leaves_work_for_other_threads() {
        let mut queues = queues(10);
        for work in 0..10 {
            queues.push(Urgency::Normal, work).unwrap();
        }
        let three = NonZeroUsize::new(3).unwrap();
        let taken: Vec<usize> = std::iter::from_fn(|| queues.take(4, three)).map(|chunk| chunk.len()).collect();
        assert_eq!(taken, [4, 2, 2, 1, 1]);
    }
}
