//! The command line of preparation: one library, two doors.
//!
//! The binary `triptych-prep` and the wheel's `triptych prep` both call [`run`].
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line talks
#![forbid(unsafe_code)]

mod explain;
mod export_tokens;
mod fertility;
mod import_tokens;
mod merge;
mod options;
mod outcome;
mod plan;
mod prepare;
mod progress;
mod signals;
mod tokenize;
mod train_tokenizer;
mod verify;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

/// Prepares text for language models: cleans, filters and deduplicates documents.
#[derive(Debug, Parser)]
#[command(name = "triptych-prep", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// One verb, one file of this crate.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Cleans, filters and deduplicates, by profile
    Run(options::Options),
    /// Replaces personal data by tags and keeps every document (profile `clean`)
    #[command(mut_arg("profile", |profile| profile.hide(true)))]
    Clean(options::Options),
    /// Drops documents that repeat an earlier one, and those with fewer words than an n-gram (profile `dedup`)
    #[command(mut_arg("profile", |profile| profile.hide(true)))]
    Dedup(options::Options),
    /// Says why one document is kept or rejected: every rule, feature and match
    Explain(explain::Options),
    /// Makes one folder of the parts that runs with `--shard` wrote
    Merge(merge::Options),
    /// Trains a byte-level BPE tokenizer on documents
    TrainTokenizer(train_tokenizer::TrainTokenizer),
    /// Encodes documents into token shards
    Tokenize(tokenize::Tokenize),
    /// Imports token files of Megatron, datatrove, numpy and raw memory maps
    ImportTokens(import_tokens::ImportTokens),
    /// Exports token shards as an indexed dataset of Megatron
    ExportTokens(export_tokens::ExportTokens),
    /// Proves that a folder of documents is whole
    Verify(verify::Options),
}

/// Runs the command line and returns its exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print(); // nobody is left to tell if the terminal is gone
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    signals::outlive_file_limits();
    match arguments.verb {
        Verb::Run(options) => prepare::run(&options, None),
        Verb::Clean(options) => prepare::run(&options, Some("clean")),
        Verb::Dedup(options) => prepare::run(&options, Some("dedup")),
        Verb::Explain(options) => explain::run(&options),
        Verb::Merge(options) => merge::run(&options),
        Verb::TrainTokenizer(options) => finish(options.run()),
        Verb::Tokenize(options) => finish(options.run()),
        Verb::ImportTokens(options) => finish(options.run()),
        Verb::ExportTokens(options) => finish(options.run()),
        Verb::Verify(options) => verify::run(&options),
    }
}

fn finish(result: triptych_core::Result<u8>) -> u8 {
    result.unwrap_or_else(|error| outcome::failed(&error))
}
