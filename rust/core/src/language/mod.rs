//! Which language a text is in: a model built in, or any supervised fastText model.
//!
//! The built-in model names languages by ISO 639-1 and says `und` (undetermined) where it cannot;
//! a fastText model names them by its own labels, as `en` (lid.176) or `eng_Latn` (`GlotLID`).

mod built_in;
#[allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)] // the format counts in signed integers
pub mod fasttext;
mod features;
mod rule;
mod script;

use std::path::Path;
use std::sync::LazyLock;

pub use self::built_in::SAMPLE_BYTES;
use self::built_in::{BuiltIn, Sample};
use self::fasttext::{FastText, FastTextScratch};
pub(crate) use self::rule::as_written;
pub use self::rule::{LanguageFilter, LanguageReason, LanguageRule, BUILT_IN};
use crate::error::Result;

/// ISO 639-2 code of a text whose language cannot be determined, or is none of the model's.
pub const UNKNOWN: &str = "und";

static BUILT_IN_MODEL: LazyLock<BuiltIn> =
    LazyLock::new(|| BuiltIn::new().expect("`model.bin` is compiled in, and a test reads it"));

/// Names the language of texts.
pub struct Identifier(Model);

enum Model {
    BuiltIn(&'static BuiltIn),
    FastText(Box<FastText>),
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    sample: Sample,
    fasttext: FastTextScratch,
}

impl Identifier {
    /// The model that is built in.
    pub fn built_in() -> Self {
        Self(Model::BuiltIn(&BUILT_IN_MODEL))
    }

    /// A supervised fastText model, `.bin` or `.ftz`, whose labels are languages.
    ///
    /// # Errors
    /// `Io`, or `InvalidFile` if it is no such model or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self(Model::FastText(Box::new(FastText::open(path)?))))
    }

    /// Codes of the languages that can be named, in alphabetical order.
    pub fn languages(&self) -> Vec<&str> {
        let mut codes: Vec<&str> = match &self.0 {
            Model::BuiltIn(model) => model.languages().collect(),
            Model::FastText(model) => model.labels().iter().map(String::as_str).collect(),
        };
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// The language of `text`, and the probability in [0, 1] that it is that; [`UNKNOWN`] and 0 for a text
    /// without letters.
    pub fn identify(&self, text: &str, scratch: &mut Scratch) -> (&str, f32) {
        match &self.0 {
            Model::BuiltIn(model) => model.identify(text, &mut scratch.sample),
            Model::FastText(model) => model.predict(text, &mut scratch.fasttext).unwrap_or((UNKNOWN, 0.0)),
        }
    }
}
