//! From the file to the parts that encode: what is checked here is not checked again.

use std::collections::HashMap;

use serde_json::Value;

use super::added::AddedTokens;
use super::bpe::{Alphabet, ByteCuts, Cuts, Fallback, Model, Pairs, Scratch, Symbols};
use super::decode::Decoder;
use super::file::{self, File};
use super::normalize::Normalizer;
use super::vocabulary::{bytes_of, printable_char, Vocabulary};
use super::words::{Mark, Words};

/// The parts of a tokenizer, in the order in which text passes through them.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) vocabulary: Vocabulary,
    pub(super) added: AddedTokens,
    normalizer: Normalizer,
    words: Words,
    /// Where words of characters are cut.
    cuts: Option<Cuts>,
    model: Model,
    pub(super) decoder: Decoder,
}

impl Parts {
    /// The parts of a file.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub(super) fn new(json: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(json)
            .map_err(|error| other_model(json).unwrap_or_else(|| error.to_string()))?;
        check(&file)?;
        let mut vocabulary = Vocabulary::new(&file.model.vocab)?;
        let merges = merges(&file.model, &vocabulary)?;
        let normalizer = Normalizer::new(file.normalizer.as_ref())?;
        let bytes = byte_ids(&vocabulary);
        let words = Words::new(file.pre_tokenizer.as_ref(), bytes.is_some())?;
        let bytes = bytes.filter(|_| words.are_bytes());
        let whole = whole_words(&file.model, bytes.is_some());
        let alphabet = match bytes {
            Some(ids) => Alphabet::Bytes(ids),
            None => Alphabet::Chars(symbols(&file.model, &vocabulary)?),
        };
        let cuts = words.mark().and_then(|mark| cuts(&alphabet, &merges, whole.is_empty(), mark));
        let has_bytes = matches!(alphabet, Alphabet::Bytes(_));
        let byte_cuts = has_bytes.then(|| ByteCuts::new(&merges, |id| bytes_of(vocabulary.token(id)?)));
        let tokens = in_words(&vocabulary, has_bytes);
        Ok(Self {
            added: AddedTokens::new(&file.added_tokens, &mut vocabulary, &normalizer)?,
            decoder: Decoder::new(file.decoder.as_ref())?,
            model: Model::new(alphabet, Pairs::new(&merges)?, byte_cuts, whole, tokens.into_iter()),
            vocabulary,
            normalizer,
            words,
            cuts,
        })
    }

    /// Appends the ids of `text`.
    ///
    /// # Errors
    /// What the library says where it is asked.
    pub(super) fn encode(
        &self,
        text: &str,
        allow_special: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), String> {
        let Some(pieces) = self.added.split_raw(text, allow_special) else {
            return self.encode_piece(text, true, allow_special, scratch, out);
        };
        for piece in pieces {
            let at_start = piece.range.start == 0;
            match piece.id {
                Some(id) => out.push(id),
                None => self.encode_piece(&text[piece.range], at_start, allow_special, scratch, out)?,
            }
        }
        Ok(())
    }

    /// The same for text in which the tokens are found that are not looked for in normalized text.
    fn encode_piece(
        &self,
        text: &str,
        at_start: bool,
        allow_special: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), String> {
        let at_start = at_start && !(self.words.marks_start() && self.normalizer.drops_start(text)?);
        let text = &*self.normalizer.normalize(text)?;
        let Some(pieces) = self.added.split_normalized(text, allow_special) else {
            return self.encode_words(text, at_start, scratch, out);
        };
        for piece in pieces {
            let at_start = at_start && piece.range.start == 0;
            match piece.id {
                Some(id) => out.push(id),
                None => self.encode_words(&text[piece.range], at_start, scratch, out)?,
            }
        }
        Ok(())
    }

    fn encode_words(
        &self,
        text: &str,
        at_start: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        self.words.each(text, at_start, |text, words| match &self.cuts {
            Some(cuts) => cuts.each(text, |text, words| self.model.push(text, words, scratch, out)),
            None => self.model.push(text, words, scratch, out),
        })
    }

    /// Memory for a thread that encodes.
    pub(super) fn scratch(&self) -> Scratch {
        Scratch::new(&self.model)
    }

    /// How an id is spelt for decoding.
    pub(super) fn spelling(&self, id: u32) -> Option<&str> {
        self.added.spelling(id).or_else(|| self.vocabulary.token(id))
    }
}

/// What to say of a file that cannot be read because its model is of another kind, and another form.
fn other_model(json: &str) -> Option<String> {
    let file: Value = serde_json::from_str(json).ok()?;
    check_kind(file["model"]["type"].as_str()?).err()
}

