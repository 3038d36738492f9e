//! The last step of spaCy's tokenizer: tokens that spell a special case rejoin.
//!
//! In `done:)` the bracket and the colon are suffixes, one after the other; here they become
//! `:)` again. Patterns are sequences of tokens, matched everywhere in a document. Where matches
//! overlap, the longest and then the first is taken; the others are not, and neither is a
//! match with white space between its tokens, though it keeps others from being taken.

use super::chunk::{take_special, Span};
use super::lexicon::Lexicon;

/// Tokens of the longest pattern.
const MAX_TOKENS: usize = 11;

/// Tokens that are held before those are given on that no open match can reach: in `<<<<` each may begin one.
const MAX_HELD: usize = 4096;

/// Memory that is kept from text to text.
#[derive(Debug)]
pub(super) struct Scratch {
    /// [`MAX_HELD`].
    pub(super) max_held: usize,
    /// Tokens that may yet be part of a match, or are; after the first few, which were given on.
    held: Vec<Span>,
    /// How many were; matches with them may hide others from being taken.
    num_given: usize,
    /// Matches so far that may go on: first token, and node of the lexicon.
    walks: Vec<(usize, u16)>,
    /// Matches among the held tokens, by their last token.
    matches: Vec<Match>,
    /// Which of the held tokens are in a match that has had its turn.
    is_seen: Vec<bool>,
    /// Matches that are taken.
    taken: Vec<Match>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            max_held: MAX_HELD,
            held: Vec::new(),
            num_given: 0,
            walks: Vec::new(),
            matches: Vec::new(),
            is_seen: Vec::new(),
            taken: Vec::new(),
        }
    }
}

/// Tokens `start..end` of those held spell the special case of `node`.
#[derive(Debug, Clone, Copy)]
struct Match {
    start: usize,
    end: usize,
    node: u16,
}

/// Takes the tokens of a text, one at a time, and gives them on, some of them rejoined.
pub(super) struct Rejoin<'t, F> {
    text: &'t str,
    lexicon: &'t Lexicon,
    scratch: &'t mut Scratch,
    /// The last token, if it is of letters alone and none is held.
    last: Option<Span>,
    give: F,
}

/// What is known of a token that is given on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// ASCII letters alone.
    Letters,
    /// Any other word or mark, and perhaps letters.
    Other,
    /// White space alone.
    Space,
}

impl<'t, F: FnMut(Span, Kind)> Rejoin<'t, F> {
    pub(super) fn new(text: &'t str, lexicon: &'t Lexicon, scratch: &'t mut Scratch, give: F) -> Self {
        Self { text, lexicon, scratch, last: None, give }
    }

    /// Takes a token of ASCII letters alone. Two in a row are in no pattern, so the first
    /// goes on without being looked up.
    #[inline]
    pub(super) fn letters(&mut self, token: Span) {
        if !self.scratch.held.is_empty() {
            return self.push(token);
        }
        if let Some(last) = self.last.replace(token) {
            (self.give)(last, Kind::Letters);
        }
    }

    /// Takes a token of ASCII letters alone that is in no pattern.
    #[inline]
    pub(super) fn plain(&mut self, token: Span) {
        if !self.scratch.held.is_empty() {
            return self.push(token);
        }
        if let Some(last) = self.last.take() {
            (self.give)(last, Kind::Letters);
        }
        (self.give)(token, Kind::Letters);
    }

    /// Takes a mark after a token of [`Rejoin::plain`]; it is in no pattern with what follows.
    #[inline]
    pub(super) fn plain_mark(&mut self, token: Span) {
        debug_assert!(self.scratch.held.is_empty() && self.last.is_none());
        (self.give)(token, Kind::Other);
    }

    /// Takes any token that is not white space, and is known to begin a pattern or not.
    #[inline]
    pub(super) fn known(&mut self, token: Span, begins: bool) {
        if let Some(last) = self.last.take() {
            self.push(last);
        }
        if begins || !self.scratch.held.is_empty() {
            return self.push(token);
        }
        (self.give)(token, Kind::Other);
    }

    /// Takes any token that is not white space.
    pub(super) fn token(&mut self, token: Span) {
        if let Some(last) = self.last.take() {
            self.push(last);
        }
        self.push(token);
    }

    /// Takes a token of white space, which is in no pattern, or the end of the text.
    pub(super) fn pause(&mut self) {
        if let Some(last) = self.last.take() {
            (self.give)(last, Kind::Letters);
        }
        if !self.scratch.held.is_empty() {
            self.scratch.walks.clear();
            self.resolve();
        }
    }

    /// Gives a token of white space on.
    pub(super) fn space(&mut self, token: Span) {
        self.pause();
        (self.give)(token, Kind::Space);
    }

    fn push(&mut self, token: Span) {
        let entry = self.lexicon.find(&self.text[token.0..token.1]);
        let root = entry.and_then(|entry| self.lexicon.root(entry));
        if self.scratch.held.is_empty() && root.is_none() {
            return (self.give)(token, Kind::Other);
        }
        let index = self.scratch.held.len();
        self.scratch.held.push(token);
        self.walk(entry, index);
        if let Some(root) = root {
            self.arrive(index, index, root);
        }
        if self.scratch.walks.is_empty() {
            self.resolve();
        } else if self.scratch.held.len() >= self.scratch.max_held {
            self.resolve_first();
        }
    }

