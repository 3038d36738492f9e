//! Where a text of characters may be cut before it is merged: between two that no merge ever brings together.
//!
//! Text without a pre-tokenizer is one word (Llama 2, Mistral, Gemma), and merging it so was 20 times as slow as
//! words that a cache knows. A token that holds both sides of a boundary was made by a merge of one that ends
//! with the left character and one that begins with the right one. Where there is no such merge, the
//! ids of the whole are those of its parts.

use super::super::words::{Batching, Span};
use super::symbols::Symbols;

/// Characters with a row of their own: ASCII, and the mark that stands for a space.
const NUM_NEAR: usize = MARK + 1;

/// The row of the mark.
const MARK: usize = 128;

/// Bits of the filter for a pair of characters: one in 16 is held together without need.
const FILTER_BITS: usize = 16;

/// A merge of two tokens to a third.
type Merge = (u32, u32, u32);

/// What a token has at an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is never made.
    Nothing,
    Char(char),
    /// One of several, or a part of a character.
    Anything,
}

/// The pairs of characters that have to stay together.
#[derive(Debug)]
pub(in crate::tokenize) struct Cuts {
    /// Stands for a space.
    mark: char,
    /// Whether text is cut before every mark.
    at_marks: bool,
    /// For two characters of [`NUM_NEAR`], whether they stay together.
    near: Vec<bool>,
    /// A bit for the hash of each pair of which one is another character.
    filter: Vec<u64>,
    /// Which of [`NUM_NEAR`] have tokens; empty if a token or bytes stand for every character.
    has_token: Vec<bool>,
}

impl Cuts {
    /// The cuts that `merges`, of ids, leave; `None` if they are too strange to say, or where a character may leave
    /// nothing: then those around it are neighbours.
    pub(in crate::tokenize) fn new(symbols: &Symbols, merges: &[Merge], mark: char) -> Option<Self> {
        if symbols.fallback.drops() {
            return None;
        }
        let firsts = ends(symbols, merges, |merge| merge.0);
        let lasts = ends(symbols, merges, |merge| merge.1);
        let mut pairs = Vec::new();
        for (left, right, _) in merges {
            match (lasts[*left as usize], firsts[*right as usize]) {
                (End::Anything, _) | (_, End::Anything) => return None,
                (End::Char(left), End::Char(right)) => pairs.push((left, right)),
                (End::Nothing, _) | (_, End::Nothing) => (),
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        let mut cuts = Self::empty(mark, pairs.len());
        for (left, right) in pairs {
            cuts.join(left, right);
        }
        if !symbols.fallback.has_all_bytes() {
            cuts.keep_unknown_together(symbols);
        }
        Some(cuts)
    }

    /// Cuts before each mark and nowhere else.
    pub(in crate::tokenize) fn only_at_marks(mark: char) -> Self {
        let mut cuts = Self::empty(mark, 1).at_marks();
        cuts.near.fill(true);
        cuts.filter.fill(u64::MAX);
        cuts
    }

    /// The same, and before each mark, whatever merges say.
    pub(in crate::tokenize) fn at_marks(self) -> Self {
        Self { at_marks: true, ..self }
    }

    fn empty(mark: char, num_pairs: usize) -> Self {
        let num_words = (num_pairs * FILTER_BITS).div_ceil(64).next_power_of_two();
        let (near, filter) = (vec![false; NUM_NEAR * NUM_NEAR], vec![0; num_words]);
        Self { mark, at_marks: false, near, filter, has_token: Vec::new() }
    }

    fn join(&mut self, left: char, right: char) {
        if let (Some(left), Some(right)) = (self.near(left), self.near(right)) {
            self.near[left * NUM_NEAR + right] = true;
        } else {
            let (word, bit) = self.place(left, right);
            self.filter[word] |= bit;
        }
    }

    /// A character for which the unknown token stands is kept with a next one that has no token either: one may
    /// stand for both, and bytes overtake it.
    fn keep_unknown_together(&mut self, symbols: &Symbols) {
        let chars = (0..128_u8).map(char::from).chain([self.mark]);
        self.has_token = chars.map(|char| symbols.ids.contains_key(&char)).collect();
        for left in (0..NUM_NEAR).filter(|near| !self.has_token[*near]) {
            for right in (0..NUM_NEAR).filter(|near| !self.has_token[*near]) {
                self.near[left * NUM_NEAR + right] = true;
            }
        }
    }

    /// Calls `words` with the parts of `text`, a few at a time, in order.
    pub(in crate::tokenize) fn each(&self, text: &str, words: impl FnMut(&str, &[Span])) {
        let mut batching = Batching::new(text, words);
        self.split(text, |start, end| batching.push(start, end));
        batching.finish();
    }

    fn split(&self, text: &str, mut part: impl FnMut(usize, usize)) {
        let mut chars = text.char_indices();
        let Some((mut start, mut before)) = chars.next() else { return };
        for (at, char) in chars {
            if !self.joins(before, char) {
                part(start, at);
                start = at;
            }
            before = char;
        }
        part(start, text.len());
    }

    /// Whether two characters have to stay together.
    #[inline]
    fn joins(&self, left: char, right: char) -> bool {
        if self.at_marks && right == self.mark {
            return false;
        }
        match (self.near(left), self.near(right)) {
            (Some(left), Some(right)) => self.near[left * NUM_NEAR + right],
            (left_near, right_near) => {
                let (word, bit) = self.place(left, right);
                self.filter[word] & bit != 0 || self.may_be_unknown(left_near, right_near)
            }
        }
    }

    /// Whether the unknown token may stand for the first of two, of which one is not near, and the second has no token.
    fn may_be_unknown(&self, left: Option<usize>, right: Option<usize>) -> bool {
        let has_token = |near: Option<usize>| near.is_some_and(|near| self.has_token[near]);
        !self.has_token.is_empty() && !has_token(left) && !has_token(right)
    }

    #[inline]
    fn near(&self, char: char) -> Option<usize> {
        match char {
            '\0'..='\x7f' => Some(char as usize),
            _ => (char == self.mark).then_some(MARK),
        }
    }

    /// Where the bit of a pair is.
    #[inline]
    fn place(&self, left: char, right: char) -> (usize, u64) {
        let pair = u64::from(left as u32) << 32 | u64::from(right as u32);
        let hash = pair.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> 38) as usize & (self.filter.len() - 1), 1 << (hash >> 32 & 63))
    }
}

