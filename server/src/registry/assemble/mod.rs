//! Assembles layers from other layers of the repository and a delta ([`imgsync_oci::delta`]).

use std::sync::{Mutex, PoisonError};

use super::Registry;
use crate::config::DeltaConfig;

/// The assemblies, and what limits them.
pub(super) struct Assemblies {
    config: Mutex<DeltaConfig>,
}

impl Default for Assemblies {
    fn default() -> Self {
        let config = DeltaConfig {
            is_enabled: false,
            max_layer_bytes: 0,
        };
        Self {
            config: Mutex::new(config),
        }
    }
}

impl Registry {
    /// Sets whether clients can upload deltas, and how large layers may be. Before the first call, they
    /// cannot.
    pub(crate) fn set_delta_config(&self, config: DeltaConfig) {
        let current = self.assemblies.config.lock();
        *current.unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Returns whether clients can upload deltas, and how large layers may be.
    pub(super) fn delta_config(&self) -> DeltaConfig {
        let config = self.assemblies.config.lock();
        *config.unwrap_or_else(PoisonError::into_inner)
    }
}
