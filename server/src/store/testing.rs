//! Simulates power cuts for tests: records every change to a disk, then rebuilds the states in
//! which a filesystem may be after a power cut.
//!
//! The rules: content is safe once its file was synced, and a name once its folder was synced.
//! Later changes can be lost. The names of one folder change in the order of the calls, those of
//! different folders in any order. A rename is atomic. Of unsynced content there is nothing, all,
//! some of the writes, or zeros of the right length. Start reading at [`Recording`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::disk::{Disk, DiskChange};
use super::{Store, error};

/// The changes to a disk, in order.
#[derive(Clone, Default)]
pub(crate) struct Recording(Arc<Mutex<Vec<RecordedChange>>>);

/// A change, with paths below the store's root.
#[derive(Debug, Clone)]
enum RecordedChange {
    MakeFolder(PathBuf),
    Create(PathBuf),
    Write(PathBuf, usize, Vec<u8>),
    Sync(PathBuf),
    Truncate(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    SyncFolder(PathBuf),
    SyncFilesystem,
    /// A second name for a file with durable content.
    Link(PathBuf, Vec<u8>),
    Copy(PathBuf, Vec<u8>),
    Remove(PathBuf),
}

impl Store {
    /// Opens a store that records each change to the disk.
    pub(crate) fn open_recorded(root: &Path) -> error::Result<(Self, Recording)> {
        let recording = Recording::default();
        let (changes, hook_root) = (Arc::clone(&recording.0), root.to_owned());
        let hook = move |change: &DiskChange<'_>| {
            let mut changes = changes.lock().unwrap();
            changes.extend(RecordedChange::of(change, &hook_root));
            Ok::<_, io::Error>(())
        };
        let store = Self::open_on(Disk::with_hook(Arc::new(hook)), root)?;
        Ok((store, recording))
    }
}

impl Recording {
    /// Returns the number of changes.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Returns states that the disk can have after a power cut that follows `count` changes.
    pub(crate) fn states_after_power_cut(&self, count: usize) -> Vec<DiskSnapshot> {
        let mut model = DiskModel::new();
        for change in &self.0.lock().unwrap()[..count] {
            model.apply(change);
        }
        let mut random = TestRng(count as u64 + 1);
        let fixed = [(0, 0), (3, 1), (3, 2), (3, 3)]
            .map(|(names, content)| model.remains(&mut |_| names, &mut || content));
        let drawn = (0..12).map(|_| {
            let (mut names, mut content) = (TestRng(random.next()), TestRng(random.next()));
            model.remains(&mut |_| names.next() % 4, &mut || content.next() % 5)
        });
        let mut snapshots: Vec<DiskSnapshot> = fixed.into_iter().chain(drawn).collect();
        snapshots.sort();
        snapshots.dedup();
        snapshots
    }
}

/// The content of a disk: files with their bytes, and folders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DiskSnapshot(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl DiskSnapshot {
    /// Writes the snapshot into an empty folder.
    pub(crate) fn write_to(&self, root: &Path) {
        for (path, content) in &self.0 {
            match content {
                Some(content) => std::fs::write(root.join(path), content).unwrap(),
                None => std::fs::create_dir(root.join(path)).unwrap(),
            }
        }
    }
}

impl RecordedChange {
    fn of(change: &DiskChange<'_>, root: &Path) -> Option<Self> {
        // Changes above the root are not recorded: these folders exist already. A file that is linked
        // or copied is outside.
        let content = |path: &Path| std::fs::read(path).unwrap();
        let relative = |path: &Path| path.strip_prefix(root).ok().map(Path::to_owned);
        Some(match change {
            DiskChange::MakeFolder(path) => Self::MakeFolder(relative(path)?),
            DiskChange::Create(path) => Self::Create(relative(path)?),
            DiskChange::Write {
                path,
                offset,
                bytes,
            } => Self::Write(relative(path)?, *offset as usize, bytes.to_vec()),
            DiskChange::Sync(path) => Self::Sync(relative(path)?),
            DiskChange::Truncate { path, len } => Self::Truncate(relative(path)?, *len as usize),
            DiskChange::Rename { from, to } => Self::Rename(relative(from)?, relative(to)?),
            DiskChange::SyncFolder(path) => Self::SyncFolder(relative(path)?),
            DiskChange::SyncFilesystem(_) => Self::SyncFilesystem,
            DiskChange::Link { from, to } => Self::Link(relative(to)?, content(from)),
            DiskChange::Copy { from, to } => Self::Copy(relative(to)?, content(from)),
            DiskChange::Unlink(path) | DiskChange::RemoveFolder(path) => {
                Self::Remove(relative(path)?)
            }
        })
    }
}

