//! Reader of supervised fastText models, `.bin` and quantised `.ftz` (Joulin et al. 2016).
//!
//! A text gets the labels and probabilities of fastText's own `predict`, in one pass and in memory
//! that does not grow with the text. The C++ program adds 1e-5 to a probability before it takes the
//! logarithm; so do the scores here, capped at 1.

mod file;
mod matrix;
mod tree;
mod vocabulary;

use std::path::Path;

use self::file::Source;
use self::matrix::{Matrix, MAX_COLUMNS};
use self::tree::Tree;
use self::vocabulary::{Token, Vocabulary, END_OF_LINE};
use crate::error::Result;

const MAGIC: i32 = 793_712_314;
/// The version in which models are written since 2017; 11 had no character n-grams.
const VERSIONS: std::ops::RangeInclusive<i32> = 11..=12;
const SUPERVISED: i32 = 3;
/// Longest n-gram, of characters or words, that a model may ask for; it bounds the time per byte.
const MAX_NGRAM: i32 = 64;
/// Multiplier of the hash of word n-grams.
const WORD_NGRAM_MULTIPLIER: u64 = 116_049_371;
/// What fastText adds to a probability.
const LOG_OFFSET: f32 = 1e-5;

/// A model, read whole into memory.
pub struct FastText {
    settings: Settings,
    vocabulary: Vocabulary,
    input: Matrix,
    output: Matrix,
    tree: Option<Tree>,
}

/// Working memory of one thread: the mean of the rows of a text, and a number a label.
#[derive(Debug, Default)]
pub struct FastTextScratch {
    hidden: Vec<f32>,
    num_rows: usize,
    open_ngrams: Vec<u64>,
    nodes: Vec<f32>,
    scores: Vec<f32>,
}

/// How the output becomes probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Hierarchical,
    /// One sigmoid a label: one-vs-all, or negative sampling.
    Sigmoids,
    Softmax,
}

/// The arguments of training that prediction needs.
struct Settings {
    num_columns: usize,
    word_ngram: usize,
    loss: Loss,
    num_buckets: u32,
    min_chars: usize,
    max_chars: usize,
}

impl Settings {
    fn read(source: &mut Source) -> Result<Self> {
        let (magic, version) = (source.i32()?, source.i32()?);
        source.check(magic == MAGIC, &format!("{MAGIC} at its start"), magic)?;
        source.check(VERSIONS.contains(&version), "version 11 or 12", version)?;
        let mut numbers = [0; 12];
        for number in &mut numbers {
            *number = source.i32()?;
        }
        let _sampling = source.i64()?;
        let [dim, _, _, _, _, word_ngram, loss, kind, buckets, min_chars, max_chars, _] = numbers;
        let max_chars = if version == 11 { 0 } else { max_chars };
        source.check(kind == SUPERVISED, "labels (supervised, 3)", format!("model kind {kind}"))?;
        source.check((1..=MAX_COLUMNS as i32).contains(&dim), &format!("1 to {MAX_COLUMNS} columns"), dim)?;
        let in_range = word_ngram <= MAX_NGRAM && max_chars <= MAX_NGRAM && buckets >= 0;
        let found = format!("{word_ngram} words, {max_chars} characters, {buckets} buckets");
        source.check(in_range, &format!("n-grams of at most {MAX_NGRAM} in 0 or more buckets"), &found)?;
        source.check(
            buckets > 0 || (word_ngram <= 1 && max_chars <= 0),
            "buckets for its n-grams",
            &found,
        )?;
        let loss = match loss {
            1 => Loss::Hierarchical,
            2 | 4 => Loss::Sigmoids,
            3 => Loss::Softmax,
            other => return Err(source.fault("loss 1 to 4", other)),
        };
        let [word_ngram, min_chars, max_chars] =
            [word_ngram, min_chars, max_chars].map(|n| n.max(0) as usize);
        Ok(Self {
            num_columns: dim as usize,
            word_ngram,
            loss,
            num_buckets: buckets as u32,
            min_chars,
            max_chars,
        })
    }
}

