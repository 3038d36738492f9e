//! Ids and text equal those of the `tokenizers` library for files of every shape in use.
#![allow(clippy::unwrap_used)] // a test may fail anywhere

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{json, Value};
use tokenizers::Tokenizer as Peer;
use triptych_core::tokenize::{train, Pattern, Tokenizer, TrainConfig, PATTERNS};

const TEXTS: [&str; 14] = [
    "The quick brown fox can't jump over 12345 lazy dogs; IT'S TRUE!!  ",
    "Die Straßenbahn fährt um 10:45 Uhr – pünktlich!",
    "Быстрая лиса перепрыгнула через ленивую собаку.",
    "العربية: النص من اليمين إلى اليسار، ١٢٣.",
    "नमस्ते दुनिया, यह एक परीक्षण है।",
    "今日は世界。漢字かな交じり文。",
    "한국어 문장을 나누어 봅시다.",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "def f(x):\n\treturn {'a': x ** 2}\r\n\r\n",
    "👩‍🚀 flies 🇪🇺 to 𝕏, e\u{301}tude ﬁn Å",
    "  leading and   inner spaces  ",
    "▁under▁▁bars and <0x41> <unk>",
    "a<|eos|>b <|tool|> c<s></s>",
    "",
];

/// A small tokenizer of ours as JSON.
fn base() -> Value {
    let config = TrainConfig {
        vocab_size: 700,
        extra_special_tokens: vec!["<|tool|>".to_owned()],
        ..TrainConfig::default()
    };
    let texts = TEXTS.iter().map(|text| Ok(text.repeat(3)));
    serde_json::from_str(train(texts, &config, &mut |_, _| {}).unwrap().json()).unwrap()
}

fn split(regex: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn byte_level(adds_space: bool, uses_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": adds_space, "trim_offsets": true, "use_regex": uses_regex})
}

fn sequence(steps: &[Value]) -> Value {
    json!({"type": "Sequence", "pretokenizers": steps})
}

fn added(content: &str, flags: &str) -> Value {
    let has = |flag| flags.contains(flag);
    json!({"id": 0, "content": content, "single_word": has('w'), "lstrip": has('l'), "rstrip": has('r'),
           "normalized": has('n'), "special": has('s')})
}

/// Byte-level files: the known patterns, and what other files do beside them.
fn byte_level_shapes() -> Vec<(String, Value)> {
    let mut shapes = Vec::new();
    let mut shape = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut value = base();
        edit(&mut value);
        shapes.push((name.to_owned(), value));
    };
    for pattern in &PATTERNS {
        let steps = sequence(&[split(pattern.regex), byte_level(false, false)]);
        shape(pattern.name, &|v| v["pre_tokenizer"] = steps.clone());
    }
    let qwen = Pattern::named("qwen2").unwrap().regex;
    shape("gpt2 as ByteLevel", &|v| v["pre_tokenizer"] = byte_level(false, true));
    shape("roberta", &|v| v["pre_tokenizer"] = byte_level(true, true));
    shape("llama3 with ignore_merges", &|v| v["model"]["ignore_merges"] = true.into());
    shape("qwen with NFC", &|v| {
        v["normalizer"] = json!({"type": "NFC"});
        v["pre_tokenizer"] = sequence(&[split(qwen), byte_level(false, false)]);
    });
    shape("starcoder", &|v| {
        v["pre_tokenizer"] =
            sequence(&[json!({"type": "Digits", "individual_digits": true}), byte_level(false, true)]);
    });
    shape("numbers together", &|v| {
        let numbers = json!({"type": "Digits", "individual_digits": false});
        v["pre_tokenizer"] = sequence(&[numbers, split(r"x*(?=[a-f])|\s|."), byte_level(false, false)]);
    });
    shape("deepseek", &|v| {
        v["pre_tokenizer"] = sequence(&[
            split(r"\p{N}{1,3}"),
            split("[一-龥\u{3040}-ゟ゠-ヿ]+"),
            split(
                r"[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ),
            byte_level(false, false),
        ]);
    });
    shape("bytes missing", &|v| {
        let vocab = v["model"]["vocab"].as_object_mut().unwrap();
        vocab.remove("ß");
        v["model"]["merges"].as_array_mut().unwrap().retain(|merge| !merge.to_string().contains('ß'));
    });
    shape("legacy merges", &|v| {
        for merge in v["model"]["merges"].as_array_mut().unwrap() {
            *merge = format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()).into();
        }
    });
    shape("lower case and added tokens", &|v| {
        v["normalizer"] =
            json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]});
        let more = [
            added("JUMP", "n"),
            added("fox", "w"),
            added("<|mask|>", "ls"),
            added(" lazy", "r"),
            added("<|", ""),
        ];
        v["added_tokens"].as_array_mut().unwrap().extend(more);
    });
    shapes
}

