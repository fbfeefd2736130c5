//! A registry in memory that deviates from the specification in configurable ways, as real
//! registries and proxies do. It also checks that the requests of the client are valid.

mod quirks;
mod state;
mod tokens;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::quirks::{MountSupport, PartialChunk, RegistryQuirks, UploadSession};

use self::state::State;
use super::fake::{FakeServer, Request};

/// A running registry, stopped on drop.
pub struct QuirkyRegistry {
    fake: FakeServer,
    state: Arc<Mutex<State>>,
}
impl QuirkyRegistry {
    /// Starts a registry on a free port.
    pub fn start(quirks: RegistryQuirks) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (state_before_body, state_after_body) = (state.clone(), state.clone());
        let quirks_before_body = quirks.clone();
        let fake = FakeServer::start_with_body_handling(
            move |request| lock(&state_before_body).handle_body(&quirks_before_body, request),
            move |request| lock(&state_after_body).respond(&quirks, request),
        );
        lock(&state).address = fake.address();
        Self { fake, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.fake.address().parse().expect("an address")
    }

    /// Returns the requests so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.fake.requests()
    }

    /// Returns the number of requests with this method and a target that contains `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let requests = self.requests();
        let is_counted =
            |request: &&Request| request.method == method && request.target.contains(part);
        requests.iter().filter(is_counted).count()
    }

    /// Panics if the client has sent an invalid request.
    pub fn assert_valid_requests(&self) {
        let state = lock(&self.state);
        let invalid_requests = &state.invalid_requests;
        assert!(invalid_requests.is_empty(), "{invalid_requests:#?}");
    }

    /// Returns the digests of all mounted blobs.
    pub fn mounted_digests(&self) -> Vec<String> {
        lock(&self.state).mounted_digests.clone()
    }

    /// Returns the number of open upload sessions.
    pub fn open_sessions(&self) -> usize {
        lock(&self.state).sessions.len()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
