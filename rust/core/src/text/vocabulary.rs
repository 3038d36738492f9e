//! The words of a text and sums over them; the distinct ones among them where those are asked for.

use super::giant::{max_held, Giant};
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
}

/// Words in order, sums over them, and their distinct forms once those are asked for.
#[derive(Debug, Default)]
pub struct Vocabulary {
    pub(super) words: Vec<Span>,
    /// Hash of each word; both of its halves are mixed.
    pub(super) hashes: Vec<u64>,
    pub(super) forms: Vec<Form>,
    /// Number of its form, for each word.
    pub(super) ids: Vec<u32>,
    /// Code points in the words before each, and in all.
    pub(super) chars_before: Vec<usize>,
    /// A bit for each hash, some shared.
    met: Vec<u64>,
    /// The words, where there are more than are held; all of the above are empty then.
    giant: Option<Giant>,
    num_chars: usize,
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

/// Words of a giant that are looked at together.
const FEW_WORDS: usize = 4096;

/// Where the words of a text go, in order.
pub(super) enum Found<'f> {
    /// There are few enough to be held.
    Held(&'f mut Vec<Span>),
    Each(&'f mut dyn FnMut(Span)),
}

impl Found<'_> {
    #[inline]
    pub(super) fn push(&mut self, span: Span) {
        match self {
            Self::Held(words) => words.push(span),
            Self::Each(take) => take(span),
        }
    }
}

impl Vocabulary {
    /// Words.
    pub fn num_words(&self) -> usize {
        self.giant.as_ref().map_or(self.words.len(), Giant::num_words)
    }

    /// What answers for the words where there are more than are held.
    #[inline]
    pub(super) fn giant(&mut self) -> Option<&mut Giant> {
        self.giant.as_mut()
    }

    /// Code points in all words.
    pub fn word_chars(&self) -> usize {
        self.num_chars
    }

    /// Code points of each word, in order.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.chars_before.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// Distinct words, once [`Vocabulary::number`] has told them apart.
    pub fn num_forms(&self) -> usize {
        self.forms.len()
    }

