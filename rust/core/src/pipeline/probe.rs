//! Some blocks of the inputs, spread over all of them: what a sample is made of.
//!
//! Places lie evenly on the line of all bytes. A plain file of JSON lines is read where its
//! places are; of other files, whose blocks have no place of their own, every eighth block is
//! taken from the beginning, until as many are as the file has places.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use crate::config::PrepConfig;
use crate::error::{Error, Result};
use crate::read::{self, Block, Input};

/// Blocks that a sample has at least, if there is as much text.
const MIN_BLOCKS: u64 = 64;
/// Fewest and most bytes of a block.
const BLOCK_BYTES: (u64, u64) = (64 << 10, 1 << 20);
/// Blocks that are read of a file without places, for one that is taken.
const STRIDE: usize = 8;

/// How much is read.
pub(super) struct Probe<'p> {
    config: &'p PrepConfig,
    inputs: &'p [Input],
    block_bytes: u64,
    total_bytes: u64,
    num_places: u64,
}

/// What was seen of the inputs.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Bytes on disk of what was looked at, and of the text in it.
    disk_bytes: u64,
    text_bytes: u64,
    /// Bytes of text, by file, for which its blocks stand: those of the files without a place too.
    stands_for: BTreeMap<usize, f64>,
    /// Every block of every file was taken.
    pub(super) is_whole: bool,
}

impl Seen {
    /// Bytes of the text in so many on disk, if all is like what was seen.
    pub(super) fn scaled(&self, disk_bytes: u64) -> u64 {
        let text = u128::from(disk_bytes) * u128::from(self.text_bytes) / u128::from(self.disk_bytes.max(1));
        u64::try_from(text).unwrap_or(u64::MAX)
    }

    /// Bytes of text for which the blocks of a file stand, as they are so many.
    pub(super) fn stands_for(&self, file: usize) -> f64 {
        self.stands_for.get(&file).copied().unwrap_or_default()
    }

    /// Notes a file, of which `placed` bytes on disk are those that its places stand for.
    fn see(&mut self, file: usize, placed: u64, (disk_bytes, text_bytes): (u64, u64)) {
        self.disk_bytes += disk_bytes;
        self.text_bytes += text_bytes;
        self.stands_for.insert(file, placed as f64 * text_bytes as f64 / disk_bytes.max(1) as f64);
    }
}

impl<'p> Probe<'p> {
    pub(super) fn new(config: &'p PrepConfig, inputs: &'p [Input], sample_bytes: u64) -> Self {
        let block_bytes = (sample_bytes / MIN_BLOCKS).clamp(BLOCK_BYTES.0, BLOCK_BYTES.1);
        let total_bytes = inputs.iter().map(|input| input.bytes).sum();
        Self { config, inputs, block_bytes, total_bytes, num_places: (sample_bytes / block_bytes).max(2) }
    }

    /// Shows `take` each block of the sample, in the order of the inputs.
    pub(super) fn each(&self, mut take: impl FnMut(Block)) -> Result<Seen> {
        let mut seen = Seen { is_whole: true, ..Seen::default() };
        let mut before = 0;
        for (file, input) in self.inputs.iter().enumerate() {
            let places = self.places(before, input.bytes);
            before += input.bytes;
            let disk_share = self.placed_bytes(input, places.len());
            let num_places = places.len().max(usize::from(self.fits()));
            if num_places == 0 {
                seen.is_whole &= input.bytes == 0;
            } else if input.bytes > self.share_bytes(input, num_places) && is_plain_lines(input)? {
                seen.is_whole = false;
                seen.see(file, disk_share, (input.bytes, input.bytes));
                for at in places {
                    take(Block { file, ..self.block_at(input, at)? });
                }
            } else {
                let text_bytes = self.each_of_stream(file, input, num_places, &mut seen, &mut take)?;
                seen.see(file, disk_share, (input.bytes, text_bytes));
            }
        }
        Ok(seen)
    }

    /// True if the sample holds all files as they are on disk: then each is read, also between two places.
    fn fits(&self) -> bool {
        self.total_bytes <= self.block_bytes * self.num_places
    }

    /// Bytes on disk for which so many places in a file stand; a file that is read whole stands for itself.
    fn placed_bytes(&self, input: &Input, num_places: usize) -> u64 {
        if self.fits() {
            return input.bytes;
        }
        (u128::from(self.total_bytes) * num_places as u128 / u128::from(self.num_places)) as u64
    }

