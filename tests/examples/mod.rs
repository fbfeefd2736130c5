//! Tests that the documents and the files in `examples/` work as they stand.

mod ci;
mod command_lines;
mod compose;
mod document;
mod events;
mod links;
mod panel;
mod proxies;
mod run_blocks;
mod translations;
