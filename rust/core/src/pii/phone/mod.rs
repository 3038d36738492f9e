//! Telephone numbers, from the first digit of a run.
//!
//! Groups of digits are read with the separators of print, then judged: international
//! numbers by the numbering plan of their country (E.164), national ones by the plans of
//! the configured regions *and* by how they are written, since ten digits alone may be
//! anything. What a form leaves open, the words around decide (`Tel.`, `call`, `office`).

mod context;
mod plan;
mod regions;
mod shape;

use self::context::Context;
use self::shape::Shape;
use super::bytes::{before, byte, ends_word, run, run_before, starts_word, MAX_EMPHASIS};

pub(super) use self::plan::Region;

/// Whether a form is a telephone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    No,
    /// If the word right before says so.
    IfCalled,
    /// If the words around say so.
    IfNamed,
    Yes,
}

/// Start and end of a number whose first digit, `+` and brackets aside, stands at `digit`.
///
/// `last_end`: where the number taken before this one ends; a slash may part two.
pub(super) fn span(text: &str, digit: usize, last_end: usize, regions: &[Region]) -> Option<(usize, usize)> {
    let shape = Shape::read(text, digit)?;
    let follows_number = last_end > 0 && last_end + 1 == shape.start && before(text, shape.start, 1) == b'/';
    if !follows_number && !may_start(text, shape.outer) {
        return None;
    }
    let context = Context::new(text, shape.start);
    for count in (1..=shape.len).rev() {
        let end = shape.end_of(count);
        let amount = !shape.plus && !shape.joined_by(count - 1, "-");
        if shape.num_digits(count) < 6 || !may_end(text, end, count < shape.len, amount) {
            continue;
        }
        let verdict = judge_in(text, &shape, count, regions);
        if verdict == Verdict::No || count < shape.len && !shape.stands_apart(count) {
            continue;
        }
        let named = match verdict {
            Verdict::IfCalled => context.calls(),
            Verdict::IfNamed => {
                context.names(end, count == 1) || is_bare_abroad(&shape, count) && context.is_party()
            }
            _ => true,
        };
        let other = context.denies(verdict == Verdict::Yes) && !is_planned_abroad(&shape, count);
        let denied = other || shape.is_postcode(count) && context.follows_state() || !named;
        return (!denied).then(|| (shape.start, extension_end(text, lines_end(text, end))));
    }
    None
}

/// What the form says, but that two groups of five between figures of a row are figures too unless a word names them.
fn judge_in(text: &str, shape: &Shape, count: usize, regions: &[Region]) -> Verdict {
    let verdict = judge(shape, count, regions);
    let paired = verdict == Verdict::Yes && shape.lengths(count) == [5, 5];
    if paired && is_between_figures(text, shape.start, shape.end_of(count)) {
        return Verdict::IfNamed;
    }
    verdict
}

fn judge(shape: &Shape, count: usize, regions: &[Region]) -> Verdict {
    if shape.is_international() {
        let verdict = international(shape, count);
        // 011 is an area code as well: Turin, Delhi, Johannesburg, Buenos Aires
        if verdict != Verdict::No || shape.plus || shape.digits(count)[1] == 0 {
            return verdict;
        }
    }
    if shape.is_counting(count) {
        return Verdict::No;
    }
    let digits = shape.digits(count);
    let planned = regions.iter().any(|region| region.has(digits));
    let american = regions.iter().any(Region::is_american).then(|| american(shape, count));
    let abroad = if is_bare_abroad(shape, count) { Verdict::IfNamed } else { Verdict::No };
    let verdicts = [american.unwrap_or(Verdict::No), national(shape, count, planned), abroad];
    let verdict = verdicts.into_iter().fold(grouped(shape, count), Verdict::max);
    if shape.continues_row(count) {
        return Verdict::No; // a column of figures
    }
    verdict
}

impl Verdict {
    fn max(self, other: Self) -> Self {
        if self as u8 >= other as u8 {
            self
        } else {
            other
        }
    }
}

