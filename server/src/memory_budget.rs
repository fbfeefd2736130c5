//! Bounds the memory that many tasks use together.
//!
//! A task takes a lease before it allocates, and waits if too much memory is leased. Leases that are
//! not used, or that are held for too long, give way. Start reading at [`MemoryBudget::lease`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// The unit of account: a page.
const UNIT_BYTES: usize = 4096;
/// The most tasks that wait for a lease. A waiting task can hold memory of its own, such as what
/// the network has already delivered.
const MAX_WAITING: usize = 64;
/// How long a task waits for a lease.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// A lease without progress for this long is revoked if another task waits.
const REVOKE_STALLED_AFTER: Duration = Duration::from_secs(1);
/// Every lease is revoked after this time if another task waits.
const REVOKE_AFTER: Duration = Duration::from_secs(5);
/// The interval at which a waiting task looks for a lease to revoke.
const REVOKE_INTERVAL: Duration = Duration::from_millis(100);

/// An amount of memory that tasks share.
pub(crate) struct MemoryBudget {
    units: usize,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    leases: Arc<Mutex<Leases>>,
}

/// A part of a budget, which returns to it when the lease is dropped.
pub(crate) struct MemoryLease {
    id: u64,
    revocation: Arc<Notify>,
    progress: LeaseProgress,
    leases: Arc<Mutex<Leases>>,
    /// The memory; `None` only while the lease is replaced by a smaller one.
    units: Option<OwnedSemaphorePermit>,
}

/// Records that the memory of a lease is used.
#[derive(Clone)]
pub(crate) struct LeaseProgress(Arc<Mutex<Instant>>);

/// The budget is exhausted, and too many tasks wait, or this one has waited too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much memory is in use")]
pub(crate) struct MemoryExhausted;

/// The leases that can be revoked, oldest first.
#[derive(Default)]
struct Leases {
    next_id: u64,
    by_id: BTreeMap<u64, RevocableLease>,
}

/// The data that is needed to revoke a lease.
struct RevocableLease {
    began: Instant,
    progress: LeaseProgress,
    units: u32,
    revocation: Arc<Notify>,
}

impl MemoryBudget {
    /// Creates a budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let units = bytes
            .div_ceil(UNIT_BYTES)
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            units,
            free: Arc::new(Semaphore::new(units)),
            waiting: AtomicUsize::new(0),
            leases: Arc::default(),
        }
    }

    /// Leases `bytes`, or the whole budget if it is smaller. Waits for other leases to end, and
    /// revokes those that make no progress or are held for too long.
    ///
    /// # Errors
    /// [`MemoryExhausted`] if too many others wait, or no memory becomes free in time.
    pub(crate) async fn lease(&self, bytes: usize) -> Result<MemoryLease, MemoryExhausted> {
        let units = bytes.div_ceil(UNIT_BYTES).clamp(1, self.units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(units) {
            return Ok(MemoryLease::register(permit, &self.leases));
        }
        let _waiting = WaitingGuard::enter(&self.waiting).ok_or(MemoryExhausted)?;
        let acquiring = Arc::clone(&self.free).acquire_many_owned(units);
        let mut acquiring = std::pin::pin!(acquiring);
        let began = Instant::now();
        while began.elapsed() < MAX_WAIT {
            lock(&self.leases).revoke(units);
            if let Ok(acquired) = timeout(REVOKE_INTERVAL, &mut acquiring).await {
                // The semaphore is never closed.
                return acquired
                    .map(|permit| MemoryLease::register(permit, &self.leases))
                    .map_err(|_| MemoryExhausted);
            }
        }
        Err(MemoryExhausted)
    }
}

impl Leases {
    /// Revokes leases until they hold `needed` units: the oldest that make no progress or are held
    /// for too long.
    fn revoke(&mut self, needed: u32) {
        let mut missing = needed;
        self.by_id.retain(|_, lease| {
            let is_revoked = missing > 0 && lease.must_give_way();
            if is_revoked {
                missing = missing.saturating_sub(lease.units);
                lease.revocation.notify_one();
            }
            !is_revoked
        });
    }
}

impl RevocableLease {
    fn must_give_way(&self) -> bool {
        self.began.elapsed() >= REVOKE_AFTER
            || lock(&self.progress.0).elapsed() >= REVOKE_STALLED_AFTER
    }
}

impl LeaseProgress {
    /// Records that the memory is used now.
    pub(crate) fn record(&self) {
        *lock(&self.0) = Instant::now();
    }
}

