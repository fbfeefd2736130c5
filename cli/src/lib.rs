//! imgsync: uploads what a registry lacks of a local container image.

pub mod access;
pub mod args;
pub mod ask;
pub mod cache;
pub mod commands;
pub mod compress;
pub mod credentials;
pub mod exit;
pub mod facts;
pub mod mirror;
pub mod plan;
pub mod report;
pub mod settings;
pub mod source;
pub mod spool;
pub mod transfer;
