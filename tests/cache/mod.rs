//! Tests the pull-through cache of imgsync-server.

mod clients;
mod eviction;
mod peers;
mod upstream;
