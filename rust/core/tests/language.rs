//! Languages of real pages, models of fastText as its own program reads them, and damaged files.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use triptych_core::language::fasttext::{FastText, FastTextScratch};
use triptych_core::language::{Identifier, LanguageRule, Scratch, UNKNOWN};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases")
}

const MODELS: [&str; 3] = ["softmax_quantised.ftz", "hierarchical.bin", "one_vs_all_bigrams.bin"];

#[derive(Deserialize)]
struct Page {
    lang: String,
    text: String,
}

/// Pages in languages that the model has: not Nigerian Pidgin. The Swahili and Bengali
/// pages are in English but for their titles.
fn pages() -> Vec<Page> {
    let bytes = std::fs::read(cases().join("languages.jsonl.zst")).unwrap();
    let text = String::from_utf8(zstd::decode_all(bytes.as_slice()).unwrap()).unwrap();
    let pages = text.split_terminator('\n').map(|line| serde_json::from_str::<Page>(line).unwrap());
    pages.filter(|page| !["pcm", "sw", "bn"].contains(&page.lang.as_str())).collect()
}

/// Code without the script: `zh-hans` is `zh`.
fn code(page: &Page) -> &str {
    page.lang.split('-').next().unwrap()
}

#[test]
fn pages_in_26_languages_are_recognised() {
    let (identifier, mut scratch) = (Identifier::built_in(), Scratch::default());
    for page in pages() {
        let (found, score) = identifier.identify(&page.text, &mut scratch);
        assert_eq!(found, code(&page), "score {score}");
        assert!((0.3..=1.0).contains(&score), "{found} {score}");
    }
}

#[test]
fn lines_are_recognised_in_more_than_six_of_seven_cases() {
    let (identifier, mut scratch) = (Identifier::built_in(), Scratch::default());
    let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for page in pages() {
        // Translations keep front matter, markup and some lines in English: about one in eight.
        for line in page.text.split('\n').filter(|line| line.chars().count() >= 60 && !line.contains("](")) {
            let right = identifier.identify(line, &mut scratch).0 == code(&page);
            let count = counts.entry(code(&page).to_owned()).or_default();
            *count = (count.0 + u32::from(right), count.1 + 1);
        }
    }
    let mean = counts.values().map(|(right, all)| f64::from(*right) / f64::from(*all)).sum::<f64>();
    let mean = mean / counts.len() as f64;
    assert!(mean > MEAN_FLOOR, "mean {mean}: {counts:?}");
}

#[test]
fn languages_that_share_devanagari_are_told_apart() {
    let (identifier, mut scratch) = (Identifier::built_in(), Scratch::default());
    for (code, text) in [
        ("ne", "म भोलि विद्यालय जान्छु र साथीहरूसँग खेल्छु।"),
        ("ne", "सरकारले नयाँ नीति ल्याएको छ भने जनताले विरोध गरिरहेका छन्।"),
        ("ne", "यो किताब धेरै राम्रो छ, तर मैले अहिलेसम्म पढ्न पाएको छैन।"),
        ("hi", "मैं कल विद्यालय जाऊँगा और अपने दोस्तों के साथ खेलूँगा।"),
        ("hi", "सरकार ने नई नीति बनाई है, पर लोग उसका विरोध कर रहे हैं।"),
        ("mr", "मी उद्या शाळेत जाणार आहे आणि मित्रांसोबत खेळणार आहे."),
        ("mr", "सरकारने नवीन धोरण आणले असून लोक त्याला विरोध करत आहेत."),
    ] {
        assert_eq!(identifier.identify(text, &mut scratch).0, code, "{text}");
    }
}

/// Smallest mean share of lines that must be right.
const MEAN_FLOOR: f64 = 0.85;

#[derive(Deserialize)]
struct Golden {
    model: String,
    text: String,
    label: Option<String>,
    probability: Option<f32>,
}

