//! A bit for each byte of a text.

/// Places of a text, in order.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Room for the places below `len`, none of which is set.
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len / 64 + 1])
    }

    pub(super) fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    /// The places that are set, from the first on.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| ones(*word).map(move |bit| 64 * index + bit))
    }

    /// The first place from `at` on that is set.
    pub(super) fn next(&self, at: usize) -> Option<usize> {
        let first = self.0[at / 64] >> (at % 64);
        if first != 0 {
            return Some(at + first.trailing_zeros() as usize);
        }
        let after = self.0[at / 64 + 1..].iter().position(|word| *word != 0)? + at / 64 + 1;
        Some(64 * after + self.0[after].trailing_zeros() as usize)
    }

    /// True if so many places from `one` on are set as those from `other` on are.
    pub(super) fn are_same(&self, one: usize, other: usize, len: usize) -> bool {
        (0..len).step_by(64).all(|at| {
            let differ = self.word_from(one + at) ^ self.word_from(other + at);
            let asked = u64::MAX >> (64 - (len - at).min(64));
            differ & asked == 0
        })
    }

    /// 64 places from `at` on.
    fn word_from(&self, at: usize) -> u64 {
        let (index, shift) = (at / 64, at % 64);
        let next = self.0.get(index + 1).copied().unwrap_or(0);
        self.0[index] >> shift | next.checked_shl(64 - shift as u32).unwrap_or(0)
    }
}

fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_found_and_compared_as_in_a_list(
            list in prop::collection::vec(prop::bool::weighted(0.1), 1..400), one in 0..400_usize, other in 0..400_usize
        ) {
            let mut bits = Bits::new(list.len());
            let places: Vec<usize> = (0..list.len()).filter(|at| list[*at]).collect();
            for at in &places {
                bits.set(*at);
            }
            prop_assert!(bits.iter().eq(places.iter().copied()));
            let (one, other) = (one % list.len(), other % list.len());
            prop_assert_eq!(bits.next(one), places.iter().copied().find(|at| *at >= one));
            for len in 0..=list.len() - one.max(other) {
                let is_same = list[one..one + len] == list[other..other + len];
                prop_assert_eq!(bits.are_same(one, other, len), is_same);
            }
        }
    }
}
