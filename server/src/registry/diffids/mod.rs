//! Which blobs are which layers: diffIDs, computed here from the bytes that are stored, in the
//! background, one blob at a time. Nobody's claim counts.
//!
//! What is found out is kept in files of our own and reconciled at every start, since a stock
//! registry may have written to the tree meanwhile; every answer is confirmed by a look at the tree.

mod compute;
mod queue;
mod record;
mod resolve;
mod worker;

#[cfg(test)]
mod tests;

pub(super) use self::queue::{DiffIdJob, DiffIdQueue};
