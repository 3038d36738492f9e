//! Rows of a table: what a file gives.

use crate::feed::feed;

/// One row of the table: what a file gives.
pub struct Case {
    name: &'static str,
    file: &'static str,
    bytes: Vec<u8>,
    texts: Vec<&'static str>,
    /// A part of the reason of each bad record.
    bad: Vec<&'static str>,
    /// Kind of each record that is no document.
    skipped: Vec<&'static str>,
}

pub fn case(name: &'static str, file: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, file, bytes: bytes.into(), texts: Vec::new(), bad: Vec::new(), skipped: Vec::new() }
}

impl Case {
    pub fn texts(mut self, texts: &[&'static str]) -> Self {
        self.texts = texts.to_vec();
        self
    }

    pub fn bad(mut self, reasons: &[&'static str]) -> Self {
        self.bad = reasons.to_vec();
        self
    }

    pub fn skipped(mut self, kinds: &[&'static str]) -> Self {
        self.skipped = kinds.to_vec();
        self
    }

    pub fn check(self) {
        let given = feed(self.file, &self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(given.texts(), self.texts, "{}: {given:?}", self.name);
        assert_eq!(given.bad.len(), self.bad.len(), "{}: {given:?}", self.name);
        for (bad, reason) in given.bad.iter().zip(&self.bad) {
            assert!(bad.reason.contains(reason), "{}: {}", self.name, bad.reason);
        }
        let skipped = given.skipped.iter().flat_map(|(kind, count)| vec![*kind; *count as usize]);
        assert_eq!(skipped.collect::<Vec<_>>(), self.skipped, "{}", self.name);
    }
}
