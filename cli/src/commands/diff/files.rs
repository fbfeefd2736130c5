//! Gets the lists of the files of both images from their registries, and compares them.
//!
//! Only imgsync-server has such lists: the indexes of its layers. Start reading at [`compare_files`].

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::client::{LayerIndexAnswer, backoff};
use imgsync_oci::delta::LayerIndex;
use imgsync_oci::{Descriptor, Digest};

use super::Side;
use super::file_tree::{FileTree, TreeError};
use crate::commands::contents::RemoteImage;
use crate::exit::Failure;

/// How long the registries may compute the indexes of the layers of all platforms together.
pub(super) const MAX_INDEX_WAIT: Duration = Duration::from_secs(60);
/// The number of indexes that are fetched at the same time. Each is held in memory.
const MAX_CONCURRENT_INDEXES: usize = 2;
/// The most layers of an image whose files are compared. Docker allows images of 127 layers.
const MAX_LAYERS: usize = 500;

/// The files of two images.
pub(super) enum FileComparison {
    /// The files were compared.
    Compared(ComparedFiles),
    /// They were not, for this reason.
    NotCompared(String),
}

/// The files of both images.
#[derive(Default)]
pub(super) struct ComparedFiles {
    pub(super) old: FileTree,
    pub(super) new: FileTree,
    /// The layers of both images that have no list of files.
    pub(super) unlisted: Vec<Digest>,
}

/// The answer to the question for the files of a layer.
enum ListedFiles {
    Index(Box<LayerIndex>),
    Missing(String),
}

/// Compares the files of two images, of which the lowest `shared_base` layers are the same. Until the
/// deadline, waits for registries that compute the indexes.
///
/// # Errors
/// Fails if a registry cannot be asked.
pub(super) async fn compare_files(
    old: (&Side, &RemoteImage),
    new: (&Side, &RemoteImage),
    shared_base: usize,
    deadline: Instant,
) -> Result<FileComparison, Failure> {
    let not_compared = |why: String| Ok(FileComparison::NotCompared(why));
    // The layers above decide whether files are compared at all, so one of them is asked for first.
    let probed = new.1.layers.get(shared_base).map(|layer| (new.0, layer));
    let probed = probed.or_else(|| old.1.layers.get(shared_base).map(|layer| (old.0, layer)));
    let Some((side, layer)) = probed else {
        // All layers are the same, and so are the files in them.
        return Ok(FileComparison::Compared(ComparedFiles::default()));
    };
    let layers = old.1.layers.len().max(new.1.layers.len());
    if layers > MAX_LAYERS {
        return not_compared(format!("an image has {layers} layers"));
    }
    if let ListedFiles::Missing(why) = fetch_index(side, layer, deadline).await? {
        return not_compared(why);
    }
    let mut base = FileTree::default();
    let mut unlisted = Vec::new();
    if let Some(error) = add_layers(
        &mut base,
        new.0,
        &new.1.layers[..shared_base],
        deadline,
        Some(&mut unlisted),
    )
    .await?
    {
        return not_compared(error);
    }
    let mut trees = [base.clone(), base];
    for (tree, (side, image)) in trees.iter_mut().zip([old, new]) {
        let layers = &image.layers[shared_base..];
        if let Some(why) = add_layers(tree, side, layers, deadline, None).await? {
            return not_compared(why);
        }
    }
    let [old, new] = trees;
    Ok(FileComparison::Compared(ComparedFiles {
        old,
        new,
        unlisted,
    }))
}

/// Puts layers on top of a tree. Layers without a list of files are added to `unlisted`. Without such a
/// list, and on invalid answers, returns the reason why the files are not known.
async fn add_layers(
    tree: &mut FileTree,
    side: &Side,
    layers: &[Descriptor],
    deadline: Instant,
    mut unlisted: Option<&mut Vec<Digest>>,
) -> Result<Option<String>, Failure> {
    let requests = layers.iter().map(|layer| async move {
        let listed = fetch_index(side, layer, deadline).await?;
        Ok::<_, Failure>((layer, listed))
    });
    let requests: Vec<_> = requests.collect();
    let mut answers = futures::stream::iter(requests).buffered(MAX_CONCURRENT_INDEXES);
    while let Some((layer, listed)) = answers.try_next().await? {
        let index = match (listed, &mut unlisted) {
            (ListedFiles::Index(index), _) => index,
            (ListedFiles::Missing(_), Some(unlisted)) => {
                unlisted.push(layer.digest.clone());
                continue;
            }
            (ListedFiles::Missing(why), None) => return Ok(Some(why)),
        };
        match tree.add_layer(&index) {
            Ok(()) => {}
            Err(TreeError::TooManyFiles) => {
                return Ok(Some("an image has too many files".to_owned()));
            }
            Err(TreeError::Invalid(why)) => {
                let (registry, digest) = (&side.name.registry, layer.digest.short());
                return Ok(Some(format!(
                    "{registry} sent an invalid list of the files of layer {digest}: {why}"
                )));
            }
        }
    }
    Ok(None)
}

/// Fetches the index of a layer, and waits while the registry computes it.
async fn fetch_index(
    side: &Side,
    layer: &Descriptor,
    deadline: Instant,
) -> Result<ListedFiles, Failure> {
    let (registry, digest) = (&side.name.registry, layer.digest.short());
    let bytes = loop {
        let request = side
            .client
            .fetch_layer_index(side.repository(), &layer.digest);
        match request.await? {
            LayerIndexAnswer::Ready(bytes) => break bytes,
            LayerIndexAnswer::Computing(_) if Instant::now() > deadline => {
                let why = format!(
                    "{registry} is still listing the files of layer {digest}; try again later"
                );
                return Ok(ListedFiles::Missing(why));
            }
            LayerIndexAnswer::Computing(retry_after) => {
                let pause = backoff(3, retry_after).min(MAX_INDEX_WAIT);
                tokio::time::sleep(pause).await;
            }
            LayerIndexAnswer::Unavailable => {
                let why = format!(
                    "{registry} does not list the files of layer {digest}; imgsync-server does, for \
                     layers of up to 4 GiB and about 70,000 files"
                );
                return Ok(ListedFiles::Missing(why));
            }
        }
    };
    let parsed = tokio::task::spawn_blocking(move || LayerIndex::parse(&bytes)).await;
    Ok(match parsed {
        Ok(Ok(index)) => ListedFiles::Index(Box::new(index)),
        Ok(Err(error)) => ListedFiles::Missing(format!(
            "{registry} sent an invalid list of the files of layer {digest}: {error}"
        )),
        // A thread that panicked read nothing.
        Err(_) => ListedFiles::Missing(format!("the files of layer {digest} cannot be read")),
    })
}