fn check_kind(kind: &str) -> Result<(), String> {
    match kind {
        "BPE" => Ok(()),
        other => Err(format!("`model.type` `{other}`: only `BPE` is supported")),
    }
}

/// Refuses what would change the ids and is not done here.
fn check(file: &File) -> Result<(), String> {
    if file.version.as_deref().is_some_and(|version| version != "1.0") {
        return Err("a `version` other than 1.0".to_owned());
    }
    let model = &file.model;
    check_kind(model.r#type.as_deref().ok_or("a model without `type`")?)?;
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err("`model.dropout`, with which encoding is random".to_owned());
    }
    let affixes = [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ];
    match affixes.iter().find(|(_, affix)| affix.as_ref().is_some_and(|affix| !affix.is_empty())) {
        Some((name, _)) => Err(format!("`model.{name}`, which is not supported")),
        None => Ok(()),
    }
}

/// The merges by ids: both sides and what they make must be tokens.
fn merges(model: &file::Model, vocabulary: &Vocabulary) -> Result<Vec<(u32, u32, u32)>, String> {
    let mut made = String::new();
    let id = |token: &str| {
        vocabulary
            .id(token)
            .ok_or_else(|| format!("`{token}` in `model.merges`, which is not in `model.vocab`"))
    };
    let mut merges = Vec::with_capacity(model.merges.len());
    for file::Merge(left, right) in &model.merges {
        if left.is_empty() || right.is_empty() {
            return Err("an empty token in `model.merges`".to_owned());
        }
        made.clear();
        made.push_str(left);
        made.push_str(right);
        merges.push((id(left)?, id(right)?, id(&made)?));
    }
    Ok(merges)
}

/// Where words of characters are cut: at each mark where the file says so, and where no merge reaches across, unless
/// a word may be a token that merges do not make.
fn cuts(alphabet: &Alphabet, merges: &[(u32, u32, u32)], needs_merges: bool, mark: Mark) -> Option<Cuts> {
    let Alphabet::Chars(symbols) = alphabet else { return None };
    let cuts = Cuts::new(symbols, merges, mark.char).filter(|_| needs_merges);
    if mark.splits {
        return Some(cuts.map_or_else(|| Cuts::only_at_marks(mark.char), Cuts::at_marks));
    }
    cuts
}

/// Ids of the 256 bytes, if all of them are tokens.
fn byte_ids(vocabulary: &Vocabulary) -> Option<Box<[u32; 256]>> {
    let mut ids = Box::new([0; 256]);
    for (byte, id) in (0..=255).zip(ids.iter_mut()) {
        *id = vocabulary.id(printable_char(byte).encode_utf8(&mut [0; 4]))?;
    }
    Some(ids)
}

/// With `ignore_merges`, every token as it stands in words.
fn whole_words(model: &file::Model, words_are_bytes: bool) -> HashMap<Box<[u8]>, u32> {
    if model.ignore_merges != Some(true) {
        return HashMap::new();
    }
    let in_words = |token: &str| if words_are_bytes { bytes_of(token) } else { Some(token.into()) };
    let entries = model.vocab.0.iter();
    entries.filter_map(|(token, id)| Some((in_words(token)?.into_boxed_slice(), *id))).collect()
}

/// The tokens as they stand in words, in the order of their ids.
fn in_words(vocabulary: &Vocabulary, words_are_bytes: bool) -> Vec<Box<[u8]>> {
    let in_words = |token: &str| if words_are_bytes { bytes_of(token) } else { Some(token.into()) };
    vocabulary.iter().filter_map(|(token, _)| Some(in_words(token)?.into_boxed_slice())).collect()
}

fn symbols(model: &file::Model, vocabulary: &Vocabulary) -> Result<Symbols, String> {
    let single = |token: &str| {
        let mut chars = token.chars();
        chars.next().filter(|_| chars.next().is_none())
    };
    let ids = vocabulary.iter().filter_map(|(token, id)| Some((single(token)?, id))).collect();
    let unknown = match &model.unk_token {
        Some(token) => {
            let missing = || format!("`model.unk_token` `{token}`, which is not in `model.vocab`");
            Some(vocabulary.id(token).ok_or_else(missing)?)
        }
        None => None,
    };
    let has_bytes = model.byte_fallback == Some(true);
    let byte = |byte: usize| vocabulary.id(&format!("<0x{byte:02X}>"));
    let bytes = has_bytes.then(|| Box::new(std::array::from_fn(byte)));
    Ok(Symbols { ids, fallback: Fallback { bytes, unknown, is_fused: model.fuse_unk == Some(true) } })
}
