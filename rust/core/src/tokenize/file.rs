//! The `tokenizer.json` of Hugging Face as it is written, before anything is made of it.
//!
//! Keys are those of the `tokenizers` library 0.23, which ignores keys that it does not know.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The file.
#[derive(Debug, Deserialize)]
pub(super) struct File<'a> {
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    pub(super) normalizer: Option<Value>,
    pub(super) pre_tokenizer: Option<Value>,
    pub(super) decoder: Option<Value>,
    #[serde(borrow)]
    pub(super) model: Model<'a>,
}

/// A token that is looked for in the text before the model sees it.
#[derive(Debug, Clone, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // the file's own keys
pub(super) struct AddedToken {
    pub(super) content: String,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    pub(super) normalized: bool,
    pub(super) special: bool,
}

/// The model.
#[derive(Debug, Deserialize)]
pub(super) struct Model<'a> {
    pub(super) r#type: Option<String>,
    pub(super) dropout: Option<f64>,
    pub(super) unk_token: Option<String>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) fuse_unk: Option<bool>,
    #[serde(default)]
    pub(super) byte_fallback: Option<bool>,
    #[serde(default)]
    pub(super) ignore_merges: Option<bool>,
    #[serde(borrow)]
    pub(super) vocab: Vocab<'a>,
    #[serde(borrow)]
    pub(super) merges: Vec<Merge<'a>>,
}

/// Tokens with their ids, in the order of the file.
#[derive(Debug)]
pub(super) struct Vocab<'a>(pub(super) Vec<(Cow<'a, str>, u32)>);

/// Two tokens that are merged: `["a", "b"]`, or `"a b"` in older files.
#[derive(Debug)]
pub(super) struct Merge<'a>(pub(super) Cow<'a, str>, pub(super) Cow<'a, str>);

/// A string that is borrowed where the file has no escapes in it.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Vocab<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map from tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(token), id)) = map.next_entry()? {
                    entries.push((token, id));
                }
                Ok(Vocab(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Merge<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge of two tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let expected = || A::Error::custom("expected a merge of two tokens");
                let Text(left) = seq.next_element()?.ok_or_else(expected)?;
                let Text(right) = seq.next_element()?.ok_or_else(expected)?;
                match seq.next_element::<Text>()? {
                    Some(_) => Err(expected()),
                    None => Ok(Merge(left, right)),
                }
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                let (left, right) = sides(text)?;
                Ok(Merge(Cow::Borrowed(left), Cow::Borrowed(right)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let (left, right) = sides(text)?;
                Ok(Merge(Cow::Owned(left.to_owned()), Cow::Owned(right.to_owned())))
            }
        }
        deserializer.deserialize_any(Sides)
    }
}

fn sides<E: serde::de::Error>(text: &str) -> Result<(&str, &str), E> {
    let sides = text.split_once(' ').filter(|(_, right)| !right.contains(' '));
    sides.ok_or_else(|| E::custom(format!("expected a merge of two tokens, found `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merges(json: &str) -> serde_json::Result<Vec<Merge<'_>>> {
        serde_json::from_str(json)
    }

    #[test]
    fn merges_are_read_in_both_spellings() {
        for json in [r#"["a b", "c \u00e9"]"#, r#"[["a", "b"], ["c", "é"]]"#] {
            let pairs: Vec<_> =
                merges(json).unwrap().into_iter().map(|m| (m.0.into_owned(), m.1.into_owned())).collect();
            assert_eq!(pairs, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "é".to_owned())]);
        }
    }

    #[test]
    fn a_merge_of_one_or_three_tokens_is_an_error() {
        for json in [r#"["a"]"#, r#"["a b c"]"#, r#"[["a"]]"#, r#"[["a", "b", "c"]]"#, "[3]"] {
            assert!(merges(json).unwrap_err().to_string().contains("two tokens"), "{json}");
        }
    }
}
