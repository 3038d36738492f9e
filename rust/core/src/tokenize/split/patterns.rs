//! The split patterns by name, with their regular expressions as the models' files spell them.

use super::window::{split_cl100k, split_gpt2, split_o200k};

/// A split pattern that is known by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Name, as in `train-tokenizer --pattern`.
    pub name: &'static str,
    /// The regular expression, in the syntax of Oniguruma.
    pub regex: &'static str,
    grammar: Grammar,
}

/// The hand-written form of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grammar {
    /// GPT-2: an optional space leads letters, numbers or symbols.
    Gpt2,
    /// GPT-4 and its kin: one character leads letters, symbols draw newlines after them.
    Cl100k {
        /// Whether combining marks are letters.
        marks: bool,
        /// Most digits in a word.
        digits: u8,
    },
    /// GPT-4o and its kin: words also end where upper case begins.
    O200k {
        /// Whether words take in contractions.
        contractions: bool,
        /// Most digits in a word.
        digits: u8,
    },
}

/// The pattern of Llama 3 (after GPT-4's), with combining marks counted to letters so that
/// words of Indic and Arabic scripts stay whole.
pub const TRIPTYCH: &Pattern = &PATTERNS[0];

/// The known patterns; several may be one grammar in two spellings.
pub static PATTERNS: [Pattern; 9] = [
    Pattern {
        name: "triptych",
        regex: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        grammar: Grammar::Cl100k { marks: true, digits: 3 },
    },
    Pattern {
        name: "gpt2",
        regex: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        grammar: Grammar::Gpt2,
    },
    Pattern {
        name: "llama3",
        regex: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        grammar: Grammar::Cl100k { marks: false, digits: 3 },
    },
    Pattern {
        name: "qwen2",
        regex: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        grammar: Grammar::Cl100k { marks: false, digits: 1 },
    },
    Pattern {
        name: "qwen3.5",
        regex: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        grammar: Grammar::Cl100k { marks: true, digits: 1 },
    },
    Pattern {
        name: "cl100k",
        regex: r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        grammar: Grammar::Cl100k { marks: false, digits: 3 },
    },
    Pattern {
        name: "nanochat",
        regex: r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        grammar: Grammar::Cl100k { marks: false, digits: 2 },
    },
    Pattern {
        name: "o200k",
        regex: r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        grammar: Grammar::O200k { contractions: true, digits: 3 },
    },
    Pattern {
        name: "tekken",
        regex: r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        grammar: Grammar::O200k { contractions: false, digits: 1 },
    },
];

impl Pattern {
    /// The pattern of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PATTERNS.iter().find(|pattern| pattern.name == name)
    }

    /// The pattern that has exactly this regular expression.
    pub fn of_regex(regex: &str) -> Option<&'static Self> {
        PATTERNS.iter().find(|pattern| pattern.regex == regex)
    }

    /// Calls `word(start, end)` for each word of `text`, in order; together they are the text.
    #[inline]
    pub fn split(&self, text: &str, word: impl FnMut(usize, usize)) {
        let text = text.as_bytes();
        match self.grammar {
            Grammar::Gpt2 => split_gpt2(text, word),
            Grammar::Cl100k { marks: false, digits: 1 } => split_cl100k::<false, 1>(text, word),
            Grammar::Cl100k { marks: false, digits: 2 } => split_cl100k::<false, 2>(text, word),
            Grammar::Cl100k { marks: false, .. } => split_cl100k::<false, 3>(text, word),
            Grammar::Cl100k { marks: true, digits: 1 } => split_cl100k::<true, 1>(text, word),
            Grammar::Cl100k { marks: true, .. } => split_cl100k::<true, 3>(text, word),
            Grammar::O200k { contractions: true, .. } => split_o200k::<true, 3>(text, word),
            Grammar::O200k { contractions: false, .. } => split_o200k::<false, 1>(text, word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::utils::SysRegex;

    fn words(pattern: &Pattern, text: &str) -> Vec<(usize, usize)> {
        let mut words = Vec::new();
        pattern.split(text, |start, end| words.push((start, end)));
        words
    }

    fn assert_twins(text: &str) {
        for pattern in &PATTERNS {
            let twin = SysRegex::new(pattern.regex).unwrap();
            let expected: Vec<(usize, usize)> = twin.find_iter(text).collect();
            assert_eq!(words(pattern, text), expected, "{} on {text:?}", pattern.name);
        }
    }

    /// Characters at which the patterns decide: every class, and what contractions are made of.
    fn decisive() -> impl Strategy<Value = String> {
        let chars = "'’sStTrReEvVmMlLdDſaÀǅʰ日ก\u{301}\u{94d}\u{20dd}१1²Ⅷ \u{a0}\u{3000}\u{2028}\t\u{b}\u{85}\r\n/.!<|>😀\u{200d}\u{e000}\u{10ffff}";
        proptest::collection::vec(proptest::sample::select(chars.chars().collect::<Vec<_>>()), 0..24)
            .prop_map(String::from_iter)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn words_are_those_of_the_regular_expressions_where_classes_meet(text in decisive()) {
            assert_twins(&text);
        }
    }

    /// Words longer and shorter than a window of the splitter, so that what decides meets its edges.
    fn windows() -> impl Strategy<Value = String> {
        let chars = "''aaaaaasdmtrevlſSEABÉǅʰ//   \n\n\r\t.,(“12é日\u{301}१\u{a0}\u{3000}😀";
        let char = || proptest::sample::select(chars.chars().collect::<Vec<_>>());
        let pieces = proptest::collection::vec((char(), 1_usize..4), 0..120);
        (pieces, 0_usize..150).prop_map(|(pieces, len)| {
            let text: String =
                pieces.into_iter().flat_map(|(char, len)| std::iter::repeat_n(char, len)).collect();
            "a".repeat(len) + &text
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn words_are_those_of_the_regular_expressions_across_windows(text in windows()) {
            assert_twins(&text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn words_are_those_of_the_regular_expressions_on_any_unicode(text in any::<String>()) {
            assert_twins(&text);
        }
    }

    #[test]
    fn words_are_those_of_the_regular_expressions_on_prose() {
        assert_twins("It's 10:45,  don't\n\n\tWAIT!!!\r\n (x1234567) HTTPServer's ÉCOLEs' IT'S \u{17f}'\u{17f} the end  ");
        assert_twins("नमस्ते दुनिया。今日は世界！ ภาษาไทย العربية٣٤٥٦ \u{301}ABC \u{301}abc ʰAʰB 日AB日");
    }

    #[test]
    fn names_and_regular_expressions_find_their_pattern() {
        for pattern in &PATTERNS {
            assert_eq!(Pattern::named(pattern.name), Some(pattern));
            assert_eq!(Pattern::of_regex(pattern.regex), Some(pattern));
        }
        assert_eq!(Pattern::named("gpt5"), None);
    }
}
