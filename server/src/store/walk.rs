//! Bounds walks over folders that can be large.
//!
//! A request must not occupy a thread for long after its client is gone, and a request that turns
//! out to be long must be able to move to other threads. A request for a long list must wait for
//! memory before it uses that memory. Start reading at [`Walk`].

use std::cell::Cell;

use super::error::{Error, Result};

/// The steps that it takes to open and hash a small file.
const STEPS_PER_FILE: u64 = 10;
/// The bytes of a larger file that are read in a step.
const BYTES_PER_STEP: usize = 4096;

/// The permission for a walk to continue, asked for at each step: for each entry of a folder that
/// is read, and for each file that is looked up because of it.
pub(crate) struct Walk<'a> {
    is_short: bool,
    remaining_steps: Cell<u64>,
    max_memory: usize,
    is_abandoned: &'a dyn Fn() -> bool,
}

impl<'a> Walk<'a> {
    /// Creates a walk of at most `max_steps` steps, which also ends once `is_abandoned` is true.
    pub(crate) fn new(max_steps: u64, is_abandoned: &'a dyn Fn() -> bool) -> Self {
        Self {
            is_short: max_steps < u64::MAX,
            remaining_steps: Cell::new(max_steps),
            max_memory: usize::MAX,
            is_abandoned,
        }
    }

    /// Limits the memory that the result of the walk may take, in bytes.
    pub(crate) fn with_max_memory(mut self, bytes: usize) -> Self {
        self.max_memory = bytes;
        self
    }

    /// Returns the memory that the result of the walk may take, in bytes.
    pub(crate) fn max_memory(&self) -> usize {
        self.max_memory
    }

    /// Checks that the result of the walk may take `bytes` of memory.
    ///
    /// # Errors
    /// [`Error::NeedsMemory`] if it may not.
    pub(crate) fn check_memory(&self, bytes: usize) -> Result<()> {
        if bytes > self.max_memory {
            return Err(Error::NeedsMemory { bytes });
        }
        Ok(())
    }

    /// Creates a walk that never ends early.
    pub(crate) fn unbounded() -> Walk<'static> {
        Walk::new(u64::MAX, &|| false)
    }

    /// Returns whether the number of steps is limited. Such a walk must not wait for other walks,
    /// which may be long.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Checks that there are enough steps for the rest of a walk, so that a walk that is too long
    /// ends before it has done a part of its work.
    ///
    /// # Errors
    /// [`Error::WalkEnded`] if there are fewer steps than `steps`.
    pub(crate) fn check_steps(&self, steps: usize) -> Result<()> {
        if self.remaining_steps.get() < steps as u64 {
            return Err(Error::WalkEnded);
        }
        Ok(())
    }

    /// Takes a step.
    ///
    /// # Errors
    /// [`Error::WalkEnded`] if the walk must end.
    pub(crate) fn step(&self) -> Result<()> {
        self.take(1)
    }

    /// Takes the steps for a file of `len` bytes that is read whole.
    ///
    /// # Errors
    /// [`Error::WalkEnded`] if the walk must end.
    pub(crate) fn step_for_file(&self, len: usize) -> Result<()> {
        self.take(STEPS_PER_FILE + (len / BYTES_PER_STEP) as u64)
    }

    fn take(&self, steps: u64) -> Result<()> {
        let remaining = self.remaining_steps.get();
        if remaining < steps || (self.is_abandoned)() {
            return Err(Error::WalkEnded);
        }
        self.remaining_steps.set(remaining - steps);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_after_its_steps_or_once_it_is_abandoned() {
        let is_abandoned = Cell::new(false);
        let ask = || is_abandoned.get();
        let walk = Walk::new(2, &ask);
        assert!(walk.is_short() && !Walk::unbounded().is_short());
        assert!(walk.check_steps(2).is_ok() && walk.check_steps(3).is_err());
        assert!(walk.step().is_ok() && walk.step().is_ok());
        assert!(matches!(walk.step(), Err(Error::WalkEnded)));
        let walk = Walk::new(u64::MAX, &ask);
        assert!(walk.step_for_file(1 << 20).is_ok());
        is_abandoned.set(true);
        assert!(matches!(walk.step(), Err(Error::WalkEnded)));
        let walk = Walk::unbounded().with_max_memory(10);
        assert!(walk.check_memory(10).is_ok());
        let refused = walk.check_memory(11);
        assert!(matches!(refused, Err(Error::NeedsMemory { bytes: 11 })));
    }
}
