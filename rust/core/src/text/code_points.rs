//! UTF-8 made of characters that stand as numbers, as Python hands them out.

use wide::{i16x8, i32x8, u8x16};

/// Characters looked at together: those of ASCII are narrowed at once.
const BLOCK_CHARS: usize = 16;

/// Bytes of a character at most.
const MAX_BYTES: usize = 4;

/// Room that a block needs.
const BLOCK_BYTES: usize = MAX_BYTES * BLOCK_CHARS;

/// Characters beyond ASCII in a block from which on all of it is made one by one.
const MANY: u32 = 3;

/// The UTF-8 of characters given as their code points; `None` where one is half a surrogate pair, which has none.
pub fn utf8(mut chars: &[u32]) -> Option<Vec<u8>> {
    // Text with few characters beyond ASCII fits; other text grows it.
    let mut bytes = vec![0; chars.len() + chars.len() / 8 + 2 * BLOCK_BYTES];
    let mut len = 0;
    while !chars.is_empty() {
        if bytes.len() < len + BLOCK_BYTES {
            bytes.resize(2 * bytes.len(), 0);
        }
        let (num_chars, num_bytes) = write_some(chars, &mut bytes[len..])?;
        chars = &chars[num_chars..];
        len += num_bytes;
    }
    bytes.truncate(len);
    Some(bytes)
}

/// Writes the first characters, up to a block of them; their number and that of their bytes.
#[inline]
fn write_some(chars: &[u32], to: &mut [u8]) -> Option<(usize, usize)> {
    let Some(block) = chars.first_chunk::<BLOCK_CHARS>() else {
        return Some((chars.len(), write(chars, to)?));
    };
    let narrowed = narrowed(block);
    let beyond = narrowed.to_bitmask();
    to[..BLOCK_CHARS].copy_from_slice(narrowed.as_array());
    match beyond.count_ones() {
        0 => Some((BLOCK_CHARS, BLOCK_CHARS)),
        1..MANY => {
            let at = beyond.trailing_zeros() as usize;
            Some((at + 1, at + write(&block[at..=at], &mut to[at..])?))
        }
        _ => Some((BLOCK_CHARS, write_block(block, to)?)),
    }
}

/// The characters as bytes, of which those beyond ASCII have the highest bit.
#[inline]
fn narrowed(chars: &[u32; BLOCK_CHARS]) -> u8x16 {
    let halves: &[[i32; 8]; 2] = bytemuck::cast_ref(chars);
    let low = i16x8::from_i32x8_saturate(i32x8::new(halves[0]));
    u8x16::narrow_i16x8(low, i16x8::from_i32x8_saturate(i32x8::new(halves[1])))
}

/// Writes a block of characters, and returns the number of their bytes.
#[inline]
fn write_block(chars: &[u32; BLOCK_CHARS], to: &mut [u8]) -> Option<usize> {
    let halves: &[[i32; 8]; 2] = bytemuck::cast_ref(chars);
    let mut len = 0;
    for half in halves {
        let half = i32x8::new(*half);
        if has_others(half) {
            return write(chars, to);
        }
        let (words, lens) = encoded(half);
        for (word, num_bytes) in words.as_array().iter().zip(lens.as_array()) {
            to[len..len + MAX_BYTES].copy_from_slice(&word.to_le_bytes());
            len += num_bytes.unsigned_abs() as usize;
        }
    }
    Some(len)
}

/// Whether some are of four bytes, half a surrogate pair, or no characters.
#[inline]
fn has_others(chars: i32x8) -> bool {
    let is_half = (chars & i32x8::splat(!0x7ff)).simd_eq(i32x8::splat(0xd800));
    let others = is_half | chars.simd_gt(i32x8::splat(0xffff)) | chars.simd_lt(i32x8::splat(0));
    others.any()
}

/// The bytes of each character, of up to three, from the lowest on, and their number.
#[inline]
fn encoded(chars: i32x8) -> (i32x8, i32x8) {
    let [low, ascii] = [0x3f, 0x7f].map(i32x8::splat);
    let last = chars & low;
    let two = i32x8::splat(0x80c0) | chars >> 6 | last << 8;
    let three = i32x8::splat(0x80_80e0) | chars >> 12 | (chars >> 6 & low) << 8 | last << 16;
    let [is_beyond, is_three] = [chars.simd_gt(ascii), chars.simd_gt(i32x8::splat(0x7ff))];
    let words = is_beyond.select(is_three.select(three, two), chars);
    (words, i32x8::splat(1) - is_beyond - is_three)
}

/// Writes characters one by one, and returns the number of their bytes.
fn write(chars: &[u32], to: &mut [u8]) -> Option<usize> {
    let mut len = 0;
    for char in chars {
        len += char::from_u32(*char)?.encode_utf8(&mut to[len..]).len();
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_text(
            runs in prop::collection::vec(prop_oneof!["[ -~]{0,40}", "[é-я]{0,9}", "[一-龥]{0,9}", "\\PC{0,9}"], 0..12)
        ) {
            let text = runs.concat();
            let chars: Vec<u32> = text.chars().map(u32::from).collect();
            prop_assert_eq!(utf8(&chars).unwrap(), text.into_bytes());
        }
    }

    #[test]
    fn half_a_surrogate_pair_and_what_is_no_character_have_no_utf8() {
        for (at, char) in [(0, 0xd800), (15, 0xdfff), (16, 0x11_0000), (33, u32::MAX)] {
            let mut chars = vec![u32::from(b'a'); 34];
            chars[at] = char;
            assert_eq!(utf8(&chars), None);
        }
    }
}
