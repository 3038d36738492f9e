//! Time is linear in the text, whatever the text: every rule, pattern and reader runs over every adversarial
//! text at 64 and 256 KiB, and each of the two doublings may take at most 2.3 times as long.
//!
//! What is measured is the time that the thread ran, the least of several runs; a doubling that looks too slow is measured
//! again, since a quadratic rule stays too slow (4 times a doubling) and a busy machine does not.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use triptych_core::document::{Fallback, Record};
use triptych_core::language::{self, Identifier};
use triptych_core::pii::{self, Action, KindCounts, Policy, PolicyConfig};
use triptych_core::profile::{Profile, Scratch};
use triptych_core::quality::{Bound, RuleConfig, SeedRules, FEATURES};
use triptych_core::read::{self, Limits};
use triptych_core::tokenize::{train, TrainConfig};

/// Longest time of a doubling, in times of what was doubled.
const MAX_RATIO: f64 = 2.3;

/// The shorter text; the longer one is two doublings longer: 64 and 256 KiB.
const SMALL_BYTES: usize = 64 << 10;

/// Times that a text is measured which seems to take too long: other guests of one host can slow it for a second.
const NUM_RUNS: usize = 40;

/// Times below which the clock is too coarse and caches decide.
const SLACK: Duration = Duration::from_millis(8);

/// Pieces that, repeated, make a machine that looks back, looks ahead or starts again quadratic.
const COMMON: &[&str] = &[
    "a",
    "A",
    " ",
    "\n",
    "\t",
    "0",
    ".",
    "-",
    "@",
    ":",
    "/",
    "\\",
    "\"",
    "'",
    "<",
    "&",
    "(",
    "{",
    "[",
    "a.",
    "1.",
    "a a ",
    "^",
    "\r\n",
    "é",
    "e\u{301}",
    "\u{202e}",
    "👨\u{200d}",
    "中",
    "\u{e000}",
    "\u{a0}\u{85}",
];

/// The same for what looks for addresses, numbers and keys.
const ADDRESSES: &[&str] = &[
    "1 ",
    "%",
    "_",
    "a.a@",
    "a@",
    "@a",
    "a@b.",
    "a@b.c",
    "x at y dot ",
    "+1 ",
    "+1-",
    "(1",
    "1-2-3",
    "123-45-",
    "1.1.1.",
    "1.1.1.1",
    "::",
    "a:",
    "1:2:",
    "00:",
    "4111 ",
    "4111-1111-",
    "DE89 ",
    "GB82WEST",
    "0x",
    "0xdead",
    "bc1q",
    "sk-",
    "sk_live_",
    "AKIA",
    "ghp_",
    "xoxb-",
    "eyJ",
    "eyJa.",
    "-----BEGIN ",
    "password=",
    "token: \"",
    "://",
    "a://b",
    "a://b:c@",
    "7",
    "a@a.",
    "123-",
    "٣",
    "é@b.",
    "a@b.com",
    "12 ",
    "123 ",
    "+1",
    "f:f",
    "ab-",
    "-----BEGIN PRIVATE KEY-----\n",
    "://a:",
    "password ",
    "glpat-",
    "hvs.",
    "GB29",
    "GB29 ",
    "1A",
    "bc1",
    "tel 1",
    "a at ",
    " dot ",
];

/// The same for what splits and counts words, lines and sentences.
const PROSE: &[&str] = &[
    "http://",
    "www.",
    "lorem ipsum",
    "lorem ipsum dolor\n",
    "same line\n",
    "one two three ",
    "a\n\n",
    "• ",
    "...\n",
    "…",
    "Mr. ",
    "e.g. ",
    "'s ",
    "don't",
    ":-)",
    "n't",
    "1,000.",
    "中。",
    "あ",
    "İ",
    "ß",
    "javascript ",
    "{{",
    "<|endoftext|>",
    "a line\n",
    "word ",
    "ab c a bc ",
    "[1",
    "É",
    "# ",
    "a.com.",
    "@.",
];

/// The same for readers of pages.
const MARKUP: &[&str] = &[
    "<div>",
    "</div>",
    "<p>",
    "<b>",
    "<a href=x>",
    "<li>",
    "<ul><li>",
    "<table><tr><td>",
    "<td>",
    "<br>",
    "<!--",
    "<![CDATA[",
    "<!",
    "<?",
    "&amp",
    "&#",
    "&#x",
    "<a b=c ",
    "<a b=\"",
    "<script>",
    "<title>",
    "<pre>",
    "<svg>",
    "<form>",
    "<b class=nav>",
    "<div style='display:none'>",
    "<select><option>",
    "</p>",
    "<h1>",
    "<dl><dt>",
    "x<",
    "WARC/1.0\r\n",
    "\nWARC/1.0",
    "WARC/9.0\r\n\r\n",
    "\r\n\r\n",
    "</span></div>",
    "<li></li>",
];

/// The same for JSON.
const QUOTED: &[&str] = &["{\"a\":", "\\u00", "\\ud83d", "{\"text\":\"", "\"a\":1,", "[0,"];

