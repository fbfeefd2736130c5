//! Checks passwords with bcrypt, which is slow by design: a few at a time, with a bounded queue.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::htpasswd::PasswordCheck;

/// The most passwords that are checked at the same time.
const MAX_RUNNING_PASSWORD_CHECKS: usize = 2;
/// The most logins that wait for a check, which is a few seconds at the usual cost. Further logins
/// are rejected, so that a flood of passwords cannot fill the memory.
const MAX_WAITING_PASSWORD_CHECKS: usize = 64;

/// Limits how many passwords are checked and wait at a time.
pub(super) struct PasswordVerifier {
    queue_slots: Semaphore,
    worker_slots: Arc<Semaphore>,
}

/// The permit to check one password.
pub(super) struct VerifierPermit<'a> {
    worker_slot: OwnedSemaphorePermit,
    _queue_slot: tokio::sync::SemaphorePermit<'a>,
}

impl PasswordVerifier {
    /// Creates a verifier with all slots free.
    pub(super) fn new() -> Self {
        Self {
            queue_slots: Semaphore::new(MAX_RUNNING_PASSWORD_CHECKS + MAX_WAITING_PASSWORD_CHECKS),
            worker_slots: Arc::new(Semaphore::new(MAX_RUNNING_PASSWORD_CHECKS)),
        }
    }

    /// Waits for a free worker; `None` if the queue is full.
    pub(super) async fn acquire(&self) -> Option<VerifierPermit<'_>> {
        let queue_slot = self.queue_slots.try_acquire().ok()?;
        let worker_slot = Arc::clone(&self.worker_slots).acquire_owned().await.ok()?;
        Some(VerifierPermit {
            worker_slot,
            _queue_slot: queue_slot,
        })
    }
}

impl VerifierPermit<'_> {
    /// Returns whether the password matches the hash. A mismatch also computes the padding.
    pub(super) async fn check(self, check: PasswordCheck, password: Box<[u8]>) -> bool {
        let worker_slot = self.worker_slot;
        let checking = tokio::task::spawn_blocking(move || {
            // The slot is in use until the computation ends, even if the client disconnects.
            let _worker_slot = worker_slot;
            let matches = |hash: &String| bcrypt::verify(&password, hash).unwrap_or(false);
            let is_match = matches(&check.hash);
            if !is_match {
                for hash in &check.padding {
                    std::hint::black_box(matches(hash));
                }
            }
            is_match
        });
        checking.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let verifier = PasswordVerifier::new();
        let (first, second) = (verifier.acquire().await, verifier.acquire().await);
        let mut waiting: Vec<_> = (0..MAX_WAITING_PASSWORD_CHECKS)
            .map(|_| Box::pin(verifier.acquire()))
            .collect();
        for permit in &mut waiting {
            assert!(futures::poll!(permit).is_pending());
        }
        assert!(verifier.acquire().await.is_none());
        // A login that gives up frees its place in the queue.
        waiting.pop();
        let mut late = Box::pin(verifier.acquire());
        assert!(futures::poll!(&mut late).is_pending());
        drop((first, waiting));
        assert!(late.await.is_some());
        drop(second);
    }
}
