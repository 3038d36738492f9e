//! Arrow IPC, streams and files (`.arrow`, Feather version 2), read from front to back.
//!
//! A file is a stream between two marks with an index behind it; the index is not needed,
//! so a file that was cut gives what stands before the cut. Lengths are checked before a
//! message is given to the decoder.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{root_as_message, Message, MessageHeader, RecordBatch as BatchHeader};

use super::raw::{Limits, EXPANSION_FREE_BYTES};
use super::rows::{self, Rows};
use super::whole::LostFile;
use super::window::Window;
use super::{BadRecord, Block, Compression, Reading, Unit};
use crate::error::Result;

/// How a file begins and ends; a stream has no mark.
const FILE_MARK: &[u8] = b"ARROW1";

/// How a file of the first version of Feather begins, which is no Arrow IPC.
const FEATHER_1_MARK: &[u8] = b"FEA1";

/// What stands before the length of a message since version 0.15 of the format.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Longest description of a message; of a thousand columns it takes some hundred kilobytes.
const MAX_METADATA_BYTES: usize = 64 << 20;

/// Longest body of a message, and longest body decompressed: one batch is held whole.
const MAX_BODY_BYTES: u64 = 2 << 30;

/// Longest index behind the batches of a file.
const MAX_FOOTER_BYTES: usize = 64 << 20;

type Decoded<T> = std::result::Result<T, String>;

/// Reader of `.arrow` and `.feather`.
pub(super) struct ArrowReader {
    path: PathBuf,
    text_field: String,
    limits: Limits,
    window: Window,
    decoder: StreamDecoder,
    batches: VecDeque<RecordBatch>,
    is_file: bool,
    is_done: bool,
    /// 1-based number of the next row.
    row: u64,
}

/// Where a message lies in the window.
struct Frame {
    metadata: std::ops::Range<usize>,
    /// End of the body.
    end: usize,
}

/// Opens a stream or a file; one in the first version of Feather is lost, as one record.
///
/// # Errors
/// The disk.
pub(super) fn open(
    path: &Path,
    compression: Compression,
    field: &str,
    limits: Limits,
) -> Result<Box<dyn Reading>> {
    let mut window = Window::open(path, compression, limits)?;
    if window.fill(8)?.starts_with(FEATHER_1_MARK) {
        let reason = "found Feather version 1, which is not read: write it as version 2".to_owned();
        return Ok(Box::new(LostFile::new(path, reason)));
    }
    Ok(Box::new(ArrowReader::new(path, window, field, limits)?))
}

impl ArrowReader {
    fn new(path: &Path, mut window: Window, field: &str, limits: Limits) -> Result<Self> {
        let is_file = window.fill(8)?.starts_with(FILE_MARK);
        if is_file {
            window.pass(8);
            pass_padding(&mut window)?;
        }
        let (path, text_field) = (path.to_owned(), field.to_owned());
        let (decoder, batches) = (StreamDecoder::new(), VecDeque::new());
        Ok(Self { path, text_field, limits, window, decoder, batches, is_file, is_done: false, row: 1 })
    }

    /// Reads one message; false at the end.
    fn next_message(&mut self) -> Result<Decoded<bool>> {
        let frame = match self.frame()? {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Ok(false)),
            Err(reason) => return Ok(Err(reason)),
        };
        let bytes = &self.window.bytes()[..frame.end];
        let message = match root_as_message(&bytes[frame.metadata.clone()]) {
            Ok(message) => message,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Some(schema) = message.header_as_schema() {
            let schema = match rows::guarded(|| Ok(arrow_ipc::convert::fb_to_schema(schema))) {
                Ok(schema) => schema,
                Err(reason) => return Ok(Err(reason)),
            };
            rows::check_text(&self.path, "Arrow", &schema, &self.text_field)?;
        }
        let decoded = check_expansion(&message, &bytes[frame.metadata.end..], self.limits).and_then(|()| {
            rows::guarded(|| decode(&mut self.decoder, Buffer::from(bytes), &mut self.batches))
        });
        self.window.pass(frame.end);
        Ok(decoded.map(|()| true))
    }

