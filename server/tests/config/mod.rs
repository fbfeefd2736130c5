//! Tests of the configuration: files, variables, invalid configurations, and reloads.

mod cache;
mod documents;
mod examples;
mod refusals;
mod reload;
