//! Which blocks of a page are its main text.
//!
//! Elements around the main text are known by tag, role and class; lists of links by their
//! share of links. The main text stands in the deepest element that holds most of what is left.

use super::hints::Hint;
use super::tag::Block;
use super::tree::{TextBlock, Tree};

/// Largest share of a page's text that may be dropped for the class of an element around it.
const MAX_AROUND_SHARE: f64 = 0.6;

/// The same for `nav`, `footer` and `aside`.
const MAX_STRONG_SHARE: f64 = 0.9;

/// Share of a page's prose that a list of links may hold and be one.
const MAX_PROSE_SHARE: f64 = 0.5;

/// Share of bytes in links from which a block leads away.
const MAX_LINK_SHARE: f64 = 0.5;

/// The same for a long paragraph: the first sentence of an encyclopedia's page is full of links.
const MAX_PROSE_LINK_SHARE: f64 = 0.8;

/// Share of the good text that the main element holds.
const MAIN_SHARE: f64 = 0.85;

/// Share of the good text at which `main`, `article` and their like are believed.
const NAMED_SHARE: f64 = 0.4;

/// Length in bytes from which a block with few links is prose rather than a label.
const PROSE_BYTES: usize = 80;

/// Bytes of text below one element, up to 4 GiB: there may be millions of elements.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    bytes: u32,
    link_bytes: u32,
    good_bytes: u32,
}

impl Weight {
    fn of(bytes: usize, link_bytes: usize, good_bytes: usize) -> Self {
        let [bytes, link_bytes, good_bytes] =
            [bytes, link_bytes, good_bytes].map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        Self { bytes, link_bytes, good_bytes }
    }

    fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.link_bytes = self.link_bytes.saturating_add(other.link_bytes);
        self.good_bytes = self.good_bytes.saturating_add(other.good_bytes);
    }
}

/// True for each block that belongs to the main text.
pub(super) fn main_text(tree: &Tree) -> Vec<bool> {
    let mut kept = vec![true; tree.num_blocks()];
    let dropped = dropped_elements(tree, &weigh(tree, &kept));
    keep_if(tree, &mut kept, |block| !dropped[block.element as usize] && !leads_away(tree, block));
    let inside = inside_main(tree, &weigh(tree, &kept));
    keep_if(tree, &mut kept, |block| inside[block.element as usize]);
    drop_last_headings(tree, &mut kept);
    kept
}

fn keep_if(tree: &Tree, kept: &mut [bool], holds: impl Fn(&TextBlock) -> bool) {
    for (is_kept, block) in kept.iter_mut().zip(tree.blocks()) {
        *is_kept &= holds(&block);
    }
}

/// Sums over all blocks below each element, of those that are in `mask`.
fn weigh(tree: &Tree, mask: &[bool]) -> Vec<Weight> {
    let mut weights = vec![Weight::default(); tree.elements.len()];
    for (block, _) in tree.blocks().zip(mask).filter(|(_, is_in)| **is_in) {
        let bytes = block.text.len();
        let is_good = block.is_pre || bytes >= PROSE_BYTES && !leads_away(tree, &block);
        let good_bytes = if is_good { bytes - block.link_bytes } else { 0 };
        weights[block.element as usize].add(Weight::of(bytes, block.link_bytes, good_bytes));
    }
    for index in (1..weights.len()).rev() {
        let weight = weights[index]; // elements stand behind the ones around them
        weights[tree.elements[index].parent as usize].add(weight);
    }
    weights
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    f64::from(part) / f64::from(whole)
}

fn leads_away(tree: &Tree, block: &TextBlock) -> bool {
    let is_prose =
        block.text.len() >= PROSE_BYTES && tree.elements[block.element as usize].tag == Block::Paragraph;
    let limit = if is_prose { MAX_PROSE_LINK_SHARE } else { MAX_LINK_SHARE };
    let Weight { bytes, link_bytes, .. } = Weight::of(block.text.len(), block.link_bytes, 0);
    share(link_bytes, bytes) > limit
}

