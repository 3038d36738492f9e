//! Added tokens: found in the text before it is split into words, as the `tokenizers` library does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::Regex;

use super::file::AddedToken;
use super::normalize::Normalizer;
use super::vocabulary::Vocabulary;

/// A piece of text: an added token, or what lies between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: Range<usize>,
    pub(super) id: Option<u32>,
}

/// The added tokens of a file.
#[derive(Debug)]
pub(super) struct AddedTokens {
    tokens: Vec<(u32, AddedToken)>,
    special: HashSet<u32>,
    /// How those that are, or were first, looked for in normalized text are spelt there.
    spellings: HashMap<u32, Box<str>>,
    /// Those that are looked for in the text as it is.
    raw: Finder,
    /// Those that are looked for in the normalized text.
    in_normalized: Finder,
}

/// Longest token of which a table of states is made: for one of 10,000 times the same letter that took 2.4 s, and four
/// times as long for one twice as long.
const MAX_TABLE_BYTES: usize = 1 << 10;

/// A set of added tokens in one automaton.
#[derive(Debug, Default)]
struct Finder {
    automaton: Option<AhoCorasick>,
    /// Index in [`AddedTokens::tokens`] of each pattern.
    indices: Vec<usize>,
    /// Whether one of them is not special.
    has_plain: bool,
}

impl AddedTokens {
    /// The added tokens of a file, with the ids of the vocabulary, or new ones that follow its own.
    ///
    /// # Errors
    /// A sentence for what the vocabulary or the automaton refuses.
    pub(super) fn new(
        listed: &[AddedToken],
        vocabulary: &mut Vocabulary,
        normalizer: &Normalizer,
    ) -> Result<Self, String> {
        let (mut by_id, mut special, mut spellings) = (BTreeMap::new(), HashSet::new(), HashMap::new());
        let mut next = u32::try_from(vocabulary.num_model).map_err(|_| "too many tokens")?;
        for token in listed.iter().filter(|token| !token.content.is_empty()) {
            let known = vocabulary.id(&token.content);
            let id = known.unwrap_or(next);
            next += u32::from(known.is_none());
            vocabulary.insert(&token.content, id)?;
            special.extend(token.special.then_some(id)); // once is enough
            if token.normalized {
                spellings.insert(id, normalizer.normalized(&token.content)?.into_boxed_str());
                // once is enough, too
            }
            by_id.insert(id, token.clone());
        }
        let tokens: Vec<(u32, AddedToken)> = by_id.into_iter().collect();
        let raw = Finder::new(&tokens, false, |_, token| token.content.clone())?;
        let in_normalized = Finder::new(&tokens, true, |id, _| spellings[&id].clone().into())?;
        Ok(Self { tokens, special, spellings, raw, in_normalized })
    }

    /// Whether an id is a special token.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// How an added token is spelt in normalized text, if it is looked for there.
    pub(super) fn spelling(&self, id: u32) -> Option<&str> {
        self.spellings.get(&id).map(|spelling| &**spelling)
    }

    /// The pieces of text that is not normalized; `None` if it is one piece without tokens.
    pub(super) fn split_raw(&self, text: &str, allow_special: bool) -> Option<Vec<Piece>> {
        self.split(&self.raw, text, allow_special)
    }

    /// The pieces of normalized text.
    pub(super) fn split_normalized(&self, text: &str, allow_special: bool) -> Option<Vec<Piece>> {
        self.split(&self.in_normalized, text, allow_special)
    }

    /// A match of nothing is no token: the one before took in all of it, or normalizing leaves nothing of it.
    fn split(&self, finder: &Finder, text: &str, allow_special: bool) -> Option<Vec<Piece>> {
        if !allow_special && !finder.has_plain {
            return None;
        }
        let automaton = finder.automaton.as_ref()?;
        let (mut pieces, mut done, mut space) = (Vec::new(), 0, 0..0);
        for found in automaton.find_iter(text).filter(|found| text.is_char_boundary(found.start())) {
            let (id, token) = &self.tokens[finder.indices[found.pattern().as_usize()]];
            if self.is_special(*id) && !allow_special {
                continue;
            }
            let Some(range) = extent(token, text, found.range(), done, &mut space) else { continue };
            push_text(&mut pieces, done..range.start);
            done = range.end;
            if !range.is_empty() {
                pieces.push(Piece { range, id: Some(*id) });
            }
        }
        push_text(&mut pieces, done..text.len());
        (!pieces.is_empty()).then_some(pieces)
    }
}

impl Finder {
    fn new(
        tokens: &[(u32, AddedToken)],
        normalized: bool,
        spelling: impl Fn(u32, &AddedToken) -> String,
    ) -> Result<Self, String> {
        let chosen = tokens.iter().enumerate().filter(|(_, (_, token))| token.normalized == normalized);
        let mut finder = Self::default();
        let mut patterns = Vec::new();
        for (index, (id, token)) in chosen {
            finder.indices.push(index);
            finder.has_plain |= !token.special;
            patterns.push(spelling(*id, token));
        }
        if !patterns.is_empty() {
            let mut builder = AhoCorasick::builder();
            if patterns.iter().any(|pattern| pattern.len() > MAX_TABLE_BYTES) {
                builder.kind(Some(AhoCorasickKind::ContiguousNFA));
            }
            let automaton = builder.match_kind(MatchKind::LeftmostLongest).build(&patterns);
            finder.automaton = Some(automaton.map_err(|error| error.to_string())?);
        }
        Ok(finder)
    }
}

