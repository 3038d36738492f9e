//! The letters of a text's words, one word after the other without what stands between them.

use crate::text::lines::Span;

/// Bytes of a short head and of a long one. Five words of English have 21 letters, eight have 34.
pub(in crate::text) const HALF_BYTES: usize = 16;
pub(in crate::text) const HEAD_BYTES: usize = 32;
/// Odd numbers without structure.
pub(in crate::text) const SEEDS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

/// The letters of the words of one text. Reused from text to text.
#[derive(Debug, Default)]
pub(in crate::text) struct Letters {
    /// The letters, and a head's worth of zeros after them.
    bytes: Vec<u8>,
    /// Where each word begins, and where the last ends.
    pub(super) starts: Vec<usize>,
}

impl Letters {
    /// Takes the words of the next text.
    pub(in crate::text) fn join(&mut self, text: &[u8], words: &[Span]) {
        if self.bytes.len() < text.len() + HEAD_BYTES {
            self.bytes.resize(text.len() + HEAD_BYTES, 0);
        }
        self.starts.resize(words.len() + 1, 0);
        let mut at = 0;
        for ((start, end), begin) in words.iter().copied().zip(&mut self.starts) {
            *begin = at;
            put(&mut self.bytes[at..], &text[start..], end - start);
            at += end - start;
        }
        self.starts[words.len()] = at;
        // Heads of the last words reach beyond them: what was there would be in their hashes.
        self.bytes[at..at + HEAD_BYTES].fill(0);
    }

    /// Those of the n-gram that begins at a word.
    #[inline]
    pub(super) fn of(&self, at: usize, n: usize) -> &[u8] {
        &self.bytes[self.starts[at]..self.starts[at + n]]
    }

    /// The first of those from a word on.
    #[inline]
    pub(super) fn head(&self, start: usize) -> Head {
        Head::of(&self.bytes, start)
    }

    /// Hash of so many letters from `start` on.
    #[inline]
    pub(super) fn hash(&self, start: usize, num_bytes: usize) -> u64 {
        hash_letters(&self.bytes, start, num_bytes)
    }
}

/// Hash of so many letters from `start` on; a head's worth of bytes follows them.
#[inline]
pub(in crate::text) fn hash_letters(bytes: &[u8], start: usize, num_bytes: usize) -> u64 {
    if num_bytes < HALF_BYTES {
        return Head::of(bytes, start).hash_of_first(num_bytes);
    }
    let letters = &bytes[start..start + num_bytes];
    let (halves, _) = letters.as_chunks::<HALF_BYTES>();
    let last = letters.last_chunk::<HALF_BYTES>(); // some of its bytes may be in the half before it
    halves.iter().chain(last).fold(num_bytes as u64, |hash, half| {
        let half = u128::from_le_bytes(*half);
        fold(half as u64 ^ SEEDS[0] ^ hash, (half >> 64) as u64 ^ SEEDS[1])
    })
}

/// Puts a word where the last ended. Sixteen bytes are copied at once, what is too much is written over.
#[inline]
fn put(to: &mut [u8], text: &[u8], length: usize) {
    match (to.first_chunk_mut::<16>(), text.first_chunk::<16>()) {
        (Some(to), Some(from)) if length <= 16 => *to = *from,
        _ => to[..length].copy_from_slice(&text[..length]),
    }
}

/// The letters from a word on.
pub(in crate::text) struct Head([u64; HEAD_BYTES / 8]);

impl Head {
    /// That of the letters from `start` on.
    #[inline]
    pub(in crate::text) fn of(bytes: &[u8], start: usize) -> Self {
        let (words, _) = bytes[start..start + HEAD_BYTES].as_chunks();
        Self(std::array::from_fn(|index| u64::from_le_bytes(words[index])))
    }

    /// Of the first half, and of the whole.
    #[inline]
    pub(in crate::text) fn hashes(&self) -> (u64, u64) {
        let half = self.half_hash();
        (half, fold(self.0[2] ^ half, self.0[3] ^ SEEDS[2]))
    }

    /// Of the first half.
    #[inline]
    pub(super) fn half_hash(&self) -> u64 {
        fold(self.0[0] ^ SEEDS[0], self.0[1] ^ SEEDS[1])
    }

    /// Of so many bytes, fewer than in a half.
    #[inline]
    pub(in crate::text) fn hash_of_first(&self, num_bytes: usize) -> u64 {
        let half = u128::from(self.0[0]) | u128::from(self.0[1]) << 64;
        let first = half & ((1 << (8 * num_bytes)) - 1);
        fold(first as u64 ^ SEEDS[3] ^ num_bytes as u64, (first >> 64) as u64 ^ SEEDS[1])
    }
}

/// Both halves of a product together: each bit of the result depends on all of both numbers.
#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}
