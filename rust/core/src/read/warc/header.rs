//! Headers of WARC records and of HTTP messages: a line, then `Name: value` lines, then an empty one.

/// A first line and the fields below it; names are in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Header {
    pub(super) first_line: String,
    fields: Vec<(String, String)>,
}

impl Header {
    /// Value of the first field of that name, given in lower case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The members of a list, which may stand in several fields, in order and in lower case.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let fields = self.fields.iter().filter(|(key, _)| key == name);
        let members = fields.flat_map(|(_, value)| value.split(','));
        members.map(|member| member.trim().to_ascii_lowercase()).filter(|member| !member.is_empty()).collect()
    }

    /// Length of the block in bytes.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.get("content-length")?.parse().ok()
    }

    /// True if records of this kind hold text: all others are skipped without being copied.
    pub(super) fn holds_text(&self) -> bool {
        matches!(&*self.kind(), "response" | "resource" | "conversion")
    }

    /// Kind of the record, in lower case: the grammar of the standard tells no cases apart.
    pub(super) fn kind(&self) -> String {
        self.get("warc-type").unwrap_or("").to_ascii_lowercase()
    }

    /// Media type without parameters, in lower case.
    pub(super) fn media_type(&self) -> Option<String> {
        let value = self.get("content-type")?;
        let media_type = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        (!media_type.is_empty()).then_some(media_type)
    }

    /// The parameter `charset` of the media type.
    pub(super) fn charset(&self) -> Option<&str> {
        let parameters = self.get("content-type")?.split(';').skip(1);
        let mut pairs = parameters.filter_map(|parameter| parameter.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
        Some(value.trim().trim_matches(['"', '\'']))
    }
}

/// Longest name of a version.
const MAX_VERSION_BYTES: usize = 16;

/// Checks the mark with which a record begins.
pub(super) fn check_version(bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(super::MARK) {
        return Err("not a WARC record: expected `WARC/` and a version".to_owned());
    }
    let start = &bytes[..bytes.len().min(MAX_VERSION_BYTES)];
    match start.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii() {
        b"WARC/1.0" | b"WARC/1.1" | b"WARC/0.17" | b"WARC/0.18" => Ok(()),
        version => Err(format!("unknown version `{}`", String::from_utf8_lossy(version).escape_debug())),
    }
}

/// Length of a header with its empty line, which is known not to end in the first `endless` bytes: they are
/// not searched again.
pub(super) fn end_after(bytes: &[u8], endless: usize) -> Option<usize> {
    let from = endless.saturating_sub(END_BYTES).min(bytes.len());
    Some(from + end_of(&bytes[from..])?)
}

/// Longest end of a header: a line end, and an empty line.
const END_BYTES: usize = 4;

/// Length of a header with its empty line; `None` if there is no empty line.
pub(super) fn end_of(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The fields of a header; a line that begins with white space continues the one before.
pub(super) fn fields(bytes: &[u8]) -> Header {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
    let first_line = lines.next().unwrap_or("").trim().to_owned();
    let mut header = Header { first_line, fields: Vec::new() };
    for line in lines.filter(|line| !line.is_empty()) {
        let is_folded = line.starts_with([' ', '\t']);
        if let Some((_, value)) = header.fields.last_mut().filter(|_| is_folded) {
            value.push(' ');
            value.push_str(line.trim());
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        header.fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_lines_continue_the_value_before_and_names_have_no_case() {
        let bytes = b"WARC/1.1\r\nWARC-Target-URI: http://a/\r\n  b\r\ncontent-LENGTH:3\r\n\r\nabc";
        check_version(bytes).unwrap();
        let length = end_after(bytes, 10).unwrap();
        let header = fields(&bytes[..length]);
        assert_eq!((header.get("warc-target-uri"), header.content_length()), (Some("http://a/ b"), Some(3)));
        assert_eq!(&bytes[length..], b"abc");
    }

    #[test]
    fn a_charset_is_found_in_any_spelling() {
        let header = fields(b"HTTP/1.1 200 OK\nContent-Type: Text/HTML ; Charset=\"UTF-8\" \n\n");
        assert_eq!((header.media_type().as_deref(), header.charset()), (Some("text/html"), Some("UTF-8")));
    }
}
