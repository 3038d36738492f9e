//! How a number is written: groups of digits and what parts them.

use super::super::bytes::{before, byte, mark_at, run_before};

const MAX_GROUPS: usize = 8;
const MAX_DIGITS: usize = 20; // E.164 allows 15, after a prefix of up to four

/// Groups of digits from one start. Everything is bounded: no text makes it long to read.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Byte of the first character: a bracket, a plus or a digit.
    pub start: usize,
    /// The same, or the bracket before it that opens around the whole number.
    pub outer: usize,
    /// True after `+`.
    pub plus: bool,
    /// True if the word before is a group of digits, one space away.
    pub follows_digits: bool,
    /// True if a group stands in brackets, other than `(0)`.
    pub paren: bool,
    /// Groups.
    pub len: usize,
    digits: [u8; MAX_DIGITS],
    lengths: [usize; MAX_GROUPS],
    ends: [usize; MAX_GROUPS],
    /// First byte of what parts a group from the one before; `(` if brackets do.
    separators: [u8; MAX_GROUPS],
    /// Index of a group `(0)`, which is not dialled from abroad.
    trunk: Option<usize>,
    /// 1 if a bracket closes after the last group, else 0.
    closed: usize,
}

impl Shape {
    /// Reads from the first digit; `None` if there are too few digits or too many.
    pub(super) fn read(text: &str, digit: usize) -> Option<Self> {
        let mut shape = Self { start: digit, ..Self::default() };
        let (mut open, mut opened) = (shape.read_start(text), 0);
        let mut at = digit;
        loop {
            at = shape.read_group(text, at, open)?;
            match separator(text, at, open, opened == 0) {
                Some((next, opens, mark)) if shape.may_go_on(mark) => {
                    shape.separators[shape.len] = mark;
                    let closes = open && byte(text, at) == b')';
                    shape.paren |=
                        closes && shape.lengths[shape.len - 1] < 6 && Some(shape.len - 1) != shape.trunk;
                    shape.start += usize::from(opens && open && !closes && byte(text, shape.start) == b'(');
                    opened = if opens { shape.len } else { opened };
                    (open, at) = (opens || open && !closes, next);
                }
                _ => break,
            }
        }
        if open {
            shape.leave_open(text, opened, byte(text, at) == b')');
        }
        (shape.num_digits(shape.len) > 5).then_some(shape)
    }

    /// What a bracket before the group `opened` means if it is open after the last: around the whole number
    /// it is no part of it, and one that nothing closes begins something else.
    fn leave_open(&mut self, text: &str, opened: usize, closes: bool) {
        if opened == 0 {
            self.start += usize::from(byte(text, self.start) == b'(');
        } else if closes {
            self.closed = 1;
        } else {
            self.len = opened;
        }
    }

    /// True if one more group may follow this mark: slashes part only the first, or behind a calling code and
    /// a trunk `(0)` the next; dots stand alone.
    fn may_go_on(&self, mark: u8) -> bool {
        let last = self.separators[self.len - 1];
        let fits = match mark {
            b'/' => {
                let parted = self.len == 1 + usize::from(self.plus) + usize::from(self.trunk.is_some());
                (parted || self.len == 1) && self.num_digits(self.len) < 9
            }
            b'.' => self.len == 1 || matches!(last, b'.' | b'(' | b'/') || self.len == 2,
            b' ' | b'-' => last != b'.' || self.plus,
            _ => true,
        };
        fits && self.len < MAX_GROUPS && self.num_digits(self.len) < 15
    }

    /// Takes `(` and `+` before the first digit; true if a bracket opened.
    fn read_start(&mut self, text: &str) -> bool {
        let mut open = false;
        for _ in 0..2 {
            match before(text, self.start, 1) {
                b'(' if !open => (open, self.start) = (true, self.start - 1),
                b'+' if !self.plus => (self.plus, self.start) = (true, self.start - 1),
                _ => break,
            }
        }
        self.outer = self.start;
        self.follows_digits = before(text, self.start, 1) == b' ' && ends_number(text, self.start - 1);
        open
    }

