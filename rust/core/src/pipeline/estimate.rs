//! What a run would keep and reject, told from a sample of blocks; nothing is written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::batch::{Batch, Preparer};
use super::outside;
use super::probe::{Probe, Seen};
use crate::config::PrepConfig;
use crate::error::{Error, Result};
use crate::inspect::{interval, Interval, Sampling};
use crate::profile::Scratch;
use crate::read::{self, Block, STANDARD_INPUT};

/// Text that a sample has unless another size is asked for, in bytes.
pub const SAMPLE_BYTES: u64 = 64 << 20;

/// What becomes of the documents of a sample, and how sure that is for all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Version of this layout.
    pub schema: u32,
    /// Blocks in the sample.
    pub blocks: usize,
    /// Records in them, good or bad.
    pub documents: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// The sample is the whole corpus, so that nothing is unsure.
    pub is_whole: bool,
    /// Bytes that the inputs are thought to have, decompressed.
    pub total_bytes: u64,
    /// Records that pass every rule, before documents are compared with one another.
    pub kept: Interval,
    /// Records rejected, by reason; `quarantined` are those that cannot be read.
    pub rejected: BTreeMap<String, Interval>,
    /// Time in seconds that one thread would take to judge all, by the time that the sample took.
    pub thread_seconds: f64,
}

/// What became of a block.
struct Judged {
    file: usize,
    bytes: u64,
    /// Documents of the corpus for one of the sample, in proportion: compressed files hold more text a byte on disk,
    /// from which places are taken, and small ones have no whole block at theirs.
    weight: f64,
    read: u64,
    fates: BTreeMap<String, u64>,
    kept: u64,
}

/// Judges about `sample_bytes` of the inputs; `clock` tells the time.
///
/// # Errors
/// As of a run; `InvalidValue` for rules in Python, which are not asked here, and for standard input, which cannot be read twice.
pub fn estimate(config: &PrepConfig, sample_bytes: u64, clock: &dyn Fn() -> Duration) -> Result<Estimate> {
    outside::check(config, None)?;
    let profile = config.profile()?;
    let inputs = read::resolve_beside(&config.input, &config.output)?;
    if inputs.iter().any(|input| input.path.as_os_str() == STANDARD_INPUT) {
        return Err(Error::InvalidValue {
            what: "input".to_owned(),
            expected: "files, of which a sample can be read without using them up".to_owned(),
            found: "standard input".to_owned(),
        });
    }
    let preparer = Preparer::new(profile, config, &inputs, Sampling::NONE);
    let (mut scratch, mut batch) = (Scratch::default(), Batch::default());
    let (mut blocks, mut bytes, mut spent) = (Vec::new(), 0, Duration::ZERO);
    let seen = Probe::new(config, &inputs, sample_bytes).each(|mut block: Block| {
        let begun = clock();
        preparer.prepare(&mut block, &mut scratch, &mut batch);
        spent += clock().saturating_sub(begun);
        bytes += block.bytes.len() as u64;
        blocks.push(judged(&batch, block.bytes.len() as u64));
    })?;
    if !seen.is_whole {
        weigh(&mut blocks, &seen);
    }
    let on_disk: u64 = inputs.iter().map(|input| input.bytes).sum();
    let total_bytes = if seen.is_whole { bytes } else { seen.scaled(on_disk) };
    let sampled = if seen.is_whole { 1.0 } else { (bytes as f64 / total_bytes.max(1) as f64).min(0.99) };
    Ok(Estimate {
        schema: 1,
        documents: blocks.iter().map(|block| block.read).sum(),
        is_whole: seen.is_whole,
        kept: share(&blocks, sampled, |block| block.kept),
        rejected: rejected(&blocks, sampled),
        thread_seconds: spent.as_secs_f64() * total_bytes as f64 / bytes.max(1) as f64,
        blocks: blocks.len(),
        bytes,
        total_bytes,
    })
}

