//! Tests the pull-through cache of imgsync-server.

mod clients;
mod peers;
mod room;
mod upstream;
