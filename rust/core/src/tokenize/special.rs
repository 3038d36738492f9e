//! Which of a tokenizer's special tokens open and close documents, fill rows and close turns.

use super::added::AddedTokens;
use super::vocabulary::Vocabulary;

/// Stands for a special token that a tokenizer does not have: larger than any id.
pub const NO_ID: u32 = u32::MAX;

/// Ids of the special tokens that the engine writes or looks for; [`NO_ID`] where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialIds {
    /// Fills rows: `<|pad|>`.
    pub pad: u32,
    /// Opens documents: `<|bos|>`.
    pub bos: u32,
    /// Closes documents: `<|eos|>`.
    pub eos: u32,
    /// Closes turns: `<|end|>`.
    pub end: u32,
}

/// The spellings of each in the order in which they are looked for: ours, then those of Llama 2 to 3,
/// Mistral, Qwen, Gemma and GPT-2.
const PADS: [&str; 5] = ["<|pad|>", "<|finetune_right_pad_id|>", "<pad>", "[PAD]", "<|endoftext|>"];
const OPENINGS: [&str; 5] = ["<|bos|>", "<|begin_of_text|>", "<s>", "<bos>", "<|endoftext|>"];
const CLOSINGS: [&str; 5] = ["<|eos|>", "<|end_of_text|>", "</s>", "<eos>", "<|endoftext|>"];
const TURN_ENDS: [&str; 6] =
    ["<|end|>", "<|eot_id|>", "<|im_end|>", "<end_of_turn>", "</s>", "<|endoftext|>"];

impl SpecialIds {
    /// Those of a tokenizer.
    pub(super) fn new(vocabulary: &Vocabulary, added: &AddedTokens) -> Self {
        let find = |names: &[&str]| {
            let mut ids = names.iter().filter_map(|name| vocabulary.id(name));
            ids.find(|id| added.is_special(*id)).unwrap_or(NO_ID)
        };
        Self { pad: find(&PADS), bos: find(&OPENINGS), eos: find(&CLOSINGS), end: find(&TURN_ENDS) }
    }
}