fn push_text(pieces: &mut Vec<Piece>, range: Range<usize>) {
    if !range.is_empty() {
        pieces.push(Piece { range, id: None });
    }
}

static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w").expect("a constant that compiles"));

fn is_word(char: Option<char>) -> bool {
    char.is_some_and(|char| WORD.is_match(char.encode_utf8(&mut [0; 4])))
}

/// The match with the white space that the token takes in; `None` if it is not a word of its own.
///
/// What lies before `done` is another token's. `space` is the white space found last: each of a megabyte of spaces
/// may be a token, and to look for its end anew at each takes time by the square of their number.
fn extent(
    token: &AddedToken,
    text: &str,
    found: Range<usize>,
    done: usize,
    space: &mut Range<usize>,
) -> Option<Range<usize>> {
    let (before, after) = (&text[..found.start], &text[found.end..]);
    if token.single_word && (is_word(before.chars().next_back()) || is_word(after.chars().next())) {
        return None;
    }
    let own = &text[done.min(found.start)..found.start];
    let start = if token.lstrip { done + own.trim_end().len() } else { found.start };
    if token.rstrip && !space.contains(&found.end) {
        *space = found.end..text.len() - after.trim_start().len();
    }
    let end = if token.rstrip { space.end } else { found.end };
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(content: &str, flags: &str) -> AddedToken {
        let has = |flag| flags.contains(flag);
        AddedToken {
            content: content.to_owned(),
            single_word: has('w'),
            lstrip: has('l'),
            rstrip: has('r'),
            normalized: has('n'),
            special: has('s'),
        }
    }

    fn pieces(tokens: &[AddedToken], text: &str, allow_special: bool) -> Vec<(String, Option<u32>)> {
        let mut vocabulary = Vocabulary::new(&super::super::file::Vocab(vec![])).unwrap();
        let added = AddedTokens::new(tokens, &mut vocabulary, &Normalizer::default()).unwrap();
        let found = added.split_raw(text, allow_special);
        found.unwrap_or_default().into_iter().map(|piece| (text[piece.range].to_owned(), piece.id)).collect()
    }

    #[test]
    fn a_special_token_is_found_only_where_it_is_asked_for() {
        let tokens = [token("<s>", "s"), token("<t>", "")];
        let expected = [("a".to_owned(), None), ("<s>".to_owned(), Some(0)), ("<t>".to_owned(), Some(1))];
        assert_eq!(pieces(&tokens, "a<s><t>", true), expected);
        assert_eq!(
            pieces(&tokens, "a<s><t>", false),
            [("a<s>".to_owned(), None), ("<t>".to_owned(), Some(1))]
        );
    }

    #[test]
    fn a_token_of_which_normalizing_leaves_nothing_is_found_nowhere() {
        let strip = serde_json::json!({"type": "Strip", "strip_left": true, "strip_right": true});
        let normalizer = Normalizer::new(Some(&strip)).unwrap();
        let mut vocabulary = Vocabulary::new(&super::super::file::Vocab(vec![])).unwrap();
        let added = AddedTokens::new(&[token("\n", "nlr")], &mut vocabulary, &normalizer).unwrap();
        assert!(added.split_normalized("ñ▁", true).unwrap().iter().all(|piece| piece.id.is_none()));
    }

    #[test]
    fn a_token_that_is_listed_twice_is_special_if_it_is_once_and_else_as_it_is_listed_last() {
        for tokens in [[token("<s>", "s"), token("<s>", "l")], [token("<s>", ""), token("<s>", "ls")]] {
            assert!(pieces(&tokens, "a <s>", false).iter().all(|piece| piece.1.is_none()));
            let expected = [("a".to_owned(), None), (" <s>".to_owned(), Some(0))];
            assert_eq!(pieces(&tokens, "a <s>", true), expected);
        }
    }

    #[test]
    fn a_token_that_is_once_listed_as_normalized_is_spelt_so_when_it_is_decoded() {
        let lower = serde_json::json!({"type": "Lowercase"});
        let normalizer = Normalizer::new(Some(&lower)).unwrap();
        for tokens in [[token("FOO", "n"), token("FOO", "")], [token("FOO", ""), token("FOO", "n")]] {
            let mut vocabulary = Vocabulary::new(&super::super::file::Vocab(vec![])).unwrap();
            let added = AddedTokens::new(&tokens, &mut vocabulary, &normalizer).unwrap();
            assert_eq!(added.spelling(0), Some("foo"));
        }
    }

    #[test]
    fn tokens_take_in_white_space_and_stand_alone_as_their_flags_say() {
        let tokens = [token("<m>", "l"), token("<n>", "r"), token("one", "w")];
        let texts: Vec<String> =
            pieces(&tokens, "a  <m> <n>  b", true).into_iter().map(|piece| piece.0).collect();
        assert_eq!(texts, ["a", "  <m>", " ", "<n>  ", "b"]);
        assert_eq!(pieces(&tokens, "none ones one", true).len(), 2);
        assert_eq!(
            pieces(&[token(" ", "lr")], "a  b", true).len(),
            3,
            "of two spaces the first takes in both"
        );
    }
}
