//! How much of a text its repeated n-grams of words take (Rae et al. 2021, table A1), where n-grams are
//! compared by what their words spell when joined without spaces: `ab c` is `a bc`.
//!
//! N-grams that spell the same have the same first [`HEAD_BYTES`] bytes from their first letter on,
//! wherever the words among them end. So only places whose head stands elsewhere too are looked at, and
//! those whose n-gram is shorter than a head: one in seven of a book. There n-grams go by a hash that can
//! be continued from level to level; where hashes agree the letters are compared, so nothing depends on luck.

use super::{mix, MAX_WORDS};
use crate::text::slots::Slots;
use crate::text::vocabulary::Vocabulary;
use crate::text::word_key::KEY_BYTES;

/// Bytes of a head. Five words of English have 21.
const HEAD_BYTES: usize = KEY_BYTES;

/// Bits for each word, so that of the heads that stand once one in seventeen looks as if it did not.
const MET_BITS: usize = 16;

/// Base of the polynomial, modulo 2^64: any large odd number without structure.
const BASE: u64 = 0x9b5a_d4ce_da1c_e2a9;

/// The n-grams that may be repeated. Reused from text to text.
#[derive(Debug, Default)]
pub(in crate::text) struct Spelled {
    /// Words of the n-grams at hand; 0 if there are none yet.
    level: usize,
    /// Words at which one begins that may spell as another does, and its hash.
    places: Vec<(u32, u64)>,
    /// Hash of each form, and what it multiplies the hash before it by: 0 until it is asked for.
    steps: Vec<(u64, u64)>,
    /// First bytes of each form.
    heads: Vec<u128>,
    /// Mixed head at each word.
    met_heads: Vec<u32>,
    /// A bit for each head met, and one for each met again.
    met: Vec<(u64, u64)>,
    repeated_chars: [Option<usize>; MAX_WORDS + 1],
}

impl Spelled {
    /// Forgets the text.
    pub(in crate::text) fn reset(&mut self) {
        (self.level, self.repeated_chars) = (0, [None; MAX_WORDS + 1]);
    }

    /// Code points in the n-grams that repeat an earlier one, read from left to right: a
    /// repeated one is counted and jumped over, any other is remembered and the next word begins one.
    pub(in crate::text) fn repeated_chars(
        &mut self,
        n: usize,
        text: &str,
        words: &Vocabulary,
        slots: &mut Slots,
    ) -> usize {
        if let Some(chars) = self.repeated_chars[n] {
            return chars;
        }
        self.go_to(n, text.as_bytes(), words);
        let chars = self.count_repeated(n, text.as_bytes(), words, slots);
        self.repeated_chars[n] = Some(chars);
        chars
    }

    fn count_repeated(&self, n: usize, text: &[u8], words: &Vocabulary, slots: &mut Slots) -> usize {
        slots.reset(self.places.len());
        let (mut from, mut chars) = (0, 0);
        for (at, hash) in &self.places {
            let at = *at as usize;
            if at < from {
                continue;
            }
            if slots.find_or_insert(mix(*hash), at, |other| is_same(other, at, n, text, words)) != at {
                chars += words.chars_in(at, n);
                from = at + n;
            }
        }
        chars
    }

    fn go_to(&mut self, n: usize, text: &[u8], words: &Vocabulary) {
        if self.level == 0 || self.level > n {
            self.begin(n, text, words);
        }
        while self.level < n {
            self.level += 1;
            let (last, steps) = (self.level - 1, &mut self.steps);
            self.places.retain_mut(|(at, hash)| {
                let next = words.ids.get(*at as usize + last);
                *hash = next.map_or(0, |id| go_on(*hash, *id, steps, text, words));
                next.is_some()
            });
        }
    }

