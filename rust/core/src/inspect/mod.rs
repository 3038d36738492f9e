//! Looking into a run: why one document is kept or rejected, and what all of them are like.

mod explain;
mod interval;
mod locate;
mod spans;

pub use explain::{examine, explain, Explanation, Feature, Findings, LanguageVerdict, Verdict};
pub use interval::{interval, Interval};
pub use locate::Which;
pub use spans::{PiiSpan, PiiVerdict};
