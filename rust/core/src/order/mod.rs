//! The order of data as a pure function: the rows of a step from seed, stage table and step.
//!
//! Nothing is consumed, buffered or replayed. A stage takes its rows from several sources in
//! exact proportion ([`interleave`]); a source deals its packed rows epoch by epoch, each epoch in
//! its own permutation ([`permutation`]). A source goes on where the stage before left it, as
//! long as `seq_len` and the packing are the same; another packing starts afresh.

mod batch;
mod interleave;
mod mixture;
mod permutation;
mod prefetch;
mod ramp;
mod report;
mod row_tokens;
mod skip;
mod stage;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::pack::{Packing, Segment, Strategy, WINDOW_UNITS};
use crate::shard::TokenShards;

use mixture::Mixture;
use permutation::Permutation;
use skip::Skips;

pub use batch::{Arrays, Batch};
pub use prefetch::{Part, Prefetch, Share};
pub use report::OrderReport;
pub use row_tokens::{roll, RowTokens};
pub use stage::Stage;

/// A row of packed documents: its source and its segments.
pub type Row<'a> = (u32, &'a [Segment]);

/// What keeps an order from reading data that the stage table alone would let it read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Windows of data steps to leave out.
    pub skip: Vec<Range<u64>>,
    /// Most passes over a source, by its name.
    pub max_epochs: BTreeMap<String, f64>,
}

/// The order of all rows of a run.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    sources: Vec<Source>,
    pools: Vec<Pool>,
    plans: Vec<Plan>,
    skips: Skips,
    /// Hash of the content of all sources, mixed into every step's hash.
    fingerprint: u128,
}

/// Token shards under the name that weights use.
#[derive(Debug)]
struct Source {
    name: String,
    shards: TokenShards,
}

/// The rows of a source at one `seq_len` and by one strategy.
#[derive(Debug)]
struct Pool {
    source: usize,
    packing: Packing,
    /// Rows that the stages planned so far take: to count them anew for each stage takes time by its square.
    drawn: u64,
}

impl Pool {
    fn seq_len(&self) -> usize {
        self.packing.report().seq_len
    }

    fn is(&self, source: usize, seq_len: usize, packing: Strategy) -> bool {
        (self.source, self.seq_len(), self.packing.report().packing) == (source, seq_len, packing)
    }
}

/// A stage with everything needed to find its rows.
#[derive(Debug)]
struct Plan {
    stage: Stage,
    first_step: u64,
    /// Data steps of the stage, those in windows to skip among them.
    data_steps: Range<u64>,
    /// That of all stages that go on with each other: its schedule may be of a million rows.
    mixture: Arc<Mixture>,
    /// Row of the mixture that the stage begins with: those before are of the stages that it goes on with.
    first_row: u64,
    draws: Vec<Draw>,
}

impl Plan {
    /// Rows of the stage, those that are skipped among them.
    fn rows(&self) -> u64 {
        (self.data_steps.end - self.data_steps.start) * self.stage.rows_per_step
    }

    /// What each draw deals in the rows `rows` of the stage, counted as its pool counts.
    fn dealt(&self, rows: Range<u64>) -> Vec<Range<u64>> {
        let before = self.mixture.counts(self.first_row + rows.start);
        let behind = self.mixture.counts(self.first_row + rows.end);
        let bounds = before.into_iter().zip(behind).zip(&self.draws);
        bounds.map(|((from, to), draw)| draw.first_row + from..draw.first_row + to).collect()
    }
}

/// What a stage draws from: a pool, from a row counter on, which stands where the mixture begins.
#[derive(Debug, Clone, Copy)]
struct Draw {
    pool: usize,
    first_row: u64,
}

impl Order {
    /// Opens the sources (name, folder of token shards) and packs them for the stages.
    ///
    /// # Errors
    /// `InvalidValue` or `UnknownName` for a faulty stage table, sources that share a name or differ in
    /// their tokenizers; `EmptyCorpus` for a source without a row; `Integrity` for damaged shards.
    pub fn new(sources: Vec<(String, PathBuf)>, stages: Vec<Stage>, seed: u64) -> Result<Self> {
        Self::limited(sources, stages, seed, &Limits::default())
    }

