//! A trained tokenizer: `tokenizer.json` loaded, checked, encoding and decoding.

use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;
use tokenizers::Tokenizer as HfTokenizer;

use super::{BOS, END, EOS, PAD, SPECIAL_TOKENS};
use crate::error::{Error, Result};
use crate::manifest;

/// A byte-level BPE tokenizer, identical in its ids to the `tokenizers` library.
pub struct Tokenizer {
    /// The file as it was read: what [`Tokenizer::sha256`] names and [`Tokenizer::save`] writes.
    json: String,
    sha256: String,
    path: PathBuf,
    /// Reads special strings in text as text.
    plain: HfTokenizer,
    /// Reads special strings in text as control ids.
    with_special: HfTokenizer,
    vocab_size: usize,
    ids: SpecialIds,
}

/// Ids of the special tokens that the engine writes or looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialIds {
    /// `<|pad|>`.
    pub pad: u32,
    /// `<|bos|>`.
    pub bos: u32,
    /// `<|eos|>`.
    pub eos: u32,
    /// `<|end|>`, the end of a turn.
    pub end: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer(vocab_size={}, sha256={})", self.vocab_size, self.sha256)
    }
}

impl Tokenizer {
    /// Loads a `tokenizer.json`.
    ///
    /// # Errors
    /// `NoInput` without the file, `InvalidFile` for one that is not a tokenizer of ours.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::NoInput { path: path.to_owned(), expected: "a `tokenizer.json`".to_owned() }
            }
            _ => Error::Io { action: "read", path: path.to_owned(), source },
        })?;
        let json = String::from_utf8(bytes).map_err(|error| invalid(path, &error))?;
        Self::load(json, path)
    }

    /// Loads the content of a `tokenizer.json`.
    pub fn from_json(json: String) -> Result<Self> {
        Self::load(json, Path::new("tokenizer.json"))
    }

    fn load(json: String, path: &Path) -> Result<Self> {
        check_structure(&json, path)?;
        let with_special = guarded(path, || parse(&json))?;
        let ids = special_ids(&with_special, path)?;
        let mut plain = with_special.clone();
        plain.set_encode_special_tokens(true);
        let tokenizer = Self {
            sha256: manifest::sha256(json.as_bytes()),
            path: path.to_owned(),
            vocab_size: vocab_size(&plain),
            json,
            plain,
            with_special,
            ids,
        };
        tokenizer.encode("A probe: 123 naïve\n", false)?;
        Ok(tokenizer)
    }

    /// Writes the file exactly as it was read or trained.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.json).map_err(Error::io("write", path))
    }

    /// Ids of `text`. Special strings in it become control ids only with `allow_special`.
    ///
    /// No BOS or EOS is added.
    pub fn encode(&self, text: &str, allow_special: bool) -> Result<Vec<u32>> {
        let inner = if allow_special { &self.with_special } else { &self.plain };
        guarded(&self.path, || inner.encode_fast(text, false)).map(|encoding| encoding.get_ids().to_vec())
    }

    /// Ids of each text, computed on all threads.
    pub fn encode_batch<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        allow_special: bool,
    ) -> Result<Vec<Vec<u32>>> {
        texts.par_iter().map(|text| self.encode(text.as_ref(), allow_special)).collect()
    }

    /// Text of `ids`: the inverse of [`Tokenizer::encode`] for whole texts.
    ///
    /// Bytes that are not UTF-8, as when a character is cut in two, become U+FFFD.
    ///
    /// # Errors
    /// `InvalidValue` for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab_size) {
            return Err(Error::InvalidValue {
                what: "token id".to_owned(),
                expected: format!("0 to {}", self.vocab_size - 1),
                found: id.to_string(),
            });
        }
        guarded(&self.path, || self.plain.decode(ids, skip_special))
    }

    /// Entries of the vocabulary: the largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Id of a token as it is spelt in the vocabulary (a space is `Ġ`).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.plain.token_to_id(token)
    }

    /// Spelling of an id in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.plain.id_to_token(id)
    }

    /// SHA-256 of the file's content, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The content of the `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Ids of the special tokens.
    pub fn ids(&self) -> SpecialIds {
        self.ids
    }
}

fn invalid(path: &Path, found: &dyn std::fmt::Display) -> Error {
    let expected = "a `tokenizer.json` of byte-level BPE".to_owned();
    Error::InvalidFile { path: path.to_owned(), expected, found: found.to_string() }
}

/// Runs a call into the `tokenizers` crate; its errors and panics become `InvalidFile`.
///
/// The crate indexes and unwraps on what a file declares, so a hostile file can make it panic.
fn guarded<T>(path: &Path, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| invalid(path, &error)),
        Err(_) => Err(invalid(path, &"settings that its own library cannot run with")),
    }
}

