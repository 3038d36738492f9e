//! The documents of prepared folders and raw files, one by one.
//!
//! Tokenizing expects clean text: a line that is not a document is an error here,
//! not a quarantined record. Preparation is what cleans.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{json, Map, Value};

use crate::error::{Error, Place, Result};
use crate::manifest::{self, Manifest};

/// Format name of prepared documents.
const DOCUMENTS_FORMAT: &str = "triptych-documents/1";

/// What can be read, for messages.
const EXPECTED: &str = "a folder of prepared documents, or `.jsonl`, `.jsonl.gz`, `.jsonl.zst`, `.txt`";

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

/// Files that hold documents, sorted: the order in which they were named does not matter.
#[derive(Debug, Clone)]
pub struct Corpus {
    files: Vec<PathBuf>,
    inputs: Map<String, Value>,
}

impl Corpus {
    /// Finds the files of `paths`; folders are verified against their manifests.
    ///
    /// # Errors
    /// `NoInput` for a path that does not exist or holds nothing readable, `Integrity` for a damaged folder.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut corpus = Self { files: Vec::new(), inputs: Map::new() };
        let mut paths = paths.to_vec();
        paths.sort();
        paths.dedup();
        for path in &paths {
            corpus.add(path)?;
        }
        Ok(corpus)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return self.add_folder(path);
        }
        if !path.is_file() || !is_readable(path) {
            return Err(Error::NoInput { path: path.to_owned(), expected: EXPECTED.to_owned() });
        }
        self.inputs.insert(file_name(path), json!(manifest::sha256_file(path)?));
        self.files.push(path.to_owned());
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let listed = Manifest::read(folder, DOCUMENTS_FORMAT)?;
        listed.verify(folder)?;
        let documents = listed.files.keys().filter(|name| name.as_str() != "quarantine.jsonl");
        let files: Vec<PathBuf> =
            documents.map(|name| folder.join(name)).filter(|path| is_readable(path)).collect();
        if files.is_empty() {
            return Err(Error::NoInput { path: folder.to_owned(), expected: EXPECTED.to_owned() });
        }
        let hash = manifest::sha256_file(&folder.join(manifest::FILE_NAME))?;
        self.inputs.insert(file_name(folder), json!(hash));
        self.files.extend(files);
        Ok(())
    }

    /// SHA-256 of every input by name: of a file itself, of a folder's manifest.
    pub fn inputs(&self) -> Value {
        Value::Object(self.inputs.clone())
    }

    /// Every document, file by file.
    pub fn documents(&self) -> impl Iterator<Item = Result<Document>> + '_ {
        self.files.iter().flat_map(|path| match read_file(path) {
            Ok(documents) => documents,
            Err(error) => Box::new(std::iter::once(Err(error))),
        })
    }
}

type Documents = Box<dyn Iterator<Item = Result<Document>>>;

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn is_readable(path: &Path) -> bool {
    let name = file_name(path);
    [".jsonl", ".jsonl.gz", ".jsonl.zst", ".txt"].iter().any(|ending| name.ends_with(ending))
}

fn read_file(path: &Path) -> Result<Documents> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("txt") => Ok(Box::new(std::iter::once(read_text(file, path)))),
        Some("gz") => Ok(lines(flate2::read::MultiGzDecoder::new(file), path)),
        Some("zst") => {
            let decoder = zstd::stream::read::Decoder::new(file).map_err(Error::io("decompress", path))?;
            Ok(lines(decoder, path))
        }
        _ => Ok(lines(file, path)),
    }
}

/// A text file is one document.
fn read_text(mut file: File, path: &Path) -> Result<Document> {
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(Error::io("read", path))?;
    let source = source_name(path);
    Ok(Document { id: format!("{}:1", file_name(path)), source, text })
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
    text: String,
}

fn lines(reader: impl Read + 'static, path: &Path) -> Documents {
    let path = path.to_owned();
    let reader = BufReader::with_capacity(1 << 20, reader);
    let numbered = reader.split(b'\n').zip(1u64..);
    let mut byte = 0;
    Box::new(numbered.filter_map(move |(line, number)| {
        let place = Place { file: Some(path.clone()), line: Some(number), byte: Some(byte) };
        byte += line.as_ref().map_or(0, |bytes| bytes.len() as u64 + 1);
        let document = match line {
            Ok(bytes) if bytes.trim_ascii().is_empty() => return None,
            Ok(bytes) => parse_line(&bytes, number, &path),
            Err(error) => Err(Error::io("read", &path)(error)),
        };
        Some(document.map_err(|error| error.at(place)))
    }))
}

fn parse_line(bytes: &[u8], number: u64, path: &Path) -> Result<Document> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| Error::InvalidFile {
        path: path.to_owned(),
        expected: "one JSON object with a string `text` a line".to_owned(),
        found: format!("line {number}: {error}"),
    })?;
    let id = match line.id {
        Some(Value::String(id)) => id,
        Some(Value::Null) | None => format!("{}:{number}", file_name(path)),
        Some(other) => other.to_string(),
    };
    Ok(Document { id, source: line.source.unwrap_or_else(|| source_name(path)), text: line.text })
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
    fn a_line_that_is_no_document_is_named_by_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs::write(&path, "{\"text\": \"one\"}\n{\"text\": 2}\n").unwrap();
        let error = Corpus::open(&[path]).unwrap().documents().find_map(Result::err).unwrap();
        assert!(error.to_string().contains("a.jsonl") && error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn a_missing_path_or_an_unknown_ending_is_no_input() {
        let missing = Corpus::open(&[PathBuf::from("/nowhere/x.jsonl")]);
        assert!(matches!(missing, Err(Error::NoInput { .. })));
    }
}
