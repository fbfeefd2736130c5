//! imgsync: uploads what a registry lacks of a local container image.

pub mod access;
pub mod args;
pub mod cache;
pub mod commands;
pub mod compress;
pub mod credentials;
pub mod evidence;
pub mod exit;
pub mod mirror;
pub mod plan;
pub mod probe;
pub mod report;
pub mod settings;
pub mod source;
pub mod spool;
pub mod transfer;
