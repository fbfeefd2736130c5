//! Checks passwords with bcrypt, which is slow by design: a few at a time, with a bounded queue in
//! which client addresses take turns.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::fair_queue::{FairQueue, LoginSource};
use super::htpasswd::PasswordCheck;
use crate::client_address::ClientAddress;

/// The most passwords that are checked at the same time.
const MAX_RUNNING_PASSWORD_CHECKS: usize = 2;
/// The most logins that wait for a check, which is a few seconds at the usual cost. Beyond it
/// logins are rejected, so that a flood of passwords cannot fill the memory: those of the address
/// with the most waiting logins first.
const MAX_WAITING_PASSWORD_CHECKS: usize = 64;

/// Limits how many passwords are checked and wait at a time.
#[derive(Default)]
pub(super) struct PasswordVerifier {
    state: Arc<Mutex<VerifierState>>,
    hasher: RandomState,
}

#[derive(Default)]
struct VerifierState {
    /// The number of permits that exist.
    running: usize,
    waiting: FairQueue<oneshot::Sender<VerifierPermit>>,
}

/// The permit to check one password. On drop it goes to the next login that waits.
pub(super) struct VerifierPermit {
    state: Arc<Mutex<VerifierState>>,
}

fn lock(state: &Mutex<VerifierState>) -> MutexGuard<'_, VerifierState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PasswordVerifier {
    /// Waits for a permit; `None` if too many logins wait, and this one comes from where most of
    /// them come from.
    pub(super) async fn acquire(
        &self,
        address: ClientAddress,
        user: &str,
    ) -> Option<VerifierPermit> {
        let user = self.hasher.hash_one(user);
        let permit = {
            let mut state = lock(&self.state);
            if state.running < MAX_RUNNING_PASSWORD_CHECKS {
                state.running += 1;
                let state = Arc::clone(&self.state);
                return Some(VerifierPermit { state });
            }
            let (sender, receiver) = oneshot::channel();
            // Clients that gave up need no place.
            state.waiting.retain(|waiting| !waiting.is_closed());
            state.waiting.push(LoginSource { address, user }, sender);
            if state.waiting.len() > MAX_WAITING_PASSWORD_CHECKS {
                // Its receiver gets no permit, and so its login is rejected.
                state.waiting.drop_from_greediest();
            }
            receiver
        };
        permit.await.ok()
    }
}

impl Drop for VerifierPermit {
    fn drop(&mut self) {
        let next = {
            let mut state = lock(&self.state);
            let next = state.waiting.pop();
            if next.is_none() {
                state.running -= 1;
            }
            next
        };
        if let Some(next) = next {
            let state = Arc::clone(&self.state);
            // If that client gave up, the permit comes back, and dropping it serves another one.
            drop(next.send(Self { state }));
        }
    }
}

impl VerifierPermit {
    /// Returns whether the password matches the hash. A mismatch also computes the padding.
    pub(super) async fn check(self, check: PasswordCheck, password: Box<[u8]>) -> bool {
        let checking = tokio::task::spawn_blocking(move || {
            // The permit is in use until the computation ends, even if the client disconnects.
            let _permit = self;
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
    use std::net::{IpAddr, Ipv4Addr};

    use futures::poll;

    use super::*;

    fn address(last: u8) -> ClientAddress {
        ClientAddress::from(Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, last))))
    }

    #[tokio::test]
    async fn a_flood_from_one_address_does_not_keep_out_other_logins() {
        let verifier = PasswordVerifier::default();
        let acquire = |last, user| Box::pin(verifier.acquire(address(last), user));
        let (first, second) = (acquire(1, "alice").await, acquire(1, "alice").await);
        assert!(first.is_some() && second.is_some());
        let mut flood: Vec<_> = (0..MAX_WAITING_PASSWORD_CHECKS)
            .map(|_| acquire(1, "alice"))
            .collect();
        for waiting in &mut flood {
            assert!(poll!(waiting).is_pending());
        }
        assert!(acquire(1, "alice").await.is_none());
        // Another user at that address, and another address, take the place of one of the flood.
        let (mut carol, mut bob) = (acquire(1, "carol"), acquire(2, "alice"));
        assert!(poll!(&mut carol).is_pending() && poll!(&mut bob).is_pending());
        for rejected in [flood.pop().unwrap(), flood.pop().unwrap()] {
            assert!(rejected.await.is_none());
        }
        let mut flood = flood.into_iter();
        drop(first);
        let flooder = flood.next().unwrap().await;
        assert!(poll!(&mut bob).is_pending());
        drop(second);
        let bob = bob.await;
        assert!(poll!(&mut carol).is_pending());
        drop(bob);
        assert!(carol.await.is_some());
        drop(flooder);
        // A login that gives up frees its place, and passes on its permit.
        drop(flood);
        assert_eq!(lock(&verifier.state).running, 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_for_many_addresses() {
        let verifier = PasswordVerifier::default();
        let acquire = |last| Box::pin(verifier.acquire(address(last), "alice"));
        let running = (acquire(0).await, acquire(0).await);
        let mut waiting: Vec<_> = (0..MAX_WAITING_PASSWORD_CHECKS)
            .map(|number| acquire(u8::try_from(number).unwrap()))
            .collect();
        for waiting in &mut waiting {
            assert!(poll!(waiting).is_pending());
        }
        assert!(acquire(255).await.is_none());
        waiting.pop();
        let mut late = acquire(255);
        assert!(poll!(&mut late).is_pending());
        drop((running, waiting));
        assert!(late.await.is_some());
    }
}
