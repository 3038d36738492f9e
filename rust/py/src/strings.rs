//! Python's strings as UTF-8.
//!
//! That of ASCII stands in memory and is lent. Of other text Python would make it a character at a time: it is
//! asked for the characters alone, and their UTF-8 is made without the interpreter, in a third of the time.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyString;
use pyo3::{ffi, PyErr};
use triptych_core::text;

/// Most characters that are copied, 4 MiB of them; Python makes the UTF-8 of longer texts.
const MAX_COPIED_CHARS: usize = 1 << 20;

/// What was taken of a string while the interpreter was held.
pub enum Taken {
    Held(PyBackedStr),
    Chars(Vec<u32>),
    Made(PyBackedBytes),
}

impl Taken {
    /// Takes what there is of `text`, which has `num_chars` characters.
    pub fn new(text: &Bound<'_, PyString>, num_chars: usize) -> PyResult<Self> {
        if text.call_method0(intern!(text.py(), "isascii"))?.is_truthy()? {
            return Ok(Self::Held(text.clone().try_into()?));
        }
        if num_chars > MAX_COPIED_CHARS {
            return Ok(Self::Made(text.encode_utf8()?.into()));
        }
        Ok(Self::Chars(chars(text, num_chars)?))
    }

    /// The UTF-8; of a text with half a surrogate pair what Python says of it.
    pub fn utf8(self, text: &Py<PyString>) -> PyResult<Utf8> {
        match self {
            Self::Held(text) => Ok(Utf8::Held(text)),
            Self::Made(bytes) => Ok(Utf8::Made(bytes)),
            Self::Chars(chars) => match text::utf8(&chars) {
                Some(bytes) => Ok(Utf8::Copied(bytes)),
                None => Python::attach(|py| Ok(Utf8::Made(text.bind(py).encode_utf8()?.into()))),
            },
        }
    }
}

/// The characters of a string.
#[allow(unsafe_code)]
fn chars(text: &Bound<'_, PyString>, num_chars: usize) -> PyResult<Vec<u32>> {
    let mut chars = Vec::with_capacity(num_chars);
    // Sound: there is room for the characters that the string, which never changes, has; Python writes all of
    // them, or refuses where there are more.
    unsafe {
        let size = num_chars.cast_signed();
        if ffi::PyUnicode_AsUCS4(text.as_ptr(), chars.as_mut_ptr(), size, 0).is_null() {
            return Err(PyErr::fetch(text.py()));
        }
        chars.set_len(num_chars);
    }
    Ok(chars)
}

/// The UTF-8 of a string.
pub enum Utf8 {
    Held(PyBackedStr),
    Copied(Vec<u8>),
    /// Made anew: Python would keep what it makes for the string, as much memory again.
    Made(PyBackedBytes),
}

impl AsRef<str> for Utf8 {
    fn as_ref(&self) -> &str {
        match self {
            Self::Held(text) => text,
            Self::Copied(bytes) => simdutf8::basic::from_utf8(bytes).unwrap_or_default(),
            Self::Made(bytes) => simdutf8::basic::from_utf8(bytes).unwrap_or_default(),
        }
    }
}
