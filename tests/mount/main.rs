//! Mounts: what is seen in them, how they are asked for, and how they end.

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod ends;
mod library;
mod others;
mod seen;
mod support;
mod writable;
