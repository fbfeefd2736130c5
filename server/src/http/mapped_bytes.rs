//! Bytes outside the heap.
//!
//! Their memory goes back to the operating system when they are dropped. The heap would keep much of
//! it, because smaller allocations lie between the large ones.

use std::io;

use memmap2::MmapMut;

/// Bytes of a limited number, in memory of their own.
pub(super) struct MappedBytes {
    memory: MmapMut,
    len: usize,
}

impl MappedBytes {
    /// Reserves memory for `capacity` bytes. Memory that is not used costs nothing.
    ///
    /// # Errors
    /// If the system has no memory.
    pub(super) fn with_capacity(capacity: usize) -> io::Result<Self> {
        // A mapping is never empty.
        let memory = MmapMut::map_anon(capacity.max(1))?;
        Ok(Self { memory, len: 0 })
    }

    /// Appends bytes. Returns false, and appends nothing, if they do not fit.
    pub(super) fn append(&mut self, part: &[u8]) -> bool {
        let end = self.len + part.len();
        let Some(free) = self.memory.get_mut(self.len..end) else {
            return false;
        };
        free.copy_from_slice(part);
        self.len = end;
        true
    }
}

impl AsRef<[u8]> for MappedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_appended_up_to_the_capacity() {
        let mut bytes = MappedBytes::with_capacity(5).unwrap();
        assert!(bytes.append(b"abc"));
        assert!(!bytes.append(b"def"));
        assert!(bytes.append(b"de"));
        assert_eq!(bytes.as_ref(), b"abcde");
    }
}
