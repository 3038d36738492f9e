//! How a file is compressed, told from its first bytes, and the decoders.
//!
//! The end of a name says what a file should be; its first bytes say what it is, and they
//! decide, since no text begins with the magic bytes of a compression. What is no text
//! at all (an archive, say) gives a decoder that fails with a sentence about it.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::Compression;

/// Largest window of zstd and dictionary of xz, log2 of bytes: `--long=31`, the most that zstd makes.
const MAX_WINDOW_LOG: u32 = 31;

/// Window accepted whatever the memory, log2 of bytes: what zstd accepts without an option.
const MIN_WINDOW_LOG: u32 = 27;

/// Bytes of a file from which its kind is told: the mark of tar ends at 262.
pub(super) const HEAD_BYTES: usize = 512;

/// First bytes of the compressions that are read.
const MAGIC: [(&[u8], Compression); 5] = [
    (b"\x1f\x8b", Compression::Gzip),
    (b"\x28\xb5\x2f\xfd", Compression::Zstd),
    (b"\xfd7zXZ\0", Compression::Xz),
    (b"BZh_1AY&SY", Compression::Bzip2), // `_` is the level, 1 to 9
    (b"BZh_\x17\x72\x45\x38\x50\x90", Compression::Bzip2),
];

/// Offset, first bytes and name of what cannot be read, with what to do about it.
const FOREIGN: [(usize, &[u8], &str); 9] = [
    (0, b"PK\x03\x04", "a zip archive: unpack it and name the files that were in it"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it and name the files that were in it"),
    (0, b"Rar!\x1a\x07", "a rar archive: unpack it and name the files that were in it"),
    (257, b"ustar", "a tar archive: unpack it and name the files that were in it"),
    (0, b"\x04\x22\x4d\x18", "lz4, which is not read: decompress it, or use `.zst`"),
    (0, b"\x1f\x9d", "`compress` (`.Z`), which is not read: decompress it, or use `.gz`"),
    (0, b"LZIP", "lzip, which is not read: decompress it, or use `.xz`"),
    (0, b"%PDF-", "a PDF: take its text out first"),
];

/// The same for files whose name says that they hold UTF-8 text.
const NOT_TEXT: [(usize, &[u8], &str); 6] = [
    (0, b"PAR1", "Parquet: name it `.parquet`"),
    (0, b"ARROW1", "Arrow: name it `.arrow`"),
    (0, b"\xff\xfe\0\0", "text in UTF-32, little-endian: convert it to UTF-8"), // begins as UTF-16 does
    (0, b"\0\0\xfe\xff", "text in UTF-32, big-endian: convert it to UTF-8"),
    (0, b"\xff\xfe", "text in UTF-16, little-endian: convert it to UTF-8"),
    (0, b"\xfe\xff", "text in UTF-16, big-endian: convert it to UTF-8"),
];

/// The compression that `head`, the first bytes of a file, shows, or what is wrong with the file.
pub(super) fn detect(head: &[u8], named: Compression, is_text: bool) -> Result<Compression, String> {
    if let Some(found) = compression_of(head) {
        return Ok(found);
    }
    if let Some(reason) = foreign(head, is_text) {
        return Err(reason);
    }
    match named {
        Compression::Plain => Ok(Compression::Plain),
        _ if looks_like_text(head) => Ok(Compression::Plain),
        _ => Err(format!("the file does not begin as {named} does")),
    }
}

/// What is wrong with a file of which the decompressed bytes begin with `head`, if that shows: a tar archive is as
/// little text when it was compressed as before.
pub(super) fn foreign_inside(head: &[u8], is_text: bool) -> Option<String> {
    let twice = |inner| format!("found {inner} in what was decompressed: decompress the file once");
    compression_of(head).map(twice).or_else(|| foreign(head, is_text))
}

/// What a file that begins with `head` is, if it is of a kind that is not read.
fn foreign(head: &[u8], is_text: bool) -> Option<String> {
    let not_text: &[_] = if is_text { &NOT_TEXT } else { &[] };
    let mut kinds = FOREIGN.iter().chain(not_text);
    kinds.find(|(at, magic, _)| has(head, *at, magic)).map(|(_, _, what)| format!("found {what}"))
}

fn compression_of(head: &[u8]) -> Option<Compression> {
    let is_skippable = head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == *b"\x2a\x4d\x18";
    if is_skippable {
        return Some(Compression::Zstd);
    }
    let is_bzip2 = has(head, 0, b"BZh") && head.get(3).is_some_and(|level| (b'1'..=b'9').contains(level));
    MAGIC.iter().find_map(|(magic, compression)| match compression {
        Compression::Bzip2 => (is_bzip2 && has(head, 4, &magic[4..])).then_some(*compression),
        _ => head.starts_with(magic).then_some(*compression),
    })
}

fn has(head: &[u8], at: usize, magic: &[u8]) -> bool {
    head.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

/// True for UTF-8 without NUL; the last character may be cut. Nothing at all is no text.
fn looks_like_text(head: &[u8]) -> bool {
    let is_utf8 = std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true);
    is_utf8 && head.len() > 8 && !head.contains(&0)
}

/// A decoder of all members, streams or frames of a file.
pub(super) fn decoder(
    source: impl BufRead + Send + 'static,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    let window_log = || window_log(available_bytes());
    Ok(match compression {
        Compression::Plain => Box::new(source),
        Compression::Gzip => Box::new(GzipMembers::new(source)?),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Xz => {
            let window_kib = 1 << (window_log() - 10);
            Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, window_kib + 1024))
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(window_log())?;
            Box::new(decoder)
        }
    })
}