/// Long beginnings, each with many ends of another kind behind it.
const ENDS: &[(&str, &str)] = &[
    ("a", "@"),
    ("a.", "@b"),
    ("1.", " "),
    ("(", ")"),
    ("{\"a\":", "1"),
    ("<div>", "</table>"),
    ("\"", "\""),
];

/// The texts of a table, about `bytes` long, with their names.
fn texts(units: &[&str], bytes: usize) -> Vec<(String, String)> {
    let repeated =
        COMMON.iter().chain(units).map(|unit| (format!("{unit:?}"), unit.repeat(bytes / unit.len())));
    let ended = ENDS.iter().map(|(unit, end)| {
        let text = unit.repeat(bytes / unit.len() / 2) + &end.repeat(bytes / end.len() / 2);
        (format!("{unit:?}, then {end:?}"), text)
    });
    // All words differ: what counts or remembers words is at its largest.
    let mut words = String::new();
    for number in 0..bytes / 8 {
        write!(words, "w{number:06x} ").unwrap();
    }
    let lines = words.replace(' ', "\n");
    let different = [("different words".to_owned(), words), ("different lines".to_owned(), lines)];
    repeated.chain(ended).chain(different).collect()
}

/// How long this thread has run. Elsewhere than on Linux, wall time.
fn thread_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Linux brings a thread's account up to date when it stops, else only at every tick.
    std::thread::sleep(Duration::from_micros(1));
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = account.split(' ').next().and_then(|time| time.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn time(task: &mut dyn FnMut(&str), text: &str) -> Duration {
    let before = thread_time();
    task(text);
    thread_time().saturating_sub(before)
}

/// The first text for which doubling takes too long, however often it is measured.
fn superlinear(units: &[&str], task: &mut dyn FnMut(&str)) -> Option<String> {
    let (small, large) = (texts(units, SMALL_BYTES), texts(units, 4 * SMALL_BYTES));
    small.iter().zip(&large).find_map(|((name, small), (_, large))| {
        let mut least = [Duration::MAX; 2];
        // Once is enough where all is well: the least of several runs can only be less.
        for _ in 0..NUM_RUNS {
            least = [least[0].min(time(task, small)), least[1].min(time(task, large))];
            if least[1] <= least[0].mul_f64(MAX_RATIO * MAX_RATIO) + SLACK {
                return None;
            }
        }
        Some(format!("{name}: {least:?}"))
    })
}

fn assert_linear(units: &[&str], mut task: impl FnMut(&str)) {
    assert_eq!(superlinear(units, &mut task), None);
}

#[test]
fn a_quadratic_twin_is_found_out() {
    // At every 400th full stop it looks back to the beginning of the word, as a careless address finder does.
    let mut twin = |text: &str| {
        let stops = text.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at).step_by(400);
        let word = |at: usize| text.as_bytes()[..at].iter().rev().take_while(|byte| **byte != b' ').count();
        black_box(stops.map(word).max());
    };
    assert!(superlinear(&[], &mut twin).unwrap().starts_with("\".\""));
}

fn profile(name: &str) -> impl FnMut(&str) {
    let profile = Profile::named(name, SeedRules { min_length: 1, max_length: 1 << 20 }, 13).unwrap();
    run(profile)
}

fn run(profile: Profile) -> impl FnMut(&str) {
    let (mut scratch, mut ngrams) = (Scratch::default(), Vec::new());
    move |text| {
        ngrams.clear();
        let _ = black_box(profile.prepare(text, &mut scratch, &mut ngrams));
    }
}

#[test]
fn the_seed_profile_and_its_n_grams() {
    assert_linear(&[ADDRESSES, PROSE].concat(), profile("seed"));
    assert_linear(PROSE, profile("dedup"));
}

#[test]
fn the_quality_profiles() {
    for name in ["gopher", "gopher-repetition", "c4", "fineweb", "dolma", "dclm", "native"] {
        assert_linear(PROSE, profile(name));
    }
}

#[test]
fn every_feature() {
    let rules = FEATURES.iter().map(|(name, _)| {
        Bound::from_config(&RuleConfig {
            name: None,
            feature: (*name).to_owned(),
            min: Some(-1e300),
            max: None,
        })
    });
    assert_linear(PROSE, run(Profile::default().with_rules(rules.map(Result::unwrap).collect())));
}

#[test]
fn every_kind_of_personal_data() {
    let mut config = PolicyConfig::all(Action::Placeholder);
    config.email = Some(pii::EmailSetting { action: Action::Placeholder, obfuscated: true });
    let policy = Policy::new(&config).unwrap();
    let mut scratch = pii::Scratch::default();
    assert_linear(ADDRESSES, |text| {
        let _ = black_box(policy.apply(text, &mut scratch, &mut KindCounts::default()));
    });
}

