//! What a Parquet file says of itself, checked before the decoder sees it: the decoder reserves
//! memory by the lengths and counts in the footer and before each page, true or not.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use ::parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::raw::{Limits, EXPANSION_FREE_BYTES};
use super::thrift;

/// How a file begins and ends.
const MARK: &[u8; 4] = b"PAR1";

/// The end of a file whose footer is encrypted.
const ENCRYPTED_MARK: &[u8; 4] = b"PARE";

/// Where a footer that is not encrypted says how columns are.
const ENCRYPTION_PLACE: (i16, i16) = (8, 0);

/// Length and mark at the end of a file.
const TAIL_BYTES: u64 = 8;

/// Longest footer; one of ten thousand columns in a hundred row groups takes some 100 MB.
const MAX_FOOTER_BYTES: u64 = 256 << 20;

/// Bytes in which the description of a page is first looked for, and at most: it may hold the
/// least and the greatest value of a page.
const HEAD_BYTES: usize = 4 << 10;
const MAX_HEAD_BYTES: usize = 16 << 20;

type Checked = Result<(), String>;

/// Checks the footer of a file.
pub(super) fn check_footer(file: &mut File) -> Checked {
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let tail = read_at(file, size.saturating_sub(TAIL_BYTES), TAIL_BYTES as usize)?;
    let (Some(length), Some(mark)) = (tail.first_chunk::<4>(), tail.last_chunk::<4>()) else {
        return Err(format!("{size} bytes are too few"));
    };
    let length = u64::from(u32::from_le_bytes(*length));
    match mark {
        MARK => (),
        ENCRYPTED_MARK => return Err("the footer is encrypted, which is not read".to_owned()),
        _ => return Err("no footer: the file does not end with `PAR1`".to_owned()),
    }
    let room = size.saturating_sub(TAIL_BYTES + MARK.len() as u64).min(MAX_FOOTER_BYTES);
    if tail.len() < TAIL_BYTES as usize || length > room {
        return Err(format!("a footer of {length} bytes: limit {room}"));
    }
    let footer = read_at(file, size - TAIL_BYTES - length, length as usize)?;
    let mut is_encrypted = false;
    thrift::check(&footer, &mut |place, _| is_encrypted |= place == ENCRYPTION_PLACE)
        .map_err(|reason| format!("the footer: {reason}"))?;
    if is_encrypted {
        return Err("columns are encrypted, which is not read".to_owned());
    }
    Ok(())
}

/// Bytes of a row group that are decoded together, if its pages are not larger.
const RANGE_BYTES: u64 = 4 << 20;

/// Most rows that are decoded together, however short they are, if pages do not hold more.
const MAX_RANGE_ROWS: u64 = 1 << 14;

/// Rows of a group, and where it can be cut.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// Rows that the pages hold: those of the group, or fewer if a column has not as many.
    pub(super) rows: u64,
    /// Rows before each place where a page of the largest column ends and enough stand before it.
    pub(super) ends: Vec<u64>,
}

/// Checks a row group: what it claims to hold, and what each of its pages does.
pub(super) fn check_group(file: &mut File, group: &RowGroupMetaData, limits: Limits) -> Result<Cuts, String> {
    let on_disk = group.compressed_size().unsigned_abs();
    let allowed = on_disk.saturating_mul(limits.max_expansion).max(EXPANSION_FREE_BYTES);
    let allowed = allowed.min(limits.max_file_bytes);
    let claimed = group.total_byte_size().unsigned_abs().max(group.num_rows().unsigned_abs()); // a row is a byte at least
    check_size(on_disk, claimed, allowed)?;
    let largest = largest_flat(group);
    let (mut held, mut cuts) = (0, Cuts { rows: group.num_rows().unsigned_abs(), ends: Vec::new() });
    for (index, column) in group.columns().iter().enumerate() {
        let column_bytes = column.uncompressed_size().unsigned_abs();
        let share = u128::from(RANGE_BYTES) * u128::from(column_bytes) / u128::from(claimed.max(1));
        let column = check_column(file, column, group.num_rows().unsigned_abs(), (allowed, share as u64))?;
        held += column.bytes;
        check_size(on_disk, held, allowed)?;
        cuts.rows = cuts.rows.min(column.rows);
        if largest == Some(index) {
            cuts.ends = column.ends;
        }
    }
    let rows = cuts.rows;
    cuts.ends.retain(|end| *end < rows);
    cuts.ends.push(rows);
    Ok(cuts)
}

/// The largest column of those with one value a row.
fn largest_flat(group: &RowGroupMetaData) -> Option<usize> {
    let flat = group.columns().iter().enumerate().filter(|(_, column)| is_flat(column));
    flat.max_by_key(|(_, column)| column.uncompressed_size()).map(|(index, _)| index)
}

pub(super) fn is_flat(column: &ColumnChunkMetaData) -> bool {
    column.column_descr().max_rep_level() == 0
}

