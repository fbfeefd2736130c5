//! The parts that indexes and deltas consist of: numbers, sections, operations, literals.
//!
//! This module does not know what the bytes of a layer mean. Start reading at [`start`].

pub(super) mod large_buffer;
pub(super) mod literals;
pub(super) mod ops;
pub(super) mod section;
pub(super) mod start;
pub(super) mod table;
pub(super) mod varint;
