//! Features of the built-in model: the n-grams of 1 to 4 letters and the words of a text, hashed.
//!
//! They are gathered first and summed afterwards, so that the rows of a table are loaded while
//! others are added, and sums stay in registers.

use super::built_in::Row;
use super::script::Script;

/// Most languages of a table.
pub(super) const MAX_LANGUAGES: usize = 48;
/// Rows of u8 that a sum of u16 can take.
const MAX_ROWS: usize = 256;

/// Multipliers of the characters of an n-gram, the last first.
const LAGS: [u32; 4] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f];
const MIX: u32 = 0x2c1b_3c6d;
const WORD_SEED: u32 = 0x811c_9dc5;
const WORD: u32 = 0x0100_0193;

/// Most features that a letter or boundary ends: four n-grams and a word.
const MAX_ENDING: usize = LAGS.len() + 1;

/// The buckets of all n-grams and words of the letters in `script`: the upper bits of their hashes.
/// A boundary may begin or end an n-gram, never stand in its middle.
pub(super) fn buckets<'b>(
    letters: &[(u16, Script)],
    script: Script,
    shift: u32,
    buckets: &'b mut Vec<u32>,
) -> &'b [u32] {
    let most = letters.len() * MAX_ENDING + LAGS.len();
    if buckets.len() < most {
        buckets.resize(most, 0);
    }
    let mut window = [0_u32; 4]; // the last letters, the newest first
    let (mut word, mut len) = (WORD_SEED, 0);
    for (folded, of) in letters {
        let letter = if *of == script { u32::from(*folded) } else { 0 };
        if letter == 0 && window[0] == 0 {
            continue;
        }
        window = [letter, window[0], window[1], window[2]];
        len += put_ngrams(&window, shift, &mut buckets[len..len + LAGS.len()]);
        if letter == 0 {
            buckets[len] = word.wrapping_mul(MIX) >> shift;
            (word, len) = (WORD_SEED, len + 1);
        } else {
            word = (word ^ letter).wrapping_mul(WORD);
        }
    }
    &buckets[..len]
}

/// Writes the n-grams that end with the newest letter, as far back as the word goes, and returns their number.
/// All four are written, as that is cheaper than to choose; those past the number are overwritten later.
#[inline]
fn put_ngrams(window: &[u32; 4], shift: u32, to: &mut [u32]) -> usize {
    let mut hash = (window[0] + 1).wrapping_mul(LAGS[0]);
    let mut put = |at: usize, hash: u32| to[at] = hash.wrapping_mul(MIX) >> shift;
    let letter = usize::from(window[0] != 0); // a boundary alone is no feature
    put(0, hash);
    for lag in 1..4 {
        hash = hash.wrapping_add((window[lag] + 1).wrapping_mul(LAGS[lag]));
        put(lag - 1 + letter, hash);
    }
    let inside = usize::from(window[1] != 0) + usize::from(window[1] != 0 && window[2] != 0);
    1 + letter + inside
}

/// Sums of rows by language; each row adds 128 more than its weights.
#[derive(Clone)]
pub(super) struct Sums {
    totals: [i32; MAX_LANGUAGES],
    count: usize,
}

impl Default for Sums {
    fn default() -> Self {
        Self { totals: [0; MAX_LANGUAGES], count: 0 }
    }
}

impl Sums {
    /// Adds the rows of the buckets.
    pub fn add(&mut self, rows: &[Row], buckets: &[u32]) {
        for chunk in buckets.chunks(MAX_ROWS) {
            let mut small = [0_u16; MAX_LANGUAGES];
            for bucket in chunk {
                for (sum, cell) in small.iter_mut().zip(&rows[*bucket as usize].0) {
                    *sum = sum.wrapping_add(u16::from(*cell)); // cannot wrap before MAX_ROWS
                }
            }
            for (total, sum) in self.totals.iter_mut().zip(small) {
                *total += i32::from(sum);
            }
        }
        self.count += buckets.len();
    }

    /// Number of features.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Sums that differ from those of the weights by the same number for every language.
    pub fn totals(&self) -> &[i32; MAX_LANGUAGES] {
        &self.totals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::language::script::Letters;

    /// Buckets as `train.py` defines them, a word at a time.
    fn slow_buckets(letters: &[(u16, Script)], script: Script, shift: u32) -> Vec<u32> {
        let bucket = |hash: u32| hash.wrapping_mul(MIX) >> shift;
        let letters: Vec<u32> =
            letters.iter().map(|(folded, of)| if *of == script { u32::from(*folded) } else { 0 }).collect();
        let mut found = Vec::new();
        for word in letters.split(|letter| *letter == 0).filter(|word| !word.is_empty()) {
            let hash = word.iter().fold(WORD_SEED, |hash, letter| (hash ^ letter).wrapping_mul(WORD));
            found.push(bucket(hash));
            let bounded = [&[0], word, &[0]].concat();
            for length in 1..=LAGS.len() {
                for ngram in bounded.windows(length).filter(|ngram| *ngram != [0]) {
                    let terms =
                        ngram.iter().rev().zip(LAGS).map(|(letter, lag)| (letter + 1).wrapping_mul(lag));
                    found.push(bucket(terms.fold(0, u32::wrapping_add)));
                }
            }
        }
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn buckets_are_those_of_the_slow_twin(text in "[a-zéA-Z \u{300}жя.]{0,80}") {
            let table = Letters::new();
            let letter = |char| { let letter = table.of(char); (letter.folded, letter.script) };
            let letters: Vec<_> = format!(" {text} ").chars().map(letter).collect();
            for script in [Script(0), Script(1)] {
                let mut room = vec![7; 3];
                let mut found = buckets(&letters, script, 20, &mut room).to_vec();
                found.sort_unstable();
                prop_assert_eq!(found, slow_buckets(&letters, script, 20));
            }
        }

        #[test]
        fn sums_are_those_of_one_row_after_another(chosen in proptest::collection::vec(0_u32..4, 0..700)) {
            let rows: Vec<Row> = [0_u8, 255, 200, 13].iter().map(|cell| Row([*cell; MAX_LANGUAGES])).collect();
            let mut sums = Sums::default();
            sums.add(&rows, &chosen);
            let slow: i32 = chosen.iter().map(|row| i32::from(rows[*row as usize].0[0])).sum();
            prop_assert_eq!(sums.totals(), &[slow; MAX_LANGUAGES]);
            prop_assert_eq!(sums.count(), chosen.len());
        }
    }
}