    /// Finds the places for all levels from `n` on.
    fn begin(&mut self, n: usize, text: &[u8], words: &Vocabulary) {
        self.steps.clear();
        self.steps.resize(words.num_forms(), (0, 0));
        self.meet_heads(text, words);
        let is_met_again = |at: usize| {
            let (word, bit) = place_of(self.met_heads[at], self.met.len());
            self.met[word].1 >> bit & 1 == 1
        };
        // An n-gram of fewer bytes than a head has no more characters than bytes.
        let is_short = |at: usize| words.chars_in(at, n) < HEAD_BYTES;
        self.places.clear();
        for at in 0..(words.ids.len() + 1).saturating_sub(n) {
            if is_met_again(at) || is_short(at) {
                let hash = words.ids[at..at + n].iter();
                let hash = hash.fold(0, |hash, id| go_on(hash, *id, &mut self.steps, text, words));
                self.places.push((at as u32, hash));
            }
        }
        self.level = n;
    }

    /// Makes the head at each word, from the last to the first, and marks those met again.
    fn meet_heads(&mut self, text: &[u8], words: &Vocabulary) {
        self.heads.clear();
        self.heads.extend(words.forms.iter().map(|form| form.key.head(text, form.span)));
        self.met.clear();
        self.met.resize((words.ids.len() * MET_BITS / 64).next_power_of_two(), (0, 0));
        self.met_heads.clear();
        self.met_heads.resize(words.ids.len(), 0);
        let mut head = 0;
        for (at, id) in words.ids.iter().enumerate().rev() {
            let (start, end) = words.words[at];
            head = before(head, end - start) | self.heads[*id as usize];
            let mixed = (mix(head as u64 ^ mix((head >> 64) as u64)) >> 32) as u32;
            let (word, bit) = place_of(mixed, self.met.len());
            let (met, again) = &mut self.met[word];
            *again |= *met & 1 << bit;
            *met |= 1 << bit;
            self.met_heads[at] = mixed;
        }
    }
}

/// A head moved back by the bytes of the word before it.
#[inline]
fn before(head: u128, num_bytes: usize) -> u128 {
    head.checked_shl(8 * num_bytes.min(HEAD_BYTES) as u32).unwrap_or(0)
}

/// Where the bit of a mixed head stands among so many words of bits.
#[inline]
fn place_of(mixed: u32, num_words: usize) -> (usize, u32) {
    ((mixed >> 6) as usize & (num_words - 1), mixed & 63)
}

/// True if the n-grams that begin at two words spell the same.
#[inline]
fn is_same(one: usize, other: usize, n: usize, text: &[u8], words: &Vocabulary) -> bool {
    words.ids[one..one + n] == words.ids[other..other + n] || spells_same(one, other, n, text, words)
}

/// The same words cut elsewhere, or two hashes that agree by chance.
#[cold]
fn spells_same(one: usize, other: usize, n: usize, text: &[u8], words: &Vocabulary) -> bool {
    let letters =
        |start: usize| words.words[start..start + n].iter().flat_map(|(first, end)| &text[*first..*end]);
    words.chars_in(one, n) == words.chars_in(other, n) && letters(one).eq(letters(other))
}

/// Hash of a word's bytes, and the power of the base that its length is.
fn step(word: &[u8]) -> (u64, u64) {
    word.iter().fold((0, 1), |(hash, power): (u64, u64), byte| {
        (hash.wrapping_mul(BASE).wrapping_add(u64::from(*byte) + 1), power.wrapping_mul(BASE))
    })
}

/// Hash of what was hashed, with a word of this form after it.
#[inline]
fn go_on(hash: u64, id: u32, steps: &mut [(u64, u64)], text: &[u8], words: &Vocabulary) -> u64 {
    let known = &mut steps[id as usize];
    if known.1 == 0 {
        let (start, end) = words.forms[id as usize].span;
        *known = step(&text[start..end]);
    }
    hash.wrapping_mul(known.1).wrapping_add(known.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::vocabulary;
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
            let mut spelled = Spelled::default();
            spelled.reset();
            for n in (1..=MAX_WORDS).chain([5]) {
                let chars = spelled.repeated_chars(n, &text, &found, &mut slots);
                prop_assert_eq!(chars, naive(n, &words), "{} words", n);
            }
            spelled.reset();
            for n in 5..=MAX_WORDS {
                let chars = spelled.repeated_chars(n, &text, &found, &mut slots);
                prop_assert_eq!(chars, naive(n, &words), "{} words, from five on", n);
            }
        }
    }
}
