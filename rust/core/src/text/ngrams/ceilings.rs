//! What n-grams take of a text at most, from hashes alone.
//!
//! Most texts are far from the bounds on repetition, and a ceiling below a bound settles it. Nothing is told
//! apart here: n-grams whose hashes agree count as the same, which raises a ceiling and never lowers it.

use super::MAX_WORDS;
use crate::text::lines::Span;
use crate::text::vocabulary::Vocabulary;

/// Lengths in words of the n-grams that [`Ceilings::top`] knows.
const FEWEST_TOP: usize = 2;
const NUM_TOPS: usize = 3;
/// The fewest words of the n-grams that [`Ceilings::repeated_chars`] knows.
const FEWEST_REPEATED: usize = 5;
const NUM_REPEATED: usize = MAX_WORDS + 1 - FEWEST_REPEATED;
/// Fewest counters of pairs.
const MIN_COUNTERS: usize = 256;
/// Bytes of a short head and of a long one. Five words of English have 21 letters, eight have 34.
const HALF_BYTES: usize = 16;
const HEAD_BYTES: usize = 32;
/// Odd numbers without structure.
const SEEDS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

/// The ceilings of one text. Reused from text to text.
#[derive(Debug, Default)]
pub(in crate::text) struct Ceilings {
    tops: Option<[usize; NUM_TOPS]>,
    repeated: Option<[usize; NUM_REPEATED]>,
    /// Copies of pairs of words, those of some pairs together.
    counters: Vec<u32>,
    /// Counter of the pair that begins at each word, then its copies.
    pairs: Vec<u32>,
    letters: Letters,
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
            std::array::from_fn(|index| highest_top(FEWEST_TOP + index, pairs, words))
        });
        tops[n - FEWEST_TOP]
    }

    /// Code points in the n-grams that repeat an earlier one, at most. `n` is 5 to 10.
    pub(in crate::text) fn repeated_chars(&mut self, n: usize, text: &str, words: &Vocabulary) -> usize {
        let Self { repeated, letters, met, .. } = self;
        let repeated = repeated.get_or_insert_with(|| {
            letters.join(text.as_bytes(), &words.words);
            cover(letters, met, words)
        });
        repeated[n - FEWEST_REPEATED]
    }
}

/// Fills `pairs` with the copies of the pair of words that begins at each.
fn count_pairs(hashes: &[u64], counters: &mut Vec<u32>, pairs: &mut Vec<u32>) {
    let num_counters = (2 * hashes.len()).next_power_of_two().max(MIN_COUNTERS);
    counters.clear();
    counters.resize(num_counters, 0);
    pairs.clear();
    let counter = |pair: &[u64]| {
        let joined = pair[0].wrapping_mul(SEEDS[0]).wrapping_add(pair[1]);
        (joined >> 32) as usize & (num_counters - 1)
    };
    pairs.extend(hashes.windows(2).map(|pair| {
        let counter = counter(pair);
        counters[counter] += 1;
        counter as u32
    }));
    for pair in pairs {
        *pair = counters[*pair as usize];
    }
}

/// An n-gram has no more copies than any pair in it.
fn highest_top(n: usize, pairs: &[u32], words: &Vocabulary) -> usize {
    let ngrams = pairs.windows(n - 1).zip(words.chars_before.windows(n + 1));
    let chars = ngrams.map(|(pairs, chars_before)| {
        let copies = pairs.iter().copied().min().unwrap_or(0) as usize;
        copies * (chars_before[n] - chars_before[0] + n - 1)
    });
    // A text of one n-gram and no more has it once.
    chars.max().unwrap_or(0)
}

/// Code points of the words in n-grams that may repeat an earlier one, by length.
///
/// N-grams that spell the same have as many letters, and the same first ones: sixteen, or 32 if they have those,
/// or all if they have fewer than sixteen.
fn cover(letters: &Letters, met: &mut Met, words: &Vocabulary) -> [usize; NUM_REPEATED] {
    let mut covers = [Cover::default(); NUM_REPEATED];
    let num_words = words.num_words();
    met.reset(num_words);
    for at in 0..(num_words + 1).saturating_sub(FEWEST_REPEATED) {
        let start = letters.starts[at];
        let head = letters.head(start);
        let (half, whole) = head.hashes();
        let is_met = [met.again(half), met.again(whole)];
        // Those whose heads are the same have the same first halves of heads.
        let max_bytes = if is_met[0] { usize::MAX } else { HALF_BYTES };
        for (n, cover) in (FEWEST_REPEATED..=num_words - at).zip(&mut covers) {
            let num_bytes = letters.starts[at + n] - start;
            if num_bytes >= max_bytes {
                break;
            }
            let is_repeated = match num_bytes {
                HEAD_BYTES.. => is_met[1],
                HALF_BYTES.. => is_met[0],
                _ => met.again(head.hash_of_first(num_bytes)),
            };
            if is_repeated {
                cover.add(at, at + n, words);
            }
        }
    }
    covers.map(|cover| cover.chars)
}

