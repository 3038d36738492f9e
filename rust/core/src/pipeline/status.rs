//! `status.json`: how far a run is, in the folder that is being written, for whoever watches
//! from outside. It is rewritten whole at most once a second, and is gone when the folder gets its name.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use super::{Phase, Progress};
use crate::draft::{Draft, STATUS_NAME};
use crate::error::Error;

const REWRITE_EVERY: Duration = Duration::from_secs(1);

/// How far a run is.
#[derive(Debug, Clone)]
pub struct Meter {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of the inputs, as on disk, that are done.
    pub bytes: u64,
    /// Bytes of the inputs; 0 if nobody knows.
    pub total_bytes: u64,
    /// Records in what is done.
    pub documents: u64,
    /// Documents kept.
    pub kept: u64,
    /// Records that could not be read.
    pub bad: u64,
    phase_began: Instant,
    /// Done when the phase began.
    bytes_before: u64,
}

impl Meter {
    /// A run that is about to read so many bytes.
    pub fn new(total_bytes: u64) -> Self {
        let phase_began = Instant::now();
        let (bytes, documents, kept, bad, bytes_before) = (0, 0, 0, 0, 0);
        let phase = Phase::Starting;
        Self { phase, bytes, total_bytes, documents, kept, bad, phase_began, bytes_before }
    }

    /// Goes on to another phase; rates are of one phase.
    pub fn begin(&mut self, phase: Phase) {
        (self.phase, self.phase_began, self.bytes_before) = (phase, Instant::now(), self.bytes);
    }

    /// Share of the records that are kept, in [0, 1]; 0 if there are none.
    pub fn kept_share(&self) -> f64 {
        self.kept as f64 / self.documents.max(1) as f64
    }

    /// Bytes a second in this phase.
    pub fn rate(&self) -> f64 {
        let seconds = self.phase_began.elapsed().as_secs_f64();
        if seconds <= 0.0 {
            return 0.0;
        }
        (self.bytes - self.bytes_before) as f64 / seconds
    }

    /// Seconds that the rest takes at this rate; `None` if that cannot be told.
    pub fn seconds_left(&self) -> Option<f64> {
        let (rest, rate) = (self.total_bytes.checked_sub(self.bytes)?, self.rate());
        (rate > 0.0).then(|| rest as f64 / rate)
    }
}

/// Passes on what it hears, and keeps the file.
pub(super) struct Status<'p> {
    progress: &'p dyn Progress,
    state: Mutex<State>,
}

struct State {
    meter: Meter,
    began_unix: u64,
    written: Option<Instant>,
    path: Option<PathBuf>,
}

impl<'p> Status<'p> {
    pub(super) fn new(progress: &'p dyn Progress) -> Self {
        let (meter, began_unix) = (Meter::new(0), unix_seconds());
        Self { progress, state: Mutex::new(State { meter, began_unix, written: None, path: None }) }
    }

    /// From now on the file is kept in the draft.
    pub(super) fn keep_in(&self, draft: &Draft) {
        self.change(|state| state.path = Some(draft.path(STATUS_NAME)));
    }

    /// The run has ended without a finished folder; the file says why, if the draft stays.
    pub(super) fn end(&self, error: &Error) {
        self.change(|state| {
            state.meter.begin(if matches!(error, Error::Interrupted) {
                Phase::Interrupted
            } else {
                Phase::Failed
            });
            state.write(Some(error));
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Writes the file, or does not: a run does not end for it.
    fn write(&mut self, error: Option<&Error>) {
        let Some(path) = &self.path else { return };
        let new = path.with_extension("json.new");
        let text = format!("{:#}\n", self.json(error));
        if fs::write(&new, text).is_ok() {
            let _ = fs::rename(&new, path);
        }
        self.written = Some(Instant::now());
    }

    fn json(&self, error: Option<&Error>) -> Value {
        let meter = &self.meter;
        json!({
            "schema": 1,
            "phase": meter.phase.name(),
            "bytes": meter.bytes,
            "total_bytes": meter.total_bytes,
            "documents": meter.documents,
            "kept": meter.kept,
            "kept_share": meter.kept_share(),
            "bad": meter.bad,
            "bytes_per_second": meter.rate(),
            "seconds_left": meter.seconds_left(),
            "started_unix": self.began_unix,
            "updated_unix": unix_seconds(),
            "error": error.map(ToString::to_string),
        })
    }
}

impl Progress for Status<'_> {
    fn start(&self, total_bytes: u64) {
        self.change(|state| state.meter.total_bytes = total_bytes);
        self.progress.start(total_bytes);
    }

    fn begin(&self, phase: Phase) {
        self.change(|state| {
            state.meter.begin(phase);
            state.write(None);
        });
        self.progress.begin(phase);
    }

    fn judged(&self, kept: u64, bad: u64) {
        self.change(|state| {
            state.meter.kept += kept;
            state.meter.bad += bad;
        });
        self.progress.judged(kept, bad);
    }

    fn advance(&self, bytes: u64, documents: u64) {
        self.change(|state| {
            state.meter.bytes += bytes;
            state.meter.documents += documents;
            if state.written.is_none_or(|written| written.elapsed() >= REWRITE_EVERY) {
                state.write(None);
            }
        });
        self.progress.advance(bytes, documents);
    }

    fn is_stopped(&self) -> bool {
        self.progress.is_stopped()
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
