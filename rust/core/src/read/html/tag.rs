//! The elements that shape a text; all others are transparent.

/// What an element is to the text inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// No shape of its own: `b`, `span`, and every unknown name.
    Inline,
    /// Text in it leads elsewhere.
    Link,
    /// A line end.
    Break,
    /// A boundary without content.
    Rule,
    /// What it holds is not text of the page.
    Hidden(Hidden),
    /// The page's title.
    Title,
    /// Ends a block of text where it begins and where it ends.
    Block(Block),
}

/// Elements whose content is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    Script,
    Style,
    Noscript,
    Template,
    Svg,
    Math,
    Iframe,
    Object,
    Media,
    Select,
    Textarea,
    Button,
    Label,
}

/// Elements that divide a page into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Root,
    Paragraph,
    Division,
    Section,
    Article,
    Main,
    Header,
    Footer,
    Nav,
    Aside,
    Form,
    Heading,
    List,
    OrderedList,
    Item,
    Definitions,
    Term,
    Definition,
    Table,
    Row,
    Cell,
    Pre,
    Quote,
}

/// Number of places in a table indexed by [`Tag::slot`].
pub(super) const SLOTS: usize = 36;

impl Tag {
    /// The tag of a name in lower case.
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"a" => Self::Link,
            b"br" => Self::Break,
            b"hr" => Self::Rule,
            b"title" => Self::Title,
            _ => hidden(name)
                .map(Self::Hidden)
                .or_else(|| block(name).map(Self::Block))
                .unwrap_or(Self::Inline),
        }
    }

    /// Index of a tag that is kept on the stack of open elements.
    pub(super) fn slot(self) -> Option<usize> {
        match self {
            Self::Block(block) => Some(block as usize),
            Self::Hidden(hidden) => Some(Block::Quote as usize + 1 + hidden as usize),
            _ => None,
        }
    }
}

fn hidden(name: &[u8]) -> Option<Hidden> {
    Some(match name {
        b"script" => Hidden::Script,
        b"style" => Hidden::Style,
        b"noscript" | b"noembed" | b"noframes" => Hidden::Noscript,
        b"template" => Hidden::Template,
        b"svg" => Hidden::Svg,
        b"math" => Hidden::Math,
        b"iframe" => Hidden::Iframe,
        b"object" | b"applet" => Hidden::Object,
        b"audio" | b"video" | b"canvas" | b"map" => Hidden::Media,
        b"select" | b"datalist" => Hidden::Select,
        b"textarea" => Hidden::Textarea,
        b"button" => Hidden::Button,
        b"label" => Hidden::Label,
        _ => return None,
    })
}

fn block(name: &[u8]) -> Option<Block> {
    Some(match name {
        b"p" => Block::Paragraph,
        b"div" | b"center" | b"fieldset" | b"details" | b"summary" | b"address" | b"figure"
        | b"figcaption" | b"legend" | b"hgroup" | b"dir" => Block::Division,
        b"section" => Block::Section,
        b"article" => Block::Article,
        b"main" => Block::Main,
        b"header" => Block::Header,
        b"footer" => Block::Footer,
        b"nav" | b"menu" | b"dialog" => Block::Nav,
        b"aside" => Block::Aside,
        b"form" => Block::Form,
        b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => Block::Heading,
        b"ul" => Block::List,
        b"ol" => Block::OrderedList,
        b"li" => Block::Item,
        b"dl" => Block::Definitions,
        b"dt" => Block::Term,
        b"dd" => Block::Definition,
        b"table" => Block::Table,
        b"tr" | b"caption" => Block::Row,
        b"td" | b"th" => Block::Cell,
        b"pre" | b"listing" | b"xmp" => Block::Pre,
        b"blockquote" => Block::Quote,
        b"body" => Block::Root,
        _ => return None,
    })
}
