//! A page as a flat list of text blocks and of the elements that hold them.
//!
//! The stack of open elements is a vector with the places of each tag beside it, so neither
//! nesting nor end tags without a beginning cost more than a step.

use std::convert::Infallible;
use std::ops::Range;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};

use super::hints::{self, Hint};
use super::tag::{Block, Tag, SLOTS};

/// Most elements remembered; further ones still end blocks. A long page has some 100,000.
const MAX_ELEMENTS: usize = 4 << 20;

/// How far up an element whose end tag was left out is looked for.
const MAX_LOOK: usize = 64;

/// An element that divides the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    pub(super) tag: Block,
    pub(super) hint: Hint,
    /// Index of the element around it; the first is its own.
    pub(super) parent: u32,
}

/// Text between two boundaries.
#[derive(Debug, Clone)]
pub(super) struct TextBlock {
    /// Index of the innermost element.
    pub(super) element: u32,
    /// Where its text lies in [`Tree::text`].
    pub(super) text: Range<usize>,
    /// Bytes of it inside links.
    pub(super) link_bytes: usize,
    /// White space is kept as it is.
    pub(super) is_pre: bool,
}

/// A [`TextBlock`] as it is held, of which a page may have a quarter as many as it has bytes: its text begins
/// where that of the one before ends.
#[derive(Debug)]
struct HeldBlock {
    end: usize,
    /// Up to 4 GiB.
    link_bytes: u32,
    /// The element, and [`IS_PRE`].
    element: u32,
}

/// Above every index of an element.
const IS_PRE: u32 = 1 << 31;
const _: () = assert!(MAX_ELEMENTS < IS_PRE as usize);

/// A page.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) title: String,
    pub(super) elements: Vec<Element>,
    blocks: Vec<HeldBlock>,
    pub(super) text: String,
}

impl Tree {
    pub(super) fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The blocks of text in order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = TextBlock> + '_ {
        let mut start = 0;
        self.blocks.iter().map(move |held| TextBlock {
            element: held.element & !IS_PRE,
            text: std::mem::replace(&mut start, held.end)..held.end,
            link_bytes: held.link_bytes as usize,
            is_pre: held.element & IS_PRE != 0,
        })
    }

    /// The innermost element of a block.
    pub(super) fn element_of(&self, block: usize) -> Element {
        self.elements[(self.blocks[block].element & !IS_PRE) as usize]
    }
}

/// Reads a page.
pub(super) fn parse(html: &str) -> Tree {
    let mut builder = Builder::new();
    let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| {
        builder.take(&event);
        None::<Infallible>
    });
    emitter.naively_switch_states(true);
    Tokenizer::new_with_emitter(html, emitter).for_each(|_| ());
    builder.finish()
}

/// An element on the stack.
struct Open {
    slot: u8,
    /// Its index among the elements, or that of the one around it.
    element: u32,
}

impl Open {
    fn slot(&self) -> usize {
        usize::from(self.slot)
    }
}

struct Builder {
    tree: Tree,
    stack: Vec<Open>,
    /// Places of each tag on the stack.
    places: Vec<Vec<usize>>,
    /// Places of table cells, which end tags of what is around them do not leave.
    cells: Vec<usize>,
    /// Place of the outermost hidden element.
    hidden: Option<usize>,
    /// Height of the stack where a link was opened.
    link: Option<usize>,
    in_title: bool,
    /// A title has ended: further ones are neither titles nor text.
    has_title: bool,
    /// The inline element that is not shown, and how many of its name are open from it on.
    unseen: Option<(Vec<u8>, usize)>,
    start: usize,
    link_bytes: usize,
    pending: Tag,
    /// Name of the pending tag, if that is inline.
    name: Vec<u8>,
    attribute: Vec<u8>,
    hint: Hint,
    has_href: bool,
}

impl Builder {
    fn new() -> Self {
        let root = Element { tag: Block::Root, hint: Hint::None, parent: 0 };
        let tree =
            Tree { title: String::new(), elements: vec![root], blocks: Vec::new(), text: String::new() };
        Self {
            tree,
            stack: Vec::new(),
            places: vec![Vec::new(); SLOTS],
            cells: Vec::new(),
            hidden: None,
            link: None,
            in_title: false,
            has_title: false,
            unseen: None,
            start: 0,
            link_bytes: 0,
            pending: Tag::Inline,
            name: Vec::new(),
            attribute: Vec::new(),
            hint: Hint::None,
            has_href: false,
        }
    }

