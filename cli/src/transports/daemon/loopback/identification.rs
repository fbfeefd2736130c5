//! Finds out which layer an upload of Docker is, since its requests do not tell. Only one upload at a
//! time is not identified yet: a permit of the registry is held for it.

use std::time::Duration;

use super::announcements::ShortId;
use super::registry::{LoopbackRegistry, Refusal};

/// The time in which Docker reports which layer it is sending.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// The search for the layer of one upload.
pub(super) struct Identification<'a> {
    registry: &'a LoopbackRegistry,
    layer: Option<ShortId>,
    /// Whether the permit of [`LoopbackRegistry::identifying`] is still to be given back.
    has_permit: bool,
}

impl<'a> Identification<'a> {
    /// Begins the search, with the permit that the start of the upload took.
    pub(super) fn new(registry: &'a LoopbackRegistry) -> Self {
        Self {
            registry,
            layer: None,
            has_permit: registry.refusal != Refusal::BeforeUpload,
        }
    }

    /// Waits until Docker reports the layer of this upload; forever if that is known already, or of
    /// no use.
    pub(super) async fn wait_for_announcement(&mut self) {
        if !self.has_permit || self.layer.is_some() {
            return std::future::pending().await;
        }
        let layer = self.registry.announcements.next().await;
        self.identify(layer);
    }

    /// Waits a while for the layer.
    pub(super) async fn wait(&mut self) {
        if self.has_permit && self.layer.is_none() {
            let waiting = tokio::time::timeout(IDENTIFY_TIMEOUT, self.wait_for_announcement());
            if waiting.await.is_err() {
                // The diffID will tell the layer.
                self.give_back_permit();
            }
        }
    }

    /// Sets the layer, which its diffID tells.
    pub(super) fn set(&mut self, layer: ShortId) {
        self.registry.announcements.identify(&layer);
        self.identify(layer);
    }

    /// Lets Docker begin its next upload, unless it would only compete with this one for the
    /// processor: no further layer is wanted.
    fn identify(&mut self, layer: ShortId) {
        let is_wanted = self.is_wanted(&layer);
        self.layer = Some(layer.clone());
        if is_wanted && self.registry.is_last_identified(layer) {
            return;
        }
        self.give_back_permit();
    }

    /// Records that the upload is complete. If its layer is the last one, no further upload begins.
    pub(super) fn complete(&mut self) {
        self.has_permit = false;
    }

    fn is_wanted(&self, layer: &ShortId) -> bool {
        let mut wanted = self.registry.wanted.iter().map(ShortId::of);
        wanted.any(|wanted| wanted == *layer)
    }

    /// Returns the layer if it is known and not wanted.
    pub(super) fn unwanted_layer(&self) -> Option<ShortId> {
        let layer = self.layer.as_ref()?;
        (!self.is_wanted(layer)).then(|| layer.clone())
    }

    fn give_back_permit(&mut self) {
        if std::mem::take(&mut self.has_permit) {
            self.registry.identifying.add_permits(1);
        }
    }
}

impl Drop for Identification<'_> {
    fn drop(&mut self) {
        self.give_back_permit();
    }
}
