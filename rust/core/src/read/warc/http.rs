//! HTTP messages as crawlers store them: status, header, and a body that may be cut in chunks.

use super::header::{self, Header};

/// An HTTP response.
pub(super) struct Response<'b> {
    /// 200, say; `None` if the first line has none.
    pub(super) status: Option<u16>,
    pub(super) header: Header,
    pub(super) body: &'b [u8],
}

/// Longest header of a response.
const MAX_HEADER_BYTES: usize = 256 << 10;

/// Reads the block of a `response` record.
pub(super) fn response(block: &[u8]) -> Result<Response<'_>, String> {
    let head = &block[..block.len().min(MAX_HEADER_BYTES)];
    if !head.starts_with(b"HTTP") {
        return Err("not an HTTP response".to_owned());
    }
    let length = header::end_of(head).ok_or_else(|| "the HTTP header has no end".to_owned())?;
    let header = header::fields(&head[..length]);
    let status = header.first_line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok(Response { status, header, body: &block[length..] })
}

/// Joins the chunks of a body. `None` if it is not chunked: crawlers often join it and leave the header.
pub(super) fn joined(body: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::with_capacity(body.len());
    let mut rest = body;
    loop {
        let end = memchr::memchr(b'\n', &rest[..rest.len().min(256)]);
        let size = end.and_then(|end| chunk_size(&rest[..end]));
        let (Some(end), Some(size)) = (end, size) else {
            return (!joined.is_empty()).then_some(joined); // cut short: what there is
        };
        rest = &rest[end + 1..];
        if size == 0 {
            return Some(joined);
        }
        joined.extend_from_slice(&rest[..size.min(rest.len())]);
        rest = rest.get(size..).unwrap_or_default();
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).unwrap_or(rest);
    }
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    usize::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_what_is_not_chunked_is_left() {
        assert_eq!(joined(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").as_deref(), Some(&b"abcde"[..]));
        assert_eq!(joined(b"5\r\nabc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(joined(b"<html>\n"), None);
        assert_eq!(joined(b""), None);
        assert_eq!(joined(b"ffffffffffffffff\r\nabc").as_deref(), Some(&b"abc"[..]));
    }
}