impl FastText {
    /// Reads a model.
    ///
    /// # Errors
    /// `InvalidFile` if it is no fastText file, not a supervised model, truncated, or contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        let source = &mut Source::open(path)?;
        let settings = Settings::read(source)?;
        let vocabulary = Vocabulary::read(source)?;
        let is_quantised = source.bool("the quantised flag")?;
        source.check(
            is_quantised || !vocabulary.is_pruned(),
            "a quantised matrix, as n-grams were dropped",
            "a dense",
        )?;
        let rows = vocabulary.num_rows(&settings);
        let input = Matrix::read(source, "input", is_quantised, rows, settings.num_columns)?;
        let is_output_quantised = source.bool("the quantised output flag")? && is_quantised;
        let num_labels = vocabulary.labels.len();
        let output = Matrix::read(source, "output", is_output_quantised, num_labels, settings.num_columns)?;
        source.end()?;
        let tree = match settings.loss {
            Loss::Hierarchical => Some(Tree::new(&vocabulary.label_counts).ok_or_else(|| {
                source.fault("labels in descending order of count", "counts that make no tree")
            })?),
            _ => None,
        };
        Ok(Self { settings, vocabulary, input, output, tree })
    }

    /// Names of the labels, without `__label__`.
    pub fn labels(&self) -> &[String] {
        &self.vocabulary.labels
    }

    /// The best label of `text` and its probability, in [0, 1]. `None` if the model knows nothing in it.
    ///
    /// The text is one line: a line break in it is a space.
    pub fn predict(&self, text: &str, scratch: &mut FastTextScratch) -> Option<(&str, f32)> {
        let scores = self.scores(text, scratch)?;
        // Of equal labels fastText keeps the last.
        let best = |best: (usize, f32), next: (usize, f32)| if next.1 >= best.1 { next } else { best };
        let (label, score) = scores.iter().copied().enumerate().fold((usize::MAX, f32::NEG_INFINITY), best);
        Some((self.vocabulary.labels.get(label)?, score))
    }

    /// The probability of every label, in the order of [`labels`](Self::labels).
    pub fn scores<'s>(&self, text: &str, scratch: &'s mut FastTextScratch) -> Option<&'s [f32]> {
        self.average_rows(text, scratch);
        if scratch.num_rows == 0 {
            return None;
        }
        let FastTextScratch { hidden, nodes, scores, .. } = scratch;
        scores.clear();
        if let Some(tree) = &self.tree {
            tree.scores(&self.output, hidden, nodes, scores);
        } else {
            scores.extend((0..self.output.rows).map(|row| self.output.dot_row(row, hidden)));
            match self.settings.loss {
                Loss::Softmax => softmax(scores),
                _ => apply(scores, sigmoid),
            }
            apply(scores, |score| score + LOG_OFFSET);
        }
        apply(scores, |score| score.min(1.0));
        Some(scores)
    }

    /// Mean of the rows of all words and n-grams of `text`, and of the end of the line.
    fn average_rows(&self, text: &str, scratch: &mut FastTextScratch) {
        scratch.hidden.clear();
        scratch.hidden.resize(self.settings.num_columns, 0.0);
        scratch.open_ngrams.clear();
        scratch.num_rows = 0;
        let tokens =
            text.as_bytes().split(|byte| matches!(byte, b' ' | 0 | 9..=13)).filter(|token| !token.is_empty());
        for token in tokens.chain([END_OF_LINE]) {
            self.add_token(token, scratch);
            if token == END_OF_LINE {
                break; // also where the text spells it out
            }
        }
        let scale = 1.0 / scratch.num_rows.max(1) as f32;
        apply(&mut scratch.hidden, |sum| sum * scale);
    }

    fn add_token(&self, token: &[u8], scratch: &mut FastTextScratch) {
        let Token::Word(row) = self.vocabulary.token(token) else { return };
        if let Some(row) = row {
            self.add_row(row as usize, scratch);
        }
        if token != END_OF_LINE && self.settings.max_chars > 0 {
            self.add_char_ngrams(token, scratch);
        }
        if self.settings.word_ngram > 1 {
            self.add_word_ngrams(fnv_1a(token), scratch);
        }
    }

    /// Adds the n-grams of the characters of `<token>`, brackets included; a bracket alone is none.
    fn add_char_ngrams(&self, token: &[u8], scratch: &mut FastTextScratch) {
        let length = token.len() + 2;
        let byte = |at: usize| match at {
            0 => b'<',
            at if at + 1 == length => b'>',
            at => token[at - 1],
        };
        for start in (0..length).filter(|at| !is_continuation(byte(*at))) {
            let (mut hash, mut end) = (FNV_OFFSET, start);
            for chars in 1..=self.settings.max_chars {
                if end == length {
                    break;
                }
                hash = fnv_step(hash, byte(end));
                end += 1;
                while end < length && is_continuation(byte(end)) {
                    hash = fnv_step(hash, byte(end));
                    end += 1;
                }
                let is_bracket = chars == 1 && (start == 0 || end == length);
                if chars >= self.settings.min_chars && !is_bracket {
                    self.add_bucket(hash % self.settings.num_buckets, scratch);
                }
            }
        }
    }

    /// Adds the n-grams of words that end with the word of this hash, and opens one that begins with it.
    fn add_word_ngrams(&self, hash: u32, scratch: &mut FastTextScratch) {
        let signed = i64::from(hash as i32) as u64; // the program keeps hashes in signed integers
        let most = self.settings.word_ngram - 1;
        for index in 0..scratch.open_ngrams.len() {
            let ngram = scratch.open_ngrams[index].wrapping_mul(WORD_NGRAM_MULTIPLIER).wrapping_add(signed);
            scratch.open_ngrams[index] = ngram;
            self.add_bucket((ngram % u64::from(self.settings.num_buckets)) as u32, scratch);
        }
        if scratch.open_ngrams.len() == most {
            scratch.open_ngrams.remove(0);
        }
        scratch.open_ngrams.push(signed);
    }

    fn add_bucket(&self, bucket: u32, scratch: &mut FastTextScratch) {
        if let Some(row) = self.vocabulary.bucket_row(bucket) {
            self.add_row(row, scratch);
        }
    }

    fn add_row(&self, row: usize, scratch: &mut FastTextScratch) {
        self.input.add_row(row, &mut scratch.hidden);
        scratch.num_rows += 1;
    }
}

const FNV_OFFSET: u32 = 2_166_136_261;

/// One step of FNV-1a on a signed byte, as C++ `char` is on the machines that train models.
fn fnv_step(hash: u32, byte: u8) -> u32 {
    (hash ^ (byte as i8 as u32)).wrapping_mul(16_777_619)
}

fn fnv_1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| fnv_step(hash, *byte))
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    apply(scores, |score| score / sum);
}

fn apply(numbers: &mut [f32], function: impl Fn(f32) -> f32) {
    for number in numbers {
        *number = function(*number);
    }
}

/// The logistic function on a grid of 512 steps over [-8, 8], 0 and 1 beyond: fastText's table.
fn sigmoid(x: f32) -> f32 {
    if x < -8.0 {
        return 0.0;
    }
    if x > 8.0 {
        return 1.0;
    }
    let step = ((x + 8.0) * 32.0).floor();
    1.0 / (1.0 + (8.0 - step / 32.0).exp())
}
