//! Gathers facts about the running server, for the command `status`, the page and the metrics: how
//! much its storage holds, how that changed over the last weeks, and when the next collection begins.
//!
//! This module must not format anything for people. Start reading at [`ServerState`].

mod disk_history;
mod server_state;
mod storage_facts;
mod storage_meter;

pub(crate) use self::disk_history::{
    SAMPLE_INTERVAL, add_sample, recent_samples, until_next_sample,
};
pub(crate) use self::server_state::{CollectionSchedule, ServerState};
pub(crate) use self::storage_facts::StorageFacts;
pub(crate) use self::storage_meter::{StorageMeasurement, StorageMeter};
