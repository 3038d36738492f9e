//! How much of a text its repeated n-grams of words take (Rae et al. 2021, table A1).
//!
//! Each level is made from the one before. The most frequent n-gram compares words, so an
//! n-gram is a pair of numbers: the n-gram without its last word, and that word. Repeated
//! n-grams compare what the words spell when joined without spaces (`ab c` is `a bc`), so
//! they go by a hash that can be continued (polynomial, modulo 2^61 - 1); where hashes
//! agree the letters are compared, so nothing depends on luck.

use super::slots::Slots;
use super::vocabulary::Vocabulary;

/// Most words in an n-gram that is looked at.
pub const MAX_WORDS: usize = 10;

/// Bits for each hash of a text: one hash in 700 finds its two set by others.
const MET_BITS: usize = 32;

/// Most hashes that are looked through for one that finds its bits set; for more the table is as fast.
const MAX_LOOKED_THROUGH: usize = 1 << 14;

/// Levels of n-grams of one text. Reused from text to text.
#[derive(Debug, Default)]
pub struct Ngrams {
    /// Number of the n-gram that begins at each word, in order of first appearance.
    ids: Vec<u32>,
    /// Words of those n-grams; 0 if there are none yet.
    ids_level: usize,
    counts: Vec<Count>,
    tops: [Option<Top>; MAX_WORDS + 1],
    /// Hash of the n-gram that begins at each word.
    hashes: Vec<u64>,
    hashes_level: usize,
    /// Hash of each word, and what it multiplies the hash before it by.
    steps: Vec<(u64, u64)>,
    form_steps: Vec<(u64, u64)>,
    /// Two bits for each hash met: a hash that finds both set may have been met before.
    met: Vec<u64>,
    repeated_chars: [Option<usize>; MAX_WORDS + 1],
}

/// The most frequent n-gram; among equally frequent ones the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Top {
    /// How often it stands; 0 if there are fewer words.
    pub num_copies: usize,
    /// Code points of one copy, its words joined by spaces.
    pub num_chars: usize,
}

/// The n-grams of one length that stand more than once, every copy counted. Lengths are those of the
/// words, in code points, without what stands between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recurring {
    /// Copies of the most frequent n-gram; 0 if there are fewer words.
    pub top_copies: usize,
    /// The longest of the most frequent n-grams.
    pub longest_top_chars: usize,
    /// All n-grams: a word counts once for each that it is in.
    pub num_chars: usize,
    /// The n-grams that stand more than once, in the same way.
    pub copied_chars: usize,
    /// The words in n-grams that stand more than once, each word once.
    pub covered_chars: usize,
}

/// A distinct n-gram: how often it stands, and where first.
#[derive(Debug, Clone, Copy)]
struct Count {
    key: u64,
    num_copies: u32,
    first: u32,
}

impl Ngrams {
    /// Forgets the text.
    pub(super) fn reset(&mut self) {
        (self.ids_level, self.hashes_level) = (0, 0);
        (self.tops, self.repeated_chars) = ([None; MAX_WORDS + 1], [None; MAX_WORDS + 1]);
    }

    /// The most frequent n-gram.
    pub(super) fn top(&mut self, n: usize, words: &Vocabulary, slots: &mut Slots) -> Top {
        loop {
            if let Some(top) = self.tops[n] {
                return top;
            }
            self.raise_ids(words, slots);
        }
    }

    /// What recurs among the n-grams of `n` words. Levels are best asked for in rising order.
    pub(super) fn recurring(&mut self, n: usize, words: &Vocabulary, slots: &mut Slots) -> Recurring {
        if self.ids_level > n {
            self.ids_level = 0;
        }
        while self.ids_level < n {
            self.raise_ids(words, slots);
        }
        let (top_copies, longest_top_chars) = self.longest_top(n, words);
        let mut found = Recurring { top_copies, longest_top_chars, ..Recurring::default() };
        let mut covered = 0; // words before this one are counted
        for (at, id) in self.ids.iter().enumerate() {
            let num_chars = words.chars_in(at, n);
            found.num_chars += num_chars;
            if self.counts[*id as usize].num_copies > 1 {
                let begin = covered.max(at);
                found.copied_chars += num_chars;
                found.covered_chars += words.chars_in(begin, at + n - begin);
                covered = at + n;
            }
        }
        found
    }

