//! The built-in model: a softmax over hashed n-grams of letters and words, one table a script.
//!
//! `train.py` makes `model.bin` and says what a feature is; the two must agree. A text of more
//! than [`SAMPLE_BYTES`] is judged by as many bytes, in eight pieces spread evenly over it. Two
//! pieces are read first, and the others only if these leave a doubt.

use super::features::{buckets, Sums, MAX_LANGUAGES};
use super::script::{weight, Letters, Script, HAN, KANA, NONE, NUM_SCRIPTS, NUM_TABLES, ONE_LANGUAGE};
use super::UNKNOWN;

/// Most bytes of a text that are read.
pub const SAMPLE_BYTES: usize = 1024;
/// The order in which pieces of a text are read: any beginning of it is spread over the text.
const PIECES: [usize; 8] = [2, 6, 0, 4, 1, 5, 3, 7];
/// Pieces after which a text may be decided.
const LOOKS: [usize; 3] = [2, 4, 8];
/// Bytes of a piece of a long text, and the fewest of a short one.
const PIECE_BYTES: usize = SAMPLE_BYTES / PIECES.len();
const MIN_PIECE_BYTES: usize = 96;
/// Probability past which, and share of one script from which, no more pieces are read.
const SURE: f32 = 0.995;
const SURE_SHARE: f32 = 0.9;
/// Features past this many add no certainty: they stem from one text, and training saw no more.
const MAX_EVIDENCE: f32 = 1000.0;
const MAGIC: &[u8] = b"TRILANG1";
static MODEL: &[u8] = include_bytes!("model.bin");

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
    rows: Vec<Row>,
}

/// Weights of one bucket, 128 more than they are: a cache line.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Row(pub [u8; MAX_LANGUAGES]);

/// The letters of the pieces read so far, 0 between words, and how many each script has.
#[derive(Debug, Default)]
pub(super) struct Sample {
    letters: Vec<(u16, Script)>,
    weights: [u32; NUM_SCRIPTS],
    /// Room for the buckets of features.
    buckets: Vec<u32>,
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
        self.identify_in(&LOOKS, text, sample)
    }

    /// The same, with a look after as many pieces as `looks` says.
    fn identify_in(&self, looks: &[usize], text: &str, sample: &mut Sample) -> (&str, f32) {
        let mut judged = NOTHING;
        let (mut tally, mut read) = (Tally::default(), 0);
        sample.clear();
        for look in looks.iter().copied() {
            for piece in PIECES[read..look].iter().filter_map(|index| piece(text, *index)) {
                sample.take(piece, &self.letters);
            }
            read = look;
            judged = self.judge(sample, &mut tally);
            if judged.is_sure() {
                break;
            }
        }
        (judged.code, judged.share * judged.score)
    }

    /// The most likely language of the letters read so far, of which `tally` has those before.
    fn judge(&self, sample: &mut Sample, tally: &mut Tally) -> Judged<'_> {
        let Some((script, share)) = sample.main_script() else { return NOTHING };
        let Some(table) = self.tables.get(usize::from(script.0)) else {
            let code = ONE_LANGUAGE[usize::from(script.0) - NUM_TABLES];
            return Judged { code, share, score: 1.0, may_change: script == HAN };
        };
        if tally.script != script {
            *tally = Tally { script, ..Tally::default() };
        }
        let new = &sample.letters[tally.letters..];
        tally.sums.add(&table.rows, buckets(new, script, table.shift, &mut sample.buckets));
        tally.letters = sample.letters.len();
        let (code, score) = table.best(&tally.sums);
        Judged { code, share, score, may_change: false }
    }
}

/// A language, the share of its script among the letters, and its probability in that script.
struct Judged<'m> {
    code: &'m str,
    share: f32,
    score: f32,
    /// True for Han without kana, which may be Japanese all the same.
    may_change: bool,
}

const NOTHING: Judged = Judged { code: UNKNOWN, share: 0.0, score: 0.0, may_change: true };

impl Judged<'_> {
    fn is_sure(&self) -> bool {
        self.score > SURE && self.share > SURE_SHARE && !self.may_change
    }
}

/// Sums over the features of the first `letters` letters, in one script.
struct Tally {
    script: Script,
    letters: usize,
    sums: Sums,
}

impl Default for Tally {
    fn default() -> Self {
        Self { script: NONE, letters: 0, sums: Sums::default() }
    }
}

impl Sample {
    fn clear(&mut self) {
        self.letters.clear();
        self.weights = [0; NUM_SCRIPTS];
    }

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
    fn main_script(&self) -> Option<(Script, f32)> {
        let mut weights = self.weights;
        let [han, kana] = [HAN, KANA].map(|script| weights[usize::from(script.0)]);
        let (from, to) = if kana * 9 >= han { (HAN, KANA) } else { (KANA, HAN) };
        weights[usize::from(to.0)] = han + kana;
        weights[usize::from(from.0)] = 0;
        let total: u32 = weights.iter().sum();
        let (script, most) = weights.iter().enumerate().rev().max_by_key(|(_, weight)| **weight)?;
        (total > 0).then(|| (Script(script as u8), *most as f32 / total as f32))
    }
}

