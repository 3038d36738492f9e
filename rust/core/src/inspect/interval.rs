//! How sure a share is that was found in some blocks of a corpus.
//!
//! Documents of one block are alike (one site, one crawl), so they count for less than as many drawn
//! one by one. The variance is therefore that among blocks, of a ratio, as for a cluster sample; it
//! gives the effective number of documents, which takes the place of n in Wilson's interval
//! (Wilson 1927; Korn and Graubard 1998; compared by Franco et al. 2019).

use serde::Serialize;

/// 97.5 % quantile of the normal distribution: intervals are of 95 %.
const Z: f64 = 1.959_964;

/// A share with the interval that holds the corpus' own in 95 of 100 samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The share in the sample, in [0, 1].
    pub share: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The interval of a share; each block gives how many of its documents are counted, and how many it has, both times its weight.
/// `sampled` is the part of the corpus that the blocks are, in [0, 1]: nothing is unsure where it is 1.
pub fn interval(blocks: &[(f64, f64)], sampled: f64) -> Interval {
    let (counted, all) = blocks.iter().fold((0.0, 0.0), |sum, block| (sum.0 + block.0, sum.1 + block.1));
    if all <= 0.0 {
        return Interval { share: 0.0, low: 0.0, high: 1.0 };
    }
    let share = counted / all;
    if sampled >= 1.0 {
        return Interval { share, low: share, high: share };
    }
    wilson(share, effective_documents(blocks, share, all, sampled))
}

/// As many documents drawn one by one would tell as much.
fn effective_documents(blocks: &[(f64, f64)], share: f64, all: f64, sampled: f64) -> f64 {
    let num_blocks = blocks.iter().filter(|block| block.1 > 0.0).count() as f64;
    if num_blocks < 2.0 {
        return 1.0;
    }
    let square = |block: &(f64, f64)| (block.0 - share * block.1).powi(2);
    let spread = blocks.iter().map(square).sum::<f64>() * num_blocks / (num_blocks - 1.0);
    let variance = (1.0 - sampled) * spread / (all * all);
    let alone = share * (1.0 - share);
    // Where all documents agree, nothing says how alike those of a block are: each block counts once.
    let effective = if alone > 0.0 { (alone / variance).min(all) } else { num_blocks };
    effective * (Z / student(num_blocks - 1.0)).powi(2)
}

/// 97.5 % quantile of Student's t; by its expansion in 1/degrees from 3 on (Abramowitz and Stegun 26.7.5).
fn student(degrees: f64) -> f64 {
    match degrees {
        ..1.5 => 12.706,
        1.5..2.5 => 4.303,
        _ => {
            let first = (Z.powi(3) + Z) / 4.0;
            let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
            let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
            Z + first / degrees + second / degrees.powi(2) + third / degrees.powi(3)
        }
    }
}

fn wilson(share: f64, documents: f64) -> Interval {
    let square = Z * Z / documents;
    let middle = (share + square / 2.0) / (1.0 + square);
    let half = Z / (1.0 + square) * (share * (1.0 - share) / documents + square / (4.0 * documents)).sqrt();
    // Where none or all are counted an end is the share itself, but for rounding.
    let low = if share > 0.0 { (middle - half).max(0.0) } else { 0.0 };
    let high = if share < 1.0 { (middle + half).min(1.0) } else { 1.0 };
    Interval { share, low, high }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (degrees, expected) in [(1.0, 12.706), (2.0, 4.303), (3.0, 3.182), (9.0, 2.262), (63.0, 1.998)] {
            assert!((student(degrees) - expected).abs() < 0.03, "{degrees}: {}", student(degrees));
        }
    }

    #[test]
    fn wilson_is_that_of_the_textbook() {
        let found = wilson(0.1, 20.0);
        assert!((found.low - 0.027_9).abs() < 1e-4 && (found.high - 0.300_97).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn the_interval_of_none_begins_at_zero_and_that_of_all_ends_at_one() {
        for documents in (1..5000).map(f64::from) {
            let (none, all) = (wilson(0.0, documents), wilson(1.0, documents));
            assert_eq!((none.low, all.high), (0.0, 1.0), "{documents} documents");
            assert!(none.high > 0.0 && all.low < 1.0);
        }
    }

    #[test]
    fn a_whole_corpus_is_sure_and_no_document_says_nothing() {
        assert_eq!(
            interval(&[(1.0, 4.0), (2.0, 4.0)], 1.0),
            Interval { share: 0.375, low: 0.375, high: 0.375 }
        );
        assert_eq!(interval(&[], 0.5), Interval { share: 0.0, low: 0.0, high: 1.0 });
        assert!(interval(&[(0.0, 9.0); 3], 0.1).high > 0.5);
    }

    /// `SplitMix64` (Steele et al. 2014), in [0, 1).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// In how many of 100 samples the interval holds the truth: by blocks, and as if documents were drawn singly.
    /// A block is of a kind of its own with chance `odd`; its documents are counted with chance `high`, others' with `low`.
    fn coverage(num_blocks: usize, odd: f64, high: f64, low: f64) -> (f64, f64) {
        let (mut random, truth, rounds) = (Random(7), odd * high + (1.0 - odd) * low, 1000);
        let mut held = (0, 0);
        for _ in 0..rounds {
            let blocks: Vec<(f64, f64)> = (0..num_blocks)
                .map(|_| {
                    let all = (20_u8..120).rev().find(|_| random.next() < 0.02).unwrap_or(20);
                    let chance = if random.next() < odd { high } else { low };
                    ((0..all).filter(|_| random.next() < chance).count() as f64, f64::from(all))
                })
                .collect();
            let holds = |found: Interval| u64::from(found.low <= truth && truth <= found.high);
            let found = interval(&blocks, 0.0);
            let all = blocks.iter().map(|block| block.1).sum::<f64>();
            held = (held.0 + holds(found), held.1 + holds(wilson(found.share, all)));
        }
        (held.0 as f64 * 100.0 / f64::from(rounds), held.1 as f64 * 100.0 / f64::from(rounds))
    }

    #[test]
    fn the_interval_holds_the_truth_in_ninety_five_of_a_hundred_samples_where_that_of_single_documents_does_not(
    ) {
        for (num_blocks, odd, high, low) in [
            (64, 0.3, 0.9, 0.2),
            (64, 0.5, 0.6, 0.5),
            (16, 0.3, 0.9, 0.2),
            (64, 0.2, 0.2, 0.0),
            (64, 0.1, 0.3, 0.01),
        ] {
            let (blocks, _) = coverage(num_blocks, odd, high, low);
            assert!(blocks >= 92.0, "{num_blocks} blocks, {odd} of {high} and {low}: {blocks}");
        }
        assert!(coverage(64, 0.3, 0.9, 0.2).1 < 50.0);
        assert!(coverage(64, 0.3, 0.4, 0.4).0 >= 93.0); // no block differs from another
    }
}
