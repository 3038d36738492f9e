//! Blocks through the threads and back in their order, so that what is written does not
//! depend on how many threads there are.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Mutex, PoisonError};

use super::batch::{Batch, Preparer};
use super::sink::Sink;
use crate::error::Result;
use crate::profile::Scratch;
use crate::read::Block;

/// Where blocks come from, in order.
pub(super) trait Blocks {
    /// The next block, or `None` after the last.
    fn next_block(&mut self) -> Result<Option<Block>>;
    /// Takes back the memory of a block.
    fn recycle(&mut self, bytes: Vec<u8>);
}

/// A block of more is large: it holds one long line. Its document may take ten times as much while it is
/// prepared, so that is done for one at a time, and the memory is given back after.
const LARGE_BYTES: usize = 8 << 20;

/// Bytes of blocks on their way for each thread that prepares; one block may pass it.
const BYTES_IN_FLIGHT: usize = 8 << 20;

/// Moves every block from `source` through `preparer` into `sink`, in order.
///
/// One thread does everything in turn. More prepare, while the calling one reads and writes.
pub(super) fn flow(
    source: &mut dyn Blocks,
    preparer: &Preparer,
    sink: &mut Sink,
    num_threads: usize,
) -> Result<()> {
    match num_helpers(num_threads) {
        0 => flow_here(source, preparer, sink),
        num_helpers => flow_across(source, preparer, sink, num_helpers),
    }
}

/// Threads that help the calling one: none where all is to be done by one thread, else `num_threads`, where 0
/// is one a core.
pub(super) fn num_helpers(num_threads: usize) -> usize {
    match num_threads {
        1 => 0,
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        _ => num_threads,
    }
}

fn flow_here(source: &mut dyn Blocks, preparer: &Preparer, sink: &mut Sink) -> Result<()> {
    let (mut scratch, mut batch) = (Scratch::default(), Batch::default());
    while let Some(mut block) = source.next_block()? {
        let is_large = block.bytes.len() > LARGE_BYTES;
        preparer.prepare(&mut block, &mut scratch, &mut batch);
        source.recycle(block.bytes);
        sink.take(&batch)?;
        if is_large {
            (scratch, batch) = (Scratch::default(), Batch::default());
        }
    }
    Ok(())
}

/// A block on its way, and the memory for what it becomes.
#[derive(Default)]
struct Job {
    number: usize,
    /// Bytes of the block as it was read.
    num_bytes: usize,
    block: Block,
    batch: Batch,
}

/// What a thread sends back: the job, or the panic that ended it.
type Outcome = std::thread::Result<Job>;

fn flow_across(
    source: &mut dyn Blocks,
    preparer: &Preparer,
    sink: &mut Sink,
    num_threads: usize,
) -> Result<()> {
    let (jobs, todo) = channel::<Job>();
    let (finished, done) = channel::<Outcome>();
    let todo = Mutex::new(todo);
    let large = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..num_threads {
            let (todo, large, finished) = (&todo, &large, finished.clone());
            scope.spawn(move || work(todo, large, &finished, preparer));
        }
        // Dropped when this ends, also by an error: the threads end when no job can follow.
        let (in_flight, spare) = (VecDeque::new(), Vec::new());
        Belt { jobs, done, num_threads, in_flight, bytes: 0, spare, first: 0 }.run(source, sink)
    })
}

/// Prepares jobs until there are no more; whoever holds `large` prepares a large one.
fn work(todo: &Mutex<Receiver<Job>>, large: &Mutex<()>, finished: &Sender<Outcome>, preparer: &Preparer) {
    let mut scratch = Scratch::default();
    loop {
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = next else { return };
        let is_large = job.num_bytes > LARGE_BYTES;
        let turn = is_large.then(|| large.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            preparer.prepare(&mut job.block, &mut scratch, &mut job.batch);
            job
        }));
        if is_large {
            scratch = Scratch::default();
        }
        drop(turn);
        if finished.send(outcome).is_err() {
            return;
        }
    }
}

/// The jobs between reading and writing, in order of their numbers.
struct Belt {
    jobs: Sender<Job>,
    done: Receiver<Outcome>,
    num_threads: usize,
    /// Those that came back before an earlier one; `None` where a thread still works.
    in_flight: VecDeque<Option<Job>>,
    /// Bytes of their blocks.
    bytes: usize,
    /// Memory of batches that are written.
    spare: Vec<Batch>,
    /// Number of the first job in flight.
    first: usize,
}

impl Belt {
    fn run(mut self, source: &mut dyn Blocks, sink: &mut Sink) -> Result<()> {
        loop {
            while self.has_room() {
                let Some(block) = source.next_block()? else { break };
                self.send(block);
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            self.receive();
            self.write(source, sink)?;
        }
    }

    /// Two blocks a thread keep all busy while one is read or written.
    fn has_room(&self) -> bool {
        self.in_flight.len() < 2 * self.num_threads && self.bytes < self.num_threads * BYTES_IN_FLIGHT
    }

    fn send(&mut self, block: Block) {
        let number = self.first + self.in_flight.len();
        self.in_flight.push_back(None);
        let (num_bytes, batch) = (block.bytes.len(), self.spare.pop().unwrap_or_default());
        self.bytes += num_bytes;
        let job = Job { number, num_bytes, block, batch };
        let _ = self.jobs.send(job); // the threads live as long as the sender
    }

    fn receive(&mut self) {
        match self.done.recv() {
            Ok(Ok(job)) => {
                let at = job.number - self.first;
                self.in_flight[at] = Some(job);
            }
            Ok(Err(panic)) => resume(panic),
            Err(error) => resume(Box::new(error)),
        }
    }

    /// Writes what is next in order, as far as it is there.
    fn write(&mut self, source: &mut dyn Blocks, sink: &mut Sink) -> Result<()> {
        while let Some(Some(_)) = self.in_flight.front() {
            let Some(Some(job)) = self.in_flight.pop_front() else { break };
            self.first += 1;
            self.bytes -= job.num_bytes;
            source.recycle(job.block.bytes);
            sink.take(&job.batch)?;
            if job.num_bytes <= LARGE_BYTES {
                self.spare.push(job.batch);
            }
        }
        Ok(())
    }
}

/// A panic in a thread is one of the run: it is caught where the engine is called.
fn resume(panic: Box<dyn Any + Send>) -> ! {
    resume_unwind(panic)
}
