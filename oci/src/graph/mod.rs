//! Walks the graph below a manifest: an index, the manifests that it lists, and their blobs.
//!
//! [`GraphWalk`] is the pure part: which manifest comes next, which were seen, and how much is too
//! much. It does no I/O. [`walk()`] and [`walk_concurrently`] drive it with a function that
//! fetches manifests; a caller whose manifests arrive in an order of their own drives it directly.
//!
//! ```
//! # use imgsync_oci::graph::{self, GraphLimits, GraphWalk, Visit};
//! # use imgsync_oci::{Descriptor, Digest, Manifest};
//! # let bytes = format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"","digest":"{}","size":0}}}}"#, Digest::of(b""));
//! # let read = |_: &Digest| bytes.clone();
//! # let root = Descriptor::new("", Digest::of(bytes.as_bytes()), bytes.len() as u64);
//! let mut image = GraphWalk::new(GraphLimits::default());
//! image.add_root(root);
//! graph::walk(&mut image, |pending| {
//!     let bytes = read(&pending.descriptor().digest);
//!     let (_, manifest) = Manifest::parse(bytes.as_bytes(), None)?;
//!     Ok::<_, imgsync_oci::ParseError>(Some(Visit::new(&manifest, bytes.len(), bytes)))
//! })?;
//! for node in image.finish() {
//!     println!("{} with {} blobs", node.digest, node.blobs.len());
//! }
//! # Ok::<_, graph::WalkError<imgsync_oci::ParseError>>(())
//! ```

mod drive;
mod limits;
#[cfg(test)]
mod tests;
mod walk;

pub use drive::{WalkError, walk, walk_concurrently};
pub use limits::{GraphLimitError, GraphLimits};
pub use walk::{GraphNode, GraphWalk, PendingManifest, Visit};
