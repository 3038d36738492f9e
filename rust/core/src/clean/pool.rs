//! The threads of one stream. They are its own, not of a pool that all share: so a stream works
//! in a process that was forked, and whoever drives it never waits for one to finish.

use std::ops::Range;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::answer::{Answer, Judge};
use super::column::Texts;
use crate::error::{Error, Result};
use crate::profile::Scratch;

/// Rows to be prepared, and where the answer belongs.
pub(super) struct Job {
    pub(super) portion: usize,
    pub(super) index: usize,
    pub(super) texts: Arc<Texts>,
    pub(super) rows: Range<usize>,
}

/// An answer and where it belongs, or the panic that came instead.
type Outcome = std::thread::Result<(usize, usize, Answer)>;

pub(super) struct Pool {
    jobs: Sender<Job>,
    done: Receiver<Outcome>,
    shared: Arc<Shared>,
    num_spawned: usize,
    most: usize,
}

struct Shared {
    judge: Judge,
    todo: Mutex<Receiver<Job>>,
    finished: Sender<Outcome>,
    stop: AtomicBool,
}

impl Pool {
    /// A pool of at most so many threads; each starts when there is work for it.
    pub(super) fn new(judge: Judge, most: usize) -> Self {
        let (jobs, todo) = channel();
        let (finished, done) = channel();
        let shared = Shared { judge, todo: Mutex::new(todo), finished, stop: AtomicBool::new(false) };
        Self { jobs, done, shared: Arc::new(shared), num_spawned: 0, most }
    }

    /// Hands a job to the threads.
    ///
    /// # Errors
    /// `Resource` if not even one thread can be started.
    pub(super) fn send(&mut self, job: Job) -> Result<()> {
        if self.num_spawned < self.most {
            self.spawn()?;
        }
        let _ = self.jobs.send(job); // the receiving end is shared with this
        Ok(())
    }

    fn spawn(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        match std::thread::Builder::new().name("triptych-clean".to_owned()).spawn(move || shared.work()) {
            Ok(_) => self.num_spawned += 1,
            Err(_) if self.num_spawned > 0 => self.most = self.num_spawned,
            Err(error) => {
                return Err(Error::Resource {
                    what: "starting a thread".to_owned(),
                    limit: error.to_string(),
                    needed: "1".to_owned(),
                })
            }
        }
        Ok(())
    }

    /// The next answer that is done, in any order; `None` if none comes in time.
    ///
    /// # Panics
    /// With the panic of a thread.
    pub(super) fn receive(&self, timeout: Duration) -> Option<(usize, usize, Answer)> {
        match self.done.recv_timeout(timeout) {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Prepares jobs until there are no more, or nobody wants them.
    fn work(&self) {
        let mut scratch = Scratch::default();
        loop {
            let next = self.todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { portion, index, texts, rows }) = next else { return };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                (portion, index, self.judge.answer(&texts, rows, &mut scratch, &self.stop))
            }));
            let _ = self.finished.send(outcome); // nobody may be left to hear it
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, StringArray};

    use super::*;
    use crate::profile::Profile;
    use crate::quality::Measure;

    fn job(index: usize) -> Job {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a text"]));
        Job { portion: 7, index, texts: Arc::new(Texts::new(&column).unwrap()), rows: 0..1 }
    }

    fn pool(measures: Vec<Measure>) -> Pool {
        Pool::new(Judge { profile: Profile::default(), measures }, 2)
    }

    #[test]
    fn every_job_is_answered_once_and_nobody_waits_longer_than_asked() {
        let mut pool = pool(Vec::new());
        (0..50).for_each(|index| pool.send(job(index)).unwrap());
        let answers = (0..50).filter_map(|_| pool.receive(Duration::from_secs(60)));
        let mut found: Vec<(usize, usize)> = answers.map(|(portion, index, _)| (portion, index)).collect();
        found.sort_unstable();
        assert!(found.into_iter().eq((0..50).map(|index| (7, index))));
        assert!(pool.receive(Duration::ZERO).is_none());
    }

    #[test]
    #[should_panic(expected = "the measure is upside down")]
    fn a_panic_of_a_thread_is_one_of_whoever_waits_for_it() {
        let mut pool = pool(vec![|_, _| panic!("the measure is upside down")]);
        pool.send(job(0)).unwrap();
        pool.receive(Duration::from_secs(60));
    }
}
