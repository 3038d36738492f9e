//! Any bytes under the name of each compression: the first byte chooses.
#![no_main]

#[path = "../../rust/core/tests/read/feed.rs"]
mod feed;

const NAMES: [&str; 5] = ["a.jsonl.gz", "a.jsonl.zst", "a.jsonl.xz", "a.jsonl.bz2", "a.warc.gz"];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    if let Ok(given) = feed::feed(NAMES[*choice as usize % NAMES.len()], bytes) {
        assert_eq!(feed::check(&given), Ok(()));
    }
});
