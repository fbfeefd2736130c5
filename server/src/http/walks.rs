//! Runs walks over folders that can be large, so that they leave threads to other requests.
//!
//! A walk that takes few steps runs like any other work on the disk. A longer one starts again with
//! one of a few permits, and ends when its client is gone. Start reading at [`WalkPool::run`].

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::blocking::run_blocking;
use super::buffered_body::{BodyBuffers, MAX_SMALL_BODY_BYTES};
use super::client_presence::ClientPresence;
use super::error_response::ErrorResponse;
use crate::memory_budget::MemoryLease;
use crate::registry::{Error, Walk};
use crate::store;

/// The most long walks at a time: a sixth of the blocking threads.
const MAX_CONCURRENT_WALKS: usize = 4;
/// The most steps of a short walk, which take about 10 ms.
const MAX_SHORT_WALK_STEPS: u64 = 2000;

/// Limits the long walks.
pub(super) struct WalkPool {
    permits: Arc<Semaphore>,
}

impl Default for WalkPool {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT_WALKS)),
        }
    }
}

impl WalkPool {
    /// Runs a walk for a client. `work` may be called twice, and must change nothing before its walk
    /// is complete.
    ///
    /// # Errors
    /// The errors of `work`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        client: &ClientPresence,
        work: impl Fn(&Walk<'_>) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<T, ErrorResponse> {
        Ok(self.try_run(client, &Arc::new(work), usize::MAX).await??)
    }

    /// Runs a walk whose result can need much memory, as [`WalkPool::run`] does. Returns the lease
    /// of the memory, if it is more than a small response takes.
    ///
    /// # Errors
    /// The errors of `work`, and those of [`BodyBuffers::lease_response`].
    pub(super) async fn run_with_memory<T: Send + 'static>(
        &self,
        client: &ClientPresence,
        buffers: &BodyBuffers,
        work: impl Fn(&Walk<'_>) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<(T, Option<MemoryLease>), ErrorResponse> {
        let work = Arc::new(work);
        let (mut max_memory, mut lease) = (MAX_SMALL_BODY_BYTES, None);
        loop {
            match self.try_run(client, &work, max_memory).await? {
                Err(Error::Store(store::Error::NeedsMemory { bytes })) => {
                    drop(lease.take());
                    lease = buffers.lease_response(bytes as u64).await?;
                    // The walk does not wait for the client.
                    lease.iter().for_each(MemoryLease::keep);
                    max_memory = bytes;
                }
                result => return Ok((result?, lease)),
            }
        }
    }

    async fn try_run<T: Send + 'static>(
        &self,
        client: &ClientPresence,
        work: &Arc<impl Fn(&Walk<'_>) -> Result<T, Error> + Send + Sync + 'static>,
        max_memory: usize,
    ) -> Result<Result<T, Error>, ErrorResponse> {
        match run_walk(client, work, (MAX_SHORT_WALK_STEPS, max_memory), ()).await? {
            Err(Error::Store(store::Error::WalkEnded)) if !client.is_gone() => {}
            result => return Ok(result),
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| ErrorResponse::internal(&error))?;
        run_walk(client, work, (u64::MAX, max_memory), permit).await
    }
}

/// Runs a walk on a blocking thread. `permit` is released when the walk has ended, even if the
/// returned future is dropped before.
async fn run_walk<T: Send + 'static>(
    client: &ClientPresence,
    work: &Arc<impl Fn(&Walk<'_>) -> Result<T, Error> + Send + Sync + 'static>,
    (max_steps, max_memory): (u64, usize),
    permit: impl Send + 'static,
) -> Result<Result<T, Error>, ErrorResponse> {
    let (client, work) = (client.clone(), Arc::clone(work));
    run_blocking(move || {
        let _permit = permit;
        let is_gone = || client.is_gone();
        work(&Walk::new(max_steps, &is_gone).with_max_memory(max_memory))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client_presence::ClientGuard;
    use std::sync::mpsc;

    fn walk_forever(walk: &Walk<'_>) -> Result<(), Error> {
        loop {
            walk.step()?;
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_long_walk_ends_when_its_client_is_gone() {
        let (pool, guard) = (WalkPool::default(), ClientGuard::default());
        let client = guard.presence();
        let (sender, receiver) = mpsc::channel();
        let walk = pool.run(&client, move |walk| {
            sender.send(()).unwrap();
            walk_forever(walk)
        });
        let leave = async {
            // The short walk, and the long one.
            tokio::task::spawn_blocking(move || receiver.iter().take(2).count())
                .await
                .unwrap();
            drop(guard);
        };
        let (walked, ()) = tokio::join!(walk, leave);
        assert!(walked.is_err());
        assert_eq!(pool.permits.available_permits(), MAX_CONCURRENT_WALKS);
    }

    #[tokio::test]
    async fn long_walks_leave_threads_to_others() {
        let (pool, guard) = (Arc::new(WalkPool::default()), ClientGuard::default());
        let walks: Vec<_> = (0..40)
            .map(|_| {
                let (pool, client) = (Arc::clone(&pool), guard.presence());
                tokio::spawn(async move { pool.run(&client, walk_forever).await.is_err() })
            })
            .collect();
        while pool.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        // A short walk needs no permit.
        let client = guard.presence();
        let short = pool.run(&client, |walk| Ok(walk.step()?)).await;
        assert!(short.is_ok());
        drop(guard);
        for walk in walks {
            assert!(walk.await.unwrap());
        }
    }
}
