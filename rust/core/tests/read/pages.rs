//! Text, HTML and WARC.

use triptych_core::config::PrepConfig;
use triptych_core::pipeline::{self, Silent};

use crate::case::{case, Case};
use crate::feed::feed;
use crate::sample::{gzip, record, response};

#[test]
fn markdown_and_text_are_one_document_as_they_are() {
    let text = "---\ntitle: x\n---\n\n# Head\n\n* item\n";
    case("markdown", "a.md", text).texts(&[text]).check();
    case("compressed markdown", "a.markdown.xz", text).texts(&[text]).check();
}

#[test]
fn html_is_decoded_and_only_its_main_text_is_kept() {
    let page = b"<html><head><meta charset='iso-8859-1'><title>Caf\xe9</title><script>1</script>\
        <body><p>Un caf\xe9 noir.</p></body></html>";
    let given = feed("a.html", page).unwrap();
    assert_eq!(given.records[0].1["title"], "Café");
    assert_eq!(given.records[0].1["charset"], "windows-1252");
    assert_eq!(given.texts(), ["Un café noir."]);
    case("only a script", "a.htm.gz", gzip(b"<script>x</script>")).texts(&[""]).check();
    case("UTF-16 is fine for a page", "a.html", &b"\xff\xfe<\0p\0>\0h\0i\0"[..]).texts(&["hi"]).check();
}

/// Replaces text in a record's header.
fn edited(record: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = record.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    [&record[..at], to.as_bytes(), &record[at + from.len()..]].concat()
}

#[test]
fn a_record_of_a_warc_that_holds_text_is_a_document_and_others_are_skipped() {
    let page = response("Content-Type: text/html", b"<p>page</p>");
    let info = record("warcinfo", "application/warc-fields", b"software: x\r\n\r\n");
    let request = record("request", "application/http; msgtype=request", b"GET / HTTP/1.1\r\n\r\n");
    let wet = record("conversion", "text/plain", "plain Grüße".as_bytes());
    let members: Vec<u8> = [&info, &page, &request, &wet].iter().flat_map(|record| gzip(record)).collect();
    let image = response("Content-Type: image/png", b"\x89PNG");
    let moved = edited(&page, "200 OK", "301 No");
    let folded = edited(&page, "Content-Length", "X-Note: a\r\n  b\r\nContent-Length");
    let cases = [
        case("records as gzip members", "a.warc.gz", members)
            .texts(&["page", "plain Grüße"])
            .skipped(&["request", "warcinfo"]),
        case("a WET name", "a.warc.wet.gz", gzip(&wet)).texts(&["plain Grüße"]),
        case("a resource", "a.warc", record("resource", "text/html", b"<p>here")).texts(&["here"]),
        case("version 0.17", "a.warc", edited(&page, "WARC/1.0", "WARC/0.17")).texts(&["page"]),
        case("version 1.1, folded header", "a.warc", edited(&folded, "WARC/1.0", "WARC/1.1"))
            .texts(&["page"]),
        case("an image and a redirect", "a.warc", [image, moved].concat())
            .skipped(&["not_successful", "not_text"]),
        case(
            "blocks over the limit that hold no text",
            "a.warc",
            [
                &response("Content-Type: video/mp4", &vec![b'x'; 2 << 20])[..],
                &record("metadata", "text/plain", &vec![b'x'; 2 << 20]),
                &page,
            ]
            .concat(),
        )
        .texts(&["page"])
        .skipped(&["metadata", "not_text"]),
        case("only line ends", "a.warc", "\r\n\r\n"),
    ];
    cases.into_iter().for_each(Case::check);
}

#[test]
fn the_payload_of_a_warc_record_is_decoded_as_its_header_or_it_itself_says() {
    let page = response("Content-Type: text/html", b"<p>page</p>");
    let chunked = response(
        "Content-Type: text/html\r\nTransfer-Encoding: chunked",
        b"7\r\n<p>chun\r\n6\r\nked</p\r\n1\r\n>\r\n0\r\n\r\n",
    );
    let gzipped = response("Content-Type: text/html\r\nContent-Encoding: gzip", &gzip(b"<p>zipped"));
    let cut = gzip("<p>zipped ".repeat(99).as_bytes());
    let cut = response("Content-Type: text/html\r\nContent-Encoding: gzip", &cut[..cut.len() - 12]);
    let lying = response("Content-Type: text/html; charset=utf-8", b"<p>caf\xe9 au lait");
    let cases = [
        case("chunked", "a.warc", chunked).texts(&["chunked"]),
        case("gzip payload", "a.warc", gzipped).texts(&["zipped"]),
        case("gzip payload, cut", "a.warc", [&cut[..], &page].concat())
            .texts(&["page"])
            .bad(&["payload's gzip"]),
        case(
            "a payload that was unzipped already",
            "a.warc",
            response("Content-Type: text/html\r\nContent-Encoding: gzip", b"<p>open"),
        )
        .texts(&["open"]),
        case(
            "two encodings in fields of their own",
            "a.warc",
            response(
                "Content-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Encoding: x-gzip",
                &gzip(&gzip(b"<p>twice")),
            ),
        )
        .texts(&["twice"]),
        case(
            "an encoding of the transfer",
            "a.warc",
            response("Content-Type: text/html\r\nTransfer-Encoding: gzip", &gzip(b"<p>on the way")),
        )
        .texts(&["on the way"]),
        case(
            "an encoding that is none, and an empty media type",
            "a.warc",
            response("Content-Type:\r\nContent-Encoding: utf-8", "<html><p>schön".as_bytes()),
        )
        .texts(&["schön"]),
        case(
            "an encoding that nobody knows",
            "a.warc",
            response("Content-Type: text/html\r\nContent-Encoding: sdch", b"\xff\xfe\xfd"),
        )
        .bad(&["unknown `Content-Encoding` `sdch`"]),
        case("a header that lies about UTF-8", "a.warc", lying).texts(&["café au lait"]),
        case("no media type", "a.warc", response("X: y", b"<!DOCTYPE html><p>sniffed")).texts(&["sniffed"]),
    ];
    cases.into_iter().for_each(Case::check);
}

