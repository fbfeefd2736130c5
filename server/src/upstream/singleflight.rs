//! Many callers, one question: whoever asks for what is being asked already gets the same answer.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

/// How many questions may be on their way: they go on when their callers are gone.
const MAX_REQUESTS_IN_FLIGHT: usize = 1024;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SingleFlightError {
    /// Too much is being asked already.
    TooMany,
    /// Asking failed in a way that should not be.
    Panicked,
}

type InFlight<K, T> = Arc<Mutex<HashMap<K, Shared<BoxFuture<'static, Option<T>>>>>>;

/// Questions that are on their way.
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
    /// The answer to a question. It is asked to its end, also when all who wait for it go away.
    ///
    /// # Errors
    /// [`Lost`].
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
                    // Gone before the answer is: who comes later asks anew.
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

/// Takes a question off the list, however it ends.
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
        // One that goes away takes nothing from the others.
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
