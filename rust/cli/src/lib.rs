//! The command line of preparation: one library, two doors.
//!
//! The binary `triptych-prep` and the wheel's `triptych prep` both call [`run`].
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line talks

use std::ffi::OsString;

/// Runs the command line and returns its exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let _ = args.into_iter().count();
    println!("triptych-prep {}", triptych_core::VERSION);
    0
}