    /// Bytes of the sample for a file with so many places.
    fn share_bytes(&self, input: &Input, num_places: usize) -> u64 {
        let least = if self.fits() { input.bytes } else { 0 };
        least.max(self.block_bytes * num_places as u64)
    }

    /// Places in the file, which begins after `before` bytes of others.
    fn places(&self, before: u64, bytes: u64) -> Vec<u64> {
        let (total, num_places) = (u128::from(self.total_bytes), u128::from(self.num_places));
        let place = |index: u128| ((2 * index + 1) * total / (2 * num_places)) as u64;
        // The first index of which the place may be in the file.
        let first = u128::from(before) * num_places / total.max(1);
        let places = (first..num_places).map(place).skip_while(|at| *at < before);
        places.take_while(|at| *at < before + bytes).map(|at| at - before).collect()
    }

    /// The lines that begin in as many bytes behind the place as a block has, the last one whole too: were it cut,
    /// long lines would be missed more often than short ones. If none begins there, the first that does.
    fn block_at(&self, input: &Input, at: u64) -> Result<Block> {
        let failed = |source| Error::Io { action: "read", path: input.path.clone(), source };
        let mut file = File::open(&input.path).map_err(failed)?;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        let (mut lines, mut bytes) = (BufReader::with_capacity(64 << 10, file), Vec::new());
        let cut = if at == 0 { 0 } else { self.read_line(&mut lines, &mut bytes).map_err(failed)? };
        let is_whole = at == 0 || bytes.ends_with(b"\n");
        bytes.clear();
        while is_whole && (bytes.is_empty() || (cut + bytes.len()) as u64 <= self.block_bytes) {
            let read = self.read_line(&mut lines, &mut bytes).map_err(failed)?;
            if read == 0 || bytes.last() != Some(&b'\n') {
                break;
            }
        }
        Ok(Block { bytes, first_line: 1, ..Block::default() })
    }

    /// Appends a line with its end, or as much of it as shows that it is too long; gives the bytes read.
    fn read_line(&self, lines: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
        lines.take(self.config.max_line_bytes as u64 + 2).read_until(b'\n', bytes)
    }

    /// Shows `take` blocks from the beginning on; gives the bytes of text in the file, if all is like what was read.
    fn each_of_stream(
        &self,
        file: usize,
        input: &Input,
        num_places: usize,
        seen: &mut Seen,
        take: &mut impl FnMut(Block),
    ) -> Result<u64> {
        let mut reader = read::open(&input.path, &self.config.text_field, self.config.limits())?;
        // What is no larger than its share of the sample is read whole.
        let share_bytes = self.share_bytes(input, num_places);
        let stride = if input.bytes <= share_bytes { 1 } else { STRIDE };
        let (mut disk_bytes, mut text_bytes) = (0_u64, 0_u128);
        for number in 0.. {
            let Some(mut block) = reader.next_block()? else { break };
            (disk_bytes, text_bytes) =
                (disk_bytes + block.disk_bytes, text_bytes + block.bytes.len() as u128);
            // Blocks may be small, as those of tables of many groups are.
            let is_share_left = stride == 1 && text_bytes <= u128::from(share_bytes);
            if number >= num_places * stride && !is_share_left {
                seen.is_whole = false;
                break;
            }
            if number % stride == 0 {
                block.file = file;
                take(block);
            } else {
                seen.is_whole = false;
                reader.recycle(block.bytes);
            }
        }
        // The file weighs as much as it has bytes, however little of it was read.
        let text_bytes = u128::from(input.bytes) * text_bytes / u128::from(disk_bytes.max(1));
        Ok(text_bytes as u64)
    }
}

/// True if the name and the first byte are those of JSON lines that are not compressed.
fn is_plain_lines(input: &Input) -> Result<bool> {
    let ending = input.path.extension().unwrap_or_default();
    if !(ending == "jsonl" || ending == "ndjson") {
        return Ok(false);
    }
    let mut first = [0; 1];
    let mut file = File::open(&input.path).map_err(Error::io("open", &input.path))?;
    let count = file.read(&mut first).map_err(Error::io("read", &input.path))?;
    Ok(count == 1 && first[0] == b'{')
}
