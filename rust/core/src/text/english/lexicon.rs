//! The special cases of English and the patterns of tokens that rejoin to one.
//!
//! Both are looked up by their bytes in one hash table, so that the usual word, which is
//! neither, most often costs one load: no entry has its length and its first and last byte.

use std::sync::LazyLock;

use super::chunk::{split_chunk, Span, Suffixes};
use super::classes::count_letters;
use crate::text::word_key::{first_bytes, KEY_BYTES as WORD_BYTES};

/// Special cases, their tokens apart by a space; the first line is a remark.
const SPECIAL_CASES: &str = include_str!("special_cases.txt");

/// Most bytes that a special case or a token of a pattern has.
const MAX_BYTES: usize = 29;
/// Slots of the hash table, a power of two, four times as many as there are texts.
const NUM_SLOTS: usize = 1 << 13;

/// The lexicon of spaCy's English.
pub(super) static ENGLISH: LazyLock<Lexicon> = LazyLock::new(english);

/// Whether a mark of ASCII at the end of a chunk is a token, where the letters before it are in no entry. It may begin
/// a pattern, which goes on as [`Lexicon::goes_on_with`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Perhaps not.
    No,
    /// A suffix.
    Suffix,
    /// The same after a lower-case letter.
    AfterLower,
}

/// The marks that most often end a chunk.
pub(super) static MARKS: [Mark; 256] = {
    let mut marks = [Mark::No; 256];
    let suffixes = b",:;?!\")";
    let mut index = 0;
    while index < suffixes.len() {
        marks[suffixes[index] as usize] = Mark::Suffix;
        index += 1;
    }
    marks[b'.' as usize] = Mark::AfterLower;
    marks
};

/// Words of two bits for each of 32 places: of the places that entries of letters may have, fewer than one in fifty
/// is taken.
const NUM_BIT_WORDS: usize = 1 << 10;
/// What [`Lexicon::listed`] says of an entry, and of a special case.
const LISTED: u64 = 1;
pub(super) const LISTED_SPECIAL: u64 = 2;

/// What is known of one text.
#[derive(Debug)]
struct Entry {
    text: String,
    /// Lengths in bytes of the tokens, if the text is a special case; a 0 is no token.
    special: Option<[u8; 3]>,
    /// Node of the patterns that begin with this token; 0 if none does.
    root: u16,
}

/// Where the patterns stand that have the same beginning.
#[derive(Debug, Default)]
struct Node {
    /// Entry of the next token, and its node.
    children: Vec<(u16, u16)>,
    /// Entry of the special case that the tokens up to here make.
    special: Option<u16>,
}

/// Special cases and patterns.
#[derive(Debug)]
pub(super) struct Lexicon {
    slots: Vec<u16>,
    /// Bit n for first and last byte, as [`ends_index`] has them: whether a text of n bytes has these.
    lengths: Vec<u32>,
    entries: Vec<Entry>,
    /// Length and ends of each entry's text, which tell short ones apart without a look at their letters.
    keys: Vec<Key>,
    /// The first is never a pattern's, so that 0 can say "none".
    nodes: Vec<Node>,
    /// Entry of each byte of ASCII, and 1 more; 0 if it is none.
    singles: [u16; 256],
    /// Two bits for each entry of ASCII letters, with or without a mark after them; some words that are none share
    /// them.
    bits: [u64; NUM_BIT_WORDS],
    /// First bytes of the second tokens of patterns that begin with a mark.
    follow: [bool; 256],
}

impl Lexicon {
    fn empty() -> Self {
        Self {
            slots: vec![0; NUM_SLOTS],
            lengths: vec![0; NUM_ENDS],
            entries: Vec::new(),
            keys: Vec::new(),
            nodes: vec![Node::default()],
            singles: [0; 256],
            bits: [0; NUM_BIT_WORDS],
            follow: [false; 256],
        }
    }

    /// 0 if a word of ASCII letters is no entry, nor with a mark of [`MARKS`] after it; [`LISTED_SPECIAL`] is in it
    /// if it may be a special case. The word has at most sixteen bytes, of which `head` is made.
    #[inline]
    pub(super) fn listed(&self, head: u128) -> u64 {
        let (word, shift) = place_of(head);
        self.bits[word] >> shift & (LISTED | LISTED_SPECIAL)
    }

    /// True if a pattern begins with this token.
    pub(super) fn begins_pattern(&self, token: &str) -> bool {
        self.find(token).and_then(|entry| self.root(entry)).is_some()
    }

