//! Calls into the `tokenizers` library, which indexes and unwraps on what a file declares.

use crate::guard;

/// Runs a call into the library; its errors and panics become sentences.
pub(super) fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match guard::guarded(call) {
        Some(result) => result.map_err(|error| error.to_string()),
        None => Err("settings that the `tokenizers` library cannot run with".to_owned()),
    }
}
