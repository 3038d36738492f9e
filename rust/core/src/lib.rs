//! The engine of triptych: documents in, documents or tokens out.
//!
//! The modules stand in the order in which a document passes through them.
//! Nothing here knows Python or a terminal; nothing prints or exits; a clock is read for `status.json` alone.
#![forbid(unsafe_code)]

pub mod clean;
pub mod config;
pub mod dedup;
pub mod document;
pub mod draft;
pub mod error;
pub mod funnel;
mod guard;
pub mod inspect;
mod json;
pub mod language;
pub mod ledger;
pub mod manifest;
mod new_file;
pub mod order;
pub mod pack;
pub mod pii;
pub mod pipeline;
pub mod profile;
pub mod quality;
pub mod read;
mod setting;
pub mod shard;
mod stoppable;
pub mod text;
pub mod tokenize;
pub mod verify;
pub mod write;

pub use error::{Error, Result};

/// Version of triptych, shared by the crates and the Python package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
