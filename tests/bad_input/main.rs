//! Bad input: whatever a source, a layout or an image holds, the answer is one line that says
//! what is wrong, and nothing is written. Images that look odd and are right must work.

#[path = "../forge/mod.rs"]
mod forge;
#[path = "../../src/format/metadata_capnp.rs"]
#[rustfmt::skip]
#[allow(clippy::all, dead_code)]
mod metadata_capnp;

mod advice;
mod bombs;
mod check;
mod crash;
mod images;
mod layouts;
mod limits;
mod messages;
mod metadata;
mod output;
mod right_input;
mod sources;
mod verbs;
