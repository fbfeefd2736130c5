//! Lends buffers to the bodies of uploads and downloads, up to a budget that they share.
//!
//! The buffers are outside the heap: their memory goes back to the operating system when they are
//! dropped. The heap would keep much of it. Start reading at [`BufferPool`].

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The size of a buffer.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;
/// The most free buffers that are kept in addition to as many as are lent. A new buffer for each
/// piece of a body would cost more than reading or writing the piece.
const MAX_SPARE_BUFFERS: usize = 2;

/// The buffers of many bodies.
pub(super) struct BufferPool {
    /// The most buffers that are lent at the same time.
    budget: usize,
    /// One permit for each buffer that can still be lent.
    permits: Arc<Semaphore>,
    free: Mutex<Vec<MmapMut>>,
}

/// A buffer that is filled from its start. It returns to its pool when it is dropped.
pub(super) struct Buffer {
    /// `None` only while the buffer is dropped.
    memory: Option<MmapMut>,
    len: usize,
    pool: Arc<BufferPool>,
    /// Dropped after the memory has returned to the pool.
    _permit: OwnedSemaphorePermit,
}

impl BufferPool {
    /// Creates a pool that lends at most `budget` buffers at the same time.
    pub(super) fn new(budget: usize) -> Arc<Self> {
        Arc::new(Self {
            budget,
            permits: Arc::new(Semaphore::new(budget)),
            free: Mutex::default(),
        })
    }

    /// Lends an empty buffer. Returns `None` if the whole budget is lent, or if the system has no
    /// memory.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Buffer> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        self.lend_with(permit)
    }

    /// Lends an empty buffer as soon as the budget allows it, to the first who waits. Returns `None`
    /// if the system has no memory.
    pub(super) async fn lend_in_turn(self: &Arc<Self>) -> Option<Buffer> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        self.lend_with(permit)
    }

    fn lend_with(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Option<Buffer> {
        let free = self.lock_free().pop();
        let memory = match free {
            Some(memory) => memory,
            None => MmapMut::map_anon(BUFFER_BYTES).ok()?,
        };
        Some(Buffer {
            memory: Some(memory),
            len: 0,
            pool: Arc::clone(self),
            _permit: permit,
        })
    }

    fn lock_free(&self) -> MutexGuard<'_, Vec<MmapMut>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// Returns how many bytes still fit into the buffer.
    pub(super) fn free_bytes(&self) -> usize {
        BUFFER_BYTES - self.len
    }

    /// Appends as many bytes as fit, and returns their number.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let Some(memory) = &mut self.memory else {
            return 0;
        };
        let rest = &mut memory[self.len..];
        let count = rest.len().min(bytes.len());
        rest[..count].copy_from_slice(&bytes[..count]);
        self.len += count;
        count
    }

    /// Replaces the content by up to `len` bytes. `fill` returns how many it wrote.
    ///
    /// # Errors
    /// Fails if `fill` fails.
    pub(super) fn fill(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if let Some(memory) = &mut self.memory {
            self.len = fill(&mut memory[..len.min(BUFFER_BYTES)])?;
        }
        Ok(())
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory
            .as_deref()
            .map_or(&[], |memory| &memory[..self.len])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // This buffer still has its permit.
        let lent = self.pool.budget - self.pool.permits.available_permits() - 1;
        let mut free = self.pool.lock_free();
        free.extend(self.memory.take());
        let surplus = free.len().saturating_sub(lent + MAX_SPARE_BUFFERS);
        let surplus: Vec<MmapMut> = free.drain(..surplus).collect();
        // Unmapped after the lock is released.
        drop(free);
        drop(surplus);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_buffer_returns_to_the_pool_when_its_last_slice_is_dropped() {
        let pool = BufferPool::new(1);
        let mut buffer = pool.lend().unwrap();
        assert_eq!(buffer.append(b"abc"), 3);
        let whole = Bytes::from_owner(buffer);
        let rest = whole.slice(1..);
        drop(whole);
        assert_eq!(&rest[..], b"bc");
        assert!(pool.lend().is_none());
        drop(rest);
        let mut again = pool.lend().unwrap();
        assert_eq!(again.as_ref(), b"");
        again
            .fill(8, |bytes| {
                bytes[..2].copy_from_slice(b"xy");
                Ok(2)
            })
            .unwrap();
        assert_eq!(again.as_ref(), b"xy");
    }

    #[test]
    fn a_buffer_takes_what_fits() {
        let mut buffer = BufferPool::new(1).lend().unwrap();
        assert_eq!(buffer.append(&vec![1; BUFFER_BYTES - 1]), BUFFER_BYTES - 1);
        assert_eq!(buffer.free_bytes(), 1);
        assert_eq!(buffer.append(&[2; 3]), 1);
        assert_eq!(buffer.free_bytes(), 0);
        assert_eq!(buffer.append(&[3]), 0);
        assert_eq!(buffer.as_ref()[BUFFER_BYTES - 2..], [1, 2]);
    }

    #[test]
    fn free_buffers_are_given_back_when_few_are_lent() {
        let pool = BufferPool::new(10);
        let mut lent: Vec<Buffer> = (0..10).map(|_| pool.lend().unwrap()).collect();
        lent.truncate(6);
        assert_eq!(pool.lock_free().len(), 4);
        lent.clear();
        assert_eq!(pool.lock_free().len(), MAX_SPARE_BUFFERS);
    }
}