#[test]
fn the_language() {
    let fasttext = "../../tests/cases/fasttext/softmax_quantised.ftz";
    let fasttext = Identifier::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(fasttext)).unwrap();
    for identifier in [Identifier::built_in(), fasttext] {
        let mut scratch = language::Scratch::default();
        assert_linear(PROSE, |text| {
            black_box(identifier.identify(text, &mut scratch));
        });
    }
}

#[test]
fn html_and_its_charset() {
    assert_linear(MARKUP, |text| {
        black_box(read::extract(text));
    });
    let mut bytes = Vec::new();
    assert_linear(&[], |text| {
        bytes.clear();
        bytes.extend_from_slice(b"\xff"); // no UTF-8: the charset is guessed
        bytes.extend_from_slice(text.as_bytes());
        black_box(read::decode(&bytes, Some("latin9"), true));
        black_box(read::decode(&bytes, None, true));
    });
    let mut bytes = Vec::new();
    for label in ["utf-8", "iso-2022-jp", "euc-kr", "utf-16"] {
        assert_linear(&[], |text| {
            bytes.clear();
            bytes.extend(text.bytes().map(|byte| byte | 0x80)); // hardly a sequence that is well formed
            black_box(read::decode(&bytes, Some(label), true));
        });
    }
}

#[test]
fn a_line_of_json_as_it_is_and_with_the_text_as_a_value() {
    let fallback = Fallback { file_name: "a", line: 1, source: "a" };
    let (mut line, mut out) = (Vec::new(), Vec::new());
    assert_linear(QUOTED, |text| {
        let _ = black_box(Record::parse(text.as_bytes(), "text"));
        line.clear();
        line.extend_from_slice(b"{\"text\":");
        serde_json::to_writer(&mut line, text).unwrap();
        line.push(b'}');
        out.clear();
        Record::parse(&line, "text").unwrap().write(Some(text), fallback, &mut out);
    });
}

#[test]
fn every_reader_of_text() {
    let memory = std::path::Path::new("/dev/shm"); // where there is one, the disk is left out
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let limits =
        Limits { max_line_bytes: 1 << 20, max_file_bytes: 1 << 30, max_expansion: 1000, num_threads: 0 };
    for name in ["a.jsonl", "a.txt", "a.html", "a.warc", "b.warc", "a.arrow"] {
        let path = dir.path().join(name);
        let units = if name.ends_with("warc") || name == "a.html" { MARKUP } else { &[] };
        assert_linear(units, |text| {
            let mut file = std::fs::File::create(&path).unwrap();
            if name == "b.warc" {
                write!(
                    file,
                    "WARC/1.0\r\nWARC-Type: response\r\nContent-Length: {}\r\n\r\n",
                    text.len() + 19
                )
                .unwrap();
                file.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            }
            file.write_all(text.as_bytes()).unwrap();
            let Ok(mut reader) = read::open(&path, "text", limits) else { return };
            while reader.next_block().unwrap().is_some() {}
        });
    }
}

#[test]
fn a_line_of_many_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_line_bytes: usize::MAX >> 1,
        max_file_bytes: u64::MAX,
        max_expansion: 1000,
        num_threads: 0,
    };
    let mut read_line = |mebibytes: &str| {
        let path = dir.path().join(format!("{mebibytes}.jsonl"));
        let mut reader = read::open(&path, "text", limits).unwrap();
        while reader.next_block().unwrap().is_some() {}
    };
    let sizes = ["32", "128"];
    for size in sizes {
        let path = dir.path().join(format!("{size}.jsonl"));
        std::fs::write(path, vec![b'a'; size.parse::<usize>().unwrap() << 20]).unwrap();
    }
    let mut least = [Duration::MAX; 2];
    let is_linear = (0..NUM_RUNS).any(|_| {
        least = [0, 1].map(|index| least[index].min(time(&mut read_line, sizes[index])));
        least[1] <= least[0].mul_f64(MAX_RATIO * MAX_RATIO) + SLACK
    });
    assert!(is_linear, "{least:?}");
}

#[test]
fn the_tokenizer_on_one_word_as_long_as_the_text() {
    let text = "aaaaaaaa éééé 日日日日 1111 \n\n\n\n    ''''".repeat(50);
    let config = TrainConfig { vocab_size: 320, ..TrainConfig::default() };
    let tokenizer = train(std::iter::once(Ok(text)), &config, &mut |_, _| {}).unwrap();
    let mut encode = |text: &str| {
        black_box(tokenizer.encode(text, false).unwrap());
    };
    assert_linear(PROSE, &mut encode);
    for unit in ["a", " ", "é", "日", "👨", "\n", "1", "'"] {
        let [half, whole] = [1 << 19, 1 << 20].map(|bytes| unit.repeat(bytes / unit.len()));
        let mut least = [Duration::MAX; 2];
        let is_linear = (0..NUM_RUNS).any(|_| {
            least = [least[0].min(time(&mut encode, &half)), least[1].min(time(&mut encode, &whole))];
            least[1] <= least[0].mul_f64(MAX_RATIO)
        });
        assert!(is_linear, "{unit:?}: {least:?}");
    }
}