    /// The same within limits.
    ///
    /// # Errors
    /// Those of `new`, and `InvalidValue` for a faulty limit or a source that would be read too often.
    pub fn limited(
        sources: Vec<(String, PathBuf)>,
        stages: Vec<Stage>,
        seed: u64,
        limits: &Limits,
    ) -> Result<Self> {
        let sources = open_sources(sources)?;
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        stage::check_table(&stages, &names)?;
        stage::check_max_epochs(&limits.max_epochs, &names)?;
        let fingerprint = fingerprint(&sources);
        let skips = Skips::new(&limits.skip)?;
        let mut order = Self { seed, sources, pools: Vec::new(), plans: Vec::new(), skips, fingerprint };
        let mut stages = stages.into_iter().peekable();
        while let Some(first) = stages.next() {
            let going_on = std::iter::from_fn(|| stages.next_if(|stage| stage.goes_on));
            order.plan(std::iter::once(first).chain(going_on).collect())?;
        }
        order.check_epochs(&limits.max_epochs)?;
        Ok(order)
    }

    /// Plans stages that go on with each other. Their mixture is laid out once: to lay it out anew for each of them
    /// takes time and memory by the square of their number.
    fn plan(&mut self, stages: Vec<Stage>) -> Result<()> {
        let rows = self.rows_of(&stages)?;
        let (mixture, draws) = self.begin(&stages[0], rows)?;
        for (draw, drawn) in draws.iter().zip(mixture.counts(rows)) {
            self.pools[draw.pool].drawn += drawn;
        }
        let (mixture, mut first_row) = (Arc::new(mixture), 0);
        for stage in stages {
            let (first_step, draws) = (self.num_steps(), draws.clone());
            let data_steps = self.data_steps(first_step, &stage);
            let mixture = Arc::clone(&mixture);
            let plan = Plan { stage, first_step, data_steps, mixture, first_row, draws };
            first_row += plan.rows();
            self.plans.push(plan);
        }
        Ok(())
    }

    /// Rows of stages behind those planned so far, those that are skipped among them.
    fn rows_of(&self, stages: &[Stage]) -> Result<u64> {
        let mut first_step = self.num_steps();
        stages.iter().try_fold(0_u64, |rows, stage| {
            let data_steps = self.data_steps(first_step, stage);
            first_step += stage.steps;
            let steps = data_steps.end - data_steps.start;
            let own = steps.checked_mul(stage.rows_per_step);
            own.and_then(|own| rows.checked_add(own)).ok_or_else(|| stage.too_long(steps))
        })
    }

    /// The mixture of a stage of `rows` rows that begins one, and what it draws from.
    fn begin(&mut self, stage: &Stage, rows: u64) -> Result<(Mixture, Vec<Draw>)> {
        let used = self.sources_of(stage);
        let mixture = self.mixture(stage, &used, rows)?;
        let mut draws = Vec::with_capacity(used.len());
        for source in used {
            let pool = self.pool_of(source, stage.seq_len, stage.packing)?;
            draws.push(Draw { pool, first_row: self.pools[pool].drawn });
        }
        Ok((mixture, draws))
    }

    /// Sources that a stage draws from, those that a ramp leads away from among them.
    fn sources_of(&self, stage: &Stage) -> Vec<usize> {
        let before = self.plans.last().filter(|_| stage.ramp_steps > 0).map(|plan| &plan.stage);
        let named = |name: &str| {
            stage.weights.contains_key(name) || before.is_some_and(|stage| stage.weights.contains_key(name))
        };
        (0..self.sources.len()).filter(|source| named(&self.sources[*source].name)).collect()
    }

