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
    let is_obeyed = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let shown =
        |char: char| if is_obeyed(char) { char.escape_unicode().to_string() } else { char.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
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
