//! What an order will read: rows, tokens and epochs of each source, stage by stage.

use std::ops::Range;

use serde::Serialize;

use super::{Draw, Order, Plan, Pool};
use crate::pack::PackReport;

/// The plan of a run, exact to the token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderReport {
    /// Steps of all stages.
    pub num_steps: u64,
    /// Every source with its packings.
    pub sources: Vec<SourceReport>,
    /// Every stage with what it draws.
    pub stages: Vec<StageReport>,
}

/// A source of the order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceReport {
    /// Name in the weights.
    pub name: String,
    /// Documents in its shards.
    pub documents: u64,
    /// Tokens in its shards.
    pub tokens: u64,
    /// Its rows, one entry for each `seq_len` in use.
    pub packings: Vec<PoolReport>,
}

/// The rows of a source at one `seq_len`, and how often the run goes through them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolReport {
    /// What packing did.
    #[serde(flatten)]
    pub packing: PackReport,
    /// Rows that all stages take.
    pub planned_rows: u64,
    /// Their tokens.
    pub planned_tokens: u64,
    /// Planned rows over rows: 1.0 is every row once.
    pub epochs: f64,
}

/// A stage and its draws.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Name in the table.
    pub name: String,
    /// First step.
    pub first_step: u64,
    /// Number of steps.
    pub steps: u64,
    /// Rows of each step.
    pub rows_per_step: u64,
    /// Data steps of the stage that are left out, besides its steps.
    pub skipped_steps: u64,
    /// Slots of a row.
    pub seq_len: usize,
    /// Rows, tokens and epochs by source.
    pub draws: Vec<DrawReport>,
}

/// What a stage takes from a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrawReport {
    /// Name of the source.
    pub source: String,
    /// Rows.
    pub rows: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Tokens of further rows that are left out with the steps that are skipped.
    pub skipped_tokens: u64,
    /// Rows, skipped ones too, over rows of the source.
    pub epochs: f64,
}

impl Order {
    /// The plan: exact, and therefore as long as one pass over the row table.
    pub fn report(&self) -> OrderReport {
        OrderReport {
            num_steps: self.num_steps(),
            sources: (0..self.sources.len()).map(|source| self.source_report(source)).collect(),
            stages: self.plans.iter().map(|plan| self.stage_report(plan)).collect(),
        }
    }

    fn source_report(&self, source: usize) -> SourceReport {
        let content = self.sources[source].shards.content();
        let pools = self.pools.iter().filter(|pool| pool.source == source);
        SourceReport {
            name: self.sources[source].name.clone(),
            documents: content.num_documents,
            tokens: content.num_tokens,
            packings: pools.map(|pool| self.pool_report(pool)).collect(),
        }
    }

    fn pool_report(&self, pool: &Pool) -> PoolReport {
        PoolReport {
            packing: pool.packing.report().clone(),
            planned_rows: pool.drawn,
            planned_tokens: self.tokens_of(pool, &(0..pool.drawn)),
            epochs: pool.drawn as f64 / pool.packing.num_rows() as f64,
        }
    }

    fn stage_report(&self, plan: &Plan) -> StageReport {
        let skipped = self.skipped_rows(plan);
        let draws = plan.draws.iter().zip(plan.dealt(0..plan.rows())).zip(&skipped);
        StageReport {
            name: plan.stage.name.clone(),
            first_step: plan.first_step,
            steps: plan.stage.steps,
            rows_per_step: plan.stage.rows_per_step,
            skipped_steps: plan.data_steps.end - plan.data_steps.start - plan.stage.steps,
            seq_len: plan.stage.seq_len,
            draws: draws.map(|((draw, dealt), skipped)| self.draw_report(draw, &dealt, *skipped)).collect(),
        }
    }

    /// `skipped` has rows and tokens.
    fn draw_report(&self, draw: &Draw, dealt: &Range<u64>, skipped: (u64, u64)) -> DrawReport {
        let pool = &self.pools[draw.pool];
        let (skipped_rows, skipped_tokens) = skipped;
        let drawn = dealt.end - dealt.start;
        DrawReport {
            source: self.sources[pool.source].name.clone(),
            rows: drawn - skipped_rows,
            tokens: self.tokens_of(pool, dealt) - skipped_tokens,
            skipped_tokens,
            epochs: drawn as f64 / pool.packing.num_rows() as f64,
        }
    }

    /// Rows and tokens of each draw of a stage that fall into windows to skip.
    fn skipped_rows(&self, plan: &Plan) -> Vec<(u64, u64)> {
        let mut skipped = vec![(0, 0); plan.draws.len()];
        for steps in self.skips.within(&plan.data_steps) {
            let row_of = |step: u64| (step - plan.data_steps.start) * plan.stage.rows_per_step;
            let dealt = plan.dealt(row_of(steps.start)..row_of(steps.end));
            for ((draw, dealt), skipped) in plan.draws.iter().zip(dealt).zip(&mut skipped) {
                skipped.0 += dealt.end - dealt.start;
                skipped.1 += self.tokens_of(&self.pools[draw.pool], &dealt);
            }
        }
        skipped
    }

    /// Tokens of the rows dealt in a range: whole epochs, and row by row what is left of others. To count each
    /// range from the first row dealt takes time by the square of the number of stages.
    fn tokens_of(&self, pool: &Pool, dealt: &Range<u64>) -> u64 {
        let rows = pool.packing.num_rows();
        let (first, end) = (dealt.start.div_ceil(rows), dealt.end / rows);
        if first > end {
            return self.tokens_one_by_one(pool, dealt.clone());
        }
        let before = self.tokens_one_by_one(pool, dealt.start..first * rows);
        let behind = self.tokens_one_by_one(pool, end * rows..dealt.end);
        before + (end - first) * pool.packing.report().tokens + behind
    }

    fn tokens_one_by_one(&self, pool: &Pool, dealt: Range<u64>) -> u64 {
        dealt.map(|row| pool.packing.row_tokens(self.dealt(pool, row))).sum()
    }
}
