//! Which weights of attention are dropped: a function of a seed, the head, and the places of query and key in
//! their document, so that the backward pass, another thread and another packing drop the same.

use super::tile::{Place, Tile};
use super::BLOCK;

/// A share of the weights set to zero, the others divided by the share that is kept.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Random numbers of 16 bits below it drop a weight.
    threshold: u32,
    seed: u64,
}

/// Numbers of 16 bits.
const NUMBERS: u32 = 1 << 16;
/// Keys that one call of Philox serves: four words of two halves.
const GROUP: usize = 8;
/// Groups of keys in a block, computed together: loops over them become vectors.
const GROUPS: usize = BLOCK / GROUP;

type Words = [u32; GROUPS];

impl Dropout {
    /// Drops `share`, to 2^-16 of it; `None` for a share of 0.
    ///
    /// # Panics
    /// The share is not in [0, 1).
    #[allow(clippy::cast_sign_loss)] // the share has none
    pub fn new(share: f64, seed: u64) -> Option<Self> {
        assert!((0.0..1.0).contains(&share), "a share of {share}");
        let threshold = ((share * f64::from(NUMBERS)).round_ties_even() as u32).min(NUMBERS - 1);
        (share > 0.0).then_some(Self { threshold, seed })
    }

    /// Writes what each weight of a tile is multiplied by.
    #[inline(always)]
    pub(super) fn factors<const SIDE: usize>(&self, tile: &mut Tile, head: usize, place: Place) {
        let rows = tile.chunks_exact_mut(SIDE).take(place.rows::<SIDE>());
        for (i, row) in rows.enumerate() {
            self.factors_of(row, head, place.block * SIDE + i, place.key_block);
        }
    }

    /// Of one query and a block of keys, or the first of them: 0, or 1 over the share kept.
    #[inline(always)]
    pub(super) fn factors_of(&self, row: &mut [f32], head: usize, query: usize, key_block: usize) {
        let factor = NUMBERS as f32 / (NUMBERS - self.threshold) as f32;
        let groups: Words = std::array::from_fn(|g| (key_block * GROUPS + g) as u32);
        let counters = [[query as u32; GROUPS], groups, [head as u32; GROUPS], [0; GROUPS]];
        let words = philox(counters, self.seed);
        for (g, keys) in row.chunks_exact_mut(GROUP).enumerate() {
            for (k, to) in keys.iter_mut().enumerate() {
                let half = words[k / 2][g] >> (k % 2 * 16) & 0xFFFF;
                *to = if half >= self.threshold { factor } else { 0.0 };
            }
        }
    }
}

/// Philox 4x32-10 (Salmon et al. 2011, section 3.2) of several counters, word by word.
#[inline(always)]
fn philox(mut counters: [Words; 4], seed: u64) -> [Words; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let [a, b, c, d] = counters;
        let (high_a, low_a) = products(0xD251_1F53, a);
        let (high_c, low_c) = products(0xCD9E_8D57, c);
        let mixed = |high: Words, x: Words, key: u32| std::array::from_fn(|g| high[g] ^ x[g] ^ key);
        counters = [mixed(high_c, b, key[0]), low_c, mixed(high_a, d, key[1]), low_a];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counters
}

/// Upper and lower words of products.
#[inline(always)]
fn products(factor: u32, x: Words) -> (Words, Words) {
    let whole: [u64; GROUPS] = std::array::from_fn(|g| u64::from(factor) * u64::from(x[g]));
    (whole.map(|x| (x >> 32) as u32), whole.map(|x| x as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_papers_authors() {
        let ones = u32::MAX;
        for (counter, seed, words) in [
            ([0; 4], 0, [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
            ([ones; 4], u64::MAX, [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]),
            (
                [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344],
                0x299F_31D0_A409_3822,
                [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1],
            ),
        ] {
            assert_eq!(philox(counter.map(|word| [word; GROUPS]), seed), words.map(|word| [word; GROUPS]));
        }
    }
}
