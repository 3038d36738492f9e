//! Personal data: found, then replaced, masked, removed or counted.
//!
//! [`remove_pii`] is the four patterns of the `seed` profile, as they are. [`Policy`] is
//! everything beyond: ten kinds, found in one pass from what is rare in prose (an `@`, a
//! digit, a colon, the prefix of a key) and proved by checksums, ranges and numbering
//! plans, each with an action of its own. To add a kind: a row of [`KINDS`], its key in
//! [`PolicyConfig`], a file with its finder, and a line where `find.rs` dispatches; the
//! compiler asks for its mask and its pseudonym.

mod action;
mod bytes;
mod card;
mod config;
mod crypto;
mod email;
mod find;
mod iban;
mod ip;
mod kind;
mod mac;
mod phone;
mod policy;
mod pseudonym;
mod secret;
mod seed;
mod settle;
mod ssn;

pub use action::Action;
pub use config::{EmailSetting, Ipv4Setting, KindSetting, PhoneSetting, PolicyConfig};
pub use kind::{Kind, KindCounts, KINDS};
pub use policy::{Policy, Scratch, Span};
pub use seed::{find_pii, remove_pii, remove_pii_counted, PiiCounts};
