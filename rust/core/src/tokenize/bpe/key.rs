//! Short words as numbers, so that to compare and to hash a word is to compare and to hash a number.

/// A word: its bytes, then zeros, then its length. 0 is no word.
pub(in crate::tokenize) type Key = u128;

/// Longest word, in bytes; the sixteenth byte of a key is the length.
pub(in crate::tokenize) const MAX_BYTES: usize = 15;

/// What keeps the first bytes of sixteen, by their number.
static MASKS: [u128; 16] = masks();

const fn masks() -> [u128; 16] {
    let mut masks = [0; 16];
    let mut len = 1;
    while len < 16 {
        masks[len] = masks[len - 1] << 8 | 0xff;
        len += 1;
    }
    masks
}

/// The key of `text[start..end]`; `None` for a word that is too long.
#[inline]
pub(in crate::tokenize) fn key(text: &[u8], start: usize, end: usize) -> Option<Key> {
    let len = end - start;
    let mask = MASKS.get(len)?;
    let bytes = match text.get(start..start + 16) {
        Some(bytes) => u128::from_le_bytes(bytes.try_into().unwrap_or_default()),
        None => key_at_end(&text[start..end]),
    };
    Some(bytes & mask | (len as u128) << 120)
}

/// The bytes of a word at the end of the text.
#[cold]
fn key_at_end(word: &[u8]) -> u128 {
    word.iter().rev().fold(0, |key, byte| key << 8 | u128::from(*byte))
}

/// The low and the high half, which is not 0 for any word.
#[inline]
pub(in crate::tokenize) fn halves(key: Key) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

/// Both halves of a key multiplied together and folded.
#[inline]
pub(in crate::tokenize) fn hash(low: u64, high: u64) -> u64 {
    let product = u128::from(low ^ 0x9e37_79b9_7f4a_7c15) * u128::from(high ^ 0xd1b5_4a32_d192_ed03);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_word_wherever_it_stands() {
        let text = b"word and word";
        assert_eq!(key(text, 0, 4), key(text, 9, 13));
        assert_ne!(key(text, 0, 4), key(text, 0, 3));
        assert_ne!(key(b"a\0", 0, 2), key(b"a\0", 0, 1));
        assert_eq!(key(&[7; 16], 0, 16), None);
        assert_eq!(key(&[7; 16], 0, 15), key(&[7; 15], 0, 15));
    }
}
