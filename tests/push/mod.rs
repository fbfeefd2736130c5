//! `imgsync push`: from every kind of source, to every kind of registry, over bad networks.

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
