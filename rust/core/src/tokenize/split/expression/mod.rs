//! Split patterns without a name: regular expressions of Oniguruma, run as automata.
//!
//! Oniguruma goes back and forth over the text, which the expressions of tokenizers do not need: they ask
//! for runs of classes, and at most what the next character is. What needs more is left to it.

mod alphabet;
mod automaton;
mod nodes;
mod parse;
mod trail;

use tokenizers::utils::SysRegex;

use alphabet::Alphabet;
use automaton::Automaton;
use trail::Trail;

/// Bytes from which on a search is remembered, and between two places of it that are.
const FAR: usize = 64;
/// Sets of characters that the automata of one file may ask for: the engine takes some milliseconds to list one.
const MAX_SETS: usize = 256;

/// A split pattern by its regular expression, in the syntax of Oniguruma.
#[derive(Debug)]
pub enum Expression {
    /// One that needs no memory of where it was.
    Machine(Box<Machine>),
    /// Any other, run by the engine itself.
    Engine(SysRegex),
}

impl Expression {
    /// The expression, as an automaton if it can be one.
    ///
    /// # Errors
    /// What the engine says of one that is not valid.
    pub fn new(regex: &str) -> tokenizers::Result<Self> {
        Self::within(regex, &mut Sets::default())
    }

    /// The same for one of several expressions of a file, which together may ask for so many `sets`.
    ///
    /// # Errors
    /// As of [`Self::new`].
    pub fn within(regex: &str, sets: &mut Sets) -> tokenizers::Result<Self> {
        let engine = SysRegex::new(regex)?;
        let machine = Machine::new(regex, sets);
        Ok(machine.map_or(Self::Engine(engine), |machine| Self::Machine(Box::new(machine))))
    }

    /// Calls `word(start, end)` for each match and for what lies between, in order; together they are the text.
    ///
    /// # Panics
    /// The engine does, where an expression is tried in too many ways.
    pub fn split(&self, text: &str, word: impl FnMut(usize, usize)) {
        match self {
            Self::Machine(machine) => isolate(machine.find_iter(text), text.len(), word),
            Self::Engine(regex) => isolate(regex.find_iter(text), text.len(), word),
        }
    }
}

/// How many sets of characters may still be asked for.
#[derive(Debug)]
pub struct Sets(usize);

impl Default for Sets {
    fn default() -> Self {
        Self(MAX_SETS)
    }
}

/// Calls `word(start, end)` for each span that is found, and for what lies between.
pub fn isolate(found: impl Iterator<Item = (usize, usize)>, len: usize, mut word: impl FnMut(usize, usize)) {
    let mut done = 0;
    for (start, end) in found {
        for (start, end) in [(done, start), (start, end)] {
            if start < end {
                word(start, end);
            }
        }
        done = end;
    }
    if done < len {
        word(done, len);
    }
}

/// An expression as an automaton.
#[derive(Debug)]
pub struct Machine {
    alphabet: Alphabet,
    automaton: Automaton,
    /// Bytes of ASCII that a match may begin with, and all that begin a longer character.
    begins: [bool; 256],
}

impl Machine {
    /// The automaton of an expression that is valid; `None` for one that has none here.
    ///
    /// That is one with references, looks behind or at more than a character, or matches of no character,
    /// and one of too many states or sets.
    fn new(regex: &str, sets: &mut Sets) -> Option<Self> {
        let parsed = parse::parse(regex)?;
        sets.0 = sets.0.checked_sub(parsed.atoms.len())?;
        let (alphabet, sets) = Alphabet::new(&parsed.atoms)?;
        let automaton = Automaton::new(&parsed.root, &sets, alphabet.len())?;
        let may_begin = |byte: usize| match u8::try_from(byte).map(|byte| [byte]) {
            Ok(text) if byte < 128 => automaton.may_begin(alphabet.class_at(&text, 0).0),
            _ => true,
        };
        let begins = std::array::from_fn(may_begin);
        Some(Self { alphabet, automaton, begins })
    }

    /// Where the expression matches, from left to right: the matches of Oniguruma.
    fn find_iter<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
        let (mut at, mut trail) = (0, Trail::default());
        std::iter::from_fn(move || {
            let found = self.find(text.as_bytes(), at, &mut trail)?;
            at = found.1;
            Some(found)
        })
    }

    /// The first match that begins at `at` or later.
    fn find(&self, text: &[u8], mut at: usize, trail: &mut Trail) -> Option<(usize, usize)> {
        loop {
            // ASCII at which none begins is most of what a pattern for numbers, say, sees.
            at += text.get(at..)?.iter().position(|byte| self.begins[usize::from(*byte)])?;
            if let Some(end) = self.match_at(text, at, trail) {
                return Some((at, end));
            }
            at += self.alphabet.class_at(text, at).1;
        }
    }

    /// Where the match that begins at `start` ends.
    fn match_at(&self, text: &[u8], start: usize, trail: &mut Trail) -> Option<usize> {
        let (mut at, mut state, mut end) = (start, Automaton::START, None);
        while at - start < FAR {
            let (class, len) = self.alphabet.class_at(text, at);
            let (next, is_match) = self.automaton.step(state, class);
            if is_match {
                end = Some(at);
            }
            if next == self.automaton.dead() {
                return end;
            }
            (state, at) = (next, at + len);
        }
        self.match_on(text, at, state, trail).or(end)
    }

    /// The last place at which there is a match, on from `at` and `state`.
    ///
    /// A search that leads far may lead nowhere, and the one from the next character as far again: it is
    /// given up where an earlier one came by in the same state, and found nothing from there.
    fn match_on(&self, text: &[u8], mut at: usize, mut state: usize, trail: &mut Trail) -> Option<usize> {
        let (mut end, mut passed) = (None, Vec::new());
        loop {
            let (class, len) = self.alphabet.class_at(text, at);
            let (next, is_match) = self.automaton.step(state, class);
            if is_match {
                end = Some(at);
                passed.clear();
            }
            if next == self.automaton.dead() {
                break;
            }
            let enters = (at + len) / FAR > at / FAR;
            (state, at) = (next, at + len);
            if enters {
                if trail.leads_nowhere(at, state) {
                    break;
                }
                passed.push((at, state));
            }
        }
        trail.extend(passed);
        end
    }
}

#[cfg(test)]
mod tests;
