//! Tests of notifications and webhooks, with a receiver that behaves badly.

mod notifications;
mod receiver;
mod webhooks;
