//! What classes, ids and roles say about an element.

/// What an element's attributes say about its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Hint {
    /// Nothing.
    #[default]
    None,
    /// It is the main text.
    Content,
    /// It is probably something around the main text.
    Around,
    /// It cannot be seen.
    Invisible,
}

/// Words, between separators, of classes and ids around the main text.
const AROUND: [&str; 69] = [
    "ad",
    "ads",
    "advert",
    "advertisement",
    "advertising",
    "banner",
    "breadcrumb",
    "breadcrumbs",
    "byline",
    "combx",
    "comment",
    "commentlist",
    "comments",
    "consent",
    "contentinfo",
    "cookie",
    "cookies",
    "copyright",
    "disqus",
    "dropdown",
    "footer",
    "gdpr",
    "hidden",
    "legal",
    "login",
    "masthead",
    "menu",
    "menubar",
    "meta",
    "modal",
    "nav",
    "navbar",
    "navi",
    "navigation",
    "newsletter",
    "noprint",
    "outbrain",
    "pager",
    "pagination",
    "popup",
    "print",
    "promo",
    "promotion",
    "recommended",
    "related",
    "remark",
    "reply",
    "respond",
    "rss",
    "search",
    "searchbox",
    "share",
    "sharedaddy",
    "sharing",
    "shoutbox",
    "sidebar",
    "signup",
    "skip",
    "skyscraper",
    "social",
    "sponsor",
    "sponsored",
    "submenu",
    "subscribe",
    "tagcloud",
    "toolbar",
    "topbar",
    "widget",
    "widgets",
];

/// The same for the main text itself; one of them outweighs the others.
const CONTENT: [&str; 12] = [
    "article",
    "articlebody",
    "body",
    "column",
    "content",
    "contents",
    "entry",
    "main",
    "maincontent",
    "page",
    "post",
    "text",
];

/// Roles of elements around the main text.
const AROUND_ROLES: [&str; 12] = [
    "alert",
    "alertdialog",
    "banner",
    "complementary",
    "contentinfo",
    "dialog",
    "form",
    "menu",
    "menubar",
    "navigation",
    "search",
    "toolbar",
];

/// Longest attribute value that is looked at: a class list is shorter, a data URL is not.
const MAX_VALUE_BYTES: usize = 512;

/// What one attribute says.
pub(super) fn of_attribute(name: &[u8], value: &[u8]) -> Hint {
    let value = std::str::from_utf8(&value[..value.len().min(MAX_VALUE_BYTES)]).unwrap_or("");
    match name {
        b"class" | b"id" => of_words(value),
        b"role" => of_role(value.trim()),
        b"itemprop" if value.trim().eq_ignore_ascii_case("articleBody") => Hint::Content,
        b"aria-hidden" if value.trim().eq_ignore_ascii_case("true") => Hint::Invisible,
        b"style" if hides(value) => Hint::Invisible,
        _ => Hint::None,
    }
}

fn of_role(role: &str) -> Hint {
    match role {
        "main" | "article" => Hint::Content,
        _ if AROUND_ROLES.contains(&role) => Hint::Around,
        _ => Hint::None,
    }
}

fn hides(style: &str) -> bool {
    let mut words = style.split([':', ';']).map(str::trim);
    while let Some(word) = words.next() {
        let is_hiding = match word {
            "display" => words.next().is_some_and(|value| value.starts_with("none")),
            "visibility" => words.next().is_some_and(|value| value.starts_with("hidden")),
            _ => false,
        };
        if is_hiding {
            return true;
        }
    }
    false
}

fn of_words(value: &str) -> Hint {
    let mut hint = Hint::None;
    let mut word = [0_u8; 16]; // no word of the tables is longer
    for part in value.split(|char: char| !char.is_ascii_alphabetic()) {
        for part in camel_parts(part) {
            let Some(lower) = word.get_mut(..part.len()) else { continue };
            lower.copy_from_slice(part.as_bytes());
            lower.make_ascii_lowercase();
            let lower = std::str::from_utf8(lower).unwrap_or("");
            if CONTENT.binary_search(&lower).is_ok() {
                return Hint::Content;
            }
            if AROUND.binary_search(&lower).is_ok() {
                hint = Hint::Around;
            }
        }
    }
    hint
}

/// The parts of `siteFooter`; of `NAV` there is one.
fn camel_parts(word: &str) -> impl Iterator<Item = &str> {
    let bytes = word.as_bytes();
    let starts =
        (1..bytes.len()).filter(|at| bytes[at - 1].is_ascii_lowercase() && bytes[*at].is_ascii_uppercase());
    let mut start = 0;
    starts.chain(std::iter::once(word.len())).map(move |end| {
        let part = &word[start..end];
        start = end;
        part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_for_binary_search() {
        assert!(AROUND.is_sorted() && CONTENT.is_sorted());
    }

    #[test]
    fn words_of_classes_are_found_whole_and_in_any_spelling() {
        assert_eq!(of_attribute(b"class", b"site-footer"), Hint::Around);
        assert_eq!(of_attribute(b"id", b"cookieConsent"), Hint::Around);
        assert_eq!(of_attribute(b"id", b"NAV_left"), Hint::Around);
        assert_eq!(of_attribute(b"class", b"renovation shared"), Hint::None);
        assert_eq!(of_attribute(b"class", b"content with-sidebar"), Hint::Content);
        assert_eq!(of_attribute(b"style", b"color: red; display : none"), Hint::Invisible);
        assert_eq!(of_attribute(b"style", b"display:block"), Hint::None);
    }
}
