//! A tokenizer: `tokenizer.json` loaded, checked, encoding and decoding.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, TryLockError};

use super::bpe::Scratch;
use super::corpus::Document;
use super::encoded::Encoded;
use super::load::Parts;
use super::share;
use super::special::SpecialIds;
use crate::error::{Error, Result};
use crate::manifest;
use crate::new_file::NewFile;
use crate::text::floor;

/// A byte-pair encoding of bytes or characters, identical in its ids to the `tokenizers` library.
pub struct Tokenizer {
    /// The file as it was read: what [`Tokenizer::sha256`] names and [`Tokenizer::save`] writes.
    json: String,
    sha256: String,
    path: PathBuf,
    parts: Parts,
    ids: SpecialIds,
    /// Memory of threads that encode no more.
    spare: Mutex<Vec<Scratch>>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer(vocab_size={}, sha256={})", self.vocab_size(), self.sha256)
    }
}

impl Tokenizer {
    /// Loads a `tokenizer.json`.
    ///
    /// # Errors
    /// `NoInput` without the file, `InvalidFile` for one that is not a byte-pair encoding or asks
    /// for what is not supported.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::NoInput { path: path.to_owned(), expected: "a `tokenizer.json`".to_owned() }
            }
            _ => Error::Io { action: "read", path: path.to_owned(), source },
        })?;
        let json = String::from_utf8(bytes).map_err(|error| invalid(path, error.to_string()))?;
        Self::load(json, path)
    }

    /// Loads the content of a `tokenizer.json`.
    pub fn from_json(json: String) -> Result<Self> {
        Self::load(json, Path::new("tokenizer.json"))
    }

    fn load(json: String, path: &Path) -> Result<Self> {
        let parts = Parts::new(&json).map_err(|found| invalid(path, found))?;
        let tokenizer = Self {
            sha256: manifest::sha256(json.as_bytes()),
            path: path.to_owned(),
            ids: SpecialIds::new(&parts.vocabulary, &parts.added),
            json,
            parts,
            spare: Mutex::default(),
        };
        tokenizer.encode("A probe: 123 naïve\n", false)?;
        Ok(tokenizer)
    }

    /// Writes the file exactly as it was read or trained, whole or not at all: one that stood there stays until then.
    pub fn save(&self, path: &Path) -> Result<()> {
        // Where a link stands, a rename would take its place.
        let place = if path.is_symlink() { fs::canonicalize(path).ok() } else { None };
        let file = NewFile::create(place.as_deref().unwrap_or(path))?;
        file.fill(|file| file.write_all(self.json.as_bytes()))?.rename()
    }

    /// Ids of `text`. Special strings in it become control ids only with `allow_special`.
    ///
    /// No BOS or EOS is added.
    ///
    /// # Errors
    /// `InvalidFile` where a rule of the file cannot be followed on this text.
    pub fn encode(&self, text: &str, allow_special: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let done = self.with_scratch(|scratch| self.parts.encode(text, allow_special, scratch, &mut ids));
        done.map_err(|found| invalid(&self.path, found))?;
        Ok(ids)
    }

    /// Ids of each text, computed on all threads.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S], allow_special: bool) -> Result<Encoded> {
        let encode = |texts: &[S], scratch: &mut Scratch, part: &mut Encoded| {
            self.push_texts(texts, allow_special, scratch, part)
        };
        self.encode_all(texts, |text| text.as_ref().len(), encode)
    }

    /// The same where the thread that encodes texts also reads them: `read` gives those of a few of `sources`,
    /// which are of about `size` bytes each, and they are let go before the next are read. `take` is called
    /// with what was encoded, a few texts at a time, in order.
    ///
    /// # Errors
    /// What `read` and `take` say; within, as [`Tokenizer::encode`].
    pub fn encode_read<T: Sync, S: AsRef<str>, E: Send>(
        &self,
        sources: &[T],
        size: impl Fn(&T) -> usize + Sync,
        read: impl Fn(&[T]) -> std::result::Result<Vec<S>, E> + Sync,
        allow_special: bool,
        mut take: impl FnMut(&Encoded) -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<Result<()>, E> {
        let encode = |sources: &[T], scratch: &mut Scratch, part: &mut Encoded| {
            let texts = read(sources).map_err(Stop::Caller)?;
            self.push_texts(&texts, allow_special, scratch, part).map_err(Stop::Text)
        };
        match self.encode_parts(sources, size, encode, |part| take(part).map_err(Stop::Caller)) {
            Ok(()) => Ok(Ok(())),
            Err(Stop::Text(error)) => Ok(Err(error)),
            Err(Stop::Caller(error)) => Err(error),
        }
    }

    fn push_texts<S: AsRef<str>>(
        &self,
        texts: &[S],
        allow_special: bool,
        scratch: &mut Scratch,
        part: &mut Encoded,
    ) -> Result<()> {
        texts.iter().try_for_each(|text| {
            let done = self.parts.encode(text.as_ref(), allow_special, scratch, &mut part.ids);
            part.end();
            done.map_err(|found| invalid(&self.path, found))
        })
    }

    /// Ids of each document with BOS before and EOS behind them, computed on all threads.
    pub(super) fn encode_documents(&self, documents: &[Document]) -> Result<Encoded> {
        let SpecialIds { bos, eos, .. } = self.ids;
        let push = |document: &Document, scratch: &mut Scratch, part: &mut Encoded| {
            part.ids.push(bos);
            self.parts.encode(&document.text, false, scratch, &mut part.ids)?;
            part.ids.push(eos);
            part.end();
            Ok(())
        };
        let encode = |documents: &[Document], scratch: &mut Scratch, part: &mut Encoded| {
            let done = documents.iter().try_for_each(|document| push(document, scratch, part));
            done.map_err(|found| invalid(&self.path, found))
        };
        self.encode_all(documents, |document| document.text.len(), encode)
    }

    /// Encodes `items` on all threads, as one.
    fn encode_all<T: Sync>(
        &self,
        items: &[T],
        size: impl Fn(&T) -> usize + Sync,
        encode: impl Fn(&[T], &mut Scratch, &mut Encoded) -> Result<()> + Sync,
    ) -> Result<Encoded> {
        let mut all = Encoded::with_capacity(items.iter().map(&size).sum::<usize>() / 3, items.len());
        self.encode_parts(items, size, encode, |part| {
            all.append(part);
            Ok(())
        })?;
        Ok(all)
    }

    /// Encodes a few of `items` at a time on all threads, and gives them to `take` in order, in memory that is
    /// used again: new memory is slow.
    fn encode_parts<T: Sync, E: Send>(
        &self,
        items: &[T],
        size: impl Fn(&T) -> usize + Sync,
        encode: impl Fn(&[T], &mut Scratch, &mut Encoded) -> std::result::Result<(), E> + Sync,
        mut take: impl FnMut(&Encoded) -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<(), E> {
        let spare: Mutex<Vec<Encoded>> = Mutex::default();
        let work = |items: &[T]| {
            let used = spare.lock().ok().and_then(|mut spare| spare.pop());
            let new = || Encoded::with_capacity(items.iter().map(&size).sum::<usize>() / 3, items.len());
            let mut part = used.map_or_else(new, Encoded::cleared);
            self.with_scratch(|scratch| encode(items, scratch, &mut part))?;
            Ok(part)
        };
        share::in_order(items, share::num_threads(), &size, work, |part| {
            take(&part)?;
            if let Ok(mut spare) = spare.lock() {
                spare.push(part);
            }
            Ok(())
        })
    }

    /// Does `work` with memory that is given back after it.
    fn with_scratch<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let mut scratch = self.borrow();
        let done = work(&mut scratch);
        self.give_back(scratch);
        done
    }

    /// Memory that an earlier call left, or new.
    ///
    /// A lock that is held is not waited for: in a child of the process, its holder is not there.
    fn borrow(&self) -> Scratch {
        match self.spare.try_lock() {
            Ok(mut spare) => spare.pop(),
            Err(TryLockError::Poisoned(spare)) => spare.into_inner().pop(),
            Err(TryLockError::WouldBlock) => None,
        }
        .unwrap_or_else(|| self.parts.scratch())
    }

    fn give_back(&self, scratch: Scratch) {
        if let Ok(mut spare) = self.spare.try_lock() {
            spare.push(scratch);
        }
    }

    /// Text of `ids`: the inverse of [`Tokenizer::encode`] for whole texts, where nothing is normalized.
    ///
    /// Bytes that are not UTF-8, as when a character is cut in two, become U+FFFD.
    ///
    /// # Errors
    /// `InvalidValue` for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab_size()) {
            return Err(Error::InvalidValue {
                what: "token id".to_owned(),
                expected: format!("0 to {}", self.vocab_size() - 1),
                found: id.to_string(),
            });
        }
        let shown = ids.iter().filter(|id| !(skip_special && self.parts.added.is_special(**id)));
        let decoded = self.parts.decoder.decode(shown.filter_map(|id| self.parts.spelling(*id)));
        decoded.map_err(|found| invalid(&self.path, found))
    }

    /// Entries of the vocabulary: the largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.parts.vocabulary.size()
    }

    /// Id of a token as it is spelt in the vocabulary (a space is `Ġ` where tokens are bytes).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.parts.vocabulary.id(token)
    }

    /// Spelling of an id in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.parts.spelling(id).map(str::to_owned)
    }

    /// SHA-256 of the file's content, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The content of the `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Ids of the special tokens; [`super::NO_ID`] for those that the tokenizer does not have.
    pub fn ids(&self) -> SpecialIds {
        self.ids
    }
}

