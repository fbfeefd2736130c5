//! imgsync-server: a small OCI registry that stores images in the same folders as the stock
//! registry (CNCF Distribution).
//!
//! Modules, from the top: `serve`, `health`, `listen`, `http`, `page`, `status`, `upstream`, `events`, `registry`, `store`, `log`, `config`,
//! `auth`, `memory_budget`, `client_address`, `bounded_file`, `low_priority`, `wall_clock`. A module uses only modules below it. Only `http`, `listen` and `serve/debug.rs`
//! use an HTTP server's types, and `health` those of a client; only `upstream` sends requests to other registries; only
//! `store/paths.rs` builds storage paths; only `store/disk.rs` calls the filesystem for stored data.
//! Start reading at [`run`].

#[cfg(not(unix))]
compile_error!(
    "imgsync-server runs on Unix only, because it relies on its file systems and signals; on other \
     systems, build the tool alone: cargo build -p imgsync"
);

pub mod auth;
mod bounded_file;
mod client_address;
pub mod config;
mod events;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod health;
mod http;
mod listen;
pub mod log;
mod low_priority;
mod memory_budget;
mod metrics;
mod page;
mod registry;
mod serve;
mod status;
mod store;
mod upstream;
mod wall_clock;

pub use events::ReceiverError;
pub use health::{HealthError, check_health};
pub use listen::{BindError, TlsError};
pub use serve::{CommandOutput, ControlCommand, Error, check_start, run, run_backup, run_command};
pub use store::Error as StoreError;
pub use upstream::UpstreamConfigError as UpstreamError;
