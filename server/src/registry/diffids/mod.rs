//! Finds the stored layers that have a given diffID.
//!
//! A background worker computes the diffID of each blob from its stored bytes, one blob at a time,
//! and the index for delta uploads on the way; claims of clients are not used. Results are stored in derived files. The files are reconciled
//! with the tree at every start, because a stock registry may have written to the tree, and every
//! answer is checked against the tree. Start reading at [`worker`] for the computation, and at
//! [`resolve`] for the answers.

mod compute;
mod index_file;
mod layer_index;
mod queue;
mod record;
mod resolve;
mod stored_records;
mod worker;

#[cfg(test)]
mod tests;

pub(crate) use self::layer_index::StoredLayerIndex;
pub(super) use self::queue::{DiffIdJob, DiffIdQueue};