impl MemoryLease {
    fn register(permit: OwnedSemaphorePermit, leases: &Arc<Mutex<Leases>>) -> Self {
        let revocation = Arc::new(Notify::new());
        let progress = LeaseProgress(Arc::new(Mutex::new(Instant::now())));
        let lease = RevocableLease {
            began: Instant::now(),
            progress: progress.clone(),
            units: u32::try_from(permit.num_permits()).unwrap_or(u32::MAX),
            revocation: Arc::clone(&revocation),
        };
        let id = {
            let mut leases = lock(leases);
            let id = leases.next_id;
            leases.next_id += 1;
            leases.by_id.insert(id, lease);
            id
        };
        Self {
            id,
            revocation,
            progress,
            leases: Arc::clone(leases),
            units: Some(permit),
        }
    }

    /// Gives back all but `bytes` of the memory. The lease counts as new: it can be revoked, even if
    /// it was protected.
    pub(crate) fn shrink(mut self, bytes: usize) -> Self {
        let Some(mut units) = self.units.take() else {
            return self;
        };
        let kept = bytes.div_ceil(UNIT_BYTES).max(1);
        drop(units.split(units.num_permits().saturating_sub(kept)));
        Self::register(units, &self.leases)
    }

    /// Waits until the lease is revoked. The holder should then give up, and drop it.
    pub(crate) async fn revoked(&self) {
        self.revocation.notified().await;
    }

    /// Returns the record of progress. A lease whose holder makes none is revoked sooner.
    pub(crate) fn progress(&self) -> LeaseProgress {
        self.progress.clone()
    }

    /// Protects the lease from revocation: its holder no longer waits for anyone.
    pub(crate) fn keep(&self) {
        lock(&self.leases).by_id.remove(&self.id);
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.keep();
    }
}

/// Counts a waiting task until it is dropped.
struct WaitingGuard<'a>(&'a AtomicUsize);

impl<'a> WaitingGuard<'a> {
    /// Returns `None` if too many tasks wait.
    fn enter(waiting: &'a AtomicUsize) -> Option<Self> {
        let guard = Self(waiting);
        (waiting.fetch_add(1, Relaxed) < MAX_WAITING).then_some(guard)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const MEBIBYTE: usize = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn leases_wait_for_memory_and_give_up_in_time() {
        let budget = MemoryBudget::new(MEBIBYTE);
        let half = budget.lease(MEBIBYTE / 2).await.unwrap();
        half.keep();
        let other_half = budget.lease(MEBIBYTE / 2).await.unwrap();
        other_half.keep();
        let began = Instant::now();
        assert_eq!(budget.lease(1).await.err(), Some(MemoryExhausted));
        assert_eq!(began.elapsed(), MAX_WAIT);
        let mut waiting = std::pin::pin!(budget.lease(MEBIBYTE / 2));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(half);
        assert!(waiting.await.is_ok());
        // A lease is never larger than the budget.
        drop(other_half);
        assert!(budget.lease(100 * MEBIBYTE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_or_old_lease_gives_way() {
        for (is_progressing, seconds) in [(false, 1), (true, 5)] {
            let budget = MemoryBudget::new(MEBIBYTE);
            let began = Instant::now();
            let first = budget.lease(MEBIBYTE / 2).await.unwrap();
            let second = budget.lease(MEBIBYTE / 2).await.unwrap();
            let progress = first.progress();
            let end_when_revoked = async {
                first.revoked().await;
                drop(first);
                began.elapsed().as_secs()
            };
            let progressing = async {
                if !is_progressing {
                    std::future::pending::<()>().await;
                }
                loop {
                    progress.record();
                    second.progress().record();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let leasing = async { tokio::join!(end_when_revoked, budget.lease(MEBIBYTE / 2)) };
            tokio::select! {
                () = progressing => {}
                (revoked_after, leased) = leasing => {
                    assert_eq!(revoked_after, seconds);
                    assert!(leased.is_ok());
                }
            }
            // The first one was enough.
            assert!(second.revoked().now_or_never().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_shrinks_gives_memory_back_and_can_be_revoked() {
        let budget = MemoryBudget::new(MEBIBYTE);
        let lease = budget.lease(MEBIBYTE).await.unwrap();
        lease.keep();
        let lease = lease.shrink(MEBIBYTE / 4);
        let other = budget.lease(MEBIBYTE * 3 / 4).now_or_never();
        assert!(other.is_some_and(|leased| leased.is_ok()));
        let revoked = async {
            lease.revoked().await;
            drop(lease);
        };
        let (leased, ()) = tokio::join!(budget.lease(MEBIBYTE), revoked);
        assert!(leased.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_tasks_wait() {
        let budget = MemoryBudget::new(MEBIBYTE);
        let _all = budget.lease(MEBIBYTE).await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| Box::pin(budget.lease(1)))
            .collect();
        for lease in &mut waiting {
            assert!(lease.now_or_never().is_none());
        }
        let refused = budget.lease(1).now_or_never();
        assert_eq!(
            refused.map(|result| result.err()),
            Some(Some(MemoryExhausted))
        );
        waiting.pop();
        assert!(budget.lease(1).now_or_never().is_none());
    }
}
