//! Reuses the buffers of one download. A new buffer for each piece would cost more than the read.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// The buffers that are free.
#[derive(Default)]
pub(super) struct BufferPool(Mutex<Vec<Vec<u8>>>);

/// A filled buffer. It returns to its pool when the last slice of it is dropped.
struct PooledBuffer {
    bytes: Vec<u8>,
    len: usize,
    pool: Arc<BufferPool>,
}

impl BufferPool {
    /// Fills a free or new buffer of `len` bytes, and returns it.
    ///
    /// # Errors
    /// Fails if `fill` fails.
    pub(super) fn fill_buffer(
        self: Arc<Self>,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = free.unwrap_or_default();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        fill(&mut bytes[..len])?;
        Ok(Bytes::from_owner(PooledBuffer {
            bytes,
            len,
            pool: self,
        }))
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut free = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_to_the_pool_when_its_last_slice_is_dropped() {
        let pool = Arc::new(BufferPool::default());
        let free = || pool.0.lock().unwrap().len();
        let fill = |byte: u8, len| {
            let filled = Arc::clone(&pool).fill_buffer(len, |bytes| {
                bytes.fill(byte);
                Ok(())
            });
            filled.unwrap()
        };
        let first = fill(1, 8);
        let rest = first.slice(4..);
        drop(first);
        assert_eq!((free(), &rest[..]), (0, &[1; 4][..]));
        drop(rest);
        assert_eq!(free(), 1);
        let second = fill(2, 3);
        assert_eq!((free(), &second[..]), (0, &[2; 3][..]));
        let third = fill(3, 16);
        drop((second, third));
        assert_eq!(free(), 2);
    }
}
