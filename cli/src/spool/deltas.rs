//! Keeps deltas until their layers are at the target.
//!
//! A delta can be made in several ways, but an upload that was interrupted must go on with the same
//! bytes. So a delta is named by its layer and its bases. This module does not verify the bytes: the
//! registry finds out whether a delta makes the layer.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use imgsync_oci::{Digest, delta};

use super::{Draft, Spool, SpoolKind};
use crate::image::Slice;

impl Spool {
    /// Returns the delta of a layer against these blobs.
    pub fn open_delta(&self, diff_id: &Digest, bases: &[Digest]) -> Option<Slice> {
        let (file, len) = self.open_path(&self.delta_path(diff_id, bases))?;
        Some(Slice::part(&file, 0, len))
    }

    /// Removes the deltas of these layers.
    pub fn remove_deltas(&self, diff_ids: &[Digest]) {
        for delta in self.list_kind(SpoolKind::Deltas) {
            let name = delta.path.file_name().unwrap_or_default().to_string_lossy();
            if diff_ids.iter().any(|id| name.contains(id.hex())) {
                // Another run may have removed it already.
                let _ = std::fs::remove_file(&delta.path);
            }
        }
    }

    fn delta_path(&self, diff_id: &Digest, bases: &[Digest]) -> PathBuf {
        let mut text = delta::FORMAT_NAME.to_owned();
        bases
            .iter()
            .for_each(|base| text.push_str(&format!(" {base}")));
        let bases = Digest::of(text.as_bytes());
        let name = format!("{}-{}", diff_id.hex(), bases.short());
        self.folder.join(SpoolKind::Deltas.folder()).join(name)
    }
}

impl Draft {
    /// Keeps the file as the delta of a layer against these blobs, as [`Draft::persist`] does.
    pub fn persist_delta(self, diff_id: &Digest, bases: &[Digest]) -> Arc<File> {
        let path = self.spool.delta_path(diff_id, bases);
        self.persist_at(SpoolKind::Deltas, &path)
    }
}
