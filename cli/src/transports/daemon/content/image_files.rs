//! Finds the manifests and blobs of an image in the content store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::manifest::Children;
use imgsync_oci::{Descriptor, Digest, Manifest};

use super::error::ContentError;
use super::messages::ContentInfo;
use super::store::ContentStore;
use super::stored_blob::stored_blob;
use crate::image::Slice;
use crate::image::limits::{
    MAX_INDEX_DEPTH, MAX_MANIFESTS, MAX_METADATA_BYTES, MAX_TOTAL_MANIFEST_BYTES,
};
use crate::transports::files::{FileContent, SourceFiles, blob_path};

/// The most manifests that are read at the same time.
const MAX_PARALLEL_READS: usize = 8;

/// The files of an image, in the form of an OCI layout, and what the engine knows of its layers.
pub(super) struct StoredFiles {
    /// The manifests, in memory, and the configs and layers, to be read later. What the store does
    /// not have is missing here, too.
    pub(super) files: SourceFiles,
    /// The diffIDs that the engine computed when it unpacked layers, by the digest of the blob.
    pub(super) diff_ids: HashMap<Digest, Digest>,
}

/// Finds everything below a manifest or index, level by level.
///
/// # Errors
/// Returns an error if the store cannot be read, if it lacks the root, or if the image has too many
/// manifests.
pub(super) async fn find_files(
    store: &Arc<ContentStore>,
    source_name: &str,
    root: &Descriptor,
) -> Result<StoredFiles, ContentError> {
    let mut files = SourceFiles::empty(source_name);
    let (mut level, mut blobs) = (vec![root.clone()], Vec::new());
    let mut seen: HashSet<Digest> = [root.digest.clone()].into();
    let mut total_bytes = 0;
    // The reader of the image refuses deeper indexes.
    for _ in 0..=MAX_INDEX_DEPTH + 1 {
        let manifests = read_manifests(store, &level).await?;
        if files.is_empty() && manifests.is_empty() {
            return Err(ContentError::Missing(root.digest.clone()));
        }
        level.clear();
        for FoundManifest {
            digest,
            bytes,
            children,
        } in manifests
        {
            total_bytes += bytes.len() as u64;
            add_file(&mut files, &digest, Slice::memory(bytes))?;
            level.extend(children.manifests);
            blobs.extend(children.blobs);
        }
        level.retain(|manifest| seen.insert(manifest.digest.clone()));
        if seen.len() > MAX_MANIFESTS || total_bytes > MAX_TOTAL_MANIFEST_BYTES {
            let what = format!("the image has more than {MAX_MANIFESTS} manifests");
            return Err(ContentError::Malformed(what));
        }
        if level.is_empty() {
            break;
        }
    }
    blobs.retain(|blob| seen.insert(blob.digest.clone()));
    let digests: Vec<_> = blobs.into_iter().map(|blob| blob.digest).collect();
    let mut diff_ids = HashMap::new();
    for info in store.list(&digests).await?.into_values() {
        let ContentInfo { digest, size, .. } = info;
        add_file(&mut files, &digest, stored_blob(store, &digest, size))?;
        diff_ids.extend(info.diff_id.map(|diff_id| (digest, diff_id)));
    }
    Ok(StoredFiles { files, diff_ids })
}

/// A manifest that the store has.
struct FoundManifest {
    digest: Digest,
    bytes: Bytes,
    children: Children,
}

/// Reads those of the manifests that the store has.
async fn read_manifests(
    store: &ContentStore,
    manifests: &[Descriptor],
) -> Result<Vec<FoundManifest>, ContentError> {
    let digests: Vec<_> = manifests.iter().map(|entry| entry.digest.clone()).collect();
    let infos = store.list(&digests).await?;
    let read = |manifest: &Descriptor| {
        let info = infos.get(&manifest.digest).cloned();
        let media_type = manifest.media_type.clone();
        async move {
            let Some(ContentInfo { digest, size, .. }) = info else {
                return Ok(None);
            };
            if size > MAX_METADATA_BYTES {
                let what = format!("the manifest {digest} has {size} bytes");
                return Err(ContentError::Malformed(what));
            }
            let bytes = store.read_all(&digest, size).await?;
            let declared = Some(&*media_type).filter(|declared| !declared.is_empty());
            // The reader of the image reports an invalid manifest, if it needs this one.
            let children = Manifest::parse(&bytes, declared);
            let children = children.map(|(_, manifest)| manifest.children());
            Ok(Some(FoundManifest {
                digest,
                bytes,
                children: children.unwrap_or_default(),
            }))
        }
    };
    let reads = stream::iter(manifests.iter().map(read));
    let read: Vec<_> = reads.buffered(MAX_PARALLEL_READS).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

fn add_file(files: &mut SourceFiles, digest: &Digest, bytes: Slice) -> Result<(), ContentError> {
    let added = files.add_file(blob_path(digest), FileContent::Available(bytes));
    added.map_err(|error| ContentError::Malformed(error.to_string()))
}
