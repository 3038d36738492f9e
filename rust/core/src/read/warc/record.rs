//! A record, and the line of JSON that is made of it.

use std::borrow::Cow;

use super::super::charset;
use super::super::html;
use super::super::raw::Limits;
use super::super::whole::write_object;
use super::header::Header;
use super::{http, payload};

/// Kinds of records that hold no text of their own.
const OTHER_KINDS: [&str; 5] = ["warcinfo", "request", "metadata", "revisit", "continuation"];

/// Why a record with text of no kind is skipped: images and the like.
const NOT_TEXT: &str = "not_text";

/// How a body is transferred whose length nobody knew beforehand.
const CHUNKED: &str = "chunked";

/// Most encodings of a body that are undone.
const MAX_ENCODINGS: usize = 4;

/// A record with its block.
pub(super) struct Record {
    pub(super) header: Header,
    /// Empty if the record's kind is skipped.
    pub(super) block: Vec<u8>,
}

/// What becomes of a record.
pub(super) enum Outcome {
    /// An object, without a line end.
    Line(Vec<u8>),
    /// It is no document, for its kind.
    Skipped(&'static str),
    /// It should hold text and does not, for this reason.
    Bad(String),
}

/// Bytes that may be text, and what is said of them.
struct Payload<'r> {
    bytes: Cow<'r, [u8]>,
    media_type: Option<String>,
    charset: Option<String>,
}

impl Record {
    /// Makes the record's line.
    pub(super) fn outcome(&self, text_field: &str, limits: Limits) -> Outcome {
        let payload = match self.payload(limits) {
            Ok(payload) => payload,
            Err(outcome) => return outcome,
        };
        let Some((media_type, is_html)) = text_type(&payload) else { return Outcome::Skipped(NOT_TEXT) };
        let decoded = charset::decode(&payload.bytes, payload.charset.as_deref(), is_html);
        let page = if is_html {
            html::extract(&decoded.text)
        } else {
            html::Page { title: String::new(), text: decoded.text }
        };
        Outcome::Line(self.line(&page, &media_type, decoded.charset, decoded.errors, text_field))
    }

    /// True if the beginning of the block shows that it holds no text.
    pub(super) fn is_skipped(&self, limits: Limits) -> bool {
        match self.payload(limits) {
            Ok(payload) => text_type(&payload).is_none(),
            Err(outcome) => matches!(outcome, Outcome::Skipped(_)),
        }
    }

    fn payload(&self, limits: Limits) -> Result<Payload<'_>, Outcome> {
        match &*self.header.kind() {
            "response" => self.response(limits),
            "conversion" | "resource" => Ok(Payload {
                bytes: Cow::Borrowed(&self.block),
                media_type: self.header.media_type(),
                charset: self.header.charset().map(str::to_owned),
            }),
            other => Err(Outcome::Skipped(
                OTHER_KINDS.into_iter().find(|kind| *kind == other).unwrap_or("unknown_kind"),
            )),
        }
    }

    /// The body of an HTTP response of status 2xx; others are notices of the server, not pages.
    fn response(&self, limits: Limits) -> Result<Payload<'_>, Outcome> {
        let is_http = self.header.media_type().is_none_or(|kind| kind == "application/http");
        if !is_http {
            return Err(Outcome::Skipped("not_http")); // `text/dns` and the like
        }
        let response = http::response(&self.block).map_err(Outcome::Bad)?;
        let media_type = response.header.media_type();
        if response.status.is_some_and(|status| !(200..300).contains(&status)) {
            return Err(Outcome::Skipped("not_successful"));
        }
        if media_type.as_deref().is_some_and(|kind| is_text_type(kind).is_none()) {
            return Err(Outcome::Skipped(NOT_TEXT));
        }
        let bytes = body(&response, limits).map_err(Outcome::Bad)?;
        Ok(Payload { bytes, media_type, charset: response.header.charset().map(str::to_owned) })
    }

    fn line(
        &self,
        page: &html::Page,
        media_type: &str,
        charset: &str,
        errors: u64,
        text_field: &str,
    ) -> Vec<u8> {
        let url =
            self.header.get("warc-target-uri").unwrap_or("").trim_start_matches('<').trim_end_matches('>');
        let errors = if errors == 0 { String::new() } else { errors.to_string() };
        let mut fields = vec![
            ("id", self.header.get("warc-record-id").unwrap_or("")),
            ("url", url),
            ("date", self.header.get("warc-date").unwrap_or("")),
            ("mime", media_type),
            ("charset", charset),
            ("decoding_errors", errors.as_str()),
            ("title", page.title.as_str()),
        ];
        fields.retain(|(name, value)| !value.is_empty() && *name != text_field);
        fields.push((text_field, &page.text));
        let mut line = Vec::new();
        write_object(&fields, &mut line);
        line.pop(); // the line end is written for every record
        line
    }
}

/// The body of a response without chunks and encodings, of which the last that was applied stands last: first
/// those of the content, then those of the transfer.
fn body<'b>(response: &http::Response<'b>, limits: Limits) -> Result<Cow<'b, [u8]>, String> {
    let mut encodings = response.header.list("content-encoding");
    let transfers = response.header.list("transfer-encoding");
    let is_chunked = transfers.iter().any(|transfer| transfer == CHUNKED);
    encodings.extend(transfers.into_iter().filter(|transfer| transfer != CHUNKED));
    let joined = if is_chunked { http::joined(response.body) } else { None };
    if joined.is_none() && encodings.is_empty() {
        return Ok(Cow::Borrowed(response.body));
    }
    let body = joined.unwrap_or_else(|| response.body.to_vec());
    let last = encodings.iter().rev().take(MAX_ENCODINGS);
    last.cloned().try_fold(body, |body, encoding| payload::decoded(body, &encoding, limits)).map(Cow::Owned)
}

/// The media type of a payload that is text, and whether it is HTML. One that names none is HTML if it looks so.
fn text_type(payload: &Payload) -> Option<(String, bool)> {
    match &payload.media_type {
        Some(media_type) => Some((media_type.clone(), is_text_type(media_type)?)),
        None if looks_like_html(&payload.bytes) => Some(("text/html".to_owned(), true)),
        None => None,
    }
}

/// Whether a media type is HTML; `None` if it is no text.
fn is_text_type(media_type: &str) -> Option<bool> {
    match media_type {
        "text/html" | "application/xhtml+xml" => Some(true),
        "text/plain" => Some(false),
        _ => None,
    }
}

fn looks_like_html(bytes: &[u8]) -> bool {
    let head = bytes[..bytes.len().min(512)].trim_ascii_start().to_ascii_lowercase();
    head.starts_with(b"<!doctype html") || head.starts_with(b"<html")
}