    fn mixture(&self, stage: &Stage, used: &[usize], rows: u64) -> Result<Mixture> {
        let weights =
            |stage: &Stage| used.iter().map(|s| stage.weight(&self.sources[*s].name)).collect::<Vec<f64>>();
        let before = self.plans.last().map_or_else(Vec::new, |plan| weights(&plan.stage));
        Mixture::new(&before, &weights(stage), stage.ramp_steps * stage.rows_per_step, rows)
    }

    /// The data steps of a stage that begins with a step: as many as it has steps, and those it skips.
    fn data_steps(&self, first_step: u64, stage: &Stage) -> Range<u64> {
        let reached = |steps: u64| steps.checked_sub(1).map_or(0, |last| self.skips.data_step(last) + 1);
        reached(first_step)..reached(first_step + stage.steps)
    }

    fn pool_of(&mut self, source: usize, seq_len: usize, strategy: Strategy) -> Result<usize> {
        let known = self.pools.iter().position(|pool| pool.is(source, seq_len, strategy));
        if let Some(index) = known {
            return Ok(index);
        }
        let Source { name, shards } = &self.sources[source];
        let per_unit = shards.content().documents_per_unit as usize;
        let packing = Packing::new(shards.lengths(), per_unit, seq_len, strategy, WINDOW_UNITS)?;
        if packing.num_rows() == 0 {
            let expected = format!("at least one unit of at most {seq_len} tokens");
            return Err(Error::EmptyCorpus { inputs: format!("source `{name}`"), expected });
        }
        self.pools.push(Pool { source, packing, drawn: 0 });
        Ok(self.pools.len() - 1)
    }

    /// Refuses a plan that reads a source more often than it may.
    fn check_epochs(&self, max_epochs: &BTreeMap<String, f64>) -> Result<()> {
        for (name, most) in max_epochs {
            let planned = self.epochs_of(name);
            if planned > *most {
                return Err(Error::InvalidValue {
                    what: format!("epochs of source `{name}`"),
                    expected: format!(
                        "at most {most}, its `max_epochs`; give it {:.4} of its weights, train fewer steps, or raise the limit",
                        most / planned
                    ),
                    found: format!("{planned:.4} planned"),
                });
            }
        }
        Ok(())
    }

    /// Planned passes over a source, over all its packings.
    fn epochs_of(&self, name: &str) -> f64 {
        let pools = self.pools.iter().filter(|pool| self.sources[pool.source].name == name);
        pools.map(|pool| pool.drawn as f64 / pool.packing.num_rows() as f64).sum()
    }

    /// Steps of all stages.
    pub fn num_steps(&self) -> u64 {
        self.plans.last().map_or(0, |plan| plan.first_step + plan.stage.steps)
    }

    /// Index of the stage that a step belongs to.
    pub fn stage(&self, step: u64) -> Result<usize> {
        if step >= self.num_steps() {
            let expected = format!("0 to {}", self.num_steps().saturating_sub(1));
            return Err(Error::InvalidValue { what: "step".to_owned(), expected, found: step.to_string() });
        }
        Ok(self.plans.partition_point(|plan| plan.first_step <= step) - 1)
    }

