//! Quality rules; a document is rejected by the first that it breaks.
//!
//! A profile is a table of bounds on features ([`FEATURES`]), or, where its rules edit the
//! text, a function. A [`Chain`] goes through profiles in order and passes the edited text on.

mod bound;
mod c4;
mod chain;
mod check;
mod datatrove_pii;
mod dclm;
mod distinct;
mod dolma;
mod dolma_pii;
mod feature;
mod fineweb;
mod gopher;
mod gopher_repetition;
mod native;
mod phrases;
mod seed;

pub use bound::{Bound, RuleConfig};
pub use chain::{Chain, Workspace};
pub use check::{Check, DroppedLine, StageTrace};
pub use distinct::WordSet;
pub use feature::{Measure, FEATURES};
pub use phrases::{PhraseList, PhraseListConfig};
pub use seed::SeedRules;

/// Why a document was rejected; its name stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason<'p>(&'p str);

impl<'p> Reason<'p> {
    /// Too few words to hold one n-gram; decided by deduplication.
    pub const FEWER_WORDS_THAN_NGRAM: Reason<'static> = Reason("fewer_words_than_ngram");

    /// The reason of another room, by its name in the ledger.
    pub(crate) const fn named(name: &'p str) -> Self {
        Self(name)
    }

    /// The name in the ledger.
    pub fn name(self) -> &'p str {
        self.0
    }
}