/// The first or the last character of each token: that of the side `of` each merge that makes it.
fn ends(symbols: &Symbols, merges: &[Merge], of: impl Fn(&Merge) -> u32) -> Vec<End> {
    let mut ends = first_ends(symbols, merges);
    loop {
        let mut is_done = true;
        for merge in merges {
            let end = ends[of(merge) as usize];
            let made = &mut ends[merge.2 as usize];
            let both = made.or(end);
            is_done &= both == *made;
            *made = both;
        }
        if is_done {
            return ends;
        }
    }
}

/// The ends of tokens that are symbols.
fn first_ends(symbols: &Symbols, merges: &[Merge]) -> Vec<End> {
    let Symbols { ids, fallback } = symbols;
    let bytes = fallback.bytes.iter().flat_map(|bytes| bytes.iter().enumerate());
    let bytes = bytes.filter_map(|(byte, id)| Some((End::of_byte(byte), (*id)?)));
    let chars = ids.iter().map(|(char, id)| (End::Char(*char), *id));
    let unknown = fallback.unknown.map(|id| (End::Anything, id));
    let symbols: Vec<(End, u32)> = chars.chain(bytes).chain(unknown).collect();
    let in_merges = merges.iter().flat_map(|(left, right, made)| [*left, *right, *made]);
    let most = symbols.iter().map(|(_, id)| *id).chain(in_merges).max();
    let mut ends = vec![End::Nothing; most.map_or(0, |most| most as usize + 1)];
    for (end, id) in symbols {
        ends[id as usize] = ends[id as usize].or(end);
    }
    ends
}

impl End {
    fn of_byte(byte: usize) -> Self {
        u8::try_from(byte)
            .ok()
            .filter(u8::is_ascii)
            .map_or(Self::Anything, |byte| Self::Char(char::from(byte)))
    }

    /// The end of a token that may come about in two ways.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, end) | (end, Self::Nothing) => end,
            _ if self == other => self,
            _ => Self::Anything,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::word::Word;
    use super::super::{Fallback, Pairs};
    use super::*;
    use proptest::prelude::*;

    const ALPHABET: [char; 8] = ['a', 'b', '\n', ' ', '▁', 'ß', '日', '本'];

