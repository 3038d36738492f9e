//! Payloads that the server compressed.

use std::io::Read;

use super::super::decompress::GzipMembers;
use super::super::raw::{Limits, EXPANSION_FREE_BYTES};

/// Bytes held while Brotli is read.
const BROTLI_BUFFER_BYTES: usize = 16 << 10;

/// The payload without its `Content-Encoding`, which crawlers often undo and leave in the header.
pub(super) fn decoded(body: Vec<u8>, encoding: &str, limits: Limits) -> Result<Vec<u8>, String> {
    match encoding.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" if body.starts_with(b"\x1f\x8b") => {
            let members = GzipMembers::new(&*body).map_err(|error| error.to_string())?;
            read(members, body.len(), encoding, limits)
        }
        "deflate" if is_zlib(&body) => {
            read(flate2::read::ZlibDecoder::new(&*body), body.len(), encoding, limits)
        }
        "deflate" => {
            read(flate2::read::DeflateDecoder::new(&*body), body.len(), encoding, limits).or(Ok(body))
        }
        "br" => {
            let decoder = brotli_decompressor::Decompressor::new(&*body, BROTLI_BUFFER_BYTES);
            read(decoder, body.len(), encoding, limits).or_else(|reason| {
                if is_text(&body) {
                    Ok(body)
                } else {
                    Err(reason)
                }
            })
        }
        "zstd" if body.starts_with(b"\x28\xb5\x2f\xfd") => {
            let decoder = zstd::Decoder::new(&*body).map_err(|error| error.to_string())?;
            read(decoder, body.len(), encoding, limits)
        }
        // Without the bytes that a compression begins with, it was undone before.
        "" | "identity" | "gzip" | "x-gzip" | "zstd" => Ok(body),
        // `none`, `utf-8` and the like, which servers write for want of a better word.
        _ if is_text(&body) => Ok(body),
        other => Err(format!("unknown `Content-Encoding` `{}`", other.chars().take(32).collect::<String>())),
    }
}

fn read(decoder: impl Read, size: usize, encoding: &str, limits: Limits) -> Result<Vec<u8>, String> {
    let allowed = (size as u64).saturating_mul(limits.max_expansion).max(EXPANSION_FREE_BYTES);
    let allowed = allowed.min(limits.max_line_bytes as u64);
    let mut bytes = Vec::new();
    let result = decoder.take(allowed + 1).read_to_end(&mut bytes);
    if bytes.len() as u64 > allowed {
        return Err(format!("the payload is too long: {size} bytes hold more than {allowed}"));
    }
    result.map_err(|error| format!("the payload's {encoding} ends early or is damaged: {error}"))?;
    Ok(bytes)
}

/// True for a zlib header: deflate, and a check that is a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

fn is_text(body: &[u8]) -> bool {
    simdutf8::basic::from_utf8(body).is_ok()
}
