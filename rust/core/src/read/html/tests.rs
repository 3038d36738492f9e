//! Pages and what is kept of them.

use super::{extract, Page};

/// Long enough to be prose.
const PROSE: &str =
    "The quick brown fox jumps over the lazy dog, and then it walks home through the fields, \
    tired and content, while the dog sleeps on.";

fn text(html: &str) -> String {
    extract(html).text
}

#[test]
fn paragraphs_are_kept_and_what_stands_around_them_is_not() {
    let html = format!(
        "<!doctype html><title> A  fox&amp;dog </title><style>p{{}}</style><nav><a href=/>Home</a> News</nav>\
         <div class=cookie-banner>We use cookies and so do our 800 partners</div>\
         <div id=content><h1>Fox</h1><p>{PROSE}<p>{PROSE} <b>Bold</b>&nbsp;end.</p><script>x()</script></div>\
         <ul class=x><li><a href=/a>One page</a><li><a href=/b>Other page</a></ul><footer>© 2020</footer>"
    );
    let page = extract(&html);
    let expected = format!("Fox\n\n{PROSE}\n\n{PROSE} Bold end.");
    assert_eq!(page, Page { title: "A fox&dog".to_owned(), text: expected });
}

#[test]
fn lists_tables_and_code_stay_readable() {
    let html = format!(
        "<p>{PROSE}</p><ul><li>one<li><p>two</p></ul><ol><li>first</li><li>second</li></ol>\
         <table><tr><th>a<th>b<tr><td>1<td>2</table><pre>\n  if x:\n    y\n</pre><p>a<br>b<br><br>c</p>"
    );
    let expected = format!(
        "{PROSE}\n\n- one\n- two\n1. first\n2. second\n\na | b\n1 | 2\n\n  if x:\n    y\n\na\nb\n\nc"
    );
    assert_eq!(text(&html), expected);
}

#[test]
fn a_page_without_body_or_markup_is_its_text_and_one_of_script_is_empty() {
    assert_eq!(text("just &lt;text&gt;"), "just <text>");
    assert_eq!(text("<p>hello"), "hello");
    assert_eq!(text("<html><script>document.write('<p>x</p>')</script>"), "");
    assert_eq!(text(""), "");
}

#[test]
fn a_page_has_one_title_and_further_ones_are_no_text() {
    let html = format!("<title></title><title>One</title><title>Two</title><p>{PROSE}");
    assert_eq!(extract(&html), Page { title: "One".to_owned(), text: PROSE.to_owned() });
}

#[test]
fn what_is_not_shown_inside_a_line_is_no_text_up_to_the_end_of_its_block() {
    for unseen in [
        "<span hidden>x</span>",
        "<a href=x style='display:none'>x <b>x</b></a>",
        "<span aria-hidden=true>x <span>x</span> x</span>",
        "<i style='visibility: hidden'>x",
    ] {
        assert_eq!(
            text(&format!("<p>{PROSE} {unseen}<p>{PROSE}")),
            format!("{PROSE}\n\n{PROSE}"),
            "{unseen}"
        );
    }
    for seen in ["<img hidden>seen", "<span hidden/>seen", "<span aria-hidden=false>seen</span>"] {
        assert_eq!(text(&format!("<p>{PROSE} {seen}")), format!("{PROSE} seen"), "{seen}");
    }
}

#[test]
fn end_tags_of_what_is_around_a_cell_do_not_leave_it() {
    let html = format!("<div><table><tr><td>{PROSE}</div> and more<td>x</table></div><p>{PROSE}</p>");
    assert_eq!(text(&html), format!("{PROSE} and more | x\n\n{PROSE}"));
}

#[test]
fn unclosed_anchors_do_not_make_a_page_a_list_of_links() {
    assert_eq!(text(&format!("<p><a name=top>{PROSE}<p>{PROSE}")), format!("{PROSE}\n\n{PROSE}"));
    assert_eq!(text(&format!("<div><p><a href=x>Go</p><p>{PROSE}</p></div>")), PROSE);
}

#[test]
fn an_article_full_of_links_outweighs_long_lists_of_links_beside_it() {
    let languages = "<li><a href=/x>Language of the list</a></li>".repeat(60);
    let first = "The small village lies in <a href=1>the province of Guadalajara</a>, in <a href=2>the community of La Mancha</a>.";
    let article = format!(
        "<div id=bodyContent><p>{first}</p><p>{PROSE}</p><table><tr><td><a href=x>{}</a></table></div>",
        "Box ".repeat(60)
    );
    let page = format!("<main><div class=x><ul>{languages}</ul></div>{article}</main>");
    let found = text(&page);
    assert!(found.contains("The small village lies in the province") && found.contains(PROSE), "{found}");
    assert!(!found.contains("Language of"), "{found}");
}

#[test]
fn hostile_pages_take_no_stack() {
    let units = [
        "<div>",
        "<",
        "<p><a href=x>",
        "<ul><li>",
        "</span></div>",
        "<table><tr><td>",
        "<b class=nav>",
        "&amp",
        "<!--",
        "<a b=c ",
        "<li></li>",
        "<svg>",
    ];
    for unit in units {
        extract(&unit.repeat((1 << 20) / unit.len()));
    }
}
