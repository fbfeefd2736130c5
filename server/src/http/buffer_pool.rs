//! The buffers of one download, used again and again: a new one for every piece would cost more
//! than reading it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers that nobody uses right now.
#[derive(Default)]
pub(super) struct BufferPool(Mutex<Vec<Vec<u8>>>);

/// A filled buffer; it goes back when the last piece of it is gone.
struct PooledBuffer {
    bytes: Vec<u8>,
    len: usize,
    buffers: Arc<BufferPool>,
}

impl BufferPool {
    /// Has `len` bytes filled.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(super) fn fill_buffer(
        self: Arc<Self>,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = spare.unwrap_or_default();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        fill(&mut bytes[..len])?;
        Ok(Bytes::from_owner(PooledBuffer {
            bytes,
            len,
            buffers: self,
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
        let mut spare = self
            .buffers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        spare.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_once_nobody_reads_it() {
        let buffers = Arc::new(BufferPool::default());
        let spare = || buffers.0.lock().unwrap().len();
        let fill = |byte: u8, len| {
            let filled = Arc::clone(&buffers).fill_buffer(len, |bytes| {
                bytes.fill(byte);
                Ok(())
            });
            filled.unwrap()
        };
        let first = fill(1, 8);
        let rest = first.slice(4..);
        drop(first);
        assert_eq!((spare(), &rest[..]), (0, &[1; 4][..]));
        drop(rest);
        assert_eq!(spare(), 1);
        let second = fill(2, 3);
        assert_eq!((spare(), &second[..]), (0, &[2; 3][..]));
        let third = fill(3, 16);
        drop((second, third));
        assert_eq!(spare(), 2);
    }
}
