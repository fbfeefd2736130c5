//! Patch frames: changed pieces, compressed against the older ones.
//!
//! This module does not decide which pieces have changed. Start reading at [`plan::plan_patches`].

pub(super) mod budget;
pub(super) mod old_pieces;
pub(super) mod piece_ranges;
pub(super) mod plan;
pub(super) mod reader;
pub(super) mod writer;
