//! Where a long word of bytes may be cut before it is merged: between two characters that no merge brings together.
//!
//! Scripts without spaces have words of a whole clause, of which a cache has seen few before. Their parts it knows:
//! of Japanese documentation 61 % of the bytes were in new words, and 22 % are in new parts.
//!
//! A merge across a boundary has a token on its left that ends with the character there, or with its last
//! bytes, and one on its right that begins likewise. Where there is none, the ids of the whole are those
//! of its parts.

use super::super::words::Span;

/// Bits of the filter for a pair: two in 32 are held together without need.
const FILTER_BITS: usize = 32;

/// Words of 64 bits that have a bit for each pair of bytes.
const BYTE_PAIR_WORDS: usize = (1 << 16) / 64;

/// A merge of two tokens to a third.
type Merge = (u32, u32, u32);

/// The pairs of characters that have to stay together; two of ASCII always do.
#[derive(Debug)]
pub(in crate::tokenize) struct ByteCuts {
    /// A bit for the hash of each pair of a character and what the next begins with, all of it or some bytes.
    filter: Vec<u64>,
    /// A bit for each last byte of a part of a character and first byte of what it merges with.
    after_parts: Box<[u64; BYTE_PAIR_WORDS]>,
}

impl ByteCuts {
    /// The cuts that `merges` of tokens leave, which `bytes_of` spells; those it does not know are never made.
    pub(in crate::tokenize) fn new(merges: &[Merge], bytes_of: impl Fn(u32) -> Option<Vec<u8>>) -> Self {
        let mut after_parts = Box::new([0; BYTE_PAIR_WORDS]);
        let mut pairs = Vec::new();
        for (left, right, _) in merges {
            let (Some(left), Some(right)) = (bytes_of(*left), bytes_of(*right)) else { continue };
            match (last_char(&left), &*right) {
                (_, [first, ..]) if is_inside(*first) => {}
                (Some(left), right) if left > 0x7f || !right[0].is_ascii() => {
                    pairs.push(number(left, &right[..right.len().min(char_len(right[0]))]));
                }
                (None, [first, ..]) => {
                    let (word, bit) = byte_pair(left[left.len() - 1], *first);
                    after_parts[word] |= bit;
                }
                _ => {}
            }
        }
        let num_words = (pairs.len() * FILTER_BITS).div_ceil(64).next_power_of_two();
        let mut cuts = Self { filter: vec![0; num_words], after_parts };
        for pair in pairs {
            let (word, bit) = cuts.place(pair);
            cuts.filter[word] |= bit;
        }
        cuts
    }

    /// Where the parts of a word begin and end.
    pub(super) fn parts<'a>(&'a self, word: &'a str) -> impl Iterator<Item = Span> + 'a {
        let mut chars = word.char_indices().peekable();
        let mut start = 0;
        std::iter::from_fn(move || {
            while let Some((_, left)) = chars.next() {
                let at = chars.peek().map_or(word.len(), |next| next.0);
                if chars.peek().is_none_or(|next| !self.joins(left, next.1)) {
                    return Some((std::mem::replace(&mut start, at), at));
                }
            }
            None
        })
    }

    /// Whether two characters have to stay together.
    #[inline]
    fn joins(&self, left: char, right: char) -> bool {
        if left.is_ascii() && right.is_ascii() {
            return true;
        }
        let mut room = [[0; 4]; 2];
        let [left_bytes, right_bytes] = {
            let [first, second] = &mut room;
            [left.encode_utf8(first).as_bytes(), right.encode_utf8(second).as_bytes()]
        };
        let (word, bit) = byte_pair(left_bytes[left_bytes.len() - 1], right_bytes[0]);
        if self.after_parts[word] & bit != 0 {
            return true;
        }
        (1..=right_bytes.len()).rev().any(|len| {
            let (word, bit) = self.place(number(left as u32, &right_bytes[..len]));
            self.filter[word] & bit != 0
        })
    }

    /// Where the bit of a pair is.
    #[inline]
    fn place(&self, pair: u64) -> (usize, u64) {
        let hash = pair.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> 38) as usize & (self.filter.len() - 1), 1 << (hash >> 32 & 63))
    }
}

/// A character and what the next one begins with, as a number.
#[inline]
fn number(left: u32, right: &[u8]) -> u64 {
    right.iter().fold(u64::from(left), |number, byte| number << 8 | u64::from(*byte))
}

