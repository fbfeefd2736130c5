//! Tests that the documents and the files in `examples/` work as they stand.

mod ci;
mod command_lines;
mod compose;
mod deploy;
pub(crate) mod document;
mod events;
mod links;
mod panel;
mod proxies;
mod releases;
mod run_blocks;
mod translations;
