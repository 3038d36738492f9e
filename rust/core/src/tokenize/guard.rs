//! Calls into the `tokenizers` library, which indexes and unwraps on what a file declares.

use std::panic::{catch_unwind, AssertUnwindSafe};

/// Runs a call into the library; its errors and panics become sentences.
pub(super) fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("settings that the `tokenizers` library cannot run with".to_owned()),
    }
}
