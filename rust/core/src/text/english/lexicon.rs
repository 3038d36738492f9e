//! The special cases of English and the patterns of tokens that rejoin to one.
//!
//! Both are looked up by their bytes in one hash table, so that the usual word, which is
//! neither, most often costs one load: no entry has its length and its first and last byte.

use std::sync::LazyLock;

use super::chunk::{split_chunk, Span};

/// Special cases, their tokens apart by a space; the first line is a remark.
const SPECIAL_CASES: &str = include_str!("special_cases.txt");

/// Most bytes that a special case or a token of a pattern has.
const MAX_BYTES: usize = 29;
/// Slots of the hash table, a power of two, four times as many as there are texts.
const NUM_SLOTS: usize = 1 << 13;

/// The lexicon of spaCy's English.
pub(super) static ENGLISH: LazyLock<Lexicon> = LazyLock::new(english);

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
}

impl Lexicon {
    fn empty() -> Self {
        Self {
            slots: vec![0; NUM_SLOTS],
            lengths: vec![0; NUM_ENDS],
            entries: Vec::new(),
            keys: Vec::new(),
            nodes: vec![Node::default()],
        }
    }

    /// The entry of a text.
    #[inline]
    pub(super) fn find(&self, text: &str) -> Option<u16> {
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
        if let Some(entry) = self.find(text) {
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
        self.entries.len() as u16 - 1
    }

    fn add_special(&mut self, line: &str) {
        let mut lengths = [0; 3];
        for (length, token) in lengths.iter_mut().zip(line.split(' ')) {
            *length = token.len() as u8;
        }
        let entry = self.intern(&line.replace(' ', ""));
        self.entries[entry as usize].special = Some(lengths);
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
    lexicon
}

fn tokens_of(text: &str, lexicon: &Lexicon) -> Vec<String> {
    let mut tokens = Vec::new();
    let push = &mut |(start, end): Span| tokens.push(text[start..end].to_owned());
    split_chunk(text, (0, text.len()), lexicon, &mut Vec::new(), push);
    tokens
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