    /// The end of the group at `at`; one bracket that closes it belongs to the separator.
    fn read_group(&mut self, text: &str, at: usize, open: bool) -> Option<usize> {
        let used = self.num_digits(self.len);
        let mut length = 0;
        while byte(text, at + length).is_ascii_digit() {
            *self.digits.get_mut(used + length)? = byte(text, at + length) - b'0';
            length += 1;
        }
        if open && length == 1 && byte(text, at) == b'0' && self.len > 0 {
            self.trunk = Some(self.len);
        }
        (self.lengths[self.len], self.ends[self.len]) = (length, at + length);
        self.len += 1;
        Some(at + length)
    }

    /// End of the first `count` groups, with the bracket that closes the last of all.
    pub(super) fn end_of(&self, count: usize) -> usize {
        self.ends[count - 1] + if count == self.len { self.closed } else { 0 }
    }

    pub(super) fn num_digits(&self, count: usize) -> usize {
        self.lengths[..count].iter().sum()
    }

    pub(super) fn digits(&self, count: usize) -> &[u8] {
        &self.digits[..self.num_digits(count)]
    }

    pub(super) fn lengths(&self, count: usize) -> &[usize] {
        &self.lengths[..count]
    }

    /// True if the group at `index` is parted from the one before by one of `marks`.
    pub(super) fn joined_by(&self, index: usize, marks: &str) -> bool {
        marks.as_bytes().contains(&self.separators[index])
    }

    /// True if the groups after the first `count` are parted by a space, and not as those are.
    pub(super) fn stands_apart(&self, count: usize) -> bool {
        let others = self.paren || self.separators[1..count].iter().any(|mark| *mark != b' ');
        self.separators[count] == b' ' && (others || self.plus)
    }

    /// True if digits and a space stand before groups that nothing but spaces parts.
    pub(super) fn continues_row(&self, count: usize) -> bool {
        self.follows_digits && !self.paren && self.parts_by_spaces(count)
    }

    pub(super) fn is_international(&self) -> bool {
        let abroad = self.digits[0] == 0 && self.digits[1] == 0 && self.digits[2] != 0;
        self.plus || abroad || self.digits[..3] == [0, 1, 1] && self.lengths[0] == 3
    }

    /// The digits from the calling code on, without `(0)`, and how many there are.
    pub(super) fn digits_abroad(&self, count: usize) -> ([u8; MAX_DIGITS], usize) {
        let mut abroad = [0; MAX_DIGITS];
        let prefix = if self.plus { 0 } else { 2 + usize::from(self.digits[1] == 1) };
        let trunk = self.trunk.filter(|index| *index < count).map(|index| self.num_digits(index));
        let kept = (prefix..self.num_digits(count)).filter(|at| Some(*at) != trunk);
        let mut length = 0;
        for (place, at) in abroad.iter_mut().zip(kept) {
            *place = self.digits[at];
            length += 1;
        }
        (abroad, length)
    }

    /// True for dates, times, ranges of years and digits in a row.
    pub(super) fn is_counting(&self, count: usize) -> bool {
        let (digits, lengths) = (self.digits(count), self.lengths(count));
        let steps = digits.windows(2).map(|pair| (pair[1] + 10 - pair[0]) % 10);
        let row = lengths.len() == 1
            && (steps.clone().all(|step| step == 1) || steps.clone().all(|step| step == 0));
        let binary = digits.iter().all(|digit| *digit < 2);
        let dated = lengths.len() > 3 && self.ends_in_date(lengths);
        let dotted = (1..lengths.len()).all(|index| self.joined_by(index, "."));
        let address =
            lengths.len() == 4 && dotted && lengths.iter().all(|length| *length < 4) && digits[0] > 0;
        let limit = lengths.len() == 1 && is_limit(digits);
        let hours = lengths == [4, 4] && self.joined_by(1, "-") && digits.chunks(4).all(is_hour);
        row || binary
            || dated
            || address
            || limit
            || hours
            || self.is_date(lengths, digits)
            || is_pairs(lengths)
    }

    /// True for groups of three that spaces part, as those of amounts: `10 000 000`.
    pub(super) fn is_in_thousands(&self, count: usize) -> bool {
        count > 2 && self.lengths(count)[1..].iter().all(|length| *length == 3) && self.parts_by_spaces(count)
    }

