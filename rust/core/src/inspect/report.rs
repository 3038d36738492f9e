//! `report.html`: the funnel, samples and histograms of a run on one page. Nothing is loaded
//! from anywhere: styles are inline, charts are SVG, every text is escaped.

use std::fmt::Write as _;

use super::chart::chart;
use super::histogram::{Histogram, Histograms};
use crate::funnel::Size;
use crate::ledger::{Counts, Ledger};

const STYLE: &str = "
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
th,td{border-bottom:1px solid #ddd;padding:.2rem .8rem;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
h1,h2,h3{font-weight:600} h2{margin-top:2.5rem} h3{margin:1.5rem 0 0;font-family:monospace}
svg{width:100%;height:auto} svg text{font-size:11px;fill:#555}
.k{fill:#1f6f8b} .r{fill:#e0b8ae} .a{stroke:#333;fill:none} .b{stroke:#999;fill:none;stroke-dasharray:4 3}
pre{white-space:pre-wrap;background:#f6f6f4;padding:.6rem;margin:.4rem 0}
";

/// Most files of which the page has a row.
const MAX_FILES: usize = 200;

/// A document that stands for those of its reason.
pub(crate) struct Shown<'s> {
    pub(crate) reason: &'s str,
    pub(crate) id: &'s str,
    pub(crate) text: &'s str,
}

/// The whole page.
pub(crate) fn page<'s>(
    ledger: &Ledger,
    histograms: &Histograms,
    samples: impl Iterator<Item = Shown<'s>>,
) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta http-equiv='Content-Security-Policy' \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><title>Preparation</title>\
         <style>{STYLE}</style></head>\n<body><h1>Preparation</h1>\n"
    );
    page += &funnel(&ledger.total);
    page += &files(ledger);
    page += "<h2>Samples</h2>\n<p>The first documents of each reason; personal data is masked.</p>\n";
    for Shown { reason, id, text } in samples {
        let (reason, id, text) = (escaped(reason), escaped(id), escaped(text));
        let _ = writeln!(page, "<pre><b>{reason}</b> {id}\n{text}</pre>"); // a String takes all
    }
    page += &features(histograms);
    page + "</body></html>\n"
}

fn funnel(total: &Counts) -> String {
    let mut rows = row("read", "", total.read, None, total.read);
    for step in &total.funnel {
        rows += &row(&step.name, "in", step.entered.documents, Some(step.entered), total.read);
        for (reason, size) in &step.rejected {
            rows += &row("", reason, size.documents, Some(*size), total.read);
        }
        rows += &row("", "out", step.left.documents, Some(step.left), total.read);
    }
    rows += &row("quarantined", "", total.quarantined, None, total.read);
    rows += &row("kept", "", total.kept, None, total.read);
    format!(
        "<h2>Funnel</h2>\n<table><tr><th>step<th>reason<th class='n'>documents<th class='n'>%\
         <th class='n'>bytes<th class='n'>words</tr>\n{rows}</table>\n"
    )
}

fn row(step: &str, reason: &str, documents: u64, size: Option<Size>, of: u64) -> String {
    let percent = 100.0 * documents as f64 / of.max(1) as f64;
    let number = |number: Option<u64>| number.map_or_else(String::new, grouped);
    let (bytes, words) = (number(size.map(|size| size.bytes)), number(size.map(|size| size.words)));
    format!(
        "<tr><td>{}<td>{}<td class='n'>{}<td class='n'>{percent:.2}<td class='n'>{bytes}<td class='n'>{words}</tr>\n",
        escaped(step),
        escaped(reason),
        grouped(documents)
    )
}

fn files(ledger: &Ledger) -> String {
    let mut rows = String::new();
    for file in ledger.files.iter().take(MAX_FILES) {
        let Counts { read, kept, duplicates, quarantined, .. } = file.counts;
        let cells =
            [read, kept, duplicates, quarantined].map(|count| format!("<td class='n'>{}", grouped(count)));
        let _ = writeln!(rows, "<tr><td>{}{}</tr>", escaped(&file.file), cells.concat());
    }
    let more = ledger.files.len().saturating_sub(MAX_FILES);
    let more = if more == 0 { String::new() } else { format!("<p>{more} more stand in the ledger.</p>\n") };
    format!(
        "<h2>Files</h2>\n<table><tr><th>file<th class='n'>read<th class='n'>kept<th class='n'>duplicates\
         <th class='n'>quarantined</tr>\n{rows}</table>\n{more}"
    )
}

