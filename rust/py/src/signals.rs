//! Signals during work of the engine: Ctrl-C ends it, where Python would hear of it when all is done.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use triptych_core::pipeline::Progress;
use triptych_core::{Error, Result};

use crate::border::detached_across;
use crate::clean::check_signals;

/// Time between two questions: each waits for the interpreter, which other threads may hold.
const TICK: Duration = Duration::from_millis(50);

/// Asks the interpreter for signals while the engine works, and keeps what one raised.
#[derive(Default)]
pub struct Signals {
    raised: Mutex<Option<PyErr>>,
    asked: Mutex<Option<Instant>>,
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Signals {
    /// Keeps what ends the work.
    pub fn keep(&self, raised: Option<PyErr>) {
        *lock(&self.raised) = raised;
    }

    /// What ended the work.
    pub fn take(&self) -> Option<PyErr> {
        lock(&self.raised).take()
    }

    /// Fails when a signal has raised something; may be called as often as one likes.
    pub fn hear(&self) -> Result<()> {
        let mut asked = lock(&self.asked);
        if asked.is_some_and(|asked| asked.elapsed() < TICK) {
            return Ok(());
        }
        *asked = Some(Instant::now());
        if self.is_stopped() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}

impl Progress for Signals {
    fn start(&self, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
    fn is_stopped(&self) -> bool {
        let raised = check_signals().err();
        let is_stopped = raised.is_some();
        self.keep(raised);
        is_stopped
    }
}

/// Does work without the interpreter, on all threads, that asks now and then whether to go on.
///
/// # Errors
/// What a signal raised, or else the work's.
pub fn detached_hearing<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&Signals) -> Result<T> + Send,
) -> PyResult<T> {
    let signals = Signals::default();
    let done = detached_across(py, || work(&signals));
    signals.take().map_or(done, Err)
}
