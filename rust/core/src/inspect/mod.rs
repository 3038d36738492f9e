//! Looking into a run: why one document is kept or rejected, and what all of them are like.

mod chart;
mod explain;
mod histogram;
mod interval;
mod locate;
mod report;
mod spans;

pub use explain::{examine, explain, Explanation, Feature, Findings, LanguageVerdict, Verdict};
pub(crate) use histogram::{measure, Sampling};
pub use histogram::{Histogram, Histograms, Values};
pub use interval::{interval, Interval};
pub use locate::Which;
pub(crate) use report::{page, Shown};
pub use spans::{PiiSpan, PiiVerdict};
