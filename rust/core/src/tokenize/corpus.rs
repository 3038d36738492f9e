//! The documents of prepared folders and raw files, one by one.
//!
//! Tokenizing expects clean text: a line that is not a document is an error here,
//! not a quarantined record. Preparation is what cleans.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Place, Result};
use crate::manifest::{self, Manifest};
use crate::read::{self, Block, Limits, Reader};

/// Format name of prepared documents.
const DOCUMENTS_FORMAT: &str = "triptych-documents/1";

/// What can be read, for messages.
const EXPECTED: &str =
    "a folder of prepared documents, or a file of a format that is read, as `.jsonl.gz` or `.txt`";

/// One text with its name and origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Name, unique within its source.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// The text.
    pub text: String,
}

impl Document {
    /// About the memory that it takes: of small documents most is not their text.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.source.len() + self.text.len()
    }
}

/// A document with the language that it says it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// The document.
    pub document: Document,
    /// Its field `language`, or else `lang`, if that is a string.
    pub language: Option<String>,
}

/// Files that hold documents, sorted: the order in which they were named does not matter.
#[derive(Debug, Clone)]
pub struct Corpus {
    files: Vec<PathBuf>,
    inputs: Map<String, Value>,
}

impl Corpus {
    /// Finds the files of `paths`, each once; folders are verified against their manifests.
    ///
    /// # Errors
    /// `NoInput` for a path that does not exist or holds nothing readable, `Integrity` for a damaged folder.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut corpus = Self { files: Vec::new(), inputs: Map::new() };
        for path in read::distinct(paths.to_vec()) {
            corpus.add(&path)?;
        }
        corpus.files = read::distinct(corpus.files);
        Ok(corpus)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return self.add_folder(path);
        }
        if !path.is_file() || !read::is_readable(path) {
            return Err(Error::NoInput { path: path.to_owned(), expected: EXPECTED.to_owned() });
        }
        manifest::note_input(&mut self.inputs, &file_name(path), manifest::sha256_file(path)?);
        self.files.push(path.to_owned());
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let listed = Manifest::read(folder, DOCUMENTS_FORMAT)?;
        listed.verify(folder)?;
        let hash = manifest::sha256_file(&folder.join(manifest::FILE_NAME))?;
        manifest::note_input(&mut self.inputs, &file_name(folder), hash);
        self.files.extend(listed.shards().map(|name| folder.join(name)));
        Ok(())
    }

    /// SHA-256 of every input by name: of a file itself, of a folder's manifest.
    pub fn inputs(&self) -> Value {
        Value::Object(self.inputs.clone())
    }

    /// Every document, file by file.
    pub fn documents(&self) -> impl Iterator<Item = Result<Document>> + '_ {
        self.labelled().map(|labelled| Ok(labelled?.document))
    }

    /// Every document with its language.
    pub fn labelled(&self) -> impl Iterator<Item = Result<Labelled>> + '_ {
        self.files.iter().flat_map(|path| match read_file(path) {
            Ok(documents) => documents,
            Err(error) => Box::new(std::iter::once(Err(error))),
        })
    }
}

type Documents = Box<dyn Iterator<Item = Result<Labelled>>>;

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn read_file(path: &Path) -> Result<Documents> {
    let reader = read::open(path, "text", Limits::of_own_files())?;
    Ok(Box::new(Lines {
        reader,
        path: path.to_owned(),
        block: Block::default(),
        at: 0,
        number: 1,
        is_done: false,
    }))
}

/// The documents of one file, block by block.
struct Lines {
    reader: Reader,
    path: PathBuf,
    block: Block,
    /// Where the next line begins in the block, and its number.
    at: usize,
    number: u64,
    is_done: bool,
}

impl Lines {
    fn place(&self, line: u64, byte: Option<u64>) -> Place {
        Place { file: Some(self.path.clone()), line: Some(line), byte }
    }

