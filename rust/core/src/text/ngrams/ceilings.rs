//! What n-grams take of a text at most, from hashes alone.
//!
//! Most texts are far from the bounds on repetition, and a ceiling below a bound settles it. Nothing is told
//! apart here: n-grams whose hashes agree count as the same, which raises a ceiling and never lowers it.

use super::letters::{Letters, HALF_BYTES, HEAD_BYTES, SEEDS};
use super::MAX_WORDS;
use crate::text::vocabulary::Vocabulary;

/// Lengths in words of the n-grams that [`Ceilings::top`] knows.
pub(in crate::text) const FEWEST_TOP: usize = 2;
pub(in crate::text) const NUM_TOPS: usize = 3;
/// The fewest words of the n-grams that [`Ceilings::repeated_chars`] knows.
pub(in crate::text) const FEWEST_REPEATED: usize = 5;
pub(in crate::text) const NUM_REPEATED: usize = MAX_WORDS + 1 - FEWEST_REPEATED;
/// Fewest counters of pairs.
const MIN_COUNTERS: usize = 256;

/// The ceilings of one text. Reused from text to text.
#[derive(Debug, Default)]
pub(in crate::text) struct Ceilings {
    tops: Option<[usize; NUM_TOPS]>,
    repeated: Option<[usize; NUM_REPEATED]>,
    /// Copies of pairs of words, those of some pairs together.
    counters: Vec<u32>,
    /// Counter of the pair that begins at each word, then its copies.
    pairs: Vec<u32>,
    met: Met,
}

impl Ceilings {
    /// Forgets the text.
    pub(in crate::text) fn reset(&mut self) {
        (self.tops, self.repeated) = (None, None);
    }

    /// Code points of all copies of an n-gram, its words joined by spaces, at most. `n` is 2 to 4.
    pub(in crate::text) fn top(&mut self, n: usize, words: &Vocabulary) -> usize {
        let Self { tops, counters, pairs, .. } = self;
        let tops = tops.get_or_insert_with(|| {
            count_pairs(&words.hashes, counters, pairs);
            highest_tops(pairs, &words.chars_before)
        });
        tops[n - FEWEST_TOP]
    }

    /// Code points in the n-grams that repeat an earlier one, at most. `n` is 5 to 10.
    pub(in crate::text) fn repeated_chars(
        &mut self,
        n: usize,
        letters: &Letters,
        words: &Vocabulary,
    ) -> usize {
        let Self { repeated, met, .. } = self;
        let repeated = repeated.get_or_insert_with(|| cover(letters, met, words));
        repeated[n - FEWEST_REPEATED]
    }
}

/// Counters of the pairs of so many words.
pub(in crate::text) fn num_counters(num_words: usize) -> usize {
    (2 * num_words).next_power_of_two().max(MIN_COUNTERS)
}

/// The counter of a pair, by the hashes of its words.
#[inline]
pub(in crate::text) fn pair_counter(first: u64, second: u64, num_counters: usize) -> usize {
    let joined = first.wrapping_mul(SEEDS[0]).wrapping_add(second);
    (joined >> 32) as usize & (num_counters - 1)
}

/// Fills `pairs` with the copies of the pair of words that begins at each.
fn count_pairs(hashes: &[u64], counters: &mut Vec<u32>, pairs: &mut Vec<u32>) {
    let num_counters = num_counters(hashes.len());
    counters.clear();
    counters.resize(num_counters, 0);
    pairs.clear();
    pairs.extend(hashes.windows(2).map(|pair| {
        let counter = pair_counter(pair[0], pair[1], num_counters);
        counters[counter] += 1;
        counter as u32
    }));
    for pair in pairs {
        *pair = counters[*pair as usize];
    }
}

/// An n-gram has no more copies than any pair in it.
fn highest_tops(pairs: &[u32], chars_before: &[usize]) -> [usize; NUM_TOPS] {
    let mut tops = [0; NUM_TOPS];
    // All lengths at once where a word begins one of each.
    let ngrams = pairs.windows(NUM_TOPS).zip(chars_before.windows(NUM_TOPS + FEWEST_TOP));
    for (pairs, chars_before) in ngrams {
        let mut copies = usize::MAX;
        for (index, top) in tops.iter_mut().enumerate() {
            copies = copies.min(pairs[index] as usize);
            *top = (*top).max(copies * top_chars(FEWEST_TOP + index, chars_before));
        }
    }
    let last = pairs.len().saturating_sub(NUM_TOPS - 1); // from here on there are shorter ones only
    for (at, index) in (last..pairs.len()).flat_map(|at| (0..pairs.len() - at).map(move |index| (at, index)))
    {
        let copies = pairs[at..=at + index].iter().copied().min().unwrap_or(0) as usize;
        tops[index] = tops[index].max(copies * top_chars(FEWEST_TOP + index, &chars_before[at..]));
    }
    tops
}

/// Code points of the n-gram that begins at the first word, its words joined by spaces.
#[inline]
fn top_chars(n: usize, chars_before: &[usize]) -> usize {
    chars_before[n] - chars_before[0] + n - 1
}