    /// True if a pattern that begins with a mark may go on with a token that begins with this byte.
    #[inline]
    pub(super) fn goes_on_with(&self, byte: u8) -> bool {
        self.follow[byte as usize]
    }

    /// The entry of a text.
    #[inline]
    pub(super) fn find(&self, text: &str) -> Option<u16> {
        if let [byte] = text.as_bytes() {
            return self.singles[*byte as usize].checked_sub(1);
        }
        self.find_any(text)
    }

    fn find_any(&self, text: &str) -> Option<u16> {
        let ends = ends_index(text.as_bytes())?;
        let may_be = text.len() <= MAX_BYTES && self.lengths[ends] >> text.len() & 1 == 1;
        may_be.then(|| self.look_up(text)).flatten()
    }

    fn look_up(&self, text: &str) -> Option<u16> {
        let key = key(text.as_bytes());
        let mut slot = hash(key);
        loop {
            match self.slots[slot % NUM_SLOTS] {
                0 => return None,
                index if self.keys[index as usize - 1] == key && self.spells(index - 1, text) => {
                    return Some(index - 1)
                }
                _ => slot += 1,
            }
        }
    }

    /// True if the entry, whose key is that of `text`, is that text.
    #[inline]
    fn spells(&self, entry: u16, text: &str) -> bool {
        text.len() <= KEY_BYTES || self.entries[entry as usize].text == text
    }

    /// Lengths of the tokens of a special case.
    #[inline]
    pub(super) fn special(&self, text: &str) -> Option<[u8; 3]> {
        self.find(text).and_then(|entry| self.entries[entry as usize].special)
    }

    /// Lengths of the tokens of the special case that a pattern rejoins to.
    pub(super) fn special_of_node(&self, node: u16) -> Option<[u8; 3]> {
        let entry = self.nodes[node as usize].special?;
        self.entries[entry as usize].special
    }

    /// Node of the patterns that begin with `entry`.
    pub(super) fn root(&self, entry: u16) -> Option<u16> {
        Some(self.entries[entry as usize].root).filter(|node| *node != 0)
    }

    /// Node of the patterns that go on with `entry` after those of `node`.
    pub(super) fn child(&self, node: u16, entry: u16) -> Option<u16> {
        let children = &self.nodes[node as usize].children;
        children.iter().find(|(token, _)| *token == entry).map(|(_, child)| *child)
    }

    /// True if a pattern ends at `node`.
    pub(super) fn is_end(&self, node: u16) -> bool {
        self.nodes[node as usize].special.is_some()
    }

    /// True if a pattern goes on after `node`.
    pub(super) fn goes_on(&self, node: u16) -> bool {
        !self.nodes[node as usize].children.is_empty()
    }

    /// The entry of a text, which is made if there is none.
    fn intern(&mut self, text: &str) -> u16 {
        if let Some(entry) = self.find_any(text) {
            return entry;
        }
        debug_assert!(text.len() <= MAX_BYTES);
        let key = key(text.as_bytes());
        let mut slot = hash(key);
        while self.slots[slot % NUM_SLOTS] != 0 {
            slot += 1;
        }
        self.keys.push(key);
        self.entries.push(Entry { text: text.to_owned(), special: None, root: 0 });
        self.slots[slot % NUM_SLOTS] = self.entries.len() as u16;
        if let Some(ends) = ends_index(text.as_bytes()) {
            self.lengths[ends] |= 1 << text.len();
        }
        if let [byte] = text.as_bytes() {
            self.singles[*byte as usize] = self.entries.len() as u16;
        }
        self.list(text.as_bytes(), LISTED);
        self.entries.len() as u16 - 1
    }

    /// Lists the letters of an entry, if nothing but one mark follows them.
    fn list(&mut self, text: &[u8], bits: u64) {
        let length = count_letters(text);
        if length > 0 && length + 1 >= text.len() {
            let mut block = [0; WORD_BYTES];
            block.iter_mut().zip(&text[..length]).for_each(|(to, from)| *to = *from);
            let (word, shift) = place_of(first_bytes(&block, length));
            self.bits[word] |= bits << shift;
        }
    }

    /// Notes how patterns go on that begin with a mark.
    fn note_marks(&mut self) {
        let marks = (0..=u8::MAX).filter(|byte| MARKS[*byte as usize] != Mark::No);
        let entries = marks.filter_map(|mark| self.singles[mark as usize].checked_sub(1));
        let children =
            entries.filter_map(|entry| self.root(entry)).flat_map(|root| &self.nodes[root as usize].children);
        let mut follow = [false; 256];
        for (token, _) in children {
            follow[self.entries[*token as usize].text.as_bytes()[0] as usize] = true;
        }
        self.follow = follow;
    }

