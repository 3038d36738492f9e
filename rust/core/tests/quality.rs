//! The quality profiles against tables that datatrove wrote (`tests/parity`), and in chains.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::collections::{HashMap, HashSet};
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use triptych_core::profile::{Profile, Scratch};
use triptych_core::quality::{
    Bound, PhraseList, PhraseListConfig, RuleConfig, SeedRules, Workspace, FEATURES,
};
use triptych_core::text::{english, Views};
use triptych_core::Result;

fn profile(names: &str) -> Result<Profile> {
    Profile::named(names, SeedRules { min_length: 1, max_length: 4096 }, 13)
}

/// The text kept, or the reason.
fn judge(profile: &Profile, text: &str) -> std::result::Result<String, String> {
    let found = profile.prepare(text, &mut Scratch::default(), &mut Vec::new());
    found.map(std::borrow::Cow::into_owned).map_err(|reason| reason.name().to_owned())
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Pieces of the text, and how often each stands.
    parts: Vec<(String, usize)>,
    reason: Option<String>,
    /// The text kept, where that is not the text.
    expected: Option<String>,
}

fn holds_table(file: &str, names: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(file);
    let profile = profile(names).unwrap();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let text: String = case.parts.iter().map(|(part, count)| part.repeat(*count)).collect();
        let expected = case.reason.map_or_else(|| Ok(case.expected.unwrap_or_else(|| text.clone())), Err);
        assert_eq!(judge(&profile, &text), expected, "{names}: {}", case.name);
    }
}

#[test]
fn gopher_decides_as_its_table_says() {
    holds_table("gopher.jsonl", "gopher");
}

#[test]
fn repetition_decides_as_its_table_says() {
    holds_table("gopher_repetition.jsonl", "gopher-repetition");
}

#[test]
fn c4_decides_and_edits_as_its_table_says() {
    holds_table("c4.jsonl", "c4");
}

#[test]
fn fineweb_decides_as_its_table_says() {
    holds_table("fineweb.jsonl", "fineweb");
}

#[test]
fn datatrove_pii_edits_as_its_table_says() {
    holds_table("datatrove_pii.jsonl", "datatrove-pii");
}

#[test]
fn dolma_decides_and_edits_as_its_table_says() {
    holds_table("dolma.jsonl", "dolma");
}

#[test]
fn dclm_decides_and_edits_as_its_table_says() {
    holds_table("dclm.jsonl", "dclm");
}

const PAGE: &str =
    "The black cat sat all day on the old mat.\nMenu\nA brown dog ran all the way to the house.\n\
                    It was very late in the day when it came.\nWe all went home with it in the morning.\n\
                    That was the end of the story of the dog.\n";

#[test]
fn a_chain_passes_the_edited_text_on_and_stops_at_the_first_broken_rule() {
    let chain = profile("c4,fineweb").unwrap();
    assert_eq!(judge(&chain, PAGE).unwrap(), PAGE.replace("Menu\n", "").trim_end());
    assert_eq!(judge(&profile("gopher,c4").unwrap(), "A cat sat.").unwrap_err(), "gopher_short_doc");
    assert_eq!(judge(&profile("c4,gopher").unwrap(), "A cat sat.").unwrap_err(), "too_few_sentences");
    // Deduplication sees the edited text, one word shorter.
    let ngrams = |names: &str| {
        let mut ngrams = Vec::new();
        Profile { ngram: Some(3), ..profile(names).unwrap() }
            .prepare(PAGE, &mut Scratch::default(), &mut ngrams)
            .unwrap();
        ngrams
    };
    assert_ne!(ngrams("c4"), ngrams("dedup"));
}

#[test]
fn a_name_that_no_profile_has_suggests_the_nearest() {
    let error = profile("gopher,fineweeb").unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `fineweb`?"));
}

fn rule(feature: &str, min: Option<f64>, max: Option<f64>, name: Option<&str>) -> RuleConfig {
    RuleConfig { name: name.map(str::to_owned), feature: feature.to_owned(), min, max }
}

#[test]
fn a_rule_of_the_users_own_passes_its_bounds_and_gives_its_name() {
    let own = |min, max, name| {
        let rule = Bound::from_config(&rule("num_lines", min, max, name)).unwrap();
        judge(&Profile::default().with_rules(vec![rule]), "one\ntwo\nthree")
    };
    assert!(own(Some(3.0), Some(3.0), None).is_ok());
    assert_eq!(own(Some(4.0), None, None).unwrap_err(), "num_lines");
    assert_eq!(own(None, Some(2.0), Some("tall")).unwrap_err(), "tall");
}

