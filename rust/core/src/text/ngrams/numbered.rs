//! N-grams as numbers: that of the n-gram without its last word, with that word, makes the next level.
//!
//! An n-gram that stands more than once is made of two shorter ones that do, its first n - 1 words and its
//! last n - 1. So each level looks only where the one before found something: at every second word for
//! pairs, at one in twenty for four.

use super::{mix, MAX_WORDS};
use crate::text::slots::Slots;
use crate::text::vocabulary::Vocabulary;

/// Stands for every n-gram that stands once.
const ONCE: u32 = u32::MAX;

/// The level of n-grams at hand. Reused from text to text.
#[derive(Debug, Default)]
pub(in crate::text) struct Numbered {
    /// Words of the n-grams at hand; 0 if there are none yet.
    level: usize,
    /// Number of the n-gram that begins at each word, in order of first appearance.
    ids: Vec<u32>,
    /// Words at which one begins that stands more than once.
    places: Vec<u32>,
    counts: Vec<Count>,
    tops: [Option<Top>; MAX_WORDS + 1],
    next_ids: Vec<u32>,
    next_places: Vec<u32>,
}

/// A distinct n-gram: how often it stands, and where first.
#[derive(Debug, Clone, Copy)]
struct Count {
    key: u64,
    num_copies: u32,
    first: u32,
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

impl Numbered {
    /// Forgets the text.
    pub(in crate::text) fn reset(&mut self) {
        (self.level, self.tops) = (0, [None; MAX_WORDS + 1]);
    }

    /// The most frequent n-gram.
    pub(in crate::text) fn top(&mut self, n: usize, words: &Vocabulary, slots: &mut Slots) -> Top {
        if self.tops[n].is_none() {
            self.go_to(n, words, slots);
        }
        *self.tops[n].get_or_insert_with(|| find_top(&self.counts, n, words))
    }

    /// What recurs among the n-grams of `n` words. Levels are best asked for in rising order.
    pub(in crate::text) fn recurring(
        &mut self,
        n: usize,
        words: &Vocabulary,
        slots: &mut Slots,
    ) -> Recurring {
        self.go_to(n, words, slots);
        let (top_copies, longest_top_chars) = self.longest_top(n, words);
        let num_chars = starts(n, words).map(|at| words.chars_in(at, n)).sum();
        let mut found = Recurring { top_copies, longest_top_chars, num_chars, ..Recurring::default() };
        let mut covered = 0; // words before this one are counted
        for at in self.places.iter().map(|at| *at as usize) {
            let begin = covered.max(at);
            found.copied_chars += words.chars_in(at, n);
            found.covered_chars += words.chars_in(begin, at + n - begin);
            covered = at + n;
        }
        found
    }

    /// Copies of the most frequent n-grams, and the length of the longest of these.
    fn longest_top(&self, n: usize, words: &Vocabulary) -> (usize, usize) {
        let most = self.counts.iter().map(|count| count.num_copies).max().unwrap_or(0);
        if most < 2 {
            let longest = starts(n, words).map(|at| words.chars_in(at, n)).max();
            return longest.map_or((0, 0), |longest| (1, longest));
        }
        let tops = self.counts.iter().filter(|count| count.num_copies == most);
        let longest = tops.map(|count| words.chars_in(count.first as usize, n)).max();
        (most as usize, longest.unwrap_or(0))
    }

    fn go_to(&mut self, n: usize, words: &Vocabulary, slots: &mut Slots) {
        if self.level == 0 || self.level > n {
            self.begin(words);
        }
        while self.level < n {
            self.rise(words, slots);
        }
    }

    /// The first level: the words themselves.
    fn begin(&mut self, words: &Vocabulary) {
        self.level = 1;
        self.counts.clear();
        self.counts.resize(words.num_forms(), Count { key: 0, num_copies: 0, first: 0 });
        words.ids.iter().for_each(|id| self.counts[*id as usize].num_copies += 1);
        self.places.clear();
        self.next_ids.clone_from(&words.ids);
        self.next_places.clear();
        self.next_places.extend(0..words.ids.len() as u32);
        self.ids.clear();
        self.ids.resize(words.ids.len(), ONCE);
        self.keep_copied();
    }