/// `+` or an international prefix, then a calling code.
fn international(shape: &Shape, count: usize) -> Verdict {
    let (digits, length) = shape.digits_abroad(count);
    let digits = &digits[..length];
    if plan::is_number(digits) {
        let written = shape.plus || count > 1;
        return if written { Verdict::Yes } else { Verdict::IfNamed };
    }
    let possible = (8..=15).contains(&length) && plan::is_calling_code(digits) && count == shape.len;
    let possible = possible && !shape.is_in_thousands(count); // `+10 000 000`
    match (possible, shape.plus, count > 1) {
        (true, true, several) if several || length > 10 => Verdict::Yes,
        (true, false, true) if digits[0] == 1 && length == 11 => Verdict::Yes,
        (true, _, _) => Verdict::IfNamed,
        _ => Verdict::No,
    }
}

/// A `+` and a number of some country: no order or account is written so, whatever words stand before it.
fn is_planned_abroad(shape: &Shape, count: usize) -> bool {
    let (digits, length) = shape.digits_abroad(count);
    shape.plus && plan::is_number(&digits[..length])
}

/// Digits in a row that are a number of some country without its `+`, as messages write it: `447700900123`.
fn is_bare_abroad(shape: &Shape, count: usize) -> bool {
    let digits = shape.digits(count);
    count == 1 && !shape.plus && (11..=13).contains(&digits.len()) && plan::is_number(digits)
}

/// The forms of North America: area code, exchange, line, as 3-3-4.
fn american(shape: &Shape, count: usize) -> Verdict {
    let (lengths, digits) = (shape.lengths(count), shape.digits(count));
    let local = match lengths {
        [1, 3, 3, 4] | [1, 3, 7] | [11] if digits[0] == 1 => &digits[1..],
        [3, 3, 4] | [3, 7] | [6, 4] | [10] => digits,
        [3, 4] if shape.joined_by(1, "-. ") && digits[0] > 1 => return Verdict::IfNamed,
        _ => return Verdict::No,
    };
    let shaped = local[0] > 1 && local[3] > 1; // area codes and exchanges begin with 2-9
    let given = plan::is_american(local);
    let last = lengths.len() - 1;
    match lengths.len() {
        1 | 2 if !shape.paren => Verdict::IfNamed,
        1 | 2 => {
            if given {
                Verdict::Yes
            } else {
                Verdict::IfNamed
            }
        }
        _ if shape.paren || shape.joined_by(last, "-") => Verdict::Yes,
        _ if shape.joined_by(last, ".") && shaped => Verdict::Yes,
        _ if given && !shape.follows_digits => Verdict::Yes,
        _ => Verdict::IfNamed,
    }
}

/// The forms of the other regions: a trunk `0`, or groups that nothing else is written in.
fn national(shape: &Shape, count: usize, planned: bool) -> Verdict {
    let (lengths, digits) = (shape.lengths(count), shape.digits(count));
    if !planned {
        return Verdict::No;
    }
    let trunk = digits[0] == 0 && digits[1] != 0;
    if lengths.len() > 1 && shape.joined_by(1, ".") && (lengths[0] == 1 || lengths.len() == 2 && !trunk) {
        return Verdict::No; // a decimal
    }
    let long = digits.len() >= 9;
    match lengths {
        [10 | 11] if trunk && plan::is_fixed_length(digits) => Verdict::Yes,
        [0..=6] => Verdict::IfCalled,
        [_] => Verdict::IfNamed,
        [5, 4] if shape.joined_by(1, "-") => Verdict::No, // a ZIP+4 code
        [2..=6, ..] if trunk && long && lengths[1] > 1 => Verdict::Yes,
        [5, 5] if digits[0] > 5 => Verdict::Yes,
        // Mobile telephones of Brazil and China
        [2, 5, 4] if shape.joined_by(2, "-") && digits[2] == 9 => Verdict::Yes,
        [3, 4, 4] if digits[0] == 1 && digits[1] > 2 && !plan::is_american(&digits[1..]) => Verdict::Yes,
        [2, 3, 2, 2] | [3, 2, 2, 2] | [3, 3, 3] if shape.follows_digits => Verdict::IfNamed,
        [2, 3, 2, 2] | [3, 2, 2, 2] | [2, 3, 4] => Verdict::Yes,
        // 1300 and 1800 of Australia and India
        [4, 3, 3 | 4] if digits[0] == 1 && matches!(digits[1], 3 | 8) => Verdict::Yes,
        _ if shape.paren && long && !shape.begins_with_year() => Verdict::Yes,
        _ => Verdict::IfNamed,
    }
}