fn judged(batch: &Batch, bytes: u64) -> Judged {
    let mut fates = batch.counts.rejected.clone();
    if batch.counts.quarantined > 0 {
        fates.insert("quarantined".to_owned(), batch.counts.quarantined);
    }
    // Requests of a WARC and the like are no documents that could be kept.
    let (read, kept) = (batch.counts.expected_documents(), batch.documents().count() as u64);
    Judged { file: batch.file, bytes, weight: 1.0, read, fates, kept }
}

/// Gives the blocks of each file the weight of the text that they stand for; all documents together weigh what they are.
fn weigh(blocks: &mut [Judged], seen: &Seen) {
    let mut bytes: BTreeMap<usize, u64> = BTreeMap::new();
    for block in blocks.iter() {
        *bytes.entry(block.file).or_default() += block.bytes;
    }
    let weight = |block: &Judged| seen.stands_for(block.file) / bytes[&block.file].max(1) as f64;
    let documents: u64 = blocks.iter().map(|block| block.read).sum();
    let weighed: f64 = blocks.iter().map(|block| weight(block) * block.read as f64).sum();
    let scale = if weighed > 0.0 { documents as f64 / weighed } else { 0.0 };
    for block in blocks {
        block.weight = weight(block) * scale;
    }
}

fn share(blocks: &[Judged], sampled: f64, counted: impl Fn(&Judged) -> u64) -> Interval {
    let weighed = |block: &Judged, count: u64| block.weight * count as f64;
    let counts: Vec<(f64, f64)> =
        blocks.iter().map(|block| (weighed(block, counted(block)), weighed(block, block.read))).collect();
    interval(&counts, sampled)
}

fn rejected(blocks: &[Judged], sampled: f64) -> BTreeMap<String, Interval> {
    let mut names: Vec<&String> = blocks.iter().flat_map(|block| block.fates.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let of =
        |name: &String| share(blocks, sampled, |block| block.fates.get(name).copied().unwrap_or_default());
    names.into_iter().map(|name| (name.clone(), of(name))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray};

    use super::*;

    fn estimated(folder: &std::path::Path) -> Estimate {
        let (input, profile) = (vec![folder.to_owned()], "clean".to_owned());
        let config = PrepConfig { input, profile, ..PrepConfig::default() };
        estimate(&config, SAMPLE_BYTES, &|| Duration::ZERO).unwrap()
    }

    #[test]
    fn inputs_that_fit_are_judged_whole_however_small_their_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a text"]));
        let batch = RecordBatch::try_from_iter([("text", text)]).unwrap();
        let file = std::fs::File::create(dir.path().join("a.arrow")).unwrap();
        let mut writer = arrow_ipc::writer::FileWriter::try_new(file, &batch.schema()).unwrap();
        (0..99).for_each(|_| writer.write(&batch).unwrap());
        writer.finish().unwrap();
        std::fs::write(dir.path().join("b.jsonl"), "{\"text\":\"a text\"}\n".repeat(1000)).unwrap();
        std::fs::write(dir.path().join("c.txt"), "a text").unwrap();
        let found = estimated(dir.path());
        assert_eq!((found.documents, found.is_whole), (1100, true));
    }

    #[test]
    fn what_is_no_document_has_no_part_in_the_shares() {
        let dir = tempfile::tempdir().unwrap();
        let record = |kind: &str, media_type: &str| {
            format!(
                "WARC/1.0\r\nWARC-Type: {kind}\r\nContent-Type: {media_type}\r\nContent-Length: 1\r\n\r\nx\r\n\r\n"
            )
        };
        let file = [record("request", "application/http"), record("conversion", "text/plain")].concat();
        std::fs::write(dir.path().join("a.warc"), file).unwrap();
        let found = estimated(dir.path());
        assert_eq!((found.documents, found.kept.share), (1, 1.0));
    }
}
