//! A strict scanner of one line of JSON (RFC 8259) that copies nothing.
//!
//! It gives the fields of an object as slices of the line, so that what is not
//! understood is carried through byte for byte. Refused, beyond what the standard
//! refuses: lone surrogate escapes, nesting deeper than [`MAX_DEPTH`].

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::text::{ones, Block, BLOCK_BYTES};

/// Deepest nesting accepted; common readers give up between 100 and 1000.
pub const MAX_DEPTH: usize = 128;

/// Why a line is not a record, and the byte of the line where that shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Byte offset inside the line.
    pub at: usize,
    /// What was expected there, without the text itself.
    pub reason: Cow<'static, str>,
}

/// A field of an object: the raw key without its quotes, the raw value.
pub type Field<'l> = (&'l str, &'l str);

type Scanned<T> = Result<T, Fault>;

/// The fields of the one object that `line` holds, in order.
pub fn object(line: &str) -> Scanned<Vec<Field<'_>>> {
    #[allow(clippy::needless_bitwise_bool)] // `||` branches on every byte and does not vectorise
    let has_control = line.bytes().fold(false, |any, byte| any | (byte < 0x20));
    let mut scanner = Scanner { line, bytes: line.as_bytes(), at: 0, has_control };
    scanner.skip_space();
    if scanner.peek() != Some(b'{') {
        return scanner.fault(not_an_object(line));
    }
    if line.trim() == "{" {
        return scanner.fault("a JSON object of many lines: `jq -c .` writes one on each line");
    }
    let mut fields = Vec::with_capacity(8);
    scanner.members(1, |key, value| fields.push((key, value)))?;
    scanner.skip_space();
    match scanner.peek() {
        None => Ok(fields),
        Some(_) => scanner.fault("invalid JSON: more than one value on the line"),
    }
}

fn not_an_object(line: &str) -> &'static str {
    if line.trim_start().starts_with('[') {
        "a JSON array, not an object: `jq -c '.[]'` makes lines of a file that is one array"
    } else {
        "not a JSON object"
    }
}

/// The characters of a raw JSON string (quotes included), decoded.
pub fn decode_string(raw: &str) -> Cow<'_, str> {
    let inner = &raw[1..raw.len() - 1];
    let Some(first) = memchr(b'\\', inner.as_bytes()) else { return Cow::Borrowed(inner) };
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    let mut escape = Some(first);
    while let Some(at) = escape {
        text.push_str(&rest[..at]);
        rest = push_escape(&rest[at + 1..], &mut text);
        escape = memchr(b'\\', rest.as_bytes());
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Decodes the escape whose backslash was just passed; returns what follows it.
fn push_escape<'l>(rest: &'l str, text: &mut String) -> &'l str {
    let char = match rest.as_bytes()[0] {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return push_unicode(rest, text),
        byte => byte as char,
    };
    text.push(char);
    &rest[1..]
}

/// Decodes `uXXXX`, or the pair `uD8XX\uDCXX`; the scanner has seen that it is whole.
fn push_unicode<'l>(rest: &'l str, text: &mut String) -> &'l str {
    let unit = hex4(rest.as_bytes(), 1).unwrap_or(0);
    if let Some(char) = char::from_u32(unit) {
        text.push(char);
        return &rest[5..];
    }
    let low = hex4(rest.as_bytes(), 7).unwrap_or(0);
    let code = 0x1_0000 + ((unit & 0x3ff) << 10 | low & 0x3ff);
    text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
    &rest[11..]
}

/// Appends `text` as a JSON string; only what JSON demands is escaped.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let (blocks, rest) = bytes.as_chunks();
    let mut copied = 0;
    let mut escape = |at: usize| {
        out.extend_from_slice(&bytes[copied..at]);
        write_escape(bytes[at], out);
        copied = at + 1;
    };
    for (index, block) in blocks.iter().enumerate() {
        ones(Block::of(block).escapes()).for_each(|bit| escape(index * BLOCK_BYTES + bit));
    }
    let is_escape = |at: &usize| bytes[*at] < 0x20 || matches!(bytes[*at], b'"' | b'\\');
    (bytes.len() - rest.len()..bytes.len()).filter(is_escape).for_each(escape);
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        _ => return out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// The UTF-16 unit of four hexadecimal digits at `at`.
fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |unit, byte| Some(unit << 4 | (*byte as char).to_digit(16)?))
}

struct Scanner<'l> {
    line: &'l str,
    bytes: &'l [u8],
    at: usize,
    /// Whether the line holds control characters at all; if not, strings need no check.
    has_control: bool,
}

