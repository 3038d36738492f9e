//! The words of a giant: a text of so many that a few numbers for each would be more than memory should hold.
//!
//! What is kept is their letters, one word after the other, and a bit where one begins: nine eighths of the text.
//! Everything else is counted anew when it is asked for, in rounds. The answers are those of
//! [`super::vocabulary::Vocabulary`] and of what is built on it, which is the specification.

mod bits;
mod ceilings;
mod edges;
mod parts;
mod spelled;
mod tally;

use std::collections::BTreeMap;

use super::lines::Span;
use super::ngrams::{Recurring, Top, MAX_WORDS};
use super::word_key::KEY_BYTES;
use bits::Bits;
use ceilings::{NUM_REPEATED, NUM_TOPS};
use edges::Edge;
pub(crate) use parts::count_distinct;
pub(super) use parts::{count_copies, count_repeats};
use tally::tally;

/// Most words, or lines, of a text that is no giant: 36 MB of numbers.
const MAX_HELD: usize = 1 << 18;

/// Most words, or lines, of the text that are held. Places in a giant are numbers of 32 bits.
pub(super) fn max_held(text: &str) -> usize {
    u32::try_from(text.len()).map_or(usize::MAX, |_| MAX_HELD)
}

/// The words of a giant.
#[derive(Debug, Default)]
pub(super) struct Giant {
    /// The letters of all words, and some bytes of no meaning.
    letters: Vec<u8>,
    /// A bit where a word begins.
    starts: Bits,
    /// Bytes of letters.
    num_bytes: usize,
    num_words: usize,
    num_forms: Option<usize>,
    tops: [Option<Top>; MAX_WORDS + 1],
    repeated: [Option<usize>; MAX_WORDS + 1],
    top_ceilings: Option<[usize; NUM_TOPS]>,
    repeated_ceilings: Option<[usize; NUM_REPEATED]>,
}

impl Giant {
    /// Room for the words of a text.
    pub(super) fn new(text: &str) -> Self {
        let letters = Vec::with_capacity(text.len() + spelled::HEAD_BYTES);
        Self { letters, starts: Bits::new(text.len()), ..Self::default() }
    }

    /// Adds the next word.
    #[inline]
    pub(super) fn push(&mut self, word: &[u8]) {
        self.starts.set(self.num_bytes);
        self.letters.extend_from_slice(word);
        self.num_bytes += word.len();
        self.num_words += 1;
    }

    /// There are no more words.
    pub(super) fn finish(&mut self) {
        self.letters.resize(self.num_bytes + spelled::HEAD_BYTES.max(KEY_BYTES), 0);
    }

    pub(super) fn num_words(&self) -> usize {
        self.num_words
    }

    /// Distinct words.
    pub(super) fn num_forms(&mut self) -> usize {
        if let Some(num_forms) = self.num_forms {
            return num_forms;
        }
        let mut num_forms = 0;
        self.tally(1, |round| num_forms += round.num_different());
        self.num_forms = Some(num_forms);
        num_forms
    }

    /// How many words have so many code points.
    pub(super) fn num_by_length(&self) -> BTreeMap<usize, usize> {
        let mut numbers = BTreeMap::new();
        self.each(1, |edges| *numbers.entry(edges[1].chars - edges[0].chars).or_default() += 1);
        numbers
    }

    /// The most frequent n-gram.
    pub(super) fn top(&mut self, n: usize) -> Top {
        if let Some(top) = self.tops[n] {
            return top;
        }
        let (mut most, mut first) = (0, (0, 0));
        self.tally(n, |round| {
            for found in round.counted() {
                let is_first = found.num_copies == most && found.first() < first;
                if found.num_copies > most || is_first {
                    (most, first) = (found.num_copies, found.first());
                }
            }
        });
        let joints = if most > 0 { n - 1 } else { 0 };
        let top = Top { num_copies: most as usize, num_chars: self.chars_in(first) + joints };
        self.tops[n] = Some(top);
        top
    }

    /// What recurs among the n-grams of `n` words.
    pub(super) fn recurring(&self, n: usize) -> Recurring {
        let mut found = Recurring::default();
        let mut is_copied = Bits::new(self.num_bytes);
        self.tally(n, |round| {
            self.see_tops(round, &mut found);
            self.each_ngram(n, &mut |hash, span| {
                if round.num_copies(hash, span) > 1 {
                    is_copied.set(span.0);
                }
            });
        });
        let mut covered = 0; // code points before this one are counted
        self.each(n, |edges| {
            let Some(end) = edges.get(n).map(|edge| edge.chars) else { return };
            found.num_chars += end - edges[0].chars;
            if is_copied.has(edges[0].start) {
                found.copied_chars += end - edges[0].chars;
                found.covered_chars += end - edges[0].chars.max(covered);
                covered = end;
            }
        });
        found
    }

