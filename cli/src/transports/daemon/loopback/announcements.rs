//! The order in which Docker pushes layers, as its progress messages tell it.
//!
//! A request to the registry does not name the layer that it uploads. Docker reports that it pushes
//! a layer after it has begun to send it, so the layer of an upload is the next one that is
//! reported, if only one upload at a time is not identified yet. This module does no I/O. Start
//! reading at [`Announcements`].

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::Digest;
use tokio::sync::Notify;

/// The digits of a diffID that Docker shows.
const SHORT_ID_DIGITS: usize = 12;
/// The most layers that are remembered. Docker allows images of 127 layers.
const MAX_ANNOUNCED_LAYERS: usize = 1024;

/// The first digits of a diffID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ShortId(String);

impl ShortId {
    /// Returns the short form of a diffID.
    pub(super) fn of(diff_id: &Digest) -> Self {
        Self(diff_id.hex().chars().take(SHORT_ID_DIGITS).collect())
    }
}

/// The layers that Docker has reported to push.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    state: Mutex<AnnouncementState>,
    added: Notify,
}

#[derive(Debug, Default)]
struct AnnouncementState {
    /// Layers that were announced, and whose upload is not known yet.
    queue: VecDeque<ShortId>,
    /// Layers that were announced or identified; later messages about them are progress.
    seen: HashSet<ShortId>,
}

impl Announcements {
    /// Adds a layer that is being pushed, unless it is known already.
    pub(super) fn announce(&self, id: &str) {
        let id = ShortId(id.to_owned());
        let mut state = self.lock();
        if state.seen.len() < MAX_ANNOUNCED_LAYERS && state.seen.insert(id.clone()) {
            state.queue.push_back(id);
            self.added.notify_one();
        }
    }

    /// Marks a layer as one whose upload is known, because all its bytes have arrived.
    pub(super) fn identify(&self, id: &ShortId) {
        let mut state = self.lock();
        state.queue.retain(|queued| queued != id);
        state.seen.insert(id.clone());
    }

    /// Waits for the next layer.
    pub(super) async fn next(&self) -> ShortId {
        loop {
            let next = self.lock().queue.pop_front();
            match next {
                Some(id) => return id,
                None => self.added.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, AnnouncementState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn id(text: &str) -> ShortId {
        ShortId(text.to_owned())
    }

    #[tokio::test]
    async fn each_layer_is_announced_once_and_in_order() {
        let announcements = Announcements::default();
        for text in ["aaa", "bbb", "aaa", "ccc"] {
            announcements.announce(text);
        }
        assert_eq!(announcements.next().await, id("aaa"));
        announcements.identify(&id("bbb"));
        assert_eq!(announcements.next().await, id("ccc"));
        announcements.announce("bbb");
        assert!(announcements.next().now_or_never().is_none());
    }

    #[test]
    fn the_short_form_is_the_one_that_docker_shows() {
        let diff_id = Digest::of(b"");
        assert_eq!(ShortId::of(&diff_id), id("e3b0c44298fc"));
    }
}