/// Files of characters: `SentencePiece` as converted from Llama 2 and Mistral.
fn character_shapes() -> Vec<(String, Value)> {
    let words = [
        "▁the",
        "▁qu",
        "ick",
        "ck",
        "ic",
        "▁t",
        "he",
        "qu",
        "▁q",
        "▁▁",
        "▁▁▁▁",
        "▁a",
        "ra",
        "▁un",
        "un",
        "der",
        "er",
    ];
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend("▁abcdefghijklmnoqrstuvwxyzäß日本".chars().map(String::from));
    tokens.extend(words.map(str::to_owned));
    let merges: Vec<[&str; 2]> = vec![
        ["h", "e"],
        ["▁", "t"],
        ["▁t", "he"],
        ["i", "c"],
        ["c", "k"],
        ["ic", "k"],
        ["q", "u"],
        ["▁", "qu"],
        ["▁", "q"],
        ["▁", "▁"],
        ["▁▁", "▁▁"],
        ["▁", "a"],
        ["r", "a"],
        ["u", "n"],
        ["▁", "un"],
        ["e", "r"],
        ["d", "er"],
        ["i", "ck"],
    ];
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().zip(0..).map(|(token, id)| (token.clone(), json!(id))).collect();
    let file = |normalizer: Value, pre_tokenizer: Value| {
        json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "added_tokens": [added("<unk>", "s"), added("<s>", "s"), added("</s>", "s")],
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                "vocab": vocab, "merges": merges}})
    };
    let prepend = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let metaspace = |scheme: &str, splits: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": splits});
    let mut shapes = vec![("llama2".to_owned(), file(prepend, Value::Null))];
    for scheme in ["first", "always", "never"] {
        for splits in [true, false] {
            shapes
                .push((format!("metaspace {scheme} {splits}"), file(Value::Null, metaspace(scheme, splits))));
        }
    }
    for (fuses, falls_back) in [(true, false), (false, false), (false, true)] {
        let mut value = shapes[0].1.clone();
        value["model"]["fuse_unk"] = fuses.into();
        value["model"]["byte_fallback"] = falls_back.into();
        shapes.push((format!("llama2 fuses {fuses} falls back {falls_back}"), value));
    }
    let marked = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let by_spaces = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    let by_inner =
        json!({"type": "Split", "pattern": {"String": "un"}, "behavior": "Isolated", "invert": false});
    shapes.push(("gemma".to_owned(), file(marked.clone(), by_spaces)));
    shapes.push(("split by a string".to_owned(), file(marked, by_inner)));
    for number in [0, 7, 1] {
        let (name, value) = shapes[number].clone();
        shapes.extend(with_tokens_across_words(&name, value));
    }
    let mut partial = shapes[0].1.clone();
    partial["model"]["vocab"]
        .as_object_mut()
        .unwrap()
        .retain(|token, _| token != "<0xE6>" && token != "<0x50>");
    shapes.push(("llama2 without two bytes".to_owned(), partial));
    let strips = json!({"type": "Strip", "strip_left": true, "strip_right": false});
    shapes.push(("strips, metaspace first".to_owned(), file(strips, metaspace("first", true))));
    let joins = json!({"type": "Replace", "pattern": {"Regex": " +"}, "content": "▁"});
    shapes.push(("joins, metaspace first".to_owned(), file(joins, metaspace("first", false))));
    let mut spaced = file(Value::Null, metaspace("always", true));
    spaced["added_tokens"].as_array_mut().unwrap().extend([added(" ", "lr"), added("\n", "lrn")]);
    shapes.push(("white space as added tokens".to_owned(), spaced));
    shapes
}