fn parse(json: &str) -> tokenizers::Result<HfTokenizer> {
    let mut tokenizer = HfTokenizer::from_bytes(json)?;
    tokenizer.with_truncation(None)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// Refuses what is certainly not byte-level BPE before the crate sees it.
fn check_structure(json: &str, path: &Path) -> Result<()> {
    let value: Value = serde_json::from_str(json).map_err(|error| invalid(path, &error))?;
    let model = value.get("model").ok_or_else(|| invalid(path, &"no `model`"))?;
    match model.get("type").and_then(Value::as_str) {
        Some("BPE") => {}
        Some(other) => return Err(invalid(path, &format!("a model of type `{other}`"))),
        None => return Err(invalid(path, &"a model without `type`")),
    }
    if model.get("dropout").is_some_and(|dropout| !dropout.is_null()) {
        return Err(invalid(path, &"`dropout`, with which encoding is random"));
    }
    if names_type(&value["pre_tokenizer"], "ByteLevel") {
        return refuse_fixed_length(&value["pre_tokenizer"], path);
    }
    Err(invalid(path, &"no `ByteLevel` pre-tokenizer"))
}

fn refuse_fixed_length(pre_tokenizer: &Value, path: &Path) -> Result<()> {
    if names_type(pre_tokenizer, "FixedLength") {
        return Err(invalid(path, &"a `FixedLength` pre-tokenizer"));
    }
    Ok(())
}

/// Whether the pre-tokenizer, or one in its sequence, has this type.
fn names_type(pre_tokenizer: &Value, name: &str) -> bool {
    let inner = pre_tokenizer.get("pretokenizers").and_then(Value::as_array);
    pre_tokenizer.get("type").and_then(Value::as_str) == Some(name)
        || inner.is_some_and(|list| list.iter().any(|one| names_type(one, name)))
}

fn vocab_size(tokenizer: &HfTokenizer) -> usize {
    tokenizer.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1)
}

/// Ids of the special tokens; every one of [`SPECIAL_TOKENS`] must be there, and special.
fn special_ids(tokenizer: &HfTokenizer, path: &Path) -> Result<SpecialIds> {
    let added = tokenizer.get_added_tokens_decoder();
    let find = |token: &str| {
        let id = tokenizer.token_to_id(token);
        id.filter(|id| added.get(id).is_some_and(|entry| entry.special && entry.content == token))
            .ok_or_else(|| invalid(path, &format!("no special token `{token}`")))
    };
    for token in SPECIAL_TOKENS {
        find(token)?;
    }
    Ok(SpecialIds { pad: find(PAD)?, bos: find(BOS)?, eos: find(EOS)?, end: find(END)? })
}

#[cfg(test)]
mod tests {
    use super::super::{train, TrainConfig};
    use super::*;
    use proptest::prelude::*;

    fn small() -> Tokenizer {
        let config = TrainConfig { vocab_size: 300, extra_special_tokens: vec![] };
        let text = "the cat sat on the mat; the cat's hat. Ein Straßenfest in Köln, 2024. ".repeat(4);
        train(std::iter::once(Ok(text)), &config, &mut |_, _| {}).unwrap()
    }

    #[test]
    fn special_strings_in_text_are_text_unless_asked_for() {
        let tokenizer = small();
        let ids = tokenizer.encode("a<|eos|>b", false).unwrap();
        assert!(ids.iter().all(|id| *id >= 7));
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "a<|eos|>b");
        assert!(tokenizer.encode("a<|eos|>b", true).unwrap().contains(&tokenizer.ids().eos));
    }

    #[test]
    fn an_id_outside_the_vocabulary_is_an_error() {
        assert!(matches!(small().decode(&[300], false), Err(Error::InvalidValue { .. })));
    }

    #[test]
    fn a_damaged_tokenizer_is_an_invalid_file_and_never_a_panic() {
        let json = small().json().to_owned();
        let mut broken = vec![
            String::new(),
            "{}".to_owned(),
            json[..json.len() / 2].to_owned(),
            json.replace("\"BPE\"", "\"WordPiece\""),
            json.replace("<|bos|>", "<|start|>"),
            json.replace("\"special\": true", "\"special\": false"),
            json.replace("ByteLevel", "Whitespace"),
            json.replace(r"\\s+(?!\\S)", "("),
            json.replace("\"type\": \"Sequence\"", "\"type\": \"FixedLength\", \"length\": 0"),
        ];
        let mut value: Value = serde_json::from_str(&json).unwrap();
        value["model"]["merges"][0] = serde_json::json!(["no", "such"]);
        broken.push(value.to_string());
        for text in broken {
            let error = Tokenizer::from_json(text).unwrap_err();
            assert!(matches!(error, Error::InvalidFile { .. }), "{error}");
        }
    }

    #[test]
    fn what_was_saved_loads_with_the_same_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let tokenizer = small();
        tokenizer.save(&path).unwrap();
        assert_eq!(Tokenizer::from_file(&path).unwrap().sha256(), tokenizer.sha256());
        assert_eq!(manifest::sha256_file(&path).unwrap(), tokenizer.sha256());
    }

    proptest! {
        #[test]
        fn decoding_gives_back_any_text(text in any::<String>()) {
            let tokenizer = cached();
            let ids = tokenizer.encode(&text, false).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
    }

    fn cached() -> &'static Tokenizer {
        static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(small);
        &TOKENIZER
    }
}
