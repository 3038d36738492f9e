//! The numbering plans of all countries, as one automaton over digits.
//!
//! `e164.bin` and `regions.rs` are written by `make_tables.py` from libphonenumber's
//! metadata (Apache-2.0). A number is tested by walking at most fifteen steps.

use std::sync::LazyLock;

use super::regions::REGIONS;

const ACCEPTING: u16 = 1 << 15;

static BYTES: &[u8] = include_bytes!("e164.bin");

/// A region whose national numbers are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pii) struct Region {
    /// Its calling code.
    code: &'static str,
    /// What is dialled before a national number at home.
    prefix: &'static str,
    /// State of the automaton after the calling code.
    state: u16,
}

impl Region {
    /// The region of an ISO 3166-1 code, as `GB`.
    pub(in crate::pii) fn named(name: &str) -> Option<Self> {
        let row = REGIONS.binary_search_by(|row| row.0.cmp(name)).ok()?;
        let (_, code, prefix) = REGIONS[row];
        let state = code.bytes().fold(root(), |state, byte| step(state, byte - b'0'));
        Some(Self { code, prefix, state })
    }

    pub(super) fn is_american(&self) -> bool {
        self.code == "1"
    }

    /// True if these digits are a number of the region, as dialled at home.
    pub(super) fn has(&self, digits: &[u8]) -> bool {
        let prefix = self.prefix.as_bytes();
        let dialled = digits.len() > prefix.len()
            && digits.iter().zip(prefix).all(|(digit, byte)| digit + b'0' == *byte);
        dialled && accepts(self.state, &digits[prefix.len()..])
            || prefix != b"0" && accepts(self.state, digits)
            || self.is_dialled_without(digits) && accepts(self.state, digits)
    }

    /// True where the trunk prefix is not written: in India, Brazil, Colombia, Peru and Uruguay, before mobile
    /// telephones of China, Georgia and Mongolia, and before the 13 and 18 of Australia (libphonenumber's formats).
    fn is_dialled_without(&self, digits: &[u8]) -> bool {
        const WITHOUT: [&str; 8] = ["91", "55", "57", "51", "598", "86", "995", "976"];
        WITHOUT.contains(&self.code) || self.code == "61" && digits[0] == 1
    }
}

static AMERICA: LazyLock<Option<Region>> = LazyLock::new(|| Region::named("US"));

/// True if ten digits are a number of the North American plan.
pub(super) fn is_american(digits: &[u8]) -> bool {
    AMERICA.is_some_and(|region| accepts(region.state, digits))
}

/// True if these digits are a number of some country, calling code first.
pub(super) fn is_number(digits: &[u8]) -> bool {
    accepts(root(), digits)
}

/// True if the digits begin with the calling code of a country.
pub(super) fn is_calling_code(digits: &[u8]) -> bool {
    REGIONS.iter().any(|(_, code, _)| {
        digits.len() > code.len() && code.bytes().zip(digits).all(|(byte, digit)| byte - b'0' == *digit)
    })
}

/// True for numbers with a trunk zero of plans in which all have one length: Britain, France, Australia.
pub(super) fn is_fixed_length(digits: &[u8]) -> bool {
    let plans = [("44", 11), ("33", 10), ("61", 10)];
    plans.iter().any(|(code, length)| {
        let state = code.bytes().fold(root(), |state, byte| step(state, byte - b'0'));
        digits.len() == *length && accepts(state, &digits[1..])
    })
}

fn accepts(state: u16, digits: &[u8]) -> bool {
    let mut edge = state;
    for digit in digits {
        edge = edge_from(edge & !ACCEPTING, *digit);
        if edge == 0 {
            return false;
        }
    }
    edge & ACCEPTING != 0
}

fn step(state: u16, digit: u8) -> u16 {
    edge_from(state, digit) & !ACCEPTING
}

fn root() -> u16 {
    word(0)
}

fn edge_from(state: u16, digit: u8) -> u16 {
    word(1 + 10 * usize::from(state) + usize::from(digit))
}

fn word(index: usize) -> u16 {
    match BYTES.get(2 * index..2 * index + 2) {
        Some([low, high]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(number: &str) -> Vec<u8> {
        number.bytes().map(|byte| byte - b'0').collect()
    }

    #[test]
    fn numbers_are_those_of_the_plans() {
        for number in
            ["12015550123", "442079460958", "4930123456", "33123456789", "911234567890", "61236618300"]
        {
            assert!(is_number(&digits(number)), "{number}");
        }
        for number in ["11115550123", "4420794609581", "999123456789", "3312345678", "0"] {
            assert!(!is_number(&digits(number)), "{number}");
        }
    }

    #[test]
    fn a_region_knows_its_trunk_prefix() {
        let britain = Region::named("GB").unwrap();
        assert!(britain.has(&digits("02079460958")) && !britain.has(&digits("2079460958")));
        assert!(Region::named("ES").unwrap().has(&digits("612345678")));
        assert!(Region::named("UK").is_none());
    }
}
