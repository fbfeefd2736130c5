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
        question: impl FnOnce() -> F,
    ) -> Result<T, SingleFlightError>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let answer = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(answer) => answer.clone(),
                None if flights.len() >= MAX_REQUESTS_IN_FLIGHT => {
                    return Err(SingleFlightError::TooMany);
                }
                None => {
                    // Removed before the result is published, so that a later caller starts a new
                    // request.
                    let landing = InFlightGuard(Arc::clone(&self.0), key.clone());
                    let asked = question();
                    let task = tokio::spawn(async move {
                        let answer = asked.await;
                        drop(landing);
                        answer
                    });
                    let answer = task.map(Result::ok).boxed().shared();
                    flights.insert(key, answer.clone());
                    answer
                }
            }
        };
        answer.await.ok_or(SingleFlightError::Panicked)
    }
}

/// Removes a request from the map when it is dropped, however the request ended.
struct InFlightGuard<K: Eq + Hash, T: Clone>(InFlight<K, T>, K);

impl<K: Eq + Hash, T: Clone> Drop for InFlightGuard<K, T> {
    fn drop(&mut self) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn all_who_ask_at_once_share_an_answer_and_the_next_asks_anew() {
        let flights = SingleFlight::default();
        let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let question = || {
            let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
            async move {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                go.notified().await;
                number
            }
        };
        let mut callers: Vec<_> = (0..8)
            .map(|_| Box::pin(flights.run("x", question)))
            .collect();
        for caller in &mut callers {
            assert!(futures::poll!(caller).is_pending());
        }
        // A caller that disconnects does not affect the others.
        drop(callers.remove(0));
        go.notify_one();
        assert_eq!(futures::future::join_all(callers).await, vec![Ok(0); 7]);
        go.notify_one();
        assert_eq!(flights.run("x", question).await, Ok(1));
        let panics = || async { panic!("wrong") };
        assert_eq!(
            flights.run("x", panics).await,
            Err(SingleFlightError::Panicked)
        );
        assert!(flights.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn their_number_is_bounded() {
        let flights = SingleFlight::default();
        let mut callers: Vec<_> = (0..MAX_REQUESTS_IN_FLIGHT)
            .map(|key| Box::pin(flights.run(key, std::future::pending::<()>)))
            .collect();
        for caller in &mut callers {
            assert!(futures::poll!(caller).is_pending());
        }
        let more = flights
            .run(MAX_REQUESTS_IN_FLIGHT, std::future::pending)
            .await;
        assert_eq!(more, Err(SingleFlightError::TooMany));
    }
}