    fn add_special(&mut self, line: &str) {
        let mut lengths = [0; 3];
        for (length, token) in lengths.iter_mut().zip(line.split(' ')) {
            *length = token.len() as u8;
        }
        let text = line.replace(' ', "");
        let entry = self.intern(&text);
        self.entries[entry as usize].special = Some(lengths);
        if count_letters(text.as_bytes()) == text.len() {
            self.list(text.as_bytes(), LISTED_SPECIAL);
        }
    }

    fn add_pattern(&mut self, tokens: &[String], special: &str) {
        let first = self.intern(&tokens[0]);
        let mut node = match self.root(first) {
            Some(root) => root,
            None => self.add_node(),
        };
        self.entries[first as usize].root = node;
        for token in &tokens[1..] {
            let entry = self.intern(token);
            node = self.child(node, entry).unwrap_or_else(|| self.add_child(node, entry));
        }
        self.nodes[node as usize].special = self.find(special);
    }

    fn add_child(&mut self, node: u16, entry: u16) -> u16 {
        let child = self.add_node();
        self.nodes[node as usize].children.push((entry, child));
        child
    }

    fn add_node(&mut self) -> u16 {
        self.nodes.push(Node::default());
        self.nodes.len() as u16 - 1
    }
}

/// Reads the special cases. Those with a prefix, suffix or infix are patterns too: the tokens
/// that they fall into, were they not special, rejoin wherever they meet.
fn english() -> Lexicon {
    let mut lexicon = Lexicon::empty();
    let no_specials = Lexicon::empty();
    for line in SPECIAL_CASES.lines().skip(1) {
        lexicon.add_special(line);
    }
    for text in SPECIAL_CASES.lines().skip(1).map(|line| line.replace(' ', "")) {
        let tokens = tokens_of(&text, &no_specials);
        if tokens.len() > 1 || super::affixes::prefix_length(&text) > 0 {
            lexicon.add_pattern(&tokens, &text);
        }
    }
    lexicon.note_marks();
    lexicon
}

fn tokens_of(text: &str, lexicon: &Lexicon) -> Vec<String> {
    let mut tokens = Vec::new();
    let push = &mut |(start, end): Span| tokens.push(text[start..end].to_owned());
    split_chunk(text, (0, text.len()), lexicon, &mut Suffixes::default(), push);
    tokens
}

/// Where the bits of a word of letters stand.
#[inline]
fn place_of(head: u128) -> (usize, u32) {
    let joined = head as u64 ^ ((head >> 64) as u64).rotate_left(23);
    let mixed = joined.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> (u64::BITS - NUM_BIT_WORDS.ilog2())) as usize, (mixed >> 40) as u32 & 0b11_1110)
}

/// Pairs of a first and a last byte, of which five bits each tell letters apart.
const NUM_ENDS: usize = 1 << 10;

#[inline]
fn ends_index(bytes: &[u8]) -> Option<usize> {
    let (first, last) = (*bytes.first()?, *bytes.last()?);
    Some((first as usize & 31) << 5 | last as usize & 31)
}

/// The length of a text, and its ends.
type Key = (usize, u64, u64);

/// Bytes of a text that its ends hold.
const KEY_BYTES: usize = 16;

#[inline]
fn key(bytes: &[u8]) -> Key {
    let (first, last) = ends(bytes);
    (bytes.len(), first, last)
}

