//! What rows become where no order is needed: cleaned, judged, and their n-grams hashed.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::column::Texts;
use crate::funnel::Size;
use crate::ledger::Counts;
use crate::profile::{Profile, Scratch};
use crate::quality::Measure;

/// What decides about a row without the others.
pub(super) struct Judge {
    pub(super) profile: Profile,
    /// Measured of every text that passes, for rules that come after.
    pub(super) measures: Vec<Measure>,
}

/// What became of some rows.
#[derive(Default)]
pub(super) struct Answer {
    /// Those that passed, in order.
    pub(super) passed: Vec<Passed>,
    /// Read, rejected and quarantined; what is kept is not known yet.
    pub(super) counts: Counts,
    /// The texts that changed, one after the other.
    changed: String,
    ngrams: Vec<u128>,
    features: Vec<f64>,
}

/// A row that passed.
pub(super) struct Passed {
    /// In its batch.
    pub(super) row: usize,
    /// Its text as cleaned.
    pub(super) size: Size,
    /// The new text among the changed ones; `None` if it is as it was.
    changed: Option<Range<usize>>,
    ngrams: Range<usize>,
    /// Where its features begin.
    features: usize,
}

impl Answer {
    /// The n-grams of a row of this answer.
    pub(super) fn ngrams(&self, passed: &Passed) -> &[u128] {
        &self.ngrams[passed.ngrams.clone()]
    }

    /// The text of a row, if it changed.
    pub(super) fn changed(&self, passed: &Passed) -> Option<&str> {
        passed.changed.clone().map(|range| &self.changed[range])
    }

    /// A measure of a row, by its place among those asked for.
    pub(super) fn feature(&self, passed: &Passed, index: usize) -> f64 {
        self.features[passed.features + index]
    }
}

impl Judge {
    /// Prepares the rows in order; stopped, it answers for those before.
    pub(super) fn answer(
        &self,
        texts: &Texts,
        rows: Range<usize>,
        scratch: &mut Scratch,
        stop: &AtomicBool,
    ) -> Answer {
        let mut answer = Answer::default();
        for row in rows.take_while(|_| !stop.load(Ordering::Relaxed)) {
            answer.counts.read += 1;
            let bytes = texts.get(row);
            answer.counts.bytes_read += bytes.map_or(0, |bytes| bytes.len() as u64);
            // Null or no UTF-8: bad records, as in files.
            match bytes.and_then(|bytes| simdutf8::basic::from_utf8(bytes).ok()) {
                Some(text) => self.judge(row, text, scratch, &mut answer),
                None => answer.counts.quarantined += 1,
            }
        }
        answer.counts.count_pii(&scratch.take_pii_counts());
        answer.counts.funnel = self.profile.take_funnel(scratch);
        answer
    }

    fn judge(&self, row: usize, text: &str, scratch: &mut Scratch, answer: &mut Answer) {
        let first_ngram = answer.ngrams.len();
        let text = match self.profile.prepare(text, scratch, &mut answer.ngrams) {
            Ok(text) => text,
            Err(reason) => return answer.counts.reject(reason.name(), 1),
        };
        let (start, features) = (answer.changed.len(), answer.features.len());
        answer.features.extend(self.measures.iter().map(|measure| scratch.measure(&text, *measure)));
        let changed = matches!(text, Cow::Owned(_)).then(|| {
            answer.changed.push_str(&text);
            start..answer.changed.len()
        });
        let (size, ngrams) = (scratch.gauge().document(), first_ngram..answer.ngrams.len());
        answer.passed.push(Passed { row, size, changed, ngrams, features });
    }
}
