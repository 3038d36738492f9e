//! Ids to text.

use serde_json::Value;
use tokenizers::{Decoder as _, DecoderWrapper};

use super::guard::guarded;
use super::vocabulary::bytes_of;

/// The decoder of a file.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Spellings stand for bytes.
    ByteLevel,
    /// Spellings with spaces between them.
    Spaced,
    /// Any other.
    Library(Box<DecoderWrapper>),
}

impl Decoder {
    /// The decoder of a file.
    ///
    /// # Errors
    /// A sentence for one that the library does not know.
    pub(super) fn new(value: Option<&Value>) -> Result<Self, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Self::Spaced) };
        let parsed = guarded(|| Ok(serde_json::from_value::<DecoderWrapper>(value.clone())?));
        match parsed.map_err(|error| format!("a `decoder` that is not known: {error}"))? {
            DecoderWrapper::ByteLevel(_) => Ok(Self::ByteLevel),
            other => Ok(Self::Library(Box::new(other))),
        }
    }

    /// The text of tokens; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// What the library says.
    pub(super) fn decode<'a>(&self, tokens: impl Iterator<Item = &'a str>) -> Result<String, String> {
        match self {
            Self::ByteLevel => {
                let bytes = tokens.flat_map(|token| bytes_of(token).unwrap_or_else(|| token.into()));
                let bytes: Vec<u8> = bytes.collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Self::Spaced => Ok(tokens.collect::<Vec<_>>().join(" ")),
            Self::Library(wrapper) => guarded(|| wrapper.decode(tokens.map(str::to_owned).collect())),
        }
    }
}