    /// Copies of the most frequent n-grams, and the length of the longest of these.
    fn longest_top(&self, n: usize, words: &Vocabulary) -> (usize, usize) {
        let num_copies = self.counts.iter().map(|count| count.num_copies).max().unwrap_or(0);
        let tops = self.counts.iter().filter(|count| count.num_copies == num_copies);
        let longest = tops.map(|count| words.chars_in(count.first as usize, n)).max();
        (num_copies as usize, longest.unwrap_or(0))
    }

    /// Goes to the next level of numbered n-grams, and counts them.
    fn raise_ids(&mut self, words: &Vocabulary, slots: &mut Slots) {
        let n = self.ids_level + 1;
        self.ids_level = n;
        if n == 1 {
            self.ids.clone_from(&words.ids);
            self.tops[1] = Some(Top::default()); // no rule asks for it: level 1 only begins the others
            return;
        }
        let num_ngrams = (words.ids.len() + 1).saturating_sub(n);
        self.ids.truncate(num_ngrams);
        self.counts.clear();
        slots.reset(num_ngrams);
        for at in 0..num_ngrams {
            let key = u64::from(self.ids[at]) << 32 | u64::from(words.ids[at + n - 1]);
            self.ids[at] = self.count(key, at, slots);
        }
        self.tops[n] = Some(self.find_top(n, words));
    }

    #[inline]
    fn count(&mut self, key: u64, at: usize, slots: &mut Slots) -> u32 {
        let (counts, new) = (&self.counts, self.counts.len());
        let id = slots.find_or_insert(mix(key), new, |id| counts[id].key == key);
        match self.counts.get_mut(id) {
            Some(found) => found.num_copies += 1,
            None => self.counts.push(Count { key, num_copies: 1, first: at as u32 }),
        }
        id as u32
    }

    fn find_top(&self, n: usize, words: &Vocabulary) -> Top {
        let mut top: Option<&Count> = None;
        for count in &self.counts {
            if top.is_none_or(|top| count.num_copies > top.num_copies) {
                top = Some(count);
            }
        }
        top.map_or(Top::default(), |top| Top {
            num_copies: top.num_copies as usize,
            num_chars: words.chars_in(top.first as usize, n) + n - 1,
        })
    }

    /// Code points in the n-grams that repeat an earlier one, read from left to right: a
    /// repeated one is counted and jumped over, any other is remembered and the next word begins one.
    pub(super) fn repeated_chars(
        &mut self,
        n: usize,
        text: &str,
        words: &Vocabulary,
        slots: &mut Slots,
    ) -> usize {
        if let Some(chars) = self.repeated_chars[n] {
            return chars;
        }
        self.raise_hashes_to(n, text, words);
        let chars = if self.are_distinct() { 0 } else { self.count_repeated_chars(n, text, words, slots) };
        self.repeated_chars[n] = Some(chars);
        chars
    }

    /// True if the hashes are known to be distinct, and so the n-grams: most texts repeat none.
    fn are_distinct(&mut self) -> bool {
        if self.hashes.len() > MAX_LOOKED_THROUGH {
            return false;
        }
        let num_bits = (self.hashes.len() * MET_BITS).next_power_of_two().max(1024);
        self.met.clear();
        self.met.resize(num_bits / 64, 0);
        for (at, hash) in self.hashes.iter().enumerate() {
            let was_met = set(&mut self.met, *hash as usize) & set(&mut self.met, (*hash >> 32) as usize);
            if was_met && self.hashes[..at].contains(hash) {
                return false;
            }
        }
        true
    }

    fn count_repeated_chars(&self, n: usize, text: &str, words: &Vocabulary, slots: &mut Slots) -> usize {
        let num_ngrams = self.hashes.len();
        slots.reset(num_ngrams);
        let (mut at, mut chars) = (0, 0);
        while at < num_ngrams {
            let found = slots.find_or_insert(self.hashes[at], at, |other| is_same(other, at, n, text, words));
            if found == at {
                at += 1;
            } else {
                chars += words.chars_in(at, n);
                at += n;
            }
        }
        chars
    }