fn check_size(on_disk: u64, size: u64, allowed: u64) -> Checked {
    if size <= allowed {
        return Ok(());
    }
    Err(format!("{on_disk} bytes claim to hold {size}: limit {allowed} (`max_expansion`, `max_file_bytes`)"))
}

/// What a page says of itself.
#[derive(Debug, Default)]
struct Page {
    bytes: i64,
    bytes_on_disk: i64,
    num_values: i64,
    num_keys: i64,
    /// CRC-32 of the bytes on disk.
    checksum: Option<u32>,
}

/// What the pages of a column hold.
struct Held {
    bytes: u64,
    /// At most: only a decoder can tell how many lists there are.
    rows: u64,
    /// As in [`Cuts`].
    ends: Vec<u64>,
}

/// Checks the pages of a column.
fn check_column(
    file: &mut File,
    column: &ColumnChunkMetaData,
    rows: u64,
    (allowed, range_bytes): (u64, u64),
) -> Result<Held, String> {
    let (start, end) = byte_range(column).ok_or_else(|| "a column of a negative size".to_owned())?;
    let length = end - start;
    let file_bytes = file.metadata().map_err(|error| error.to_string())?.len();
    if end > file_bytes {
        return Err(format!("a column of {length} bytes at {start} is longer than the file"));
    }
    let (mut at, mut held, mut num_values) = (start, 0_u64, 0_u64);
    let (mut ends, mut last) = (Vec::new(), (0, 0));
    while at < end {
        let (page, length_of_head) = read_page(file, at, end)?;
        let bytes = u64::try_from(page.bytes).map_err(|_| "a page of a negative size".to_owned())?;
        let on_disk =
            u64::try_from(page.bytes_on_disk).map_err(|_| "a page of a negative size".to_owned())?;
        at = (at + length_of_head).saturating_add(on_disk);
        held = held.saturating_add(bytes);
        num_values = num_values.saturating_add(page.num_values.unsigned_abs());
        check_size(length, held, allowed)?;
        // Nulls take no room on disk, but eight bytes when they are read; a row has at least one value.
        check_size(length, num_values.saturating_sub(rows).saturating_mul(8), allowed)?;
        check_size(on_disk, page.num_keys.unsigned_abs(), bytes)?; // a value of a dictionary is a byte at least
        if held - last.0 >= range_bytes || num_values - last.1 >= MAX_RANGE_ROWS {
            last = (held, num_values);
            ends.push(num_values);
        }
    }
    Ok(Held { bytes: held, rows: num_values, ends })
}

/// Where the first page of a group is that is not as its checksum says, if there is one.
pub(super) fn wrong_checksum(file: &mut File, group: &RowGroupMetaData) -> Option<String> {
    group.columns().iter().find_map(|column| {
        let (mut at, end) = byte_range(column)?;
        while at < end {
            let (page, length_of_head) = read_page(file, at, end).ok()?;
            let (start, length) = (at + length_of_head, u64::try_from(page.bytes_on_disk).ok()?);
            let is_wrong = |checksum| hash(file, start, length).is_ok_and(|found| found != checksum);
            if page.checksum.is_some_and(is_wrong) {
                let name = column.column_path().string();
                return Some(format!(
                    "the page at byte {at}, of column `{name}`, is not as its checksum says"
                ));
            }
            at = start.saturating_add(length);
        }
        None
    })
}

/// CRC-32 of `length` bytes of a file.
fn hash(file: &mut File, start: u64, length: u64) -> std::io::Result<u32> {
    file.seek(SeekFrom::Start(start))?;
    let (mut hasher, mut buffer, mut rest) = (crc32fast::Hasher::new(), [0; 4096], file.take(length));
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// First and last byte of a column, if they can be.
pub(super) fn byte_range(column: &ColumnChunkMetaData) -> Option<(u64, u64)> {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let (start, length) = (u64::try_from(start).ok()?, u64::try_from(column.compressed_size()).ok()?);
    Some((start, start.checked_add(length)?))
}

/// The description of the page at `at`, and its length.
fn read_page(file: &mut File, at: u64, end: u64) -> Result<(Page, u64), String> {
    let mut size = HEAD_BYTES;
    loop {
        let bytes = read_at(file, at, size.min((end - at) as usize))?;
        let mut page = Page::default();
        let checked = thrift::check(&bytes, &mut |place, value| match place {
            (2, 0) => page.bytes = value,
            (3, 0) => page.bytes_on_disk = value,
            (5 | 8, 1) => page.num_values = value,
            (7, 1) => page.num_keys = value,
            (4, 0) => page.checksum = Some((value as i32).cast_unsigned()), // written as a signed number
            _ => (),
        });
        match checked {
            Ok(length) => return Ok((page, length as u64)),
            Err(reason) if thrift::is_cut(reason) && bytes.len() == size && size < MAX_HEAD_BYTES => {
                size *= 8;
            }
            Err(reason) => return Err(format!("the page at byte {at}: {reason}")),
        }
    }
}

/// Up to `count` bytes; fewer at the end of the file.
fn read_at(file: &mut File, at: u64, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(count.min(MAX_HEAD_BYTES));
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.take(count as u64).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}