/// Code points of the words in n-grams that may repeat an earlier one, by length.
///
/// N-grams that spell the same have as many letters, and the same first ones: sixteen, or 32 if they have those,
/// or all if they have fewer than sixteen.
fn cover(letters: &Letters, met: &mut Met, words: &Vocabulary) -> [usize; NUM_REPEATED] {
    let mut covers = [Cover::default(); NUM_REPEATED];
    met.reset(words.num_words());
    for (at, start) in letters.starts.iter().enumerate() {
        let head = letters.head(*start);
        let (half, whole) = head.hashes();
        let is_met = met.both_again(half, whole);
        let ends = letters.starts[at..].iter().skip(FEWEST_REPEATED);
        for ((n, end), cover) in (FEWEST_REPEATED..).zip(ends).zip(&mut covers) {
            let is_repeated = match end - start {
                num_bytes @ ..HALF_BYTES => met.again(head.hash_of_first(num_bytes)),
                _ if !is_met[0] => break, // those whose heads are the same have the same first halves of heads
                HALF_BYTES..HEAD_BYTES => true,
                _ => is_met[1],
            };
            if is_repeated {
                cover.add(words.chars_before[at], words.chars_before[at + n]);
            }
        }
    }
    covers.map(|cover| cover.chars)
}

/// The words that are covered, from the first on.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::text) struct Cover {
    /// No code point from this one on is covered yet.
    end: usize,
    /// Code points of those covered.
    pub(in crate::text) chars: usize,
}

impl Cover {
    /// Covers the code points between these, of which there are as many as before or more.
    #[inline]
    pub(in crate::text) fn add(&mut self, start: usize, end: usize) {
        self.chars += end - start.max(self.end);
        self.end = end;
    }
}

/// The hashes met so far, two bits each in half a word of bits: of a thousand others, three or four seem met.
#[derive(Debug, Default)]
pub(in crate::text) struct Met(Vec<u64>);

impl Met {
    /// Forgets all, and makes room for those of so many words.
    pub(in crate::text) fn reset(&mut self, num_words: usize) {
        self.0.clear();
        self.0.resize(num_words.next_power_of_two(), 0);
    }

    /// True if it was met before, as it now is.
    #[inline]
    pub(in crate::text) fn again(&mut self, hash: u64) -> bool {
        let bits = two_bits(hash);
        let word = self.word_of(hash);
        let is_met = *word & bits == bits;
        *word |= bits;
        is_met
    }

    /// Whether each was met before. Heads of one first half have one word: the halves lower, the whole upper.
    #[inline]
    pub(in crate::text) fn both_again(&mut self, half: u64, whole: u64) -> [bool; 2] {
        let bits = [two_bits(half), two_bits(whole) << 32];
        let word = self.word_of(half);
        let is_met = bits.map(|bits| *word & bits == bits);
        *word |= bits[0] | bits[1];
        is_met
    }

    #[inline]
    fn word_of(&mut self, hash: u64) -> &mut u64 {
        let index = (hash >> 32) as usize & (self.0.len() - 1);
        &mut self.0[index]
    }
}

/// Two of the lower 32 bits.
#[inline]
fn two_bits(hash: u64) -> u64 {
    1 << (hash & 31) | 1 << (hash >> 5 & 31)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{letters, vocabulary};
    use super::super::{Numbered, Spelled};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_is_above_its_ceilings(
            text in r"((a|ab|b|c|é) ){0,9}([a-z]{1,2} ){0,60}((a|ab|b|c|é)[ ]{1,30}){0,30}((abcdefgh|abcd|efgh|a{17}|[a-z]{20}) ){0,60}"
        ) {
            let (mut slots, found, _) = vocabulary(&text);
            let (mut ceilings, mut numbered, mut spelled) = (Ceilings::default(), Numbered::default(), Spelled::default());
            numbered.reset();
            spelled.reset();
            for n in FEWEST_TOP..FEWEST_TOP + NUM_TOPS {
                let top = numbered.top(n, &found, &mut slots);
                prop_assert!(ceilings.top(n, &found) >= top.num_chars * top.num_copies, "{} words", n);
            }
            let letters = letters(&text, &found);
            for n in FEWEST_REPEATED..=MAX_WORDS {
                let chars = spelled.repeated_chars(n, &letters, &found, &mut slots);
                prop_assert!(ceilings.repeated_chars(n, &letters, &found) >= chars, "{} words", n);
            }
        }
    }

    #[test]
    fn the_ceilings_of_prose_without_repetition_are_low() {
        let word = |index: u32| format!("w{}", index.wrapping_mul(2_654_435_761) % 100_000);
        let text = (0..3000).map(word).collect::<Vec<_>>().join(" ");
        let (_, found, _) = vocabulary(&text);
        let (mut ceilings, letters) = (Ceilings::default(), letters(&text, &found));
        for n in FEWEST_REPEATED..=MAX_WORDS {
            assert!(ceilings.repeated_chars(n, &letters, &found) * 20 < text.len(), "{n} words");
        }
        assert!(ceilings.top(2, &found) * 50 < text.len());
    }
}
