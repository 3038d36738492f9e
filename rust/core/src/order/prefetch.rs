//! Rows read ahead of time on a thread of their own, into the memory of ones that were used.

use std::ops::Range;
use std::sync::mpsc::{channel, sync_channel, Receiver, Sender, SyncSender};
use std::sync::Arc;

use rayon::ThreadPool;

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

/// Which rows of every step are read: all have as many, in runs, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Number of the share, from 0.
    pub number: u64,
    /// Shares that a step's rows are divided into.
    pub of: u64,
}

impl Share {
    /// All rows of a step.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// The rows of a step of `rows`, which `of` divides.
    fn rows(self, rows: u64) -> Range<u64> {
        let length = rows / self.of;
        self.number * length..(self.number + 1) * length
    }
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
    /// Of every step it reads the rows of one share, as one of several processes does.
    /// `depth` such parts wait at a time, besides the one in the making: that is the memory it takes. Many tokens are
    /// read on `threads`; `None` is those of the process, which one that was forked off does not have.
    ///
    /// # Errors
    /// `InvalidValue` if `batch_rows` or `depth` is 0, or `depth` over 65,536, or there is no such share, or
    /// shares of a step differ; `Io` if no thread can be started.
    pub fn prefetch(
        self: &Arc<Self>,
        first_step: u64,
        batch_rows: u64,
        depth: usize,
        share: Share,
        threads: Option<Arc<ThreadPool>>,
    ) -> Result<Prefetch> {
        if batch_rows == 0 {
            return Err(out_of_range("batch_rows", "at least 1".to_owned(), 0));
        }
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(out_of_range("depth", format!("1 to {MAX_DEPTH}"), depth as u64));
        }
        self.require_share(first_step, share)?;
        let (to_reader, ready) = sync_channel(depth);
        let (used, from_reader) = channel();
        let order = Arc::clone(self);
        let make = move || {
            let parts = order.parts_from(first_step, batch_rows, share);
            order.make_ahead(parts, threads.as_deref(), &to_reader, &from_reader);
        };
        let thread = std::thread::Builder::new().name("triptych-batches".to_owned()).spawn(make);
        thread.map(|_| Prefetch { ready, used }).map_err(Error::io("start", "a thread for batches"))
    }

    /// Of the steps that are left: those before `first_step` may have been read by another number.
    fn require_share(&self, first_step: u64, share: Share) -> Result<()> {
        if share.number >= share.of {
            return Err(out_of_range("share", "a number below how many there are".to_owned(), share.number));
        }
        let left = self.stage(first_step).map_or(&[][..], |stage| &self.plans[stage..]);
        let mut rows = left.iter().map(|plan| plan.stage.rows_per_step);
        rows.find(|rows| rows % share.of != 0).map_or(Ok(()), |rows| {
            let expected = format!("a number of shares that divides {rows} rows");
            Err(out_of_range("share", expected, share.of))
        })
    }

    fn make_ahead(
        &self,
        parts: impl Iterator<Item = Part>,
        threads: Option<&ThreadPool>,
        ready: &SyncSender<(Part, Result<RowTokens>)>,
        used: &Receiver<RowTokens>,
    ) {
        for part in parts {
            let mut rows = used.try_recv().unwrap_or_default();
            let mut read = || self.read_into(part.step, part.first_row, Some(part.num_rows), &mut rows);
            let read = match threads {
                None => read(),
                Some(threads) => threads.install(read),
            };
            if ready.send((part, read.map(|()| rows))).is_err() {
                return; // nobody reads on
            }
        }
    }

    fn parts_from(&self, first_step: u64, batch_rows: u64, share: Share) -> impl Iterator<Item = Part> + '_ {
        (first_step..self.num_steps()).flat_map(move |step| self.parts(step, batch_rows, share))
    }

    fn parts(&self, step: u64, batch_rows: u64, share: Share) -> impl Iterator<Item = Part> {
        let rows = self.stage(step).map_or(0, |stage| self.plans[stage].stage.rows_per_step);
        let rows = share.rows(rows);
        let firsts = rows.clone().step_by(usize::try_from(batch_rows).unwrap_or(usize::MAX));
        firsts.map(move |first_row| {
            let num_rows = batch_rows.min(rows.end - first_row);
            Part { step, first_row, num_rows }
        })
    }
}

fn out_of_range(what: &str, expected: String, found: u64) -> Error {
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