    fn take(&mut self, event: &CallbackEvent) {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                (self.pending, self.hint, self.has_href) = (Tag::of(name), Hint::None, false);
                self.name.clear();
                self.name.extend_from_slice(name);
            }
            CallbackEvent::AttributeName { name } => self.attribute_name(name),
            CallbackEvent::AttributeValue { value } => {
                self.hint = self.hint.max(hints::of_attribute(&self.attribute, value));
            }
            CallbackEvent::CloseStartTag { self_closing } => self.open(*self_closing),
            CallbackEvent::EndTag { name } => {
                self.close_unseen(name);
                self.close(Tag::of(name));
            }
            CallbackEvent::String { value } => self.push_text(value),
            _ => (),
        }
    }

    fn attribute_name(&mut self, name: &[u8]) {
        self.attribute.clear();
        self.attribute.extend_from_slice(name);
        self.has_href |= name == b"href";
        if name == b"hidden" {
            self.hint = Hint::Invisible;
        }
    }

    fn open(&mut self, self_closing: bool) {
        match self.pending {
            Tag::Inline | Tag::Link => self.open_unseen(self_closing),
            _ => (),
        }
        match self.pending {
            Tag::Inline => (),
            Tag::Break => self.push_break(),
            Tag::Rule => self.end_block(),
            Tag::Title => self.in_title = self.hidden.is_none(),
            Tag::Link if self.has_href => self.link = Some(self.stack.len()),
            Tag::Link => self.link = None,
            Tag::Hidden(_) if self_closing => (),
            Tag::Hidden(_) => {
                self.hidden = self.hidden.or(Some(self.stack.len()));
                self.push(self.element());
            }
            Tag::Block(tag) => self.open_block(tag),
        }
    }

    /// An inline element that is not shown hides what follows up to its end, and at most to that of its block.
    fn open_unseen(&mut self, self_closing: bool) {
        match &mut self.unseen {
            Some((name, depth)) if *name == self.name => *depth += 1,
            None if self.hint == Hint::Invisible && !self_closing && !is_void(&self.name) => {
                self.unseen = Some((self.name.clone(), 1));
            }
            _ => (),
        }
    }

    fn close_unseen(&mut self, name: &[u8]) {
        let Some((_, depth)) = self.unseen.as_mut().filter(|(unseen, _)| unseen == name) else { return };
        *depth -= 1;
        if *depth == 0 {
            self.unseen = None;
        }
    }

    fn open_block(&mut self, tag: Block) {
        self.end_block();
        self.close_implied(tag);
        let parent = self.element();
        if self.tree.elements.len() >= MAX_ELEMENTS {
            return self.push(parent);
        }
        self.tree.elements.push(Element { tag, hint: self.hint, parent });
        if tag == Block::Cell {
            self.cells.push(self.stack.len());
        }
        if self.hint == Hint::Invisible {
            self.hidden = self.hidden.or(Some(self.stack.len()));
        }
        self.push(self.tree.elements.len() as u32 - 1);
    }

    /// Closes what the beginning of `tag` ends without an end tag.
    fn close_implied(&mut self, tag: Block) {
        self.close_up_to(&[Block::Paragraph], &[Block::Cell, Block::Table]);
        match tag {
            Block::Item => self.close_up_to(&[Block::Item], &[Block::List, Block::OrderedList]),
            Block::Term | Block::Definition => {
                self.close_up_to(&[Block::Term, Block::Definition], &[Block::Definitions]);
            }
            Block::Cell => self.close_up_to(&[Block::Cell], &[Block::Row, Block::Table]),
            Block::Row => self.close_up_to(&[Block::Row], &[Block::Table]),
            _ => (),
        }
    }

    /// Closes the nearest of `tags`, unless one of `borders` or too much stands between.
    fn close_up_to(&mut self, tags: &[Block], borders: &[Block]) {
        let is_in = |open: &Open, tags: &[Block]| tags.iter().any(|tag| *tag as usize == open.slot());
        let nearest =
            self.stack.iter().rev().take(MAX_LOOK).position(|open| is_in(open, tags) || is_in(open, borders));
        let Some(height) = nearest.map(|above| self.stack.len() - 1 - above) else { return };
        if is_in(&self.stack[height], tags) {
            self.truncate(height);
        }
    }

    fn push(&mut self, element: u32) {
        let Some(slot) = self.pending.slot() else { return };
        self.places[slot].push(self.stack.len());
        self.stack.push(Open { slot: slot as u8, element });
    }

    fn close(&mut self, tag: Tag) {
        match tag {
            Tag::Link => self.link = None,
            Tag::Title => {
                self.in_title = false;
                self.has_title |= !self.tree.title.is_empty();
            }
            Tag::Break => self.push_break(),
            _ => (),
        }
        let Some(slot) = tag.slot() else { return };
        let floor = if slot >= Block::Table as usize && slot <= Block::Cell as usize {
            0 // tables may close cells
        } else {
            self.cells.last().map_or(0, |cell| cell + 1)
        };
        let place = self.places[slot].last().copied().filter(|place| *place >= floor);
        let ends_block = place.is_some() && matches!(tag, Tag::Block(_));
        if ends_block || slot == Block::Paragraph as usize {
            self.end_block(); // the end of a paragraph that was not begun is an empty one
        }
        if let Some(place) = place {
            self.truncate(place);
        }
    }

    fn truncate(&mut self, height: usize) {
        for open in self.stack.drain(height..) {
            self.places[open.slot()].pop();
        }
        let reaches = |place: &usize| *place < height;
        self.cells.truncate(self.cells.partition_point(reaches));
        self.hidden = self.hidden.filter(reaches);
        self.link = self.link.filter(|at| *at <= height);
    }

    /// Index of the innermost open element.
    fn element(&self) -> u32 {
        self.stack.last().map_or(0, |open| open.element)
    }

    fn is_pre(&self) -> bool {
        !self.places[Block::Pre as usize].is_empty()
    }

    fn push_text(&mut self, bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if self.in_title {
            if !self.has_title {
                push_collapsed(text, &mut self.tree.title, 0);
            }
            return;
        }
        if self.hidden.is_some() || self.unseen.is_some() {
            return;
        }
        let before = self.tree.text.len();
        if self.is_pre() {
            self.tree.text.push_str(text);
        } else {
            push_collapsed(text, &mut self.tree.text, self.start);
        }
        if self.link.is_some() {
            self.link_bytes += self.tree.text[before..].trim().len();
        }
    }

    fn push_break(&mut self) {
        if self.hidden.is_some() {
            return;
        }
        if !self.is_pre() {
            trim_spaces(&mut self.tree.text, self.start);
        }
        if self.tree.text.len() > self.start {
            self.tree.text.push('\n');
        }
    }

    /// Ends the current block of text, if there is any.
    fn end_block(&mut self) {
        self.unseen = None;
        let Range { start, end } = self.start..self.tree.text.len();
        let trimmed = self.tree.text[start..end].trim_end();
        let length = trimmed.trim_end_matches(['¶', '#']).trim_end().len();
        let length = if length == 0 { trimmed.len() } else { length };
        self.tree.text.truncate(start + length);
        if self.tree.text[start..].trim().is_empty() {
            self.tree.text.truncate(start);
        } else {
            let element = self.element() | if self.is_pre() { IS_PRE } else { 0 };
            let link_bytes = u32::try_from(self.link_bytes.min(length)).unwrap_or(u32::MAX);
            self.tree.blocks.push(HeldBlock { end: start + length, link_bytes, element });
        }
        (self.start, self.link_bytes) = (self.tree.text.len(), 0);
    }

    fn finish(mut self) -> Tree {
        self.end_block();
        self.tree.title.truncate(self.tree.title.trim_end().len());
        self.tree
    }
}

/// True for inline elements that hold nothing and have no end.
fn is_void(name: &[u8]) -> bool {
    matches!(name, b"img" | b"input" | b"wbr" | b"embed" | b"source" | b"track" | b"area" | b"link" | b"meta")
}

/// Appends `text`, each run of white space as one space, none where `out` begins or a line does.
fn push_collapsed(text: &str, out: &mut String, start: usize) {
    let mut is_first = !text.starts_with(is_space);
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !is_first {
            push_space(out, start);
        }
        is_first = false;
        out.push_str(word);
    }
    if text.ends_with(is_space) {
        push_space(out, start);
    }
}

fn push_space(out: &mut String, start: usize) {
    if out.len() > start && !out.ends_with([' ', '\n']) {
        out.push(' ');
    }
}

fn trim_spaces(text: &mut String, start: usize) {
    while text.len() > start && text.ends_with(' ') {
        text.pop();
    }
}

/// White space of HTML, and the space that only forbids a line end.
fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r' | '\x0c' | '\u{a0}')
}
