//! JSON lines: what ends a line, what is too long, and that reading in pieces changes nothing.

use proptest::prelude::*;

use crate::case::{case, Case};
use crate::feed::{feed, LIMITS};
use crate::sample::gzip;

const ONE: &str = "{\"text\":\"one\"}";
const TWO: &str = "{\"text\":\"two\"}";

#[test]
fn only_a_line_feed_ends_a_line() {
    let both = ["one", "two"];
    let cases = [
        case("no line end at the end", "a.jsonl", format!("{ONE}\n{TWO}")).texts(&both),
        case("CR LF", "a.jsonl", format!("{ONE}\r\n{TWO}\r\n")).texts(&both),
        case("a lone CR is white space", "a.jsonl", format!("{ONE}\r\n\r{TWO}\r")).texts(&both),
        case("a mark of UTF-8", "a.jsonl", format!("\u{feff}{ONE}\n{TWO}\n")).texts(&both),
        case("nothing but a mark", "a.jsonl", "\u{feff}"),
        case("only line ends", "a.jsonl", "\n\r\n\n \n"),
        case("empty lines between", "a.jsonl", format!("\n\n{ONE}\n \t\n{TWO}\n\n")).texts(&both),
        case("other line ends in a text", "a.jsonl", "{\"text\":\"a\u{2028}b\u{85}c\"}")
            .texts(&["a\u{2028}b\u{85}c"]),
        case("UTF-16, big-endian", "a.jsonl", &b"\xfe\xff\0{\0}"[..]).bad(&["UTF-16, big-endian"]),
        case("UTF-32", "a.jsonl", &b"\xff\xfe\0\0{\0\0\0}\0\0\0"[..]).bad(&["UTF-32, little-endian"]),
        case("UTF-32, big-endian", "a.jsonl", &b"\0\0\xfe\xff\0\0\0{"[..]).bad(&["UTF-32, big-endian"]),
        case("tar under a plain name", "a.jsonl", tar()).bad(&["tar archive: unpack it"]),
        case("lz4", "a.jsonl", &b"\x04\x22\x4d\x18rest"[..]).bad(&["lz4, which is not read"]),
        case("PDF", "a.txt", &b"%PDF-1.7"[..]).bad(&["a PDF"]),
    ];
    cases.into_iter().for_each(Case::check);
}

fn tar() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..5].copy_from_slice(b"a.txt");
    bytes[257..262].copy_from_slice(b"ustar");
    bytes
}

#[test]
fn a_line_that_is_too_long_costs_itself_wherever_it_stands_and_however_it_ends() {
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(3 * LIMITS.max_line_bytes));
    let cases = [
        case("first", "a.jsonl", format!("{long}\n{ONE}\n{TWO}")).texts(&["one", "two"]),
        case("between", "a.jsonl", format!("{ONE}\n{long}\n{TWO}\n")).texts(&["one", "two"]),
        case("last", "a.jsonl", format!("{ONE}\n{TWO}\n{long}\n")).texts(&["one", "two"]),
        case("without an end", "a.jsonl", format!("{ONE}\n{TWO}\n{long}")).texts(&["one", "two"]),
        case("compressed", "a.jsonl.gz", gzip(format!("{ONE}\n{long}\n{TWO}\n").as_bytes()))
            .texts(&["one", "two"]),
    ];
    for case in cases {
        case.bad(&["the line is too long: at most 1048576 bytes, found"]).check();
    }
    case("two", "a.jsonl", format!("{long}\n{long}\n{ONE}")).texts(&["one"]).bad(&["is too long"; 2]).check();
    let given = feed("a.jsonl", format!("{ONE}\n{long}\n{TWO}").as_bytes()).unwrap();
    assert_eq!((given.bad[0].line, given.bad[0].byte), (2, ONE.len() as u64 + 1));
    assert!(given.bad[0].reason.ends_with(&format!("found {}", long.len() + 1)), "{}", given.bad[0].reason);
    assert_eq!(given.records.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn blocks_joined_are_the_file_but_for_what_is_too_long(
        lengths in prop::collection::vec(prop_oneof![0..200_usize, 100_000..400_000_usize, 1_040_000..1_060_000_usize], 0..12),
        has_end in any::<bool>()
    ) {
        let lines: Vec<String> = lengths.iter().enumerate().map(|(number, length)| {
            format!("{{\"text\":\"{number} {}\"}}", "y".repeat(*length))
        }).collect();
        let file = lines.join("\n") + if has_end { "\n" } else { "" };
        let given = feed("a.jsonl", file.as_bytes()).unwrap();
        // A line over the limit that lies in one block with its end is told apart later, by the length of the line.
        let (mut records, mut bad) = (given.records.iter().peekable(), given.bad.iter().peekable());
        let mut offset = 0;
        for (number, line) in (1..).zip(&lines) {
            if records.next_if(|(found, _)| *found == number).is_none() {
                let lost = bad.next_if(|bad| bad.line == number && bad.byte == offset);
                prop_assert!(lost.is_some() && line.len() >= LIMITS.max_line_bytes, "line {number} of {}", line.len());
            }
            offset += line.len() as u64 + 1;
        }
        prop_assert!(records.next().is_none() && bad.next().is_none());
    }
}