    /// Copies of the most frequent n-grams, and the length of the longest of these.
    fn see_tops(&self, round: &tally::Round, found: &mut Recurring) {
        for counted in round.counted() {
            let copies = counted.num_copies as usize;
            if copies > found.top_copies {
                (found.top_copies, found.longest_top_chars) = (copies, 0);
            }
            if copies == found.top_copies {
                found.longest_top_chars = found.longest_top_chars.max(self.chars_in(counted.first()));
            }
        }
    }

    /// Counts the n-grams of `n` words, in rounds.
    fn tally(&self, n: usize, done: impl FnMut(&tally::Round)) {
        let each = |take: &mut dyn FnMut(u64, Span)| self.each_ngram(n, take);
        tally(self.num_words, &each, &|one, other| self.is_same(one, other), done);
    }

    /// Gives the hash and the letters of every n-gram of `n` words.
    fn each_ngram(&self, n: usize, take: &mut dyn FnMut(u64, Span)) {
        self.each(n, |edges| {
            if let Some(end) = edges.get(n) {
                take(edges::hash(&edges[..n]), (edges[0].start, end.start));
            }
        });
    }

    /// True if two n-grams have the same words.
    fn is_same(&self, one: Span, other: Span) -> bool {
        self.letters[one.0..one.1] == self.letters[other.0..other.1]
            && self.starts.are_same(one.0, other.0, one.1 - one.0)
    }

    fn chars_in(&self, (start, end): Span) -> usize {
        super::lines::count_begun(&self.letters[start..end])
    }

    /// Gives for each word its edge and those of the next `width` words, as far as there are any; the last is the
    /// end of all.
    fn each(&self, width: usize, take: impl FnMut(&[Edge])) {
        edges::each(&self.letters, &self.starts, self.num_bytes, width, take);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ngrams::tests::{letters, vocabulary};
    use super::super::ngrams::{Ceilings, Numbered, Spelled};
    use super::*;
    use proptest::prelude::*;

    fn giant(words: &[&str], text: &str) -> Giant {
        let mut giant = Giant::new(text);
        for word in words {
            giant.push(word.as_bytes());
        }
        giant.finish();
        giant
    }

    proptest! {
        #[test]
        fn a_giant_answers_as_the_vocabulary_does(
            text in r"((a|ab|b|c|é) ){0,9}([a-z]{1,2} ){0,60}((a|ab|b|c|é)[ ]{1,30}){0,30}((abcdefgh|abcd|efgh|a{17}|[a-z]{20}) ){0,60}"
        ) {
            let (mut slots, found, words) = vocabulary(&text);
            let mut giant = giant(&words, &text);
            let (mut numbered, mut spelled) = (Numbered::default(), Spelled::default());
            numbered.reset();
            spelled.reset();
            let letters = letters(&text, &found);
            prop_assert_eq!((giant.num_words(), giant.num_forms()), (words.len(), found.num_forms()));
            let lengths = giant.num_by_length().into_iter().flat_map(|(length, copies)| vec![length; copies]);
            let mut expected: Vec<usize> = found.lengths().collect();
            expected.sort_unstable();
            prop_assert!(lengths.eq(expected));
            for n in 2..=MAX_WORDS {
                prop_assert_eq!(giant.top(n), numbered.top(n, &found, &mut slots), "{} words", n);
                prop_assert_eq!(giant.recurring(n), numbered.recurring(n, &found, &mut slots), "{} words", n);
                let chars = spelled.repeated_chars(n, &letters, &found, &mut slots);
                prop_assert_eq!(giant.repeated_chars(n), chars, "{} words", n);
            }
            let mut ceilings = Ceilings::default();
            for n in 2..=4 {
                prop_assert_eq!(giant.top_ceiling(n), ceilings.top(n, &found), "{} words", n);
            }
            for n in 5..=MAX_WORDS {
                prop_assert_eq!(giant.repeated_ceiling(n), ceilings.repeated_chars(n, &letters, &found), "{} words", n);
            }
        }
    }
}
