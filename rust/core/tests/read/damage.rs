//! Damage of every kind to every format: nothing panics, and no record is given twice or hidden behind a bad one.
//!
//! Some thousands of cases in every run; as many as `TRIPTYCH_FUZZ_CASES` says, if it is set.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::feed::{check, feed};
use crate::sample::{gzip, samples, zstd};

/// A change to a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// Bytes of the file, once more elsewhere.
    Copy(Index, Index, usize),
    /// A number of four bytes becomes another, as a length or a count may.
    Overwrite(Index, u32),
    /// The rest is that of another file.
    Splice(Index, Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let numbers =
        prop_oneof![Just(0), Just(u32::MAX), Just(u32::MAX >> 1), Just(1 << 20), 0..300_u32, any::<u32>()];
    prop_oneof![
        4 => (at(), 1..=255_u8).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (at(), 1..60_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => (at(), at(), 1..200_usize).prop_map(|(from, to, count)| Damage::Copy(from, to, count)),
        2 => (at(), numbers).prop_map(|(at, number)| Damage::Overwrite(at, number)),
        1 => (at(), at(), at()).prop_map(|(other, from, to)| Damage::Splice(other, from, to)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, others: &[(&'static str, Vec<u8>)]) {
        let place = |at: &Index| at.index(bytes.len() + 1);
        match self {
            Self::Flip(at, mask) => {
                let at = place(at);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
            }
            Self::Cut(at) => bytes.truncate(place(at)),
            Self::Insert(at, new) => drop(bytes.splice(place(at)..place(at), new.iter().copied())),
            Self::Remove(at, count) => drop(bytes.drain(place(at)..(place(at) + count).min(bytes.len()))),
            Self::Copy(from, to, count) => {
                let piece: Vec<u8> = bytes.iter().skip(place(from)).take(*count).copied().collect();
                drop(bytes.splice(place(to)..place(to), piece));
            }
            Self::Overwrite(at, number) => {
                let at = place(at);
                bytes.iter_mut().skip(at).zip(number.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
            Self::Splice(other, from, to) => {
                let other = &other.get(others).1;
                bytes.truncate(place(to));
                bytes.extend_from_slice(&other[from.index(other.len())..]);
            }
        }
    }
}

fn num_cases() -> u32 {
    std::env::var("TRIPTYCH_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4000)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(num_cases()) })]
    #[test]
    fn no_damage_to_any_format_panics_or_hides_a_record(
        sample in any::<Index>(), damages in prop::collection::vec(damage(), 1..5), wrap in 0..4_u8
    ) {
        let samples = samples();
        let (name, mut bytes) = sample.get(&samples).clone();
        for damage in &damages {
            damage.apply(&mut bytes, &samples);
        }
        // Damage behind a checksum is found by the checksum; so some is compressed after it was done.
        let (name, bytes) = match wrap {
            0 => (format!("{name}.gz"), gzip(&bytes)),
            1 => (format!("{name}.zst"), zstd(&bytes)),
            _ => (name.to_owned(), bytes),
        };
        if let Ok(given) = feed(&name, &bytes) {
            prop_assert_eq!(check(&given), Ok(()), "{:?}", given);
        }
    }
}
