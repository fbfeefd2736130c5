//! bcrypt, which is slow on purpose: never more than a few at a time, and never a long queue.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::htpasswd::PasswordCheck;

/// How many passwords are checked at the same time.
const MAX_RUNNING_PASSWORD_CHECKS: usize = 2;
/// How many more may wait for their turn; at the usual cost that is a few seconds. Beyond that a
/// client is told to come again, so that a flood of passwords holds no memory.
const MAX_WAITING_PASSWORD_CHECKS: usize = 64;

/// Where passwords are checked.
pub(super) struct PasswordVerifier {
    queue_slots: Semaphore,
    worker_slots: Arc<Semaphore>,
}

/// The right to check one password now.
pub(super) struct VerifierPermit<'a> {
    worker_slot: OwnedSemaphorePermit,
    _queue_slot: tokio::sync::SemaphorePermit<'a>,
}

impl PasswordVerifier {
    pub(super) fn new() -> Self {
        Self {
            queue_slots: Semaphore::new(MAX_RUNNING_PASSWORD_CHECKS + MAX_WAITING_PASSWORD_CHECKS),
            worker_slots: Arc::new(Semaphore::new(MAX_RUNNING_PASSWORD_CHECKS)),
        }
    }

    /// Waits until it is one's turn; `None` where too many wait already.
    pub(super) async fn acquire(&self) -> Option<VerifierPermit<'_>> {
        let place = self.queue_slots.try_acquire().ok()?;
        let worker = Arc::clone(&self.worker_slots).acquire_owned().await.ok()?;
        Some(VerifierPermit {
            worker_slot: worker,
            _queue_slot: place,
        })
    }
}

impl VerifierPermit<'_> {
    /// Whether the password is the one of the work's hash. A wrong one costs all of the work.
    pub(super) async fn check(self, work: PasswordCheck, password: Box<[u8]>) -> bool {
        let worker = self.worker_slot;
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
        let verifier = PasswordVerifier::new();
        let (first, second) = (verifier.acquire().await, verifier.acquire().await);
        let mut waiting: Vec<_> = (0..MAX_WAITING_PASSWORD_CHECKS)
            .map(|_| Box::pin(verifier.acquire()))
            .collect();
        for turn in &mut waiting {
            assert!(futures::poll!(turn).is_pending());
        }
        assert!(verifier.acquire().await.is_none());
        // Who gives up makes room.
        waiting.pop();
        let mut late = Box::pin(verifier.acquire());
        assert!(futures::poll!(&mut late).is_pending());
        drop((first, waiting));
        assert!(late.await.is_some());
        drop(second);
    }
}
