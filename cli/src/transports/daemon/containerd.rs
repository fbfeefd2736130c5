//! The export of an image in containerd's store: an OCI layout, whose blobs are pushed unchanged.

use std::io::Read;

use imgsync_oci::Digest;

use super::client::ApiVersion;
use super::{DaemonImage, ReadMethod, export_listing, export_name};
use crate::image::{Error, ImageContent, ImageSelector, ManifestOrigin, Platforms};
use crate::report::{ProgressTask, TaskReader};
use crate::spool::Spool;
use crate::transports::SkipLayer;
use crate::transports::archive::expected_blobs::ExpectedBlobs;
use crate::transports::archive::staging;
use crate::transports::blocking::run_blocking;
use crate::transports::files::SourceFiles;
use crate::transports::layout::image_reader::{self, ReadContent};

/// Returns the key of an export in the spool.
pub(super) fn export_key(root: &Digest, platforms: &Platforms) -> Digest {
    Digest::of(format!("{root} {platforms}").as_bytes())
}

impl DaemonImage {
    /// Exports the image below the manifest or index `root`, unless an earlier run left everything
    /// in the spool.
    ///
    /// # Errors
    /// Returns the daemon's errors, and those of a damaged archive.
    pub(super) async fn export_containerd(
        &self,
        (root, media_type): (&Digest, Option<&str>),
        spool: &Spool,
        unneeded: SkipLayer,
        mut begin: impl FnMut(ReadMethod) -> ProgressTask,
    ) -> Result<ReadContent, Error> {
        let mut reader = ExportReader {
            source_name: export_name(&self.engine),
            root: root.clone(),
            selected_root: self.selected_root.clone(),
            media_type: media_type.map(str::to_owned),
            platforms: self.platforms.clone(),
            spool: spool.clone(),
            export_key: export_key(root, &self.platforms),
            unneeded,
        };
        let (spooled, reader) = run_blocking(move || (reader.read_spooled(), reader)).await;
        if let Some(content) = spooled {
            return Ok(content);
        }
        let task = begin(ReadMethod::Export {
            engine: self.engine_kind(),
            reason: None,
        });
        let requested = self.platforms.requested();
        let can_choose = |api: ApiVersion| api.can_export_platforms(requested.len());
        let exported = if self.api_version.is_some_and(can_choose) {
            requested
        } else {
            &[]
        };
        let export = self.engine.export(&root.to_string(), exported).await?;
        let export = TaskReader::new(export, task);
        run_blocking(move || reader.read(export)).await
    }
}

/// The state of an export that moves to a thread that may block.
struct ExportReader {
    source_name: String,
    root: Digest,
    /// The digest of the manifest that is copied, if the daemon told it before the export.
    selected_root: Option<Digest>,
    media_type: Option<String>,
    platforms: Platforms,
    spool: Spool,
    export_key: Digest,
    unneeded: SkipLayer,
}

impl ExportReader {
    /// Returns the image from the spool; `None` if something is missing.
    fn read_spooled(&mut self) -> Option<ReadContent> {
        let (spool, key, name) = (&self.spool, &self.export_key, &self.source_name);
        let contents = export_listing::restore(spool, key, name, &mut self.unneeded)?;
        let exported = self.content(&contents).ok()?;
        if contents.blob(&self.root).is_err() && !self.is_selected(&exported.0) {
            return None;
        }
        // The spool may have only the compressed form of a layer, which an index cannot use.
        let is_complete = match &exported {
            (ImageContent::Single(_), ..) => true,
            (ImageContent::Graph(graph), blobs, _) => graph.blobs.iter().all(|blob| {
                blobs.get(&blob.digest).is_some() || (self.unneeded)(&blob.digest, Some(blob.size))
            }),
        };
        is_complete.then_some(exported)
    }

    /// Reads the image from an export, and puts it into the spool.
    fn read(mut self, export: impl Read) -> Result<ReadContent, Error> {
        let goal = ExpectedBlobs::new(&self.root, self.media_type.as_deref());
        let (name, unneeded) = (&self.source_name, &mut self.unneeded);
        let contents = staging::stage_stream(export, name, &self.spool, unneeded, Some(goal))?;
        export_listing::save(&self.spool, &self.export_key, &contents);
        self.content(&contents)
    }

    /// Returns whether an image is the one that the daemon named, so that it need not come from the
    /// daemon itself.
    fn is_selected(&self, content: &ImageContent) -> bool {
        match content {
            ImageContent::Single(single) => match &single.origin {
                ManifestOrigin::Original(manifest) => {
                    self.selected_root.as_ref() == Some(&manifest.digest)
                }
                ManifestOrigin::Edited(_) | ManifestOrigin::Generated => false,
            },
            ImageContent::Graph(_) => false,
        }
    }

    fn content(&self, contents: &SourceFiles) -> Result<ReadContent, Error> {
        let (root, platforms) = (&self.root, &self.platforms);
        if platforms.is_empty() || contents.blob(root).is_ok() {
            let media_type = self.media_type.as_deref();
            return image_reader::read_content(contents, root, media_type, platforms);
        }
        // An export of one platform may lack the index.
        let (image, blobs) = image_reader::read_image(contents, &ImageSelector::Only, platforms)?;
        Ok((image.content, blobs, image.notes))
    }
}