    /// Finds the next message and brings all of it into the window; `None` at the end of the stream.
    fn frame(&mut self) -> Result<Decoded<Option<Frame>>> {
        let head = self.window.fill(8)?;
        let start = if head.starts_with(&CONTINUATION) { 8 } else { 4 };
        if head.is_empty() {
            return Ok(self.end());
        }
        let Some(size) = head.get(start - 4..start).and_then(|size| size.try_into().ok()) else {
            return Ok(self.cut());
        };
        let size = u32::from_le_bytes(size) as usize;
        if size == 0 || start == 4 && self.is_at_footer()? {
            return Ok(Ok(None));
        }
        if size > MAX_METADATA_BYTES {
            return Ok(Err(format!("a message is described in {size} bytes: limit {MAX_METADATA_BYTES}")));
        }
        let metadata = start..start + size;
        let Some(described) = self.window.fill(metadata.end)?.get(metadata.clone()) else {
            return Ok(self.cut());
        };
        let body = match root_as_message(described) {
            Ok(message) => message.bodyLength(),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(body) = u64::try_from(body).ok().filter(|body| *body <= MAX_BODY_BYTES) else {
            return Ok(Err(format!("a batch of {body} bytes: limit {MAX_BODY_BYTES}")));
        };
        let end = metadata.end + body as usize;
        if self.window.fill(end)?.len() < end {
            return Ok(self.cut());
        }
        Ok(Ok(Some(Frame { metadata, end })))
    }

    /// A stream may just end; a file has an index behind its batches.
    fn end<T>(&self) -> Decoded<Option<T>> {
        if self.is_file || self.window.damage().is_some() {
            return self.cut();
        }
        Ok(None)
    }

    fn cut<T>(&self) -> Decoded<T> {
        Err(self.window.damage().unwrap_or("the file ends early").to_owned())
    }

    /// Old writers put the index directly behind the last batch. Its length and a mark stand behind it, and
    /// nothing else: whatever is left of the file ends so.
    fn is_at_footer(&mut self) -> Result<bool> {
        if !self.is_file {
            return Ok(false);
        }
        let rest = self.window.fill(MAX_FOOTER_BYTES)?;
        let length = rest.strip_suffix(FILE_MARK).and_then(|rest| rest.split_last_chunk::<4>());
        Ok(length.is_some_and(|(footer, length)| footer.len() == u32::from_le_bytes(*length) as usize))
    }

    /// The next rows of the batches that were decoded.
    fn next_rows(&mut self) -> Option<Unit> {
        let (batch, rest) = rows::split(&self.batches.pop_front()?);
        if let Some(rest) = rest {
            self.batches.push_front(rest);
        }
        let first_row = self.row;
        self.row += batch.num_rows() as u64;
        let (text_field, max_line_bytes) = (self.text_field.clone(), self.limits.max_line_bytes);
        let rows = Rows { batch, text_field, first_row, max_line_bytes, damaged };
        Some(rows.into_unit(self.window.raw.block()))
    }

    fn lost(&mut self, reason: &str) -> Unit {
        self.is_done = true;
        let bad = vec![BadRecord { line: self.row, byte: self.window.offset(), reason: damaged(reason) }];
        Block { bad, first_line: self.row, ..self.window.raw.block() }.into()
    }
}

impl Reading for ArrowReader {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        while !self.is_done {
            if let Some(unit) = self.next_rows() {
                return Ok(Some(unit));
            }
            match self.next_message()? {
                Ok(is_more) => self.is_done = !is_more,
                Err(reason) => return Ok(Some(self.lost(&reason))),
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        self.window.raw.finish()
    }
}

fn damaged(reason: &str) -> String {
    format!("damaged Arrow data: {}", rows::sentence(reason))
}

fn decode(
    decoder: &mut StreamDecoder,
    mut bytes: Buffer,
    batches: &mut VecDeque<RecordBatch>,
) -> Decoded<()> {
    while !bytes.is_empty() {
        batches.extend(decoder.decode(&mut bytes).map_err(|error| error.to_string())?);
    }
    Ok(())
}

/// Refuses a body whose buffers claim more than the limits allow, before any is decompressed.
fn check_expansion(message: &Message, body: &[u8], limits: Limits) -> Decoded<()> {
    let header = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => {
            message.header_as_dictionary_batch().and_then(|header| header.data())
        }
        _ => None,
    };
    let Some(header) = header else { return Ok(()) };
    let claimed = claimed_bytes(&header, body).max(claimed_values(&header));
    let allowed = (body.len() as u64).saturating_mul(limits.max_expansion).max(EXPANSION_FREE_BYTES);
    let allowed = allowed.min(MAX_BODY_BYTES);
    if claimed <= allowed {
        return Ok(());
    }
    Err(format!("{} bytes claim to hold {claimed}: limit {allowed} (`max_expansion`)", body.len()))
}

/// Sum of the decompressed sizes that stand before the buffers; 0 if they are not compressed.
fn claimed_bytes(header: &BatchHeader, body: &[u8]) -> u64 {
    let (Some(_), Some(buffers)) = (header.compression(), header.buffers()) else { return 0 };
    let sizes = buffers.iter().map(|buffer| {
        let at = usize::try_from(buffer.offset()).ok()?;
        let size = body.get(at..at.checked_add(8)?)?.try_into().ok()?;
        u64::try_from(i64::from_le_bytes(size)).ok() // -1: stored as it is
    });
    sizes.flatten().fold(0, u64::saturating_add)
}

/// Values in all columns, each a byte at least when it is written: nulls take no room in a buffer.
fn claimed_values(header: &BatchHeader) -> u64 {
    let nodes = header.nodes().into_iter().flatten();
    nodes.fold(0, |sum, node| sum.saturating_add(node.length().unsigned_abs()))
}

/// Passes the zeros with which some writers (arrow-rs) fill up to 64 bytes behind the mark.
fn pass_padding(window: &mut Window) -> Result<()> {
    for _ in 1..8 {
        if window.fill(8)?.get(..8) == Some(&[0; 8]) {
            window.pass(8);
        }
    }
    Ok(())
}
