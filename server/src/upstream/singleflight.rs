//! Single flight: concurrent requests with the same key share one execution and its result.
//!
//! Results are not cached: a request that comes later runs again. Start reading at
//! [`SingleFlight`].

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

/// Maximum number of requests in flight. They are not cancelled when their callers disconnect.
const MAX_REQUESTS_IN_FLIGHT: usize = 1024;

/// Why a request has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SingleFlightError {
    /// Too many requests are in flight.
    TooMany,
    /// The request panicked.
    Panicked,
}

type InFlight<K, T> = Arc<Mutex<HashMap<K, Shared<BoxFuture<'static, Option<T>>>>>>;

/// The requests in flight, by key.
pub(super) struct SingleFlight<K, T: Clone>(InFlight<K, T>);

impl<K, T: Clone> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> SingleFlight<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Runs a request, or waits for the one with the same key that is in flight. A request runs to
    /// its end even if all callers disconnect.
    ///
    /// # Errors
    /// Returns a [`SingleFlightError`] if too many requests are in flight, or if the request
    /// panics.
    pub(super) async fn run<F>(
        &self,
        key: K,
        request: impl FnOnce() -> F,
    ) -> Result<T, SingleFlightError>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let result = {
            let mut in_flight = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match in_flight.get(&key) {
                Some(result) => result.clone(),
                None if in_flight.len() >= MAX_REQUESTS_IN_FLIGHT => {
                    return Err(SingleFlightError::TooMany);
                }
                None => {
                    let guard = InFlightGuard(Arc::clone(&self.0), key.clone());
                    let request = request();
                    let task = tokio::spawn(async move {
                        let result = request.await;
                        // Before the result is published, so that a later caller starts a new
                        // request.
                        drop(guard);
                        result
                    });
                    let result = task.map(Result::ok).boxed().shared();
                    in_flight.insert(key, result.clone());
                    result
                }
            }
        };
        result.await.ok_or(SingleFlightError::Panicked)
    }
}

/// Removes a request from the map when it is dropped, however the request ended.
struct InFlightGuard<K: Eq + Hash, T: Clone>(InFlight<K, T>, K);

impl<K: Eq + Hash, T: Clone> Drop for InFlightGuard<K, T> {
    fn drop(&mut self) {
        let mut in_flight = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn concurrent_callers_share_a_result_and_a_later_one_starts_a_new_request() {
        let requests = SingleFlight::default();
        let (count, finish) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let request = || {
            let (count, finish) = (Arc::clone(&count), Arc::clone(&finish));
            async move {
                let number = count.fetch_add(1, Ordering::Relaxed);
                finish.notified().await;
                number
            }
        };
        let mut callers: Vec<_> = (0..8)
            .map(|_| Box::pin(requests.run("x", request)))
            .collect();
        for caller in &mut callers {
            assert!(futures::poll!(caller).is_pending());
        }
        // A caller that disconnects does not affect the others.
        drop(callers.remove(0));
        finish.notify_one();
        assert_eq!(futures::future::join_all(callers).await, vec![Ok(0); 7]);
        finish.notify_one();
        assert_eq!(requests.run("x", request).await, Ok(1));
        let panics = || async { panic!("wrong") };
        assert_eq!(
            requests.run("x", panics).await,
            Err(SingleFlightError::Panicked)
        );
        assert!(requests.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_number_of_requests_in_flight_is_bounded() {
        let requests = SingleFlight::default();
        let mut callers: Vec<_> = (0..MAX_REQUESTS_IN_FLIGHT)
            .map(|key| Box::pin(requests.run(key, std::future::pending::<()>)))
            .collect();
        for caller in &mut callers {
            assert!(futures::poll!(caller).is_pending());
        }
        let excess = requests
            .run(MAX_REQUESTS_IN_FLIGHT, std::future::pending)
            .await;
        assert_eq!(excess, Err(SingleFlightError::TooMany));
    }
}
