//! Large buffers that go back to the system when they are dropped.
//!
//! glibc takes buffers of more than 32 MiB from the system, and gives them back at once. Smaller ones
//! too, but only until one of their size was dropped: from then on it keeps them, with holes between
//! those that are still in use. This made the peak of an assembly 50 MB higher. Pages of a buffer that
//! are never written take no memory.

/// The capacity of large buffers in bytes, if they need no more.
const CAPACITY: usize = 33 * 1024 * 1024;
/// The size in bytes from which on a buffer is large.
const MIN_LARGE_BYTES: usize = 512 * 1024;

/// Makes room for `len` bytes in all, if these are many. Room for fewer is left to the caller.
pub(in crate::delta) fn reserve(buffer: &mut Vec<u8>, len: usize) {
    if len >= MIN_LARGE_BYTES && len > buffer.capacity() {
        buffer.reserve_exact(len.max(CAPACITY) - buffer.len());
    }
}