    /// Bytes are ids under 256, the unknown token is 256, characters follow; merges make what follows them.
    fn symbols(known: usize, num_bytes: usize, is_fused: bool) -> Symbols {
        let ids = ALPHABET.into_iter().take(known).zip(257..).collect();
        let bytes = Some(Box::new(std::array::from_fn(|byte| (byte < num_bytes).then_some(byte as u32))));
        Symbols { ids, fallback: Fallback { bytes, unknown: Some(256), is_fused } }
    }

    fn without_unknown(mut symbols: Symbols) -> Symbols {
        symbols.fallback.unknown = None;
        symbols
    }

    /// Of two ids each, taken from those that are there before.
    fn merges(picks: &[(u32, u32)], lowest: u32) -> Vec<Merge> {
        let first = 257 + ALPHABET.len() as u32;
        let made = (first..).zip(picks);
        made.map(|(id, (left, right))| (lowest + left % (id - lowest), lowest + right % (id - lowest), id))
            .collect()
    }

    fn ids(text: &str, symbols: &Symbols, pairs: &Pairs) -> Vec<u32> {
        let mut word = Word::default();
        symbols.push(text, &mut word.ids);
        word.merge(pairs);
        word.ids
    }

    proptest! {
        #[test]
        fn the_ids_of_the_parts_are_those_of_the_whole(
            text in proptest::collection::vec(proptest::sample::select(&ALPHABET[..]), 0..60),
            picks in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..12),
            known in 0..=ALPHABET.len(),
            num_bytes in proptest::sample::select(vec![0, 100, 200, 256]),
            is_fused in any::<bool>(),
            has_unknown in any::<bool>(),
            lowest in proptest::sample::select(vec![10, 257]),
        ) {
            let (symbols, merges) = (symbols(known, num_bytes, is_fused), merges(&picks, lowest));
            let symbols = if has_unknown { symbols } else { without_unknown(symbols) };
            let (text, pairs) = (String::from_iter(text), Pairs::new(&merges).unwrap());
            let Some(cuts) = Cuts::new(&symbols, &merges, '▁') else { return Ok(()) };
            let mut parts = Vec::new();
            cuts.each(&text, |text, spans| {
                parts.extend(spans.iter().flat_map(|(start, end)| ids(&text[*start..*end], &symbols, &pairs)));
            });
            prop_assert_eq!(parts, ids(&text, &symbols, &pairs));
        }
    }

    fn parts(cuts: &Cuts, text: &str) -> Vec<String> {
        let mut parts = Vec::new();
        cuts.each(text, |text, spans| {
            parts.extend(spans.iter().map(|(start, end)| text[*start..*end].to_owned()));
        });
        parts
    }

    #[test]
    fn text_is_cut_where_no_token_reaches_across_and_only_there() {
        // a▁ is made of a and ▁, 日本 of 日 and 本.
        let merges = [(257, 261, 265), (263, 264, 266)];
        let cuts = Cuts::new(&symbols(8, 256, true), &merges, '▁').unwrap();
        assert_eq!(parts(&cuts, "ba▁b▁日本日"), ["b", "a▁", "b", "▁", "日本", "日"]);
        assert_eq!(parts(&cuts.at_marks(), "ba▁b▁日本日"), ["b", "a", "▁", "b", "▁", "日本", "日"]);
        assert_eq!(parts(&Cuts::only_at_marks('▁'), "ba▁▁日本"), ["ba", "▁", "▁日本"]);
        assert_eq!(parts(&Cuts::only_at_marks('▁'), ""), [""; 0]);
    }

    #[test]
    fn a_character_that_leaves_nothing_leaves_no_cuts() {
        // a and b are merged where the line feed between them is dropped.
        let dropping = without_unknown(symbols(2, 0, true));
        assert!(Cuts::new(&dropping, &[(257, 258, 265)], '▁').is_none());
        assert!(Cuts::new(&without_unknown(symbols(2, 256, true)), &[(257, 258, 265)], '▁').is_some());
    }

    #[test]
    fn a_token_whose_end_may_be_part_of_a_character_leaves_no_cuts() {
        assert!(Cuts::new(&symbols(8, 256, true), &[(0xe6, 0x97, 300)], '▁').is_none());
        assert!(Cuts::new(&symbols(8, 256, true), &[(256, 257, 300)], '▁').is_none());
        assert!(Cuts::new(&symbols(8, 256, true), &[(10, 10, 300)], '▁').is_some(), "two line feeds");
    }
}
