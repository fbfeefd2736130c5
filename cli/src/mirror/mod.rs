//! Mirrors: which tags are selected, what `mirrors.yaml` contains, which tags were copied before, and
//! which are pruned.
//!
//! This module sends no requests. Start reading at [`job::MirrorJob`].

pub mod config;
pub mod job;
pub mod location;
pub mod prune;
pub mod record;
pub mod selection;