/// The bytes between the ends may differ unseen.
#[inline]
fn hash((length, first, last): Key) -> usize {
    let mixed = (first ^ last.rotate_left(29) ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize
}

/// The first and the last eight bytes, or four, or what there is.
#[inline]
fn ends(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into());
    }
    match bytes {
        [first, .., last] => (u64::from(*first) << 8 | u64::from(bytes[1]), u64::from(*last)),
        [only] => (u64::from(*only), 0),
        [] => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_special_case_gives_the_lengths_of_its_tokens() {
        assert_eq!(ENGLISH.special("cannot"), Some([3, 3, 0]));
        assert_eq!(ENGLISH.special("couldn't've"), Some([5, 3, 3]));
        assert_eq!(ENGLISH.special(":-)"), Some([3, 0, 0]));
        assert_eq!(ENGLISH.special("can"), None);
    }

    #[test]
    fn every_special_case_is_found_and_fits_the_limits() {
        let lines: Vec<&str> = SPECIAL_CASES.lines().skip(1).collect();
        assert_eq!(lines.len(), 1343);
        for line in lines {
            let text = line.replace(' ', "");
            let lengths = ENGLISH.special(&text).unwrap();
            let total: usize = lengths.iter().map(|length| *length as usize).sum();
            assert_eq!(total, text.len(), "{line}");
        }
        let most = ENGLISH.entries.iter().map(|entry| entry.text.len()).max();
        assert_eq!(most, Some(MAX_BYTES));
        assert!(ENGLISH.entries.len() * 4 <= NUM_SLOTS);
    }

    #[test]
    fn a_pattern_is_walked_token_by_token() {
        let entry = |text| ENGLISH.find(text).unwrap();
        let node = ENGLISH.root(entry(":")).unwrap();
        let node = ENGLISH.child(node, entry(")")).unwrap();
        assert!(ENGLISH.is_end(node) && ENGLISH.goes_on(node)); // :) and :))
        assert_eq!(ENGLISH.special_of_node(node), Some([2, 0, 0]));
    }

    /// `Reader::take_plain` rests on this and on the next tests.
    #[test]
    fn plain_chunks_need_no_lexicon() {
        let marks: Vec<u8> = (0..128).filter(|mark| MARKS[*mark as usize] != Mark::No).collect();
        for entry in 0..ENGLISH.entries.len() as u16 {
            let text = ENGLISH.entries[entry as usize].text.as_bytes();
            let letters = count_letters(text);
            let is_word = letters > 0 && letters == text.len();
            let is_marked = letters > 0 && letters + 1 == text.len() && marks.contains(&text[letters]);
            if is_word || is_marked {
                assert!(letters <= WORD_BYTES);
                let mut block = [0; WORD_BYTES];
                block[..letters].copy_from_slice(&text[..letters]);
                let listed = ENGLISH.listed(first_bytes(&block, letters));
                assert!(listed & LISTED != 0, "{text:?}");
                let is_special = is_word && ENGLISH.entries[entry as usize].special.is_some();
                assert!(!is_special || listed & LISTED_SPECIAL != 0, "{text:?}");
            }
        }
        let num_taken: u32 = ENGLISH.bits.iter().map(|bits| (bits & (u64::MAX / 3)).count_ones()).sum();
        assert!((400..NUM_BIT_WORDS as u32 * 32 / 50).contains(&num_taken), "{num_taken}");
    }

    #[test]
    fn a_plain_mark_is_a_suffix_and_begins_no_pattern_that_is_not_followed() {
        for byte in (0..128_u8).filter(|byte| MARKS[*byte as usize] != Mark::No) {
            let mark = char::from(byte).to_string();
            assert_eq!(super::super::affixes::suffix_length(&format!("word{mark}")), 1, "{mark}");
            if MARKS[byte as usize] != Mark::AfterLower {
                assert_eq!(super::super::affixes::suffix_length(&format!("B{mark}")), 1, "{mark}");
            }
            let Some(root) = ENGLISH.find(&mark).and_then(|entry| ENGLISH.root(entry)) else { continue };
            assert!(!ENGLISH.is_end(root), "{mark}");
            for (token, _) in &ENGLISH.nodes[root as usize].children {
                let text = &ENGLISH.entries[*token as usize].text;
                assert!(ENGLISH.goes_on_with(text.as_bytes()[0]), "{mark}{text}");
            }
        }
        let letters = (b'a'..=b'z').filter(|byte| ENGLISH.goes_on_with(*byte)).count();
        assert!(letters < 6, "{letters}"); // else no colon is plain
    }

    /// `Rejoin::letters` rests on this.
    #[test]
    fn no_pattern_has_words_of_letters_alone_side_by_side() {
        let is_letters =
            |entry: u16| ENGLISH.entries[entry as usize].text.bytes().all(|byte| byte.is_ascii_alphabetic());
        let mut open: Vec<(bool, u16)> = (0..ENGLISH.entries.len() as u16)
            .filter_map(|entry| Some((is_letters(entry), ENGLISH.root(entry)?)))
            .collect();
        assert!(open.iter().all(|(letters, root)| !letters || !ENGLISH.is_end(*root)));
        while let Some((letters, node)) = open.pop() {
            for (entry, child) in &ENGLISH.nodes[node as usize].children {
                assert!(!letters || !is_letters(*entry));
                open.push((is_letters(*entry), *child));
            }
        }
    }
}
