//! The table of bytes a token and tokens a word, by source and by language.

use std::collections::BTreeMap;

use triptych_core::tokenize::{Fertility, TextCount};

use crate::outcome;

/// The report for a person; sources and languages with the most text first.
pub(crate) fn table(fertility: &Fertility) -> String {
    let mut lines = vec![format!(
        "{:<40}{:>11}{:>15}{:>14}{:>17}{:>17}",
        "", "documents", "bytes", "tokens", "bytes_per_token", "tokens_per_word"
    )];
    lines.push(row("all", &fertility.total));
    for (head, table) in [("source", &fertility.sources), ("language", &fertility.languages)] {
        lines.extend(rows(head, table));
    }
    lines.join("\n") + "\n"
}

/// Most rows of one table; the rest stands in the JSON.
const MAX_ROWS: usize = 20;
/// Most letters of a name; of a longer one the end is shown, which tells more of a path.
const MAX_NAME_CHARS: usize = 38;

fn rows<'t>(head: &'t str, table: &'t BTreeMap<String, TextCount>) -> impl Iterator<Item = String> + 't {
    let mut counts: Vec<_> = table.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(count.bytes));
    let shown = counts.into_iter().take(MAX_ROWS);
    let left_out = table.len().saturating_sub(MAX_ROWS);
    let last = (left_out > 0).then(|| format!("  and {left_out} more: `--json` lists all"));
    shown.map(move |(name, count)| row(&format!("{head} {}", one_line(name)), count)).chain(last)
}

/// A name that documents gave, as a terminal may show it within a row.
fn one_line(name: &str) -> String {
    outcome::shown(name).replace(['\n', '\t'], " ")
}

fn shortened(name: &str) -> String {
    let num_chars = name.chars().count();
    if num_chars <= MAX_NAME_CHARS {
        return name.to_owned();
    }
    let (head, name) = name.split_once(' ').unwrap_or(("", name));
    let shown = MAX_NAME_CHARS - head.len() - 2;
    let end: String = name.chars().skip(name.chars().count() - shown).collect();
    format!("{head} …{end}")
}

fn row(name: &str, count: &TextCount) -> String {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
    let TextCount { documents, bytes, tokens, .. } = count;
    let (bytes_per_token, tokens_per_word) = (ratio(count.bytes_per_token()), ratio(count.tokens_per_word()));
    let name = shortened(name);
    format!("  {name:<38}{documents:>11}{bytes:>15}{tokens:>14}{bytes_per_token:>17}{tokens_per_word:>17}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_shows_its_end_and_columns_stay_aligned() {
        let count = TextCount { documents: 1, bytes: 8, words: 2, tokens: 4 };
        let mut fertility = Fertility { total: count, ..Fertility::default() };
        for name in [
            "web".to_owned(),
            "a/very/long/path".repeat(9) + "é.md",
            "\u{1b}[2J\n\u{202e}".to_owned(),
            String::new(),
        ] {
            fertility.sources.insert(name, count);
        }
        let table = table(&fertility);
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
        assert!(table.contains("pathé.md ") && table.contains("2.000") && table.contains('…'), "{table}");
        assert!(!table.contains(['\u{1b}', '\u{202e}']), "{table}");
    }
}
