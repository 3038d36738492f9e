//! How much of a text its repeated n-grams of words take (Rae et al. 2021, table A1), where n-grams are
//! compared by what their words spell when joined without spaces: `ab c` is `a bc`.
//!
//! N-grams that spell the same have the same first sixteen bytes from their first letter on, wherever the words
//! among them end. So only places whose head stands elsewhere too are looked at, and those whose n-gram is
//! shorter than a head: one in seven of a book. Where hashes agree the letters are compared, so nothing depends
//! on luck.

use super::letters::{Letters, HALF_BYTES};
use super::MAX_WORDS;
use crate::text::slots::Slots;
use crate::text::vocabulary::Vocabulary;

/// Bits for each word, so that of the heads that stand once one in seventeen looks as if it did not.
const MET_BITS: usize = 16;

/// The n-grams that may be repeated. Reused from text to text.
#[derive(Debug, Default)]
pub(in crate::text) struct Spelled {
    /// Fewest words of the n-grams that [`Spelled::places`] has; 0 if it has none yet.
    fewest: usize,
    /// Words at which an n-gram begins that may spell as another does.
    places: Vec<u32>,
    /// Mixed head at each word.
    met_heads: Vec<u32>,
    /// A bit for each head met, and one for each met again.
    met: Vec<(u64, u64)>,
    repeated_chars: [Option<usize>; MAX_WORDS + 1],
}

impl Spelled {
    /// Forgets the text.
    pub(in crate::text) fn reset(&mut self) {
        (self.fewest, self.repeated_chars) = (0, [None; MAX_WORDS + 1]);
    }

    /// Code points in the n-grams that repeat an earlier one, read from left to right: a
    /// repeated one is counted and jumped over, any other is remembered and the next word begins one.
    pub(in crate::text) fn repeated_chars(
        &mut self,
        n: usize,
        letters: &Letters,
        words: &Vocabulary,
        slots: &mut Slots,
    ) -> usize {
        if let Some(chars) = self.repeated_chars[n] {
            return chars;
        }
        if self.fewest == 0 || self.fewest > n {
            self.find_places(n, letters);
        }
        let chars = self.count_repeated(n, letters, words, slots);
        self.repeated_chars[n] = Some(chars);
        chars
    }

    fn count_repeated(&self, n: usize, letters: &Letters, words: &Vocabulary, slots: &mut Slots) -> usize {
        slots.reset(self.places.len());
        let (mut from, mut chars) = (0, 0);
        for at in self.places.iter().map(|at| *at as usize) {
            if at < from {
                continue;
            }
            if at + n > words.num_words() {
                break;
            }
            let ngram = letters.of(at, n);
            let hash = letters.hash(letters.starts[at], ngram.len());
            if slots.find_or_insert(hash, at, |other| letters.of(other, n) == ngram) != at {
                chars += words.chars_in(at, n);
                from = at + n;
            }
        }
        chars
    }

    /// Finds the places for n-grams of `n` words and more.
    fn find_places(&mut self, n: usize, letters: &Letters) {
        self.meet_heads(letters);
        let Self { places, met, met_heads, .. } = self;
        let starts = &letters.starts;
        places.clear();
        for (at, (start, end)) in starts.iter().zip(starts.iter().skip(n)).enumerate() {
            let (word, bit) = place_of(met_heads[at], met.len());
            if met[word].1 >> bit & 1 == 1 || end - start < HALF_BYTES {
                places.push(at as u32);
            }
        }
        self.fewest = n;
    }

    /// Makes the head at each word, and marks those met again.
    fn meet_heads(&mut self, letters: &Letters) {
        let num_words = letters.starts.len() - 1;
        self.met.clear();
        self.met.resize((num_words * MET_BITS / 64).next_power_of_two(), (0, 0));
        self.met_heads.clear();
        let met = &mut self.met;
        self.met_heads.extend(letters.starts[..num_words].iter().map(|start| {
            let mixed = (letters.head(*start).half_hash() >> 32) as u32;
            let (word, bit) = place_of(mixed, met.len());
            let (met, again) = &mut met[word];
            *again |= *met & 1 << bit;
            *met |= 1 << bit;
            mixed
        }));
    }
}

/// Where the bit of a mixed head stands among so many words of bits.
#[inline]
fn place_of(mixed: u32, num_words: usize) -> (usize, u32) {
    ((mixed >> 6) as usize & (num_words - 1), mixed & 63)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{letters, vocabulary};
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// The specification, with strings.
    fn naive(n: usize, words: &[&str]) -> usize {
        let (mut seen, mut at, mut chars) = (HashSet::new(), 0, 0);
        while at + n <= words.len() {
            let joined = words[at..at + n].concat();
            let num_chars = joined.chars().count();
            if seen.insert(joined) {
                at += 1;
            } else {
                chars += num_chars;
                at += n;
            }
        }
        chars
    }

    proptest! {
        #[test]
        fn repeated_ngrams_are_those_of_a_set_of_strings(
            text in r"((a|ab|b|c|é) ){0,9}([a-z]{1,2} ){0,60}((a|ab|b|c|é)[ ]{1,30}){0,30}((abcdefgh|abcd|efgh|a{17}|[a-z]{20}) ){0,60}"
        ) {
            let (mut slots, found, words) = vocabulary(&text);
            let (mut spelled, letters) = (Spelled::default(), letters(&text, &found));
            spelled.reset();
            for n in (1..=MAX_WORDS).chain([5]) {
                let chars = spelled.repeated_chars(n, &letters, &found, &mut slots);
                prop_assert_eq!(chars, naive(n, &words), "{} words", n);
            }
            spelled.reset();
            for n in 5..=MAX_WORDS {
                let chars = spelled.repeated_chars(n, &letters, &found, &mut slots);
                prop_assert_eq!(chars, naive(n, &words), "{} words, from five on", n);
            }
        }
    }
}
