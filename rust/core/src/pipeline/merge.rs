//! Parts into one folder: the same bytes as one run over all inputs.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};

use memchr::memchr;
use serde::de::DeserializeOwned;

use super::flow::Units;
use super::outline;
use super::part::{BlockEntry, Part, BLOCKS_NAME};
use super::samples::{self, Sample};
use super::{Progress, Share, QUARANTINE_NAME};
use crate::config::PrepConfig;
use crate::error::{Error, Result};
use crate::inspect::Histograms;
use crate::read::{self, BadRecord, Block, FileFacts, Limits, Reader, Unit};

/// What the parts were made from, once they are found to be all the parts of one run.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) config: PrepConfig,
    pub(super) facts: Vec<FileFacts>,
    parts: Vec<Part>,
}

impl Whole {
    /// Opens the parts in `folders`, in any order.
    ///
    /// # Errors
    /// `InvalidValue` if one is missing, stands twice or is of another run; `Integrity` if one is damaged
    /// or has read other contents of an input.
    pub(super) fn open(folders: &[PathBuf], progress: &dyn Progress) -> Result<Self> {
        let open = |folder: &PathBuf| Part::open(folder, progress);
        let mut parts: Vec<Part> = folders.iter().map(open).collect::<Result<_>>()?;
        parts.sort_by_key(|part| (part.share.count, part.share.index));
        check_shares(&parts)?;
        let whole = |part: &Part| PrepConfig { shard: Share::default(), ..part.config.clone() };
        let config = whole(&parts[0]);
        if let Some(other) = parts.iter().find(|part| whole(part) != config) {
            let found = "another configuration than the first part's".to_owned();
            return Err(invalid(&other.folder, "a part of the same run", found));
        }
        let facts = common_facts(&parts)?;
        Ok(Self { config, facts, parts })
    }

    /// Size of the parts' shards on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        let shards = self.parts.iter().flat_map(|part| &part.shards);
        shards.filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// The samples of all parts.
    pub(super) fn samples(&self) -> Result<Vec<Sample>> {
        let files: Vec<String> = self.facts.iter().map(|fact| fact.file.clone()).collect();
        let found: Vec<Vec<Sample>> =
            self.parts.iter().map(|part| samples::read(&part.folder)).collect::<Result<_>>()?;
        Ok(samples::merge(found.concat(), &files))
    }

    /// The histograms of all parts.
    pub(super) fn histograms(&self) -> Result<Histograms> {
        let mut sum = Histograms::new(1);
        for part in &self.parts {
            sum.add(&outline::read(&part.folder)?);
        }
        Ok(sum)
    }

    /// The blocks of all parts, in the order of the inputs.
    pub(super) fn blocks(&self) -> Result<PartBlocks> {
        let readers = self.parts.iter().map(PartReader::open).collect::<Result<_>>()?;
        Ok(PartBlocks { readers })
    }
}

/// Refuses parts that are not exactly 1/N to N/N.
fn check_shares(parts: &[Part]) -> Result<()> {
    let Some(first) = parts.first() else {
        return Err(Error::InvalidValue {
            what: "parts".to_owned(),
            expected: "the folders that runs with `--shard` wrote".to_owned(),
            found: "none".to_owned(),
        });
    };
    let count = first.share.count;
    let missing: Vec<String> = (0..count)
        .filter(|index| !parts.iter().any(|part| part.share == Share { index: *index, count }))
        .map(|index| Share { index, count }.into())
        .collect();
    if !missing.is_empty() {
        return Err(invalid(
            &first.folder,
            &format!("all {count} parts"),
            format!("no part {}", missing.join(", ")),
        ));
    }
    match parts.iter().zip(0..).find(|(part, index)| part.share != Share { index: *index, count }) {
        None => Ok(()),
        Some((part, _)) => {
            let found = format!("part {} again", String::from(part.share));
            Err(invalid(&part.folder, "each part once, all of one run", found))
        }
    }
}

/// Sizes and hashes of the inputs; each was read whole by at least one part.
fn common_facts(parts: &[Part]) -> Result<Vec<FileFacts>> {
    let mut facts = parts[0].inputs.clone();
    for part in &parts[1..] {
        if !part.inputs.iter().map(|fact| &fact.file).eq(facts.iter().map(|fact| &fact.file)) {
            return Err(invalid(&part.folder, "the inputs of the first part", "others".to_owned()));
        }
        for (known, fact) in facts.iter_mut().zip(&part.inputs) {
            if known.blake3.is_empty() {
                *known = fact.clone();
            } else if !fact.blake3.is_empty() && known != fact {
                return Err(Error::Integrity {
                    path: PathBuf::from(&fact.file),
                    expected: format!("the content that part 1 read (BLAKE3 {})", known.blake3),
                    found: format!("BLAKE3 {} in part {}", fact.blake3, String::from(part.share)),
                });
            }
        }
    }
    Ok(facts)
}

