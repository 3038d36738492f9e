//! The built-in model: a softmax over hashed n-grams of letters and words, one table a script.
//!
//! `train.py` makes `model.bin` and says what a feature is; the two must agree. A text of more
//! than [`SAMPLE_BYTES`] is judged by as many bytes, in eight pieces spread evenly over it.

use super::script::{weight, Letters, Script, HAN, KANA, NONE, NUM_SCRIPTS, NUM_TABLES, ONE_LANGUAGE};
use super::UNKNOWN;

/// Most bytes of a text that are read.
pub const SAMPLE_BYTES: usize = 1024;
const NUM_PIECES: usize = 8;
/// Most languages of a table.
const MAX_LANGUAGES: usize = 48;
/// Rows of i8 that a sum of i16 can take.
const MAX_ROWS: u32 = 256;
/// Features past this many add no certainty: they stem from one text, and training saw no more.
const MAX_EVIDENCE: f32 = 1000.0;
const MAGIC: &[u8] = b"TRILANG1";
static MODEL: &[u8] = include_bytes!("model.bin");

/// Multipliers of the characters of an n-gram, the last first.
const LAGS: [u32; 4] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f];
const MIX: u32 = 0x2c1b_3c6d;
const WORD_SEED: u32 = 0x811c_9dc5;
const WORD: u32 = 0x0100_0193;

/// Tables of the scripts that hold several languages.
pub(super) struct BuiltIn {
    letters: Letters,
    tables: Vec<Table>,
}

/// Weights of the languages of one script, a row a bucket of features.
struct Table {
    codes: Vec<String>,
    shift: u32,
    unit: f32,
    rows: Vec<[i8; MAX_LANGUAGES]>,
}

/// The letters of a sample, 0 between words, and how many each script has.
#[derive(Debug)]
pub(super) struct Sample {
    letters: Vec<(u16, Script)>,
    weights: [u32; NUM_SCRIPTS],
}

impl Default for Sample {
    fn default() -> Self {
        Self { letters: Vec::new(), weights: [0; NUM_SCRIPTS] }
    }
}

impl BuiltIn {
    /// Reads the model that is compiled in. `None` only if `model.bin` is not what `train.py` writes.
    pub fn new() -> Option<Self> {
        let mut rest = MODEL.strip_prefix(MAGIC)?;
        let mut tables = Vec::with_capacity(NUM_TABLES);
        for _ in 0..NUM_TABLES {
            tables.push(Table::read(&mut rest)?);
        }
        rest.is_empty().then(|| Self { letters: Letters::new(), tables })
    }

    /// Codes of the languages, in no order.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        let of_tables = self.tables.iter().flat_map(|table| table.codes.iter().map(String::as_str));
        of_tables.filter(|code| *code != UNKNOWN).chain(ONE_LANGUAGE)
    }

    /// The language of `text` and how sure that is.
    pub fn identify(&self, text: &str, sample: &mut Sample) -> (&str, f32) {
        sample.letters.clear();
        sample.weights = [0; NUM_SCRIPTS];
        for piece in pieces(text) {
            sample.take(piece, &self.letters);
        }
        let Some((script, share)) = sample.main_script() else { return (UNKNOWN, 0.0) };
        let (code, score) = match self.tables.get(usize::from(script.0)) {
            Some(table) => table.best(&sample.letters, script),
            None => (ONE_LANGUAGE[usize::from(script.0) - NUM_TABLES], 1.0),
        };
        (code, share * score)
    }
}

impl Sample {
    /// Appends the letters of a piece, between boundaries.
    fn take(&mut self, piece: &str, letters: &Letters) {
        self.letters.push((0, NONE));
        for char in piece.chars() {
            let letter = letters.of(char);
            if letter.script != NONE {
                self.weights[usize::from(letter.script.0)] += weight(letter.script);
            }
            self.letters.push((letter.folded, letter.script));
        }
        self.letters.push((0, NONE));
    }

    /// The script with most weight, and its share. Han goes to Japanese if a tenth beside it is kana.
    fn main_script(&mut self) -> Option<(Script, f32)> {
        let [han, kana] = [HAN, KANA].map(|script| self.weights[usize::from(script.0)]);
        let (from, to) = if kana * 9 >= han { (HAN, KANA) } else { (KANA, HAN) };
        self.weights[usize::from(to.0)] = han + kana;
        self.weights[usize::from(from.0)] = 0;
        let total: u32 = self.weights.iter().sum();
        let (script, most) = self.weights.iter().enumerate().rev().max_by_key(|(_, weight)| **weight)?;
        (total > 0).then(|| (Script(script as u8), *most as f32 / total as f32))
    }
}

/// The whole of a short text, or eight pieces of a long one, cut at characters.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let (count, length) =
        if text.len() <= SAMPLE_BYTES { (1, text.len()) } else { (NUM_PIECES, SAMPLE_BYTES / NUM_PIECES) };
    let stride = text.len() / count;
    (0..count).map(move |index| {
        let start = index * stride + (stride - length) / 2;
        &text[ceil_char(text, start)..ceil_char(text, start + length)]
    })
}

