//! Blocks of text as plain text: paragraphs apart, items and rows on lines.

use super::tag::Block;
use super::tree::{TextBlock, Tree};

/// What stands before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Paragraph,
    /// First block of an item, in a list.
    Item {
        item: u32,
        list: u32,
    },
    /// A cell, in a row, in a table.
    Cell {
        row: u32,
        table: u32,
    },
    /// A term or a definition.
    Line {
        list: u32,
    },
}

/// Writes the blocks that are kept.
pub(super) fn render(tree: &Tree, kept: &[bool]) -> String {
    let mut text = String::new();
    let mut numbers = Numbers::default();
    let mut last: Option<Shape> = None;
    for (block, _) in tree.blocks().zip(kept).filter(|(_, is_kept)| **is_kept) {
        let mut shape = shape(tree, &block);
        if let (Some(Shape::Item { item, .. }), Shape::Item { item: same, .. }) = (last, shape) {
            if item == same {
                shape = Shape::Paragraph; // a second paragraph of the item
            }
        }
        if let Some(last) = last {
            text.push_str(separator(last, shape));
        }
        if let Shape::Item { list, .. } = shape {
            numbers.write_marker(tree, list, &mut text);
        }
        push_block(tree, &block, &mut text);
        last = Some(shape);
    }
    text
}

fn shape(tree: &Tree, block: &TextBlock) -> Shape {
    let mut index = block.element;
    // An item's text may stand in a paragraph of it.
    for _ in 0..2 {
        let element = tree.elements[index as usize];
        match element.tag {
            Block::Item => return Shape::Item { item: index, list: element.parent },
            Block::Cell if index == block.element => {
                let table = tree.elements[element.parent as usize].parent;
                return Shape::Cell { row: element.parent, table };
            }
            Block::Term | Block::Definition => return Shape::Line { list: element.parent },
            Block::Paragraph | Block::Division => index = element.parent,
            _ => return Shape::Paragraph,
        }
    }
    Shape::Paragraph
}

fn separator(last: Shape, next: Shape) -> &'static str {
    match (last, next) {
        (Shape::Cell { row, .. }, Shape::Cell { row: same, .. }) if row == same => " | ",
        (Shape::Cell { table, .. }, Shape::Cell { table: same, .. }) if table == same => "\n",
        (Shape::Item { .. }, Shape::Item { .. }) => "\n",
        (Shape::Line { list }, Shape::Line { list: same }) if list == same => "\n",
        _ => "\n\n",
    }
}

fn push_block(tree: &Tree, block: &TextBlock, out: &mut String) {
    let text = &tree.text[block.text.clone()];
    if block.is_pre {
        return out.push_str(text.trim_start_matches(['\r', '\n']));
    }
    let (mut breaks, start) = (0, out.len());
    for line in text.split('\n').map(str::trim) {
        if line.is_empty() {
            breaks += 1;
            continue;
        }
        if out.len() > start {
            out.push_str(if breaks > 0 { "\n\n" } else { "\n" });
        }
        out.push_str(line);
        breaks = 0;
    }
}

/// How far the ordered lists have counted.
#[derive(Default)]
struct Numbers(std::collections::HashMap<u32, usize>);

impl Numbers {
    fn write_marker(&mut self, tree: &Tree, list: u32, out: &mut String) {
        use std::fmt::Write as _;
        if tree.elements[list as usize].tag != Block::OrderedList {
            return out.push_str("- ");
        }
        let number = self.0.entry(list).or_default();
        *number += 1;
        let _ = write!(out, "{number}. "); // writing to a string cannot fail
    }
}
