//! How each feature is spread over the documents, kept and rejected apart.
//!
//! Buckets are fixed, so that histograms of threads, blocks and machines add up exactly: 0.005
//! wide for fractions and ratios, a 32nd of an octave for counts and means. Measuring every
//! feature costs more than most profiles, so only one document in so many is measured, chosen by
//! its place: always the same ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quality::FEATURES;
use crate::text::Views;

/// Inputs of fewer bytes are measured whole.
const WHOLE_BYTES: u64 = 8 << 20;
/// Buckets of a fraction below 1; one more holds what is 1 or above.
const LINEAR_BUCKETS: u16 = 200;
/// Bits of a double below the 32nd part of its octave.
const LOG_SHIFT: u32 = 47;
/// The part that 2^-4 begins; what is below is as good as 0.
const LOG_FIRST: u64 = (1023 - 4) << 5;
/// Buckets from 2^-4 to 2^40.
const LOG_BUCKETS: u64 = 44 << 5;

/// The value of every feature of one document.
pub type Values = [f64; FEATURES.len()];

/// Measures every feature of a text.
pub(crate) fn measure(text: &str, views: &mut Views) -> Values {
    views.reset();
    FEATURES.map(|(_, measure)| measure(text, views))
}

/// One document in so many is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampling(u64);

impl Sampling {
    /// No document: it is measured already.
    pub(crate) const NONE: Self = Self(0);

    /// So that measuring takes about a twentieth of the time at most; `profiles` are those of quality.
    pub(crate) fn of(profiles: &[String], total_bytes: u64) -> Self {
        let is_cheap = |name: &String| name == "seed" || name == "rule";
        match (total_bytes, profiles) {
            (1..WHOLE_BYTES, _) => Self(1),
            (_, []) => Self(256),
            (_, names) if names.iter().all(is_cheap) => Self(128),
            _ => Self(64),
        }
    }

    /// How many documents stand for one that is measured.
    pub(crate) fn one_in(self) -> u64 {
        self.0
    }

    /// True if the document on this line of this input is measured.
    pub(crate) fn takes(self, file: usize, line: u64) -> bool {
        // The mixer of SplitMix64 (Steele et al. 2014): neighbours fall apart.
        let mixed = (line ^ (file as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 > 0 && (mixed ^ (mixed >> 31)).is_multiple_of(self.0)
    }
}

/// The histograms of all features.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histograms {
    /// Version of this layout.
    pub schema: u32,
    /// One document in so many is measured.
    pub one_in: u64,
    /// Documents measured that pass every rule, and that do not.
    pub documents: [u64; 2],
    /// One entry a feature, in the order of [`FEATURES`].
    pub features: Vec<Histogram>,
}

/// The histogram of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Histogram {
    /// Name of the feature.
    pub name: String,
    /// Documents kept and rejected whose value is 0 of 0.
    pub undefined: [u64; 2],
    /// Documents kept and rejected by bucket.
    pub buckets: BTreeMap<u16, [u64; 2]>,
}

/// A histogram on disk: a bucket is its lower end and two counts.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    name: String,
    undefined: [u64; 2],
    buckets: Vec<(f64, u64, u64)>,
}

impl From<Stored> for Histogram {
    fn from(stored: Stored) -> Self {
        let is_linear = is_linear(&stored.name);
        let bucket = |(low, kept, rejected)| (bucket(is_linear, low), [kept, rejected]);
        let buckets = stored.buckets.into_iter().map(bucket).collect();
        Self { name: stored.name, undefined: stored.undefined, buckets }
    }
}

impl From<Histogram> for Stored {
    fn from(histogram: Histogram) -> Self {
        let bucket = |(index, [kept, rejected]): (&u16, &[u64; 2])| (histogram.low(*index), *kept, *rejected);
        let buckets = histogram.buckets.iter().map(bucket).collect();
        Self { buckets, name: histogram.name, undefined: histogram.undefined }
    }
}

/// Fractions and ratios lie in [0, 1], but for a few.
fn is_linear(name: &str) -> bool {
    name.ends_with("_fraction") || name.ends_with("_ratio")
}

/// The bucket of a value that is a number and not negative.
#[allow(clippy::cast_sign_loss)]
fn bucket(is_linear: bool, value: f64) -> u16 {
    if is_linear {
        let index = (value * f64::from(LINEAR_BUCKETS) + 1e-9) as u16; // saturates
        return index.min(LINEAR_BUCKETS);
    }
    let part = (value.to_bits() >> LOG_SHIFT).saturating_sub(LOG_FIRST - 1);
    part.min(LOG_BUCKETS) as u16
}

