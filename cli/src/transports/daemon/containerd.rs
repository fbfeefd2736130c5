//! The export of an image in containerd's store: an OCI layout, whose blobs go as they are.

use imgsync_oci::Digest;

use super::super::SkipLayer;
use super::super::files::SourceFiles;
use super::{DaemonImage, export_listing, export_name};
use crate::image::{Error, ImageBlobs, ImageContent, ImageSelector, Platforms};
use crate::spool::Spool;
use crate::transports::archive::expected_blobs::ExpectedBlobs;
use crate::transports::archive::staging;
use crate::transports::blocking::run_blocking;
use crate::transports::layout::image_reader;

/// The result of an export: the content, its bytes, and notes for the user.
type ExportedContent = (ImageContent, ImageBlobs, Vec<String>);

/// An image in containerd's image store.
pub(super) struct ContainerdImage<'a> {
    /// The image as the daemon describes it.
    pub(super) image: &'a DaemonImage,
    /// The manifest or index.
    pub(super) root: &'a Digest,
    /// Its media type, if the daemon reports it.
    pub(super) media_type: Option<&'a str>,
}

/// Returns the key of an export in the spool.
pub(super) fn export_key(root: &Digest, platforms: &Platforms) -> Digest {
    Digest::of(format!("{root} {platforms}").as_bytes())
}

impl ContainerdImage<'_> {
    /// Exports the image, unless an earlier run left everything in the spool.
    ///
    /// # Errors
    /// Returns the daemon's errors, and those of a damaged archive.
    pub(super) async fn export(
        &self,
        spool: &Spool,
        unneeded: SkipLayer,
        begin: impl FnOnce(),
    ) -> Result<ExportedContent, Error> {
        let reading = ExportReader {
            source_name: export_name(&self.image.engine),
            root: self.root.clone(),
            media_type: self.media_type.map(str::to_owned),
            platforms: self.image.platforms.clone(),
            spool: spool.clone(),
            export_key: export_key(self.root, &self.image.platforms),
            unneeded,
        };
        let (earlier, mut reading) = run_blocking(move || {
            let mut reading = reading;
            (reading.load_spooled(), reading)
        })
        .await;
        if let Some(earlier) = earlier {
            return Ok(earlier);
        }
        begin();
        let wanted = self.image.platforms.requested();
        let can_choose = self
            .image
            .api_version
            .is_some_and(|api| api.can_export_platforms(wanted.len()));
        let wanted = if can_choose { wanted } else { &[] };
        let name = self.root.to_string();
        let export = self.image.engine.export(&name, wanted).await?;
        run_blocking(move || {
            let goal = Some(ExpectedBlobs::new(
                &reading.root,
                reading.media_type.as_deref(),
            ));
            let ExportReader {
                source_name: from,
                spool,
                unneeded,
                ..
            } = &mut reading;
            let contents = staging::stage_stream(export, from, spool, unneeded, goal)?;
            export_listing::save(&reading.spool, &reading.export_key, &contents);
            reading.content(&contents)
        })
        .await
    }
}

/// The state of an export that moves to a thread that may block.
struct ExportReader {
    source_name: String,
    root: Digest,
    media_type: Option<String>,
    platforms: Platforms,
    spool: Spool,
    export_key: Digest,
    unneeded: SkipLayer,
}

impl ExportReader {
    /// Returns the image from the spool; `None` if something is missing.
    fn load_spooled(&mut self) -> Option<ExportedContent> {
        let contents = export_listing::restore(
            &self.spool,
            &self.export_key,
            &self.source_name,
            &mut self.unneeded,
        )?;
        let exported = self.content(&contents).ok()?;
        // The spool may have only the compressed form of a layer, which an index cannot use.
        let is_whole = match &exported.0 {
            ImageContent::Single(_) => true,
            ImageContent::Graph(graph) => graph.blobs.iter().all(|blob| {
                exported.1.get(&blob.digest).is_some()
                    || (self.unneeded)(&blob.digest, Some(blob.size))
            }),
        };
        is_whole.then_some(exported)
    }

    fn content(&self, contents: &SourceFiles) -> Result<ExportedContent, Error> {
        let Self {
            root, platforms, ..
        } = self;
        if platforms.is_empty() || contents.blob(root).is_ok() {
            return image_reader::read_content(
                contents,
                root,
                self.media_type.as_deref(),
                platforms,
            );
        }
        // An export of one platform may lack the index.
        let (image, blobs) = image_reader::read_image(contents, &ImageSelector::Only, platforms)?;
        Ok((image.content, blobs, image.notes))
    }
}