#[test]
fn damage_in_a_warc_file_costs_the_record_that_it_is_in() {
    let page = response("Content-Type: text/html", b"<p>page</p>");
    let wet = record("conversion", "text/plain", "plain Grüße".as_bytes());
    let cases = [
        case("an unknown version", "a.warc", [&edited(&page, "WARC/1.0", "WARC/9.0")[..], &page].concat())
            .texts(&["page"])
            .bad(&["unknown version"]),
        case(
            "too small a length",
            "a.warc",
            [&edited(&page, "Content-Length: 55", "Content-Length: 9")[..], &wet].concat(),
        )
        .texts(&["plain Grüße"])
        .bad(&["wrong `Content-Length`"]),
        case(
            "too large a length",
            "a.warc",
            [&edited(&page, "Content-Length: 55", "Content-Length: 99")[..], &wet, &page].concat(),
        )
        .texts(&["plain Grüße", "page"])
        .bad(&["wrong `Content-Length`"]),
        case("a damaged mark", "a.warc", [&page[..], &edited(&page, "WARC/1.0", "WXRC/1.0"), &wet].concat())
            .texts(&["page", "plain Grüße"])
            .bad(&["not a WARC record"]),
        case("garbage between", "a.warc", [&page[..], b"\0garbage\r\n\r\n", &wet].concat())
            .texts(&["page", "plain Grüße"])
            .bad(&["not a WARC record"]),
        case("no length", "a.warc", [&edited(&page, "Content-Length", "X")[..], &page].concat())
            .texts(&["page"])
            .bad(&["no `Content-Length`"]),
        case(
            "a block over the limit",
            "a.warc",
            [&response("Content-Type: text/html", &vec![b'x'; 2 << 20])[..], &page].concat(),
        )
        .texts(&["page"])
        .bad(&["the record is too long"]),
        case(
            "a length of gigabytes, wrong",
            "a.warc",
            [&edited(&page, "Content-Length: 55", "Content-Length: 9999999999")[..], &wet, &page].concat(),
        )
        .texts(&["plain Grüße", "page"])
        .bad(&["wrong `Content-Length`"]),
        case("a cut file", "a.warc", [&page[..], &page[..page.len() - 9]].concat())
            .texts(&["page"])
            .bad(&["ends inside"]),
        case("a cut archive", "a.warc.gz", [&gzip(&page)[..], &gzip(&wet)[..80]].concat())
            .texts(&["page"])
            .bad(&["ends early or is damaged"]),
        case("no WARC at all", "a.warc", "hello\nworld\n").bad(&["not a WARC record"]),
    ];
    cases.into_iter().for_each(Case::check);
}

#[test]
fn a_record_keeps_its_id_address_and_date_and_its_number_in_the_file() {
    let file =
        [record("warcinfo", "x/y", b"a"), response("Content-Type: text/html", b"<title>T</title><p>p")]
            .concat();
    let given = feed("a.warc", &file).unwrap();
    let (number, record) = &given.records[0];
    assert_eq!(*number, 2);
    let expected = serde_json::json!({
        "id": "<urn:uuid:response>", "url": "http://example.org/response", "date": "2024-01-01T00:00:00Z",
        "mime": "text/html", "charset": "UTF-8", "title": "T", "text": "p"
    });
    assert_eq!(*record, expected);
}

/// The ledger of a run over one file.
fn ledger_of(name: &str, bytes: &[u8]) -> triptych_core::Result<triptych_core::ledger::Ledger> {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (vec![dir.path().join(name)], dir.path().join("out"));
    std::fs::write(&input[0], bytes).unwrap();
    let (profile, max_bad) = ("clean".to_owned(), 1.0);
    let config = PrepConfig { input, output, profile, max_bad, ..PrepConfig::default() };
    Ok(pipeline::run(&config, &Silent)?.ledger)
}

#[test]
fn records_that_are_no_documents_stand_in_the_ledger_by_kind() {
    let page = response("Content-Type: text/html", b"<p>page</p>");
    let request = record("request", "application/http", b"GET / HTTP/1.1\r\n\r\n");
    let revisit = record("revisit", "application/http", b"HTTP/1.1 304 Not Modified\r\n\r\n");
    let other = edited(&revisit, "WARC-Type: revisit", "WARC-Type: dream");
    let dns = record("response", "text/dns", b"20240101000000\nexample.org. 300 IN A 1.2.3.4");
    let bad = edited(&page, "Content-Length: 55", "Content-Length: 9");
    let total =
        ledger_of("a.warc", &[page, request.clone(), revisit, other, dns, bad].concat()).unwrap().total;
    let skipped = [("not_http", 1), ("request", 1), ("revisit", 1), ("unknown_kind", 1)];
    assert_eq!(total.skipped, skipped.map(|(kind, count)| (kind.to_owned(), count)).into());
    assert_eq!((total.read, total.kept, total.quarantined), (6, 1, 1));
    assert!((total.bad_fraction() - 0.5).abs() < 1e-9, "of two that were to be documents");
    let requests = ledger_of("a.warc", &request).unwrap();
    assert!(requests.without_documents().unwrap().contains("a.warc"));
}