    /// Distinct words among the first `num_words`, or somewhat fewer: words of one bit count once.
    pub(super) fn num_forms_at_least(&mut self, num_words: usize) -> usize {
        let first = &self.hashes[..num_words.min(self.hashes.len())];
        self.met.clear();
        self.met.resize((first.len() / 4).next_power_of_two(), 0); // 16 bits for a word: of 33, one is lost
        let mask = self.met.len() - 1;
        for hash in first {
            self.met[(hash >> 32) as usize & mask] |= 1 << (hash >> 58);
        }
        self.met.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Code points of the n-gram that begins at a word, without what stands between its words.
    pub(super) fn chars_in(&self, start: usize, n: usize) -> usize {
        self.chars_before[start + n] - self.chars_before[start]
    }

    /// Forgets the text; a giant gives its memory back.
    pub(super) fn reset(&mut self) {
        self.giant = None;
    }

    /// Looks at every word; `split` finds them.
    pub(super) fn fill(&mut self, text: &str, split: impl FnOnce(Found)) {
        self.forms.clear();
        self.ids.clear();
        self.words.clear();
        let (mut sums, max_held) = (Sums::default(), max_held(text));
        if text.len() <= max_held {
            split(Found::Held(&mut self.words));
        } else {
            split(Found::Each(&mut |span| self.push(text, span, max_held, &mut sums)));
        }
        if self.giant.is_none() {
            self.look_at_words(text, &mut sums);
        } else {
            self.give_on(text, &mut sums);
            (self.words, self.hashes, self.chars_before) = Default::default();
            self.giant.iter_mut().for_each(Giant::finish);
        }
        self.keep(&sums);
    }

    /// Adds a word of a text that may be a giant; those of one are given on, some at a time.
    fn push(&mut self, text: &str, span: Span, max_held: usize, sums: &mut Sums) {
        self.words.push(span);
        if self.words.len() > self.giant.as_ref().map_or(max_held, |_| FEW_WORDS) {
            self.give_on(text, sums);
        }
    }

    /// Looks at the words there are and gives them to a giant.
    fn give_on(&mut self, text: &str, sums: &mut Sums) {
        self.look_at_words(text, sums);
        let giant = self.giant.get_or_insert_with(|| Giant::new(text));
        for (start, end) in self.words.drain(..) {
            giant.push(&text.as_bytes()[start..end]);
        }
    }

    /// Adds the words there are to `sums`.
    ///
    /// Not generic, so that there is one copy, into which all of [`Word::of`] is put: 4 % of the time of a profile.
    fn look_at_words(&mut self, text: &str, sums: &mut Sums) {
        self.hashes.resize(self.words.len(), 0);
        self.chars_before.resize(self.words.len() + 1, 0);
        let mut so_far = *sums; // in registers, which what is referred to is not
        let (hashes, chars_before) = (self.hashes.iter_mut(), self.chars_before[1..].iter_mut());
        for ((span, hash), chars) in self.words.iter().zip(hashes).zip(chars_before) {
            let word = Word::of(text, *span);
            so_far.add(&word);
            (*hash, *chars) = (word.hash, so_far.chars);
        }
        *sums = so_far;
    }

    fn keep(&mut self, sums: &Sums) {
        self.num_chars = sums.chars;
        self.num_with_letter = sums.with_letter;
        self.num_with_mark = sums.with_mark;
        self.num_no_symbol = sums.no_symbol;
        self.no_symbol_chars = sums.no_symbol_chars;
        self.num_stop_words = sums.stop_bits.count_ones() as usize;
        self.num_any_case_stop_words = sums.any_case_stop_bits.count_ones() as usize;
        self.num_stop_word_copies = sums.stop_copies;
        self.num_any_case_stop_word_copies = sums.any_case_stop_copies;
    }

    /// Tells the words of the text that was looked at apart: gives each the number of its form.
    pub(super) fn number(&mut self, text: &str, slots: &mut Slots) {
        slots.reset(self.words.len());
        for index in 0..self.words.len() {
            let id = self.intern(text.as_bytes(), index, slots);
            self.ids.push(id as u32);
        }
    }

    #[inline]
    fn intern(&mut self, text: &[u8], index: usize, slots: &mut Slots) -> usize {
        let (span, new, forms) = (self.words[index], self.forms.len(), &self.forms);
        let key = WordKey::of(text, span);
        let is_same = |id: usize| forms[id].key == key && key.is_same(text, span, forms[id].span);
        let id = slots.find_or_insert(self.hashes[index], new, is_same);
        if id == new {
            self.forms.push(Form { span, key });
        }
        id
    }
}

/// Sums over the words so far.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    chars: usize,
    with_letter: usize,
    with_mark: usize,
    no_symbol: usize,
    no_symbol_chars: usize,
    stop_bits: u8,
    any_case_stop_bits: u8,
    stop_copies: usize,
    any_case_stop_copies: usize,
}

impl Sums {
    /// Adds a word without a branch.
    #[inline]
    fn add(&mut self, word: &Word) {
        let is = |bit: u8| usize::from(word.facts & bit != 0);
        self.chars += word.num_chars;
        self.with_letter += is(bits::LETTER);
        self.with_mark += is(bits::MARK);
        self.no_symbol += is(bits::NO_SYMBOL);
        self.no_symbol_chars += is(bits::NO_SYMBOL) * word.num_chars;
        self.stop_bits |= word.stop_bit;
        self.any_case_stop_bits |= word.any_case_stop_bit;
        self.stop_copies += usize::from(word.stop_bit != 0);
        self.any_case_stop_copies += usize::from(word.any_case_stop_bit != 0);
    }
}

/// What is known of a word.
#[derive(Debug, Clone, Copy)]
struct Word {
    hash: u64,
    num_chars: usize,
    /// What one of its characters or another is.
    facts: u8,
    /// Bit of the stop word that it is; 0 if it is none.
    stop_bit: u8,
    /// The same without regard to case.
    any_case_stop_bit: u8,
}

impl Word {
    #[inline]
    fn of(text: &str, span: Span) -> Self {
        let bytes = text.as_bytes();
        let key = WordKey::of(bytes, span);
        let hash = key.hash(bytes, span);
        let (num_chars, facts) = if key.is_letters(bytes, span) {
            (span.1 - span.0, bits::LETTER | bits::NO_SYMBOL)
        } else {
            look_at_each(text, span)
        };
        let (stop_bit, any_case_stop_bit) = stop_bits(&key);
        Self { hash, num_chars, facts, stop_bit, any_case_stop_bit }
    }
}

/// Characters of a word, and the facts that one of them or another has.
#[inline]
fn look_at_each(text: &str, (start, end): Span) -> (usize, u8) {
    match text.as_bytes()[start..end] {
        [byte] => (1, facts(char::from(byte))), // nearly all are a mark
        _ => look_at_many(&text[start..end]),
    }
}

fn look_at_many(word: &str) -> (usize, u8) {
    word.chars().fold((0, 0), |(count, found), char| (count + 1, found | facts(char)))
}

/// The bit of the stop word that a word is, and that of the one that it is in any case.
#[inline]
fn stop_bits(key: &WordKey) -> (u8, u8) {
    let Some((word, lower)) = key.short() else { return (0, 0) }; // none is longer
    let place = stop_place(lower);
    let any_case = u8::from(STOP_KEYS[place] == lower) << place;
    (if word == lower { any_case } else { 0 }, any_case)
}

/// A place for each stop word, and for no two the same.
const fn stop_place(key: u32) -> usize {
    (key.wrapping_mul(0x6ec9_d287) >> 29) as usize
}

/// The stop words as the numbers that [`WordKey::short`] makes of them, each in its place.
const STOP_KEYS: [u32; STOP_WORDS.len()] = {
    let mut keys = [0; STOP_WORDS.len()];
    let mut index = 0;
    while index < keys.len() {
        let word = STOP_WORDS[index].as_bytes();
        let (mut key, mut at) = (0, word.len());
        while at > 0 {
            at -= 1;
            key = key << 8 | word[at] as u32;
        }
        assert!(keys[stop_place(key)] == 0, "two stop words have one place");
        keys[stop_place(key)] = key;
        index += 1;
    }
    keys
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_sums_are_those_of_a_look_at_every_character_of_every_word(
            text in r"((the|The|THE|be|bee|to|of|OF|and|that|thax|have|with|[a-zA-Z]{1,12}|[#….,é日1_]{1,4})[
    ]{1,2}){0,40}"
        ) {
            let mut found = Vocabulary::default();
            found.fill(&text, |mut words| spans(&text, &mut |span| words.push(span)));
            found.number(&text, &mut Slots::default());
            let words: Vec<&str> = text.split_whitespace().collect();
            let count = |is: &dyn Fn(&str) -> bool| words.iter().filter(|word| is(word)).count();
            let any = |word: &str, bit: u8| word.chars().any(|char| facts(char) & bit != 0);
            let is_stop = |word: &str| STOP_WORDS.contains(&word);
            prop_assert_eq!(found.num_with_letter, count(&|word| any(word, bits::LETTER)));
            prop_assert_eq!(found.num_with_mark, count(&|word| any(word, bits::MARK)));
            prop_assert_eq!(found.num_no_symbol, count(&|word| any(word, bits::NO_SYMBOL)));
            prop_assert_eq!(found.num_stop_word_copies, count(&is_stop));
            prop_assert_eq!(found.num_any_case_stop_word_copies, count(&|word| is_stop(&word.to_ascii_lowercase())));
            prop_assert!(found.lengths().eq(words.iter().map(|word| word.chars().count())));
            let distinct = words.iter().collect::<std::collections::HashSet<_>>().len();
            prop_assert_eq!(found.num_forms(), distinct);
            prop_assert!((distinct / 4..=distinct).contains(&found.num_forms_at_least(words.len())));
            prop_assert!(found.num_forms_at_least(3) <= words.len().min(3));
        }
    }

    fn spans(text: &str, take: &mut dyn FnMut(Span)) {
        let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
        text.split_whitespace().for_each(|word| take((start(word), start(word) + word.len())));
    }
}