    /// Takes every open walk one token further.
    fn walk(&mut self, entry: Option<u16>, index: usize) {
        // At most one walk a token begins, and each ends within the longest pattern.
        let mut walks = [(0, 0); MAX_TOKENS];
        let num_walks = self.scratch.walks.len().min(MAX_TOKENS);
        walks[..num_walks].copy_from_slice(&self.scratch.walks[..num_walks]);
        self.scratch.walks.clear();
        for (start, node) in &walks[..num_walks] {
            if let Some(child) = entry.and_then(|entry| self.lexicon.child(*node, entry)) {
                self.arrive(*start, index, child);
            }
        }
    }

    /// A walk that began at token `start` has come to `node` with token `index`.
    fn arrive(&mut self, start: usize, index: usize, node: u16) {
        if self.lexicon.is_end(node) {
            self.scratch.matches.push(Match { start, end: index + 1, node });
        }
        if self.lexicon.goes_on(node) {
            self.scratch.walks.push((start, node));
        }
    }

    /// Gives the held tokens on. No match can reach beyond them.
    fn resolve(&mut self) {
        self.scratch.choose();
        self.give_before(self.scratch.held.len());
        self.scratch.held.clear();
        self.scratch.matches.clear();
        self.scratch.num_given = 0;
    }

    /// Gives on those of the held tokens that are in no match with one that is still to come.
    ///
    /// Whether a match is taken depends on those alone that share a token with it, so that the tokens of one match
    /// before the first that is not given on are enough to go on with.
    #[cold]
    fn resolve_first(&mut self) {
        self.scratch.choose();
        let open = self.scratch.walks.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let end = open.saturating_sub(MAX_TOKENS);
        let across = self.scratch.taken.iter().find(|taken| (taken.start + 1..taken.end).contains(&end));
        let end = across.map_or(end, |taken| taken.start);
        self.give_before(end);
        self.scratch.forget_before(end.saturating_sub(MAX_TOKENS), end);
    }

    /// Gives the held tokens before `end` on, of which those that are taken rejoin.
    fn give_before(&mut self, end: usize) {
        let mut next = self.scratch.num_given;
        for index in 0..self.scratch.taken.len() {
            let chosen = self.scratch.taken[index];
            if chosen.start < next || chosen.end > end {
                continue;
            }
            self.give_as_they_are(next, chosen.start);
            self.give_rejoined(chosen);
            next = chosen.end;
        }
        self.give_as_they_are(next, end);
    }

    fn give_as_they_are(&mut self, start: usize, end: usize) {
        self.scratch.held[start..end].iter().for_each(|token| (self.give)(*token, Kind::Other));
    }

    fn give_rejoined(&mut self, chosen: Match) {
        let tokens = &self.scratch.held[chosen.start..chosen.end];
        let is_unbroken = tokens.windows(2).all(|pair| pair[0].1 == pair[1].0);
        match self.lexicon.special_of_node(chosen.node) {
            Some(lengths) if is_unbroken => {
                take_special(tokens[0].0, lengths, &mut |token| (self.give)(token, Kind::Other));
            }
            _ => self.give_as_they_are(chosen.start, chosen.end),
        }
    }
}

impl Scratch {
    #[cfg(test)]
    pub(super) fn held_capacity(&self) -> usize {
        self.held.capacity()
    }

    /// Moves the matches that are to be taken to `taken`, in the order of the text. The longest come
    /// first, and a match that is not taken hides its tokens from shorter ones all the same.
    fn choose(&mut self) {
        self.taken.clear();
        if self.matches.is_empty() {
            return;
        }
        self.is_seen.clear();
        self.is_seen.resize(self.held.len(), false);
        for length in (1..=MAX_TOKENS).rev() {
            for found in self.matches.iter().filter(|found| found.end - found.start == length) {
                if !self.is_seen[found.start] && !self.is_seen[found.end - 1] {
                    self.taken.push(*found);
                }
                self.is_seen[found.start..found.end].fill(true);
            }
        }
        self.taken.sort_unstable_by_key(|found| found.start);
    }

    /// Forgets the first tokens and their matches; those before `given` were given on.
    fn forget_before(&mut self, first: usize, given: usize) {
        self.held.drain(..first);
        self.num_given = given - first;
        self.matches.retain(|found| found.start >= first);
        for found in &mut self.matches {
            (found.start, found.end) = (found.start - first, found.end - first);
        }
        self.walks.iter_mut().for_each(|(start, _)| *start -= first);
    }
}

#[cfg(test)]
mod tests {
    use super::super::words;

    fn split(text: &str) -> Vec<&str> {
        let mut ranges = Vec::new();
        words(text, &mut ranges);
        ranges.into_iter().map(|(start, end)| &text[start..end]).collect()
    }

    #[test]
    fn tokens_that_spell_a_special_case_rejoin() {
        assert_eq!(split("done:)"), ["done", ":)"]);
        assert_eq!(split("done:)))"), ["done", ":)))"]);
        assert_eq!(split("(Mr.)"), ["(", "Mr.", ")"]);
    }

    #[test]
    fn white_space_keeps_them_apart() {
        assert_eq!(split("done: )"), ["done", ":", ")"]);
        assert_eq!(split("Mr ."), ["Mr", "."]);
    }

    #[test]
    fn a_match_with_white_space_hides_its_tokens_from_the_next() {
        assert_eq!(split(":)y"), [":)", "y"]);
        assert_eq!(split("x( :)y"), ["x", "(", ":", ")", "y"]);
    }
}