/// A disk: its files and folders, of which the root is number 0, and the number of renames so far.
struct DiskModel(Vec<DiskNode>, usize);

enum DiskNode {
    File {
        safe: Vec<u8>,
        now: Vec<u8>,
        /// The content after each unsynced change.
        between: Vec<Vec<u8>>,
    },
    Folder {
        safe: BTreeMap<OsString, usize>,
        now: BTreeMap<OsString, usize>,
        pending: Vec<PendingName>,
    },
}

/// A change of a name that was not synced yet.
#[derive(Clone)]
struct PendingName {
    name: OsString,
    node: Option<usize>,
    rename: Option<RenameSide>,
}

/// One of the two sides of a rename.
#[derive(Clone, Copy)]
struct RenameSide {
    id: usize,
    /// The folder on the other side.
    with: usize,
}

impl DiskModel {
    fn new() -> Self {
        Self(vec![Self::folder()], 0)
    }

    fn folder() -> DiskNode {
        DiskNode::Folder {
            safe: BTreeMap::new(),
            now: BTreeMap::new(),
            pending: Vec::new(),
        }
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.iter().try_fold(0, |at, name| match &self.0[at] {
            DiskNode::Folder { now, .. } => now.get(name).copied(),
            DiskNode::File { .. } => None,
        })
    }

    fn apply(&mut self, change: &RecordedChange) {
        match change {
            RecordedChange::MakeFolder(path) => self.add(path, Self::folder()),
            RecordedChange::Create(path) => {
                let (safe, now, between) = Default::default();
                self.add(path, DiskNode::File { safe, now, between });
            }
            RecordedChange::Write(path, offset, bytes) => self.change(path, |now| {
                let end = offset + bytes.len();
                now.resize(now.len().max(end), 0);
                now[*offset..end].copy_from_slice(bytes);
            }),
            RecordedChange::Truncate(path, len) => self.change(path, |now| now.resize(*len, 0)),
            RecordedChange::Sync(path) => {
                let at = self.find(path).unwrap();
                let DiskNode::File { safe, now, between } = &mut self.0[at] else {
                    panic!("{path:?} is a folder");
                };
                safe.clone_from(now);
                between.clear();
            }
            RecordedChange::Remove(path) => {
                let is_full = |node: &DiskNode| matches!(node, DiskNode::Folder { now, .. } if !now.is_empty());
                if self.find(path).is_some_and(|at| !is_full(&self.0[at])) {
                    self.name(path, None, None);
                }
            }
            RecordedChange::Rename(from, to) => {
                let node = self.find(from).unwrap();
                let (source, target) = (self.parent(from), self.parent(to));
                let id = self.1;
                self.1 += 1;
                self.name(to, Some(node), Some(RenameSide { id, with: source }));
                self.name(from, None, Some(RenameSide { id, with: target }));
            }
            RecordedChange::Link(path, content) => {
                let (safe, now) = (content.clone(), content.clone());
                let between = Vec::new();
                self.add(path, DiskNode::File { safe, now, between });
            }
            RecordedChange::Copy(path, content) => {
                let (safe, between) = (Vec::new(), vec![content[..content.len() / 2].to_vec()]);
                let now = content.clone();
                self.add(path, DiskNode::File { safe, now, between });
            }
            RecordedChange::SyncFilesystem => self.settle_all(),
            RecordedChange::SyncFolder(path) => {
                let at = self.find(path).unwrap();
                self.settle(at, self.pending(at).len());
            }
        }
    }

    fn parent(&self, path: &Path) -> usize {
        self.find(path.parent().unwrap()).unwrap()
    }

    fn add(&mut self, path: &Path, node: DiskNode) {
        if self.find(path).is_none() {
            self.0.push(node);
            self.name(path, Some(self.0.len() - 1), None);
        }
    }

    fn name(&mut self, path: &Path, node: Option<usize>, rename: Option<RenameSide>) {
        let (parent, name) = (self.parent(path), path.file_name().unwrap().to_owned());
        let DiskNode::Folder { now, pending, .. } = &mut self.0[parent] else {
            panic!("{path:?} lies in a file");
        };
        set(now, &name, node);
        pending.push(PendingName { name, node, rename });
    }