/// The first character that begins at byte `at` or after.
fn ceil_char(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

impl Table {
    fn read(rest: &mut &[u8]) -> Option<Self> {
        let [bits, languages] = take::<2>(rest)?;
        let names = usize::from(u16::from_le_bytes(take(rest)?));
        let unit = f32::from_le_bytes(take(rest)?);
        let (names, cells) = rest.split_at_checked(names)?;
        let (cells, after) = cells.split_at_checked(usize::from(languages) << bits)?;
        *rest = after;
        let names = std::str::from_utf8(names).ok()?;
        let codes: Vec<String> =
            names.split(',').map(|code| if code == "other" { UNKNOWN } else { code }.to_owned()).collect();
        let fits =
            codes.len() == usize::from(languages) && codes.len() <= MAX_LANGUAGES && (1..=20).contains(&bits);
        fits.then(|| Self { shift: 32 - u32::from(bits), unit, rows: padded(cells, codes.len()), codes })
    }

    /// The most likely language of the words in `script`, and its probability among those of the table.
    fn best(&self, letters: &[(u16, Script)], script: Script) -> (&str, f32) {
        let mut sums = Sums::default();
        self.add_features(letters, script, &mut sums);
        let (totals, count) = sums.totals();
        let count = (count as f32).max(1.0);
        let scale = self.unit * count.min(MAX_EVIDENCE).sqrt() / count;
        let totals = &totals[..self.codes.len()];
        let (best, most) = totals.iter().enumerate().fold((0, i32::MIN), |best, (index, total)| {
            if *total > best.1 {
                (index, *total)
            } else {
                best
            }
        });
        let others: f32 = totals.iter().map(|total| (scale * (total - most) as f32).exp()).sum();
        (&self.codes[best], 1.0 / others)
    }

    /// Adds the rows of all n-grams of 1 to 4 and all words. A boundary may begin or end an n-gram.
    fn add_features(&self, letters: &[(u16, Script)], script: Script, sums: &mut Sums) {
        let mut window = [0_u32; 4]; // the last letters, the newest first
        let mut word = WORD_SEED;
        for (folded, of) in letters {
            let letter = if *of == script { u32::from(*folded) } else { 0 };
            if letter == 0 && window[0] == 0 {
                continue;
            }
            window = [letter, window[0], window[1], window[2]];
            self.add_ngrams(&window, sums);
            if letter == 0 {
                sums.add(self.row(word));
                word = WORD_SEED;
            } else {
                word = (word ^ letter).wrapping_mul(WORD);
            }
        }
    }

    /// Adds the n-grams that end with the newest letter, as far back as the word goes.
    fn add_ngrams(&self, window: &[u32; 4], sums: &mut Sums) {
        let mut hash = 0_u32;
        for (lag, (letter, multiplier)) in window.iter().zip(LAGS).enumerate() {
            hash = hash.wrapping_add((letter + 1).wrapping_mul(multiplier));
            if lag > 0 || *letter != 0 {
                sums.add(self.row(hash));
            }
            if lag > 0 && *letter == 0 {
                break;
            }
        }
    }

    fn row(&self, hash: u32) -> &[i8; MAX_LANGUAGES] {
        &self.rows[(hash.wrapping_mul(MIX) >> self.shift) as usize]
    }
}

/// Rows of `languages` bytes, each filled up with zeros.
fn padded(cells: &[u8], languages: usize) -> Vec<[i8; MAX_LANGUAGES]> {
    let pad = |cells: &[u8]| {
        let mut row = [0; MAX_LANGUAGES];
        for (to, from) in row.iter_mut().zip(cells) {
            *to = i8::from_le_bytes([*from]);
        }
        row
    };
    cells.chunks_exact(languages).map(pad).collect()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

/// Sums of rows: i16 for speed, emptied into i32 before they can overflow.
struct Sums {
    small: [i16; MAX_LANGUAGES],
    large: [i32; MAX_LANGUAGES],
    in_small: u32,
    count: u32,
}

impl Default for Sums {
    fn default() -> Self {
        Self { small: [0; MAX_LANGUAGES], large: [0; MAX_LANGUAGES], in_small: 0, count: 0 }
    }
}

impl Sums {
    #[inline]
    fn add(&mut self, row: &[i8; MAX_LANGUAGES]) {
        for (sum, cell) in self.small.iter_mut().zip(row) {
            *sum = sum.wrapping_add(i16::from(*cell)); // cannot wrap before MAX_ROWS
        }
        self.in_small += 1;
        if self.in_small == MAX_ROWS {
            self.empty();
        }
    }

    fn empty(&mut self) {
        for (large, small) in self.large.iter_mut().zip(&mut self.small) {
            *large += i32::from(std::mem::take(small));
        }
        self.count += std::mem::take(&mut self.in_small);
    }

    fn totals(mut self) -> ([i32; MAX_LANGUAGES], u32) {
        self.empty();
        (self.large, self.count)
    }
}