    /// True for `(1998) 123456`.
    pub(super) fn begins_with_year(&self) -> bool {
        self.lengths[0] == 4 && matches!(self.digits[..2], [1, 9] | [2, 0])
    }

    fn parts_by_spaces(&self, count: usize) -> bool {
        self.separators[1..count].iter().all(|mark| *mark == b' ')
    }

    /// True for the five and four digits of a ZIP+4 code.
    pub(super) fn is_postcode(&self, count: usize) -> bool {
        self.lengths(count) == [5, 4] && self.joined_by(1, "-")
    }

    /// True if the last three groups are a date of ISO 8601.
    fn ends_in_date(&self, lengths: &[usize]) -> bool {
        let count = lengths.len();
        lengths.ends_with(&[4, 2, 2]) && self.joined_by(count - 1, "-") && self.joined_by(count - 2, "-")
    }

    fn is_date(&self, lengths: &[usize], digits: &[u8]) -> bool {
        let pair = |at: usize| digits[at] * 10 + digits[at + 1];
        let marks = |at: usize| self.joined_by(at, "-./ ");
        match lengths {
            [1 | 2, 1 | 2, 4, ..] if marks(1) && marks(2) => {
                let year = lengths[0] + lengths[1];
                matches!(pair(year), 15..=21)
            }
            [4, 2, 2, ..] | [4, 2] | [4, 4, ..] => matches!(pair(0), 15..=21),
            [8, ..] => matches!(pair(0), 19 | 20) && (1..=12).contains(&pair(4)),
            [2, 2, 2, ..] if lengths.len() < 4 => true,
            _ => false,
        }
    }
}

/// True if digits end before `end` that are no part of a word, as those of `Win32` are.
fn ends_number(text: &str, end: usize) -> bool {
    let length = run_before(text, end, MAX_DIGITS, |byte| byte.is_ascii_digit());
    length > 0 && !before(text, end - length, 1).is_ascii_alphabetic()
}

/// True for a quarter of an hour in four digits: `0800`, `1745`.
fn is_hour(digits: &[u8]) -> bool {
    let (hours, minutes) = (digits[0] * 10 + digits[1], digits[2] * 10 + digits[3]);
    hours <= 24 && minutes < 60 && minutes.is_multiple_of(15)
}

/// True for the limits of 32-bit integers: 2147483647, 2147483648, 4294967295, 4294967296.
fn is_limit(digits: &[u8]) -> bool {
    let value =
        digits.iter().fold(0_u64, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(*digit)));
    matches!(value, 0x7FFF_FFFF | 0x8000_0000 | 0xFFFF_FFFF | 0x1_0000_0000)
}

/// True for more or fewer pairs than a French number has: a dump, or a time with its date.
fn is_pairs(lengths: &[usize]) -> bool {
    lengths.len() > 5 && lengths.iter().all(|length| *length == 2)
}

/// Start of the next group, whether it stands in brackets, and the mark before it. `around`: the bracket that is
/// open may stand around the whole number, as in `(+33 (0)1 42 68 53 00)`, so that another may open in it.
fn separator(text: &str, at: usize, open: bool, around: bool) -> Option<(usize, bool, u8)> {
    let closed = usize::from(open && byte(text, at) == b')');
    let (width, mark) = marks_at(text, at + closed);
    let next = at + closed + width;
    let opens = byte(text, next) == b'(' && (!open || closed == 1 || around);
    let mark = if opens || closed == 1 { b'(' } else { mark };
    let next = next + usize::from(opens);
    (mark != 0 && byte(text, next).is_ascii_digit()).then_some((next, opens, mark))
}

/// Width of a mark, alone or between spaces, and which it is; 0 if there is none.
fn marks_at(text: &str, at: usize) -> (usize, u8) {
    let (first, mark) = mark_at(text, at);
    if mark != b' ' {
        return (first, mark);
    }
    let (second, inner) = mark_at(text, at + first);
    let (third, last) = mark_at(text, at + first + second);
    if matches!(inner, b'-' | b'/') && last == b' ' {
        return (first + second + third, inner);
    }
    (first, mark)
}
