//! Progress on standard error: a bar on a terminal, a line each ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use triptych_core::pipeline::Progress;

use crate::signals::Signals;

/// How often a log hears of a run.
const LINE_EVERY: Duration = Duration::from_secs(10);

const TEMPLATE: &str = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {msg} documents  {eta} left";

/// Shows progress in the way that suits standard error.
#[derive(Debug)]
pub(crate) struct Bar {
    signals: Signals,
    terminal: OnceLock<ProgressBar>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    documents: u64,
    bytes: u64,
    total_bytes: u64,
    last_line: Option<Instant>,
}

impl Bar {
    /// Progress of a run that stops when it is asked to.
    pub(crate) fn new(signals: Signals) -> Self {
        Self { signals, terminal: OnceLock::new(), state: Mutex::default() }
    }
}

impl Progress for Bar {
    fn start(&self, total_bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.total_bytes = total_bytes;
        state.last_line = Some(Instant::now());
        if std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            let _ = self.terminal.set(ProgressBar::new(total_bytes).with_style(style));
            // set once, here
        }
    }

    fn advance(&self, bytes: u64, documents: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += bytes;
        state.documents += documents;
        match self.terminal.get() {
            Some(bar) => {
                bar.set_message(state.documents.to_string());
                bar.inc(bytes);
            }
            None => state.print_sometimes(),
        }
    }

    fn is_stopped(&self) -> bool {
        self.signals.are_seen()
    }
}

impl State {
    fn print_sometimes(&mut self) {
        if self.last_line.is_some_and(|last| last.elapsed() >= LINE_EVERY) {
            let (done, total) = (HumanBytes(self.bytes), HumanBytes(self.total_bytes));
            eprintln!("{done} of {total}, {} documents", self.documents);
            self.last_line = Some(Instant::now());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.terminal.get() {
            bar.finish_and_clear();
        }
    }
}
