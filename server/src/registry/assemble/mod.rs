//! Assembles layers from other layers of the repository and a delta ([`imgsync_oci::delta`]).
//!
//! A request is checked ([`plan`]) and queued ([`jobs`]); one thread ([`worker`]) assembles one layer at
//! a time ([`run`]). Jobs are in memory only: after a restart, the client sends the request again, for
//! which its upload session stays. The layer becomes visible through the same commit as an upload, after
//! its diffID was checked. Start reading at [`Registry::start_assembly`].

mod jobs;
mod plan;
mod reservation;
mod run;
mod sources;
mod start;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use self::jobs::AssemblyJobs;
use self::run::PreparedAssembly;
use super::Registry;
use crate::config::DeltaConfig;

/// The assemblies, and what limits them.
pub(super) struct Assemblies {
    config: Mutex<DeltaConfig>,
    /// Whether the registry is read-only since a reload of the configuration.
    is_read_only: AtomicBool,
    jobs: Mutex<AssemblyJobs<PreparedAssembly>>,
    /// Notified when a job is queued, and when the worker must stop.
    changed: Condvar,
}

impl Default for Assemblies {
    fn default() -> Self {
        let config = DeltaConfig {
            is_enabled: false,
            max_layer_bytes: 0,
        };
        Self {
            config: Mutex::new(config),
            is_read_only: AtomicBool::new(false),
            jobs: Mutex::default(),
            changed: Condvar::new(),
        }
    }
}

impl Assemblies {
    fn jobs(&self) -> MutexGuard<'_, AssemblyJobs<PreparedAssembly>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Sets whether clients can upload deltas, and how large layers may be. Before the first call, they
    /// cannot. Stops the assemblies that wait or run if there must be none any more.
    pub(crate) fn set_delta_config(&self, config: DeltaConfig, is_read_only: bool) {
        let read_only = &self.assemblies.is_read_only;
        read_only.store(is_read_only, Ordering::Relaxed);
        let current = self.assemblies.config.lock();
        *current.unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Returns whether layers may be assembled now.
    fn is_assembly_enabled(&self) -> bool {
        self.delta_config().is_enabled && !self.assemblies.is_read_only.load(Ordering::Relaxed)
    }

    /// Returns whether clients can upload deltas, and how large layers may be.
    pub(super) fn delta_config(&self) -> DeltaConfig {
        let config = self.assemblies.config.lock();
        *config.unwrap_or_else(PoisonError::into_inner)
    }
}
