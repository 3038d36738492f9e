//! How a command ends: what it prints, and its exit status.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

use triptych_core::Error;

/// Finished, with more bad records than allowed.
pub(crate) const TOO_MANY_BAD: u8 = 3;

/// Tells whoever sits there. Where nobody can hear it, as when a terminal was closed or a disk is full, work
/// goes on, which `eprint` would end by a panic.
pub(crate) fn tell(text: impl Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}

/// Prints the error with its hint and gives its exit status.
pub(crate) fn failed(error: &Error) -> u8 {
    tell(format_args!("error[{}] {}\n", error.code(), shown(&error.to_string())));
    if let Some(hint) = error.hint() {
        tell(format_args!("hint: {}\n", shown(&hint)));
    }
    error.exit_status()
}

/// A text with what a terminal would obey, as the ids and names that others gave may hold, written out.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let shown =
        |char: char| if is_obeyed(char) { char.escape_unicode().to_string() } else { char.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Whether a terminal acts on a character instead of showing it: controls, and marks that turn text around.
fn is_obeyed(char: char) -> bool {
    match char {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => char.is_control(),
    }
}

/// Prints a line on standard output; gives `status`, or 1 if that fails.
///
/// A reader that stopped listening is no failure.
pub(crate) fn print_line(line: &str, status: u8) -> u8 {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tell(format_args!("error[io] cannot write to standard output: {error}\n"));
            1
        }
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let cases = [
            ("a\tb\nc é", "a\tb\nc é"),
            ("\u{1b}[2J\r\u{7}", "\\u{1b}[2J\\u{d}\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("txt.\u{202e}gpj\u{2066}", "txt.\\u{202e}gpj\\u{2066}"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected);
        }
    }
}