fn features(histograms: &Histograms) -> String {
    let [kept, rejected] = histograms.documents;
    let mut page = format!(
        "<h2>Features</h2>\n<p>Of the texts as they were read, measured on one document in {}, chosen by place: {} that pass \
         every rule (dark), {} that do not (light). The solid line is the share that a largest value would keep, the dashed \
         one that a smallest value would keep, each if it were the only rule; a text that has no value is kept by both.</p>\n",
        histograms.one_in,
        grouped(kept),
        grouped(rejected)
    );
    histograms.features.iter().for_each(|histogram| page += &feature(histogram));
    page
}

/// Shares for which the page says the threshold.
const SHARES: [f64; 5] = [0.99, 0.95, 0.9, 0.75, 0.5];

fn feature(histogram: &Histogram) -> String {
    if histogram.defined() == 0 {
        return format!("<h3>{}</h3>\n<p>No document has a value.</p>\n", histogram.name);
    }
    let cells = |name: &str, cell: &dyn Fn(f64) -> String| {
        let cells = SHARES.map(|share| format!("<td class='n'>{}", cell(share)));
        format!("<tr><td>{name}{}</tr>\n", cells.concat())
    };
    let table = [
        cells("keeps", &|share| format!("{:.0} %", 100.0 * share)),
        cells("as a minimum", &|share| value(histogram.minimum_keeping(share))),
        cells("as a maximum", &|share| value(histogram.maximum_keeping(share))),
    ];
    format!("<h3>{}</h3>\n{}<table>{}</table>\n", histogram.name, chart(histogram), table.concat())
}

/// A threshold, as exact as its bucket.
pub(super) fn value(value: f64) -> String {
    if value.is_infinite() {
        return "∞".to_owned();
    }
    if value >= 100.0 {
        return grouped(
            value.to_string().split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0),
        );
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_and_escapes_what_it_shows() {
        let samples = [Shown { reason: "few_words", id: "<script>", text: "a < b & \"c\"" }];
        let page = page(&Ledger::new(Vec::new()), &Histograms::new(1), samples.into_iter());
        assert!(page.contains("<b>few_words</b> &lt;script&gt;\na &lt; b &amp; &quot;c&quot;"));
        assert!(!page.contains("<script") && !page.contains("http:") && !page.contains("https:"));
    }

    #[test]
    fn a_text_without_a_value_is_kept_by_every_threshold_and_the_last_bucket_has_no_end() {
        let mut found = Histograms::new(1);
        let mut values = [f64::NAN; crate::quality::FEATURES.len()];
        (0..10).for_each(|_| found.add_document(&values, true)); // half have none
        for index in 0..10 {
            values = [f64::from(index); crate::quality::FEATURES.len()];
            found.add_document(&values, true);
        }
        let of = |name: &str| found.features.iter().find(|feature| feature.name == name).unwrap();
        assert_eq!(
            (of("num_words").minimum_keeping(0.75), of("num_words").maximum_keeping(0.75)),
            (5.0, 4.125)
        );
        let ratio = of("newline_word_ratio").maximum_keeping(1.0);
        assert_eq!((ratio, value(ratio).as_str()), (f64::INFINITY, "∞"));
    }

    #[test]
    fn a_threshold_keeps_at_least_its_share() {
        let mut found = Histograms::new(1);
        let mut values = [0.0; crate::quality::FEATURES.len()];
        for index in 0..100 {
            values[0] = f64::from(index);
            found.add_document(&values, true);
        }
        let bytes = &found.features[0];
        assert_eq!((bytes.minimum_keeping(0.9), bytes.maximum_keeping(0.5)), (10.0, 50.0));
        assert_eq!((bytes.minimum_keeping(1.0), value(bytes.maximum_keeping(1.0)).as_str()), (0.0, "100"));
        assert_eq!((value(0.125).as_str(), value(1_234_567.0).as_str()), ("0.125", "1,234,567"));
    }
}
