//! A keyed permutation of 0..n that needs no memory.
//!
//! A balanced Feistel network (Luby & Rackoff 1988) permutes 0..2^(2h), the least such
//! power of four that holds n; a value outside 0..n is permuted again until it falls inside
//! (cycle walking, Black & Rogaway 2002), fewer than four times on average.

use xxhash_rust::xxh3::xxh3_128;

/// Four rounds make a pseudorandom permutation; twice that also mixes domains of a few bits.
const ROUNDS: u64 = 8;

/// A permutation of `0..size`, chosen by a key.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    size: u64,
    half_bits: u32,
    key: [u64; 2],
}

impl Permutation {
    /// The permutation of `size` rows of a source in an epoch.
    ///
    /// The key is XXH3-128 of `triptych-order/1`, a zero byte, then seed, `seq_len` and epoch as
    /// little-endian u64, then the source's name.
    pub fn of_epoch(seed: u64, source: &str, seq_len: u64, epoch: u64, size: u64) -> Self {
        let mut bytes = b"triptych-order/1\0".to_vec();
        for number in [seed, seq_len, epoch] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(source.as_bytes());
        let key = xxh3_128(&bytes);
        Self::new(size, [key as u64, (key >> 64) as u64])
    }

    fn new(size: u64, key: [u64; 2]) -> Self {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        Self { size, half_bits: bits.div_ceil(2).max(1), key }
    }

    /// Where `index` goes; `index` must be below the size.
    pub fn apply(&self, index: u64) -> u64 {
        debug_assert!(index < self.size);
        let mut value = self.encrypt(index);
        while value >= self.size {
            value = self.encrypt(value);
        }
        value
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (self.mix(round, right) & mask));
        }
        (left << self.half_bits) | right
    }

    /// The finalizer of `SplitMix64` (Steele et al. 2014) over the half, keyed for the round.
    fn mix(&self, round: u64, half: u64) -> u64 {
        let mut z = half ^ self.key[(round % 2) as usize];
        z = z.wrapping_add((round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn images(permutation: Permutation) -> Vec<u64> {
        (0..permutation.size).map(|index| permutation.apply(index)).collect()
    }

    proptest! {
        #[test]
        fn every_row_comes_exactly_once(size in 1u64..3000, seed: u64, epoch in 0u64..5) {
            let mut images = images(Permutation::of_epoch(seed, "web", 512, epoch, size));
            images.sort_unstable();
            prop_assert!(images.into_iter().eq(0..size));
        }
    }

    #[test]
    fn seed_source_length_and_epoch_each_change_the_order() {
        let of =
            |seed, source, seq_len, epoch| images(Permutation::of_epoch(seed, source, seq_len, epoch, 100));
        let first = of(1, "a", 512, 0);
        for other in [of(2, "a", 512, 0), of(1, "b", 512, 0), of(1, "a", 513, 0), of(1, "a", 512, 1)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn ten_billion_rows_take_no_memory_and_stay_in_range() {
        let permutation = Permutation::of_epoch(7, "web", 4096, 3, 10_000_000_000);
        assert!((0..10_000_000_000)
            .step_by(99_999_989)
            .all(|index| permutation.apply(index) < 10_000_000_000));
    }

    #[test]
    fn neighbours_land_apart() {
        let images = images(Permutation::of_epoch(0, "web", 2048, 0, 10_000));
        let mean: f64 = images.windows(2).map(|two| two[0].abs_diff(two[1]) as f64).sum::<f64>() / 9_999.0;
        assert!(
            (3_233.0..3_433.0).contains(&mean),
            "uniform order has a mean distance of n / 3, found {mean}"
        );
    }
}
