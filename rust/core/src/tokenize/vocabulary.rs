//! The tokens of a file by id and by spelling, and the bytes that byte-level spellings stand for.

use std::collections::HashMap;

use super::bpe::MAX_ID;
use super::file;

/// Tokens by id and ids by token, those of the model and the added ones.
#[derive(Debug)]
pub(super) struct Vocabulary {
    ids: HashMap<Box<str>, u32>,
    tokens: Vec<Option<Box<str>>>,
    /// Entries that the model has, without added ones.
    pub(super) num_model: usize,
}

impl Vocabulary {
    /// The vocabulary of a model.
    ///
    /// # Errors
    /// A sentence for an id that is too large or that two tokens have, and for a token that has two ids.
    pub(super) fn new(entries: &file::Vocab) -> Result<Self, String> {
        let mut vocabulary = Self {
            ids: HashMap::with_capacity(entries.0.len()),
            tokens: Vec::new(),
            num_model: entries.0.len(),
        };
        for (token, id) in &entries.0 {
            vocabulary.insert(token, *id)?;
        }
        Ok(vocabulary)
    }

    /// Adds a token.
    pub(super) fn insert(&mut self, token: &str, id: u32) -> Result<(), String> {
        if id >= MAX_ID {
            return Err(format!("id {id} of token `{token}`, over the limit of {MAX_ID}"));
        }
        if self.ids.insert(token.into(), id).is_some_and(|other| other != id) {
            return Err(format!("two ids of token `{token}` in `model.vocab`"));
        }
        let at = id as usize;
        if self.tokens.len() <= at {
            self.tokens.resize(at + 1, None);
        }
        match self.tokens[at].replace(token.into()) {
            Some(other) if *other != *token => {
                Err(format!("two tokens with id {id}: `{other}` and `{token}`"))
            }
            _ => Ok(()),
        }
    }

    /// Id of a token.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Spelling of an id.
    pub(super) fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize)?.as_deref()
    }

    /// The largest id plus one.
    pub(super) fn size(&self) -> usize {
        self.tokens.len()
    }

    /// Every token with its id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.ids.iter().map(|(token, id)| (&**token, *id))
    }
}

/// The printable character of byte-level BPE for a byte (Radford et al. 2019).
///
/// Printable bytes of Latin-1 stand for themselves, the other 68 for U+0100 onwards, in order.
pub(super) fn printable_char(byte: u8) -> char {
    let code = u32::from(byte);
    let shifted = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0..=0x20 => 0x100 + code,
        0x7F..=0xA0 => 0x121 + code - 0x7F,
        0xAD => 0x143,
    };
    char::from_u32(shifted).unwrap_or(char::REPLACEMENT_CHARACTER) // all are below U+0144
}

/// Bytes as the printable characters of byte-level BPE.
pub(super) fn printable(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| printable_char(*byte)).collect()
}

/// The bytes that a byte-level spelling stands for; `None` if a character stands for none.
pub(super) fn bytes_of(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte_of).collect()
}

fn byte_of(char: char) -> Option<u8> {
    let byte = match char as u32 {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_map_to_256_distinct_printable_characters_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        let chars: std::collections::BTreeSet<char> = printable(&all).chars().collect();
        assert_eq!(chars.len(), 256);
        assert_eq!((printable_char(b' '), printable_char(b'\n'), printable_char(0xAD)), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!(bytes_of(&printable(&all)), Some(all));
        assert_eq!(bytes_of(" "), None);
    }
}
