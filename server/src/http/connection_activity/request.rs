//! Tracks for one request whether the server works on it, or waits for the client.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use super::ConnectionActivity;

/// A running request. Dropping the guard completes it.
pub(in crate::http) struct RequestGuard {
    activity: Arc<RequestActivity>,
    is_responding: bool,
}

/// The state of one request, shared by its body, its response and its guard.
pub(in crate::http) struct RequestActivity {
    connection: Arc<ConnectionActivity>,
    side: Mutex<ActiveSide>,
}

/// The side whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ActiveSide {
    /// The server works on the request.
    Server,
    /// The client must send or read more.
    Client,
    /// Neither: the request is complete.
    Complete,
}

/// The rest of a request body that is read and dropped after the response. Dropping the guard ends
/// it.
pub(in crate::http) struct DrainGuard(Arc<ConnectionActivity>);

impl RequestGuard {
    pub(super) fn new(connection: Arc<ConnectionActivity>) -> Self {
        connection.running.fetch_add(1, Relaxed);
        connection.working.fetch_add(1, Relaxed);
        let side = Mutex::new(ActiveSide::Server);
        Self {
            activity: Arc::new(RequestActivity { connection, side }),
            is_responding: false,
        }
    }

    /// Returns the state of the request.
    pub(in crate::http) fn activity(&self) -> &Arc<RequestActivity> {
        &self.activity
    }

    /// Records that the response is being sent.
    pub(in crate::http) fn begin_response(&mut self) {
        self.is_responding = true;
        let connection = &self.activity.connection;
        connection.running_responses.fetch_add(1, Relaxed);
        self.activity.wait_for_client();
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.activity.switch_to(ActiveSide::Complete);
        let connection = &self.activity.connection;
        if self.is_responding {
            connection.running_responses.fetch_sub(1, Relaxed);
        }
        connection.end_request();
    }
}

impl RequestActivity {
    /// Records that the request waits for the client.
    pub(in crate::http) fn wait_for_client(&self) {
        self.switch_to(ActiveSide::Client);
    }

    /// Records that the request waits for the server.
    pub(in crate::http) fn wait_for_server(&self) {
        self.switch_to(ActiveSide::Server);
    }

    /// Records that the rest of the request body is read and dropped.
    pub(in crate::http) fn drain(&self) -> DrainGuard {
        self.connection.draining.fetch_add(1, Relaxed);
        DrainGuard(Arc::clone(&self.connection))
    }

    fn switch_to(&self, next: ActiveSide) {
        let mut side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        match (*side, next) {
            // A task can outlive its request.
            (ActiveSide::Complete, _) => return,
            (ActiveSide::Server, ActiveSide::Client | ActiveSide::Complete) => {
                self.connection.working.fetch_sub(1, Relaxed);
                self.connection.record_progress();
            }
            (ActiveSide::Client, ActiveSide::Server) => {
                self.connection.working.fetch_add(1, Relaxed);
            }
            (ActiveSide::Client, ActiveSide::Client | ActiveSide::Complete)
            | (ActiveSide::Server, ActiveSide::Server) => {}
        }
        *side = next;
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        self.0.draining.fetch_sub(1, Relaxed);
    }
}
