//! Words, labels and hashed n-grams of a fastText model, numbered as rows of its input matrix.

use std::collections::HashMap;

use super::file::Source;
use super::Settings;
use crate::error::Result;

/// What fastText reads at the end of a line.
pub(super) const END_OF_LINE: &[u8] = b"</s>";
/// How the name of a label begins; models do not store another choice.
const LABEL_PREFIX: &[u8] = b"__label__";

/// Words by name, labels by number, and where the buckets of n-grams went.
pub(super) struct Vocabulary {
    words: HashMap<Box<[u8]>, u32>,
    num_words: usize,
    pub labels: Vec<String>,
    pub label_counts: Vec<i64>,
    buckets: Buckets,
}

/// Buckets of n-grams: all of them, or the kept ones by their new number.
enum Buckets {
    All,
    Kept(HashMap<u32, u32>),
}

/// What a token is.
pub(super) enum Token {
    /// A word, with its row if it is in the vocabulary.
    Word(Option<u32>),
    /// A label, known or not: no part of the text.
    Label,
}

impl Vocabulary {
    pub fn read(source: &mut Source) -> Result<Self> {
        let (size, num_words, num_labels) = (source.i32()?, source.i32()?, source.i32()?);
        let _tokens = source.i64()?;
        let kept = source.i64()?;
        // A name is at least its zero byte; count and kind are nine more.
        let size = source.fits("words and labels", i64::from(size), 10)?;
        let adds_up =
            num_words >= 0 && num_labels >= 1 && i64::from(num_words) + i64::from(num_labels) == size as i64;
        let found = format!("{num_words} words and {num_labels} labels");
        source.check(adds_up, &format!("at least one label, {size} words and labels in all"), found)?;
        let mut vocabulary = Self {
            words: HashMap::with_capacity(num_words as usize),
            num_words: num_words as usize,
            labels: Vec::with_capacity(num_labels as usize),
            label_counts: Vec::with_capacity(num_labels as usize),
            buckets: Buckets::All,
        };
        for index in 0..size {
            vocabulary.read_entry(source, index)?;
        }
        vocabulary.read_buckets(source, kept)?;
        Ok(vocabulary)
    }

    fn read_entry(&mut self, source: &mut Source, index: usize) -> Result<()> {
        let mut name = Vec::new();
        source.name(&mut name)?;
        let count = source.i64()?;
        let kind = source.u8()?;
        let is_label = index >= self.num_words;
        source.check(kind == u8::from(is_label), "words before labels", format!("kind {kind} at {index}"))?;
        if is_label {
            let name = name.strip_prefix(LABEL_PREFIX).unwrap_or(&name);
            self.labels.push(String::from_utf8_lossy(name).into_owned());
            self.label_counts.push(count);
        } else {
            self.words.insert(name.into_boxed_slice(), index as u32);
        }
        Ok(())
    }

    fn read_buckets(&mut self, source: &mut Source, kept: i64) -> Result<()> {
        if kept < 0 {
            return Ok(());
        }
        let kept = source.fits("kept n-grams", kept, 8)?;
        let mut rows = HashMap::with_capacity(kept);
        for _ in 0..kept {
            let (bucket, row) = (source.i32()?, source.i32()?);
            let fits = bucket >= 0 && usize::try_from(row).is_ok_and(|row| row < kept);
            source.check(
                fits,
                &format!("kept n-grams numbered below {kept}"),
                format!("{bucket} as {row}"),
            )?;
            rows.insert(bucket as u32, row as u32);
        }
        self.buckets = Buckets::Kept(rows);
        Ok(())
    }

    /// True if n-grams were dropped from the model.
    pub fn is_pruned(&self) -> bool {
        matches!(self.buckets, Buckets::Kept(_))
    }

    /// Rows that the input matrix must have.
    pub fn num_rows(&self, settings: &Settings) -> usize {
        let buckets = match &self.buckets {
            Buckets::All => settings.num_buckets as usize,
            Buckets::Kept(rows) => rows.len(),
        };
        self.num_words + buckets
    }

    /// What `token` is. An unknown token is a label if it begins like one.
    pub fn token(&self, token: &[u8]) -> Token {
        match self.words.get(token) {
            Some(row) => Token::Word(Some(*row)),
            None if token.starts_with(LABEL_PREFIX) => Token::Label,
            None => Token::Word(None),
        }
    }

    /// Row of a bucket of n-grams, if the model kept it.
    pub fn bucket_row(&self, bucket: u32) -> Option<usize> {
        let row = match &self.buckets {
            Buckets::All => bucket,
            Buckets::Kept(rows) => *rows.get(&bucket)?,
        };
        Some(self.num_words + row as usize)
    }
}