    /// Takes the next block; false at the end.
    fn next_block(&mut self) -> Result<bool> {
        let Some(block) = self.reader.next_block()? else { return Ok(false) };
        self.reader.recycle(std::mem::take(&mut self.block.bytes));
        (self.at, self.number, self.block) = (0, block.first_line, block);
        match self.block.bad.first() {
            Some(bad) => {
                Err(invalid(&self.path, bad.line, &bad.reason).at(self.place(bad.line, Some(bad.byte))))
            }
            None => Ok(true),
        }
    }

    /// The next line of the block that is not empty.
    fn next_line(&mut self) -> Option<Result<Labelled>> {
        while self.at < self.block.bytes.len() {
            let rest = &self.block.bytes[self.at..];
            let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
            let (at, number) = (self.at as u64, self.number);
            (self.at, self.number) = (self.at + line.len() + 1, number + 1);
            if !line.trim_ascii().is_empty() {
                let place = self.place(number, self.block.first_byte.map(|first| first + at));
                return Some(parse_line(line, number, &self.path).map_err(|error| error.at(place)));
            }
        }
        None
    }
}

impl Iterator for Lines {
    type Item = Result<Labelled>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            if let Some(document) = self.next_line() {
                return Some(document);
            }
            match self.next_block() {
                Ok(is_more) => self.is_done = !is_more,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

fn source_name(path: &Path) -> String {
    let name = file_name(path);
    name.split('.').next().unwrap_or_default().to_owned()
}

/// The fields of a line that tokenizing reads; others are skipped.
#[derive(Deserialize)]
struct Line {
    id: Option<Value>,
    source: Option<String>,
    language: Option<Value>,
    lang: Option<Value>,
    text: String,
}

fn invalid(path: &Path, number: u64, found: &dyn std::fmt::Display) -> Error {
    Error::InvalidFile {
        path: path.to_owned(),
        expected: "one JSON object with a string `text` a line".to_owned(),
        found: format!("line {number}: {found}"),
    }
}

/// What is wrong with a line, without the value itself: it may be somebody's address.
fn fault(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let parts = told.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "));
    let Some((found, expected)) = parts else { return told };
    let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
    format!("invalid type: {kind}, expected {expected}")
}

fn parse_line(bytes: &[u8], number: u64, path: &Path) -> Result<Labelled> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| invalid(path, number, &fault(&error)))?;
    let id = match line.id {
        Some(Value::String(id)) => id,
        Some(Value::Null) | None => format!("{}:{number}", file_name(path)),
        Some(other) => other.to_string(),
    };
    let source = line.source.unwrap_or_else(|| source_name(path));
    let mut languages = [line.language, line.lang].into_iter().flatten();
    let language = languages.find_map(|language| language.as_str().map(str::to_owned));
    Ok(Labelled { document: Document { id, source, text: line.text }, language })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn documents_come_in_the_order_of_sorted_files_with_ids_and_sources_filled_in() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl.zst"));
        fs::write(
            &a,
            "{\"text\": \"one\"}\n\n{\"id\": 7, \"text\": \"two\", \"source\": \"web\", \"x\": 1}\n",
        )
        .unwrap();
        fs::write(&b, zstd::encode_all(&b"{\"id\": \"z\", \"text\": \"three\"}"[..], 1).unwrap()).unwrap();
        let corpus = Corpus::open(&[b, a]).unwrap();
        let found: Vec<Document> = corpus.documents().map(Result::unwrap).collect();
        let short: Vec<(&str, &str, &str)> = found.iter().map(|d| (&*d.id, &*d.source, &*d.text)).collect();
        assert_eq!(short, [("a.jsonl:1", "a", "one"), ("7", "web", "two"), ("z", "b", "three")]);
    }

    #[test]
    fn a_file_with_several_names_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs::write(&path, "{\"text\": \"one\"}").unwrap();
        fs::create_dir(dir.path().join("x")).unwrap();
        let other = dir.path().join("x").join("..").join("a.jsonl");
        let corpus = Corpus::open(&[path.clone(), other, path]).unwrap();
        assert_eq!((corpus.documents().count(), corpus.inputs.len()), (1, 1));
    }

    #[test]
    fn inputs_of_one_name_are_noted_each() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["x", "y"].map(|folder| {
            fs::create_dir(dir.path().join(folder)).unwrap();
            let path = dir.path().join(folder).join("a.jsonl");
            fs::write(&path, format!("{{\"text\": \"{folder}\"}}")).unwrap();
            path
        });
        let inputs = Corpus::open(&paths).unwrap().inputs();
        for (name, path) in ["a.jsonl", "a.jsonl (2)"].into_iter().zip(&paths) {
            assert_eq!(inputs[name], manifest::sha256_file(path).unwrap());
        }
    }

    #[test]
    fn the_language_is_that_of_the_first_field_that_is_a_string() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let fields =
            [r#""language": "de", "lang": "en""#, r#""language": 7, "lang": "en""#, r#""lang": null"#];
        let lines: Vec<String> =
            fields.iter().map(|fields| format!("{{\"text\": \"\", {fields}}}")).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let corpus = Corpus::open(&[path]).unwrap();
        let found: Vec<_> = corpus.labelled().map(|labelled| labelled.unwrap().language).collect();
        assert_eq!(found, [Some("de".to_owned()), Some("en".to_owned()), None]);
    }

    #[test]
    fn a_line_that_is_no_document_is_named_by_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs::write(&path, "{\"text\": \"one\"}\n{\"text\": 2}\n").unwrap();
        let error = Corpus::open(&[path]).unwrap().documents().find_map(Result::err).unwrap();
        assert!(error.to_string().contains("a.jsonl") && error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn a_line_that_is_no_document_is_named_without_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let cases = [
            (r#""joe@corp.org, expected `x`""#, "invalid type: string, expected"),
            (r#"{"text": 491512345678}"#, "invalid type: integer, expected a string"),
            (r#"{"text": 4915.12345678}"#, "invalid type: floating point, expected a string"),
            (r#"{"text": ["joe@corp.org"]}"#, "invalid type: sequence, expected a string"),
            (r#"{"text": "a", "source": {"joe@corp.org": 1}}"#, "invalid type: map, expected a string"),
            (r#"{"text": "joe@corp.org"#, "EOF while parsing"),
            (r#"{"joe@corp.org": 1}"#, "missing field `text`"),
        ];
        for (line, expected) in cases {
            fs::write(&path, line).unwrap();
            let corpus = Corpus::open(std::slice::from_ref(&path)).unwrap();
            let error = corpus.documents().find_map(Result::err).unwrap().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("joe") && !error.contains("12345678"), "{error}");
        }
    }

    #[test]
    fn every_format_that_is_prepared_can_be_tokenized_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let page = file("a.html", b"<title>T</title><p>page</p>");
        let text = zstd::encode_all(&b"# Notes"[..], 1).unwrap();
        let corpus = Corpus::open(&[page, file("b.md.zst", &text)]).unwrap();
        let texts: Vec<String> = corpus.documents().map(|document| document.unwrap().text).collect();
        assert_eq!(texts, ["page", "# Notes"]);
        let cut = file("c.jsonl.zst", &text[..text.len() - 3]);
        let error = Corpus::open(&[cut]).unwrap().documents().find_map(Result::err).unwrap().to_string();
        assert!(error.contains("c.jsonl.zst") && error.contains("ends early or is damaged"), "{error}");
    }

    #[test]
    fn a_missing_path_or_an_unknown_ending_is_no_input() {
        let missing = Corpus::open(&[PathBuf::from("/nowhere/x.jsonl")]);
        assert!(matches!(missing, Err(Error::NoInput { .. })));
    }
}
