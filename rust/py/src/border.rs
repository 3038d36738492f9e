//! The border between the engine and Python: how work crosses it, and how what goes wrong does.
//!
//! Work is done without the interpreter; a panic becomes an `InternalError`; in a child of the
//! process that imported the module, threads are started anew, since a fork copies none.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::exceptions::{PyException, PyOSError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use triptych_core::Error;

pyo3::create_exception!(triptych, InputError, PyValueError);
pyo3::create_exception!(triptych, ConfigError, PyValueError);
pyo3::create_exception!(triptych, IntegrityError, PyValueError);
pyo3::create_exception!(triptych, ResourceError, PyOSError);
pyo3::create_exception!(triptych, Interrupted, PyException);
pyo3::create_exception!(triptych, InternalError, PyException);

/// What every exception of the engine has, `None` where it is not known.
const ATTRIBUTES: [&str; 4] = ["file", "line", "byte", "hint"];

/// Characters of an argument in a message; a list of ids may be long.
const MAX_SHOWN_CHARS: usize = 80;

/// What can become a Python exception.
pub trait Fault {
    fn into_py_err(self) -> PyErr;
}

impl Fault for PyErr {
    fn into_py_err(self) -> PyErr {
        self
    }
}

impl Fault for Error {
    fn into_py_err(self) -> PyErr {
        to_py_err(self)
    }
}

/// Does work without the interpreter, on this thread: the one that hears signals.
pub fn detached<T: Send, E: Fault>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> PyResult<T> {
    py.detach(|| guarded(work))
}

/// The same for work that is shared out on the threads of the process.
pub fn detached_across<T: Send, E: Fault>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> PyResult<T> {
    py.detach(|| on_own_threads(|| guarded(work)))
}

fn guarded<T, E: Fault>(work: impl FnOnce() -> Result<T, E>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Fault::into_py_err),
        Err(panic) => Err(internal(&*panic)),
    }
}

/// The Python exception for an error of the engine, chosen by its exit status.
pub fn to_py_err(error: Error) -> PyErr {
    let message = match error.hint() {
        Some(hint) => format!("{error} (hint: {hint})"),
        None => error.to_string(),
    };
    let raised = match error.code() {
        "config" => ConfigError::new_err(message),
        "integrity" => IntegrityError::new_err(message),
        "resource" => ResourceError::new_err(message),
        "interrupted" => Interrupted::new_err(message),
        _ => InputError::new_err(message),
    };
    Python::attach(|py| set_attributes(raised.value(py), &error)).map_or_else(|failed| failed, |()| raised)
}

/// Reads an argument of numbers: what Python itself raises for one out of range is no `ValueError`.
pub fn numbers<'a, 'py, T: FromPyObject<'a, 'py>>(value: &'a Bound<'py, PyAny>) -> PyResult<T> {
    value.extract::<T>().map_err(|error| {
        let error: PyErr = error.into();
        if !error.is_instance_of::<PyOverflowError>(value.py()) {
            return error;
        }
        to_py_err(Error::InvalidValue {
            what: "a number".to_owned(),
            expected: "0 or more, and no more than its type holds".to_owned(),
            found: value.to_string().chars().take(MAX_SHOWN_CHARS).collect(),
        })
    })
}

fn set_attributes(raised: &Bound<'_, PyAny>, error: &Error) -> PyResult<()> {
    let place = error.place();
    raised.setattr("file", place.file.map(|file| file.display().to_string()))?;
    raised.setattr("line", place.line)?;
    raised.setattr("byte", place.byte)?;
    raised.setattr("hint", error.hint())
}

/// Gives every exception its attributes, for those that Python raises itself, and panics a hearer.
pub fn prepare(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let kinds = [
        py.get_type::<InputError>(),
        py.get_type::<ConfigError>(),
        py.get_type::<IntegrityError>(),
        py.get_type::<ResourceError>(),
        py.get_type::<Interrupted>(),
        py.get_type::<InternalError>(),
    ];
    for kind in kinds {
        ATTRIBUTES.iter().try_for_each(|name| kind.setattr(name, py.None()))?;
    }
    HOME.get_or_init(std::process::id);
    std::panic::set_hook(Box::new(|panic| *lock(&LAST_PANIC) = panic.to_string()));
    Ok(())
}

/// The last panic of any thread, with its place, which what is caught does not tell.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn internal(panic: &(dyn Any + Send)) -> PyErr {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let last = lock(&LAST_PANIC).clone();
    let found = if last.contains(message) { last } else { message.to_owned() };
    let hint = "report this text and triptych's version, with the input if you may";
    let error = InternalError::new_err(format!(
        "a fault of triptych {}, not of your data: {} (hint: {hint})",
        triptych_core::VERSION,
        found.split_whitespace().collect::<Vec<_>>().join(" "),
    ));
    let set = Python::attach(|py| error.value(py).setattr("hint", hint));
    set.map_or_else(|failed| failed, |()| error)
}

/// The process that imported the module.
static HOME: OnceLock<u32> = OnceLock::new();

/// The threads of a child, with its id: a child has children too.
static OF_CHILD: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

fn on_own_threads<T: Send>(work: impl FnOnce() -> PyResult<T> + Send) -> PyResult<T> {
    match own_threads()? {
        None => work(),
        Some(threads) => threads.install(work),
    }
}

/// The threads that work is shared out on: `None` is those that rayon takes by itself.
pub fn own_threads() -> PyResult<Option<Arc<ThreadPool>>> {
    let process = std::process::id();
    if HOME.get() == Some(&process) {
        return Ok(None);
    }
    pool_of(process).map(Some)
}

fn pool_of(process: u32) -> PyResult<Arc<ThreadPool>> {
    let mut pool = lock(&OF_CHILD);
    if let Some((_, pool)) = pool.as_ref().filter(|(owner, _)| *owner == process) {
        return Ok(Arc::clone(pool));
    }
    let new = ThreadPoolBuilder::new().build();
    let new = new.map_err(|error| ResourceError::new_err(format!("starting threads: {error}")))?;
    let new = Arc::new(new);
    if let Some(of_parent) = pool.replace((process, Arc::clone(&new))) {
        std::mem::forget(of_parent); // its threads are not here to be ended
    }
    Ok(new)
}