/// Where the bit of two bytes is.
#[inline]
fn byte_pair(left: u8, right: u8) -> (usize, u64) {
    let pair = usize::from(left) << 8 | usize::from(right);
    (pair / 64, 1 << (pair % 64))
}

/// Whether a byte is in a character, but not its first.
#[inline]
fn is_inside(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Bytes of the character that begins with `first`.
fn char_len(first: u8) -> usize {
    match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    }
}

/// The last character of some bytes, if they have all of it.
fn last_char(bytes: &[u8]) -> Option<u32> {
    let start = bytes.iter().rposition(|byte| !is_inside(*byte))?;
    let last = std::str::from_utf8(&bytes[start..]).ok()?;
    last.chars().next().map(u32::from)
}

#[cfg(test)]
mod tests {
    use super::super::word::Word;
    use super::super::Pairs;
    use super::*;
    use proptest::prelude::*;

    const ALPHABET: [char; 8] = ['a', ' ', 'ß', 'é', '日', '本', '旦', '🙂'];

    /// The bytes of the alphabet's characters, which are the lowest ids.
    fn bytes() -> Vec<u8> {
        let mut bytes = String::from_iter(ALPHABET).into_bytes();
        bytes.sort_unstable();
        bytes.dedup();
        bytes
    }

    /// The merges of two ids each, taken from those that are there before, and the spelling of every id.
    fn merges(picks: &[(u32, u32)]) -> (Vec<Merge>, Vec<Vec<u8>>) {
        let mut spelt: Vec<Vec<u8>> = bytes().into_iter().map(|byte| vec![byte]).collect();
        let mut merges = Vec::new();
        for (left, right) in picks {
            let num = spelt.len() as u32;
            merges.push((left % num, right % num, num));
            spelt.push([&*spelt[(left % num) as usize], &spelt[(right % num) as usize]].concat());
        }
        (merges, spelt)
    }

    fn ids(word: &str, pairs: &Pairs) -> Vec<u32> {
        let bytes = bytes();
        let place = |byte: u8| bytes.iter().position(|other| *other == byte).unwrap() as u32;
        let mut merged = Word::default();
        merged.ids.extend(word.bytes().map(place));
        merged.merge(pairs);
        merged.ids
    }

    fn parts<'a>(cuts: &ByteCuts, text: &'a str) -> Vec<&'a str> {
        cuts.parts(text).map(|(start, end)| &text[start..end]).collect()
    }

    proptest! {
        #[test]
        fn the_ids_of_the_parts_are_those_of_the_whole(
            text in proptest::collection::vec(proptest::sample::select(&ALPHABET[..]), 0..60),
            picks in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..40),
        ) {
            let (merges, spelt) = merges(&picks);
            let (text, pairs) = (String::from_iter(text), Pairs::new(&merges).unwrap());
            let cuts = ByteCuts::new(&merges, |id| spelt.get(id as usize).cloned());
            let parts = parts(&cuts, &text);
            prop_assert_eq!(parts.concat(), &*text);
            prop_assert_eq!(parts.iter().flat_map(|part| ids(part, &pairs)).collect::<Vec<_>>(), ids(&text, &pairs));
        }
    }

    /// Cuts of merges as they are spelt.
    fn cuts(merges: &[(&[u8], &[u8])]) -> ByteCuts {
        let ids: Vec<Merge> = (0..).step_by(2).zip(merges).map(|(id, _)| (id, id + 1, 0)).collect();
        let sides: Vec<&[u8]> = merges.iter().flat_map(|(left, right)| [*left, *right]).collect();
        ByteCuts::new(&ids, |id| Some(sides[id as usize].to_vec()))
    }

    #[test]
    fn words_are_cut_where_no_merge_reaches_across_and_only_there() {
        let (day, root) = ("日".as_bytes(), "本".as_bytes());
        let whole = cuts(&[(day, root)]);
        assert_eq!(parts(&whole, "日本日日本日本"), ["日本", "日", "日本", "日本"]);
        assert_eq!(parts(&whole, "two of ASCII, 日a日"), ["two of ASCII, ", "日", "a", "日"]);
        let start_of_root = cuts(&[(day, &root[..1])]);
        assert_eq!(parts(&start_of_root, "本日本本日日"), ["本", "日本", "本", "日日"]);
        let end_of_day = cuts(&[(&day[1..], root)]);
        assert_eq!(parts(&end_of_day, "本日本本日a"), ["本", "日本", "本", "日", "a"]);
    }
}
