//! Payment cards: issuer prefix, length, grouping and Luhn's check.
//!
//! Prefixes and lengths are those that the schemes publish (ISO/IEC 7812 ranges). A bare
//! run of 13, of 12 or of more than 16 digits is more often something else (an article
//! number, a time, an id), so it is a card only where the words around speak of one.

use super::bytes::{before, byte, ends_word, is_one_of, luhn, mark_at, run, starts_word, words_before};

/// First and last prefix of a range, fewest and most digits.
#[rustfmt::skip]
static ISSUERS: &[(u32, u32, usize, usize)] = &[
    (4, 4, 13, 13), (4, 4, 16, 16), (4, 4, 19, 19), // Visa
    (51, 55, 16, 16), (2221, 2720, 16, 16), // Mastercard
    (34, 34, 15, 15), (37, 37, 15, 15), // American Express
    (6011, 6011, 16, 19), (644, 649, 16, 19), (65, 65, 16, 19), // Discover
    (300, 305, 14, 19), (3095, 3095, 14, 19), (36, 36, 14, 19), (38, 39, 14, 19), // Diners Club
    (3528, 3589, 16, 19), // JCB
    (2131, 2131, 15, 15), (1800, 1800, 15, 15), // JCB, old
    (62, 62, 16, 19), (81, 81, 16, 19), // UnionPay
    (5018, 5018, 12, 19), (5020, 5020, 12, 19), (5038, 5038, 12, 19), (5893, 5893, 12, 19), // Maestro
    (56, 58, 16, 16), (56, 58, 18, 19), // no shorter: `1234 5678 9012 3456` is an example
    (6390, 6390, 12, 19),
    (6304, 6304, 12, 19), (6759, 6759, 12, 19), (6761, 6763, 12, 19), (6706, 6706, 12, 19),
    (2200, 2204, 16, 19), // Mir
    (60, 60, 16, 16), (508, 508, 16, 16), (82, 82, 16, 16), // RuPay
    (5019, 5019, 16, 16), // Dankort
    (5066, 5067, 16, 16), (509, 509, 16, 16), (504_175, 504_175, 16, 16), // Elo
    (6363, 6363, 16, 16), (6362, 6362, 16, 16),
    (5061, 5061, 16, 19), // Verve
    (9792, 9792, 16, 16), // Troy
];

/// Group lengths in print; one group is a bare run.
static GROUPINGS: [&[usize]; 10] = [
    &[4, 4, 4, 4],
    &[4, 6, 5],
    &[4, 6, 4],
    &[4, 4, 4, 4, 3],
    &[4, 4, 4, 4, 2],
    &[4, 4, 4, 1],
    &[4, 4, 4, 3],
    &[4, 4, 5],
    &[4, 4, 4],
    &[6, 13],
];

const NAMES: [&str; 21] = [
    "card",
    "cards",
    "credit",
    "debit",
    "visa",
    "mastercard",
    "amex",
    "discover",
    "maestro",
    "diners",
    "cc",
    "jcb",
    "payment",
    "carte",
    "karte",
    "kreditkarte",
    "tarjeta",
    "carta",
    "cartão",
    "pan",
    "カード番号",
];

/// End of a number that begins at the digit `start`.
pub(super) fn end(text: &str, start: usize) -> Option<usize> {
    let number = Number::read(text, start);
    let is_card = |groups: &usize| number.is_card(text, start, *groups);
    (1..=number.num_groups).rev().find(is_card).map(|groups| number.ends[groups - 1])
}

#[derive(Default)]
struct Number {
    digits: [u8; 20],
    len: usize,
    groups: [usize; 6],
    /// Where each group ends in the text.
    ends: [usize; 6],
    num_groups: usize,
    /// What parts the groups, 0 if nothing does.
    separator: u8,
    /// Another group follows that no number has room for.
    goes_on: bool,
}

impl Number {
    /// Reads groups of digits that one separator parts.
    fn read(text: &str, start: usize) -> Self {
        let (mut number, mut at) = (Self::default(), start);
        while number.read_group(text, at) {
            at = number.ends[number.num_groups - 1];
            let (width, next) = mark_at(text, at);
            let parts = matches!(next, b' ' | b'-' | b'.') && byte(text, at + width).is_ascii_digit();
            if !parts || number.separator != 0 && next != number.separator {
                return number;
            }
            (number.separator, at) = (next, at + width);
        }
        number.goes_on = true;
        number
    }

