//! What comes through a pipe, standard input, is read by a thread of its own: it may keep
//! one waiting for ever, and whoever waits must be able to ask whether to stop.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, sync_channel, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Progress;
use crate::error::{Error, Result};
use crate::read::{self, Limits, Reader, Unit, STANDARD_INPUT};

/// Time between two questions whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// What a reader gives: the next unit or, after the last, size and hash of all.
pub(super) enum Next {
    Unit(Box<Unit>),
    End(u64, String),
}

impl Next {
    pub(super) fn of(reader: &mut Reader) -> Result<Self> {
        if let Some(unit) = reader.next_unit()? {
            return Ok(Self::Unit(Box::new(unit)));
        }
        reader.finish().map(|(bytes, hash)| Self::End(bytes, hash))
    }
}

/// A pipe that is being read.
pub(super) struct Pipe {
    units: Receiver<Result<Next>>,
    spare: Sender<Vec<u8>>,
    /// Left alone if the run ends before the pipe does: nobody can wake it.
    reading: Option<JoinHandle<()>>,
}

impl Pipe {
    /// True if reading may wait for somebody: what else is no regular file is refused before.
    pub(super) fn is_at(path: &Path) -> bool {
        path.as_os_str() == STANDARD_INPUT
    }

    /// Begins to read.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub(super) fn open(path: PathBuf, text_field: String, limits: Limits) -> Result<Self> {
        let (sender, units) = sync_channel(0); // what is read waits in the thread
        let (spare, recycled) = channel();
        let failed = Error::io("start a thread for", path.clone());
        let read = move || send_all(&path, &text_field, limits, (&sender, &recycled));
        let reading = std::thread::Builder::new().name("triptych-pipe".to_owned()).spawn(read);
        Ok(Self { units, spare, reading: Some(reading.map_err(failed)?) })
    }

    /// What comes next.
    ///
    /// # Errors
    /// Those of the reader; `Interrupted` if whoever watches the run wants it to stop.
    ///
    /// # Panics
    /// With the panic of the reader.
    pub(super) fn next(&mut self, progress: &dyn Progress) -> Result<Next> {
        loop {
            match self.units.recv_timeout(TICK) {
                Ok(next) => return next,
                Err(RecvTimeoutError::Timeout) if progress.is_stopped() => return Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => match self.reading.take().map(JoinHandle::join) {
                    Some(Err(panic)) => resume_unwind(panic),
                    _ => unreachable!("nothing is asked for after the end"),
                },
            }
        }
    }

    pub(super) fn recycle(&self, bytes: Vec<u8>) {
        let _ = self.spare.send(bytes); // the reader may be at its end
    }
}

/// Reads until the end, an error, or until nobody listens any more.
fn send_all(
    path: &Path,
    text_field: &str,
    limits: Limits,
    (sender, recycled): (&SyncSender<Result<Next>>, &Receiver<Vec<u8>>),
) {
    let mut reader = match read::open(path, text_field, limits) {
        Ok(reader) => reader,
        Err(error) => return drop(sender.send(Err(error))),
    };
    loop {
        for bytes in recycled.try_iter() {
            reader.recycle(bytes);
        }
        let next = Next::of(&mut reader);
        let is_last = !matches!(next, Ok(Next::Unit(_)));
        if sender.send(next).is_err() || is_last {
            return;
        }
    }
}
