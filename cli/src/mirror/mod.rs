//! Which tags a mirror wants, what its file asks for, what it brought before, and what goes.

pub mod config;
pub mod job;
pub mod location;
pub mod prune;
pub mod record;
pub mod selection;
