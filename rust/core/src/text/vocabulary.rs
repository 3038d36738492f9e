//! The words of a text and the distinct ones among them, each looked at once.

use super::letters::{bits, facts};
use super::lines::Span;
use super::slots::Slots;
use super::word_key::WordKey;

/// Stop words of the Gopher rules (Rae et al. 2021, appendix A), lower case.
const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

/// A distinct word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) span: Span,
    pub(super) key: WordKey,
    pub(super) num_chars: u32,
    has_letter: bool,
    /// Has a `#` or a `…`.
    has_mark: bool,
    /// Has a character that is no symbol.
    is_no_symbol: bool,
    /// Bit of the stop word that it is; 0 if it is none.
    stop_bit: u8,
    /// The same without regard to case.
    any_case_stop_bit: u8,
}

/// Words in order, their distinct forms, and sums over them.
#[derive(Debug, Default)]
pub struct Vocabulary {
    pub(super) words: Vec<Span>,
    pub(super) forms: Vec<Form>,
    /// Number of its form, for each word.
    pub(super) ids: Vec<u32>,
    /// Code points in the words before each, and in all.
    pub(super) chars_before: Vec<usize>,
    /// Words with a letter.
    pub num_with_letter: usize,
    /// Words with a `#` or a `…`.
    pub num_with_mark: usize,
    /// Words that are not made of symbols alone.
    pub num_no_symbol: usize,
    /// Code points in those.
    pub no_symbol_chars: usize,
    /// Distinct stop words, in lower case.
    pub num_stop_words: usize,
    /// The same in any case.
    pub num_any_case_stop_words: usize,
    /// Words that are a stop word in lower case, each copy counted.
    pub num_stop_word_copies: usize,
    /// The same in any case.
    pub num_any_case_stop_word_copies: usize,
}

impl Vocabulary {
    /// Words.
    pub fn num_words(&self) -> usize {
        self.words.len()
    }

    /// Code points in all words.
    pub fn word_chars(&self) -> usize {
        self.chars_before.last().copied().unwrap_or(0)
    }

    /// Code points of each word, in order.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.chars_before.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// Distinct words.
    pub fn num_forms(&self) -> usize {
        self.forms.len()
    }

    /// Code points of the n-gram that begins at a word, without what stands between its words.
    pub(super) fn chars_in(&self, start: usize, n: usize) -> usize {
        self.chars_before[start + n] - self.chars_before[start]
    }

    /// Looks at every word; `split` finds them.
    pub(super) fn fill(&mut self, text: &str, slots: &mut Slots, split: impl FnOnce(&str, &mut Vec<Span>)) {
        self.clear();
        split(text, &mut self.words);
        slots.reset(self.words.len());
        let (mut chars, mut stop_bits, mut any_case_bits) = (0, 0_u8, 0_u8);
        self.chars_before.push(0);
        for index in 0..self.words.len() {
            let id = self.intern(text, self.words[index], slots);
            let form = self.forms[id];
            chars += form.num_chars as usize;
            stop_bits |= form.stop_bit;
            any_case_bits |= form.any_case_stop_bit;
            self.num_with_letter += usize::from(form.has_letter);
            self.num_with_mark += usize::from(form.has_mark);
            self.num_no_symbol += usize::from(form.is_no_symbol);
            self.no_symbol_chars += usize::from(form.is_no_symbol) * form.num_chars as usize;
            self.num_stop_word_copies += usize::from(form.stop_bit != 0);
            self.num_any_case_stop_word_copies += usize::from(form.any_case_stop_bit != 0);
            self.ids.push(id as u32);
            self.chars_before.push(chars);
        }
        self.num_stop_words = stop_bits.count_ones() as usize;
        self.num_any_case_stop_words = any_case_bits.count_ones() as usize;
    }

    fn clear(&mut self) {
        self.words.clear();
        self.forms.clear();
        self.ids.clear();
        self.chars_before.clear();
        (self.num_with_letter, self.num_no_symbol, self.no_symbol_chars) = (0, 0, 0);
        (self.num_with_mark, self.num_stop_word_copies, self.num_any_case_stop_word_copies) = (0, 0, 0);
    }

    #[inline]
    fn intern(&mut self, text: &str, span: Span, slots: &mut Slots) -> usize {
        let (bytes, new, forms) = (text.as_bytes(), self.forms.len(), &self.forms);
        let key = WordKey::of(bytes, span);
        let is_same = |id: usize| forms[id].key == key && key.is_same(bytes, span, forms[id].span);
        let id = slots.find_or_insert(key.hash(bytes, span), new, is_same);
        if id == new {
            self.forms.push(Form::new(text, span, key));
        }
        id
    }
}

impl Form {
    fn new(text: &str, span: Span, key: WordKey) -> Self {
        let word = &text[span.0..span.1];
        let (mut found, mut num_chars) = (0, 0);
        for char in word.chars() {
            found |= facts(char);
            num_chars += 1;
        }
        let any_case = STOP_WORDS.iter().position(|stop| stop.eq_ignore_ascii_case(word));
        let any_case_stop_bit = any_case.map_or(0, |index| 1 << index);
        let is_lower = any_case.is_some_and(|index| STOP_WORDS[index] == word);
        Self {
            span,
            key,
            num_chars,
            has_letter: found & bits::LETTER != 0,
            has_mark: found & bits::MARK != 0,
            is_no_symbol: found & bits::NO_SYMBOL != 0,
            stop_bit: u8::from(is_lower) * any_case_stop_bit,
            any_case_stop_bit,
        }
    }
}