/// `8 (495) 777-12-34`: the trunk 8 of Russia and Kazakhstan, in groups that nothing else is written in.
fn is_russian(shape: &Shape, count: usize) -> bool {
    let mut digits = [0; 11];
    shape.lengths(count) == [1, 3, 3, 2, 2] && (shape.paren || shape.joined_by(4, "-")) && {
        digits.copy_from_slice(shape.digits(count));
        std::mem::replace(&mut digits[0], 7) == 8 && plan::is_number(&digits)
    }
}

/// Any other groups of digits as long as a number of some country.
fn grouped(shape: &Shape, count: usize) -> Verdict {
    let digits = shape.num_digits(count);
    if is_russian(shape, count) {
        return Verdict::Yes;
    }
    if (count == 1 && (7..14).contains(&digits) || shape.is_postcode(count)) && !shape.follows_digits {
        return Verdict::IfCalled;
    }
    let plausible = ((7..=13).contains(&digits) || digits == 6 && count == 3) && (2..7).contains(&count);
    let dots = count > 1 && shape.joined_by(count - 1, ".");
    let version = dots && (count < 3 || shape.lengths(count).contains(&1));
    if plausible && !version && !shape.follows_digits {
        Verdict::IfNamed
    } else {
        Verdict::No
    }
}

/// False inside a word, a longer number, an amount, a tag or a path.
fn may_start(text: &str, start: usize) -> bool {
    let (last, second) = (before(text, start, 1), before(text, start, 2));
    let joined = match last {
        b'-' | b'/' => second.is_ascii_alphanumeric() && !context::ends_in_name(text, start - 1),
        b'.' => !context::ends_in_name(text, start - 1),
        b',' if byte(text, start) == b'+' => false,
        b':' if follows_hexadecimal(text, start - 1) => true,
        b',' | b':' | b'+' | b'\'' => second.is_ascii_digit() || second == last,
        b'*' => before(text, start - run_before(text, start, MAX_EMPHASIS, is_star), 1).is_ascii_digit(),
        b'$' | b'#' | b'&' | b'^' | b'~' | b'\\' | b'@' | b'%' | b')' | b']' | b'<' => {
            last != b')' || second != b' '
        }
        _ => false,
    };
    let currency = text[..start].ends_with(['€', '£', '¥', '§']);
    starts_word(text, start) && !joined && !currency
}

/// True for the colon of `08002b:0102030405`.
fn follows_hexadecimal(text: &str, colon: usize) -> bool {
    let length = run_before(text, colon, 16, |byte| byte.is_ascii_hexdigit());
    let digits = &text.as_bytes()[colon - length..colon];
    length > 3 && digits.iter().any(u8::is_ascii_digit) && starts_word(text, colon - length)
}

/// True for a pair of figures in a row of a table: digits stand on both sides, spaces away.
fn is_between_figures(text: &str, start: usize, end: usize) -> bool {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t');
    let (left, right) = (run_before(text, start, 64, is_space), run(text, end, 64, is_space));
    left > 0
        && right > 0
        && before(text, start - left, 1).is_ascii_digit()
        && byte(text, end + right).is_ascii_digit()
}

fn is_star(byte: u8) -> bool {
    byte == b'*'
}

