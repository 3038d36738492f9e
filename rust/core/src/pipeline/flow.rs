//! Units of the inputs through the threads and back in their order, so that what is written does
//! not depend on how many threads there are. A thread decodes its unit and prepares it.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Mutex, PoisonError};

use memchr::memchr_iter;

use super::batch::{Batch, Preparer};
use super::sink::Sink;
use crate::error::Result;
use crate::profile::Scratch;
use crate::read::Unit;

/// Where units come from, in order.
pub(super) trait Units {
    /// The next unit, or `None` after the last.
    fn next_unit(&mut self) -> Result<Option<Unit>>;
    /// Takes back the memory of a block.
    fn recycle(&mut self, bytes: Vec<u8>);
}

/// A unit with a line of more is large. Its document may take ten times as much while it is prepared, so that
/// is done for one at a time, and the memory is given back after.
const LARGE_BYTES: usize = 8 << 20;

/// Bytes of units on their way for each thread that prepares; one unit may pass it.
const BYTES_IN_FLIGHT: usize = 8 << 20;

/// Moves every unit from `source` through `preparer` into `sink`, in order.
///
/// One thread does everything in turn. Of several, the calling one reads and writes, and prepares as the others do
/// while there is nothing to write. As one thread more it took time from them: `seed` on two processors was 1.4 to 1.5
/// times as fast as on one, and is 1.7 times.
pub(super) fn flow(
    source: &mut dyn Units,
    preparer: &Preparer,
    sink: &mut Sink,
    threads: usize,
) -> Result<()> {
    match num_threads(threads) {
        1 => flow_here(source, preparer, sink),
        num_threads => flow_across(source, preparer, sink, num_threads),
    }
}

/// The threads of a configuration, of which 0 is one a core.
fn num_threads(threads: usize) -> usize {
    let num_cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if threads == 0 {
        num_cores()
    } else {
        threads
    }
}

/// Threads that pack and unpack beside those of the flow: none where all is to be done by one thread.
pub(crate) fn num_helpers(threads: usize) -> usize {
    match num_threads(threads) {
        1 => 0,
        num_threads => num_threads,
    }
}

fn flow_here(source: &mut dyn Units, preparer: &Preparer, sink: &mut Sink) -> Result<()> {
    let (mut hand, mut batch, turns) = (Hand::default(), Batch::default(), Mutex::default());
    while let Some(mut unit) = source.next_unit()? {
        loop {
            let is_large = hand.prepare(&mut unit, preparer, &mut batch, &turns);
            unit.block.refused.take().map_or(Ok(()), Err)?;
            sink.take(&batch)?;
            if is_large {
                batch = Batch::default();
            }
            if !unit.is_undecoded() {
                break;
            }
        }
        source.recycle(unit.block.bytes);
    }
    Ok(())
}

/// True if a line is longer than [`LARGE_BYTES`].
fn has_long_line(bytes: &[u8]) -> bool {
    let mut start = 0;
    let ends = memchr_iter(b'\n', bytes).chain(std::iter::once(bytes.len()));
    bytes.len() > LARGE_BYTES
        && ends.into_iter().any(|end| end - std::mem::replace(&mut start, end) > LARGE_BYTES)
}

/// What a thread works with.
#[derive(Default)]
struct Hand {
    scratch: Scratch,
    /// Memory for lines that are decoded here.
    lines: Vec<u8>,
}

impl Hand {
    /// Decodes and prepares the next block of a unit; whoever holds `turns` does so with a large one. True if
    /// it was large.
    fn prepare(
        &mut self,
        unit: &mut Unit,
        preparer: &Preparer,
        batch: &mut Batch,
        turns: &Mutex<()>,
    ) -> bool {
        let wait = || turns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = (unit.longest_bytes() > LARGE_BYTES).then(wait);
        let is_decoded_here = unit.is_undecoded();
        unit.decode(&mut self.lines);
        if turn.is_none() && has_long_line(&unit.block.bytes) {
            turn = Some(wait());
        }
        preparer.prepare(&mut unit.block, &mut self.scratch, batch);
        if is_decoded_here {
            self.lines = std::mem::take(&mut unit.block.bytes);
        }
        if turn.is_some() {
            *self = Self::default();
        }
        turn.is_some()
    }
}

/// A unit on its way, and the memory for what it becomes.
#[derive(Default)]
struct Job {
    number: usize,
    unit: Unit,
    batch: Batch,
    is_large: bool,
}

/// What a thread sends back: the job, or the panic that ended it.
type Outcome = std::thread::Result<Job>;

