//! bcrypt, which is slow on purpose: never more than a few at a time, and never a long queue.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::htpasswd::Work;

/// How many passwords are checked at the same time.
const AT_WORK: usize = 2;
/// How many more may wait for their turn; at the usual cost that is a few seconds. Beyond that a
/// client is told to come again, so that a flood of passwords holds no memory.
const WAITING: usize = 64;

/// Where passwords are checked.
pub(super) struct Verifier {
    places: Semaphore,
    workers: Arc<Semaphore>,
}

/// The right to check one password now.
pub(super) struct Turn<'a> {
    worker: OwnedSemaphorePermit,
    _place: tokio::sync::SemaphorePermit<'a>,
}

impl Verifier {
    pub(super) fn new() -> Self {
        Self {
            places: Semaphore::new(AT_WORK + WAITING),
            workers: Arc::new(Semaphore::new(AT_WORK)),
        }
    }

    /// Waits until it is one's turn; `None` where too many wait already.
    pub(super) async fn turn(&self) -> Option<Turn<'_>> {
        let place = self.places.try_acquire().ok()?;
        let worker = Arc::clone(&self.workers).acquire_owned().await.ok()?;
        Some(Turn {
            worker,
            _place: place,
        })
    }
}

impl Turn<'_> {
    /// Whether the password is the one of the work's hash. A wrong one costs all of the work.
    pub(super) async fn check(self, work: Work, password: Box<[u8]>) -> bool {
        let worker = self.worker;
        let checked = tokio::task::spawn_blocking(move || {
            // Held until the work is done, also when the client has gone meanwhile.
            let _worker = worker;
            let matches = |hash: &String| bcrypt::verify(&password, hash).unwrap_or(false);
            let is_right = matches(&work.hash);
            if !is_right {
                for hash in &work.padding {
                    std::hint::black_box(matches(hash));
                }
            }
            is_right
        });
        checked.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn few_work_some_wait_and_the_rest_is_told_to_come_again() {
        let verifier = Verifier::new();
        let (first, second) = (verifier.turn().await, verifier.turn().await);
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(verifier.turn())).collect();
        for turn in &mut waiting {
            assert!(futures::poll!(turn).is_pending());
        }
        assert!(verifier.turn().await.is_none());
        // Who gives up makes room.
        waiting.pop();
        let mut late = Box::pin(verifier.turn());
        assert!(futures::poll!(&mut late).is_pending());
        drop((first, waiting));
        assert!(late.await.is_some());
        drop(second);
    }
}