/// The words that are covered, from the first on.
#[derive(Debug, Clone, Copy, Default)]
struct Cover {
    /// No word from this one on is covered yet.
    end: usize,
    /// Code points of those covered.
    chars: usize,
}

impl Cover {
    fn add(&mut self, start: usize, end: usize, words: &Vocabulary) {
        self.chars += words.chars_before[end] - words.chars_before[start.max(self.end)];
        self.end = end;
    }
}

/// The words of a text, one after the other.
#[derive(Debug, Default)]
struct Letters {
    /// The letters, and bytes of no meaning after them.
    bytes: Vec<u8>,
    /// Where each word begins, and where the last ends.
    starts: Vec<usize>,
}

impl Letters {
    fn join(&mut self, text: &[u8], words: &[Span]) {
        if self.bytes.len() < text.len() + HEAD_BYTES {
            self.bytes.resize(text.len() + HEAD_BYTES, 0);
        }
        self.starts.clear();
        self.starts.reserve(words.len() + 1);
        let mut at = 0;
        for (start, end) in words.iter().copied() {
            self.starts.push(at);
            self.put(at, text, start, end - start);
            at += end - start;
        }
        self.starts.push(at);
    }

    /// Puts a word where the last ended. Sixteen bytes are copied at once, what is too much is written over.
    #[inline]
    fn put(&mut self, at: usize, text: &[u8], start: usize, length: usize) {
        let chunks = (self.bytes[at..].first_chunk_mut::<16>(), text[start..].first_chunk::<16>());
        match chunks {
            (Some(to), Some(from)) if length <= 16 => *to = *from,
            _ => self.bytes[at..at + length].copy_from_slice(&text[start..start + length]),
        }
    }

    #[inline]
    fn head(&self, start: usize) -> Head {
        let (words, _) = self.bytes[start..start + HEAD_BYTES].as_chunks();
        Head(std::array::from_fn(|index| u64::from_le_bytes(words[index])))
    }
}

/// The letters from a word on.
struct Head([u64; HEAD_BYTES / 8]);

impl Head {
    /// Of the first half, and of the whole.
    #[inline]
    fn hashes(&self) -> (u64, u64) {
        let half = fold(self.0[0] ^ SEEDS[0], self.0[1] ^ SEEDS[1]);
        (half, fold(self.0[2] ^ half, self.0[3] ^ SEEDS[2]))
    }

    /// Of so many bytes, fewer than in a half.
    #[inline]
    fn hash_of_first(&self, num_bytes: usize) -> u64 {
        let half = u128::from(self.0[0]) | u128::from(self.0[1]) << 64;
        let first = half & ((1 << (8 * num_bytes)) - 1);
        fold(first as u64 ^ SEEDS[3] ^ num_bytes as u64, (first >> 64) as u64 ^ SEEDS[1])
    }
}

/// Both halves of a product together: each bit of the result depends on all of both numbers.
#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

/// The hashes met so far, two bits each in one word of bits: of a thousand others, one or two seem met.
#[derive(Debug, Default)]
struct Met(Vec<u64>);

impl Met {
    /// Forgets all, and makes room for those of so many words.
    fn reset(&mut self, num_words: usize) {
        self.0.clear();
        self.0.resize(num_words.next_power_of_two(), 0);
    }

    /// True if it was met before, as it now is.
    #[inline]
    fn again(&mut self, hash: u64) -> bool {
        let index = (hash >> 32) as usize & (self.0.len() - 1);
        let bits = 1 << (hash & 63) | 1 << (hash >> 6 & 63);
        let is_met = self.0[index] & bits == bits;
        self.0[index] |= bits;
        is_met
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::vocabulary;
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
            for n in FEWEST_REPEATED..=MAX_WORDS {
                let chars = spelled.repeated_chars(n, &text, &found, &mut slots);
                prop_assert!(ceilings.repeated_chars(n, &text, &found) >= chars, "{} words", n);
            }
        }
    }

    #[test]
    fn the_ceilings_of_prose_without_repetition_are_low() {
        let word = |index: u32| format!("w{}", index.wrapping_mul(2_654_435_761) % 100_000);
        let text = (0..3000).map(word).collect::<Vec<_>>().join(" ");
        let (_, found, _) = vocabulary(&text);
        let mut ceilings = Ceilings::default();
        for n in FEWEST_REPEATED..=MAX_WORDS {
            assert!(ceilings.repeated_chars(n, &text, &found) * 20 < text.len(), "{n} words");
        }
        assert!(ceilings.top(2, &found) * 50 < text.len());
    }
}