    fn change(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let at = self.find(path).unwrap();
        let DiskNode::File { now, between, .. } = &mut self.0[at] else {
            panic!("{path:?} is a folder");
        };
        change(now);
        between.push(now.clone());
    }

    /// Makes the first `count` pending names of a folder safe, and the other side of each rename
    /// among them.
    fn settle(&mut self, at: usize, count: usize) {
        let DiskNode::Folder { safe, pending, .. } = &mut self.0[at] else {
            panic!("a file was synced as a folder");
        };
        let settled: Vec<PendingName> = pending.drain(..count).collect();
        for name in &settled {
            set(safe, &name.name, name.node);
        }
        for rename in settled.iter().filter_map(|name| name.rename) {
            if let Some(index) = self.side(rename) {
                self.settle(rename.with, index + 1);
            }
        }
    }

    /// Makes all changes safe.
    fn settle_all(&mut self) {
        for at in 0..self.0.len() {
            match &mut self.0[at] {
                DiskNode::File { safe, now, between } => {
                    safe.clone_from(now);
                    between.clear();
                }
                DiskNode::Folder { pending, .. } => {
                    let count = pending.len();
                    self.settle(at, count);
                }
            }
        }
    }

    fn pending(&self, at: usize) -> &[PendingName] {
        match &self.0[at] {
            DiskNode::Folder { pending, .. } => pending,
            DiskNode::File { .. } => &[],
        }
    }

    /// Returns the position of the other side of a rename among its folder's pending names.
    fn side(&self, rename: RenameSide) -> Option<usize> {
        let mut pending = self.pending(rename.with).iter();
        pending.position(|name| name.rename.is_some_and(|other| other.id == rename.id))
    }

    /// Returns for each folder how many of its pending names survive.
    fn kept(&self, names: &mut dyn FnMut(usize) -> u64) -> Vec<usize> {
        let mut kept: Vec<usize> = (0..self.0.len())
            .map(|at| match (names(at), self.pending(at).len()) {
                (0, _) => 0,
                (1, count) => count / 2,
                (2, count) => count.saturating_sub(1),
                (_, count) => count,
            })
            .collect();
        loop {
            let before = kept.clone();
            for at in 0..kept.len() {
                let renames = self.pending(at)[..kept[at]].iter();
                for rename in renames.filter_map(|name| name.rename) {
                    if let Some(index) = self.side(rename) {
                        kept[rename.with] = kept[rename.with].max(index + 1);
                    }
                }
            }
            if kept == before {
                return kept;
            }
        }
    }

    fn remains(
        &self,
        names: &mut dyn FnMut(usize) -> u64,
        content: &mut dyn FnMut() -> u64,
    ) -> DiskSnapshot {
        let kept = self.kept(names);
        let mut remains = BTreeMap::new();
        let mut pending_nodes = vec![(0, PathBuf::new())];
        while let Some((at, path)) = pending_nodes.pop() {
            match &self.0[at] {
                DiskNode::File { safe, now, between } => {
                    let bytes = match content() {
                        0 | 2 => safe.clone(),
                        1 => {
                            let mut zeros = safe.clone();
                            zeros.resize(now.len().max(safe.len()), 0);
                            zeros
                        }
                        3 => now.clone(),
                        _ => between.first().unwrap_or(safe).clone(),
                    };
                    remains.insert(path, Some(bytes));
                }
                DiskNode::Folder { safe, pending, .. } => {
                    let mut entries = safe.clone();
                    for PendingName { name, node, .. } in &pending[..kept[at]] {
                        set(&mut entries, name, *node);
                    }
                    pending_nodes
                        .extend(entries.iter().map(|(name, node)| (*node, path.join(name))));
                    if at != 0 {
                        remains.insert(path, None);
                    }
                }
            }
        }
        DiskSnapshot(remains)
    }
}

fn set(names: &mut BTreeMap<OsString, usize>, name: &OsString, node: Option<usize>) {
    match node {
        Some(node) => names.insert(name.clone(), node),
        None => names.remove(name),
    };
}

/// Generates pseudorandom numbers, the same in every run.
pub(crate) struct TestRng(pub(crate) u64);

impl TestRng {
    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.next();
        (self.0 >> 20) as usize % bound
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 3
    }
}
