//! The configuration: files, variables, what is refused, and changes while the server runs.

mod cache;
mod examples;
mod refusals;
mod reload;
