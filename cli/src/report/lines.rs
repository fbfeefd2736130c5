//! Plain lines, for logs: one when a blob starts, one when it is there.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use imgsync_oci::Digest;

use super::{Report, bytes};

/// Lines on stderr.
#[derive(Debug, Default)]
pub(super) struct Lines {
    labels: Mutex<HashMap<Digest, (String, u64)>>,
}

impl Lines {
    /// Nothing said yet.
    pub(super) fn new() -> Self {
        Self::default()
    }
}

impl Report for Lines {
    fn note(&self, text: &str) {
        // A log that nobody can write to is no reason to stop a push.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn begin(&self, digest: &Digest, label: &str, size: u64) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.insert(digest.clone(), (label.to_owned(), size));
        drop(labels);
        self.note(&format!("{label}: sending {}", bytes(size)));
    }

    fn position(&self, _digest: &Digest, _offset: u64) {}

    fn done(&self, digest: &Digest) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = labels.remove(digest);
        drop(labels);
        if let Some((label, size)) = known {
            self.note(&format!("{label}: sent {}", bytes(size)));
        }
    }
}
