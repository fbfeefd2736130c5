//! Tests `imgsync push`: sources, registries, interruptions and bad networks.

mod bad_networks;
mod claims;
mod cuts;
mod deltas;
mod invalid_input;
mod invalid_input_secured;
mod kills;
mod memory;
mod names;
mod nginx;
mod planning;
mod quirks;
mod repeated;
mod resolve;
mod retags;
mod sources;
mod spool;
mod terminal;
mod verification;
