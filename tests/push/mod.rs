//! Tests `imgsync push`: sources, registries, interruptions and bad networks.

mod again;
mod bad;
mod bad_secured;
mod cuts;
mod kills;
mod lines;
mod memory;
mod nginx;
mod planning;
mod quirks;
mod resolve;
mod sources;
mod spool;