#[test]
fn labels_and_probabilities_are_those_of_fasttext() {
    let goldens = std::fs::read_to_string(cases().join("fasttext/golden.jsonl")).unwrap();
    let mut scratch = FastTextScratch::default();
    let mut judged = 0;
    for model in MODELS {
        let fasttext = FastText::open(&cases().join("fasttext").join(model)).unwrap();
        let goldens = goldens.lines().map(|line| serde_json::from_str::<Golden>(line).unwrap());
        for golden in goldens.filter(|golden| golden.model == model) {
            let found = fasttext.predict(&golden.text, &mut scratch);
            assert_eq!(found.map(|found| found.0), golden.label.as_deref(), "{model}: {:?}", golden.text);
            let (found, expected) =
                (found.map_or(0.0, |found| found.1), golden.probability.map_or(0.0, |p| p.min(1.0)));
            assert!((found - expected).abs() <= 1e-5, "{model}: {:?}: {found} {expected}", golden.text);
            judged += 1;
        }
    }
    assert!(judged > 150, "{judged}");
}

fn open_bytes(bytes: &[u8]) -> triptych_core::Result<FastText> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    std::fs::write(&path, bytes).unwrap();
    FastText::open(&path)
}

#[test]
fn a_truncated_or_longer_model_is_refused_by_name() {
    for model in MODELS {
        let bytes = std::fs::read(cases().join("fasttext").join(model)).unwrap();
        let lengths = (0..150).chain((150..bytes.len()).step_by(bytes.len() / 37));
        for length in lengths {
            let error = open_bytes(&bytes[..length]).err().unwrap().to_string();
            assert!(error.contains("model.bin` cannot be read as a fastText model with"), "{error}");
        }
        assert!(open_bytes(&[bytes, vec![0]].concat()).is_err());
    }
}

#[test]
fn a_damaged_model_is_refused_or_answers_but_never_fails() {
    let mut scratch = FastTextScratch::default();
    for model in MODELS {
        let bytes = std::fs::read(cases().join("fasttext").join(model)).unwrap();
        for at in (0..120).chain((120..bytes.len()).step_by(bytes.len() / 41)) {
            for value in [0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                if let Ok(fasttext) = open_bytes(&damaged) {
                    fasttext.predict("the rights of man, los derechos", &mut scratch);
                }
            }
        }
    }
}

#[test]
fn a_count_that_the_file_cannot_hold_is_refused_before_memory_is_taken() {
    let mut bytes = std::fs::read(cases().join("fasttext/hierarchical.bin")).unwrap();
    bytes[64..68].copy_from_slice(&i32::MAX.to_le_bytes()); // words and labels
    let error = open_bytes(&bytes).err().unwrap().to_string();
    assert!(error.contains(": 2147483647 before byte"), "{error}");
}

#[test]
fn a_model_file_serves_as_identifier() {
    let path = cases().join("fasttext/softmax_quantised.ftz");
    let rule = LanguageRule { model: path.display().to_string(), ..LanguageRule::default() };
    let (identifier, mut scratch) = (rule.identifier().unwrap(), Scratch::default());
    let text =
        "Everyone has the right to life, liberty and the security of person, and to a standard of living.";
    assert_eq!(identifier.identify(text, &mut scratch).0, "eng");
    assert!(identifier.languages().contains(&"eng"));
}

#[test]
fn texts_without_letters_have_no_language() {
    let (identifier, mut scratch) = (Identifier::built_in(), Scratch::default());
    for text in ["", " \n\t", "🎉🎊 🥳", "12.50 + 3 = 15.5", "\u{200b}\u{feff}", &"-".repeat(1 << 20)] {
        assert_eq!(identifier.identify(text, &mut scratch), (UNKNOWN, 0.0), "{text:.20}");
    }
}

#[test]
fn strange_texts_get_a_score_in_range_from_every_model() {
    let texts = [
        "a".repeat(1 << 20),
        "\u{301}".repeat(1 << 18),
        "e\u{301}\u{323}".repeat(9999),
        "语".to_owned() + &"x ".repeat(99),
    ];
    let models = MODELS.map(|model| Identifier::open(&cases().join("fasttext").join(model)).unwrap());
    let mut scratch = Scratch::default();
    for identifier in models.iter().chain([&Identifier::built_in()]) {
        for text in &texts {
            let (_, score) = identifier.identify(text, &mut scratch);
            assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }
}
