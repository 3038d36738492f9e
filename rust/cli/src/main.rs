//! `triptych-prep`: preparation without Python.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    take_small_pages();
    triptych_cli::run(std::env::args_os()).into()
}

/// Memory of this process comes in pages of 4 KiB, whatever the allocator asks for.
///
/// Pages of 2 MiB, which mimalloc asks for, gain 1 to 6 % where memory is in one piece. After other programs it is not,
/// and the kernel has to move what lies between: of 274 MB of `seed`, 1.23 s became 1.5 to 1.7 s, with small pages 1.33 s.
fn take_small_pages() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true); // a kernel without it goes on as it is
}
