//! A run that is killed at any moment, again and again, and started again each time ends in
//! the same bytes as one that was left alone.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Six megabytes: a second of an unoptimised build.
const DOCUMENTS: usize = 6000;

/// Numbers that look random, the same in each test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Documents with addresses, of which every seventh repeats an earlier one, and some bad lines.
fn write_corpus(path: &Path) {
    let mut random = Random(1);
    let mut lines = String::new();
    let mut texts = Vec::new();
    for number in 0..DOCUMENTS {
        if number % 7 == 6 {
            let text: &String = &texts[random.below(texts.len() as u64) as usize];
            writeln!(lines, "{{\"text\": \"{text}\"}}").unwrap();
            continue;
        }
        if number % 50 == 3 {
            lines.push_str("{\"text\": \"no end\n");
        }
        let words: Vec<String> = (0..160).map(|_| format!("w{}", random.below(50_000))).collect();
        texts.push(format!("{} someone{number}@example.org", words.join(" ")));
        writeln!(lines, "{{\"id\": {number}, \"text\": \"{}\"}}", texts.last().unwrap()).unwrap();
    }
    fs::write(path, lines).unwrap();
}

fn start(input: &Path, output: &Path, options: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_triptych-prep"));
    command.args(["run", "--set", "shard_bytes=400000", "--max-bad", "1", "--input"]).arg(input);
    command.arg("--output").arg(output).args(options);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Every file of a folder, by name.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Starts the run until it ends by itself; each time it is killed after a part of what one whole run took.
fn run_under_fire(
    input: &Path,
    output: &Path,
    options: &[&str],
    whole: Duration,
    random: &mut Random,
) -> u32 {
    let mut kills = 0;
    loop {
        let mut child = start(input, output, options);
        let most = whole.as_micros() as u64 * (4 + u64::from(kills)) / 8; // longer each time, so that it ends
        let deadline = Instant::now() + Duration::from_micros(random.below(most));
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return kills;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if output.exists() {
            return kills; // killed after the folder had its name: it is complete
        }
        kills += 1;
    }
}

#[test]
fn a_run_that_is_killed_at_random_and_started_again_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    write_corpus(&input);
    let mut random = Random(2);
    let mut kills = 0;
    for (name, options) in [
        ("zst", &["--threads", "2"][..]),
        ("jsonl", &["--threads", "1", "--format", "jsonl"]),
        ("parquet", &["--threads", "3", "--format", "parquet"]),
    ] {
        let (alone, killed) = (dir.path().join(name), dir.path().join(format!("{name}-killed")));
        let began = Instant::now();
        assert!(start(&input, &alone, options).wait().unwrap().success());
        kills += run_under_fire(&input, &killed, options, began.elapsed(), &mut random);
        assert!(contents(&alone) == contents(&killed), "{name}");
    }
    assert!(kills >= 3, "{kills} kills are too few to show anything");
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_of_resources() {
    let dir = tempfile::tempdir().unwrap();
    write_corpus(&dir.path().join("in.jsonl"));
    for format in ["jsonl.zst", "jsonl", "parquet"] {
        let mut shell = Command::new("sh");
        let limited = "ulimit -f 256; exec \"$0\" run --max-bad 1 --input in.jsonl --output out --format $1";
        let arguments = ["-c", limited, env!("CARGO_BIN_EXE_triptych-prep"), format];
        let done = shell.current_dir(dir.path()).args(arguments).output().unwrap();
        let told = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(5), "{format}: {told}");
        assert!(told.contains("error[resource] cannot write") && told.contains(".tmp-out"), "{told}");
        assert!(!told.contains("External"), "{told}");
    }
}