    /// The stage table.
    pub fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.plans.iter().map(|plan| &plan.stage)
    }

    /// The data step that a step reads: itself, moved up by the windows before it that are skipped.
    ///
    /// # Errors
    /// `InvalidValue` for a step out of range.
    pub fn data_step(&self, step: u64) -> Result<u64> {
        self.stage(step)?;
        Ok(self.skips.data_step(step))
    }

    /// The rows of a step, in order.
    ///
    /// # Errors
    /// `InvalidValue` for a step out of range.
    pub fn rows(&self, step: u64) -> Result<Vec<Row<'_>>> {
        self.some_rows(step, 0, None)
    }

    /// The rows `first_row..first_row + num_rows` of a step (all that follow if `None`), and no others: to find all of
    /// them for every micro-batch takes time by the square of the rows.
    fn some_rows(&self, step: u64, first_row: u64, num_rows: Option<u64>) -> Result<Vec<Row<'_>>> {
        let plan = &self.plans[self.stage(step)?];
        let rows = plan.stage.rows_per_step;
        let end = num_rows.map_or(rows, |count| first_row.saturating_add(count));
        if first_row > end || end > rows {
            return Err(Error::InvalidValue {
                what: "rows".to_owned(),
                expected: format!("a range within 0 to {rows}"),
                found: format!("{first_row} to {end}"),
            });
        }
        let before = (self.skips.data_step(step) - plan.data_steps.start) * rows;
        Ok((before + first_row..before + end).map(|row| self.row(plan, row)).collect())
    }

    /// Row number `row` of a stage.
    fn row(&self, plan: &Plan, row: u64) -> Row<'_> {
        let (draw, rank) = plan.mixture.source_of(plan.first_row + row);
        let Draw { pool, first_row } = plan.draws[draw];
        let pool = &self.pools[pool];
        (pool.source as u32, pool.packing.row(self.dealt(pool, first_row + rank)))
    }

    /// The row of a pool that comes when `counter` rows have come before it.
    fn dealt(&self, pool: &Pool, counter: u64) -> u64 {
        let rows = pool.packing.num_rows();
        let name = &self.sources[pool.source].name;
        let epoch = Permutation::of_epoch(self.seed, name, pool.seq_len() as u64, counter / rows, rows);
        epoch.apply(counter % rows)
    }

    /// XXH3-128, in hexadecimal, of what a step reads: the content of all sources, then of every row its
    /// source and number of segments, and of every segment document, start and length.
    pub fn step_hash(&self, step: u64) -> Result<String> {
        let mut hasher = Xxh3::new();
        hasher.update(&self.fingerprint.to_le_bytes());
        for (source, segments) in self.rows(step)? {
            hasher.update(&source.to_le_bytes());
            hasher.update(&(segments.len() as u64).to_le_bytes());
            for number in
                segments.iter().flat_map(|segment| [segment.document, segment.start, segment.length])
            {
                hasher.update(&number.to_le_bytes());
            }
        }
        Ok(format!("{:032x}", hasher.digest128()))
    }

    /// Id of a document of a source, both by number.
    pub fn document_id(&self, source: usize, document: u64) -> Result<&str> {
        match self.sources.get(source) {
            Some(source) => source.shards.document_id(document),
            None => Err(Error::InvalidValue {
                what: "source".to_owned(),
                expected: format!("0 to {}", self.sources.len() - 1),
                found: source.to_string(),
            }),
        }
    }
}

fn open_sources(folders: Vec<(String, PathBuf)>) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::with_capacity(folders.len());
    for (name, folder) in folders {
        if sources.iter().any(|source| source.name == name) {
            let found = format!("`{name}` twice");
            return Err(Error::InvalidValue {
                what: "sources".to_owned(),
                expected: "distinct names".to_owned(),
                found,
            });
        }
        let source = Source { name, shards: TokenShards::open(&folder)? };
        if let Some(first) = sources.first() {
            check_same_tokenizer(first, &source)?;
        }
        sources.push(source);
    }
    Ok(sources)
}

fn check_same_tokenizer(first: &Source, other: &Source) -> Result<()> {
    if first.shards.tokenizer_sha256() == other.shards.tokenizer_sha256() {
        return Ok(());
    }
    Err(Error::InvalidValue {
        what: format!("tokenizer of source `{}`", other.name),
        expected: format!("SHA-256 {} as for source `{}`", first.shards.tokenizer_sha256(), first.name),
        found: format!("SHA-256 {}", other.shards.tokenizer_sha256()),
    })
}

fn fingerprint(sources: &[Source]) -> u128 {
    let mut hasher = Xxh3::new();
    for source in sources {
        hasher.update(source.name.as_bytes());
        for (file, entry) in &source.shards.manifest().files {
            hasher.update(format!("\0{file}\0{}", entry.sha256).as_bytes());
        }
        hasher.update(b"\n");
    }
    hasher.digest128()
}
