//! Sixty-four bytes of a text, asked at once: each answer is an integer with a bit a byte, byte 0 the lowest.

#![allow(clippy::inline_always)] // what `with_vectors` compiles for AVX2 must be inlined

use wide::u8x16;

/// Bytes in a block: as many as an integer has bits.
pub(crate) const BLOCK_BYTES: usize = 64;

/// A block, as four vectors: the size that all processors of x86-64 and arm64 have.
#[derive(Clone, Copy)]
pub(crate) struct Block([u8x16; 4]);

impl Block {
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8; BLOCK_BYTES]) -> Self {
        let (parts, _) = bytes.as_chunks();
        Self(std::array::from_fn(|index| u8x16::new(parts[index])))
    }

    /// Bytes of characters that are not ASCII.
    #[inline(always)]
    pub(crate) fn others(&self) -> u64 {
        self.mask(|part| part)
    }

    /// Bytes of characters that are not ASCII, but for the first of each.
    #[inline(always)]
    pub(crate) fn continuations(&self) -> u64 {
        self.mask(|part| in_range(part, 0x80, 0x40))
    }

    /// ASCII bytes that are `str.isspace()`.
    #[inline(always)]
    pub(crate) fn spaces(&self) -> u64 {
        self.mask(|part| in_range(part, 9, 5) | in_range(part, 28, 5))
    }

    /// Spaces and control characters of ASCII.
    #[inline(always)]
    pub(crate) fn blanks(&self) -> u64 {
        self.mask(|part| in_range(part, 0, b' ' + 1))
    }

    /// ASCII digits.
    #[inline(always)]
    pub(crate) fn digits(&self) -> u64 {
        self.mask(|part| in_range(part, b'0', 10))
    }

    /// ASCII bytes that are `str.isalnum()`.
    #[inline(always)]
    pub(crate) fn alnum(&self) -> u64 {
        let lower_case = u8x16::splat(0x20);
        self.mask(|part| in_range(part | lower_case, b'a', 26) | in_range(part, b'0', 10))
    }

    /// Bytes that JSON escapes in a string: control characters, quotes, backslashes.
    #[inline(always)]
    pub(crate) fn escapes(&self) -> u64 {
        let (quote, backslash) = (u8x16::splat(b'"'), u8x16::splat(b'\\'));
        self.mask(|part| in_range(part, 0, 0x20) | part.simd_eq(quote) | part.simd_eq(backslash))
    }

    /// Bytes that are this one.
    #[inline(always)]
    pub(crate) fn equal(&self, byte: u8) -> u64 {
        self.mask(|part| part.simd_eq(u8x16::splat(byte)))
    }

    /// Bytes that are one of these.
    #[inline(always)]
    pub(crate) fn any_of<const N: usize>(&self, bytes: [u8; N]) -> u64 {
        self.mask(|part| {
            bytes.iter().fold(u8x16::splat(0), |any, byte| any | part.simd_eq(u8x16::splat(*byte)))
        })
    }

    /// The highest bit of each byte of what `find` makes of the block.
    #[inline(always)]
    fn mask(&self, find: impl Fn(u8x16) -> u8x16) -> u64 {
        let bits = |part: &u8x16| u64::from(find(*part).to_bitmask());
        self.0.iter().rev().fold(0, |mask, part| mask << 16 | bits(part))
    }
}

/// Does `work` with AVX2 and BMI where the processor has them: for that, it is compiled twice.
///
/// What it calls must be inlined, or is compiled once, for every processor.
#[inline(always)]
pub(crate) fn with_vectors<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Ones in the lowest bits, 1 to 64 of them.
#[inline(always)]
pub(crate) fn low_ones(count: usize) -> u64 {
    u64::MAX >> (BLOCK_BYTES - count)
}

/// Where the ones of an answer stand, the lowest first.
#[inline(always)]
pub(crate) fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        lowest
    })
}

/// All bits of the bytes in `low..low + count`; those below `low` wrap round and are too large.
#[inline(always)]
fn in_range(part: u8x16, low: u8, count: u8) -> u8x16 {
    let above = part - u8x16::splat(low);
    above.min(u8x16::splat(count - 1)).simd_eq(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(bytes: &[u8; BLOCK_BYTES], is_one: impl Fn(u8) -> bool) -> u64 {
        bytes.iter().rev().fold(0, |mask, byte| mask << 1 | u64::from(is_one(*byte)))
    }

    #[test]
    fn a_block_answers_what_each_byte_does() {
        for first in 0..=255_u8 {
            let bytes = std::array::from_fn(|index| first.wrapping_add((index as u8).wrapping_mul(67)));
            let block = Block::of(&bytes);
            assert_eq!(block.others(), bits(&bytes, |byte| byte >= 0x80));
            assert_eq!(block.continuations(), bits(&bytes, |byte| byte & 0xc0 == 0x80));
            assert_eq!(block.spaces(), bits(&bytes, |byte| matches!(byte, 9..=13 | 28..=32)));
            assert_eq!(block.blanks(), bits(&bytes, |byte| byte <= b' '));
            assert_eq!(block.digits(), bits(&bytes, |byte| byte.is_ascii_digit()));
            assert_eq!(block.alnum(), bits(&bytes, |byte| byte.is_ascii_alphanumeric()));
            assert_eq!(block.any_of([3, 0xE2]), bits(&bytes, |byte| matches!(byte, 3 | 0xE2)));
            let is_escape = |byte| byte < 0x20 || matches!(byte, b'"' | b'\\');
            assert_eq!(block.escapes(), bits(&bytes, is_escape));
            assert_eq!(block.equal(b'@'), bits(&bytes, |byte| byte == b'@'));
        }
    }
}
