//! N-gram deduplication of the `seed` profile, in order of input.
//!
//! The n-grams of a document are the windows of n words at stride n that begin
//! strictly before `words - n`. A document one of whose first five n-grams stood in
//! a kept document is a duplicate. An n-gram is remembered by the 128-bit hash of
//! its words joined by spaces: at 10^12 n-grams a collision has odds of 10^-15.

use xxhash_rust::xxh3::{xxh3_128, Xxh3};

use super::index::PROBES;
use crate::text::Scan;

/// Fewest words in an n-gram.
pub const MIN_NGRAM_WORDS: usize = 1;

/// Appends the hashes of the n-grams of a scanned text; false if it has fewer than `n` words.
pub fn hash_ngrams(text: &str, scan: &Scan, n: usize, hashes: &mut Vec<u128>) -> bool {
    let num_words = scan.num_words;
    if num_words < n {
        return false;
    }
    let windows = (0..num_words - n).step_by(n.max(MIN_NGRAM_WORDS));
    let mut room = [0; ROOM_BYTES];
    match scan.held_words() {
        Some(words) => {
            hashes.extend(windows.map(|start| hash_window(text, &words[start..start + n], &mut room)));
        }
        None => hash_giant(text, scan, n, windows.len(), hashes),
    }
    true
}

/// The same of the first `num_windows` windows of a giant, whose words are not held: each hash but once behind those
/// that are looked up, of which alone the order counts. Of single words of a letter each would take eight bytes a byte.
fn hash_giant(text: &str, scan: &Scan, n: usize, num_windows: usize, hashes: &mut Vec<u128>) {
    let (mut room, mut window) = ([0; ROOM_BYTES], Vec::with_capacity(n));
    let mut found = Distinct { first: hashes.len() + PROBES, hashes, most: MAX_REPEATED };
    let mut num_left = num_windows;
    scan.each_word(text, |(start, end)| {
        window.push([start, end]);
        if window.len() == n {
            if num_left > 0 {
                found.push(hash_window(text, &window, &mut room));
                num_left -= 1;
            }
            window.clear();
        }
    });
}

/// Hashes of which some may be there twice before they are sorted out: 16 MiB.
const MAX_REPEATED: usize = 1 << 20;

/// Hashes that are there but once from one on, or nearly.
struct Distinct<'h> {
    hashes: &'h mut Vec<u128>,
    first: usize,
    /// Sorted out at so many.
    most: usize,
}

impl Distinct<'_> {
    fn push(&mut self, hash: u128) {
        self.hashes.push(hash);
        if self.hashes.len() >= self.first + self.most {
            let mut behind = self.hashes.split_off(self.first);
            behind.sort_unstable();
            behind.dedup();
            self.most = MAX_REPEATED.max(behind.len() * 2);
            self.hashes.append(&mut behind);
        }
    }
}

/// Hash of the words joined by single spaces; where the text has them so, it is hashed in place, else in `room`.
fn hash_window(text: &str, words: &[[usize; 2]], room: &mut [u8; ROOM_BYTES]) -> u128 {
    let bytes = text.as_bytes();
    let is_joined = |pair: &[[usize; 2]]| pair[1][0] == pair[0][1] + 1 && bytes[pair[0][1]] == b' ';
    if words.windows(2).all(is_joined) {
        return xxh3_128(&bytes[words[0][0]..words[words.len() - 1][1]]);
    }
    hash_joined(bytes, words, room)
}

/// N-grams longer than this are hashed piece by piece: one in thousands.
const JOIN_BYTES: usize = 256;

/// Bytes that a word is copied by if it has no more: of a size that the compiler knows, without a call.
const WORD_BYTES: usize = 16;

/// Room for an n-gram, and what is copied behind it in vain.
const ROOM_BYTES: usize = JOIN_BYTES + 1 + WORD_BYTES;

/// Where other white space stands between two words: a line feed, in most n-grams of lines that are broken.
fn hash_joined(bytes: &[u8], words: &[[usize; 2]], room: &mut [u8; ROOM_BYTES]) -> u128 {
    let mut length = 0;
    for [start, end] in words {
        let num_bytes = end - start;
        if length + num_bytes > JOIN_BYTES {
            return hash_pieces(bytes, words);
        }
        match bytes[*start..].first_chunk::<WORD_BYTES>() {
            Some(word) if num_bytes <= WORD_BYTES => room[length..length + WORD_BYTES].copy_from_slice(word),
            _ => room[length..length + num_bytes].copy_from_slice(&bytes[*start..*end]),
        }
        room[length + num_bytes] = b' ';
        length += num_bytes + 1;
    }
    xxh3_128(&room[..length - 1])
}

fn hash_pieces(bytes: &[u8], words: &[[usize; 2]]) -> u128 {
    let mut hasher = Xxh3::new();
    for (index, [start, end]) in words.iter().enumerate() {
        hasher.update(&b" "[..usize::from(index > 0)]);
        hasher.update(&bytes[*start..*end]);
    }
    hasher.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::scan;

    fn hashes(text: &str) -> Vec<u128> {
        let (mut found, mut hashes) = (Scan::default(), Vec::new());
        scan(text, &mut found);
        hash_ngrams(text, &found, 3, &mut hashes);
        hashes
    }

    #[test]
    fn the_hash_does_not_depend_on_the_white_space_between_words() {
        let long = "x".repeat(300);
        assert_eq!(hashes("a b c d"), hashes(" a\tb\u{3000}c  d\n"));
        assert_eq!(hashes(&format!("{long} {long} c d")), hashes(&format!("{long}\n{long} c d")));
        assert_eq!(hashes("a b c d"), hashes("a\nb\tc d"));
    }

    #[test]
    fn an_ngram_of_any_length_and_white_space_is_hashed_as_its_words_joined_by_spaces() {
        for length in [1, 15, 16, 17, 84, 85, 86, 253, 254, 255, 300] {
            let words = [&"a".repeat(length), "é", &"b".repeat(length)];
            let expected = vec![xxh3_128(words.join(" ").as_bytes())];
            for space in [" ", "\n", "\r\n", "\u{3000}\t "] {
                for end in ["", " c", "\n ddddddddddddddddddd"] {
                    let text = words.join(space) + end;
                    let (mut room, mut found) = ([0; ROOM_BYTES], Scan::default());
                    scan(&text, &mut found);
                    let window = &found.held_words().unwrap()[..3];
                    assert_eq!(vec![hash_window(&text, window, &mut room)], expected, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_text_of_exactly_n_words_has_no_ngram() {
        assert_eq!((hashes("a b c").len(), hashes("a b c d").len(), hashes("a b c d e f").len()), (0, 1, 1));
    }

    #[test]
    fn of_a_giant_the_first_hashes_are_in_order_and_the_others_there_but_once() {
        let words: Vec<String> =
            (0..MAX_REPEATED + 9).map(|number| format!("w{}", number % 700 + 7)).collect();
        let (mut found, mut hashes, text) = (Scan::default(), vec![7], words.join(" "));
        scan(&text, &mut found);
        assert!(found.held_words().is_none() && hash_ngrams(&text, &found, 1, &mut hashes));
        let expected: Vec<u128> = words.iter().map(|word| xxh3_128(word.as_bytes())).collect();
        assert_eq!((hashes[0], &hashes[1..=PROBES]), (7, &expected[..PROBES]));
        assert!(hashes.len() < 720, "{}", hashes.len());
        let sorted = |hashes: &[u128]| std::collections::BTreeSet::from_iter(hashes.to_vec());
        assert_eq!(sorted(&hashes[1..]), sorted(&expected));
    }
}
