//! The encoding of a page, and its text.
//!
//! In order: a byte order mark, or a tag in UTF-16; UTF-8, if all bytes are (nothing else looks like it by chance);
//! what HTTP says; what the page says (`meta`, XML declaration); detection by letter statistics.
//! Malformed sequences become U+FFFD as the WHATWG encoding standard has it, and are counted.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{
    DecoderResult, Encoding, ISO_2022_JP, UTF_16BE, UTF_16LE, UTF_8, WINDOWS_1252, X_USER_DEFINED,
};

/// Bytes at the beginning of a page in which `meta` is looked for; the standard demands 1024.
const META_BYTES: usize = 4096;

/// Bytes from which an encoding is guessed.
const DETECT_BYTES: usize = 256 << 10;

/// One malformed sequence in so many bytes is damage; more, and the declared encoding is not the true one.
const BYTES_PER_ERROR: u64 = 200;

/// U+FFFD in UTF-8.
const REPLACEMENT: [u8; 3] = [0xef, 0xbf, 0xbd];

/// A decoded page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The text, without a byte order mark.
    pub text: String,
    /// WHATWG name of the encoding, as `windows-1252`.
    pub charset: &'static str,
    /// Malformed sequences, each now U+FFFD.
    pub errors: u64,
}

/// Decodes `bytes`; `declared` is the label that HTTP gives, and `is_html` looks for one in the page.
pub fn decode(bytes: &[u8], declared: Option<&str>, is_html: bool) -> Decoded {
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        return decode_as(encoding, &bytes[length..]);
    }
    if let Some(encoding) = wide_tag(bytes).filter(|_| is_html) {
        return decode_as(encoding, bytes);
    }
    let page = is_html.then(|| declared_in_page(bytes)).flatten();
    let labels: Vec<&'static Encoding> =
        [declared.and_then(|label| Encoding::for_label(label.trim().as_bytes())), page]
            .into_iter()
            .flatten()
            .collect();
    let is_escaped = labels.contains(&ISO_2022_JP) && bytes.contains(&0x1b);
    // In these two, and in no text, the bytes of UTF-8 may stand for something else.
    let is_wide = labels.iter().any(|label| is_utf_16(label)) && is_half_zeros(bytes);
    if !is_escaped && !is_wide {
        if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
            return Decoded { text: text.to_owned(), charset: UTF_8.name(), errors: 0 };
        }
    }
    for encoding in labels {
        let decoded = decode_as(encoding, bytes);
        if decoded.errors * BYTES_PER_ERROR <= bytes.len() as u64 {
            return decoded;
        }
    }
    decode_as(detect(bytes), bytes)
}

/// Decodes into bytes that are made once: a decoder that is given a string fills all that is free in it with zeros at each
/// call, and it is called once for each malformed sequence, which took 30 seconds for 4 MB of them.
fn decode_as(encoding: &'static Encoding, bytes: &[u8]) -> Decoded {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = vec![0; bytes.len() + bytes.len() / 8 + 16];
    let (mut rest, mut length, mut errors) = (bytes, 0, 0);
    loop {
        let (result, read, written) =
            decoder.decode_to_utf8_without_replacement(rest, &mut text[length..], true);
        (rest, length) = (&rest[read..], length + written);
        match result {
            DecoderResult::InputEmpty => break,
            DecoderResult::OutputFull => text.resize(text.len() + rest.len().max(1024), 0),
            DecoderResult::Malformed(..) => {
                errors += 1;
                let end = length + REPLACEMENT.len();
                text.resize(text.len().max(end), 0);
                text[length..end].copy_from_slice(&REPLACEMENT);
                length = end;
            }
        }
    }
    text.truncate(length);
    let text = String::from_utf8(text).expect("a decoder writes UTF-8");
    Decoded { text, charset: encoding.name(), errors }
}

fn detect(bytes: &[u8]) -> &'static Encoding {
    let head = &bytes[..bytes.len().min(DETECT_BYTES)];
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(head, head.len() == bytes.len());
    let guess = detector.guess(None, Utf8Detection::Allow);
    // UTF-8 was excluded for the whole, so here it is only a beginning that looks like it.
    if guess == UTF_8 && head.len() == bytes.len() {
        return WINDOWS_1252;
    }
    guess
}

/// The encoding that a page declares for itself.
fn declared_in_page(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = head_of(bytes);
    let metas =
        memchr::memmem::find_iter(&head, b"<meta").filter_map(|at| label_after(tag(&head[at..]), b"charset"));
    let xml =
        head.trim_ascii_start().strip_prefix(b"<?xml").and_then(|rest| label_after(tag(rest), b"encoding"));
    let encoding = xml.into_iter().chain(metas).find_map(Encoding::for_label)?;
    // A page whose ASCII could be read is not UTF-16, and `x-user-defined` is not for pages: both as WHATWG has it.
    Some(match encoding {
        _ if is_utf_16(encoding) => UTF_8,
        _ if encoding == X_USER_DEFINED => WINDOWS_1252,
        _ => encoding,
    })
}