/// All members of a gzip file, and the zeros between and behind them, with which tapes and writers of whole
/// blocks fill up.
pub(super) struct GzipMembers<R> {
    /// The one being read; `None` behind the last.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    pub(super) fn new(mut source: R) -> io::Result<Self> {
        let is_ended = pass_zeros(&mut source)?;
        Ok(Self { member: (!is_ended).then(|| GzDecoder::new(source)) })
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = self.member.as_mut().filter(|_| !buffer.is_empty()) {
            let count = member.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            if let Some(member) = self.member.take() {
                *self = Self::new(member.into_inner())?;
            }
        }
        Ok(0)
    }
}

/// Passes zeros; true if nothing follows.
fn pass_zeros(source: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = source.fill_buf()?;
        let (length, zeros) = (bytes.len(), bytes.iter().take_while(|byte| **byte == 0).count());
        source.consume(zeros);
        if zeros < length || length == 0 {
            return Ok(length == 0);
        }
    }
}

/// What stands in for a decoder where there is nothing to decode.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct Undecodable(pub(super) String);

impl Undecodable {
    /// True if the error is of a file that is of another kind, so that nothing in it is damaged.
    pub(super) fn is_behind(error: &io::Error) -> bool {
        error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Self>)
    }
}

impl Read for Undecodable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::InvalidData, self.clone()))
    }
}

/// True if a decoder refused for want of memory, so that the data is not to blame.
pub(super) fn is_over_window(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || error.to_string().contains("too much memory")
}

/// The largest window accepted now, for messages.
pub(super) fn max_window_bytes() -> u64 {
    1 << window_log(available_bytes())
}

/// The largest window that takes at most a quarter of `available` bytes.
fn window_log(available: Option<u64>) -> u32 {
    let quarter = available.map_or(0, |bytes| bytes / 4).max(1);
    quarter.ilog2().clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG)
}

/// Memory that may be taken without swapping, where the system tells (Linux).
fn available_bytes() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_takes_a_quarter_of_memory_between_128_mib_and_2_gib() {
        assert_eq!(window_log(None), 27);
        assert_eq!(window_log(Some(100 << 20)), 27);
        assert_eq!(window_log(Some(4 << 30)), 30);
        assert_eq!(window_log(Some(1 << 40)), 31);
    }

    #[test]
    fn the_first_bytes_decide_and_the_name_only_where_they_are_silent() {
        let text = b"{\"text\": \"plain under a compressed name\"}\n";
        assert_eq!(detect(text, Compression::Gzip, true), Ok(Compression::Plain));
        assert_eq!(detect(b"\x1f\x8b\x08", Compression::Plain, true), Ok(Compression::Gzip));
        assert_eq!(detect(b"\x5a\x2a\x4d\x18", Compression::Plain, true), Ok(Compression::Zstd));
        assert_eq!(detect(b"BZh5 is how my text begins", Compression::Plain, true), Ok(Compression::Plain));
        assert!(detect(b"", Compression::Gzip, true).is_err());
        assert!(detect(b"\x00\x01\x02", Compression::Xz, true).unwrap_err().contains("xz"));
        assert!(detect(b"PK\x03\x04..", Compression::Plain, true).unwrap_err().contains("zip archive"));
        assert_eq!(detect(b"\xff\xfeh\0", Compression::Plain, false), Ok(Compression::Plain));
    }
}
