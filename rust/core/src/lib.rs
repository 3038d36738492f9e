//! The engine of triptych: documents in, documents or tokens out.
//!
//! The modules stand in the order in which a document passes through them.
//! Nothing here knows Python, a terminal or a clock; nothing prints or exits.

pub mod error;
pub mod manifest;
pub mod order;
pub mod pack;
pub mod shard;
pub mod tokenize;

pub use error::{Error, Result};

/// Version of triptych, shared by the crates and the Python package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
