//! The state of a walk: order, bounds and duplicates, without any I/O.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{GraphLimitError, GraphLimits};
use crate::manifest::Children;
use crate::{Descriptor, Digest, Manifest};

/// A manifest to be fetched next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingManifest {
    descriptor: Descriptor,
    depth: usize,
}

impl PendingManifest {
    /// Returns the descriptor by which the root or the parent names the manifest.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns the depth below the root, which is at depth 0.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// A manifest that was fetched, with a value of the caller's that is kept with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit<T> {
    /// The manifests and blobs that the manifest names. The walk follows only the manifests that
    /// are listed here, so a caller can leave some out.
    pub children: Children,
    /// The size of the manifest in bytes.
    pub bytes: u64,
    /// The value that [`GraphWalk::finish`] returns with the manifest, for example its bytes.
    pub value: T,
}

impl<T> Visit<T> {
    /// Returns the visit of a manifest of `bytes` bytes, all of whose children are followed.
    pub fn new(manifest: &Manifest, bytes: usize, value: T) -> Self {
        Self {
            children: manifest.children(),
            bytes: bytes as u64,
            value,
        }
    }
}

/// A manifest of a finished walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode<T> {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The blobs that the manifest names and no earlier node does, in order.
    pub blobs: Vec<Descriptor>,
    /// The value of the [`Visit`].
    pub value: T,
}

/// A walk over the manifests below one or several roots, each visited once.
///
/// Take manifests with [`GraphWalk::next`] and give each fetched one to [`GraphWalk::add`]. A
/// manifest that is not added, because it is missing or not wanted, is left out together with
/// whatever only that manifest names. Several manifests may be fetched at a time, and they may be
/// added in any order.
#[derive(Debug)]
pub struct GraphWalk<T> {
    limits: GraphLimits,
    roots: Vec<Digest>,
    /// The manifests to be fetched, the next one last.
    pending: VecDeque<PendingManifest>,
    seen: HashSet<Digest>,
    visits: HashMap<Digest, Visit<T>>,
    bytes: u64,
    descriptors: usize,
}

impl<T> GraphWalk<T> {
    /// Returns a walk without roots.
    pub fn new(limits: GraphLimits) -> Self {
        Self {
            limits,
            roots: Vec::new(),
            pending: VecDeque::new(),
            seen: HashSet::new(),
            visits: HashMap::new(),
            bytes: 0,
            descriptors: 0,
        }
    }

    /// Adds a root. With several roots, the first one is fetched first, and the nodes below it come
    /// first when the walk is finished.
    pub fn add_root(&mut self, root: Descriptor) {
        if self.seen.insert(root.digest.clone()) {
            self.roots.push(root.digest.clone());
            let descriptor = root;
            let depth = 0;
            self.pending
                .push_front(PendingManifest { descriptor, depth });
        }
    }

    /// Takes the next manifest to fetch: depth first, parents before children, siblings in the
    /// order of their parent. `None` while everything that is known was taken; adding a manifest
    /// may bring more.
    #[allow(
        clippy::should_implement_trait,
        reason = "no iterator: adding a manifest after the end goes on"
    )]
    pub fn next(&mut self) -> Option<PendingManifest> {
        self.pending.pop_back()
    }

    /// Adds a manifest that was fetched, and queues those of its children that are new.
    ///
    /// # Errors
    /// Returns the bound that is exceeded. Callers that prefer a part of the graph to no graph
    /// may continue: a manifest whose children are too deep is kept without them, and one that
    /// exceeds another bound is left out.
    pub fn add(
        &mut self,
        pending: &PendingManifest,
        visit: Visit<T>,
    ) -> Result<(), GraphLimitError> {
        let digest = &pending.descriptor.digest;
        self.check_limits(&visit)?;
        let mut children = visit.children.manifests.clone();
        self.visits.insert(digest.clone(), visit);
        children.retain(|child| self.seen.insert(child.digest.clone()));
        if pending.depth >= self.limits.max_depth && !children.is_empty() {
            return Err(GraphLimitError::TooDeep {
                digest: digest.clone(),
                limit: self.limits.max_depth,
            });
        }
        let depth = pending.depth + 1;
        let children = children.into_iter().rev();
        let children = children.map(|descriptor| PendingManifest { descriptor, depth });
        self.pending.extend(children);
        Ok(())
    }

    fn check_limits(&mut self, visit: &Visit<T>) -> Result<(), GraphLimitError> {
        let limits = self.limits;
        let bytes = self.bytes.saturating_add(visit.bytes);
        let named = visit.children.blobs.len() + visit.children.manifests.len();
        let descriptors = self.descriptors + named;
        if self.visits.len() >= limits.max_manifests {
            let limit = limits.max_manifests;
            return Err(GraphLimitError::TooManyManifests { limit });
        }
        if bytes > limits.max_bytes {
            let limit = limits.max_bytes;
            return Err(GraphLimitError::TooManyBytes { limit });
        }
        if descriptors > limits.max_descriptors {
            let limit = limits.max_descriptors;
            return Err(GraphLimitError::TooManyDescriptors { limit });
        }
        (self.bytes, self.descriptors) = (bytes, descriptors);
        Ok(())
    }

    /// Returns the manifests that were added, children before parents: the order in which a
    /// registry accepts them. The order does not depend on the order of adding.
    pub fn finish(mut self) -> Vec<GraphNode<T>> {
        let mut seen_blobs = HashSet::new();
        let (mut nodes, mut path) = (Vec::new(), Vec::new());
        for root in std::mem::take(&mut self.roots) {
            path.extend(self.enter(root));
            while let Some(entered) = path.last_mut() {
                if let Some(child) = entered.unvisited.pop() {
                    path.extend(self.enter(child));
                } else if let Some(entered) = path.pop() {
                    nodes.push(entered.into_node(&mut seen_blobs));
                }
            }
        }
        nodes
    }

    /// Takes a manifest out of those that were added; `None` where it was taken before or was
    /// never added.
    fn enter(&mut self, digest: Digest) -> Option<EnteredManifest<T>> {
        let visit = self.visits.remove(&digest)?;
        let children = visit.children.manifests.iter().rev();
        Some(EnteredManifest {
            unvisited: children.map(|child| child.digest.clone()).collect(),
            digest,
            visit,
        })
    }
}

/// A manifest on the path from a root to the current one.
struct EnteredManifest<T> {
    digest: Digest,
    visit: Visit<T>,
    /// The children that were not entered yet, the next one last.
    unvisited: Vec<Digest>,
}

impl<T> EnteredManifest<T> {
    fn into_node(self, seen_blobs: &mut HashSet<Digest>) -> GraphNode<T> {
        let mut blobs = self.visit.children.blobs;
        blobs.retain(|blob| seen_blobs.insert(blob.digest.clone()));
        GraphNode {
            digest: self.digest,
            blobs,
            value: self.visit.value,
        }
    }
}
