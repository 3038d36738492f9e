//! Calls into libraries that panic on damaged data, or on settings that they cannot run with.

use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Such a call runs in this thread.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call into a library; `None` if it panics, which is a failure like any other and is not printed.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                print(panic);
            }
        }));
    });
    let was_guarded = IS_GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IS_GUARDED.set(was_guarded);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_no_result_also_inside_another_call() {
        let inner = || guarded(|| panic!("provoked"));
        assert_eq!(guarded(|| inner().is_none()), Some(true));
        assert!(!IS_GUARDED.get());
    }
}
