//! Tests of notifications and webhooks, with a receiver that behaves badly.

mod failures;
mod notifications;
pub(crate) mod receiver;
mod restores;
mod webhooks;
