//! Tests `imgsync push`: sources, registries, interruptions and bad networks.

mod bad_networks;
mod claims;
mod cuts;
mod invalid_input;
mod invalid_input_secured;
mod kills;
mod memory;
mod nginx;
mod planning;
mod quirks;
mod repeated;
mod resolve;
mod sources;
mod spool;
mod terminal;
mod verification;