/// Elements around the main text, with all inside them.
fn dropped_elements(tree: &Tree, weights: &[Weight]) -> Vec<bool> {
    let mut dropped = vec![false; tree.elements.len()];
    let mut in_article = vec![false; tree.elements.len()];
    for (index, element) in tree.elements.iter().enumerate().skip(1) {
        let parent = element.parent as usize;
        in_article[index] = in_article[parent] || matches!(element.tag, Block::Article | Block::Main);
        let page_share = share(weights[index].bytes, weights[0].bytes);
        let is_around = match element.tag {
            Block::Nav | Block::Footer | Block::Aside => page_share < MAX_STRONG_SHARE,
            Block::Form => page_share < MAX_AROUND_SHARE,
            Block::Header if !in_article[index] => page_share < MAX_AROUND_SHARE,
            Block::Root | Block::Main | Block::Article => false,
            tag => {
                let is_hinted = element.hint == Hint::Around && tag != Block::Heading;
                let is_links =
                    is_list_of_links(tag, weights[index]) && !holds_prose(weights[index], weights[0]);
                (is_hinted || is_links) && page_share < MAX_AROUND_SHARE
            }
        };
        dropped[index] = dropped[parent] || is_around;
    }
    dropped
}

fn is_list_of_links(tag: Block, weight: Weight) -> bool {
    let is_container =
        matches!(tag, Block::List | Block::OrderedList | Block::Table | Block::Division | Block::Section);
    is_container && share(weight.link_bytes, weight.bytes) > MAX_LINK_SHARE
}

/// True for the part of a page that is its main text, however many links are in it: encyclopedias link a lot.
fn holds_prose(weight: Weight, page: Weight) -> bool {
    share(weight.good_bytes, page.good_bytes) > MAX_PROSE_SHARE
}

/// Elements that stand inside the main one.
fn inside_main(tree: &Tree, weights: &[Weight]) -> Vec<bool> {
    let mut inside = vec![false; tree.elements.len()];
    for root in main_elements(tree, weights) {
        inside[root] = true;
    }
    for index in 1..inside.len() {
        inside[index] |= inside[tree.elements[index].parent as usize];
    }
    inside
}

/// The elements that say they are the main text, if they hold enough, or else the deepest that holds most.
fn main_elements(tree: &Tree, weights: &[Weight]) -> Vec<usize> {
    let total = weights[0].good_bytes;
    if total == 0 {
        return vec![0];
    }
    for tag in [Block::Article, Block::Main] {
        let named = outermost(tree, tag);
        let held = named.iter().map(|index| weights[*index].good_bytes).fold(0, u32::saturating_add);
        if share(held, total) >= NAMED_SHARE {
            return named;
        }
    }
    let mut main = 0;
    for (index, element) in tree.elements.iter().enumerate().skip(1) {
        let is_deeper = element.parent as usize == main && is_container(element.tag);
        if is_deeper && share(weights[index].good_bytes, total) >= MAIN_SHARE {
            main = index;
        }
    }
    vec![main]
}

/// Elements of a tag that stand in no other of it.
fn outermost(tree: &Tree, tag: Block) -> Vec<usize> {
    let mut is_below = vec![false; tree.elements.len()];
    let mut found = Vec::new();
    for (index, element) in tree.elements.iter().enumerate().skip(1) {
        let parent_is_below = is_below[element.parent as usize];
        is_below[index] = parent_is_below || element.tag == tag;
        if element.tag == tag && !parent_is_below {
            found.push(index);
        }
    }
    found
}

fn is_container(tag: Block) -> bool {
    !matches!(
        tag,
        Block::Paragraph | Block::Pre | Block::Heading | Block::Item | Block::List | Block::OrderedList
    )
}

/// Drops headings that nothing follows.
fn drop_last_headings(tree: &Tree, kept: &mut [bool]) {
    for (index, is_kept) in kept.iter_mut().enumerate().rev().filter(|(_, is_kept)| **is_kept) {
        if tree.element_of(index).tag != Block::Heading {
            return;
        }
        *is_kept = false;
    }
}
