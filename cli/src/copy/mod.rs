//! Copies images with their referrers from one transport to another, byte for byte.
//!
//! Knows neither tag rules nor records of mirrors. Start reading at [`Copier`].

mod copier;
mod creation_date;
mod execute;
mod missing_content;
mod plan;
mod platform_filter;
mod referrers;
mod referrers_list;
mod run_cache;

pub use copier::Copier;
pub use creation_date::{CreationDate, fetch_creation_date};
