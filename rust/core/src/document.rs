//! A document: a line of JSON with an id, a text and a source, and whatever else it
//! holds carried through byte for byte and in order.

use std::borrow::Cow;

use crate::json::{self, Fault, Field};

/// A record as it stands in its line; only the text is decoded.
#[derive(Debug)]
pub struct Record<'l> {
    fields: Vec<Field<'l>>,
    text_index: usize,
    /// The decoded text.
    pub text: Cow<'l, str>,
}

/// What a record without `id` or `source` gets.
#[derive(Debug, Clone, Copy)]
pub struct Fallback<'f> {
    /// Name of the input file, without its folder.
    pub file_name: &'f str,
    /// 1-based line or row.
    pub line: u64,
    /// File name without extensions.
    pub source: &'f str,
}

impl<'l> Record<'l> {
    /// Reads the record of one line; its text stands in the field `text_field`.
    pub fn parse(line: &'l [u8], text_field: &str) -> Result<Self, Fault> {
        let line = utf8(line)?;
        let mut fields = json::object(line)?;
        for name in ["id", "source"] {
            if let Some(index) = only(&fields, name)? {
                fields[index].0 = name; // however it is escaped
            }
        }
        let text_index = only(&fields, text_field)?.ok_or_else(|| missing(text_field))?;
        let shadowed = text_field != "text" && only(&fields, "text")?.is_some();
        let raw = fields[text_index].1;
        if shadowed {
            return Err(fault(format!("a field `text` beside the text field `{text_field}`")));
        }
        if !raw.starts_with('"') {
            return Err(fault(format!("field `{text_field}` is not a string")));
        }
        Ok(Self { text: json::decode_string(raw), fields, text_index })
    }

    /// The id that the record is written with.
    pub fn id(&self, fallback: Fallback) -> String {
        let mut values = self.fields.iter().filter(|(key, value)| *key == "id" && *value != "null");
        match values.next() {
            Some((_, value)) if value.starts_with('"') => json::decode_string(value).into_owned(),
            Some((_, value)) => (*value).to_owned(),
            None => format!("{}:{}", fallback.file_name, fallback.line),
        }
    }

    /// The field of that name, decoded, if it is a string.
    pub fn string(&self, name: &str) -> Option<Cow<'l, str>> {
        let (_, raw) = self.fields.iter().find(|(key, raw)| *key == name && raw.starts_with('"'))?;
        Some(json::decode_string(raw))
    }

    /// Appends the record as one line, with `text` in place of its own if that changed.
    pub fn write(&self, text: Option<&str>, fallback: Fallback, out: &mut Vec<u8>) {
        let mut separator = b'{';
        let mut has = (false, false);
        for (index, (key, value)) in self.fields.iter().enumerate() {
            let value = match *key {
                "id" | "source" if *value == "null" => continue,
                _ => *value,
            };
            out.push(separator);
            separator = b',';
            has = (has.0 || *key == "id", has.1 || *key == "source");
            self.write_field(index, key, value, text, out);
        }
        write_missing(has, fallback, out);
        out.extend_from_slice(b"}\n");
    }

    fn write_field(&self, index: usize, key: &str, value: &str, text: Option<&str>, out: &mut Vec<u8>) {
        write_key(if index == self.text_index { "text" } else { key }, out);
        match (index == self.text_index, text) {
            (true, Some(text)) => json::write_string(text, out),
            (false, _) if matches!(key, "id" | "source") && !value.starts_with('"') => {
                json::write_string(value, out);
            }
            _ => out.extend_from_slice(value.as_bytes()),
        }
    }
}

fn write_missing(has: (bool, bool), fallback: Fallback, out: &mut Vec<u8>) {
    if !has.0 {
        out.push(b',');
        write_key("id", out);
        json::write_string(&format!("{}:{}", fallback.file_name, fallback.line), out);
    }
    if !has.1 {
        out.push(b',');
        write_key("source", out);
        json::write_string(fallback.source, out);
    }
}

fn write_key(key: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn utf8(line: &[u8]) -> Result<&str, Fault> {
    simdutf8::basic::from_utf8(line).map_err(|_| {
        let at = std::str::from_utf8(line).map_or_else(|error| error.valid_up_to(), str::len);
        Fault { at, reason: Cow::Borrowed("invalid UTF-8") }
    })
}

/// Index of the field `name`; a second one of that name is a fault.
fn only(fields: &[Field], name: &str) -> Result<Option<usize>, Fault> {
    let is_named =
        |key: &str| key == name || key.contains('\\') && json::decode_string(&format!("\"{key}\"")) == name;
    let mut found = fields.iter().enumerate().filter(|(_, (key, _))| is_named(key)).map(|(index, _)| index);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(fault(format!("field `{name}` stands twice"))),
        (first, None) => Ok(first),
    }
}

/// What [`Record::parse`] says of a record without the text field `name`.
pub(crate) fn missing(name: &str) -> Fault {
    fault(format!("no field `{name}`"))
}

fn fault(reason: String) -> Fault {
    Fault { at: 0, reason: Cow::Owned(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str, text: Option<&str>) -> String {
        let fallback = Fallback { file_name: "a.jsonl", line: 7, source: "a" };
        let mut out = Vec::new();
        Record::parse(line.as_bytes(), "text").unwrap().write(text, fallback, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn other_fields_are_carried_byte_for_byte_and_in_order() {
        let line = r#"{"z": 1.50e0, "text": "a\u0062", "id": "x", "source": "s", "é": [ 1 ]}"#;
        assert_eq!(
            rewritten(line, None),
            "{\"z\":1.50e0,\"text\":\"a\\u0062\",\"id\":\"x\",\"source\":\"s\",\"é\":[ 1 ]}\n"
        );
        assert!(rewritten(line, Some("n\n")).contains(r#""text":"n\n""#));
    }

    #[test]
    fn a_missing_id_is_the_file_and_line_and_a_numeric_one_becomes_a_string() {
        assert_eq!(
            rewritten(r#"{"text":""}"#, None),
            "{\"text\":\"\",\"id\":\"a.jsonl:7\",\"source\":\"a\"}\n"
        );
        assert!(rewritten(r#"{"id":12,"text":""}"#, None).starts_with(r#"{"id":"12","#));
        assert!(rewritten(r#"{"i\u0064":"x","text":""}"#, None).starts_with(r#"{"id":"x","text""#));
        assert!(rewritten(r#"{"id":null,"text":""}"#, None).contains(r#""id":"a.jsonl:7""#));
    }
}
