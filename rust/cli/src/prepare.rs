//! `run`, `clean` and `dedup`: raw files to a folder of documents.

use serde_json::json;
use triptych_core::config::PrepConfig;
use triptych_core::pipeline::{self, Summary, QUARANTINE_NAME};

use crate::options::Options;
use crate::outcome::{failed, print_line, shown, tell, TOO_MANY_BAD};
use crate::plan;
use crate::progress::Bar;
use crate::signals::Signals;

/// Runs the verb; `profile` is what the verb stands for.
pub(crate) fn run(options: &Options, profile: Option<&str>) -> u8 {
    let signals = Signals::watch();
    let prepared = options.config(profile).and_then(|config| {
        if options.dry_run {
            return plan::dry_run(&config, options);
        }
        let summary = pipeline::run(&config, &Bar::new(signals.clone()))?;
        Ok(report(&config, &summary, options.json))
    });
    prepared.unwrap_or_else(|error| signals.status(&error, failed(&error)))
}

/// Prints the summary of a run; gives its exit status.
pub(crate) fn report(config: &PrepConfig, summary: &Summary, as_json: bool) -> u8 {
    let status = if summary.bad_fraction > config.max_bad { TOO_MANY_BAD } else { 0 };
    if !as_json {
        tell(shown(&table(summary)));
    }
    if let Some(warning) = &summary.warning {
        tell(format_args!("warning: {}\n", shown(warning)));
    }
    if status == TOO_MANY_BAD {
        let (bad, read) = (summary.ledger.total.quarantined, summary.ledger.total.read);
        let list = summary.output.join(QUARANTINE_NAME);
        tell(format_args!(
            "error[input] {bad} of {read} records are bad: expected at most a share of {}\n",
            config.max_bad
        ));
        tell(format_args!(
            "hint: `{}` names each; the good documents are written\n",
            shown(&list.display().to_string())
        ));
    }
    if as_json {
        return print_line(&json!(summary).to_string(), status);
    }
    status
}

/// The ledger for a person, a line a fate.
fn table(summary: &Summary) -> String {
    let total = &summary.ledger.total;
    let head = if summary.already_done { "already done: " } else { "" };
    let mut lines = vec![format!("{head}{}", summary.output.display()), row("read", total.read, total.read)];
    lines.push(row("kept", total.kept, total.read));
    lines.extend(total.rejected.iter().map(|(reason, count)| row(reason, *count, total.read)));
    lines.push(row("duplicates", total.duplicates, total.read));
    lines.push(row("quarantined", total.quarantined, total.read));
    lines.extend(
        total.skipped.iter().map(|(kind, count)| row(&format!("skipped: {kind}"), *count, total.read)),
    );
    lines.join("\n") + "\n"
}

fn row(name: &str, count: u64, of: u64) -> String {
    let percent = 100.0 * count as f64 / of.max(1) as f64;
    format!("  {name:<24}{count:>12}  {percent:>6.2} %")
}
