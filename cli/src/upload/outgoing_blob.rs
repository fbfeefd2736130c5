//! A blob on its way to the registry: complete, or a layer that is still being compressed, whose
//! digest and size are not known yet.
//!
//! This module sends nothing. Start reading at [`OutgoingBlob`].

use std::sync::{Arc, Mutex, OnceLock};

use imgsync_oci::{Digest, delta};

use super::{BlobSource, PendingBlob, lock};
use crate::cache::BlobRef;
use crate::compress;
use crate::report::{ProgressTask, Report};
use crate::spool::{GrowingLayer, Growth, SpooledLayer};

/// A blob to send, as far as it is known.
pub(super) struct OutgoingBlob {
    label: String,
    /// The diffID of a layer that this tool compresses. Its upload session is kept under this name,
    /// because the session may be open before the digest of the blob is known.
    diff_id: Option<Digest>,
    content: OutgoingContent,
    /// The layer that the registry assembles from the bytes. They are a delta then.
    assembly: Option<Arc<LayerAssembly>>,
    /// The digest of the blob, for progress that is reported from elsewhere.
    digest: Arc<OnceLock<Digest>>,
    /// Shows what is sent of a layer before its digest is known.
    growing_task: Arc<Mutex<Option<ProgressTask>>>,
}

/// A layer that the registry assembles from a delta.
#[derive(Debug)]
pub(super) struct LayerAssembly {
    /// The name of the layer in messages.
    pub(super) label: String,
    /// The blobs that the delta is based on, in its order.
    pub(super) bases: Vec<Digest>,
    pub(super) diff_id: Digest,
    /// The size of the uncompressed layer in bytes.
    pub(super) raw_size: u64,
    /// The blob that the layer must become.
    pub(super) blob: BlobRef,
}

enum OutgoingContent {
    Complete(Arc<PendingBlob>),
    Growing(GrowingLayer),
}

impl OutgoingBlob {
    /// Returns a blob that is complete. `diff_id` is that of a layer which this tool has compressed.
    pub(super) fn complete(blob: &PendingBlob, diff_id: Option<&Digest>) -> Self {
        Self {
            label: blob.label.clone(),
            diff_id: diff_id.cloned(),
            content: OutgoingContent::Complete(Arc::new(blob.clone())),
            assembly: None,
            digest: Arc::new(OnceLock::from(blob.digest.clone())),
            growing_task: Arc::default(),
        }
    }

    /// Returns a delta, from which the registry assembles a layer.
    pub(super) fn delta(delta: &PendingBlob, assembly: LayerAssembly) -> Self {
        Self {
            assembly: Some(Arc::new(assembly)),
            ..Self::complete(delta, None)
        }
    }

    /// Returns a layer that is being compressed.
    pub(super) fn growing(label: &str, diff_id: &Digest, layer: GrowingLayer) -> Self {
        Self {
            label: label.to_owned(),
            diff_id: Some(diff_id.clone()),
            content: OutgoingContent::Growing(layer),
            assembly: None,
            digest: Arc::default(),
            growing_task: Arc::default(),
        }
    }

    /// Returns the name to show in messages.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Returns the blob, once all of it is known.
    pub(super) fn known(&self) -> Option<&Arc<PendingBlob>> {
        match &self.content {
            OutgoingContent::Complete(blob) => Some(blob),
            OutgoingContent::Growing(_) => None,
        }
    }

    /// Returns the blob that the registry has in the end, once it is known: of a delta, that of the
    /// layer.
    pub(super) fn stored(&self) -> Option<BlobRef> {
        match &self.assembly {
            Some(assembly) => Some(assembly.blob.clone()),
            None => self.known().map(|blob| blob.blob_ref()),
        }
    }

    /// Returns the layer that the registry assembles, if the bytes are a delta.
    pub(super) fn assembly(&self) -> Option<&Arc<LayerAssembly>> {
        self.assembly.as_ref()
    }

    /// Returns the diffID of a layer that this tool compresses.
    pub(super) fn diff_id(&self) -> Option<&Digest> {
        let assembled = self.assembly.as_ref().map(|assembly| &assembly.diff_id);
        self.diff_id.as_ref().or(assembled)
    }

    /// Returns the name of the blob in the journal.
    pub(super) fn journal_name(&self) -> String {
        if let (Some(_), Some(delta)) = (&self.assembly, self.known()) {
            return format!("{} {}", delta::FORMAT_NAME, delta.digest);
        }
        match (&self.diff_id, self.known()) {
            (Some(diff_id), _) => journal_name(diff_id),
            (None, Some(blob)) => blob.digest.to_string(),
            (None, None) => String::new(),
        }
    }

    /// Returns the source of the bytes. Those of a growing layer can be read as far as
    /// [`OutgoingBlob::wait_for`] has reported them.
    pub(super) fn source(&self) -> BlobSource {
        match &self.content {
            OutgoingContent::Complete(blob) => blob.source.clone(),
            OutgoingContent::Growing(layer) => BlobSource::Local(layer.bytes()),
        }
    }

    /// Waits until the blob has at least `len` bytes, or all of them. Returns how many can be sent.
    pub(super) async fn wait_for(&mut self, len: u64) -> u64 {
        let layer = match &mut self.content {
            OutgoingContent::Complete(blob) => return blob.size,
            OutgoingContent::Growing(layer) => layer,
        };
        match layer.wait_for(len).await {
            Growth::Written(written) => written,
            Growth::Complete(SpooledLayer { blob, bytes, .. }) => {
                let size = blob.size;
                // This is the only place that sets the digest of a growing layer.
                let _ = self.digest.set(blob.digest.clone());
                lock(&self.growing_task).take();
                let blob = PendingBlob {
                    digest: blob.digest,
                    size,
                    label: self.label.clone(),
                    source: BlobSource::Local(bytes),
                    mount: None,
                    is_known_missing: false,
                };
                self.content = OutgoingContent::Complete(Arc::new(blob));
                size
            }
        }
    }

    /// Returns a function that reports an offset. That of a blob whose digest is not known yet is shown
    /// as a task.
    pub(super) fn offset_reporter(
        &self,
        report: &Arc<dyn Report>,
    ) -> impl Fn(u64) + Send + 'static + use<> {
        let (report, digest) = (Arc::clone(report), Arc::clone(&self.digest));
        let growing_task = Arc::clone(&self.growing_task);
        let text = format!("sending the start of {}", self.label);
        move |offset| {
            if let Some(digest) = digest.get() {
                report.update_blob(digest, offset);
                return;
            }
            let mut task = lock(&growing_task);
            let task = task.get_or_insert_with(|| ProgressTask::start(&report, &text, None));
            task.set_position(offset);
        }
    }
}

/// Returns the name in the journal of a layer that this tool compresses. The bytes of the blob
/// follow from the format and the diffID.
pub(super) fn journal_name(diff_id: &Digest) -> String {
    format!("{} {diff_id}", compress::FORMAT_NAME)
}