fn flow_across(
    source: &mut dyn Units,
    preparer: &Preparer,
    sink: &mut Sink,
    num_threads: usize,
) -> Result<()> {
    let (jobs, todo) = channel::<Job>();
    let (finished, done) = channel::<Outcome>();
    let queue = JobQueue { todo: Mutex::new(todo), turns: Mutex::new(()), preparer };
    std::thread::scope(|scope| {
        for _ in 1..num_threads {
            let (queue, finished) = (&queue, finished.clone());
            scope.spawn(move || queue.work(&finished));
        }
        // Dropped when this ends, also by an error: the threads end when no job can follow.
        let (in_flight, spare) = (VecDeque::new(), Vec::new());
        Belt { queue: &queue, jobs, done, num_threads, in_flight, bytes: 0, spare, first: 0 }
            .run(source, sink)
    })
}

/// Jobs that wait to be prepared.
struct JobQueue<'p> {
    todo: Mutex<Receiver<Job>>,
    /// Held by whoever prepares a large one.
    turns: Mutex<()>,
    preparer: &'p Preparer,
}

impl JobQueue<'_> {
    /// Prepares jobs until there are no more.
    fn work(&self, finished: &Sender<Outcome>) {
        let mut hand = Hand::default();
        loop {
            let next = self.todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(mut job) = next else { return };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                self.prepare(&mut job, &mut hand);
                job
            }));
            if finished.send(outcome).is_err() {
                return;
            }
        }
    }

    fn prepare(&self, job: &mut Job, hand: &mut Hand) {
        job.is_large = hand.prepare(&mut job.unit, self.preparer, &mut job.batch, &self.turns);
    }

    /// A job that nobody has taken, or `None` where somebody waits for one.
    fn next_job(&self) -> Option<Job> {
        self.todo.try_lock().ok()?.try_recv().ok()
    }
}

/// The jobs between reading and writing, in order of their numbers.
struct Belt<'b> {
    queue: &'b JobQueue<'b>,
    jobs: Sender<Job>,
    done: Receiver<Outcome>,
    num_threads: usize,
    /// Those that came back before an earlier one; `None` where a thread still works.
    in_flight: VecDeque<Option<Job>>,
    /// Bytes of their units.
    bytes: usize,
    /// Memory of batches that are written.
    spare: Vec<Batch>,
    /// Number of the first job in flight.
    first: usize,
}

impl Belt<'_> {
    fn run(mut self, source: &mut dyn Units, sink: &mut Sink) -> Result<()> {
        let mut hand = Hand::default();
        loop {
            while self.has_room() {
                let Some(unit) = source.next_unit()? else { break };
                self.bytes += unit.num_bytes();
                let number = self.first + self.in_flight.len();
                self.in_flight.push_back(None);
                let batch = self.spare.pop().unwrap_or_default();
                self.send(Job { number, unit, batch, is_large: false });
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            let job = self.next_done(&mut hand);
            let at = job.number - self.first;
            self.in_flight[at] = Some(job);
            self.write(source, sink)?;
        }
    }

    /// Two units a thread keep all busy while one is read or written.
    fn has_room(&self) -> bool {
        self.in_flight.len() < 2 * self.num_threads && self.bytes < self.num_threads * BYTES_IN_FLIGHT
    }

    fn send(&self, job: Job) {
        let _ = self.jobs.send(job); // the threads live as long as the sender
    }

    /// A job that is done: of another thread, or else prepared here, or else waited for.
    fn next_done(&self, hand: &mut Hand) -> Job {
        if let Ok(outcome) = self.done.try_recv() {
            return outcome.unwrap_or_else(|panic| resume(panic));
        }
        if let Some(mut job) = self.queue.next_job() {
            self.queue.prepare(&mut job, hand);
            return job;
        }
        let outcome = self.done.recv().unwrap_or_else(|error| resume(Box::new(error)));
        outcome.unwrap_or_else(|panic| resume(panic))
    }

    /// Writes what is next in order, as far as it is there. A unit of which more is to be decoded goes round
    /// again, and those after it wait.
    fn write(&mut self, source: &mut dyn Units, sink: &mut Sink) -> Result<()> {
        while let Some(mut job) = self.in_flight.front_mut().and_then(Option::take) {
            job.unit.block.refused.take().map_or(Ok(()), Err)?;
            sink.take(&job.batch)?;
            if job.is_large {
                job.batch = Batch::default();
            }
            if job.unit.is_undecoded() {
                self.send(job);
                return Ok(());
            }
            self.in_flight.pop_front();
            self.first += 1;
            self.bytes -= job.unit.num_bytes();
            source.recycle(job.unit.block.bytes);
            self.spare.push(job.batch);
        }
        Ok(())
    }
}

/// A panic in a thread is one of the run: it is caught where the engine is called.
fn resume(panic: Box<dyn Any + Send>) -> ! {
    resume_unwind(panic)
}