/// Why encoding ended: a text, or whoever reads the texts and takes their ids.
enum Stop<E> {
    Text(Error),
    Caller(E),
}

/// Bytes at either end of what is said of a file: it may quote a megabyte that stands where a number should.
const SHOWN_END_BYTES: usize = 200;

fn invalid(path: &Path, mut found: String) -> Error {
    if found.len() > 2 * SHOWN_END_BYTES {
        let (head, tail) = (floor(&found, SHOWN_END_BYTES), floor(&found, found.len() - SHOWN_END_BYTES));
        found.replace_range(head..tail, " … ");
    }
    let expected = "a `tokenizer.json` of byte-pair encoding".to_owned();
    Error::InvalidFile { path: path.to_owned(), expected, found }
}

#[cfg(test)]
mod tests {
    use super::super::{train, TrainConfig};
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn small() -> Tokenizer {
        let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
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
    fn texts_that_are_read_on_any_number_of_threads_have_the_ids_that_they_have_alone() {
        let tokenizer = small();
        let texts: Vec<String> =
            (0..3000).map(|number| format!("the hat{number} ").repeat(number % 40)).collect();
        let alone: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text, false).unwrap()).collect();
        let read = |texts: &[String]| Ok::<_, usize>(texts.to_vec());
        for num_threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
            let (mut found, mut num_calls) = (Vec::new(), 0);
            let mut take = |part: &Encoded| {
                num_calls += 1;
                found.extend(part.to_vecs());
                Ok(())
            };
            pool.install(|| tokenizer.encode_read(&texts, String::len, read, false, &mut take))
                .unwrap()
                .unwrap();
            assert!(found == alone && num_calls > 1);
            let failed = pool.install(|| tokenizer.encode_read(&texts, String::len, read, false, |_| Err(7)));
            assert_eq!(failed.unwrap_err(), 7);
        }
    }

    #[test]
    fn a_damaged_tokenizer_is_an_invalid_file_that_names_what_is_wrong_and_never_a_panic() {
        let json = small().json().to_owned();
        let edited = |edit: &dyn Fn(&mut Value)| {
            let mut value = serde_json::from_str(&json).unwrap();
            edit(&mut value);
            value.to_string()
        };
        let broken = [
            (String::new(), "EOF"),
            ("{}".to_owned(), "`model`"),
            (json[..json.len() / 2].to_owned(), "EOF"),
            (json.replace("\"BPE\"", "\"WordPiece\""), "`model.type` `WordPiece`"),
            (
                edited(&|v| {
                    v["model"] = serde_json::json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]]});
                }),
                "`model.type` `Unigram`",
            ),
            (
                edited(&|v| v["model"] = serde_json::json!({"type": "WordPiece", "vocab": {"a": 0}})),
                "`model.type` `WordPiece`",
            ),
            (json.replace("\"ByteLevel\"", "\"Psychic\""), "`pre_tokenizer`"),
            (json.replace("\"Regex\": \"", "\"Regex\": \"("), "`pre_tokenizer`"),
            (
                edited(&|v| v["model"]["merges"][0] = serde_json::json!(["no", "such"])),
                "`no` in `model.merges`",
            ),
            (edited(&|v| v["model"]["dropout"] = 0.1.into()), "`model.dropout`"),
            (edited(&|v| v["model"]["end_of_word_suffix"] = "</w>".into()), "`model.end_of_word_suffix`"),
            (edited(&|v| v["model"]["vocab"]["zz"] = 8.into()), "two tokens with id 8"),
            (edited(&|v| v["model"]["vocab"]["zz"] = 4_000_000_000_u32.into()), "over the limit"),
            (edited(&|v| v["model"]["vocab"]["zz"] = (-1).into()), "-1"),
            (edited(&|v| v["normalizer"] = serde_json::json!({"type": "Shout"})), "`normalizer`"),
            (edited(&|v| v["decoder"] = serde_json::json!({"type": "Guess"})), "`decoder`"),
            (edited(&|v| v["version"] = "2.0".into()), "`version`"),
        ];
        for (text, expected) in broken {
            let error = Tokenizer::from_json(text).unwrap_err();
            assert!(matches!(error, Error::InvalidFile { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}: {expected}");
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
