//! `explain`: why one document is kept or rejected.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use triptych_core::config::PrepConfig;
use triptych_core::funnel::DEDUP;
use triptych_core::inspect::{self, Explanation, Findings, LanguageVerdict, PiiSpan, Verdict, Which};
use triptych_core::quality::{Check, StageTrace};
use triptych_core::{Error, Result};

use crate::options::Rules;
use crate::outcome::{failed, print_line, shown};

/// Which document, and by which rules.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The document: a file, a colon and the line (or row) from 1; or a file with `--id`
    #[arg(value_name = "FILE[:LINE]")]
    place: String,
    /// The document by its id; FILE may then also be a folder or a glob
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    rules: Rules,
    /// Prints the explanation as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(options: &Options) -> u8 {
    match options.explain() {
        Ok(found) if options.json => print_line(&json!(found).to_string(), 0),
        Ok(found) => print_line(&shown(page(&found).trim_end()), 0),
        Err(error) => failed(&error),
    }
}

impl Options {
    fn explain(&self) -> Result<Explanation> {
        let (file, which) = self.which()?;
        let config = PrepConfig { input: vec![file], ..self.rules.config()? };
        inspect::explain(&config, &which)
    }

    fn which(&self) -> Result<(PathBuf, Which)> {
        if let Some(id) = &self.id {
            return Ok((PathBuf::from(&self.place), Which::Id(id.clone())));
        }
        let place = self.place.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
        match place {
            Some((file, line @ 1..)) => Ok((PathBuf::from(file), Which::Line(line))),
            _ => Err(Error::InvalidValue {
                what: "document".to_owned(),
                expected: "`FILE:LINE` with a line from 1, or a file and `--id`".to_owned(),
                found: format!("`{}`", self.place),
            }),
        }
    }
}

/// True if the profile compares documents with one another.
fn is_compared(found: &Explanation) -> bool {
    let stages = found.findings.iter().flat_map(|findings| &findings.quality);
    stages.into_iter().any(|stage| stage.profile == DEDUP)
}

/// The explanation for a person.
fn page(found: &Explanation) -> String {
    let id = found.id.as_ref().map_or_else(String::new, |id| format!("  id {id}"));
    let verdict = match &found.verdict {
        Verdict::Kept { bytes } if is_compared(found) => {
            format!("kept, {bytes} bytes, unless it repeats an earlier document")
        }
        Verdict::Kept { bytes } => format!("kept, {bytes} bytes"),
        Verdict::Rejected { reason } => format!("rejected: {reason}"),
        Verdict::Quarantined { reason } => format!("quarantined: {reason}"),
    };
    let mut page = format!("{}:{}{id}\n{verdict}\n", found.file, found.line);
    if let Some(findings) = &found.findings {
        page += &body(findings);
    }
    page
}

fn body(findings: &Findings) -> String {
    let mut body = format!("\npersonal data ({}): {} found\n", findings.pii.by, findings.pii.spans.len());
    findings.pii.spans.iter().for_each(|span| body += &span_line(span));
    if let Some(reason) = &findings.pii.reason {
        let _ = writeln!(body, "  rejects: {reason}");
    }
    body += &language_line(&findings.language);
    findings.quality.iter().for_each(|stage| body += &stage_lines(stage));
    body += "\nfeatures\n";
    for feature in &findings.features {
        let _ = writeln!(body, "  {:<38}{:>12}", feature.name, number(feature.value));
        // a String takes all
    }
    body
}

fn span_line(span: &PiiSpan) -> String {
    let PiiSpan { kind, round, bytes, line, num_chars, masked, action, replacement } = span;
    let fate = replacement.as_ref().map_or("stays".to_owned(), |text| format!("becomes `{text}`"));
    let mut place = format!("line {line}, bytes {}..{}", bytes.start, bytes.end);
    if *round > 1 {
        let _ = write!(place, " of round {round}");
    }
    format!("  {place:<30}{kind:<8}{masked} ({num_chars} characters)  {action}: {fate}\n")
}

fn language_line(language: &LanguageVerdict) -> String {
    let LanguageVerdict { code, score, keep, threshold, reason, .. } = language;
    let keep = if keep.is_empty() { "any".to_owned() } else { keep.join(", ") };
    let rule = match threshold {
        None => "no rule".to_owned(),
        Some(threshold) => format!("{keep} above {threshold}"),
    };
    let mark = reason.map_or_else(String::new, |reason| format!("  rejects: {reason}"));
    format!("\nlanguage: {code} {score:.3} ({rule}){mark}\n")
}

fn stage_lines(stage: &StageTrace) -> String {
    let asked = if stage.is_asked { "" } else { " (not asked: rejected before)" };
    let mut lines = format!("\n{}{asked}\n", stage.profile);
    stage.checks.iter().for_each(|check| lines += &check_line(check));
    for dropped in &stage.dropped_lines {
        let (line, bytes, reason) = (dropped.line, dropped.bytes, dropped.reason);
        let _ = writeln!(lines, "  line {line} dropped: {reason} ({bytes} bytes)");
    }
    lines
}

fn check_line(check: &Check) -> String {
    let bounds = match (check.min, check.max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => String::new(),
    };
    let mark = match (check.passes, check.decides) {
        (true, _) => "",
        (false, true) => "rejects",
        (false, false) => "would reject",
    };
    let line = format!("  {:<28}{:>12}  {bounds:<20}{mark}", check.rule, number(check.value));
    line.trim_end().to_owned() + "\n"
}

/// Up to four digits after the point; a dash for what has no number.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.4}"),
    }
}
