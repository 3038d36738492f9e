//! How a command ends: what it prints, and its exit status.

use std::io::{self, Write};

use triptych_core::Error;

/// Finished, with more bad records than allowed.
pub(crate) const TOO_MANY_BAD: u8 = 3;

/// Prints the error with its hint and gives its exit status.
pub(crate) fn failed(error: &Error) -> u8 {
    eprintln!("error[{}] {error}", error.code());
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
    error.exit_status()
}

/// Prints a line on standard output; gives `status`, or 1 if that fails.
///
/// A reader that stopped listening is no failure.
pub(crate) fn print_line(line: &str, status: u8) -> u8 {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error[io] cannot write to standard output: {error}");
            1
        }
        _ => status,
    }
}
