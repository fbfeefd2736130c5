//! imgsync-server: a small registry that keeps the stock registry's own tree.
//!
//! Rooms, and who may call whom: `listen → http → upstream → registry → store`. Only `http` and
//! `listen` name an HTTP server's types; only `upstream` speaks to other registries; only
//! `store/keys.rs` builds a storage path; only `store/disk.rs` calls the filesystem.

pub mod auth;
pub mod config;
mod http;
mod listen;
pub mod log;
mod registry;
mod store;
mod upstream;

pub use listen::{Error, TlsError, run};
pub use store::Error as StoreError;
pub use upstream::UpstreamConfigError as UpstreamError;