impl<'l> Scanner<'l> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault<T>(&self, reason: &'static str) -> Scanned<T> {
        Err(Fault { at: self.at, reason: Cow::Borrowed(reason) })
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Scanned<()> {
        if self.peek() != Some(byte) {
            return self.fault(reason);
        }
        self.at += 1;
        Ok(())
    }

    /// The members of the object that begins here, each given to `take`.
    fn members(&mut self, depth: usize, mut take: impl FnMut(&'l str, &'l str)) -> Scanned<()> {
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.skip_space();
            self.expect(b':', "invalid JSON: expected `:` after a key")?;
            self.skip_space();
            let start = self.at;
            self.value(depth)?;
            take(&key[1..key.len() - 1], &self.line[start..self.at]);
            if self.ends(b'}', "invalid JSON: expected `,` or `}`")? {
                return Ok(());
            }
        }
    }

    fn elements(&mut self, depth: usize) -> Scanned<()> {
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            self.value(depth)?;
            if self.ends(b']', "invalid JSON: expected `,` or `]`")? {
                return Ok(());
            }
        }
    }

    /// Passes `,` (false) or the closing bracket (true).
    fn ends(&mut self, close: u8, reason: &'static str) -> Scanned<bool> {
        self.skip_space();
        let found = self.peek();
        if found != Some(close) && found != Some(b',') {
            return self.fault(reason);
        }
        self.at += 1;
        Ok(found == Some(close))
    }

    fn value(&mut self, depth: usize) -> Scanned<()> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'{' | b'[') if depth >= MAX_DEPTH => self.fault("invalid JSON: nested deeper than 128"),
            Some(b'{') => self.members(depth + 1, |_, _| ()),
            Some(b'[') => self.elements(depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Scanned<()> {
        let rest = &self.bytes[self.at..];
        let found = ["true", "false", "null"].into_iter().find(|name| rest.starts_with(name.as_bytes()));
        match found {
            Some(name) => {
                self.at += name.len();
                Ok(())
            }
            None => self.fault("invalid JSON: expected a value"),
        }
    }

    fn number(&mut self) -> Scanned<()> {
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scanned<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start {
            return Ok(());
        }
        self.fault("invalid JSON: expected a digit")
    }

    /// The raw string that begins here, quotes included.
    fn string(&mut self) -> Scanned<&'l str> {
        let start = self.at;
        self.expect(b'"', "invalid JSON: expected a string")?;
        loop {
            let Some(length) = memchr2(b'"', b'\\', &self.bytes[self.at..]) else {
                return self.fault("invalid JSON: a string has no end");
            };
            self.check_control(length)?;
            self.at += length + 1;
            if self.bytes[self.at - 1] == b'"' {
                return Ok(&self.line[start..self.at]);
            }
            self.escape()?;
        }
    }

    fn check_control(&self, length: usize) -> Scanned<()> {
        let span = &self.bytes[self.at..self.at + length];
        if self.has_control && span.iter().any(|byte| *byte < 0x20) {
            return self.fault("invalid JSON: a control character inside a string");
        }
        Ok(())
    }

    /// Passes the escape whose backslash was just passed.
    fn escape(&mut self) -> Scanned<()> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => self.unicode_escape()?,
            _ => return self.fault("invalid JSON: unknown escape"),
        }
        Ok(())
    }

    fn unicode_escape(&mut self) -> Scanned<()> {
        let Some(unit) = hex4(self.bytes, self.at + 1) else {
            return self.fault("invalid JSON: expected four hexadecimal digits");
        };
        let is_pair = self.bytes[self.at + 5..].starts_with(b"\\u")
            && hex4(self.bytes, self.at + 7).is_some_and(|low| (0xdc00..0xe000).contains(&low));
        match unit {
            0xd800..=0xdbff if is_pair => self.at += 11,
            0xd800..=0xdfff => return self.fault("lone surrogate escape"),
            _ => self.at += 5,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_given_raw_and_in_order() {
        let fields = object(r#" {"b": [1, {"x": null}] ,"a\n":"q\"" , "c":-0.5e+3 } "#).unwrap();
        assert_eq!(fields, [("b", r#"[1, {"x": null}]"#), ("a\\n", r#""q\"""#), ("c", "-0.5e+3")]);
    }

    #[test]
    fn nesting_is_refused_beyond_128_and_not_before() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(&nested(127)).is_ok());
        assert!(object(&nested(128)).is_err());
        assert!(object(&"[".repeat(1 << 20)).is_err());
    }

    proptest! {
        #[test]
        fn the_scanner_accepts_what_serde_json_accepts(line in r#"[\{\}\[\]",:\\u0-9a-f. tn-]{0,24}"#) {
            let expected = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&line);
            prop_assert_eq!(object(&line).is_ok(), expected.is_ok(), "{:?}", expected);
        }

        #[test]
        fn a_string_survives_writing_and_decoding(text in any::<String>()) {
            let mut raw = Vec::new();
            write_string(&text, &mut raw);
            let raw = String::from_utf8(raw).unwrap();
            prop_assert_eq!(decode_string(&raw), text.as_str());
            prop_assert_eq!(serde_json::from_str::<String>(&raw).unwrap(), text);
        }

        #[test]
        fn escaped_strings_decode_as_serde_json_decodes_them(text in any::<String>()) {
            let escaped: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let line = format!("{{\"t\":\"{}\"}}", escaped.concat());
            prop_assert_eq!(decode_string(object(&line).unwrap()[0].1), text);
        }
    }
}
