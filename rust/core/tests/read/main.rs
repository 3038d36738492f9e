//! Readers: what each format gives, what it quarantines, and that nothing in it can hurt.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod case;
mod compressed;
mod damage;
mod feed;
mod inputs;
mod lines;
mod memory;
mod pages;
mod round_trip;
mod sample;
mod tables;
mod threads;
