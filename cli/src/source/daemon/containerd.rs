//! The export of an image in containerd's store: an OCI layout, whose blobs go as they are.

use imgsync_oci::Digest;

use super::super::contents::Contents;
use super::super::goal::Goal;
use super::super::{
    Blobs, Content, Error, Platforms, Selector, Unneeded, blocking, listing, oci, sift,
};
use super::{Found, from};
use crate::spool::Spool;

/// What an export comes to: the image, its bytes, and what the user should hear.
type Exported = (Content, Blobs, Vec<String>);

/// An image in containerd's store.
pub(super) struct Stored<'a> {
    /// What the daemon says of it.
    pub(super) found: &'a Found,
    /// Its manifest or index.
    pub(super) root: &'a Digest,
    /// The media type of that, where the daemon says it.
    pub(super) media_type: Option<&'a str>,
}

/// What the spool knows an export by.
pub(super) fn about(root: &Digest, platforms: &Platforms) -> Digest {
    Digest::of(format!("{root} {platforms}").as_bytes())
}

impl Stored<'_> {
    /// Exports the image, unless an earlier run has kept all that is needed.
    ///
    /// # Errors
    /// The daemon's own, and all those of a damaged archive.
    pub(super) async fn export(
        &self,
        spool: &Spool,
        unneeded: Unneeded,
        begin: impl FnOnce(),
    ) -> Result<Exported, Error> {
        let reading = Reading {
            from: from(&self.found.engine),
            root: self.root.clone(),
            media_type: self.media_type.map(str::to_owned),
            platforms: self.found.platforms.clone(),
            spool: spool.clone(),
            about: about(self.root, &self.found.platforms),
            unneeded,
        };
        let (earlier, mut reading) = blocking(move || {
            let mut reading = reading;
            Ok((reading.earlier(), reading))
        })
        .await?;
        if let Some(earlier) = earlier {
            return Ok(earlier);
        }
        begin();
        let wanted = self.found.platforms.wanted();
        let can_choose = self.found.api.is_some_and(|api| api.exports(wanted.len()));
        let wanted = if can_choose { wanted } else { &[] };
        let name = self.root.to_string();
        let export = self.found.engine.export(&name, wanted).await?;
        blocking(move || {
            let goal = Some(Goal::new(&reading.root, reading.media_type.as_deref()));
            let Reading {
                from,
                spool,
                unneeded,
                ..
            } = &mut reading;
            let contents = sift::sift(export, from, spool, unneeded, goal)?;
            listing::keep(&reading.spool, &reading.about, &contents);
            reading.content(&contents)
        })
        .await
    }
}

/// An export, on a thread that may block.
struct Reading {
    from: String,
    root: Digest,
    media_type: Option<String>,
    platforms: Platforms,
    spool: Spool,
    about: Digest,
    unneeded: Unneeded,
}

impl Reading {
    /// The image as an earlier run has kept it; `None` where something is missing.
    fn earlier(&mut self) -> Option<Exported> {
        let contents = listing::again(&self.spool, &self.about, &self.from, &mut self.unneeded)?;
        let exported = self.content(&contents).ok()?;
        // A layer may be kept packed. In an index it goes as it is.
        let is_whole = match &exported.0 {
            Content::Single(_) => true,
            Content::Graph(graph) => graph.blobs.iter().all(|blob| {
                exported.1.get(&blob.digest).is_some()
                    || (self.unneeded)(&blob.digest, Some(blob.size))
            }),
        };
        is_whole.then_some(exported)
    }

    fn content(&self, contents: &Contents) -> Result<Exported, Error> {
        let Self {
            root, platforms, ..
        } = self;
        if platforms.is_empty() || contents.blob(root).is_ok() {
            return oci::content(contents, root, self.media_type.as_deref(), platforms);
        }
        // An export of one platform can do without the index.
        let (image, blobs) = oci::image(contents, &Selector::Only, platforms)?;
        Ok((image.content, blobs, image.remarks))
    }
}
