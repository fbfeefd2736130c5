//! Tests of notifications and webhooks, with a receiver that behaves badly.

mod notifications;
pub(crate) mod receiver;
mod webhooks;
