//! N-grams that memory does not hold, and those on their way to the disk.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::filter::Filter;
use super::fresh::Fresh;
use super::run::{self, Run};
use crate::error::{Error, Result};

/// Runs of one size that become one of the next. More would slow down look-ups, fewer the merging.
const FAN_IN: usize = 8;

/// What left memory.
#[derive(Debug)]
pub(super) struct Spilled {
    runs: Runs,
    /// Those that are not on the disk yet are brought there by a thread of their own: of `seed` on two processors
    /// the other one had nothing to do meanwhile, a tenth of the time.
    is_beside: bool,
    leaving: Option<Leaving>,
    /// The memory of those that left last, for the next.
    spare: Fresh,
}

/// N-grams that a thread writes.
#[derive(Debug)]
struct Leaving {
    ngrams: Arc<Fresh>,
    thread: JoinHandle<Result<Runs>>,
    /// Asks the thread to end.
    stops: Arc<AtomicBool>,
}

impl Spilled {
    pub(super) fn new(folder: PathBuf, is_beside: bool) -> Self {
        Self { runs: Runs::new(folder), is_beside, leaving: None, spare: Fresh::default() }
    }

    /// Takes n-grams, and gives memory for the next.
    ///
    /// # Errors
    /// The disk, also of those before.
    pub(super) fn take(&mut self, ngrams: Fresh) -> Result<Fresh> {
        self.arrive()?;
        let (ngrams, stops) = (Arc::new(ngrams), Arc::<AtomicBool>::default());
        let work = {
            let (mut runs, ngrams, stops) = (self.runs.clone(), ngrams.clone(), stops.clone());
            move || runs.take(&ngrams, &stops).map(|()| runs)
        };
        if self.is_beside {
            let started = std::thread::Builder::new().name("ngrams".to_owned()).spawn(work);
            let thread = started.map_err(Error::io("start a thread to write to", &self.runs.folder))?;
            self.leaving = Some(Leaving { ngrams, thread, stops });
        } else {
            self.runs = work()?;
            self.keep_memory(ngrams);
        }
        Ok(std::mem::take(&mut self.spare))
    }

    /// Whether it was taken.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn contains(&mut self, ngram: u128) -> Result<bool> {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.thread.is_finished()) {
            self.arrive()?;
        }
        let is_leaving = self.leaving.as_ref().is_some_and(|leaving| leaving.ngrams.contains(ngram));
        Ok(is_leaving || self.runs.contains(ngram)?)
    }

    /// Waits until those on their way are on the disk.
    fn arrive(&mut self) -> Result<()> {
        let Some(Leaving { ngrams, thread, .. }) = self.leaving.take() else { return Ok(()) };
        self.runs = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        self.keep_memory(ngrams);
        Ok(())
    }

    fn keep_memory(&mut self, ngrams: Arc<Fresh>) {
        self.spare = Arc::into_inner(ngrams).unwrap_or_default();
        self.spare.clear();
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        if let Some(Leaving { thread, stops, .. }) = self.leaving.take() {
            stops.store(true, Ordering::Relaxed);
            let _ = thread.join(); // nobody asks any more what it has to say
        }
    }
}

/// N-grams on the disk. Clones share files, which go with the last of them.
#[derive(Debug, Clone)]
struct Runs {
    folder: PathBuf,
    /// Made when the first run is.
    filter: Option<Arc<Filter>>,
    /// The runs, by how often their n-grams were merged.
    levels: Vec<Vec<Arc<Run>>>,
    /// Runs made so far, which names the next.
    num_made: usize,
}

impl Runs {
    fn new(folder: PathBuf) -> Self {
        Self { folder, filter: None, levels: Vec::new(), num_made: 0 }
    }

    /// Writes n-grams as a run, and merges runs where there are enough.
    fn take(&mut self, ngrams: &Fresh, stops: &AtomicBool) -> Result<()> {
        let path = self.next_path();
        let filter = self.filter.get_or_insert_default().clone();
        let sorted = ngrams.sorted().inspect(|ngram| filter.insert(*ngram)).map(Ok);
        self.push(0, Run::write(&path, sorted, stops)?);
        let mut level = 0;
        while self.levels[level].len() == FAN_IN {
            let path = self.next_path();
            let merged = run::merge(&self.levels[level], &path, stops)?;
            self.levels[level].clear();
            level += 1;
            self.push(level, merged);
        }
        Ok(())
    }

    fn push(&mut self, level: usize, run: Run) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(Arc::new(run));
    }

    fn next_path(&mut self) -> PathBuf {
        self.num_made += 1;
        self.folder.join(format!("ngrams-{:06}.run", self.num_made))
    }

    fn contains(&self, ngram: u128) -> Result<bool> {
        if !self.filter.as_ref().is_some_and(|filter| filter.may_contain(ngram)) {
            return Ok(false);
        }
        for run in self.levels.iter().flatten() {
            if run.contains(ngram)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
