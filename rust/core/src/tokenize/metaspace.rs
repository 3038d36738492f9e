//! A mark in the place of each space, as `SentencePiece` has it (Kudo & Richardson 2018).

use tokenizers::pre_tokenizers::metaspace::{Metaspace as Peer, PrependScheme};

use super::normalize::push_replaced;

/// Marks the spaces of a text.
#[derive(Debug)]
pub(super) struct Metaspace {
    mark: char,
    /// Where a mark is put before text that does not begin with one.
    prepends: PrependScheme,
    /// Whether a word begins with every mark.
    pub(super) splits: bool,
}

impl From<&Peer> for Metaspace {
    fn from(peer: &Peer) -> Self {
        Self { mark: peer.get_replacement(), prepends: peer.get_prepend_scheme(), splits: peer.get_split() }
    }
}

impl Metaspace {
    pub(super) fn mark(&self) -> char {
        self.mark
    }

    /// Whether text at the start of all text is marked in another way than what follows an added token.
    pub(super) fn marks_start(&self) -> bool {
        self.prepends == PrependScheme::First
    }

    /// The text with its marks.
    pub(super) fn mark_spaces(&self, text: &str, at_start: bool) -> String {
        let prepends = match self.prepends {
            PrependScheme::Always => true,
            PrependScheme::First => at_start,
            PrependScheme::Never => false,
        };
        let mut marked = String::with_capacity(text.len() * 3 / 2);
        if prepends && !text.starts_with([self.mark, ' ']) {
            marked.push(self.mark);
        }
        push_replaced(text, " ", self.mark.encode_utf8(&mut [0; 4]), &mut marked);
        marked
    }
}