fn invalid(folder: &Path, expected: &str, found: String) -> Error {
    Error::InvalidValue { what: format!("part `{}`", folder.display()), expected: expected.to_owned(), found }
}

/// The blocks of several parts.
pub(super) struct PartBlocks {
    readers: Vec<PartReader>,
}

impl Units for PartBlocks {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        let place = |reader: &&mut PartReader| reader.next.as_ref().map(|entry| (entry.file, entry.block));
        let first = self.readers.iter_mut().filter(|reader| reader.next.is_some()).min_by_key(place);
        let block = first.map_or(Ok(None), PartReader::next_block)?;
        Ok(block.map(Unit::from))
    }

    fn recycle(&mut self, _bytes: Vec<u8>) {}
}

/// The blocks of one part.
struct PartReader {
    blocks: Entries,
    /// The block that comes next.
    next: Option<BlockEntry>,
    quarantine: Entries,
    documents: Documents,
}

impl PartReader {
    fn open(part: &Part) -> Result<Self> {
        let mut blocks = Entries::open(part.folder.join(BLOCKS_NAME))?;
        let mut shards = part.shards.clone();
        shards.reverse();
        Ok(Self {
            next: blocks.next()?,
            blocks,
            quarantine: Entries::open(part.folder.join(QUARANTINE_NAME))?,
            documents: Documents { shards, open: None, disk_bytes: 0 },
        })
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        let Some(entry) = self.next.take() else { return Ok(None) };
        self.next = self.blocks.next()?;
        let BlockEntry { file, block: number, is_partial, .. } = entry;
        let mut block = Block { file, number, is_partial, first_line: 1, ..Block::default() };
        for _ in 0..entry.counts.quarantined {
            block.bad.extend(self.quarantine.next::<BadRecord>()?);
        }
        self.documents.take(entry.documents, &mut block.bytes)?;
        block.disk_bytes = std::mem::take(&mut self.documents.disk_bytes);
        block.counts = Some(entry.counts);
        Ok(Some(block))
    }
}

/// The lines of a part's shards.
struct Documents {
    /// Those not begun, the next one last.
    shards: Vec<PathBuf>,
    open: Option<(Reader, Block, usize)>,
    disk_bytes: u64,
}

impl Documents {
    /// Appends the next `count` lines.
    fn take(&mut self, count: u64, lines: &mut Vec<u8>) -> Result<()> {
        let mut missing = count;
        while missing > 0 {
            let Some(rest) = self.rest()? else { return Err(Self::too_few(missing)) };
            match memchr(b'\n', rest) {
                Some(end) => {
                    lines.extend_from_slice(&rest[..=end]);
                    missing -= 1;
                    self.pass(end + 1);
                }
                None => self.next_block()?,
            }
        }
        Ok(())
    }

    /// What has not been taken of the open block; `None` after the last shard.
    fn rest(&mut self) -> Result<Option<&[u8]>> {
        if self.open.is_none() {
            let Some(path) = self.shards.pop() else { return Ok(None) };
            self.open = Some((read::open(&path, "text", Limits::of_own_files())?, Block::default(), 0));
        }
        Ok(self.open.as_ref().map(|(_, block, at)| &block.bytes[*at..]))
    }

    fn pass(&mut self, bytes: usize) {
        if let Some((_, _, at)) = &mut self.open {
            *at += bytes;
        }
    }

    fn next_block(&mut self) -> Result<()> {
        let Some((reader, block, at)) = &mut self.open else { return Ok(()) };
        match reader.next_block()? {
            Some(next) => {
                self.disk_bytes += next.disk_bytes;
                reader.recycle(std::mem::replace(block, next).bytes);
                *at = 0;
            }
            None => self.open = None,
        }
        Ok(())
    }

    fn too_few(missing: u64) -> Error {
        Error::Integrity {
            path: PathBuf::from(BLOCKS_NAME),
            expected: "as many documents as the list of blocks says".to_owned(),
            found: format!("{missing} fewer"),
        }
    }
}

/// A list that a run wrote, read back.
struct Entries {
    path: PathBuf,
    lines: Lines<BufReader<File>>,
}

impl Entries {
    fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        Ok(Self { path, lines: BufReader::new(file).lines() })
    }

    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        let line = line.map_err(Error::io("read", &self.path))?;
        serde_json::from_str(&line).map(Some).map_err(|error| Error::Integrity {
            path: self.path.clone(),
            expected: "an entry on every line".to_owned(),
            found: error.to_string(),
        })
    }
}
