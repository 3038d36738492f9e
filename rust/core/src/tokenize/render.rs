//! The `tokenizer.json` of a vocabulary that was learnt.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{json, Value};

use super::merges::Pair;
use super::vocabulary::printable;

/// The `tokenizer.json` of Hugging Face: special tokens, then bytes, then merges in order.
pub(super) fn render(
    specials: &[String],
    pre_tokenizer: &Value,
    vocabulary: &[Vec<u8>],
    merges: &[Pair],
) -> String {
    let tokens: Vec<String> = vocabulary.iter().map(|bytes| printable(bytes)).collect();
    let merges: Vec<[&str; 2]> =
        merges.iter().map(|(a, b)| [&*tokens[*a as usize], &*tokens[*b as usize]]).collect();
    let file = TokenizerFile {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens: specials.iter().zip(0..).map(added_token).collect(),
        normalizer: None,
        pre_tokenizer: pre_tokenizer.clone(),
        post_processor: None,
        decoder: byte_level(true),
        model: Model::new(Vocabulary(specials.iter().chain(&tokens).map(String::as_str).collect()), merges),
    };
    let mut text = serde_json::to_string_pretty(&file).expect("strings and numbers serialize");
    text.push('\n');
    text
}

/// The pre-tokenizer, and the decoder, of byte-level BPE.
pub(super) fn byte_level(uses_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": uses_regex})
}

fn added_token((content, id): (&String, u32)) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false,
           "rstrip": false, "normalized": false, "special": true})
}

/// Fields in the order in which the `tokenizers` library writes them.
#[derive(serde::Serialize)]
struct TokenizerFile<'a> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<Value>,
    normalizer: Option<()>,
    pre_tokenizer: Value,
    post_processor: Option<()>,
    decoder: Value,
    model: Model<'a>,
}

#[derive(serde::Serialize)]
struct Model<'a> {
    r#type: &'static str,
    dropout: Option<f32>,
    unk_token: Option<&'a str>,
    continuing_subword_prefix: Option<&'a str>,
    end_of_word_suffix: Option<&'a str>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Vocabulary<'a>,
    merges: Vec<[&'a str; 2]>,
}

impl<'a> Model<'a> {
    fn new(vocab: Vocabulary<'a>, merges: Vec<[&'a str; 2]>) -> Self {
        Self {
            r#type: "BPE",
            dropout: None,
            unk_token: None,
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            vocab,
            merges,
        }
    }
}

/// Tokens in order of their ids, written as a map from token to id.
struct Vocabulary<'a>(Vec<&'a str>);

impl Serialize for Vocabulary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, token) in self.0.iter().enumerate() {
            map.serialize_entry(token, &id)?;
        }
        map.end()
    }
}
