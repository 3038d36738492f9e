//! Any bytes under a name of Arrow IPC.
#![no_main]

#[path = "../../rust/core/tests/read/feed.rs"]
mod feed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(given) = feed::feed("a.arrow", bytes) {
        assert_eq!(feed::check(&given), Ok(()));
    }
});
