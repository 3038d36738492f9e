//! Names the language of every line of standard input: `code<tab>score`.
//!
//! `cargo run --release --example identify -- [MODEL.bin|MODEL.ftz] < lines.txt`; with `--time` it
//! judges the lines twenty times over and prints megabytes a second instead.
#![allow(clippy::print_stdout)]

use std::io::Read;
use std::time::Instant;

use triptych_core::language::{Identifier, Scratch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let identifier = match arguments.iter().find(|argument| *argument != "--time") {
        Some(path) => Identifier::open(path.as_ref())?,
        None => Identifier::built_in(),
    };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let lines: Vec<&str> = text.trim_end_matches('\n').split('\n').collect();
    if arguments.iter().any(|argument| argument == "--time") {
        println!("{:.0} MB/s", megabytes_per_second(&identifier, &lines));
        return Ok(());
    }
    let mut scratch = Scratch::default();
    let answers = lines.iter().map(|line| {
        let (code, score) = identifier.identify(line, &mut scratch);
        format!("{code}\t{score:.7}\n")
    });
    print!("{}", answers.collect::<String>());
    Ok(())
}

fn megabytes_per_second(identifier: &Identifier, lines: &[&str]) -> f64 {
    const ROUNDS: usize = 20;
    let (mut scratch, start) = (Scratch::default(), Instant::now());
    for line in (0..ROUNDS).flat_map(|_| lines) {
        std::hint::black_box(identifier.identify(line, &mut scratch));
    }
    let bytes = ROUNDS * lines.iter().map(|line| line.len()).sum::<usize>();
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}
