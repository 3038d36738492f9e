//! Work on rows, some of them at a time on each thread.

use std::ops::Range;

use crate::element::{Element, Kernel};
use crate::team::{on_threads, Queue};
use crate::vector::Vector;

/// Rows that a thread takes at a time. Sums over rows are first summed over so many, so that they do not
/// depend on the number of threads.
pub(crate) const BLOCK_ROWS: usize = 32;

/// What is done to rows.
pub(crate) trait RowKernel<E>: Sync {
    /// Does it to some; inlined whole.
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>);
}

/// Does it to all of `num_rows`.
pub(crate) fn on_rows<E: Element>(kernel: &impl RowKernel<E>, num_rows: usize, num_threads: usize) {
    let num_blocks = num_rows.div_ceil(BLOCK_ROWS);
    let queue = Queue::new(num_blocks);
    let worker = || E::with_vectors(Worker { kernel, queue: &queue, num_rows });
    on_threads(num_threads.min(num_blocks), worker);
}

struct Worker<'a, K> {
    kernel: &'a K,
    queue: &'a Queue,
    num_rows: usize,
}

impl<E, K: RowKernel<E>> Kernel<E> for Worker<'_, K> {
    #[inline(always)]
    fn compute<V: Vector<Element = E>>(self) {
        while let Some(block) = self.queue.draw() {
            let first = block * BLOCK_ROWS;
            self.kernel.rows::<V>(first..self.num_rows.min(first + BLOCK_ROWS));
        }
    }
}
