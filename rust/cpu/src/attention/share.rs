//! Who computes what: heads of documents, and parts of a head that would keep one thread busy while others have
//! nothing to do.
//!
//! Forward, blocks of queries know nothing of each other, and may be cut for any number of threads. Backward, a
//! query's gradient is summed over keys: their blocks are cut into segments by the length of the document alone,
//! so that sums are the same whether one thread goes over all segments or each goes over one.

use std::cmp::Reverse;
use std::ops::Range;

use super::mask::Mask;
use super::problem::{Problem, Unit};
use super::BLOCK;

/// Blocks of a part at least: packing what it reads takes a few hundredths of what it is read for.
const LEAST_BLOCKS: usize = 4;
/// Segments of a document at most: of a head that is cut, each keeps sums for all queries behind it.
const MOST_SEGMENTS: usize = 8;
/// Parts of what a thread has to do that a part of a head may cost at most: half of it.
const SHARES: usize = 2;

/// Some blocks of queries, or all, of one head of one document.
pub(super) struct Share {
    pub unit: Unit,
    pub blocks: Range<usize>,
}

/// One head of one document backward: all its segments, or some of them.
pub(super) struct Task {
    pub unit: Unit,
    /// Which of `Tasks::segments`.
    pub segments: Range<usize>,
    /// Where their sums over queries are kept, one segment's behind the other's, if the head is cut.
    pub kept_at: Option<usize>,
}

/// What there is to do backward.
pub(super) struct Tasks {
    /// Blocks of keys, segment by segment, document by document.
    pub segments: Vec<Range<usize>>,
    pub all: Vec<Task>,
    /// Numbers of a row that is kept, and of all.
    pub numbers: usize,
    pub num_kept: usize,
    /// For each block of queries of a head that is cut: the head's first task, and the block.
    pub joints: Vec<(usize, usize)>,
}

/// What a document's heads cost, in tiles.
struct Costs {
    of_queries: Vec<usize>,
    of_keys: Vec<usize>,
    total: usize,
}

impl Costs {
    fn of(mask: &Mask) -> Self {
        let num = mask.num_blocks();
        let (mut of_queries, mut of_keys) = (vec![0; num], vec![0; num]);
        for (block, of_query) in of_queries.iter_mut().enumerate() {
            for key_block in mask.keys_of(&(block..block + 1)) {
                let sees = usize::from(mask.sees_any(block, key_block));
                *of_query += sees;
                of_keys[key_block] += sees;
            }
        }
        let total = of_queries.iter().sum();
        Self { of_queries, of_keys, total }
    }
}

/// A document whose heads are shared out.
struct Document {
    tokens: Range<usize>,
    mask: Mask,
    costs: Costs,
}

impl Document {
    fn unit(&self, head: usize) -> Unit {
        Unit { tokens: self.tokens.clone(), mask: self.mask.clone(), head }
    }
}

/// How many tiles each thread has to do, of all documents.
struct Threads {
    num: usize,
    total: usize,
}

impl Threads {
    /// Parts, each of which costs at most this part of a thread's work; 1 of what costs no more.
    fn parts_of(&self, cost: usize) -> usize {
        if self.num == 1 {
            return 1;
        }
        (cost * self.num * SHARES).div_ceil(self.total)
    }
}

impl Problem {
    /// All heads, longest documents first: threads end together.
    pub(super) fn shares(&self, num_threads: usize) -> Vec<Share> {
        let (documents, threads) = self.documents(num_threads);
        let of_document = |document: Document| {
            let most = (document.mask.num_blocks() / LEAST_BLOCKS).max(1);
            let parts = threads.parts_of(document.costs.total).min(most);
            let cuts = cut(&document.costs.of_queries, parts);
            let of_head = move |head| {
                let unit = document.unit(head);
                cuts.clone().into_iter().map(move |blocks| Share { unit: unit.clone(), blocks })
            };
            (0..self.heads).flat_map(of_head)
        };
        documents.into_iter().flat_map(of_document).collect()
    }

    /// The same backward, where a kept row has so many numbers.
    pub(super) fn tasks(&self, numbers: usize, num_threads: usize) -> Tasks {
        let (documents, threads) = self.documents(num_threads);
        let (segments, all, joints) = (Vec::new(), Vec::new(), Vec::new());
        let mut found = Tasks { segments, all, numbers, num_kept: 0, joints };
        for document in documents {
            let first = found.segments.len();
            let most = document.mask.num_blocks() / LEAST_BLOCKS;
            found.segments.extend(cut(&document.costs.of_keys, most.clamp(1, MOST_SEGMENTS)));
            let num = found.segments.len() - first;
            let parts = cut(&vec![1; num], threads.parts_of(document.costs.total).min(num));
            for head in 0..self.heads {
                found.add(document.unit(head), first, &parts);
            }
        }
        found
    }

    fn documents(&self, num_threads: usize) -> (Vec<Document>, Threads) {
        let edges = self.boundaries.windows(2).map(|edges| edges[0]..edges[1]).enumerate();
        let of_document = |(document, tokens): (usize, Range<usize>)| {
            let mask = self.mask(document, tokens.len());
            Document { costs: Costs::of(&mask), tokens, mask }
        };
        let mut documents: Vec<Document> =
            edges.filter(|(_, tokens)| !tokens.is_empty()).map(of_document).collect();
        documents.sort_by_key(|document| Reverse(document.tokens.len()));
        let total = documents.iter().map(|document| document.costs.total).sum::<usize>() * self.heads;
        (documents, Threads { num: num_threads, total })
    }
}

impl Tasks {
    /// Adds the tasks of a head, of parts of the segments from `first` on.
    fn add(&mut self, unit: Unit, first: usize, parts: &[Range<usize>]) {
        let is_cut = parts.len() > 1;
        if is_cut {
            let task = self.all.len();
            self.joints.extend((0..unit.mask.num_blocks()).map(|block| (task, block)));
        }
        for part in parts {
            let segments = first + part.start..first + part.end;
            let kept_at = is_cut.then_some(self.num_kept);
            if is_cut {
                let rows = |blocks: &Range<usize>| unit.mask.queries_of(blocks).len() * BLOCK;
                let rows: usize = self.segments[segments.clone()].iter().map(rows).sum();
                self.num_kept += rows * self.numbers;
            }
            self.all.push(Task { unit: unit.clone(), segments, kept_at });
        }
    }

    /// Tasks of the head whose first one this is.
    pub fn parts(&self, first: usize) -> &[Task] {
        let unit = &self.all[first].unit;
        let is_same = |task: &&Task| task.unit.head == unit.head && task.unit.tokens == unit.tokens;
        let num = self.all[first..].iter().take_while(is_same).count();
        &self.all[first..first + num]
    }
}

/// Blocks in order in so many parts, or fewer, that cost the same as far as whole blocks can.
fn cut(costs: &[usize], parts: usize) -> Vec<Range<usize>> {
    let total: usize = costs.iter().sum();
    let (mut cuts, mut start, mut sum) = (Vec::new(), 0, 0);
    for (block, cost) in costs.iter().enumerate() {
        sum += cost;
        if sum * parts >= total * (cuts.len() + 1) {
            cuts.push(start..block + 1);
            start = block + 1;
        }
    }
    cuts
}
