//! The main text of an HTML page, without menus, notices, forms and scripts.
//!
//! Three steps, each linear in the page: tokens become a flat list of text blocks and the
//! elements around them (`tree`), the blocks that belong to the main text are chosen
//! (`select`), and those are written as paragraphs, items and rows (`render`).

mod hints;
mod render;
mod select;
mod tag;
mod tree;

/// What is kept of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Content of the first `title` element, white space collapsed; empty if there is none.
    pub title: String,
    /// The main text: paragraphs with an empty line between, items and rows on lines of their own.
    pub text: String,
}

/// Extracts title and main text.
///
/// Any input gives a page: what is not HTML is one paragraph, a page of scripts has no text.
pub fn extract(html: &str) -> Page {
    let tree = tree::parse(html);
    let kept = select::main_text(&tree);
    Page { text: render::render(&tree, &kept), title: tree.title }
}

#[cfg(test)]
mod tests;
