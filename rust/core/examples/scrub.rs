//! Applies a policy with all kinds on to the `text` of every line of a JSONL file, on one thread, and
//! prints megabytes of text a second and the number of matches, a line a round.
//!
//! `cargo run --release --example scrub -- FILE.jsonl [ROUNDS]`
#![allow(clippy::print_stdout)]

use std::time::Instant;

use triptych_core::pii::{Action, KindCounts, Policy, PolicyConfig, Scratch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: scrub FILE.jsonl [ROUNDS]")?;
    let rounds: usize = arguments.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let lines = std::fs::read_to_string(path)?;
    let texts = lines.lines().map(|line| {
        let record: serde_json::Value = serde_json::from_str(line)?;
        Ok(record["text"].as_str().unwrap_or_default().to_owned())
    });
    let texts = texts.collect::<Result<Vec<String>, serde_json::Error>>()?;
    let policy = Policy::new(&PolicyConfig::all(Action::Placeholder))?;
    let bytes: usize = texts.iter().map(String::len).sum();
    let mut scratch = Scratch::default();
    for _ in 0..rounds {
        let (mut counts, start) = (KindCounts::default(), Instant::now());
        for text in &texts {
            let _dropped = std::hint::black_box(policy.apply(text, &mut scratch, &mut counts));
        }
        let matches: u64 = counts.iter().map(|(_, count)| count).sum();
        println!("{:.1} MB/s\t{matches} matches", bytes as f64 / 1e6 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
