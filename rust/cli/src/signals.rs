//! Ctrl-C and SIGTERM: the first asks the run to stop where it can be resumed, the second ends it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use triptych_core::Error;

/// Exit status of a command ended by Ctrl-C.
const CTRL_C: u8 = 130;

/// A write beyond the limit of a file's size becomes an error like that of a full disk, where it would end the
/// process without a word.
pub(crate) fn outlive_file_limits() {
    #[cfg(unix)]
    let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default()); // nobody asks for the flag
}

/// What the user or the system asked for since the run began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    interrupted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from now on. Where the system refuses, its own way with signals stays.
    pub(crate) fn watch() -> Self {
        let signals = Self::default();
        let flags = [(SIGINT, CTRL_C, &signals.interrupted), (SIGTERM, 75, &signals.terminated)];
        for (signal, status, seen) in flags {
            // In this order: the second signal finds the flag that the first has set.
            let _ = flag::register_conditional_shutdown(signal, status.into(), Arc::clone(seen));
            let _ = flag::register(signal, Arc::clone(seen));
        }
        signals
    }

    /// True if the run is to stop.
    pub(crate) fn are_seen(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.terminated.load(Ordering::Relaxed)
    }

    /// The exit status of a run that ended with `error`.
    pub(crate) fn status(&self, error: &Error, status: u8) -> u8 {
        let by_user = matches!(error, Error::Interrupted) && self.interrupted.load(Ordering::Relaxed);
        if by_user {
            CTRL_C
        } else {
            status
        }
    }
}