#[test]
fn a_rule_without_bounds_or_with_an_unknown_feature_is_refused() {
    assert_eq!(Bound::from_config(&rule("num_lines", None, None, None)).unwrap_err().exit_status(), 2);
    assert_eq!(
        Bound::from_config(&rule("num_lines", Some(3.0), Some(2.0), None)).unwrap_err().exit_status(),
        2
    );
    let error = Bound::from_config(&rule("num_linse", Some(1.0), None, None)).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `num_lines`?"));
}

#[test]
fn every_feature_stands_in_the_documentation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/quality.md");
    let docs = std::fs::read_to_string(path).unwrap();
    for (name, _) in FEATURES {
        assert!(docs.contains(&format!("| `{name}` |")), "{name}");
    }
}

/// What Gopher measures, word by word as datatrove writes it.
fn naive(text: &str, n: usize) -> (usize, usize) {
    let mut spans = Vec::new();
    english::words(text, &mut spans);
    let words: Vec<&str> = spans.iter().map(|(start, end)| &text[*start..*end]).collect();
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for (at, window) in words.windows(n).enumerate() {
        counts.entry(window.join(" ")).or_insert((0, at)).0 += 1;
    }
    let top = counts.iter().max_by_key(|(_, (count, first))| (*count, usize::MAX - first));
    let top_chars = top.map_or(0, |(gram, (count, _))| gram.chars().count() * count);
    let (mut seen, mut at, mut repeated) = (HashSet::new(), 0, 0);
    while at + n <= words.len() {
        let joined = words[at..at + n].concat();
        let chars = joined.chars().count();
        if seen.insert(joined) {
            at += 1;
        } else {
            repeated += chars;
            at += n;
        }
    }
    (top_chars, repeated)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn repeated_ngrams_equal_those_of_a_reader_that_joins_them(
        text in "([abé日]{1,3} ){0,60}", order in Just((2..=10).collect::<Vec<usize>>()).prop_shuffle()
    ) {
        let mut views = Views::default();
        for n in order {
            let top = views.top_ngram(&text, n);
            let found = (top.num_chars * top.num_copies, views.repeated_ngram_chars(&text, n));
            prop_assert_eq!(found, naive(&text, n), "n = {}", n);
        }
    }

    #[test]
    fn no_text_makes_a_profile_panic_and_scratch_memory_does_not_matter(
        texts in prop::collection::vec(r#"([ab.#•…{\[\]1"é \n\r\u{2028}\u{1c}\u{212a}-]|the |of |javascript|use cookies|\.\.\.|\[1\]|\n\n){0,80}"#, 1..6)
    ) {
        let chain = profile("gopher-repetition").unwrap();
        for names in ["gopher", "gopher-repetition", "c4", "fineweb", "datatrove-pii", "dolma", "dclm"] {
            let profile = profile(names).unwrap();
            let mut scratch = Scratch::default();
            for text in &texts {
                let again = profile.prepare(text, &mut scratch, &mut Vec::new());
                let again = again.map(std::borrow::Cow::into_owned).map_err(|reason| reason.name().to_owned());
                prop_assert_eq!(again, judge(&profile, text));
            }
        }
        prop_assert!(judge(&chain, "").is_err());
    }
}

#[test]
fn native_rejects_a_dozen_keywords_in_ever_new_order() {
    const KEYWORDS: [&str; 12] = [
        "cheap", "flights", "the", "hotel", "of", "booking", "best", "travel", "deals", "and", "holiday",
        "online",
    ];
    let mut number = 1_u32;
    let mut keyword = || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        KEYWORDS[(number >> 16) as usize % KEYWORDS.len()]
    };
    let sentence = |_| (0..10).map(|_| keyword()).collect::<Vec<_>>().join(" ") + ".";
    let page: Vec<String> = (0..30).map(sentence).collect();
    assert_eq!(judge(&profile("native").unwrap(), &page.join("\n")).unwrap_err(), "few_distinct_words");
}

