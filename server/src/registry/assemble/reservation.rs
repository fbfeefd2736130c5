//! Reserves the place of an assembly while its request is checked: hashing the delta may take a while.
//!
//! Nothing waits for it: an equal request meanwhile is told that the assembly waits. Start reading at
//! [`Assemblies::reserve`].

use imgsync_oci::ext::assemble::AssemblyState;

use super::Assemblies;
use super::jobs::{AssemblyKey, AssemblyProgress};
use crate::registry::error::{Error, Result};

/// The answer to a request for a place.
pub(super) enum Reservation<'a> {
    /// The place is reserved until this is dropped.
    Reserved(ReservedPlace<'a>),
    /// The layer is being assembled already, or will be.
    Working(AssemblyState),
}

/// A place in the queue of assemblies.
pub(super) struct ReservedPlace<'a> {
    assemblies: &'a Assemblies,
    key: AssemblyKey,
}

impl Assemblies {
    /// Reserves a place for the assembly of a layer of `raw_size` bytes, for `user` if known.
    ///
    /// # Errors
    /// [`Error::TooManyAssemblies`].
    pub(super) fn reserve(
        &self,
        key: &AssemblyKey,
        raw_size: u64,
        user: Option<&str>,
    ) -> Result<Reservation<'_>> {
        let mut jobs = self.jobs();
        if let Some(state @ AssemblyState::Working { .. }) = jobs.state(key) {
            return Ok(Reservation::Working(state));
        }
        if !jobs.has_room(user) {
            return Err(Error::TooManyAssemblies);
        }
        jobs.reserve(key.clone(), AssemblyProgress::new(raw_size), user);
        Ok(Reservation::Reserved(ReservedPlace {
            assemblies: self,
            key: key.clone(),
        }))
    }
}

impl Drop for ReservedPlace<'_> {
    fn drop(&mut self) {
        self.assemblies.jobs().release(&self.key);
    }
}