impl Histogram {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), undefined: [0; 2], buckets: BTreeMap::new() }
    }

    /// Lower end of a bucket; it reaches to that of the next, and the last one without end.
    pub fn low(&self, index: u16) -> f64 {
        match (is_linear(&self.name), index) {
            (true, _) if index > LINEAR_BUCKETS => f64::INFINITY,
            (true, _) => f64::from(index) / f64::from(LINEAR_BUCKETS),
            (false, 0) => 0.0,
            (false, _) => f64::from_bits((u64::from(index) + LOG_FIRST - 1) << LOG_SHIFT),
        }
    }

    fn add_value(&mut self, value: f64, is_kept: bool) {
        let counts = if value.is_finite() {
            self.buckets.entry(bucket(is_linear(&self.name), value)).or_default()
        } else {
            &mut self.undefined
        };
        counts[usize::from(!is_kept)] += 1;
    }

    fn add(&mut self, other: &Self) {
        add_counts(&mut self.undefined, other.undefined);
        for (index, counts) in &other.buckets {
            add_counts(self.buckets.entry(*index).or_default(), *counts);
        }
    }

    /// Documents with a value.
    pub fn defined(&self) -> u64 {
        self.buckets.values().flatten().sum()
    }

    /// Documents without one: they break no bound, so every threshold keeps them.
    pub fn undefined(&self) -> u64 {
        self.undefined.iter().sum()
    }
}

fn add_counts(counts: &mut [u64; 2], others: [u64; 2]) {
    counts[0] += others[0];
    counts[1] += others[1];
}

impl Histograms {
    /// Nothing is measured yet.
    pub fn new(one_in: u64) -> Self {
        let features = FEATURES.iter().map(|(name, _)| Histogram::new(name)).collect();
        Self { schema: 1, one_in, documents: [0; 2], features }
    }

    /// Adds a document.
    pub fn add_document(&mut self, values: &Values, is_kept: bool) {
        self.documents[usize::from(!is_kept)] += 1;
        for (histogram, value) in self.features.iter_mut().zip(values) {
            histogram.add_value(*value, is_kept);
        }
    }

    /// Adds the histograms of another part of the run.
    pub fn add(&mut self, other: &Self) {
        self.one_in = other.one_in;
        add_counts(&mut self.documents, other.documents);
        for (histogram, other) in self.features.iter_mut().zip(&other.features) {
            histogram.add(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket_and_the_lower_end_names_it(value in 0.0_f64..3.0, large in 0_u64..1 << 34) {
            for (name, value, wide) in [("a_fraction", value.min(0.999), 0.0051), ("num_a", large as f64, 0.032), ("mean_a", value, 0.032)] {
                let mut histogram = Histogram::new(name);
                histogram.add_value(value, true);
                let index = *histogram.buckets.keys().next().unwrap();
                let (low, next) = (histogram.low(index), histogram.low(index + 1));
                prop_assert_eq!(bucket(is_linear(name), low), index);
                prop_assert!(low <= value + 1e-9 && value < next, "{} in {}..{}", value, low, next);
                prop_assert!(index == 0 || next - low <= wide * low.max(1.0));
            }
        }
    }

    #[test]
    fn histograms_add_up_in_any_order_and_survive_the_disk() {
        let text = |index: usize| {
            "The cat sat on the mat. ".repeat(index % 7) + if index.is_multiple_of(3) { "\n" } else { "" }
        };
        let of = |indices: std::ops::Range<usize>| {
            let mut found = Histograms::new(1);
            let mut views = Views::default();
            indices.for_each(|index| found.add_document(&measure(&text(index), &mut views), index % 2 == 0));
            found
        };
        let whole = of(0..100);
        let mut sum = Histograms::new(1);
        for part in [of(60..100), of(0..13), of(13..60)] {
            sum.add(&serde_json::from_str(&serde_json::to_string(&part).unwrap()).unwrap());
        }
        assert_eq!(sum, whole);
        assert_eq!(whole.documents, [50, 50]);
        assert!(whole
            .features
            .iter()
            .all(|feature| feature.defined() + feature.undefined.iter().sum::<u64>() == 100));
    }

    #[test]
    fn about_one_document_in_so_many_is_measured_wherever_it_stands() {
        let sampling = Sampling::of(&["native".to_owned()], 1 << 40);
        for file in 0..3 {
            let taken = (1..=64_000).filter(|line| sampling.takes(file, *line)).count();
            assert!((850..1150).contains(&taken), "{taken}");
        }
        assert!(Sampling::of(&[], 1 << 20).takes(7, 3) && !Sampling::NONE.takes(7, 3));
    }
}
