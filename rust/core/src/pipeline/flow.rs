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
/// One thread does everything in turn. More prepare, while the calling one reads and writes.
pub(super) fn flow(
    source: &mut dyn Units,
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
pub(crate) fn num_helpers(num_threads: usize) -> usize {
    match num_threads {
        1 => 0,
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        _ => num_threads,
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
    let todo = Mutex::new(todo);
    let turns = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..num_threads {
            let (todo, turns, finished) = (&todo, &turns, finished.clone());
            scope.spawn(move || work(todo, turns, &finished, preparer));
        }
        // Dropped when this ends, also by an error: the threads end when no job can follow.
        let (in_flight, spare) = (VecDeque::new(), Vec::new());
        Belt { jobs, done, num_threads, in_flight, bytes: 0, spare, first: 0 }.run(source, sink)
    })
}

/// Prepares jobs until there are no more.
fn work(todo: &Mutex<Receiver<Job>>, turns: &Mutex<()>, finished: &Sender<Outcome>, preparer: &Preparer) {
    let mut hand = Hand::default();
    loop {
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = next else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            job.is_large = hand.prepare(&mut job.unit, preparer, &mut job.batch, turns);
            job
        }));
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
    /// Bytes of their units.
    bytes: usize,
    /// Memory of batches that are written.
    spare: Vec<Batch>,
    /// Number of the first job in flight.
    first: usize,
}

impl Belt {
    fn run(mut self, source: &mut dyn Units, sink: &mut Sink) -> Result<()> {
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
            self.receive();
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