    fn read_group(&mut self, text: &str, at: usize) -> bool {
        let group = run(text, at, self.digits.len() + 1, |byte| byte.is_ascii_digit());
        if self.num_groups == self.groups.len() || self.len + group > self.digits.len() {
            return false;
        }
        let digits = text.as_bytes()[at..at + group].iter().map(|digit| digit - b'0');
        self.digits[self.len..self.len + group].iter_mut().zip(digits).for_each(|(to, digit)| *to = digit);
        self.len += group;
        (self.groups[self.num_groups], self.ends[self.num_groups]) = (group, at + group);
        self.num_groups += 1;
        true
    }

    /// True if the first `count` groups are a number, and what follows them is none of it.
    fn is_card(&self, text: &str, start: usize, count: usize) -> bool {
        let (groups, end) = (&self.groups[..count], self.ends[count - 1]);
        let digits = &self.digits[..groups.iter().sum()];
        let whole = self.is_printed(groups, digits.len()) && is_issued(digits) && luhn(digits);
        let named = |reach| words_before(text, start, reach).any(|word| is_one_of(word, &NAMES));
        let common = groups.len() > 1 || matches!(digits.len(), 14..=16);
        let is_last = count == self.num_groups && !self.goes_on;
        whole
            && starts(text, start, count)
            && ends(text, end)
            && (common || named(60))
            && (is_last || self.separator == b' ' && (expires(text, end) || named(24)))
    }

    fn is_printed(&self, groups: &[usize], len: usize) -> bool {
        // Of dots, only four times four is a card.
        let dotted = groups.len() > 1 && self.separator == b'.' && groups != GROUPINGS[0];
        len >= 12 && !dotted && (groups.len() == 1 || GROUPINGS.contains(&groups))
    }
}

/// True if after a space a month and a year follow, as `12/27`, `03/2025` or `12-27`.
fn expires(text: &str, end: usize) -> bool {
    let month = end + mark_at(text, end).0;
    let digits = run(text, month, 3, |byte| byte.is_ascii_digit());
    let year = month + digits + 1;
    let is_year = matches!(run(text, year, 5, |byte| byte.is_ascii_digit()), 2 | 4);
    let is_month = text[month..month + digits].parse().is_ok_and(|month: u8| (1..=12).contains(&month));
    is_month && matches!(byte(text, year - 1), b'/' | b'-') && is_year
}

fn is_issued(digits: &[u8]) -> bool {
    ISSUERS.iter().any(|(first, last, fewest, most)| {
        let width = first.ilog10() as usize + 1;
        let prefix = digits[..width].iter().fold(0, |prefix, digit| prefix * 10 + u32::from(*digit));
        (*first..=*last).contains(&prefix) && (*fewest..=*most).contains(&digits.len())
    })
}

fn starts(text: &str, start: usize, num_groups: usize) -> bool {
    let second = before(text, start, 2);
    let joined = match before(text, start, 1) {
        b'=' if num_groups > 1 => false, // a bare run may be any id
        b'.' | b'-' | b'+' | b'/' | b'=' => second.is_ascii_alphanumeric(),
        b',' => second.is_ascii_digit(), // of words, it parts the cells of a row
        _ => false,
    };
    let named = || words_before(text, start, 24).take(2).any(|word| is_one_of(word, &NAMES)); // `card_number=`
    starts_word(text, start) && (!joined || named())
}

fn ends(text: &str, end: usize) -> bool {
    let joined = match byte(text, end) {
        b'.' | b'-' => byte(text, end + 1).is_ascii_alphanumeric(),
        b',' => is_decimal(text, end + 1),
        _ => false,
    };
    ends_word(text, end) && !joined
}

/// True for the decimals of an amount; false for the next cell of a row, as a name, `12/25` or `123`.
fn is_decimal(text: &str, at: usize) -> bool {
    let digits = run(text, at, 3, |byte| byte.is_ascii_digit());
    matches!(digits, 1 | 2) && !matches!(byte(text, at + digits), b'/' | b'-' | b',')
}
