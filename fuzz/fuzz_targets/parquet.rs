//! Any bytes under a name of Parquet.
#![no_main]

#[path = "../../rust/core/tests/read/feed.rs"]
mod feed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(given) = feed::feed("a.parquet", bytes) {
        assert_eq!(feed::check(&given), Ok(()));
    }
});
