//! Rows read ahead of time on a thread of their own, into the memory of ones that were used.

use std::sync::mpsc::{channel, sync_channel, Receiver, Sender, SyncSender};
use std::sync::Arc;

use super::{Order, RowTokens};
use crate::error::{Error, Result};

/// Parts that may wait: a queue of so many has its memory from the beginning.
const MAX_DEPTH: usize = 1 << 16;

/// Rows `first_row..first_row + num_rows` of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The step.
    pub step: u64,
    /// First row within the step.
    pub first_row: u64,
    /// Rows.
    pub num_rows: u64,
}

/// The rows of an order from a step on, in turn.
///
/// Its thread ends when this is dropped. A process that was forked off has no such thread.
#[derive(Debug)]
pub struct Prefetch {
    ready: Receiver<(Part, Result<RowTokens>)>,
    used: Sender<RowTokens>,
}

impl Order {
    /// Starts to read the rows of the steps from `first_step` on, at most `batch_rows` at a time.
    ///
    /// `depth` such parts wait at a time, besides the one in the making: that is the memory it takes.
    ///
    /// # Errors
    /// `InvalidValue` if `batch_rows` or `depth` is 0, or `depth` over 65,536, `Io` if no thread can be started.
    pub fn prefetch(self: &Arc<Self>, first_step: u64, batch_rows: u64, depth: usize) -> Result<Prefetch> {
        if batch_rows == 0 {
            return Err(out_of_range("batch_rows", "at least 1".to_owned(), 0));
        }
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(out_of_range("depth", format!("1 to {MAX_DEPTH}"), depth));
        }
        let (to_reader, ready) = sync_channel(depth);
        let (used, from_reader) = channel();
        let order = Arc::clone(self);
        let make = move || order.make_ahead(first_step, batch_rows, &to_reader, &from_reader);
        let thread = std::thread::Builder::new().name("triptych-batches".to_owned()).spawn(make);
        thread.map(|_| Prefetch { ready, used }).map_err(Error::io("start", "a thread for batches"))
    }

    fn make_ahead(
        &self,
        first_step: u64,
        batch_rows: u64,
        ready: &SyncSender<(Part, Result<RowTokens>)>,
        used: &Receiver<RowTokens>,
    ) {
        let parts = (first_step..self.num_steps()).flat_map(|step| self.parts(step, batch_rows));
        for part in parts {
            let mut rows = used.try_recv().unwrap_or_default();
            let read = self.read_into(part.step, part.first_row, Some(part.num_rows), &mut rows);
            if ready.send((part, read.map(|()| rows))).is_err() {
                return; // nobody reads on
            }
        }
    }

    fn parts(&self, step: u64, batch_rows: u64) -> impl Iterator<Item = Part> {
        let rows = self.stage(step).map_or(0, |stage| self.plans[stage].stage.rows_per_step);
        let firsts = (0..rows).step_by(usize::try_from(batch_rows).unwrap_or(usize::MAX));
        firsts.map(move |first_row| {
            let num_rows = batch_rows.min(rows - first_row);
            Part { step, first_row, num_rows }
        })
    }
}

fn out_of_range(what: &str, expected: String, found: usize) -> Error {
    Error::InvalidValue { what: what.to_owned(), expected, found: found.to_string() }
}

impl Prefetch {
    /// The next part; `None` behind the last step.
    pub fn next(&self) -> Option<(Part, Result<RowTokens>)> {
        self.ready.recv().ok()
    }

    /// Gives back rows whose memory may be used again.
    pub fn recycle(&self, rows: RowTokens) {
        // A thread that has ended needs no memory.
        let _ = self.used.send(rows);
    }
}
