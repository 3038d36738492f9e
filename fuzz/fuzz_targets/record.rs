//! Any bytes as a line of JSON; one that is a record is written as JSON again.
#![no_main]

use triptych_core::document::{Fallback, Record};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = Record::parse(bytes, "text") else { return };
    let (mut line, fallback) = (Vec::new(), Fallback { file_name: "a", line: 1, source: "a" });
    record.write(Some(&record.text), fallback, &mut line);
    let written = Record::parse(&line, "text").expect("what was written is a record");
    assert_eq!(written.text, record.text);
});
