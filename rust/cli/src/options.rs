//! Options of the verbs that prepare, and the configuration they make.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use triptych_core::config::PrepConfig;
use triptych_core::{Error, Result};

/// What decides about a document.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// Steps to take: seed, clean, dedup, gopher, gopher-repetition, c4, fineweb,
    /// datatrove-pii, dolma, dclm, native; several with commas between [default: seed]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// TOML file of keys, which docs/prep.md lists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Fewest words of a document [default: 128]
    #[arg(long, value_name = "WORDS")]
    min_length: Option<usize>,
    /// Most words of a document [default: 4096]
    #[arg(long, value_name = "WORDS")]
    max_length: Option<usize>,
}

impl Rules {
    /// The configuration that these options and their file make.
    pub(crate) fn config(&self) -> Result<PrepConfig> {
        let mut config = PrepConfig::default();
        if let Some(path) = &self.config {
            config.set_file(path)?;
        }
        self.set.iter().try_for_each(|assignment| config.set_assignment(assignment))?;
        let keys = [
            ("profile", self.profile.clone().map(Value::from)),
            ("min_length", self.min_length.map(Value::from)),
            ("max_length", self.max_length.map(Value::from)),
        ];
        let mut given = keys.into_iter().filter_map(|(key, value)| Some((key, value?)));
        given.try_for_each(|(key, value)| config.set(key, value))?;
        Ok(config)
    }

    /// Refuses a profile beside a verb that is one; a file may have it, for `run`.
    fn check_no_profile(&self, verb: &str) -> Result<()> {
        let is_set = |text: &String| text.split('=').next().is_some_and(|key| key.trim() == "profile");
        let found = self.profile.as_ref().or_else(|| self.set.iter().find(|text| is_set(text)));
        let Some(found) = found else { return Ok(()) };
        Err(Error::InvalidValue {
            what: "`--profile`".to_owned(),
            expected: format!("none beside `{verb}`, which is the profile `{verb}`; `run` takes any"),
            found: format!("`{found}`"),
        })
    }
}

/// Later ones win: `--config`, then `--set`, then the named options.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Files, folders or globs: .jsonl, .txt, .md, .html, .warc, .wet (also .gz, .zst, .xz, .bz2), .parquet,
    /// .arrow; `-` is standard input
    #[arg(long, value_name = "PATH", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    rules: Rules,
    /// Threads; 0 is one a core [default: 0]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The share of this machine, as 2/5: `merge` makes one folder of all [default: 1/1]
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Format of the shards: jsonl.zst, jsonl or parquet [default: jsonl.zst]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Share of bad records beyond which the exit status is 3 [default: 0.001]
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    max_bad: Option<f64>,
    /// Replaces an output folder made from something else
    #[arg(long)]
    overwrite: bool,
    /// Prints the result as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints the configuration, the files that would be read, and what a sample of them says
    /// about the rest; writes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Text that a dry run judges, in bytes [default: 67108864]
    #[arg(long, value_name = "BYTES", requires = "dry_run")]
    pub(crate) sample_bytes: Option<u64>,
}

impl Options {
    /// The configuration that these options and their file make.
    pub(crate) fn config(&self, profile: Option<&str>) -> Result<PrepConfig> {
        let mut config = self.rules.config()?;
        self.input.iter().chain(&self.output).try_for_each(|path| check_utf8(path))?;
        for (key, value) in self.named() {
            config.set(key, value)?;
        }
        if let Some(name) = profile {
            self.rules.check_no_profile(name)?;
            name.clone_into(&mut config.profile);
        }
        Ok(config)
    }

    /// The options that were given, as keys.
    fn named(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let input = (!self.input.is_empty()).then(|| serde_json::json!(self.input));
        let keys = [
            ("input", input),
            ("output", self.output.as_ref().map(|path| serde_json::json!(path))),
            ("threads", self.threads.map(Value::from)),
            ("shard", self.shard.clone().map(Value::from)),
            ("format", self.format.clone().map(Value::from)),
            ("max_bad", self.max_bad.map(Value::from)),
            ("overwrite", self.overwrite.then_some(Value::from(true))),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

/// Reads a share of a whole.
pub(crate) fn fraction(text: &str) -> std::result::Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or("expected a share in [0, 1]")
}

/// Refuses a path that a configuration cannot hold: it is text.
fn check_utf8(path: &Path) -> Result<()> {
    if path.to_str().is_some() {
        return Ok(());
    }
    Err(Error::InvalidValue {
        what: format!("path `{}`", path.display()),
        expected: "UTF-8; a file of another name is read if its folder or a glob is given".to_owned(),
        found: "other bytes".to_owned(),
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_that_is_no_utf8_is_refused_and_not_a_panic() {
        let path = Path::new(OsStr::from_bytes(b"x\xff.jsonl"));
        let error = check_utf8(path).unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(check_utf8(Path::new("x\u{ff}.jsonl")).is_ok());
    }
}