#[test]
fn native_keeps_what_the_quirks_of_the_others_reject() {
    let native = profile("native").unwrap();
    let words =
        |count: usize| (0..count).map(|word| format!("word{}", word_letters(word))).collect::<Vec<_>>();
    // Nothing is repeated in 60 distinct words, though each of their n-grams is the most frequent.
    let capitals = format!("The {} Of them.", words(60).join(" "));
    assert!(judge(&native, &capitals).is_ok());
    assert_eq!(judge(&profile("gopher").unwrap(), &capitals).unwrap_err(), "gopher_enough_stop_words");
    // Speech ends with a quotation mark.
    let speech: Vec<String> =
        words(90).chunks(15).map(|line| format!("\u{201c} The {} . \u{201d}", line.join(" of "))).collect();
    assert!(judge(&native, &speech.join("\n")).is_ok());
    assert_eq!(judge(&profile("fineweb").unwrap(), &speech.join("\n")).unwrap_err(), "line_punct_ratio");
    // A star is a bullet.
    let list: Vec<String> = words(90).chunks(3).map(|line| format!("* the {} of", line.join(" "))).collect();
    assert_eq!(judge(&native, &list.join("\n")).unwrap_err(), "bullet_lines");
    let again = "the same bag of words ".repeat(40) + ".";
    assert_eq!(judge(&native, &again).unwrap_err(), "frequent_2_grams");
    assert_eq!(judge(&native, "this page is far too short to be a document.").unwrap_err(), "few_words");
}

fn word_letters(number: usize) -> String {
    [number / 26, number % 26].iter().map(|letter| char::from(b'a' + *letter as u8)).collect()
}

#[derive(Deserialize)]
struct PhraseCase {
    name: String,
    phrases: Vec<String>,
    whole_words: bool,
    text: String,
    /// How often phrases stand in the text.
    count: usize,
}

/// A list of these phrases in a file of its own.
fn phrase_list(folder: &Path, phrases: &[String], whole_words: bool) -> PhraseListConfig {
    let file = folder.join("list.txt");
    std::fs::write(&file, phrases.join("\n")).unwrap();
    let (name, except, sha256) = ("bad_words".to_owned(), Vec::new(), None);
    PhraseListConfig { name, file, whole_words, except, sha256 }
}

#[test]
fn phrases_are_found_as_their_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/phrases.jsonl");
    let folder = tempfile::tempdir().unwrap();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let case: PhraseCase = serde_json::from_str(line).unwrap();
        let list = phrase_list(folder.path(), &case.phrases, case.whole_words);
        let profile = Profile::default().with_phrases(vec![PhraseList::from_config(&list).unwrap()]);
        let expected = if case.count == 0 { Ok(case.text.clone()) } else { Err("bad_words".to_owned()) };
        assert_eq!(judge(&profile, &case.text), expected, "{}", case.name);
        let traces = profile.quality.trace(&case.text, &mut Workspace::default());
        assert_eq!(traces[0].checks[0].value, Some(case.count as f64), "{}", case.name);
    }
}

#[test]
fn a_list_leaves_out_exceptions_and_blank_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut list = phrase_list(folder.path(), &["bad", " ", "", " worse "].map(str::to_owned), true);
    list.except = vec!["Bad".to_owned()];
    let profile = Profile::default().with_phrases(vec![PhraseList::from_config(&list).unwrap()]);
    assert!(judge(&profile, "bad, but not so bad").is_ok());
    assert_eq!(judge(&profile, "bad and worse").unwrap_err(), "bad_words");
}

#[test]
fn a_list_that_is_empty_no_text_or_another_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let of = |phrases: &str| phrase_list(folder.path(), &[phrases.to_owned()], true);
    let refused = |list: &PhraseListConfig| PhraseList::from_config(list).unwrap_err().to_string();
    assert!(refused(&of(" \n")).contains("at least one phrase"));
    let another = PhraseListConfig { sha256: Some("0".repeat(64)), ..of("bad") };
    assert!(refused(&another).contains("the list of SHA-256 000"));
    let nameless = PhraseListConfig { name: " ".to_owned(), ..of("bad") };
    assert!(refused(&nameless).contains("`name`"));
    let list = of("bad");
    std::fs::write(&list.file, b"b\xffd").unwrap();
    assert!(refused(&list).contains("UTF-8"));
    std::fs::remove_file(&list.file).unwrap();
    assert!(refused(&list).contains("list.txt"));
}