/// Piece `index` of a text, cut at characters: of a long text eight pieces have a distance,
/// of one up to [`SAMPLE_BYTES`] they are the whole, of a short one there are fewer.
fn piece(text: &str, index: usize) -> Option<&str> {
    let count = (text.len() / MIN_PIECE_BYTES).clamp(1, PIECES.len());
    let (stride, rest) = (text.len() / count, text.len() % count);
    let length = if text.len() > SAMPLE_BYTES { PIECE_BYTES } else { stride };
    let start = index * stride + (stride - length) / 2;
    let end = start + length + if index + 1 == count && length == stride { rest } else { 0 };
    (index < count).then(|| &text[ceil_char(text, start)..ceil_char(text, end)])
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

    /// The most likely language by the sums of its weights, and its probability among those of the table.
    fn best(&self, sums: &Sums) -> (&str, f32) {
        let count = (sums.count() as f32).max(1.0);
        let scale = self.unit * count.min(MAX_EVIDENCE).sqrt() / count;
        let totals = &sums.totals()[..self.codes.len()];
        let most = totals.iter().copied().max().unwrap_or_default();
        let best = totals.iter().position(|total| *total == most).unwrap_or_default();
        let others: f32 = totals.iter().map(|total| (-scale * (most - total) as f32).exp()).sum();
        (&self.codes[best], 1.0 / others)
    }
}

/// Rows of `languages` bytes, each filled up with zeros.
fn padded(cells: &[u8], languages: usize) -> Vec<Row> {
    let pad = |cells: &[u8]| {
        let mut row = [0; MAX_LANGUAGES];
        for (to, from) in row.iter_mut().zip(cells) {
            *to = from ^ 0x80;
        }
        Row(row)
    };
    cells.chunks_exact(languages).map(pad).collect()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> BuiltIn {
        BuiltIn::new().unwrap()
    }

    #[test]
    fn pieces_of_a_text_up_to_the_limit_are_the_whole_and_of_a_longer_one_are_spread_over_it() {
        for text in ["", "a", &"ab".repeat(95), &"né ".repeat(170), &"語".repeat(341)] {
            let whole: String = (0..PIECES.len()).filter_map(|index| piece(text, index)).collect();
            assert_eq!(whole, text);
        }
        let text: String = ('\u{4e00}'..'\u{7000}').collect();
        let pieces: Vec<&str> = (0..PIECES.len()).filter_map(|index| piece(&text, index)).collect();
        let gaps = pieces.windows(2).map(|pair| pair[1].as_ptr() as usize - pair[0].as_ptr() as usize);
        assert!(
            gaps.clone().min().unwrap() + 4 > text.len() / PIECES.len(),
            "{:?}",
            gaps.collect::<Vec<_>>()
        );
        assert!(pieces.iter().all(|piece| piece.len().abs_diff(PIECE_BYTES) < 4));
    }

    #[test]
    fn a_look_at_a_beginning_names_the_language_that_the_whole_sample_has() {
        let (model, mut sample) = (model(), Sample::default());
        let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases/languages.jsonl.zst");
        let pages = zstd::decode_all(std::fs::File::open(cases).unwrap()).unwrap();
        for line in String::from_utf8(pages).unwrap().lines() {
            let page: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = page["text"].as_str().unwrap();
            for (at, length) in [(0, 700), (0, 3000), (500, 2000), (0, usize::MAX)] {
                let from = ceil_char(text, at);
                let part = &text[from..ceil_char(text, from.saturating_add(length).min(text.len()))];
                let (early, score) = model.identify(part, &mut sample);
                let (whole, _) = model.identify_in(&[PIECES.len()], part, &mut sample);
                assert!(early == whole || score < SURE, "{early} {score}, not {whole}: {part:.80}");
            }
        }
    }

    #[test]
    fn a_text_whose_beginning_is_of_another_script_goes_by_the_whole() {
        let (model, mut sample) = (model(), Sample::default());
        let english = "This page was not translated, so that only its headings are here. ".repeat(4);
        let russian = "Каждый человек имеет право на жизнь, свободу и личную неприкосновенность. ".repeat(12);
        assert_eq!(model.identify(&(english + &russian), &mut sample).0, "ru");
        let japanese = "第一条".repeat(80) + &"すべての人間は、生まれながらにして自由であり、".repeat(4);
        assert_eq!(model.identify(&japanese, &mut sample).0, "ja");
    }
}
