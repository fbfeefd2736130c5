//! The tool `imgsync`: pushes, mirrors and pulls container images, and transfers only what is
//! missing.

pub mod args;
pub mod cache;
pub mod commands;
pub mod compress;
pub mod copy;
pub mod disk;
pub mod doctor;
pub mod evidence;
pub mod exit;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod image;
pub mod login;
pub mod mirror;
pub mod plan;
pub mod push;
pub mod report;
pub mod settings;
pub mod spool;
pub mod text;
pub mod transports;
pub mod upload;