fn is_utf_16(encoding: &'static Encoding) -> bool {
    encoding.name().starts_with("UTF-16")
}

/// The encoding of a page that begins with a tag in UTF-16 and has no mark.
fn wide_tag(bytes: &[u8]) -> Option<&'static Encoding> {
    match bytes {
        [b'<', 0, letter, 0, ..] if *letter != 0 => Some(UTF_16LE),
        [0, b'<', 0, letter, ..] if *letter != 0 => Some(UTF_16BE),
        _ => None,
    }
}

/// True if zeros are as many as in the letters of the West in UTF-16, about.
fn is_half_zeros(bytes: &[u8]) -> bool {
    memchr::memchr_iter(0, bytes).count() * 4 > bytes.len()
}

/// The beginning of a page in lower case, without its comments: what they declare does not count.
fn head_of(bytes: &[u8]) -> Vec<u8> {
    let mut head = bytes[..bytes.len().min(META_BYTES)].to_ascii_lowercase();
    while let Some(start) = memchr::memmem::find(&head, b"<!--") {
        let end = memchr::memmem::find(&head[start + 2..], b"-->").map_or(head.len(), |at| start + at + 5);
        head.drain(start..end);
    }
    head
}

fn tag(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(b'>', bytes).unwrap_or(bytes.len())]
}

/// The word that follows `key`, `=` and perhaps a quote; `data-charset` is another key.
fn label_after<'b>(tag: &'b [u8], key: &[u8]) -> Option<&'b [u8]> {
    memchr::memmem::find_iter(tag, key).find_map(|at| {
        let is_part = at > 0 && matches!(tag[at - 1], b'-' | b'_' | b'a'..=b'z' | b'0'..=b'9');
        let rest = tag
            .get(at + key.len()..)
            .filter(|_| !is_part)?
            .trim_ascii_start()
            .strip_prefix(b"=")?
            .trim_ascii_start();
        let rest = rest.strip_prefix(b"\"").or_else(|| rest.strip_prefix(b"'")).unwrap_or(rest);
        let end = rest.iter().position(|byte| b"\"'; \t\r\n/".contains(byte)).unwrap_or(rest.len());
        Some(&rest[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charset_of(bytes: &[u8], declared: Option<&str>) -> (&'static str, u64) {
        let decoded = decode(bytes, declared, true);
        (decoded.charset, decoded.errors)
    }

    #[test]
    fn a_mark_comes_first_then_utf_8_then_http_then_the_page_then_letters() {
        let (latin, utf8) =
            (b"<meta charset=iso-8859-2>caf\xe9", "<meta charset=latin1>caf\u{e9}".as_bytes());
        assert_eq!(charset_of(b"\xff\xfec\0", Some("utf-8")).0, "UTF-16LE");
        assert_eq!(charset_of(utf8, Some("koi8-r")).0, "UTF-8");
        assert_eq!(charset_of(latin, Some("windows-1250")).0, "windows-1250");
        assert_eq!(charset_of(latin, None).0, "ISO-8859-2");
        let commented =
            b"<!-- <meta charset=koi8-r> --><!--[if !IE]><!--><meta data-charset=koi8-r charset=greek>\xe9";
        assert_eq!(charset_of(commented, None).0, "ISO-8859-7");
        assert_eq!(charset_of(b"<meta charset=x-user-defined>caf\xe9", None).0, "windows-1252");
        assert_eq!(charset_of(b"<\0p\0>\0h\0i\0", None).0, "UTF-16LE");
        assert_eq!(charset_of(b"\0<\0p\0>\0h\0i", Some("utf-8")).0, "UTF-16BE");
        assert_eq!(charset_of(b"h\0i\0<\0b\0>\0", Some("utf-16")).0, "UTF-16LE");
        assert_eq!(charset_of(b"<p>not wide", Some("utf-16")).0, "UTF-8");
        let russian = encoding_rs::KOI8_R.encode("Все люди рождаются свободными и равными").0;
        // Letters cannot tell KOI8-R from KOI8-U; the detector says the larger of the two.
        assert_eq!(charset_of(&russian, None).0, "KOI8-U");
        assert_eq!(charset_of(&russian, Some("utf-8")).0, "KOI8-U");
    }

    #[test]
    fn malformed_sequences_are_replaced_and_counted() {
        let mut page = "schöne Grüße ".repeat(100).into_bytes();
        page.extend(b"\xff and \xc3");
        let decoded = decode(&page, Some("utf8"), false);
        assert_eq!((decoded.charset, decoded.errors), ("UTF-8", 2));
        assert!(decoded.text.ends_with("\u{fffd} and \u{fffd}"));
    }
}
