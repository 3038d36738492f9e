//! Quality rules, one unit each; a document is rejected by the first that it breaks.

mod distinct;
mod seed;

pub use distinct::WordSet;
pub use seed::SeedRules;

/// Why a document was rejected; the names stand in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Fewer words than `min_length`.
    TooFewWords,
    /// More words than `max_length`.
    TooManyWords,
    /// Mean word length outside its range.
    MeanWordLength,
    /// Too large a share of characters neither alphanumeric nor white space.
    SymbolFraction,
    /// Too small a share of distinct words.
    DistinctWords,
    /// Too few words to hold one n-gram; decided by deduplication.
    FewerWordsThanNgram,
}

impl Reason {
    /// All reasons, in the order in which they are looked for.
    pub const ALL: [Self; 6] = [
        Self::TooFewWords,
        Self::TooManyWords,
        Self::MeanWordLength,
        Self::SymbolFraction,
        Self::DistinctWords,
        Self::FewerWordsThanNgram,
    ];

    /// The name in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooFewWords => "too_few_words",
            Self::TooManyWords => "too_many_words",
            Self::MeanWordLength => "mean_word_length",
            Self::SymbolFraction => "symbol_fraction",
            Self::DistinctWords => "distinct_words",
            Self::FewerWordsThanNgram => "fewer_words_than_ngram",
        }
    }
}
