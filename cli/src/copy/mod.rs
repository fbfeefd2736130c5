//! Copies images between two transports, as they are.

mod copier;
mod creation_date;
mod execute;
mod missing_content;
mod plan;
mod platform_filter;
mod referrers;
mod run_cache;

pub use copier::Copier;
pub use creation_date::{CreationDate, fetch_creation_date};