    fn raise_hashes_to(&mut self, n: usize, text: &str, words: &Vocabulary) {
        if self.hashes_level == 0 || self.hashes_level > n {
            self.begin_hashes(text, words);
        }
        while self.hashes_level < n {
            self.hashes_level += 1;
            let last = self.hashes_level - 1;
            self.hashes.truncate(words.ids.len().saturating_sub(last));
            let nexts = self.steps.iter().skip(last);
            for (hash, (add, times)) in self.hashes.iter_mut().zip(nexts) {
                *hash = reduce(multiply(*hash, *times) + add);
            }
        }
    }

    /// Level 1: the hash of a word is that of its letters.
    fn begin_hashes(&mut self, text: &str, words: &Vocabulary) {
        let form_steps = words.forms.iter().map(|form| step(&text.as_bytes()[form.span.0..form.span.1]));
        self.form_steps.clear();
        self.form_steps.extend(form_steps);
        self.steps.clear();
        self.steps.extend(words.ids.iter().map(|id| self.form_steps[*id as usize]));
        self.hashes.clear();
        self.hashes.extend(self.steps.iter().map(|step| step.0));
        self.hashes_level = 1;
    }
}

/// Sets a bit, counted around; true if it was set before.
#[inline]
fn set(bits: &mut [u64], bit: usize) -> bool {
    let word = &mut bits[(bit / 64) & (bits.len() - 1)];
    let was_set = *word >> (bit % 64) & 1 == 1;
    *word |= 1 << (bit % 64);
    was_set
}

/// True if the n-grams that begin at two words spell the same.
#[inline]
fn is_same(one: usize, other: usize, n: usize, text: &str, words: &Vocabulary) -> bool {
    words.ids[one..one + n] == words.ids[other..other + n] || spells_same(one, other, n, text, words)
}

/// The same words cut elsewhere, or two hashes that agree by chance.
#[cold]
fn spells_same(one: usize, other: usize, n: usize, text: &str, words: &Vocabulary) -> bool {
    let letters = |start: usize| {
        words.words[start..start + n].iter().flat_map(|(first, end)| &text.as_bytes()[*first..*end])
    };
    words.chars_in(one, n) == words.chars_in(other, n) && letters(one).eq(letters(other))
}

/// The Mersenne prime modulo which hashes are taken.
const PRIME: u64 = (1 << 61) - 1;
/// Base of the polynomial: any large number without structure.
const BASE: u64 = 0x0b5a_d4ce_da1c_e2a9;

/// Hash of a word's bytes, and the power of the base that its length is.
fn step(word: &[u8]) -> (u64, u64) {
    let begin = (0, 1);
    word.iter().fold(begin, |(hash, power), byte| {
        (reduce(multiply(hash, BASE) + u64::from(*byte) + 1), multiply(power, BASE))
    })
}

/// Product modulo the prime.
#[inline]
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    reduce((product as u64 & PRIME) + (product >> 61) as u64)
}

/// A sum of two numbers below the prime, or one more, modulo the prime.
#[inline]
fn reduce(sum: u64) -> u64 {
    if sum >= PRIME {
        sum - PRIME
    } else {
        sum
    }
}

/// Spreads a key over all bits.
#[inline]
fn mix(key: u64) -> u64 {
    let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
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
            text in r"((a|ab|b|c|é) ){0,9}([a-z]{1,2} ){0,60}((a|ab|b|c|é) ){0,30}"
        ) {
            let (mut slots, mut vocabulary) = (Slots::default(), Vocabulary::default());
            vocabulary.fill(&text, &mut slots, |text, words| {
                let bounds = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
                words.extend(text.split_whitespace().map(|word| (bounds(word), bounds(word) + word.len())));
            });
            let words: Vec<&str> = text.split_whitespace().collect();
            let mut ngrams = Ngrams::default();
            ngrams.reset();
            for n in 1..=MAX_WORDS {
                let found = ngrams.repeated_chars(n, &text, &vocabulary, &mut slots);
                prop_assert_eq!(found, naive(n, &words), "{} words", n);
            }
        }
    }
}