    /// Goes to the next level, and counts its n-grams where one may stand twice.
    fn rise(&mut self, words: &Vocabulary, slots: &mut Slots) {
        self.level += 1;
        let (last, ids) = (self.level - 1, &self.ids);
        let is_open = |at: &u32| ids.get(*at as usize + 1).is_some_and(|id| *id != ONCE);
        let ends = |at: &u32| *at as usize + last < words.ids.len();
        keep_if(&mut self.next_places, self.places.iter().map(|at| (*at, ends(at) & is_open(at))));
        slots.reset(self.next_places.len());
        self.counts.clear();
        self.next_ids.clear();
        for place in 0..self.next_places.len() {
            let at = self.next_places[place] as usize;
            let key = u64::from(self.ids[at]) << 32 | u64::from(words.ids[at + last]);
            let id = self.count(key, at, slots);
            self.next_ids.push(id);
        }
        self.keep_copied();
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

    /// What was counted becomes the level at hand: the n-grams that stand more than once have numbers.
    fn keep_copied(&mut self) {
        self.places.iter().for_each(|at| self.ids[*at as usize] = ONCE);
        let found = self.next_places.iter().zip(&self.next_ids).map(|(at, id)| {
            let is_copied = self.counts[*id as usize].num_copies > 1;
            self.ids[*at as usize] = if is_copied { *id } else { ONCE };
            (*at, is_copied)
        });
        keep_if(&mut self.places, found);
    }
}

/// Those that are to be kept, without a branch for each: no processor foresees it.
#[inline]
fn keep_if(kept: &mut Vec<u32>, found: impl ExactSizeIterator<Item = (u32, bool)>) {
    kept.clear();
    kept.resize(found.len(), 0);
    let mut num_kept = 0;
    for (at, keeps) in found {
        kept[num_kept] = at;
        num_kept += usize::from(keeps);
    }
    kept.truncate(num_kept);
}

/// The words at which n-grams begin.
fn starts(n: usize, words: &Vocabulary) -> std::ops::Range<usize> {
    0..(words.ids.len() + 1).saturating_sub(n)
}

/// If none that was counted stands twice, it is the first of the text.
fn find_top(counts: &[Count], n: usize, words: &Vocabulary) -> Top {
    let top = |num_copies: u32, first: usize| Top {
        num_copies: num_copies as usize,
        num_chars: words.chars_in(first, n) + n - 1,
    };
    let most = counts.iter().map(|count| count.num_copies).max().unwrap_or(0);
    if most < 2 {
        return starts(n, words).next().map_or(Top::default(), |first| top(1, first));
    }
    let found = counts.iter().find(|count| count.num_copies == most);
    found.map_or(Top::default(), |count| top(most, count.first as usize))
}

#[cfg(test)]
mod tests {
    use super::super::tests::vocabulary;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// The n-grams in order with their copies: the specification.
    fn naive<'w>(n: usize, words: &[&'w str]) -> Vec<(usize, Vec<&'w str>)> {
        let mut copies: HashMap<&[&str], usize> = HashMap::new();
        words.windows(n).for_each(|ngram| *copies.entry(ngram).or_default() += 1);
        words.windows(n).map(|ngram| (copies[ngram], ngram.to_vec())).collect()
    }

    fn num_chars(ngram: &[&str]) -> usize {
        ngram.iter().map(|word| word.chars().count()).sum()
    }

    proptest! {
        #[test]
        fn the_levels_are_those_of_a_map_of_words(
            text in r"((a|ab|b|c|é) ){0,9}([a-z]{1,2} ){0,60}((a|ab|b|c|é) ){0,30}"
        ) {
            let (mut slots, found, words) = vocabulary(&text);
            let mut numbered = Numbered::default();
            numbered.reset();
            for n in 2..=MAX_WORDS {
                let ngrams = naive(n, &words);
                let most = ngrams.iter().map(|(copies, _)| *copies).max().unwrap_or(0);
                let tops = || ngrams.iter().filter(|(copies, _)| *copies == most).map(|(_, ngram)| ngram);
                let first = tops().next().map_or(0, |ngram| num_chars(ngram) + n - 1);
                prop_assert_eq!(numbered.top(n, &found, &mut slots), Top { num_copies: most, num_chars: first });
                let copied = || ngrams.iter().enumerate().filter(|(_, (copies, _))| *copies > 1);
                let covered = |word: &usize| copied().any(|(at, _)| (at..at + n).contains(word));
                let expected = Recurring {
                    top_copies: most,
                    longest_top_chars: tops().map(|ngram| num_chars(ngram)).max().unwrap_or(0),
                    num_chars: ngrams.iter().map(|(_, ngram)| num_chars(ngram)).sum(),
                    copied_chars: copied().map(|(_, (_, ngram))| num_chars(ngram)).sum(),
                    covered_chars: (0..words.len()).filter(covered).map(|word| num_chars(&words[word..=word])).sum(),
                };
                prop_assert_eq!(numbered.recurring(n, &found, &mut slots), expected, "{} words", n);
            }
            prop_assert_eq!(numbered.recurring(2, &found, &mut slots).top_copies, naive(2, &words).iter().map(|(copies, _)| *copies).max().unwrap_or(0));
        }
    }
}