/// A file with tokens that reach from one word into the next, and the same where tokens need no merges.
fn with_tokens_across_words(name: &str, mut value: Value) -> [(String, Value); 2] {
    let across = [
        ("k▁", ["k", "▁"]),
        ("e▁the", ["e", "▁the"]),
        ("日本", ["日", "本"]),
        ("<0x0A><0x0A>", ["<0x0A>", "<0x0A>"]),
    ];
    for (id, (token, merge)) in (2000..).zip(&across) {
        value["model"]["vocab"][token] = json!(id);
        value["model"]["merges"].as_array_mut().unwrap().push(json!(merge));
    }
    let mut whole = value.clone();
    whole["model"]["ignore_merges"] = true.into();
    [(format!("{name} with tokens across words"), value), (format!("{name} with whole words"), whole)]
}

struct Twins {
    name: String,
    ours: Tokenizer,
    /// Reads special strings in text as text.
    plain: Peer,
    with_special: Peer,
}

static TWINS: LazyLock<Vec<Twins>> = LazyLock::new(|| {
    let shapes = byte_level_shapes().into_iter().chain(character_shapes());
    shapes
        .map(|(name, value)| {
            let ours =
                Tokenizer::from_json(value.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let with_special = Peer::from_bytes(value.to_string()).unwrap();
            let mut plain = with_special.clone();
            plain.set_encode_special_tokens(true);
            Twins { name, ours, plain, with_special }
        })
        .collect()
});

fn assert_same(text: &str) {
    for Twins { name, ours, plain, with_special } in TWINS.iter() {
        for (peer, allow_special) in [(plain, false), (with_special, true)] {
            let expected = peer.encode_fast(text, false).unwrap().get_ids().to_vec();
            let ids = ours.encode(text, allow_special).unwrap();
            assert_eq!(ids, expected, "{name} on {text:?}, special tokens {allow_special}");
            for skips in [false, true] {
                let decoded = ours.decode(&ids, skips).unwrap();
                assert_eq!(decoded, peer.decode(&ids, skips).unwrap(), "{name} on {text:?}");
            }
        }
    }
}

#[test]
fn ids_and_text_are_those_of_the_library_on_the_table() {
    for text in TEXTS {
        assert_same(text);
    }
    assert_same(&TEXTS.concat());
    assert_same(&TEXTS.join("\n\n").to_uppercase());
}

/// Texts of a few parts that meet in unusual ways.
fn mixed() -> impl Strategy<Value = String> {
    let parts: Vec<String> =
        TEXTS.iter().flat_map(|text| text.split_inclusive(' ')).map(str::to_owned).collect();
    let specials =
        ["<|eos|>", "<|mask|>", "<s>", " ", "  ", "\n", "P", "日", "ﬁ", "e\u{301}", "\u{17f}", "'S"]
            .map(str::to_owned);
    let any = prop_oneof![
        proptest::sample::select(parts),
        proptest::sample::select(specials.to_vec()),
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(any, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn ids_and_text_are_those_of_the_library_on_random_text(text in mixed()) {
        assert_same(&text);
    }
}

#[test]
fn a_batch_is_its_texts_one_by_one_on_any_number_of_threads() {
    let texts: Vec<String> = (0..3000).map(|i| format!("{} {i}", TEXTS[i % TEXTS.len()])).collect();
    for Twins { ours, .. } in TWINS.iter().take(3) {
        let one_by_one: Vec<_> = texts.iter().map(|text| ours.encode(text, false).unwrap()).collect();
        assert_eq!(ours.encode_batch(&texts, false).unwrap().to_vecs(), one_by_one);
        for num_threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
            assert_eq!(pool.install(|| ours.encode_batch(&texts, false)).unwrap().to_vecs(), one_by_one);
        }
    }
}

#[test]
fn long_words_are_those_of_the_library_and_a_megabyte_of_one_is_encoded() {
    for piece in ["a", " ", "ab", "é", "日", "a1", "\n", "'s"] {
        assert_same(&piece.repeat(700));
    }
    for Twins { name, ours, .. } in
        TWINS.iter().filter(|twins| ["triptych", "llama2"].contains(&&*twins.name))
    {
        let text = "a".repeat(1 << 20);
        let ids = ours.encode(&text, false).unwrap();
        assert!(ours.decode(&ids, false).unwrap() == text, "{name}");
    }
}
