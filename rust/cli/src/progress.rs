//! Progress on standard error: a bar a phase on a terminal, a line each ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use triptych_core::pipeline::{Meter, Phase, Progress};

use crate::outcome::tell;
use crate::signals::Signals;

/// How often a log hears of a run.
const LINE_EVERY: Duration = Duration::from_secs(10);

const TEMPLATE: &str = "{prefix:10} {bar:30} {bytes}/{total_bytes}  {msg}";
/// Of a phase that does not know how much it has to do.
const SPINNER: &str = "{prefix:10} {spinner} {elapsed}";

/// Shows progress in the way that suits standard error.
#[derive(Debug)]
pub(crate) struct Bar {
    signals: Signals,
    is_terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    meter: Meter,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Bar {
    /// Progress of a run that stops when it is asked to.
    pub(crate) fn new(signals: Signals) -> Self {
        let state = State { meter: Meter::new(0), bar: None, last_line: Instant::now() };
        Self { signals, is_terminal: std::io::stderr().is_terminal(), state: Mutex::new(state) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Bar {
    fn start(&self, total_bytes: u64) {
        self.change(|state| state.meter.total_bytes = total_bytes);
    }

    fn begin(&self, phase: Phase) {
        self.change(|state| {
            state.meter.begin(phase);
            if self.is_terminal {
                state.next_bar();
            }
        });
    }

    fn judged(&self, kept: u64, bad: u64) {
        self.change(|state| {
            state.meter.kept += kept;
            state.meter.bad += bad;
        });
    }

    fn advance(&self, bytes: u64, documents: u64) {
        self.change(|state| {
            state.meter.bytes += bytes;
            state.meter.documents += documents;
            match &state.bar {
                Some(bar) => {
                    bar.set_message(told(&state.meter));
                    bar.set_position(state.meter.bytes);
                }
                None => state.print_sometimes(),
            }
        });
    }

    fn is_stopped(&self) -> bool {
        self.signals.are_seen()
    }
}

impl State {
    /// Leaves the bar of the last phase as it is, and begins another.
    fn next_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
        let is_counted = self.meter.total_bytes > 0 && self.meter.phase != Phase::Finishing;
        let (bar, template) = if is_counted {
            (ProgressBar::new(self.meter.total_bytes), TEMPLATE)
        } else {
            (ProgressBar::new_spinner(), SPINNER)
        };
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_prefix(self.meter.phase.name());
        bar.enable_steady_tick(LINE_EVERY / 20);
        self.bar = Some(bar);
    }

    fn print_sometimes(&mut self) {
        if self.last_line.elapsed() >= LINE_EVERY {
            tell(line(&self.meter) + "\n");
            self.last_line = Instant::now();
        }
    }
}

/// A line of a log.
fn line(meter: &Meter) -> String {
    let done = HumanBytes(meter.bytes);
    let of = match meter.total_bytes {
        0 => String::new(),
        total => format!(" of {} ({:.0} %)", HumanBytes(total), 100.0 * meter.bytes as f64 / total as f64),
    };
    format!("{}: {done}{of}  {}", meter.phase.name(), told(meter))
}

/// Rate, time left, and what became of the documents.
fn told(meter: &Meter) -> String {
    #[allow(clippy::cast_sign_loss)] // a rate is not negative
    let rate = HumanBytes(meter.rate() as u64);
    let left = meter.seconds_left().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let left = left.map_or_else(|| "? left".to_owned(), |left| format!("{} left", HumanDuration(left)));
    let (documents, kept, bad) = (meter.documents, 100.0 * meter.kept_share(), meter.bad);
    format!("{rate}/s  {left}  {documents} documents  {kept:.1} % kept  {bad} bad")
}

/// One line about work that is not preparation: over itself on a terminal, each ten seconds elsewhere.
#[derive(Debug)]
pub(crate) struct Ticker {
    is_terminal: bool,
    last_line: Instant,
}

impl Ticker {
    pub(crate) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), last_line: Instant::now() }
    }

    /// Shows `line` if the last one was long enough ago.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        let every = if self.is_terminal { LINE_EVERY / 50 } else { LINE_EVERY };
        if self.last_line.elapsed() < every {
            return;
        }
        self.last_line = Instant::now();
        if self.is_terminal {
            tell(format_args!("\r{}\x1b[K", line()));
        } else {
            tell(line() + "\n");
        }
    }

    /// Clears the line.
    pub(crate) fn end(self) {
        if self.is_terminal {
            tell("\r\x1b[K");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.change(|state| state.bar.take().into_iter().for_each(|bar| bar.finish_and_clear()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_phase_bytes_documents_kept_and_bad() {
        let mut meter = Meter::new(4 << 20);
        meter.begin(Phase::Preparing);
        (meter.bytes, meter.documents, meter.kept, meter.bad) = (1 << 20, 200, 150, 2);
        let line = line(&meter);
        assert!(line.starts_with("preparing: 1.00 MiB of 4.00 MiB (25 %)  "), "{line}");
        assert!(line.ends_with(" left  200 documents  75.0 % kept  2 bad"), "{line}");
        assert!(super::line(&Meter::new(0)).contains("? left"));
    }
}
