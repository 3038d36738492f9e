//! A word to its first symbols where the alphabet is characters, not bytes.
//!
//! What to do with a character that has no token is a matter of the file: its bytes, the
//! unknown token, or nothing. The order of the ids is that of the `tokenizers` library.

use std::collections::HashMap;

/// An alphabet of characters.
#[derive(Debug)]
pub(in crate::tokenize) struct Symbols {
    pub(in crate::tokenize) ids: HashMap<char, u32>,
    pub(in crate::tokenize) fallback: Fallback,
}

/// What stands for a character that has no token.
#[derive(Debug)]
pub(in crate::tokenize) struct Fallback {
    /// Ids of `<0x00>` to `<0xFF>`, tried first; `None` for those that are missing.
    pub(in crate::tokenize) bytes: Option<Box<[Option<u32>; 256]>>,
    /// The unknown token, tried next.
    pub(in crate::tokenize) unknown: Option<u32>,
    /// Whether one unknown token stands for several such characters in a row.
    pub(in crate::tokenize) is_fused: bool,
}

impl Symbols {
    /// Appends the symbols of `word`.
    pub(in crate::tokenize) fn push(&self, word: &str, ids: &mut Vec<u32>) {
        let mut unknown = None;
        for char in word.chars() {
            if let Some(id) = self.ids.get(&char) {
                ids.extend(unknown.take());
                ids.push(*id);
            } else if !self.fallback.push_bytes(char, ids) {
                // An unknown token waits for what follows; bytes that follow overtake it.
                let waiting = if self.fallback.is_fused { None } else { unknown.take() };
                ids.extend(waiting);
                unknown = self.fallback.unknown;
            }
        }
        ids.extend(unknown);
    }
}

impl Fallback {
    /// Whether no character is left to the unknown token.
    pub(super) fn has_all_bytes(&self) -> bool {
        self.bytes.as_ref().is_some_and(|bytes| bytes.iter().all(Option::is_some))
    }

    /// Whether a character may leave nothing.
    pub(super) fn drops(&self) -> bool {
        self.unknown.is_none() && !self.has_all_bytes()
    }

    /// Appends the bytes of a character if all of them have tokens.
    fn push_bytes(&self, char: char, ids: &mut Vec<u32>) -> bool {
        let Some(tokens) = &self.bytes else { return false };
        let mut buffer = [0; 4];
        let bytes = char.encode_utf8(&mut buffer).bytes();
        let before = ids.len();
        for byte in bytes {
            let Some(id) = tokens[byte as usize] else {
                ids.truncate(before);
                return false;
            };
            ids.push(id);
        }
        true
    }
}
