//! `triptych-prep`: preparation without Python.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    triptych_cli::run(std::env::args_os()).into()
}
