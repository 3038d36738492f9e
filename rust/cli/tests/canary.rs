//! Personal data that goes into a run comes out nowhere: not in the documents, the ledger, the
//! quarantine or the manifest, not on standard output, not in an error or a warning.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A value of every kind, unique, and made up; checksums are right.
const CANARIES: [&str; 10] = [
    "kanari.4471@canary-host.org",
    "(415) 555-4471",
    "203.44.171.9",
    "2001:db8:4471::ca9a",
    "521-44-7193",
    "4471 8800 4471 8804",
    "DE16 4471 0044 7100 4471 00",
    "a4:47:1c:a9:a4:47",
    "0x44714471ca9a4471ca9a44714471ca9a44714471",
    "ghp_C4n4rYq7Zp2LxW9vKd4TnRs8YbHc3MfGj6Ae",
];

/// Prose that every profile keeps, with the values in it.
fn prose(seed: usize) -> String {
    let sentence = |index: usize| {
        let canary = CANARIES[index % CANARIES.len()];
        let own: Vec<String> = (0..9).map(|word| format!("of{seed}and{index}the{word}")).collect();
        format!("The clerk wrote to us that {canary} was with {} and that we have it. ", own.join(" "))
    };
    (0..30).map(sentence).collect()
}

/// Documents that are kept, too short, repeated, and lines that are none: each with every value.
fn write_corpus(path: &Path) {
    let all = CANARIES.join(" ");
    let document = |text: &str| format!("{{\"text\": {text:?}}}");
    let mut lines: Vec<String> = (0..4).map(|seed| document(&prose(seed))).collect();
    lines.push(document(&prose(0)));
    lines.push(document(&all));
    lines.push(format!("{{\"text\": \"{all}"));
    lines.push(format!("{{\"text\": [\"{all}\"]}}"));
    lines.push(format!("{{\"{all}\": 1}}"));
    lines.push(format!("[\"{all}\"]"));
    lines.push(all);
    fs::write(path, lines.join("\n") + "\n\u{0}\n").unwrap();
}

fn run(folder: &Path, name: &str, profile: &str, pii: &str) -> (PathBuf, Output) {
    let (input, output, config) =
        (folder.join("in.jsonl"), folder.join(name), folder.join(format!("{name}.toml")));
    write_corpus(&input);
    fs::write(&config, format!("max_bad = 1.0\nmin_length = 5\nprofile = \"{profile}\"\n[pii]\n{pii}\n"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_triptych-prep"));
    command.arg("run").arg("--input").arg(input).arg("--output").arg(&output).arg("--config").arg(config);
    command
        .args(["--format", "jsonl", "--threads", "2", "--json"])
        .env("CANARY_KEY", "kanari-key-of-24-bytes!!");
    (output, command.output().unwrap())
}

/// The parts of the values that tell them: no spelling of ours holds them by chance.
fn betrays(bytes: &[u8]) -> Option<&'static str> {
    let told = [
        "kanari",
        "555-4471",
        "203.44.171",
        "4471::ca9a",
        "44-7193",
        "4471 8800",
        "4471 0044",
        "a4:47:1c",
        "44714471",
        "C4n4rY",
    ];
    told.into_iter().find(|told| bytes.windows(told.len()).any(|window| window == told.as_bytes()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn no_value_of_any_kind_comes_out_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let policies = [
        ("placeholder", "default = \"placeholder\""),
        ("redact", "default = \"redact\""),
        ("pseudonym", "default = \"pseudonym\"\nkey_env = \"CANARY_KEY\""),
        ("drop", "default = \"drop\""),
        (
            "mixed",
            "default = \"placeholder\"\nsecret = \"drop\"\nemail = \"pseudonym\"\nkey_env = \"CANARY_KEY\"",
        ),
    ];
    for (name, pii) in policies {
        for profile in ["seed", "native"] {
            let (output, done) = run(folder.path(), &format!("{name}-{profile}"), profile, pii);
            let place = format!("{name}, {profile}: {}", String::from_utf8_lossy(&done.stderr));
            assert_eq!(betrays(&done.stdout), None, "standard output, {place}");
            assert_eq!(betrays(&done.stderr), None, "standard error, {place}");
            if output.is_dir() {
                for file in files(&output) {
                    assert_eq!(betrays(&fs::read(&file).unwrap()), None, "{}, {place}", file.display());
                }
            }
            if profile == "seed" && name == "placeholder" {
                assert!(done.status.success(), "{place}");
                let quarantine = fs::read_to_string(output.join("quarantine.jsonl")).unwrap();
                assert!(quarantine.lines().count() >= 5, "{quarantine}");
                let kept = fs::read_to_string(output.join("00000.jsonl")).unwrap();
                assert!(kept.lines().count() >= 4 && kept.contains("[IBAN]"), "{kept:.300}");
            }
        }
    }
}

#[test]
fn no_value_comes_out_with_an_error_of_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for pii in
        ["default = \"placeholder\"\nkanary = \"drop\"", "default = \"pseudonym\"", "email = \"shred\""]
    {
        let (output, done) = run(folder.path(), "refused", "seed", pii);
        assert_eq!(done.status.code(), Some(2), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(betrays(&[done.stdout, done.stderr].concat()), None);
        assert!(!output.exists());
    }
}