/// False where the number goes on, or has a unit. `inside`: a further group follows. `amount`: it is written
/// as an amount may be, so that a comma may part its decimals, and not the cells of a row.
fn may_end(text: &str, end: usize, inside: bool, amount: bool) -> bool {
    let (last, next) = (byte(text, end), byte(text, end + 1));
    let joined = match last {
        b',' => amount && next.is_ascii_digit(),
        b'/' => {
            next.is_ascii_digit()
                && (inside || lines_end(text, end) == end && !is_whole_number(text, end + 1))
        }
        b'-' | b'.' | b':' | b'\'' => next.is_ascii_digit(),
        b'*' => byte(text, end + run(text, end, MAX_EMPHASIS, is_star)).is_ascii_alphanumeric(),
        b'_' => !ends_word(text, end),
        b'\\' => next.is_ascii_alphanumeric() && !matches!(next, b'n' | b'r' | b't' | b'u'), // an escape in JSON
        b'%' | b'@' | b'$' | b'+' | b'=' | b'^' => true,
        b' ' => next == b'=', // a sum
        _ => false,
    };
    let unit = text[end..].starts_with(['€', '£', '¥', '°']);
    let word = last.is_ascii_alphanumeric() && extension_end(text, end) == end;
    inside && last == b' '
        || !joined
            && !unit
            && !word
            && !text[end..].starts_with(|char: char| !char.is_ascii() && char.is_numeric())
}

/// True if the next number begins after a slash, with as many digits as have only whole ones, as in
/// `020 7946 0958/020 7946 0959`.
fn is_whole_number(text: &str, digit: usize) -> bool {
    Shape::read(text, digit).is_some_and(|shape| {
        let first = shape.lengths(1)[0]; // `35 and …` is one more line, `030 …` a number
        (9..=13).contains(&shape.num_digits(shape.len)) && (first > 2 || shape.digits(1)[0] == 0)
    })
}

/// Past the last digits of further lines, as in `555-2671/72/73`; `end` if no such digits end the number.
fn lines_end(text: &str, end: usize) -> usize {
    let is_line =
        |at: usize| byte(text, at) == b'/' && run(text, at + 1, 5, |byte| byte.is_ascii_digit()) == 2;
    let mut last = end;
    while is_line(last) && byte(text, last + 3) == b'/' && last < end + 9 {
        last += 3;
    }
    match line_end(text, last) {
        after if after == last + 3 || after > last && last == end => after,
        _ => end, // `/17/3` is a path: of several lines each has two digits
    }
}

/// Past the slash and the last digits of one further line; `end` if there are none.
fn line_end(text: &str, end: usize) -> usize {
    let digits = run(text, end + 1, 5, |byte| byte.is_ascii_digit());
    if byte(text, end) != b'/' || !(1..=4).contains(&digits) || is_whole_number(text, end + 1) {
        return end;
    }
    let last = end + 1 + digits;
    let goes_on = match byte(text, last) {
        b'-' | b'.' | b',' | b':' => byte(text, last + 1).is_ascii_digit(),
        b'/' | b'%' | b'=' => true,
        _ => !ends_word(text, last),
    };
    if goes_on {
        end
    } else {
        last
    }
}

/// Past `x123`, `ext. 123`, `extension 123`, `#123` after a number.
fn extension_end(text: &str, end: usize) -> usize {
    let at = end + run(text, end, 2, |byte| matches!(byte, b' ' | b','));
    let names = ["extension", "extn", "ext", "poste", "durchwahl", "x", "#"];
    let found = names.iter().find(|name| {
        text.as_bytes()
            .get(at..at + name.len())
            .is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    });
    let Some(name) = found else { return end };
    let digits = at + name.len();
    let digits = digits + run(text, digits, 2, |byte| matches!(byte, b'.' | b':' | b' '));
    let length = run(text, digits, 8, |byte| byte.is_ascii_digit());
    let whole = (1..=7).contains(&length) && !byte(text, digits + length).is_ascii_alphanumeric();
    if whole {
        digits + length
    } else {
        end
    }
}
